"""Agreement for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from curate.base.console import one_line
from curate.base.tables import counted, table
from curate.sessions.agreement.figures import Figure
from curate.sessions.agreement.rates import grade
from curate.sessions.agreement.visibility import QuestionAgreement

By = Literal["day", "annotator", "class"]

_MOST_ROWS = 20
_MOST_IDS = 8
_NAME = 18
_MARKS = {"ok": "ok", "warn": "~", "error": "!", "": ""}


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
    yield from _indented(_whole(question))
    if by == "annotator":
        yield from _annotators(question)
    elif by == "class":
        yield from _classes(question)
    elif by == "day":
        yield from _times(question)
    else:
        yield from _pairs(question)
        yield from _confusions(question)


def _whole(question: QuestionAgreement) -> Iterator[str]:
    agreement = question.agreement
    rows = [
        ["percent agreement", *_cells(agreement.percent), f"{agreement.percent.num_records:,}", ""],
        ["Krippendorff's alpha", *_cells(agreement.alpha), f"{agreement.alpha.num_records:,}", _mark(agreement.alpha)],
        ["Fleiss' kappa", *_cells(agreement.fleiss), f"{agreement.fleiss.num_records:,}", _mark(agreement.fleiss)],
    ]
    yield from table(["", "value", "95 % interval", "records", ""], rows)
    if left := agreement.num_shared - agreement.fleiss.num_records:
        size = agreement.fleiss_answers
        yield f"Fleiss' kappa is of records with {size} answers; left out are {left:,} with more or fewer"
    # One reason often holds for all three.
    for reason in dict.fromkeys(
        figure.reason for figure in (agreement.percent, agreement.alpha, agreement.fleiss) if figure.reason
    ):
        yield f"-: {reason}"


def _pairs(question: QuestionAgreement) -> Iterator[str]:
    agreement = question.agreement
    if agreement.pairs:
        yield ""
        yield "pairs of annotators, on the records that both answered"
        rows = [
            [
                one_line(pair.left, _NAME), one_line(pair.right, _NAME), f"{pair.kappa.num_records:,}",
                _number(pair.percent.value), *_cells(pair.kappa), _mark(pair.kappa),
            ]
            for pair in agreement.pairs
        ]  # fmt: skip
        yield from _some(["", "", "records", "agree", "kappa", "95 % interval", ""], rows, left=2)
    if agreement.num_apart:
        yield f"  no record in common: {counted(agreement.num_apart, 'pair')} of annotators"


def _confusions(question: QuestionAgreement) -> Iterator[str]:
    agreement = question.agreement
    if not agreement.confusions:
        return
    yield ""
    yield "confused most"
    rows = [
        [
            " / ".join(one_line(question.name_of(value), _NAME) for value in (confusion.left, confusion.right)),
            # To name records beside two values would tell half of their answers to someone who has still to answer.
            *(
                [", ".join(one_line(name, 20) for name in confusion.records[:3])]
                if question.answers is not None
                else []
            ),
            f"{confusion.num_pairs:,}",
        ]
        for confusion in agreement.confusions
    ]
    head = ["values", *(["e.g."] if question.answers is not None else []), "pairs of answers"]
    yield from _some(head, rows, left=len(head) - 1)
    yield ""
    yield f"different answers: {counted(len(agreement.disagreements), 'record')}"
    if question.answers is None:
        more = f" and {left:,} more" if (left := len(agreement.disagreements) - _MOST_IDS) > 0 else ""
        yield f"  {', '.join(one_line(name, 40) for name in agreement.disagreements[:_MOST_IDS])}{more}"
        return
    for record in agreement.disagreements[:_MOST_ROWS]:
        given = ", ".join(
            f"{one_line(by, _NAME)} {one_line(question.name_of(value), _NAME)}"
            for by, value in sorted(question.answers[record].items())
        )
        yield f"  {one_line(record, 40)}: {given}"
    if (left := len(agreement.disagreements) - _MOST_ROWS) > 0:
        yield f"  not shown: {counted(left, 'record')}; --format json has all"


def _annotators(question: QuestionAgreement) -> Iterator[str]:
    agreement = question.agreement
    yield ""
    yield "annotators, each against the others; without: alpha of those others alone"
    rows = [
        [
            one_line(annotator.name, _NAME), f"{annotator.num_answers:,}", f"{annotator.num_shared:,}",
            _number(annotator.percent.value),
            *_cells(annotator.kappa), _mark(annotator.kappa), _number(annotator.alpha_without), _gold(annotator.gold),
        ]
        for annotator in agreement.annotators
    ]  # fmt: skip
    head = ["", "answers", "shared", "agree", "kappa", "95 % interval", "", "without", "gold"]
    if not agreement.num_gold:
        head, rows = head[:-1], [row[:-1] for row in rows]
    yield from _some(head, rows)


def _classes(question: QuestionAgreement) -> Iterator[str]:
    agreement = question.agreement
    yield ""
    yield "values; specific: how often the other gave it too; alpha: against all others"
    rows = [
        [
            one_line(question.name_of(row.value), _NAME), f"{row.num_answers:,}", *_cells(row.specific),
            *_cells(row.alpha), _mark(row.alpha),
        ]
        for row in agreement.classes
    ]  # fmt: skip
    yield from _some(["", "answers", "specific", "95 % interval", "alpha", "95 % interval", ""], rows)
    if agreement.num_more_classes:
        yield f"  not measured: {counted(agreement.num_more_classes, 'rarer value')}"


def _times(question: QuestionAgreement) -> Iterator[str]:
    agreement = question.agreement
    yield ""
    yield "over time, a record counts when its last answer came (UTC)"
    rows = [
        [
            period.first if period.first == period.last else f"{period.first} to {period.last}",
            f"{period.num_records:,}", f"{period.num_answers:,}", _number(period.percent.value),
            *_cells(period.alpha), _mark(period.alpha),
        ]
        for period in agreement.times
    ]  # fmt: skip
    # Of days, the last ones tell what is going on.
    yield from _some(["", "records", "answers", "agree", "alpha", "95 % interval", ""], rows, is_last=True)
    if agreement.num_untimed:
        yield f"  not known when: {counted(agreement.num_untimed, 'record')}"


def _some(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, is_last: bool = False) -> Iterator[str]:
    """Yield a table of the first rows, or the last ones, and say how many more there are."""
    chosen = rows[-_MOST_ROWS:] if is_last else rows[:_MOST_ROWS]
    yield from _indented(table(head, chosen, left=left))
    if len(rows) > len(chosen):
        yield f"  not shown: {len(rows) - len(chosen):,} {'earlier' if is_last else 'more'}; --format json has all"


def _cells(figure: Figure) -> list[str]:
    if figure.low is None or figure.high is None:
        return [_number(figure.value), "-"]
    return [_number(figure.value), f"{figure.low:.3f} to {figure.high:.3f}"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mark(figure: Figure) -> str:
    return _MARKS[grade(figure.value)]


def _gold(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.3f} of {figure.num_records:,}"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
