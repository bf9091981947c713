"""What a doubling of the training records brought, from runs on shares of them: a slope on log2 of their number.

The shares were measured on the same records, so the slope is a contrast of the two-way model, whose interval counts
records and seeds. A curve rises where the slope does, beyond chance, and the last doubling does not deny it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from train.evaluate.predictions import Scored
from train.report import stats, wording
from train.report.results import BITS, BITS_MARGIN, estimate
from train.report.stats import Floats
from train.report.tables import Estimate, ReportTable
from train.report.training_parts import CategoryCurve, CurvePoint, CurveWord, LearningCurve
from train.report.two_way import TwoWay, fit_contrast, fit_two_way, mean_if_known, mean_parts, measure
from train.report.wording import number, spread

READ_ALL = 0.99
"""How often the steps read the records at the least where a curve is to say something; a last step may be a part."""
_GAIN = 0.03
"""The p value below which a trend is a gain: with few seeds it calls at most 2 % of flat curves one."""
_LEVELS_OFF = 0.2
"""The two-sided tail within which the last doubling must bring something, lest a curve that has levelled off rises."""


class ShareResult(NamedTuple):
    """The runs on one share: how many records of each category they trained on, and what each seed scored."""

    share: float
    sizes: dict[str, int]
    sides: Sequence[Sequence[Scored]]


def doublings(sizes: Sequence[float], parts: Floats) -> tuple[TwoWay, TwoWay]:
    """Return what a doubling of ``sizes`` brought in all, and the last one alone, of ``parts``, [clusters, points,
    seeds].
    """
    num, x = len(parts), np.log2(sizes)
    before = int(np.flatnonzero(x < x[-1])[-1])
    last = np.zeros(len(x))
    last[[before, -1]] = np.array([-1, 1]) / (x[-1] - x[before])
    centred = x - x.mean()
    trend, end = fit_contrast(parts, centred / (centred @ centred)), fit_contrast(parts, last)
    by_cluster = parts.mean(axis=2)
    if np.ptp(by_cluster - by_cluster.mean(axis=1, keepdims=True), axis=0).max() <= 1e-12:
        # All records moved alike, so nothing is spread: Wilson's bound of none holds those that would not.
        trend = trend._replace(of_records=(stats.wilson(0, num).high / 2) ** 2)
    return trend, end


def word_of(trend: TwoWay, last: TwoWay, p: float, margin: float) -> CurveWord:
    """Return what a curve is called; ``p`` of its trend is adjusted for the other curves."""
    low, high = trend.interval()
    if -margin < low and high < margin:
        return "flat"
    if trend.mean < 0 and p < stats.ALPHA:
        return "falls"
    return "gain" if trend.mean > 0 and p < _GAIN and last.mean > last.half(_LEVELS_OFF) else "unclear"


def learning_curve(
    base: Sequence[Scored], results: Sequence[ShareResult], seeds: Sequence[int], *,
    split: Literal["validation", "test"], margin: float, fewest: int, passes: float = 1.0,
) -> LearningCurve:  # fmt: skip
    """Return the curve of each category, and of their mean, on ``split``; ``results`` are in order of the share.

    ``passes`` is how often the runs on all records read them. Below 1 the largest shares are not what was trained on,
    and nothing is concluded.
    """
    measured = measure([base, *(side for result in results for side in result.sides)], split)
    unscored = [each.unscored.sentence for each in measured if each.unscored]
    scored = [each for each in measured if each.scores.names]
    curves = list[_Scores]()
    for each in measured:
        # Bits per byte, of which fewer are better, are told by their negative.
        parts = each.scores.values if each.scores.names else -each.bits.values
        if len(parts) and not each.unscored:
            sizes = [result.sizes.get(each.category, 0) for result in results]
            curves.append(_Scores(each.category, each.metric or BITS, sizes, parts, each.trivial))
    if len(scored) > 1 and not unscored:
        sizes = [sum(result.sizes.values()) for result in results]
        trivial = mean_if_known([each.trivial for each in scored])
        curves.append(_Scores("", "", sizes, mean_parts([each.scores for each in scored]), trivial))
    unread = "" if passes > READ_ALL else f"the steps are {math.floor(100 * passes)} % of an epoch"
    faults = [_fault(curve, fewest) or unread for curve in curves]
    fits = [
        None if fault else doublings(curve.sizes, _by_share(curve, len(results)))
        for curve, fault in zip(curves, faults, strict=True)
    ]
    # Of many categories one looks like a gain by chance alone; the mean is none of them.
    own = [fit[0].p() if fit else 1.0 for fit in fits]
    num = sum(bool(curve.category) for curve in curves)
    adjusted = [*stats.holm(own[:num]), *own[num:]]
    concluded = [
        _concluded(*each, results, margin) for each in zip(curves, faults, fits, adjusted, strict=True)
    ]  # fmt: skip
    sentence = "; ".join(curve.sentence for curve in concluded)
    if unread and all(fault == unread for fault in faults):
        sentence = f"nothing is said of more records, as {unread}"
    note = "" if len(seeds) > 1 else " One seed was trained, so the intervals lack what another seed would change."
    return LearningCurve(
        split=split, seeds=list(seeds), shares=[result.share for result in results], categories=concluded,
        sentence=" ".join([f"{sentence}.{note}", *unscored]),
    )  # fmt: skip


class _Scores(NamedTuple):
    category: str
    metric: str
    sizes: Sequence[int]
    parts: Floats
    """[clusters, 1 + shares x seeds], which begin with those of the base."""
    trivial: float | None


def _by_share(curve: _Scores, num: int) -> Floats:
    return curve.parts[:, 1:].reshape(len(curve.parts), num, -1)


def _fault(curve: _Scores, fewest: int) -> str:
    if len(curve.parts) < fewest:
        return f"{len(curve.parts)} of {fewest} independent records"
    if min(curve.sizes) < 1:
        return "no training record"
    return "the shares have the same records" if min(curve.sizes) == max(curve.sizes) else ""


def _concluded(
    curve: _Scores, fault: str, fit: tuple[TwoWay, TwoWay] | None, p: float, results: Sequence[ShareResult],
    margin: float,
) -> CategoryCurve:  # fmt: skip
    is_score, by_share = curve.metric != BITS, _by_share(curve, len(results))
    points = [
        CurvePoint(
            share=result.share, num_records=size, score=_point(by_share[:, index], is_score=is_score),
            by_seed=np.abs(by_share[:, index].mean(axis=0)).tolist(),
        )
        for index, (result, size) in enumerate(zip(results, curve.sizes, strict=True))
    ]  # fmt: skip
    word: CurveWord = "unclear"
    name, text, trend = wording.category(curve.category) if curve.metric else "the mean", f"cannot tell, {fault}", None
    if fit is not None:
        trend, score = estimate(fit[0].mean, fit[0].interval()), points[-1].score.value
        word = word_of(*fit, p, margin if is_score else BITS_MARGIN * score)
        unit = "" if is_score else " bits per byte less"
        brought = f"a doubling brought {number(trend.value, sign=True)}{unit} so far ({spread(trend, sign=True)})"
        text = {"gain": brought, "unclear": f"cannot tell, {brought}"}.get(word, f"{word}, {brought}")
        if curve.trivial is not None and score <= curve.trivial + 1e-9:
            text += f", and no better than the trivial answer ({number(curve.trivial)})"
    return CategoryCurve(
        category=curve.category, metric=curve.metric, higher_is_better=is_score, num_clusters=len(curve.parts),
        base=abs(float(curve.parts[:, 0].mean())), points=points, trend=trend, word=word, sentence=f"{name}: {text}",
    )  # fmt: skip


def _point(parts: Floats, *, is_score: bool) -> Estimate:
    clusters, means = [str(n) for n in range(len(parts))], parts.mean(axis=1)
    value = float(means.mean())
    low, high = (
        stats.mean_interval(means.tolist(), clusters) if is_score
        else stats.bootstrap(means.tolist(), [1.0] * len(parts), clusters, seed=[0])
    )  # fmt: skip
    if len(parts) > 1 and parts.shape[1] > 1:
        span = fit_two_way(parts).interval()
        low, high = min(low, span.low), max(high, span.high)
    if not is_score:
        value, low, high = -value, -high, -low
    return Estimate(value=value, low=max(0.0, low), high=min(1.0, high) if is_score else high)


def curve_table(curve: LearningCurve) -> ReportTable:
    """Return the scores on each share, and what a doubling brought."""
    rows = []
    for each in curve.categories:
        is_share = each.higher_is_better
        scores = [number(value, is_share=is_share) for value in (each.base, *(p.score.value for p in each.points))]
        trend = [] if each.trend is None else [each.trend]
        brought = [f"{number(slope.value, sign=True)} ({spread(slope, sign=True)})" for slope in trend] or [""]
        name = wording.category(each.category) if each.metric else "MEAN"
        rows.append([name, str(each.points[-1].num_records), *scores, *brought, _WORDS[each.word]])
    heads = ["category", "trained", "base", *(f"{100 * share:g} %" for share in curve.shares), "doubling", "verdict"]
    return ReportTable(
        part="learning curve", heads=heads, rows=rows, left=heads[-2:],
        title=f"Learning curve: {curve.split} scores by share of the training records, under the same number of steps",
        sentences=[curve.sentence[:1].upper() + curve.sentence[1:],
                   "Flat: the 95 % interval of a doubling lies within eval.margin of 0 (of bits, within 1 %)."],
    )  # fmt: skip


_WORDS = {"gain": "+ rises", "flat": "~ flat", "falls": "- falls", "unclear": "? cannot tell"}
