"""What chance alone can make of differences between pairs of scores: intervals, tests, and Holm's correction.

numpy is loaded where it is needed: only comparing runs needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE = 0.95
_DRAWS = 9999
_EXACT_UP_TO = 15
_CELLS = 4_000_000


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number, in the given order: Holm 1979, Scand. J. Statistics 6:65."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


def mcnemar(better: int, worse: int) -> float:
    """Return the exact two-sided p value of 0/1 pairs: McNemar 1947, Psychometrika 12:153."""
    num, tail = better + worse, min(better, worse)
    return min(1.0, float(2 * sum(math.comb(num, k) for k in range(tail + 1)) / 2**num))


def sign_flip(sums: Sequence[float], seed: Sequence[int]) -> float:
    """Return the two-sided p value of a sum of differences whose signs, were there no effect, are coins.

    All patterns of up to 15 that are not zero, else 9,999 seeded ones with the observed one counted among them:
    Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39.
    """
    # Only Compare needs numpy.
    import numpy as np

    values = np.asarray([value for value in sums if value != 0.0])
    if not values.size:
        return 1.0
    # Sums that are equal but for rounding are equal.
    observed = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    if values.size <= _EXACT_UP_TO:
        patterns = (np.arange(2**values.size)[:, None] >> np.arange(values.size)) & 1
        return float((np.abs((1 - 2 * patterns) @ values) >= observed).mean())
    generator = np.random.default_rng(seed)
    hits, left = 0, _DRAWS
    while left:
        now = min(max(1, _CELLS // values.size), left)
        signs = 1 - 2 * generator.integers(0, 2, size=(now, values.size), dtype=np.int8)
        hits += int((np.abs(signs @ values) >= observed).sum())
        left -= now
    return (hits + 1) / (_DRAWS + 1)


def difference_interval(
    differences: Sequence[float], clusters: Sequence[str], seed: Sequence[int], resamples: int = 2000
) -> tuple[float, float]:
    """Return the 95 % interval of a mean difference of scores in [0, 1], by BCa cluster bootstrap.

    Efron 1987, JASA 82:171. Where all clusters differ by the same, the bootstrap has no width and would claim too much:
    then Wilson's interval for none of the clusters bounds the share that would have differed otherwise, and each of
    those may lie as far off as a score can.
    """
    import numpy as np

    sums = by_cluster(differences, clusters)
    if np.ptp(sums[:, 0] / sums[:, 1]) <= 1e-12:
        # Agreement between people knows the same interval.
        from curate.agreement.rates import wilson

        mean, others = math.fsum(differences) / len(differences), wilson(0, len(sums))[1]
        return mean - others * (1 + mean), mean + others * (1 - mean)
    drawn = resampled(sums, seed, resamples)
    total = sums.sum(axis=0)
    estimate = total[0] / total[1]
    # A draw that meets the estimate counts half; rounding must not decide on which side it is.
    close = np.isclose(drawn, estimate, rtol=1e-12, atol=1e-15)
    below = float(((drawn < estimate) & ~close).mean() + close.mean() / 2)
    tail = (1 - CONFIDENCE) / 2
    if not 0 < below < 1:
        low, high = np.quantile(drawn, (tail, 1 - tail))
        return float(low), float(high)
    rest = total - sums
    jackknife = rest[:, 0] / rest[:, 1]
    pull = jackknife.mean() - jackknife
    spread = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 1e-30 else 0.0
    normal = NormalDist()
    bias = normal.inv_cdf(below)

    def corrected(probability: float) -> float:
        z = bias + normal.inv_cdf(probability)
        return normal.cdf(bias + z / (1 - acceleration * z))

    low, high = np.quantile(drawn, (corrected(tail), corrected(1 - tail)))
    return float(low), float(high)


def resampled(sums: Floats, seed: Sequence[int], resamples: int) -> Floats:
    """Return the mean of each resample of whole clusters: Efron and Tibshirani 1993, chapter 8."""
    import numpy as np

    generator, size, parts = np.random.default_rng(seed), len(sums), []
    for start in range(0, resamples, step := max(1, _CELLS // size)):
        now = min(step, resamples - start)
        drawn = generator.multinomial(size, np.full(size, 1 / size), size=now) @ sums
        parts.append(drawn[:, 0] / drawn[:, 1])
    return np.concatenate(parts)


def by_cluster(values: Sequence[float], clusters: Sequence[str]) -> Floats:
    """Return the sum of the values and the number of records of each cluster, [clusters, 2]."""
    import numpy as np

    names = {name: place for place, name in enumerate(sorted(set(clusters)))}
    places = np.array([names[name] for name in clusters])
    columns = (np.asarray(values, dtype=np.float64), np.ones(len(values)))
    return np.stack([np.bincount(places, weights=column, minlength=len(names)) for column in columns], axis=1)
