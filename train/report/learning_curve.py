"""What more records would bring: a power law through the scores of runs on shares of the training records.

score = a - b n^-c, the form of Hestness et al. 2017, arXiv:1712.00409, with the exponent on a bounded grid, nearly from
log n on: three or four points do not say it well, and what they leave open belongs into the interval. More records may
do harm, and then b is below zero. The interval is by bootstrap: clusters of records are drawn, the same ones for all
points, which were measured on the same records; and each point is moved as training seeds move it, with a variance that
is drawn too, since a few seeds hardly tell it. Several exponents fit so few points alike, and the interval reaches over
all of these. Whether more records did good or harm so far the slope on log n says, by the two-way model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from train.evaluate.predictions import Scored
from train.report import stats, wording
from train.report.model import Estimate
from train.report.results import BITS, BITS_MARGIN, estimate
from train.report.stats import Floats
from train.report.training_parts import CategoryCurve, CurvePoint, LearningCurve
from train.report.two_way import TwoWay, fit_contrast, fit_two_way, mean_if_known, mean_parts, measure

EXPONENTS = np.geomspace(0.05, 2.0, 24)
DRAWS = 2000
READ_ALL = 0.99
"""How often the steps read the records at the least where a curve is to say something; a last step may be a part."""
_BEYOND = 2.0
_GAIN = 0.03
"""The p value below which a trend is a gain: with few seeds it calls at most 2 % of flat curves one."""


class Law(NamedTuple):
    """score = level - fall (n / largest)^-exponent, [fits] of each."""

    level: Floats
    fall: Floats
    exponent: Floats

    def at(self, size: float) -> Floats:
        """Return the score at ``size`` times the largest number of records."""
        return self.level - self.fall * size**-self.exponent


class ShareResult(NamedTuple):
    """The runs on one share: how many records of each category they trained on, and what each seed scored."""

    share: float
    sizes: dict[str, int]
    sides: Sequence[Sequence[Scored]]


def fit_laws(
    sizes: Sequence[float], scores: Floats, weights: Floats, most: float, noise: float
) -> tuple[Law, Floats, Floats]:  # fmt: skip
    """Return the best law for each of ``scores``, [fits, points], and the least and the most that doubling brings by
    those that fit as well: by at most ``noise``, the variance of a point, more of squares. None exceeds ``most`` there.

    They are fitted by least squares to points at ``sizes``, weighted by ``weights``.
    """
    ahead = _BEYOND**-EXPONENTS
    x = (np.asarray(sizes, dtype=np.float64) / max(sizes))[:, None] ** -EXPONENTS - ahead
    share = weights / weights.sum()
    mean_x, mean_y = share @ x, scores @ share
    # [fits, exponents]: the line of y on -x, which meets x = 0 at twice the records, not above what there is.
    fall = -((scores - mean_y[:, None]) * share) @ (x - mean_x) / (share @ (x - mean_x) ** 2)
    end = mean_y[:, None] + fall * mean_x
    through = ((most - scores) * share) @ x / (share @ x**2)
    fall, end = np.where(end > most, through, fall), np.minimum(end, most)
    rest = scores[:, :, None] - (end[:, None, :] - fall[:, None, :] * x[None])
    squares = np.einsum("fpe,p->fe", rest**2, share)
    is_near = len(sizes) * (squares - squares.min(axis=1, keepdims=True)) <= noise
    rows, index = np.arange(len(scores)), squares.argmin(axis=1)
    best = Law((end + fall * ahead)[rows, index], fall[rows, index], EXPONENTS[index])
    gains = fall * (1 - ahead)
    return best, np.where(is_near, gains, np.inf).min(axis=1), np.where(is_near, gains, -np.inf).max(axis=1)


def law_and_gain(
    sizes: Sequence[float], parts: Floats, *, most: float, seed: Sequence[int], draws: int = DRAWS
) -> tuple[Law, Estimate, TwoWay]:
    """Return the law through the points, what twice the largest size is expected to bring, with its interval, and what
    a doubling brought so far: the slope on the logarithm of the size.

    ``parts`` are [clusters, points, seeds] with means that are the scores. With one seed the interval lacks what seeds
    add.
    """
    num, points, seeds = parts.shape
    by_cluster = parts.mean(axis=2)
    scores = by_cluster.mean(axis=0)
    between = float(parts.mean(axis=0).var(axis=1, ddof=1).mean()) if seeds > 1 else 0.0
    # What moves all points alike moves the level of the law, and tells nothing of its form.
    contrasts = by_cluster - by_cluster.mean(axis=1, keepdims=True)
    noise = float((contrasts.var(axis=0, ddof=1) / num).sum()) / (points - 1) + between / seeds
    variances = by_cluster.var(axis=0, ddof=1) / num + between / seeds
    weights = 1 / np.maximum(variances, variances.max() / 100 if variances.max() > 0 else 1.0)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num, np.full(num, 1 / num), size=draws) @ by_cluster / num
    if seeds > 1:
        # The variance of what two seeds say of each of three points has three degrees of freedom.
        freedom = points * (seeds - 1)
        scale = np.sqrt(between / seeds * freedom / rng.chisquare(freedom, size=(draws, 1)))
        drawn = drawn + scale * rng.standard_normal((draws, points))
    best, _, _ = fit_laws(sizes, scores[None], weights, most, noise)
    _, least, greatest = fit_laws(sizes, drawn, weights, most, noise)
    value = float((best.at(_BEYOND) - best.at(1.0))[0])
    low, high = float(np.quantile(least, 0.025)), float(np.quantile(greatest, 0.975))
    x = np.log2(sizes) - np.log2(sizes).mean()
    trend = fit_contrast(parts, x / (x @ x))
    if np.ptp(contrasts, axis=0).max() <= 1e-12:
        # All records moved alike, so that draws show no spread: Wilson's bound of none holds those that would not.
        others = stats.wilson(0, num).high * (most or float(np.abs(scores).max()))
        low, high, trend = low - others, high + others, trend._replace(of_records=others**2)
    return best, Estimate(value=value, low=min(low, value), high=max(high, value)), trend


def learning_curve(
    base: Sequence[Scored], results: Sequence[ShareResult], seeds: Sequence[int], *,
    split: Literal["validation", "test"], margin: float, fewest: int, passes: float = 1.0,
) -> LearningCurve:  # fmt: skip
    """Return the curve of each category, and of their mean, on ``split``; ``results`` are in order of the share.

    ``passes`` is how often the runs on all records read them. Below 1 the largest shares are not what was trained on,
    and nothing is concluded.
    """
    unread = "" if passes > READ_ALL else f"the steps are {math.floor(100 * passes)} % of an epoch"
    found = measure([base, *(side for result in results for side in result.sides)], split)
    unscored = [each.unscored.sentence for each in found if each.unscored]
    scored = [each for each in found if each.scores.names]
    curves: list[tuple[CategoryCurve, float, float | None]] = []
    for each in found:
        is_score = bool(each.scores.names)
        # Bits per byte, of which fewer are better: the law is that of their negative.
        parts = each.scores.values if is_score else -each.bits.values
        if each.unscored or not len(parts):
            continue
        sizes = [result.sizes.get(each.category, 0) for result in results]
        curve = _curve(each.category, each.metric or BITS, sizes, parts, results, fewest, unread, is_score=is_score)
        curves.append((*curve, each.trivial))
    # Of many categories one looks like a gain by chance alone; the mean is none of them.
    adjusted = stats.holm([p for _, p, _ in curves])
    concluded = [_with_verdict(curve, p, own, margin) for (curve, _, own), p in zip(curves, adjusted, strict=True)]
    if len(scored) > 1 and not unscored:
        sizes = [sum(result.sizes.values()) for result in results]
        parts = mean_parts([each.scores for each in scored])
        mean = _curve("", "", sizes, parts, results, fewest, unread, is_score=True)
        trivial = mean_if_known([each.trivial for each in scored])
        concluded.append(_with_verdict(*mean, trivial, margin))
    sentence = "; ".join(curve.sentence for curve in concluded)
    if unread and all(curve.sentence.endswith(unread) for curve in concluded):
        sentence = f"nothing is said of twice the records, as {unread}"
    note = "" if len(seeds) > 1 else " One seed was trained, so the intervals lack what another seed would change."
    return LearningCurve(
        split=split, seeds=list(seeds), shares=[result.share for result in results], categories=concluded,
        sentence=" ".join([f"{sentence}.{note}", *unscored]),
    )  # fmt: skip


def _curve(
    category: str, metric: str, sizes: Sequence[int], parts: Floats, results: Sequence[ShareResult], fewest: int,
    unread: str, *, is_score: bool,
) -> tuple[CategoryCurve, float]:  # fmt: skip
    """Return a curve whose word is not chosen yet, and the p value of no trend.

    ``parts``, [clusters, 1 + shares x seeds], begin with those of the base.
    """
    num, before = len(parts), abs(float(parts[:, 0].mean()))
    parts, points = parts[:, 1:].reshape(num, len(results), -1), []
    for index, result in enumerate(results):
        by_seed = parts[:, index].mean(axis=0)
        score = _point(parts[:, index], is_score=is_score)
        points.append(
            CurvePoint(share=result.share, num_records=sizes[index], score=score, by_seed=np.abs(by_seed).tolist())
        )
    curve = CategoryCurve(
        category=category, metric=metric, higher_is_better=is_score, num_clusters=num, base=before, points=points,
        word="unclear", sentence="",
    )  # fmt: skip
    reason = (
        f"{num} of {fewest} independent records" if num < fewest
        else "no training record" if min(sizes) < 1
        else "the shares have the same records" if min(sizes) == max(sizes) else unread
    )  # fmt: skip
    if reason:
        return curve.model_copy(update={"sentence": f"{_name(curve)}: cannot tell, {reason}"}), 1.0
    seed = stats.seed_of("learning curve", category)
    law, gain, trend = law_and_gain(sizes, parts, most=1.0 if is_score else 0.0, seed=seed)
    sign = 1.0 if is_score else -1.0
    return curve.model_copy(update={
        "level": sign * float(law.level[0]), "fall": sign * float(law.fall[0]), "exponent": float(law.exponent[0]),
        "gain": gain, "trend": estimate(trend.mean, trend.interval()),
    }), trend.p()  # fmt: skip


def _name(curve: CategoryCurve) -> str:
    return wording.category(curve.category) if curve.metric else "the mean"


def _with_verdict(curve: CategoryCurve, p: float, trivial: float | None, margin: float) -> CategoryCurve:
    """Return ``curve`` with its word and sentence; ``p`` is adjusted for the other categories."""
    if curve.gain is None or curve.trend is None:
        return curve
    loss = margin if curve.higher_is_better else BITS_MARGIN * abs(curve.points[-1].score.value)
    word, text = words(curve.gain, curve.trend, p, loss, is_score=curve.higher_is_better)
    if trivial is not None and curve.points[-1].score.value <= trivial + 1e-9:
        text += f", and no better than the trivial answer ({wording.number(trivial)})"
    return curve.model_copy(update={"word": word, "sentence": f"{_name(curve)}: {text}"})


def _point(parts: Floats, *, is_score: bool) -> Estimate:
    clusters = [str(n) for n in range(len(parts))]
    means = parts.mean(axis=1)
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


def words(
    gain: Estimate, trend: Estimate, p: float, margin: float, *, is_score: bool
) -> tuple[Literal["gain", "flat", "falls", "unclear"], str]:  # fmt: skip
    """Return the word for a curve, and what is said; ``p`` of its trend is adjusted for the other curves."""
    unit = "" if is_score else " bits per byte"
    if -margin < gain.low and gain.high < margin:
        return "flat", "flat, if the trend holds"
    if trend.value < 0 and p < stats.ALPHA:
        value, low, high = (wording.number(-end) for end in (trend.value, trend.high, trend.low))
        return "falls", f"more of these records made it worse, by {value}{unit} a doubling ({low} to {high})"
    unit += "" if is_score else " less"
    if gain.low > 0 and p < _GAIN:
        value, span = wording.number(gain.value, sign=is_score), wording.spread(gain, sign=is_score)
        return "gain", f"if the trend holds, doubling is expected to bring {value}{unit} ({span})"
    return "unclear", f"cannot tell, doubling may bring {wording.spread(gain, sign=True)}{unit} if the trend holds"
