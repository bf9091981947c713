"""What the Compare screen shows, as columns, rows and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len
from rich.text import Text

from curate.project.feedback import figure
from curate.sessions.run_comparison import VIEWS, RecordPair, RunComparison, ScoreRow, View
from curate.tui.border import bar, cut_middle, safe_lines, safe_text
from curate.tui.frame_table import Column, Tone
from curate.tui.widgets import hanging

Metric = Literal["score", "bits per byte"]
Order = Literal["category", "change", "n"]
METRICS: tuple[Metric, ...] = ("score", "bits per byte")
ORDERS: tuple[Order, ...] = ("category", "change", "n")
_NOT = "not reported"
_DASH = "-"


def tone(value: str) -> Tone:
    """Return how a change is drawn: only a verdict that it got better or worse has a colour."""
    return {"+": "ok", "!": "error", "": ""}.get(value.partition(" ")[2], "muted")  # type: ignore[return-value]


def columns(comparisons: Sequence[RunComparison], shown: int, metric: Metric, *, is_narrow: bool) -> list[Column]:
    """Return the columns of the table of categories; of several models a narrow screen has only the one ``shown``."""
    comparison = comparisons[shown]
    before, second = comparison.letters
    # An interval is whole at 60 columns too.
    score, change, interval = (5, 7, 14) if is_narrow else (6, 8, 16)
    names = [Column("category", is_snug=True), Column("n", score, is_right=True)]
    changes = [
        Column(f"{second}-{before}", change, is_right=True, tone=tone),
        Column("95 %", interval),
        Column("trivial", 7, is_right=True),
    ]
    if len(comparisons) > 1:
        others = [] if is_narrow else [other for other in comparisons if other is not comparison]
        sides = [Column(letter, score, is_right=True) for letter in (before, second)]
        return [*names, *sides, *changes, *(Column(other.letters[1], 14, is_right=True) for other in others)]
    sides = [Column(letter, score, is_right=True) for letter in ("ABC" if comparison.first else "AB")]
    counts = [] if is_narrow or metric != "score" else [Column("win/tie/loss", 13)]
    return [*names, *sides, *changes, *counts, *([] if is_narrow else [Column(f"bar ({second})", 10)])]


def rows_of(
    comparisons: Sequence[RunComparison], shown: int, metric: Metric, order: Order, *, is_narrow: bool
) -> list[tuple[str, ...]]:
    """Return the categories in some order, and last the mean over them."""
    comparison = comparisons[shown]
    rows = sorted(comparison.rows, key=lambda row: (row.category is None, _rank(row, order)))
    cells = [_cells(comparison, row, metric, is_narrow or len(comparisons) > 1) for row in rows]
    if len(comparisons) == 1 or is_narrow:
        return cells
    others = [{row.category: row for row in other.rows} for other in comparisons if other is not comparison]
    return [
        (*own, *(_other_cell(other.get(row.category), metric) for other in others))
        for own, row in zip(cells, rows, strict=True)
    ]


def _other_cell(row: ScoreRow | None, metric: Metric) -> str:
    # The score of a model that is not shown in full, and how it changed.
    if row is None:
        return _DASH
    second, difference = (row.second, row.difference) if metric == "score" else (row.bits[2], None)
    mark = f" {row.verdict[:1]}" if row.verdict and difference is not None else ""
    return figure(second) + ("" if difference is None else f" {difference:+.2f}{mark}")


_NAMED = 16
"""Cells that a model takes in the head: its letter, its name and the space behind it."""


def render_head(comparisons: Sequence[RunComparison], shown: int, metric: Metric, room: int) -> Text:
    """Return which models are compared, and on what, in a line of ``room`` cells."""
    comparison = comparisons[shown]
    sides = [] if comparison.at else [f"base {comparison.second.text_at('recipe', 'base')}".rstrip()]
    sides += [comparison.first.id] if comparison.first else []
    sides += [other.second.id for other in comparisons]
    text = Text(" ", no_wrap=True, end="")
    number = sum((row.n or 0) + row.num_unscored for row in comparison.rows)
    what = f"{metric}   {comparison.split} {number:,}{'   c: next' if len(comparisons) > 1 else ''}"
    lettered = list(zip("ABCD", sides, strict=False))
    if (room - len(what)) // len(sides) < _NAMED and len(sides) > 2:
        # The others come by their key.
        lettered = [pair for pair in lettered if pair[0] in ("A", comparison.letters[1])]
    width = max(8, min(28, (room - len(what) - 2) // len(lettered) - 5))
    for letter, side in lettered:
        is_open = len(comparisons) > 1 and letter == comparison.letters[1]
        # The members of a series begin with its name, and end in their own.
        name = side if cell_len(side) <= width else side.rpartition("/")[2]
        text.append_text(Text.assemble((f"{letter} ", "strong"), safe_text(name, width, "accent" if is_open else "")))
        text.append("   ")
    text.append(what, "muted")
    return text


def render_notes(comparison: RunComparison, *, has_legend: bool) -> Text:
    """Return what the marks mean, where there is room for it, and what could not be compared."""
    lines = [safe_text(comparison.legend, 2000, "muted")] if has_legend and comparison.legend else []
    lines += [safe_text(note, 400, "warn") for note in comparison.notes]
    lines += [
        safe_text(line, 400, "warn" if len(comparison.general) > 1 and not comparison.at else "muted")
        for line in comparison.general
    ]
    return Text("\n").join(lines)


def render_changes(comparison: RunComparison, width: int) -> Text:
    """Return what differs between two runs, what is the same last; a line that goes on is set in under its text."""
    lines = [Text(f"WHAT CHANGED  {' -> '.join(comparison.letters)}", style="strong")]
    for difference in sorted(comparison.changed, key=lambda change: change.is_same and not change.what.startswith(" ")):
        style = "muted" if difference.is_same else ""
        head = safe_text(f"{difference.what:<16} ", 30, "muted")
        lines.append(hanging(head, safe_text(difference.text, 400, style), width))
    return Text("\n").join(lines)


def render_views(comparison: RunComparison, view: View, category: str | None) -> Text:
    """Return how many validation records each view lists, and which view and category are shown."""
    text = Text("validation: ", style="muted")
    for name in VIEWS:
        count = f"{name} {len(comparison.listed(name, category)):,}"
        text.append_text(
            Text.assemble((f"[{count}]" if name == view else f" {count} ", "strong" if name == view else ""))
        )
        text.append(" ")
    if category is not None:
        text.append_text(Text.assemble(" of ", safe_text(category or "(none)", 24, "accent"), "  esc: all"))
    return text


def render_pair(pair: RecordPair | None, texts: tuple[str, str], comparison: RunComparison, view: View) -> Text:
    """Return a validation record under both models: its prompt, what was wanted (``texts``), and what both said."""
    if pair is None:
        num_wrong = len(comparison.listed("still wrong"))
        more = f" w lists {num_wrong:,} that are still wrong." if num_wrong and view != "still wrong" else ""
        none = {"worse": "got worse", "still wrong": "is still wrong", "better": "got better"}[view]
        return Text(f"No validation record {none}.{more} Test records are not looked at one by one.", style="muted")
    answers = (pair.said_before, pair.said_after)
    lines = [Text.assemble(safe_text(cut_middle(pair.id, 40), 40, "strong"), "  ", safe_text(pair.category, 30))]
    for title, text in zip(("PROMPT", "EXPECTED"), texts, strict=True):
        lines += [Text(title, style="muted"), safe_lines(text)]
    for letter, score, answer in zip(comparison.letters, (pair.before, pair.after), answers, strict=True):
        lines += [Text(f"{letter}  {score:.2f}", style="muted"), safe_lines(answer if answer is not None else _NOT)]
    return Text("\n").join(lines)


def pair_rows(pairs: Sequence[RecordPair]) -> list[tuple[str, ...]]:
    """Return validation records under both models as rows."""
    return [(item.id, item.category, f"{item.before:.2f} -> {item.after:.2f}") for item in pairs]


def _rank(row: ScoreRow, order: Order) -> tuple[float, str]:
    if order == "change":
        return (row.difference if row.difference is not None else 9.0, row.label)
    return (-(row.n or 0) if order == "n" else 0.0, row.label)


def _cells(comparison: RunComparison, row: ScoreRow, metric: Metric, is_narrow: bool) -> tuple[str, ...]:
    is_score = metric == "score"
    base, first, second = (row.base, row.first, row.second) if is_score else row.bits
    before = first if comparison.first else base
    difference = row.difference
    if not is_score:
        difference = None if second is None or before is None else second - before
    sides = [figure(base)] if not comparison.at else []
    sides += [*([figure(first)] if comparison.first else []), figure(second)]
    verdict = row.verdict if is_score else ""
    change = _DASH if difference is None else f"{difference:+.2f}{f' {verdict[:1]}' if verdict else ''}"
    is_known = is_score and row.low is not None and row.high is not None
    span = f"[{row.low:+.2f}, {row.high:+.2f}]" if is_known else verdict or _NOT
    n = "" if row.n is None else f"{row.n:,}{f' of {row.n + row.num_unscored:,}' if row.num_unscored else ''}"
    cells = [row.label, n, *sides, change, span, figure(row.trivial if is_score else None)]
    if not is_narrow:
        if is_score:
            cells.append(_counts(row))
        cells.append(bar(second, 10) if is_score and second is not None else "")
    return tuple(cells)


def _counts(row: ScoreRow) -> str:
    if row.better is None or row.worse is None or row.n is None:
        return ""
    return f"{row.better}/{row.n - row.better - row.worse}/{row.worse}"
