"""Runs whose truth is known: what training seeds move, and what shares of the records bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from train.evaluate.predictions import Scored
from train.report import Report, Rules, Run, build_report
from train.report.learning_curve import fit_doubling, word_of
from train.report.results import estimate
from train.report.series import seeds_report
from train.report.stats import MARGIN, Interval

_NORMAL = NormalDist()
RULES = Rules(resamples=100)


def scored_side(values: np.ndarray, size: int) -> list[Scored]:
    """Return records of the test split with these scores, in clusters of ``size``."""
    return [
        Scored(f"r{n}", "test", "c", f"c{n // size}", "yes", 1.0, 2, 3, "x", True, "exact", {"exact": float(value)})
        for n, value in enumerate(values)
    ]


def graded(rng: np.random.Generator, mean: float, difficulty: np.ndarray) -> np.ndarray:
    """Return scores of exactly this ``mean`` whose spread is half of the records and half of the run."""
    room = min(mean, 1 - mean) / 2
    return mean + room * (2 * np.vectorize(_NORMAL.cdf)(difficulty) - 1) + room * rng.uniform(-1, 1, len(difficulty))


def seed_runs(
    rng: np.random.Generator, num: int, seeds: int, *, between: float, effect: float = 0.0, size: int = 1,
    is_graded: bool = False,
) -> tuple[list[Scored], list[list[Scored]]]:  # fmt: skip
    """Return a base and the runs of some seeds on ``num`` records: means .5 and .5 + ``effect``, one number a seed.

    Seeds differ by a normal number of the spread ``between``; clusters are of ``size`` records.
    """
    clusters = -(-num // size)
    difficulty = np.repeat(rng.normal(size=clusters), size)[:num]

    def answers(mean: float) -> np.ndarray:
        mean = min(0.98, max(0.02, mean))
        if is_graded:
            return graded(rng, mean, difficulty)
        return (difficulty + rng.normal(size=num)) / np.sqrt(2) < _NORMAL.inv_cdf(mean)

    means = 0.5 + effect + between * rng.normal(size=seeds)
    return scored_side(answers(0.5), size), [scored_side(answers(mean), size) for mean in means]


def pooled(base: list[Scored], sides: list[list[Scored]]) -> Report:
    """The report of several seeds."""
    return seeds_report(base, sides, seeds=range(len(sides)), selected=0, name="seed-0", run=Run(id="s"), rules=RULES)


def alone(base: list[Scored], side: list[Scored]) -> Report:
    """The report of one run, which knows of no seeds."""
    return build_report(base, side, run=Run(id="s"), rules=RULES)


def measured_curve(
    rng: np.random.Generator, means: Sequence[float], num: int, seeds: int, *, between: float, is_graded: bool = False
) -> tuple[Interval, str]:  # fmt: skip
    """Return what a doubling is said to have brought, and the word, where each next share of twice the size has these
    means.
    """
    difficulty = rng.normal(size=num)
    parts = np.empty((num, len(means), seeds))
    for index, true in enumerate(means):
        for seed in range(seeds):
            mean = min(0.99, max(0.01, true + between * rng.normal()))
            if is_graded:
                parts[:, index, seed] = graded(rng, mean, difficulty)
            else:
                parts[:, index, seed] = (difficulty + rng.normal(size=num)) / np.sqrt(2) < _NORMAL.inv_cdf(mean)
    sizes = [100 * 2**index for index in range(len(means))]
    slope = fit_doubling(sizes, parts)
    return slope.interval(), word_of(estimate(slope.mean, slope.interval()), MARGIN)


def equal_choices(
    rng: np.random.Generator, choices: int, num: int, seeds: int, *, between: float
) -> list[list[list[Scored]]]:  # fmt: skip
    """Return what the seeds of equally good choices scored on ``num`` validation records, the luckiest choice first."""
    difficulty, side = rng.normal(size=num), [replace(row, split="validation") for row in scored_side(np.zeros(num), 1)]

    def run() -> list[Scored]:
        bar = _NORMAL.inv_cdf(min(0.98, max(0.02, 0.5 + between * rng.normal())))
        is_right = (difficulty + rng.normal(size=num)) / np.sqrt(2) < bar
        return [replace(row, scores={"exact": float(right)}) for row, right in zip(side, is_right, strict=True)]

    each = [[run() for _ in range(seeds)] for _ in range(choices)]
    return sorted(each, key=lambda sides: -sum(row.score or 0 for side in sides for row in side))
