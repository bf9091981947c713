"""Whether an LLM judge may be trusted: its verdicts beside those of people on the same answers.

And what both together say of the win rate: people are right and few, the judge is biased and has seen all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import NormalDist

import numpy as np

from train.base.errors import TrainError
from train.base.file_guard import open_file
from train.evaluate.predictions import Scored
from train.report import stats, wording
from train.report.model import Calibration, Estimate, JudgeSummary
from train.report.results import JUDGE, Pairs, estimate
from train.report.stats import Interval, seed_of
from train.report.winrate import HALF, HUMAN, HumanVerdict, bias, points_by_record, prefers_longer, read_verdicts

METRIC, FIRST = JUDGE, f"{JUDGE}.first"
"""The scores in which predictions.jsonl has the judge's verdict, and how often the first place won in both orders."""
FEWEST_HUMAN = 50
"""Independent records that people have judged, below which a debiased estimate does not cover what it says."""
_WORDS = (0.0, HALF, 1.0)


@dataclass(frozen=True, slots=True)
class _RatedRecord:
    """A validation record that the judge has a verdict on, and people too where ``human`` is not None.

    Both say what the tuned answer gets: 1, 0 or half.
    """

    category: str
    cluster: str
    judge: float
    first: float | None
    human: float | None
    lengths: tuple[int, int]


def read_human(folder: Path) -> list[HumanVerdict]:
    """Return what people said of the base and the tuned model of the run in ``folder``; nothing without human.jsonl.

    Raises TrainError: E998 bad-verdict.
    """
    path = folder / HUMAN
    if not path.exists():
        return []
    try:
        with open_file(path) as lines:
            return read_verdicts(lines, str(path))
    except OSError as error:
        raise TrainError("E998 bad-verdict", f"{path}: {error}", "Have `curate compare --blind` write it.") from error


def calibrated(summary: JudgeSummary, pairs: Pairs, verdicts: Sequence[HumanVerdict]) -> JudgeSummary:
    """Return ``summary`` with how far the judge agrees with people, on the whole and by category.

    ``pairs`` are base and tuned; only validation records count, and only verdicts on the texts that stand there now.
    The others are counted.
    """
    texts = {before.id: _digests(before, after) for before, after in pairs if before.split == "validation"}
    current = [v for v in verdicts if texts.get(v.id) == v.texts and v.between[0] == f"{v.between[1]}:base"]
    points = points_by_record(current)
    records = [
        _RatedRecord(
            before.category, before.cluster, after.scores[METRIC], after.scores.get(FIRST),
            points[before.id][1] if before.id in points else None, (len(before.text or ""), len(after.text or "")),
        )
        for before, after in pairs
        # Two equal answers are a tie without a judge: they would make any of them look good.
        if before.split == "validation" and after.scores and METRIC in after.scores and before.text != after.text
    ]  # fmt: skip
    names = sorted({record.category for record in records})
    overall = _calibration("", records, summary)
    parts = [_calibration(name, [r for r in records if r.category == name], summary) for name in names]
    is_calibrated = (
        overall.n >= summary.min_human and overall.kappa is not None and overall.kappa.value >= summary.min_kappa
    )
    return summary.model_copy(
        update={
            "is_calibrated": is_calibrated,
            "calibration": overall,
            "by_category": parts if len(parts) > 1 else [],
            "num_outdated": len(verdicts) - len(current),
            "remarks": list(_remarks(overall, summary, len(verdicts) - len(current), is_calibrated=is_calibrated)),
        }
    )


