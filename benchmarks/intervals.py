"""How often the interval of a difference and what is said of it are right, and what power the smallest effect has.

    PYTHONPATH=. python benchmarks/intervals.py [--replicates 4000] [--only PART]

"Ruled out" is how often a loss of .02 is called ruled out where it is the truth, which 2.5 % allow. BCa is the
bootstrap of the paired differences (Efron 1987) that stood here before. 0/1 records are drawn by how many get
better and worse. Graded scores are functions of a latent normal number, half of it shared: "floor" has a quarter at 0
and 30 % at 1, "ceiling" 80 % at 1, "even" no ties; "loss" is -.02 of few records, "crash" a small gain of many beside
the loss of all in 4 %. Beside each rate is its Monte Carlo error.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from functools import partial
from statistics import NormalDist

import numpy as np

from train.report import stats

Floats = np.ndarray
_CDF = np.vectorize(NormalDist().cdf, otypes=[float])
SCORES: dict[str, Callable[[Floats], Floats]] = {
    "floor": lambda x: np.clip((_CDF(x) - 0.25) / 0.45, 0, 1),
    "ceiling": lambda x: np.minimum(_CDF(x) / 0.2, 1),
    "even": _CDF,
    "0/1": lambda x: (x > 0).astype(float),
}


def latent(rng: np.random.Generator, kind: str, num: int, size: int = 1, shift: float = 0.0) -> Floats:
    """Return changes of ``num`` records, in clusters of ``size`` that share their difficulty and half of all chance."""
    level = np.repeat(rng.normal(size=-(-num // size)), size)[:num]

    def side(moved: float) -> Floats:
        shared = np.repeat(rng.normal(size=-(-num // size)), size)[:num]
        own = rng.normal(size=num) if size > 1 else shared
        return SCORES[kind]((level + (shared + own) / math.sqrt(4 if size == 1 else 2)) / math.sqrt(2) + moved)

    changes: Floats = side(shift) - side(0.0)
    return changes


TRUTHS = {"loss": -0.02, "crash": -0.04 + 0.26 * 0.05}


def few(rng: np.random.Generator, kind: str, num: int) -> Floats:
    """Return changes whose mean is -.02 ("loss") or -.027 ("crash")."""
    u, part = rng.random(num), rng.random(num)
    if kind == "loss":
        return np.where(u < 0.06, -part, np.where(u < 0.08, part, 0.0))
    return np.where(u < 0.04, -1.0, np.where(u < 0.30, 0.1 * part, 0.0))


def names(num: int, size: int = 1) -> list[str]:
    """Return the clusters of ``num`` records."""
    return [f"{n // size:05d}" for n in range(num)]


def interval(changes: Floats, size: int = 1) -> stats.Interval:
    """Return the interval of the product."""
    return stats.difference_interval([0.0] * len(changes), changes.tolist(), names(len(changes), size))


def bca(changes: Floats, size: int = 1) -> stats.Interval:
    """Return the former interval, with 500 draws; where nothing changed Wilson's bound of none."""
    if not changes.any():
        others = stats.wilson(0, len(set(names(len(changes), size)))).high
        return stats.Interval(-others, others)
    return stats.bootstrap(changes.tolist(), [1.0] * len(changes), names(len(changes), size), seed=[1], replicates=500)


def rate(hits: float, num: int) -> str:
    """Return a share with its Monte Carlo error."""
    return f"{hits / num:.3f} ±{math.sqrt(max(hits / num * (1 - hits / num), 1 / num**2) / num):.3f}"


