"""Two runs beside one another, as text and as the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.text import Text

from curate.project.feedback import legend
from curate.sessions.run_comparison import Regression, RunComparison, ScoreRow
from curate.tui.border import bar, safe_lines, safe_text
from curate.tui.frame_table import Column, Tone

Metric = Literal["score", "bits per byte"]
Order = Literal["category", "change", "n"]
_NOT = "not reported"
_DASH = "-"


def tone(value: str) -> Tone:
    """Return how a change is drawn: only a verdict that it got better or worse has a colour."""
    return {"+": "ok", "!": "error", "": ""}.get(value.partition(" ")[2], "muted")  # type: ignore[return-value]


def columns(comparison: RunComparison, metric: Metric, *, is_narrow: bool) -> list[Column]:
    """Return the columns of the table of categories."""
    second = "C" if comparison.first else "B"
    sides = [Column("A", 6, is_right=True), *([Column("B", 6, is_right=True)] if comparison.first else [])]
    names = [Column("category"), Column("n", 6, is_right=True), *sides, Column(second, 6, is_right=True)]
    against = f"{second}-{'B' if comparison.first else 'A'}"
    changes = [Column(against, 8, is_right=True, tone=tone), Column("95 %", 16)]
    counts = [] if is_narrow or metric != "score" else [Column("win/tie/loss", 13)]
    return [*names, *changes, *counts, *([] if is_narrow else [Column(f"bar ({second})", 18)])]


def rows_of(comparison: RunComparison, metric: Metric, order: Order, *, is_narrow: bool) -> list[tuple[str, ...]]:
    """Return the categories in some order, and last the mean over them."""
    rows = sorted(comparison.rows, key=lambda row: _rank(row, order))
    return [
        _cells(comparison, row, metric, is_narrow) for row in [*rows, *([comparison.macro] if comparison.macro else [])]
    ]


def render_head(comparison: RunComparison, metric: Metric) -> Text:
    """Return which runs are compared, and on what."""
    base = comparison.second.text_at("recipe", "base")
    sides = [f"base {base}".rstrip(), *([comparison.first.id] if comparison.first else []), comparison.second.id]
    text = Text(" ", no_wrap=True, end="")
    for letter, side in zip("ABC", sides, strict=False):
        text.append_text(Text.assemble((f"{letter} ", "strong"), safe_text(side, 28), "   "))
    number = sum(row.n or 0 for row in comparison.rows)
    text.append(f"{metric}   {comparison.split} {number:,}", "muted")
    return text


def render_notes(comparison: RunComparison) -> Text:
    """Return what the marks mean, and what could not be compared."""
    rows = [*comparison.rows, *([comparison.macro] if comparison.macro else [])]
    lines = [Text(legend([row.verdict for row in rows]), style="muted")]
    lines += [safe_text(note, 200, "warn") for note in comparison.notes]
    lines += [safe_text(line, 400, "warn" if len(comparison.general) > 1 else "muted") for line in comparison.general]
    return Text("\n").join(lines)


def render_changes(comparison: RunComparison) -> Text:
    """Return what differs between two runs, what is the same last."""
    if comparison.first is None:
        return Text.assemble(("WHAT CHANGED", "strong"), ("  the run beside its own base", "muted"))
    lines = [Text("WHAT CHANGED  B -> C", style="strong")]
    for difference in sorted(comparison.changed, key=lambda change: change.is_same and not change.what.startswith(" ")):
        style = "muted" if difference.is_same else ""
        lines.append(
            Text.assemble(safe_text(f"{difference.what:<16} ", 30, "muted"), safe_text(difference.text, 120, style))
        )
    return Text("\n").join(lines)


def render_regression(regression: Regression | None, expected: str, comparison: RunComparison) -> Text:
    """Return a validation record on which the later model does worse: what was wanted, and what both said."""
    if regression is None:
        return Text("No validation record got worse. Test records are not looked at one by one.", style="muted")
    letters = ("B", "C") if comparison.first else ("A", "B")
    said = (regression.said_before if comparison.first else None, regression.said_after)
    lines = [Text.assemble(safe_text(regression.id, 40, "strong"), "  ", safe_text(regression.category, 30))]
    lines += [Text("EXPECTED", style="muted"), safe_lines(expected)]
    for letter, score, text in zip(letters, (regression.before, regression.after), said, strict=True):
        lines += [Text(f"{letter}  {score:.2f}", style="muted"), safe_lines(text if text is not None else _NOT)]
    return Text("\n").join(lines)


def regression_rows(regressions: Sequence[Regression]) -> list[tuple[str, ...]]:
    """Return the validation records that got worse, as rows."""
    return [(item.id, item.category, f"{item.before:.2f} -> {item.after:.2f}") for item in regressions]


def _rank(row: ScoreRow, order: Order) -> tuple[float, str]:
    if order == "change":
        return (row.difference if row.difference is not None else 9.0, row.category)
    return (-(row.n or 0) if order == "n" else 0.0, row.category)


def _cells(comparison: RunComparison, row: ScoreRow, metric: Metric, is_narrow: bool) -> tuple[str, ...]:
    is_score = metric == "score"
    base, first, second = (row.base, row.first, row.second) if is_score else row.bits
    before = first if comparison.first else base
    difference = row.difference
    if not is_score:
        difference = None if second is None or before is None else second - before
    sides = [_number(base), *([_number(first)] if comparison.first else []), _number(second)]
    mark = f" {row.verdict.mark}" if is_score and row.verdict else ""
    change = _DASH if difference is None else f"{difference:+.2f}{mark}"
    is_known = is_score and row.low is not None and row.high is not None
    span = f"[{row.low:+.2f}, {row.high:+.2f}]" if is_known else _NOT
    cells = [row.category or "(none)", f"{row.n:,}" if row.n is not None else "", *sides, change, span]
    if not is_narrow:
        if is_score:
            cells.append(_counts(row))
        cells.append(bar(second, 18) if is_score and second is not None else "")
    return tuple(cells)


def _counts(row: ScoreRow) -> str:
    if row.better is None or row.worse is None or row.n is None:
        return ""
    return f"{row.better}/{row.n - row.better - row.worse}/{row.worse}"


def _number(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}"
