"""Agreement for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from curate.base.console import one_line
from curate.base.tables import counted, table
from curate.sessions.agreement.figures import Figure
from curate.sessions.agreement.rates import grade
from curate.sessions.agreement.shown import Shown

By = Literal["day", "annotator", "class"]

_MOST_ROWS = 20
_MOST_IDS = 8
_NAME = 18
_MARKS = {"ok": "ok", "warn": "~", "error": "!", "": ""}


def render_text(shown: Shown, by: By | None = None) -> Iterator[str]:
    """Yield what was measured on one question: the whole, then pairs and confusions or the parts that ``by`` names."""
    found = shown.agreement
    yield (
        f"{one_line(shown.question, 20)}: {counted(found.num_answers, 'answer')} by "
        f"{counted(len(found.annotators), 'annotator')} to {counted(found.num_records, 'record')}"
    )
    shared, pairs = counted(found.num_shared, "record"), counted(found.num_pairs, "pair")
    yield f"  {shared} with two answers or more, {pairs} of answers"
    yield ""
    yield from _indented(_whole(shown))
    if by == "annotator":
        yield from _annotators(shown)
    elif by == "class":
        yield from _classes(shown)
    elif by == "day":
        yield from _times(shown)
    else:
        yield from _pairs(shown)
        yield from _confusions(shown)


def _whole(shown: Shown) -> Iterator[str]:
    found = shown.agreement
    rows = [
        ["percent agreement", *_cells(found.percent), f"{found.percent.num_records:,}", ""],
        ["Krippendorff's alpha", *_cells(found.alpha), f"{found.alpha.num_records:,}", _mark(found.alpha)],
        ["Fleiss' kappa", *_cells(found.fleiss), f"{found.fleiss.num_records:,}", _mark(found.fleiss)],
    ]
    yield from table(["", "value", "95 % interval", "records", ""], rows)
    if left := found.num_shared - found.fleiss.num_records:
        size = found.fleiss_answers
        yield f"Fleiss' kappa is of records with {size} answers; left out are {left:,} with more or fewer"
    # One reason often holds for all three.
    for reason in dict.fromkeys(one.reason for one in (found.percent, found.alpha, found.fleiss) if one.reason):
        yield f"-: {reason}"


def _pairs(shown: Shown) -> Iterator[str]:
    found = shown.agreement
    if found.pairs:
        yield ""
        yield "pairs of annotators, on the records that both answered"
        rows = [
            [
                one_line(one.left, _NAME), one_line(one.right, _NAME), f"{one.kappa.num_records:,}",
                _number(one.percent.value), *_cells(one.kappa), _mark(one.kappa),
            ]
            for one in found.pairs
        ]  # fmt: skip
        yield from _some(["", "", "records", "agree", "kappa", "95 % interval", ""], rows, left=2)
    if found.num_apart:
        yield f"  no record in common: {counted(found.num_apart, 'pair')} of annotators"


def _confusions(shown: Shown) -> Iterator[str]:
    found = shown.agreement
    if not found.confusions:
        return
    yield ""
    yield "confused most"
    rows = [
        [
            f"{one_line(shown.name_of(one.left), _NAME)} / {one_line(shown.name_of(one.right), _NAME)}",
            # To name records beside two values would tell half of their answers to someone who has still to answer.
            *([", ".join(one_line(name, 20) for name in one.records[:3])] if shown.answers is not None else []),
            f"{one.num_pairs:,}",
        ]
        for one in found.confusions
    ]
    head = ["values", *(["e.g."] if shown.answers is not None else []), "pairs of answers"]
    yield from _some(head, rows, left=len(head) - 1)
    yield ""
    yield f"different answers: {counted(len(found.disagreements), 'record')}"
    if shown.answers is None:
        more = f" and {left:,} more" if (left := len(found.disagreements) - _MOST_IDS) > 0 else ""
        yield f"  {', '.join(one_line(name, 40) for name in found.disagreements[:_MOST_IDS])}{more}"
        return
    for record in found.disagreements[:_MOST_ROWS]:
        given = ", ".join(
            f"{one_line(by, _NAME)} {one_line(shown.name_of(value), _NAME)}"
            for by, value in sorted(shown.answers[record].items())
        )
        yield f"  {one_line(record, 40)}: {given}"
    if (left := len(found.disagreements) - _MOST_ROWS) > 0:
        yield f"  not shown: {counted(left, 'record')}; --format json has all"


def _annotators(shown: Shown) -> Iterator[str]:
    found = shown.agreement
    yield ""
    yield "annotators, each against the others; without: alpha of those others alone"
    rows = [
        [
            one_line(one.name, _NAME), f"{one.num_answers:,}", f"{one.num_shared:,}", _number(one.percent.value),
            *_cells(one.kappa), _mark(one.kappa), _number(one.alpha_without), _gold(one.gold),
        ]
        for one in found.annotators
    ]  # fmt: skip
    head = ["", "answers", "shared", "agree", "kappa", "95 % interval", "", "without", "gold"]
    if not found.num_gold:
        head, rows = head[:-1], [row[:-1] for row in rows]
    yield from _some(head, rows)


def _classes(shown: Shown) -> Iterator[str]:
    found = shown.agreement
    yield ""
    yield "values; specific: how often the other gave it too; alpha: against all others"
    rows = [
        [
            one_line(shown.name_of(one.value), _NAME), f"{one.num_answers:,}", *_cells(one.specific),
            *_cells(one.alpha), _mark(one.alpha),
        ]
        for one in found.classes
    ]  # fmt: skip
    yield from _some(["", "answers", "specific", "95 % interval", "alpha", "95 % interval", ""], rows)
    if found.num_more_classes:
        yield f"  not measured: {counted(found.num_more_classes, 'rarer value')}"


def _times(shown: Shown) -> Iterator[str]:
    found = shown.agreement
    yield ""
    yield "over time, a record counts when its last answer came (UTC)"
    rows = [
        [
            one.first if one.first == one.last else f"{one.first} to {one.last}", f"{one.num_records:,}",
            f"{one.num_answers:,}", _number(one.percent.value), *_cells(one.alpha), _mark(one.alpha),
        ]
        for one in found.times
    ]  # fmt: skip
    # Of days, the last ones tell what is going on.
    yield from _some(["", "records", "answers", "agree", "alpha", "95 % interval", ""], rows, is_last=True)
    if found.num_untimed:
        yield f"  not known when: {counted(found.num_untimed, 'record')}"


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
