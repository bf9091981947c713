"""Agreement for the terminal and for programs, as `schemas/agreement.schema.json` says.

Values are shown where the settings name them, and others only when it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal

from curate.base.console import one_line
from curate.base.intervals import CONFIDENCE
from curate.base.record import Json
from curate.base.tables import counted, table
from curate.sessions.agreement import Answers, grade, key_of
from curate.sessions.agreement_figures import Chance, Figure
from curate.sessions.agreement_measure import Agreement

By = Literal["annotator", "class"]

_DIGITS = 6
_MOST_ROWS = 20
_MOST_IDS = 8
_NAME = 18
_MARKS = {"ok": "ok", "warn": "~", "error": "!", "": ""}
_SPAN = "95 % interval"


class QuestionAgreement:
    """One question with its agreement, and what of its values may be shown.

    A value that is no text is spelled as JSON. One that may not be shown is ``#1``, ``#2`` and so on; the more frequent
    have the lower numbers. ``answers`` are there when it may be told who answered what.
    """

    def __init__(
        self,
        question: str,
        agreement: Agreement,
        *,
        named: Collection[str] | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.question = question
        self.agreement = agreement
        self.answers = answers
        self._named = named
        hidden = [row.value for row in agreement.classes if not self._is_visible(row.value)]
        self._numbers: dict[Hashable, int] = {key_of(value): number for number, value in enumerate(hidden, start=1)}
        self.are_values_hidden = bool(hidden)

    def name_of(self, value: Json) -> str:
        """Return how ``value`` is called; it is data, and not yet safe for a terminal."""
        if self._is_visible(value):
            return _spelled(value)
        return f"#{self._numbers.setdefault(key_of(value), len(self._numbers) + 1)}"

    def _is_visible(self, value: Json) -> bool:
        if self.answers is not None or self._named is None:
            return True
        return all(_spelled(part) in self._named for part in (value if isinstance(value, list) else [value]))


def _spelled(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# For programs.


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
    # The fields of `Agreement` are those of the schema, but for what depends on what may be shown.
    agreement, name, answers = question.agreement, question.name_of, question.answers
    measured = _plain(agreement)
    measured["fleiss"]["answers_per_record"] = measured.pop("fleiss_answers")
    # Only figures are rounded: values are what people answered.
    for confusion, pair in zip(measured["confusions"], agreement.confusions, strict=True):
        confusion |= {"left": name(pair.left), "right": name(pair.right)}
        if answers is None:
            del confusion["records"]
    measured["disagreements"] = [
        {"id": record} | ({"answers": dict(answers[record])} if answers is not None else {})
        for record in agreement.disagreements
    ]
    for plain, row in zip(measured["classes"], agreement.classes, strict=True):
        plain["value"] = name(row.value)
    return {"question": question.question, "are_values_hidden": question.are_values_hidden, **measured}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return round(value, _DIGITS) if isinstance(value, float) else value


# For the terminal.


def render_text(question: QuestionAgreement, by: By | None = None) -> Iterator[str]:
    """Yield what was measured on one question: the whole, then pairs and confusions or the parts that ``by`` names."""
    agreement = question.agreement
    yield (
        f"{one_line(question.question, 20)}: {counted(agreement.num_answers, 'answer')} by "
        f"{counted(len(agreement.annotators), 'annotator')} to {counted(agreement.num_records, 'record')}"
    )
    shared, pairs = counted(agreement.num_shared, "record"), counted(agreement.num_pairs, "pair")
    yield f"  {shared} with two answers or more, {pairs} of answers"
    yield ""
    yield from _indented(_whole(agreement))
    if by == "annotator":
        yield from _annotators(agreement)
    elif by == "class":
        yield from _classes(question)
    else:
        yield from _pairs(agreement)
        yield from _confusions(question)


def _whole(agreement: Agreement) -> Iterator[str]:
    figures = {
        "percent agreement": agreement.percent,
        "Krippendorff's alpha" + (", ordinal" if agreement.is_ordinal else ""): agreement.alpha,
        "Fleiss' kappa": agreement.fleiss,
    }
    rows = [[name, *_cells(figure), f"{figure.num_records:,}", _mark(figure)] for name, figure in figures.items()]
    # Of a plain share nobody says how much is enough.
    rows[0][-1] = ""
    yield from table(["", "value", _SPAN, "records", ""], rows)
    if left := agreement.num_shared - agreement.fleiss.num_records:
        size = agreement.fleiss_answers
        yield f"Fleiss' kappa is of records with {size} answers; left out are {left:,} with more or fewer"
    # One reason often holds for all three.
    for reason in dict.fromkeys(figure.reason for figure in figures.values() if figure.reason):
        yield f"-: {reason}"


def _pairs(agreement: Agreement) -> Iterator[str]:
    if agreement.pairs:
        yield ""
        yield "pairs of annotators, on the records that both answered"
        rows = []
        for pair in agreement.pairs:
            names = [one_line(name, _NAME) for name in (pair.left, pair.right)]
            percent = _number(pair.percent.value)
            rows.append([*names, f"{pair.kappa.num_records:,}", percent, *_cells(pair.kappa), _mark(pair.kappa)])
        yield from _some(["", "", "records", "agree", "kappa", _SPAN, ""], rows, left=2)
    if agreement.num_apart:
        yield f"  no record in common: {counted(agreement.num_apart, 'pair')} of annotators"


def _confusions(question: QuestionAgreement) -> Iterator[str]:
    agreement, answers = question.agreement, question.answers
    if not agreement.confusions:
        return
    yield ""
    yield "confused most"
    # To name records beside two values would tell half of their answers to someone who has still to answer.
    head = ["values", *(["e.g."] if answers is not None else []), "pairs of answers"]
    rows = []
    for confusion in agreement.confusions:
        values = " / ".join(one_line(question.name_of(value), _NAME) for value in (confusion.left, confusion.right))
        names = [", ".join(one_line(name, 20) for name in confusion.records[:3])] if answers is not None else []
        rows.append([values, *names, f"{confusion.num_pairs:,}"])
    yield from _some(head, rows, left=len(head) - 1)
    yield ""
    yield f"different answers: {counted(len(agreement.disagreements), 'record')}"
    if answers is None:
        more = f" and {left:,} more" if (left := len(agreement.disagreements) - _MOST_IDS) > 0 else ""
        yield f"  {', '.join(one_line(name, 40) for name in agreement.disagreements[:_MOST_IDS])}{more}"
        return
    for record in agreement.disagreements[:_MOST_ROWS]:
        given = [
            f"{one_line(by, _NAME)} {one_line(question.name_of(value), _NAME)}"
            for by, value in sorted(answers[record].items())
        ]
        yield f"  {one_line(record, 40)}: {', '.join(given)}"
    if (left := len(agreement.disagreements) - _MOST_ROWS) > 0:
        yield f"  not shown: {counted(left, 'record')}; --format json has all"


def _annotators(agreement: Agreement) -> Iterator[str]:
    yield ""
    yield "annotators, each against the others; without: alpha of those others alone"
    rows = []
    for row in agreement.annotators:
        counts = [f"{row.num_answers:,}", f"{row.num_shared:,}", _number(row.percent.value)]
        gold = "-" if row.gold.value is None else f"{row.gold.value:.3f} of {row.gold.num_records:,}"
        cells = [*_cells(row.kappa), _mark(row.kappa), _number(row.alpha_without), gold]
        rows.append([one_line(row.name, _NAME), *counts, *cells])
    head = ["", "answers", "shared", "agree", "kappa", _SPAN, "", "without", "gold"]
    if not agreement.num_gold:
        head, rows = head[:-1], [row[:-1] for row in rows]
    yield from _some(head, rows)


def _classes(question: QuestionAgreement) -> Iterator[str]:
    agreement = question.agreement
    yield ""
    yield "values; specific: how often the other gave it too; alpha: against all others"
    rows = []
    for row in agreement.classes:
        name = one_line(question.name_of(row.value), _NAME)
        rows.append([name, f"{row.num_answers:,}", *_cells(row.specific), *_cells(row.alpha), _mark(row.alpha)])
    yield from _some(["", "answers", "specific", _SPAN, "alpha", _SPAN, ""], rows)
    if agreement.num_more_classes:
        yield f"  not measured: {counted(agreement.num_more_classes, 'rarer value')}"


def _some(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> Iterator[str]:
    yield from _indented(table(head, rows[:_MOST_ROWS], left=left))
    if len(rows) > _MOST_ROWS:
        yield f"  not shown: {len(rows) - _MOST_ROWS:,} more; --format json has all"


def _cells(figure: Figure) -> list[str]:
    if figure.low is None or figure.high is None:
        return [_number(figure.value), "-"]
    return [_number(figure.value), f"{figure.low:.3f} to {figure.high:.3f}"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mark(figure: Figure) -> str:
    return _MARKS[grade(figure.value)]


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
