"""What a doubling of the training records brought, from runs on shares of them: a slope on log2 of their number.

The shares were measured on the same records, so the slope is a contrast of the two-way model, whose interval counts
records and seeds, and holds for all categories together (Bonferroni). It tells what was seen, and no law beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from train.evaluate.predictions import Scored
from train.report import stats, wording
from train.report.results import BITS_MARGIN, estimate
from train.report.tables import Estimate, ReportTable
from train.report.two_way import Parts, TwoWay, fit_two_way, mean_if_known, mean_parts, measure
from train.report.wording import format_interval, format_number

READ_ALL = 0.99
"""How often the steps read the records at the least where a curve is to say something; a last step may be a part."""


class ShareResult(NamedTuple):
    """The runs on one share: how many records of each category they trained on, and what each seed scored."""

    share: float
    sizes: dict[str, int]
    sides: Sequence[Sequence[Scored]]


def fit_doubling(sizes: Sequence[float], parts: stats.Floats) -> TwoWay:
    """Return what a doubling of ``sizes`` brought by the slope of ``parts``, [clusters, points x seeds]."""
    x = np.log2(sizes) - np.log2(sizes).mean()
    slope = fit_two_way(parts, (x / (x @ x)).tolist())
    if slope.of_records <= 1e-24:
        # All records moved alike, so nothing is spread: Wilson's bound of none holds those that would not.
        slope = slope._replace(of_records=(stats.wilson(0, len(parts)).high / 2) ** 2)
    return slope


def word_of(slope: Estimate, margin: float) -> str:
    """Return what a slope says: "flat" where its interval lies within ``margin`` of 0."""
    if -margin < slope.low and slope.high < margin:
        return "~ flat"
    return "+ better" if slope.low > 0 else "- worse" if slope.high < 0 else "? cannot tell"


def learning_curve(
    base: Sequence[Scored], results: Sequence[ShareResult], seeds: Sequence[int], *,
    split: Literal["validation", "test"], margin: float, passes: float = 1.0,
) -> ReportTable:  # fmt: skip
    """Return the table of scores on each share and of their slope, by category and for their mean.

    ``results`` are in order of the share. ``passes`` is how often the runs on all records read them: below 1 the
    largest shares are not what was trained on, and nothing is concluded.
    """
    measured = measure([base, *(side for result in results for side in result.sides)], split)
    curves = {wording.format_category(each.category): each for each in measured if not each.unscored}
    scored = [each for each in measured if each.scores.names]
    sizes = {name: [result.sizes.get(each.category, 0) for result in results] for name, each in curves.items()}
    if len(scored) > 1 and len(curves) == len(measured):
        mean = Parts(mean_parts([each.scores for each in scored]), ())
        trivial = mean_if_known([each.trivial for each in scored])
        curves["MEAN"] = scored[0]._replace(scores=mean, trivial=trivial)
        sizes["MEAN"] = [sum(result.sizes.values()) for result in results]
    rows = list[list[str]]()
    for name, each in curves.items():
        is_score, num = len(each.scores.values) > 0, sizes[name]
        parts = each.scores.values if is_score else each.bits.values
        if not len(parts):
            continue
        values, doubling_text = [float(side.mean()) for side in np.split(parts[:, 1:], len(results), axis=1)], ""
        if len(parts) < stats.MIN_CLUSTERS:
            word = f"? {len(parts)} of {stats.MIN_CLUSTERS} independent records"
        elif passes <= READ_ALL:
            word = f"? the steps are {math.floor(100 * passes)} % of an epoch"
        elif min(num) < 1 or min(num) == max(num):
            word = "? the shares have the same records" if min(num) else "? no training record"
        else:
            # Of bits per byte fewer are better.
            fit = fit_doubling(num, parts[:, 1:] if is_score else -parts[:, 1:])
            slope = estimate(fit.mean, fit.interval(stats.ALPHA / len(curves)))
            word = word_of(slope, margin if is_score else BITS_MARGIN * values[-1])
            span = format_interval(slope, is_share=is_score, sign=True)
            doubling_text = f"{format_number(fit.mean, is_share=is_score, sign=True)} ({span})"
            if is_score and each.trivial is not None and values[-1] <= each.trivial + 1e-9:
                word += f", no better than the trivial answer ({format_number(each.trivial)})"
        scores = [format_number(value, is_share=is_score) for value in (float(parts[:, 0].mean()), *values)]
        spans = [_span(side, is_score=is_score) for side in np.split(parts[:, 1:], len(results), axis=1)]
        rows.append([name if is_score else f"{name} (bits)", str(num[-1]), *scores, doubling_text, word, *spans])
    shares = [f"{100 * result.share:g} %" for result in results]
    spans = [f"95 % of {share}" for share in shares]
    warning = " One seed was trained, so the intervals lack what another seed would change." if len(seeds) == 1 else ""
    return ReportTable(
        part="learning curve", title=f"Learning curve: {split} scores by share of the training records, under the same "
        "number of steps", rows=rows, heads=["category", "trained", "base", *shares, "doubling", "verdict", *spans],
        left=["doubling", "verdict"], files_only=spans, has_total="MEAN" in curves,
        sentences=[
            "A doubling is what twice the records brought so far, better being positive; its intervals hold for all "
            f"rows together. Flat: within eval.margin of 0 (of bits, within 1 %).{warning}",
            *(each.unscored.sentence for each in measured if each.unscored),
        ],
    )  # fmt: skip


def _span(parts: stats.Floats, *, is_score: bool) -> str:
    """Return the interval of the mean of ``parts``, [clusters, seeds], as it is read."""
    if len(parts) < 2:
        return ""
    fit = fit_two_way(parts)
    interval = estimate(fit.mean, fit.interval())
    if is_score:
        means = parts.mean(axis=1).tolist()
        of_records = estimate(fit.mean, stats.mean_interval(means, [str(n) for n in range(len(means))]))
        interval = fit.widened(of_records, 0.0, 1.0)
    return format_interval(interval, is_share=is_score)
