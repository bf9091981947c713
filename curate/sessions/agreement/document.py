"""Agreement for programs, as `schemas/agreement.schema.json` says."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.record import Json
from curate.sessions.agreement.figures import Chance, Figure
from curate.sessions.agreement.measure import Agreement
from curate.sessions.agreement.rates import CONFIDENCE
from curate.sessions.agreement.shown import Shown

_DIGITS = 6


def document(questions: Sequence[Shown], chance: Chance, least: float | None = None) -> dict[str, Json]:
    """Return all that was measured as one JSON object; ``least`` is the alpha that every question should reach."""
    return {
        "version": 1,
        "seed": chance.seed,
        "resamples": chance.resamples,
        "confidence": CONFIDENCE,
        "min": least,
        "is_reached": None if least is None else is_reached([one.agreement for one in questions], least),
        "questions": [_question(one) for one in questions],
    }


def is_reached(measured: Sequence[Agreement], least: float) -> bool:
    """Whether there is an alpha of each question, and of one at least, and none is below ``least``."""
    alphas = [one.alpha.value for one in measured]
    return bool(alphas) and all(alpha is not None and alpha >= least for alpha in alphas)


def _question(shown: Shown) -> dict[str, Json]:
    found, name = shown.agreement, shown.name_of
    return {
        "question": shown.question,
        "are_values_hidden": shown.are_values_hidden,
        "num_records": found.num_records,
        "num_answers": found.num_answers,
        "num_shared": found.num_shared,
        "num_pairs": found.num_pairs,
        "num_gold": found.num_gold,
        "percent": _figure(found.percent),
        "alpha": _figure(found.alpha),
        "fleiss": {**_figure(found.fleiss), "answers_per_record": found.fleiss_answers},
        "pairs": [
            {"left": one.left, "right": one.right, "percent": _figure(one.percent), "kappa": _figure(one.kappa)}
            for one in found.pairs
        ],
        "num_apart": found.num_apart,
        "confusions": [
            {"left": name(one.left), "right": name(one.right), "num_pairs": one.num_pairs}
            | ({"records": list(one.records)} if shown.answers is not None else {})
            for one in found.confusions
        ],
        "disagreements": [
            {"id": record} | ({"answers": dict(shown.answers[record])} if shown.answers is not None else {})
            for record in found.disagreements
        ],
        "classes": [
            {
                "value": name(one.value), "num_answers": one.num_answers,
                "specific": _figure(one.specific), "alpha": _figure(one.alpha),
            }
            for one in found.classes
        ],
        "num_more_classes": found.num_more_classes,
        "annotators": [
            {
                "name": one.name, "num_answers": one.num_answers, "num_shared": one.num_shared,
                "percent": _figure(one.percent), "kappa": _figure(one.kappa),
                "alpha_without": _rounded(one.alpha_without), "gold": _figure(one.gold),
            }
            for one in found.annotators
        ],
        "times": [
            {
                "first": one.first, "last": one.last, "num_records": one.num_records, "num_answers": one.num_answers,
                "percent": _figure(one.percent), "alpha": _figure(one.alpha),
            }
            for one in found.times
        ],
        "num_untimed": found.num_untimed,
    }  # fmt: skip


def _figure(figure: Figure) -> dict[str, Json]:
    return {
        "value": _rounded(figure.value),
        "low": _rounded(figure.low),
        "high": _rounded(figure.high),
        "num_records": figure.num_records,
        "reason": figure.reason,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