def _remarks(
    calibration: Calibration, summary: JudgeSummary, num_outdated: int, *, is_calibrated: bool
) -> Iterator[str]:
    """Yield what stands beside the judge's figures, first whether they are to be trusted, and why."""
    if is_calibrated:
        why = f"people have judged {calibration.n} of the same pairs"
    elif calibration.n < summary.min_human:
        why = f"people have judged {calibration.n} of the same pairs, and it takes {summary.min_human}"
    elif calibration.kappa is None:
        why = "kappa with people is not defined, as one of them says the same of all"
    else:
        why = f"kappa with people is {wording.number(calibration.kappa.value)}, and it takes {summary.min_kappa:g}"
    yield f"{'Calibrated' if is_calibrated else 'Uncalibrated'} judge: {why}."
    if num_outdated:
        yield f"{num_outdated} verdicts of people are on other answers than those of this run; they do not count."
    if calibration.agreement is None:
        return
    same, kappa_ = calibration.agreement, calibration.kappa
    number, spread, percent = wording.number, wording.spread, wording.percent
    agreed = "" if kappa_ is None else f"; kappa {number(kappa_.value)}, 95 % {spread(kappa_)}"
    yield (
        f"Judge and people say the same of {percent(same.value)} of {calibration.n} pairs (95 % {percent(same.low)} to "
        f"{percent(same.high)}; {percent(calibration.base_rate or 0.0)} by always saying what people say most{agreed})."
    )
    yield f"Judge, order. {calibration.order.sentence}"
    yield f"Judge, length. {calibration.length.sentence}"
    yield f"People, length. {calibration.human_length.sentence}"
    rate = calibration.debiased
    if rate is None:
        yield f"No debiased win rate: {calibration.why_not}."
    else:
        yield (
            f"Tuned wins {percent(rate.value)} (95 % {percent(rate.low)} to {percent(rate.high)}), as people would say "
            f"of all {calibration.num_judge} pairs; the judge alone says {percent(calibration.judge_rate or 0.0)}."
        )


def _calibration(category: str, records: Sequence[_RatedRecord], summary: JudgeSummary) -> Calibration:
    both = [record for record in records if record.human is not None]
    people = [_word(record.human) for record in both]
    words = [_word(record.judge) for record in both]
    clusters = [record.cluster for record in both]
    same = [float(ours == theirs) for ours, theirs in zip(people, words, strict=True)]
    agreement = None
    if both:
        interval = stats.mean_interval(same, clusters)
        agreement = estimate(sum(same) / len(same), interval)
    debiased, why = None, ""
    try:
        debiased = estimate(*debiased_mean(
            [(r.cluster, r.human, r.judge) for r in both if r.human is not None],
            [(r.cluster, r.judge) for r in records if r.human is None],
        ))  # fmt: skip
    except ValueError as error:
        why = str(error)
    return Calibration(
        category=category,
        n=len(both),
        num_clusters=len(set(clusters)),
        num_judge=len(records),
        agreement=agreement,
        base_rate=max(map(people.count, _WORDS)) / len(people) if people else None,
        kappa=kappa(people, words, clusters, seed=seed_of(category, "kappa")),
        order=bias("first placed", [(r.cluster, r.first) for r in records if r.first != HALF]),
        length=bias("longer", [(r.cluster, prefers_longer(r.judge, r.lengths)) for r in records]),
        human_length=bias("longer", [(r.cluster, prefers_longer(r.human or 0.0, r.lengths)) for r in both]),
        judge_rate=sum(r.judge for r in records) / len(records) if records else None,
        human_rate=sum(r.human or 0.0 for r in both) / len(both) if both else None,
        debiased=debiased,
        why_not=why,
    )


def _word(points: float | None) -> float:
    """Return which answer is preferred: several people's points come to one of three words."""
    return HALF if points is None or points == HALF else float(points > HALF)


def kappa(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], *, seed: Sequence[int]
) -> Estimate | None:
    """Return Cohen's kappa of two raters who sort the same records into three words; None where it is not defined.

    The interval is that of the percentiles of a bootstrap over clusters. Cohen 1960, Educational and Psychological
    Measurement 20:37.
    """
    if not first:
        return None
    pairs = list(zip(first, second, strict=True))
    columns = [[float(pair == (a, b)) for pair in pairs] for a in _WORDS for b in _WORDS]
    value = float(_kappas(stats.sums_by_cluster(clusters, *columns).sum(axis=0)[None])[0])
    if math.isnan(value):
        return None
    drawn = _kappas(stats.bootstrap_sums(columns, clusters, seed=seed))
    # A draw in which all say the same tells nothing.
    drawn = drawn[~np.isnan(drawn)]
    low, high = (float(end) for end in np.quantile(drawn, (0.025, 0.975)))
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _kappas(tables: stats.Floats) -> stats.Floats:
    """Return kappa of each table of counts, [draws, 9]; NaN where chance alone agrees on everything."""
    shares = (tables / tables.sum(axis=1, keepdims=True)).reshape(-1, len(_WORDS), len(_WORDS))
    agreed = np.trace(shares, axis1=1, axis2=2)
    chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance > 1 - 1e-12, np.nan, (agreed - chance) / (1 - chance))


