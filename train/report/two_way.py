"""A change measured on records and by several training seeds: how much of its uncertainty comes from which.

Records (by cluster) and seeds are crossed random effects with one value a cell, the two-way model of Searle, Casella
and McCulloch 1992, *Variance Components*, section 4.4. The variance of the mean is a sum of mean squares, so its
degrees of freedom are those of Satterthwaite 1946, Biometrics Bulletin 2:110. numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.report.stats import CONFIDENCE, Floats, Interval, sums_by_cluster


class TwoWay(NamedTuple):
    """A mean over clusters and seeds: its variance, degrees of freedom, the share of the variance that is between
    seeds, and the mean of each seed.
    """

    mean: float
    variance: float
    freedom: float
    seed_share: float
    by_seed: tuple[float, ...]

    def interval(self) -> Interval:
        """Return the interval by Student's t."""
        half = student_quantile(self.freedom) * math.sqrt(self.variance)
        return Interval(self.mean - half, self.mean + half)

    def p(self) -> float:
        """Return the two-sided p value of a mean of zero."""
        if self.variance <= 0:
            return 1.0 if self.mean == 0 else 0.0
        return student_p(self.mean / math.sqrt(self.variance), self.freedom)


def cluster_parts(numerators: Sequence[Sequence[float]], weights: Sequence[float], clusters: Sequence[str]) -> Floats:
    """Return [clusters, seeds] whose column means are sum(numerators) / sum(weights) of each seed.

    ``numerators`` are [seeds, records]. A cluster's part is its share in the linearised ratio, so that clusters of many
    records weigh more, as they do in the ratio itself.
    """
    sums = sums_by_cluster(clusters, *numerators, weights)
    x, w = sums[:, :-1], sums[:, -1:]
    ratio = x.sum() / (w.sum() * x.shape[1])
    parts: Floats = len(sums) * (x - ratio * w) / w.sum() + ratio
    return parts


def two_way(parts: Floats) -> TwoWay:
    """Return the mean of ``parts``, [clusters, seeds], with both of at least 2, and how uncertain it is.

    The variance is (MS clusters + MS seeds - MS rest) / (clusters x seeds), and never below the larger of what clusters
    and seeds say alone: with two seeds their spread is hardly known, and a difference of mean squares may be negative.
    """
    num, seeds = parts.shape
    mean, by_cluster, by_seed = float(parts.mean()), parts.mean(axis=1), parts.mean(axis=0)
    rest = parts - by_cluster[:, None] - by_seed[None, :] + mean
    degrees = np.array([num - 1, seeds - 1, (num - 1) * (seeds - 1)], dtype=np.float64)
    squares = np.array([
        seeds * float(((by_cluster - mean) ** 2).sum()), num * float(((by_seed - mean) ** 2).sum()),
        float((rest**2).sum()),
    ]) / degrees  # fmt: skip
    of_clusters, of_seeds, of_rest = squares
    total = max(of_clusters + of_seeds - of_rest, of_clusters, of_seeds)
    used = [of_clusters, of_seeds, of_rest] if total == of_clusters + of_seeds - of_rest else (
        [of_clusters, 0.0, 0.0] if total == of_clusters else [0.0, of_seeds, 0.0]
    )  # fmt: skip
    spread = float((np.array(used) ** 2 / degrees).sum())
    freedom = total**2 / spread if spread > 0 else float(degrees[0])
    share = max(0.0, of_seeds - of_rest) / total if total > 0 else 0.0
    return TwoWay(mean, float(total / (num * seeds)), float(freedom), float(min(1.0, share)), tuple(by_seed.tolist()))


def student_p(t: float, freedom: float) -> float:
    """Return the two-sided p value of Student's t; ``freedom`` need not be whole."""
    # Abramowitz and Stegun 1964, 26.7.1: the incomplete beta function at freedom / (freedom + t^2).
    return _beta_ratio(freedom / (freedom + t * t), freedom / 2, 0.5)


def student_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """Return the t that leaves out 1 - ``confidence`` on both sides together."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > 1 - confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 1 - confidence else (low, middle)
    return high


def _beta_ratio(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if not 0 < x < 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        # There the fraction of the other tail converges.
        return 1 - _beta_ratio(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    ) / a  # fmt: skip
    # Lentz's way of evaluating it from the front: Numerical Recipes, section 5.2.
    tiny = 1e-300
    fraction, c, d = 1.0, 1.0, 0.0
    for n in range(400):
        m = n // 2
        if n == 0:
            term = 1.0
        elif n % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + term * d if abs(1 + term * d) > tiny else tiny)
        c = 1 + term / c if abs(1 + term / c) > tiny else tiny
        fraction *= c * d
        if abs(1 - c * d) < 1e-14:
            break
    return front * (fraction - 1)
