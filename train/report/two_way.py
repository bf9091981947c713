"""What several trainings scored on the same records, [clusters, trainings, seeds], and how sure a contrast of them is.

Records (by cluster) and seeds are crossed random effects with one value a cell, the two-way model of Searle, Casella
and McCulloch 1992, *Variance Components*, section 4.4. Two or three seeds hardly know their own spread, so each of the
two parts has an interval by Student's t with its own degrees of freedom, and the squares of their halves are added
(Zou and Donner 2008, Statistics in Medicine 27:1693). One t with Satterthwaite's degrees of freedom would be too sure:
where two seeds lie close by luck it takes the many degrees of the records. `benchmarks/series.py` simulates it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.evaluate.predictions import Scored, pair_records
from train.report.model import Unscored
from train.report.results import find_unscored, is_counted, require_value
from train.report.stats import CONFIDENCE, Floats, Interval, cluster_parts, student_quantile
from train.report.tables import Estimate


class Parts(NamedTuple):
    """What each cluster adds to the figures of some sides, [clusters, sides], and the clusters' names."""

    values: Floats
    names: Sequence[str]

    def changes(self) -> Parts:
        """Return the parts of what the sides gained against the first of them."""
        return Parts(self.values[:, 1:] - self.values[:, :1], self.names)


class TwoWay(NamedTuple):
    """A contrast of trainings: its variance by records, as the seeds lie apart, and by what neither of them explains;
    that of each seed; and the degrees of freedom of their spread.
    """

    mean: float
    of_records: float
    between_seeds: float
    residual: float
    num_clusters: int
    by_seed: tuple[float, ...]
    freedom: int

    def of_seeds(self, tail: float = 1 - CONFIDENCE) -> float:
        """Return what seeds add to the variance of the mean, as an interval that leaves out ``tail`` counts it.

        Half of what is not explained is taken off. Of two seeds that lie close by luck this hides the spread, in more
        cases than a smaller tail may be wrong in: there less of it is taken off.
        """
        part: float = min(1.0, tail / (1 - CONFIDENCE)) ** (2 / self.freedom)
        return max(0.0, self.between_seeds - self.residual * part / 2)

    @property
    def seed_share(self) -> float:
        """The part of the variance that is between seeds."""
        total = self.of_records + self.of_seeds()
        return self.of_seeds() / total if total > 0 else 0.0

    def half(self, tail: float = 1 - CONFIDENCE) -> float:
        """Return half of the width of the interval that misses the truth in a share of ``tail``."""
        records, seeds = (student_quantile(num - 1, tail) for num in (self.num_clusters, self.freedom + 1))
        return math.sqrt(records**2 * self.of_records + seeds**2 * self.of_seeds(tail))

    def interval(self, tail: float = 1 - CONFIDENCE) -> Interval:
        """Return the interval that misses the truth in a share of ``tail``."""
        return Interval(self.mean - self.half(tail), self.mean + self.half(tail))

    def widened(self, estimate: Estimate, least: float = -math.inf, most: float = math.inf) -> Estimate:
        """Return ``estimate`` with an interval that reaches over the 95 % one too, within ``least`` and ``most``."""
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


def fit_two_way(parts: Floats, weights: Sequence[float] = (1.0,)) -> TwoWay:
    """Return the means of some trainings, ``parts`` being [clusters, trainings x seeds], summed by their ``weights``.

    It takes 2 clusters or more. The variance of one mean is (MS clusters + MS seeds - MS rest) / (clusters x seeds), of
    which that of the records is the first, and the spread of the seeds is pooled over the trainings. Half of MS rest
    alone is taken off: where two seeds lie close by luck, all of it would leave them nothing to add. Of one seed
    nothing is known of its spread, and it counts as none.
    """
    parts, scales = parts.reshape(len(parts), len(weights), -1), np.asarray(weights, dtype=np.float64)
    num, trainings, seeds = parts.shape
    freedom, by_cluster, by_seed = max(1, trainings * (seeds - 1)), parts.mean(axis=2), parts.mean(axis=0)
    apart = by_seed - by_seed.mean(axis=1, keepdims=True)
    rest = parts - by_cluster[:, :, None] - apart
    scale = float(scales @ scales) / freedom / seeds
    changes = by_cluster @ scales
    return TwoWay(
        mean=float(changes.mean()), of_records=float(changes.var(ddof=1)) / num,
        between_seeds=scale * float((apart**2).sum()), residual=scale * float((rest**2).sum()) / ((num - 1) * num),
        num_clusters=num, by_seed=tuple((scales @ by_seed).tolist()), freedom=freedom,
    )  # fmt: skip


class CategoryScores(NamedTuple):
    """What several sides scored in a category, and their bits per byte, without clusters where there is nothing or it
    is ``unscored``; and what the trivial answers score, where that is known.
    """

    category: str
    scores: Parts
    bits: Parts
    trivial: float | None
    unscored: Unscored | None


def align_records(sides: Sequence[Sequence[Scored]]) -> list[list[Scored]]:
    """Return ``sides`` in the order of the first; raises TrainError "E933 unpaired-results" where records differ."""
    return [[after for _, after in pair_records(sides[0], side)] for side in sides]


def measure(sides: Sequence[Sequence[Scored]], split: str) -> list[CategoryScores]:
    """Return what ``sides`` scored in each category of ``split``.

    Raises TrainError "E933 unpaired-results" where they hold other records.
    """
    paired, groups = align_records(sides), dict[str, list[int]]()
    for index, record in enumerate(paired[0]):
        if is_counted(record, split):
            groups.setdefault(record.category, []).append(index)
    measured = []
    for category, indices in sorted(groups.items()):
        unscored = find_unscored(category, [[side[n] for side in paired] for n in indices])
        scores, bits = (parts_of(paired, rows, is_score=is_score) for rows, is_score in (
            ([] if unscored else indices, True), (indices, False)
        ))  # fmt: skip
        answers = [paired[-1][n] for n in indices]
        trivial = mean_if_known([row.trivial_score for row in answers if scores.names and row.score is not None])
        measured.append(CategoryScores(category, scores, bits, trivial, unscored))
    return measured


def parts_of(sides: Sequence[Sequence[Scored]], indices: Sequence[int], *, is_score: bool) -> Parts:
    """Return the parts in what ``sides`` scored on those of their records at ``indices``, or in their bits per byte.

    Records that one of them lacks the value of are left out; there are no clusters where all are.
    """

    def value(record: Scored) -> float | None:
        return record.score if is_score else record.nll if record.num_bytes else None

    rows = [n for n in indices if None not in [value(side[n]) for side in sides]]
    if not rows:
        return Parts(np.zeros((0, len(sides))), ())
    weights = [1.0 if is_score else sides[0][n].num_bytes * math.log(2) for n in rows]
    clusters = [sides[0][n].cluster for n in rows]
    values = [[require_value(value(side[n])) for n in rows] for side in sides]
    return Parts(cluster_parts(values, weights, clusters), sorted(set(clusters)))


def mean_if_known(values: Sequence[float | None]) -> float | None:
    """Return the mean, None where one of ``values`` is not known or there is none."""
    return None if None in values or not values else math.fsum(map(require_value, values)) / len(values)


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