def debiased_mean(
    labelled: Sequence[tuple[str, float, float]], unlabelled: Sequence[tuple[str, float]]
) -> tuple[float, Interval]:
    """Return the mean of what people would say of all records, and its 95 % interval, all values in [0, 1].

    ``labelled`` are clusters of repeats with what people say and what the judge says, ``unlabelled`` those with the
    judge's word alone. The judge's mean over the others is corrected by its error where people have judged, weighted by
    what the judge is worth: prediction-powered inference with power tuning, Angelopoulos et al. 2023, arXiv:2301.09633
    and arXiv:2311.01453. The variance is that of a jackknife over clusters, the weight found anew each time, and half
    an error more than was seen; the interval is Wilson's on the effective size, which stays in [0, 1].

    Raises ValueError where the interval would claim too much: fewer than `FEWEST_HUMAN` clusters with verdicts of
    people, or people who say the same of all. It takes for granted that chance decided who judges what.
    """
    num = len({cluster for cluster, _, _ in labelled})
    if num < FEWEST_HUMAN:
        raise ValueError(f"people have judged {num} independent records, and it takes {FEWEST_HUMAN}")
    if len({human for _, human, _ in labelled}) == 1:
        raise ValueError("people say the same of all")
    columns = [(c, 1.0, y, f, y * f, f * f, 0.0, 0.0, 0.0) for c, y, f in labelled]
    columns += [(c, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, f, f * f) for c, f in unlabelled]
    clusters, *rest = zip(*columns, strict=True)
    sums = stats.sums_by_cluster(clusters, *rest)
    total = sums.sum(axis=0)
    values, weights = _power_tuned(total[None])
    value, weight = float(values[0]), float(weights[0])
    # A cluster that holds all that people have judged leaves nothing behind.
    without, _ = _power_tuned(total - sums)
    size = len(sums)
    variance = float(((without - value) ** 2).sum()) * (size - 1) / size + 0.5 * weight**2 / num**2
    value = min(1.0, max(0.0, value))
    inside = min(1 - 1e-6, max(1e-6, value))
    effective = inside * (1 - inside) / variance
    # As many standard errors as Student's t has, written as the confidence at which the normal has them.
    confidence = 2 * NormalDist().cdf(stats.student_quantile(num - 2)) - 1
    low, high = stats.wilson(inside * effective, effective, confidence)
    return value, Interval(min(low, value), max(high, value))


def _power_tuned(sums: stats.Floats) -> tuple[stats.Floats, stats.Floats]:
    """Return the estimate and the weight of the judge for each row of ``sums``, [rows, 8].

    Those are, over the labelled records, n, y, f, y f and f^2, and over the others n, f and f^2.
    """
    n, y, f, yf, ff, rest, f_rest, ff_rest = np.moveaxis(sums, -1, 0)
    covariance = (yf / n - y * f / n**2) * n / (n - 1)
    every = n + rest
    spread = ((ff + ff_rest) / every - ((f + f_rest) / every) ** 2) * every / (every - 1)
    others = np.maximum(rest, 1.0)
    is_useful = (spread > 1e-12) & (rest > 0)
    weight = np.where(is_useful, covariance / ((1 + n / others) * np.where(is_useful, spread, 1.0)), 0.0).clip(0.0, 1.0)
    return y / n + weight * (f_rest / others - f / n), weight


def _digests(before: Scored, after: Scored) -> list[str]:
    texts = (record.text or "" for record in (before, after))
    return [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for text in texts]