def records_table(replicates: int) -> None:
    """Print, for 0/1 records of which few change, coverage and how often a true loss of .02 is called ruled out."""
    print("0/1: better  worse    n  covers        ruled out     BCa: covers   ruled out")
    for better, worse in ((0.0, 0.02), (0.02, 0.04), (0.03, 0.05), (0.01, 0.03), (0.05, 0.07), (0.2, 0.22)):
        for num in (30, 40, 60, 100, 200):
            counts = np.random.default_rng(1).multinomial(num, [better, worse, 1 - better - worse], size=replicates)
            total = np.zeros(4)
            for (up, down, rest), times in zip(*np.unique(counts, axis=0, return_counts=True), strict=True):
                changes = np.repeat([1.0, -1.0, 0.0], [up, down, rest])
                for column, method in ((0, interval), (2, bca)):
                    low, high = method(changes)
                    total[column : column + 2] += times * np.array([low <= -0.02 <= high, low > -0.02])
            cells = "  ".join(rate(hits, replicates) for hits in total)
            print(f"{better:11.2f}  {worse:5.2f}  {num:3d}  {cells}", flush=True)


def _ruled_out(changes: Floats, num_parts: int = 1) -> tuple[bool, bool]:
    # Whether interval and score test rule out a loss of .02, and whether the interval alone does. Categories of one
    # size: the cluster's part in their mean is its change.
    zeros, own = [0.0] * len(changes), names(len(changes))
    each = [stats.Interval(*stats.difference_interval([0.0] * len(one), one.tolist(), names(len(one)), num_parts))
            for one in np.split(changes, num_parts)]  # fmt: skip
    low = stats.mean_of_intervals([float(one.mean()) for one in np.split(changes, num_parts)], each)[1]
    parts, size = stats.change_parts(zeros, changes.tolist(), own)
    is_inside = low > -0.02
    return is_inside and stats.margin_p(parts.tolist(), math.sqrt(size), 0.02) < stats.ALPHA / 2, is_inside


def _chance(num: int, up: int, down: int, share: float, loss: float) -> float:
    # Of so many records better and worse, where a share changes and scores fall by the loss.
    rest, total = num - up - down, math.lgamma(num + 1)
    for count, chance in ((up, (share - loss) / 2), (down, (share + loss) / 2), (rest, 1 - share)):
        if chance < 1e-12 and count:
            return 0.0
        total += count * math.log(max(chance, 1e-12)) - math.lgamma(count + 1)
    return math.exp(total)


def not_worse_table(_replicates: int) -> None:
    """Print how often "not worse" by .02 is said of a true loss of .02, which is false, and of two equal models.

    Exact, but for outcomes more than five standard deviations away.
    """
    print("0/1: changed     n  false   by its interval alone  reached")
    for share in (0.02, 0.03, 0.05, 0.1, 0.2):
        for num in (100, 200, 400, 1000, 2000):
            chances = np.zeros(3)
            far = 5 * math.sqrt(num * share / 2) + 3
            ups = range(max(0, int(num * (share - 0.02) / 2 - far)), int(num * share / 2 + far) + 1)
            downs = range(max(0, int(num * share / 2 - far)), int(num * (share + 0.02) / 2 + far) + 1)
            for up, down in itertools.product(ups, downs):
                lost, equal = (_chance(num, up, down, share, loss) for loss in (0.02, 0.0))
                if lost + equal > 1e-9:
                    is_shown, is_inside = _ruled_out(np.repeat([1.0, -1.0, 0.0], [up, down, num - up - down]))
                    chances += [lost * is_shown, lost * is_inside, equal * is_shown]
            print(f"{share:12.2f}  {num:4d}  {chances[0]:.4f}  {chances[1]:21.4f}  {chances[2]:.3f}", flush=True)


def not_worse_means_table(replicates: int) -> None:
    """Print the same of graded scores, of clusters, and of the mean of four categories."""
    print("                 n  false         reached")
    for kind in ("losses only", "floor", "ceiling", "mean of four"):
        for num in (200, 1000):
            rates = []
            for loss in (0.02, 0.0):
                rng, hits, draws = np.random.default_rng(9), 0, replicates // 4
                for _ in range(draws):
                    if kind == "losses only":
                        changes = np.where(rng.random(num) < 2 * loss, -rng.random(num), 0.0)
                    elif kind == "mean of four":
                        changes = rng.choice([1.0, -1.0, 0.0], num, p=[0.025 - loss / 2, 0.025 + loss / 2, 0.95])
                    else:
                        changes = latent(rng, kind, num) - loss
                    hits += _ruled_out(changes, 4 if kind == "mean of four" else 1)[0]
                rates.append(rate(hits, draws))
            print(f"{kind:13} {num:4d}  {'  '.join(rates)}", flush=True)


