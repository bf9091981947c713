"""From numbers to a word: improved, regressed, or inconclusive, and what the data could have shown at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from train.report.stats.intervals import Interval

MARGIN = 0.02
"""The loss of score that counts as none (absolute); for bits per byte it is a share, 1 % (see `report`)."""
FEWEST = 30
"""Records below which a category is not judged."""
_ALPHA, _POWER = 0.05, 0.8

Word = Literal["improved", "regressed", "inconclusive"]
Reason = Literal["better", "worse", "within-margin", "within-noise", "too-few"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, why it is that one, and whether a loss beyond the margin is ruled out.

    ``reason`` is *better* for improved and *worse* for regressed; of what is inconclusive it says whether the loss lies
    *within-margin*, the change *within-noise*, or there are *too-few* records for a verdict.
    """

    word: Word
    reason: Reason
    note: str
    is_no_worse: bool


def judge(
    num: int,
    difference: float,
    interval: Interval,
    p_adjusted: float,
    *,
    num_clusters: int,
    margin: float = MARGIN,
    fewest: int = FEWEST,
    margin_text: str = "",
) -> Verdict:
    """Return the verdict on a category of ``num`` records whose score, higher being better, changed by ``difference``.

    *Improved* and *regressed* need an interval on one side of zero and an adjusted p value below 0.05; a loss must
    also be at least ``margin``. Everything else is *inconclusive*, which is not the same as unchanged: only where the
    interval ends above ``-margin`` a loss that matters is ruled out (non-inferiority: Piaggio et al. 2012, JAMA
    308:2594). Records that repeat one another count once towards ``fewest``.
    ``margin_text`` is how the margin is written where it is not an absolute number.
    """
    num, num_clusters, low, high = int(num), int(num_clusters), float(interval.low), float(interval.high)
    is_no_worse, is_significant = low > -margin, bool(p_adjusted < _ALPHA)
    loss = margin_text or f"{margin:g}"
    if min(num, num_clusters) < fewest:
        what = "" if num <= num_clusters else f": its {num} records are {num_clusters} clusters"
        count = f"too few to judge ({min(num, num_clusters)} of {fewest}){what}"
        return Verdict("inconclusive", "too-few", count, is_no_worse)
    if is_significant and low > 0:
        return Verdict("improved", "better", "better beyond chance", is_no_worse)
    if is_significant and high < 0:
        if difference <= -margin:
            return Verdict("regressed", "worse", "worse beyond chance", is_no_worse)
        note = f"worse beyond chance, but by less than the margin of {loss}"
        return Verdict("inconclusive", "within-margin", note, is_no_worse)
    rest = "is ruled out" if is_no_worse else "is not ruled out"
    return Verdict("inconclusive", "within-noise", f"no change shown; a loss of {loss} or more {rest}", is_no_worse)


def minimum_detectable_effect(mean_square: float, num: int) -> float | None:
    """Return the smallest mean difference that ``num`` independent pairs would show in 80 % of all runs.

    ``mean_square`` is the mean squared difference of a pair; for 0/1 scores the share of pairs that changed. Solves
    n = (z_alpha + z_power)^2 (d - e^2) / e^2 for e, the paired sample size of Connor 1987, Biometrics 43:207, in its
    normal form. None where no pair changed: nothing is known then.
    """
    mean_square, num = float(mean_square), int(num)
    if mean_square <= 0 or num < 1:
        return None
    normal = NormalDist()
    factor = (normal.inv_cdf(1 - _ALPHA / 2) + normal.inv_cdf(_POWER)) ** 2
    return math.sqrt(factor * mean_square / (num + factor))
