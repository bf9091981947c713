"""A change measured on records and by several training seeds: how much of its uncertainty comes from which.

Records (by cluster) and seeds are crossed random effects with one value a cell, the two-way model of Searle, Casella
and McCulloch 1992, *Variance Components*, section 4.4. Two or three seeds hardly know their own spread, so each of the
two parts has an interval by Student's t with its own degrees of freedom, and the squares of their halves are added
(Zou and Donner 2008, Statistics in Medicine 27:1693). One t with Satterthwaite's degrees of freedom would be too sure:
where two seeds lie close by luck it takes the many degrees of the records. `benchmarks/series.py` simulates it. numpy
only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.evaluate.predictions import Scored, pair
from train.report.model import Unscored
from train.report.results import is_judged, known, unscored_of
from train.report.stats import CONFIDENCE, Floats, Interval, student_quantile, sums_by_cluster
from train.report.tables import Estimate


class Parts(NamedTuple):
    """What each cluster adds to the figures of some trainings: [clusters, trainings], and the clusters' names."""

    values: Floats
    names: Sequence[str]


class TwoWay(NamedTuple):
    """A mean over clusters and seeds, [clusters, seeds], or a contrast of several: its variance by records, as the
    seeds lie apart, and by what neither of them explains; that of each seed; and the degrees of freedom of their
    spread.
    """

    mean: float
    of_records: float
    between_seeds: float
    of_rest: float
    num_clusters: int
    by_seed: tuple[float, ...]
    freedom: int

    def of_seeds(self, tail: float = 1 - CONFIDENCE) -> float:
        """Return what seeds add to the variance of the mean, as an interval that leaves out ``tail`` counts it.

        Half of what is not explained is taken off. Of two seeds that lie close by luck this hides the spread, in more
        cases than a smaller tail may be wrong in: there less of it is taken off.
        """
        part: float = min(1.0, tail / (1 - CONFIDENCE)) ** (2 / self.freedom)
        return max(0.0, self.between_seeds - self.of_rest * part / 2)

    @property
    def seed_share(self) -> float:
        """The part of the variance that is between seeds."""
        total = self.of_records + self.of_seeds()
        return self.of_seeds() / total if total > 0 else 0.0

    def half(self, tail: float = 1 - CONFIDENCE) -> float:
        """Return half of the width of the interval that misses the truth in a share of ``tail``."""
        records, seeds = (student_quantile(num - 1, tail) for num in (self.num_clusters, self.freedom + 1))
        return math.sqrt(records**2 * self.of_records + seeds**2 * self.of_seeds(tail))

    def interval(self) -> Interval:
        """Return the 95 % interval."""
        return Interval(self.mean - self.half(), self.mean + self.half())

    def widened(self, estimate: Estimate, least: float = -math.inf, most: float = math.inf) -> Estimate:
        """Return ``estimate`` with an interval that reaches over this one too, within ``least`` and ``most``."""
        low, high = self.interval()
        low, high = max(least, min(low, estimate.low)), min(most, max(high, estimate.high))
        return Estimate(value=estimate.value, low=low, high=high)

    def p(self) -> float:
        """Return the two-sided p value of a mean of zero: the tail whose interval ends there; never below 1e-9."""
        low, high = math.log(1e-9), 0.0
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (low, middle) if self.half(math.exp(middle)) < abs(self.mean) else (middle, high)
        return math.exp(high)


def cluster_parts(numerators: Sequence[Sequence[float]], weights: Sequence[float], clusters: Sequence[str]) -> Floats:
    """Return [clusters, seeds] whose column means are sum(numerators) / sum(weights) of each seed.

    ``numerators`` are [seeds, records]. A cluster's part is its share in the linearised ratio, so that clusters of many
    records weigh more, as they do in the ratio itself.
    """
    sums = sums_by_cluster(clusters, *numerators, weights)
    x, w = sums[:, :-1], sums[:, -1:]
    ratio = x.sum(axis=0) / w.sum()
    parts: Floats = len(sums) * (x - ratio * w) / w.sum() + ratio
    return parts


def in_step(sides: Sequence[Sequence[Scored]]) -> list[list[Scored]]:
    """Return ``sides`` in the order of the first; raises TrainError "E933 unpaired-results" where records differ."""
    return [[after for _, after in pair(sides[0], side)] for side in sides]


def judged(records: Sequence[Scored], split: str, category: str) -> list[int]:
    """Return which of ``records`` count in the figures of a category of ``split``."""
    return [n for n, row in enumerate(records) if is_judged(row, split) and row.category == category]


