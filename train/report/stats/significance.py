"""Paired tests: is the difference between base and tuned more than luck; and Holm's correction for many categories."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import numpy as np

from train.report.stats.values import floats, names

_EXACT_UP_TO = 15
_DRAWS = 9999


def discordant(base: Sequence[float], tuned: Sequence[float]) -> tuple[int, int]:
    """Return how many records got better and how many got worse."""
    pairs = list(zip(floats(base), floats(tuned), strict=True))
    return sum(after > before for before, after in pairs), sum(after < before for before, after in pairs)


def mcnemar(better: int, worse: int) -> float:
    """Return the exact two-sided p value of 0/1 pairs of which ``better`` changed up and ``worse`` changed down.

    Twice the binomial tail at one half, at most 1: McNemar 1947, Psychometrika 12:153, in its exact form.

    Raises:
        TypeError: a count is no whole number.
    """
    # The terms outgrow every integer of a fixed width.
    better, worse = index(better), index(worse)
    num, tail = better + worse, min(better, worse)
    term, total = 1, 1
    for k in range(tail):
        term = term * (num - k) // (k + 1)
        total += term
    return min(1.0, float(2 * total / 2**num))


def sign_flip(sums: Sequence[float], *, seed: Sequence[int]) -> float:
    """Return the two-sided p value of a sum of independent differences whose signs, were there no effect, are coins.

    ``sums`` are the differences summed by cluster. All sign patterns are tried for up to 15 of them that are not zero,
    else 9999 seeded ones, counted with the observed one so that p is never 0: Phipson and Smyth 2010, Statistical
    Applications in Genetics and Molecular Biology 9:39.
    """
    values = np.asarray([value for value in floats(sums) if value != 0.0])
    if not values.size:
        return 1.0
    # Sums that are equal but for rounding are equal.
    observed = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    if values.size <= _EXACT_UP_TO:
        patterns = (np.arange(2**values.size)[:, None] >> np.arange(values.size)) & 1
        return float((np.abs((1 - 2 * patterns) @ values) >= observed).mean())
    rng = np.random.default_rng(seed)
    hits, left = 0, _DRAWS
    step = max(1, 4_000_000 // values.size)
    while left:
        now = min(step, left)
        signs = 1 - 2 * rng.integers(0, 2, size=(now, values.size), dtype=np.int8)
        hits += int((np.abs(signs @ values) >= observed).sum())
        left -= now
    return (hits + 1) / (_DRAWS + 1)


def paired_test(
    base: Sequence[float], tuned: Sequence[float], clusters: Sequence[str], *, seed: Sequence[int]
) -> tuple[str, float]:
    """Return the name of the test that fits these pairs and its p value.

    "mcnemar" for scores of 0 and 1 of records that all stand alone, else "sign-flip" over clusters.
    """
    base, tuned, clusters = floats(base), floats(tuned), names(clusters)
    if set(base) | set(tuned) <= {0.0, 1.0} and len(set(clusters)) == len(clusters):
        return "mcnemar", mcnemar(*discordant(base, tuned))
    sums: dict[str, float] = {}
    for before, after, cluster in zip(base, tuned, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + after - before
    return "sign-flip", sign_flip([sums[name] for name in sorted(sums)], seed=seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number, in the given order.

    Rejecting those below alpha keeps the chance of even one false alarm below alpha, whatever their dependence: Holm
    1979, Scandinavian Journal of Statistics 6:65.
    """
    p_values = floats(p_values)
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = running
    return adjusted