def coverage_table(replicates: int) -> None:
    """Print coverage of graded scores and of clusters."""
    print("scores         n  true    covers        low above truth  BCa: covers")
    for kind, size in (
        ("floor", 1), ("ceiling", 1), ("even", 1), ("loss", 1), ("crash", 1), ("floor", 3), ("ceiling", 3), ("0/1", 3),
    ):  # fmt: skip
        for num in (30 * size, 40 * size, 60 * size, 200):
            rng, truth, hits = np.random.default_rng(2), TRUTHS.get(kind, 0.0), np.zeros(3)
            for index in range(replicates):
                changes = few(rng, kind, num) if kind in ("loss", "crash") else latent(rng, kind, num, size)
                low, high = interval(changes, size)
                hits[:2] += low <= truth <= high, low > truth
                if index % 10 == 0:
                    low, high = bca(changes, size)
                    hits[2] += low <= truth <= high
            label = kind if size == 1 else f"{kind} by {size}"
            cells = (rate(hits[0], replicates), rate(hits[1], replicates), rate(hits[2], -(-replicates // 10)))
            print(f"{label:12} {num:3d}  {truth:6.3f}  {cells[0]}  {cells[1]}     {cells[2]}", flush=True)


def means_table(replicates: int) -> None:
    """Print coverage of the mean of six categories."""
    print("mean of six    n  true    covers        low above truth")
    for kind, num in (("0/1", 10), ("0/1", 40), ("ceiling", 40), ("floor", 40), ("loss", 40)):
        rng, truth, hits = np.random.default_rng(7), TRUTHS.get(kind, 0.0), np.zeros(2)
        for _ in range(replicates // 4):
            six = [few(rng, kind, num) if kind == "loss" else latent(rng, kind, num) for _ in range(6)]
            own = [stats.difference_interval([0.0] * num, each.tolist(), names(num), 6) for each in six]
            _, low, high = stats.mean_of_intervals([float(each.mean()) for each in six], own)
            hits += low <= truth <= high, low > truth
        print(f"{kind:12} {num:3d}  {truth:6.3f}  {'  '.join(rate(hit, replicates // 4) for hit in hits)}", flush=True)


_RARE = {"rare 0": ((1, 0.99, 0), (0.6, 0.35, 0.05)), "rare 1": ((0, 0.05, 1), (0.55, 0.4, 0.05))}


def scores_table(replicates: int) -> None:
    """Print coverage of the mean of graded scores, and how wide its interval is."""
    print("mean score    n  covers        BCa: covers   width")
    for kind in (*_RARE, "floor", "ceiling", "even"):
        for num in (10, 20, 40, 60, 200):
            rng, hits, widths = np.random.default_rng(8), np.zeros(2), []
            if kind in _RARE:
                values, chances = _RARE[kind]
                draws, truth = rng.choice(values, num * replicates, p=chances), float(np.dot(values, chances))
            else:
                draws = SCORES[kind](rng.normal(size=num * replicates))
                truth = float(SCORES[kind](rng.normal(size=400_000)).mean())
            for index, scores in enumerate(draws.reshape(replicates, num)):
                low, high = stats.mean_interval(scores, names(num))
                hits[0] += low <= truth <= high
                widths.append(high - low)
                if index % 10 == 0:
                    low, high = stats.bootstrap(scores, [1.0] * num, names(num), seed=[index], replicates=500)
                    hits[1] += low <= truth <= high
            cells = rate(hits[0], replicates), rate(hits[1], -(-replicates // 10))
            print(f"{kind:10} {num:4d}  {cells[0]}  {cells[1]}  {np.mean(widths):.3f}", flush=True)


def widths_table(replicates: int) -> None:
    """Print how wide intervals are, as a share of the former ones."""
    print("n = 200, scores      width  against BCa")
    rng, draws = np.random.default_rng(3), max(10, replicates // 100)
    for kind in ("a fifth each way", "floor", "ceiling", "even"):
        if kind in SCORES:
            sides = [latent(rng, kind, 200) for _ in range(draws)]
        else:
            sides = [rng.permutation(np.repeat([1.0, -1.0, 0.0], [40, 40, 120])) for _ in range(draws)]
        ours, theirs = ([high - low for low, high in map(method, sides)] for method in (interval, bca))
        ratios = np.divide(ours, theirs)
        print(f"{kind:19}  {np.mean(ours):.3f}  {ratios.mean():.3f} ±{ratios.std() / math.sqrt(draws):.3f}", flush=True)


def exact_powers(replicates: int) -> None:
    """Print the real power at the announced effect of 0/1 records: the first of ``tests`` under Holm."""
    print("0/1: n  changed  tests  announced  power         verdict")
    for num, share in ((40, 0.05), (40, 0.1), (40, 0.3), (60, 0.2), (100, 0.1), (100, 0.3), (200, 0.1)):
        for tests in (1, 6):
            parts = np.arange(num) < round(num * share)
            effect = stats.minimum_detectable_effect(parts.astype(float).tolist(), tests)
            if effect is None:
                print(f"{num:6d}  {share:7.2f}  {tests:5d}       none", flush=True)
                continue
            chances = [(share + effect) / 2, (share - effect) / 2, 1 - share]
            counts = np.random.default_rng(4).multinomial(num, chances, size=replicates)
            hits = np.zeros(2)
            for (up, down, rest), times in zip(*np.unique(counts, axis=0, return_counts=True), strict=True):
                if stats.mcnemar_p(up, down) < stats.ALPHA / tests:
                    hits += times * np.array([1, interval(np.repeat([1.0, -1.0, 0.0], [up, down, rest])).low > 0])
            cells = "  ".join(rate(hit, replicates) for hit in hits)
            print(f"{num:6d}  {share:7.2f}  {tests:5d}  {effect:9.3f}  {cells}", flush=True)


def _parts(rng: np.random.Generator, kind: str, num: int, size: int, shift: float) -> Floats:
    means: Floats = latent(rng, kind, num, size, shift).reshape(-1, size).mean(axis=1)
    return means


def graded_powers(replicates: int) -> None:
    """Print the real power of sign flips where all latent numbers rise until the mean does by the announced effect."""
    print("graded      n  tests  announced  power")
    for kind, num, size in (("floor", 30, 1), ("floor", 60, 1), ("floor", 120, 3), ("even", 30, 1), ("even", 60, 1)):
        for tests in (1, 6):
            rng, groups = np.random.default_rng(5), -(-num // size)
            flips = rng.choice([-1, 1], size=(4999, groups))

            parts = partial(_parts, rng, kind, num, size)
            found = [stats.minimum_detectable_effect(parts(0.0).tolist(), tests) for _ in range(100)]
            effect = float(np.mean([each for each in found if each is not None]))
            low, high = 0.0, 3.0
            for _ in range(12):
                middle = (low + high) / 2
                is_less = latent(np.random.default_rng(6), kind, 60_000, 1, middle).mean() < effect
                low, high = (middle, high) if is_less else (low, middle)
            hits, draws = 0, replicates
            for _ in range(draws):
                values = parts(low)
                hits += (np.abs(flips @ values) >= abs(values.sum()) - 1e-9).mean() < stats.ALPHA / tests
            label = kind if size == 1 else f"{kind}/{size}"
            print(f"{label:8} {num:4d}  {tests:5d}  {effect:9.3f}  {rate(hits, draws)}", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=4000)
    parts = {
        "ruled-out": [records_table], "not-worse": [not_worse_table, not_worse_means_table],
        "coverage": [coverage_table, means_table], "scores": [scores_table], "widths": [widths_table],
        "power": [exact_powers, graded_powers],
    }  # fmt: skip
    parser.add_argument("--only", choices=list(parts))
    options = parser.parse_args()
    for name, tables in parts.items():
        for table in tables if options.only in (None, name) else ():
            table(options.replicates)


if __name__ == "__main__":
    main()