def result_parts(
    base: Sequence[Scored], sides: Sequence[Sequence[Scored]], mine: Sequence[int], *, is_score: bool, is_change: bool
) -> Parts:
    """Return the parts in what each of ``sides`` scored on the records ``mine`` of ``base``, or in its bits per byte.

    With ``is_change`` they are those of the change against the base. Records that lack one of the values are left out;
    there are no clusters where all do.
    """

    def number(record: Scored) -> float | None:
        return record.score if is_score else record.nll if record.num_bytes else None

    complete = [n for n in mine if None not in (number(base[n]), *(number(side[n]) for side in sides))]
    if not complete:
        return Parts(np.zeros((0, len(sides))), ())
    origin = [known(number(base[n])) if is_change else 0.0 for n in complete]
    values = [[known(number(side[n])) - zero for n, zero in zip(complete, origin, strict=True)] for side in sides]
    weights = [1.0 if is_score else base[n].num_bytes * math.log(2) for n in complete]
    clusters = [base[n].cluster for n in complete]
    return Parts(cluster_parts(values, weights, clusters), sorted(set(clusters)))


class CategoryScores(NamedTuple):
    """What several sides scored in a category by its metric, and their bits per byte, with no clusters where there is
    nothing or it is ``unscored``; and what the trivial answers score, where that is known.
    """

    category: str
    metric: str
    scores: Parts
    bits: Parts
    trivial: float | None
    unscored: Unscored | None


def measure(sides: Sequence[Sequence[Scored]], split: str) -> list[CategoryScores]:
    """Return what ``sides`` scored in each category of ``split``.

    Raises TrainError "E933 unpaired-results" where they hold other records.
    """
    paired, each = in_step(sides), []
    last = paired[-1]
    for category in sorted({row.category for row in last if is_judged(row, split)}):
        mine = judged(last, split, category)
        unscored = unscored_of(category, [[side[n] for side in paired] for n in mine])
        scores = result_parts(last, paired, () if unscored else mine, is_score=True, is_change=False)
        bits = result_parts(last, paired, mine, is_score=False, is_change=False)
        rows = [last[n] for n in mine if scores.names and last[n].score is not None]
        trivial = mean_if_known([row.trivial_score for row in rows])
        each.append(CategoryScores(category, rows[0].metric if rows else "", scores, bits, trivial, unscored))
    return each


def mean_if_known(values: Sequence[float | None]) -> float | None:
    """Return the mean, None where one of ``values`` is not known or there is none."""
    return None if None in values or not values else math.fsum(map(known, values)) / len(values)


def mean_parts(each: Sequence[Parts], weights: Sequence[float] = ()) -> Floats:
    """Return [clusters, sides] whose column means are the mean of those of ``each`` category, or their sum by
    ``weights``.

    What a cluster adds is held against its category's own mean, and summed over all categories that it has records in:
    one document asked in six languages is no more than one.
    """
    rows = {name: row for row, name in enumerate(dict.fromkeys(name for parts in each for name in parts.names))}
    means = np.array([parts.values.mean(axis=0) for parts in each])
    share = np.array(weights or [1 / len(each)] * len(each))
    sums = np.zeros((len(rows), *means.shape[1:]))
    for parts, mean, weight in zip(each, means, share, strict=True):
        sums[[rows[name] for name in parts.names]] += (parts.values - mean) * (len(rows) * weight / len(parts.names))
    mean_of_all: Floats = sums + np.tensordot(share, means, 1)
    return mean_of_all


def fit_two_way(parts: Floats) -> TwoWay:
    """Return the mean of ``parts``, [clusters, seeds] with 2 or more of both, and how uncertain it is.

    The variance of the mean is (MS clusters + MS seeds - MS rest) / (clusters x seeds). That of the records is the
    first of these, and seeds add the rest of it, which is not below zero. Half of MS rest alone is taken off: where two
    seeds lie close by luck, all of it would leave them nothing to add, and seeds would count too little.
    """
    return fit_contrast(parts[:, None], np.ones(1))


def fit_contrast(parts: Floats, weights: Floats) -> TwoWay:
    """Return the means of several trainings, ``parts`` being [clusters, trainings, seeds], summed by ``weights``.

    It is `fit_two_way` with the spread of the seeds pooled over the trainings. Of one seed nothing is known of it, and
    it counts as none.
    """
    num, trainings, seeds = parts.shape
    freedom, by_cluster, by_seed = max(1, trainings * (seeds - 1)), parts.mean(axis=2), parts.mean(axis=0)
    apart = by_seed - by_seed.mean(axis=1, keepdims=True)
    rest = parts - by_cluster[:, :, None] - apart
    scale = float(weights @ weights) / freedom / seeds
    changes = by_cluster @ weights
    return TwoWay(
        mean=float(changes.mean()), of_records=float(changes.var(ddof=1)) / num,
        between_seeds=scale * float((apart**2).sum()), of_rest=scale * float((rest**2).sum()) / ((num - 1) * num),
        num_clusters=num, by_seed=tuple((weights @ by_seed).tolist()), freedom=freedom,
    )  # fmt: skip
