"""Agreement for programs, as `schemas/agreement.schema.json` says."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.record import Json
from curate.sessions.agreement.figures import Chance, Figure
from curate.sessions.agreement.measure import Agreement
from curate.sessions.agreement.rates import CONFIDENCE
from curate.sessions.agreement.visibility import QuestionAgreement

_DIGITS = 6


def document(questions: Sequence[QuestionAgreement], chance: Chance, least: float | None = None) -> dict[str, Json]:
    """Return all that was measured as one JSON object; ``least`` is the alpha that every question should reach."""
    return {
        "version": 1,
        "seed": chance.seed,
        "resamples": chance.resamples,
        "confidence": CONFIDENCE,
        "min": least,
        "is_reached": None if least is None else is_reached([question.agreement for question in questions], least),
        "questions": [_question(question) for question in questions],
    }


def is_reached(measured: Sequence[Agreement], least: float) -> bool:
    """Whether there is an alpha of each question, and of one at least, and none is below ``least``."""
    alphas = [agreement.alpha.value for agreement in measured]
    return bool(alphas) and all(alpha is not None and alpha >= least for alpha in alphas)


def _question(question: QuestionAgreement) -> dict[str, Json]:
    agreement, name = question.agreement, question.name_of
    return {
        "question": question.question,
        "are_values_hidden": question.are_values_hidden,
        "num_records": agreement.num_records,
        "num_answers": agreement.num_answers,
        "num_shared": agreement.num_shared,
        "num_pairs": agreement.num_pairs,
        "num_gold": agreement.num_gold,
        "percent": _figure(agreement.percent),
        "alpha": _figure(agreement.alpha),
        "fleiss": {**_figure(agreement.fleiss), "answers_per_record": agreement.fleiss_answers},
        "pairs": [
            {"left": row.left, "right": row.right, "percent": _figure(row.percent), "kappa": _figure(row.kappa)}
            for row in agreement.pairs
        ],
        "num_apart": agreement.num_apart,
        "confusions": [
            {"left": name(row.left), "right": name(row.right), "num_pairs": row.num_pairs}
            | ({"records": list(row.records)} if question.answers is not None else {})
            for row in agreement.confusions
        ],
        "disagreements": [
            {"id": record} | ({"answers": dict(question.answers[record])} if question.answers is not None else {})
            for record in agreement.disagreements
        ],
        "classes": [
            {
                "value": name(row.value), "num_answers": row.num_answers,
                "specific": _figure(row.specific), "alpha": _figure(row.alpha),
            }
            for row in agreement.classes
        ],
        "num_more_classes": agreement.num_more_classes,
        "annotators": [
            {
                "name": row.name, "num_answers": row.num_answers, "num_shared": row.num_shared,
                "percent": _figure(row.percent), "kappa": _figure(row.kappa),
                "alpha_without": _rounded(row.alpha_without), "gold": _figure(row.gold),
            }
            for row in agreement.annotators
        ],
        "times": [
            {
                "first": row.first, "last": row.last, "num_records": row.num_records, "num_answers": row.num_answers,
                "percent": _figure(row.percent), "alpha": _figure(row.alpha),
            }
            for row in agreement.times
        ],
        "num_untimed": agreement.num_untimed,
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
