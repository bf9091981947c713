"""How far choices of settings lie behind the best of them, which was taken for being the best.

The best of twenty equal choices lies above the others by luck. So all pairs of choices are told apart together: the
intervals are by Student's t, with a tail that all pairs share (Bonferroni), whichever of them is then looked at. numpy
only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.evaluate.predictions import Scored, pair
from train.report.model import Estimate
from train.report.stats import ALPHA, student_quantile, wilson
from train.report.two_way import mean_parts, result_parts


def behind(best: Sequence[Scored], others: Sequence[Sequence[Scored]]) -> list[Estimate | None]:
    """Return by how much each of ``others`` scored less than ``best`` on the same validation records, None for too few.

    It is the mean over the categories. Where no record has a score it is by how many bits per byte it took more. Raises
    TrainError "E933 unpaired-results" where they hold other records.
    """
    rows = [row for row in best if row.split == "validation" and row.is_liked is not False]
    paired = [{before.id: after for before, after in pair(best, other) if before.split == "validation"}
              for other in others]  # fmt: skip
    groups = [[row for row in rows if row.category == name] for name in sorted({row.category for row in rows})]
    by_kind = [
        [result_parts(group, [[table[row.id] for row in group] for table in paired], is_score=is_score, is_change=True)
         for group in groups] for is_score in (True, False)
    ]  # fmt: skip
    is_score = any(map(len, by_kind[0]))
    measured = [changes for changes in by_kind[0 if is_score else 1] if len(changes)]
    if not others or sum(map(len, measured)) < 2:
        return [None] * len(others)
    parts = mean_parts(measured) * (-1 if is_score else 1)
    tail = ALPHA / (len(others) * (len(others) + 1) / 2)
    # About zero and not about their mean: of scores of 0 and 1 the spread is small where the mean lies far off by luck.
    spread = np.sqrt((parts**2).sum(axis=0) / (len(parts) - 1) / len(parts))
    means, halves = parts.mean(axis=0), spread * student_quantile(len(parts) - 1, tail)
    if is_score:
        # Where no record differs nothing is spread: Wilson's bound of none holds those that would.
        halves = np.where(spread > 0, halves, wilson(0, len(parts)).high)
    bound = 1.0 if is_score else np.inf
    lows, highs = np.maximum(-bound, means - halves), np.minimum(bound, means + halves)
    ends = zip(means.tolist(), lows.tolist(), highs.tolist(), strict=True)
    return [Estimate(value=value, low=low, high=high) for value, low, high in ends]
