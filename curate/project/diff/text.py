"""A difference for the terminal."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator

from curate.base.console import one_line, visible
from curate.base.tables import counted, table
from curate.project.diff.compare import COUNTS, FieldChange, RecordChange, VersionDiff, VersionRecord
from curate.project.diff.words import Piece, pieces_of, preview, shortened

_MOST_CHARS = 600
_MOST_CATEGORIES = 20
_MARKS = {"removed": ("[-", "-]"), "added": ("{+", "+}"), "cut": ("<", " not shown>"), "same": ("", "")}


def render_text(
    difference: VersionDiff, *, width: int = 80, limit: int = 20, show_values: bool = True
) -> Iterator[str]:
    """Yield the lines of a table of counts by category, and of the first ``limit`` changes with their words."""
    if not difference.changes:
        yield f"no difference in {counted(difference.num_before, 'record')}"
        return
    yield from _count_table(difference, width)
    for number, change in enumerate(difference.changes):
        yield ""
        if number == limit:
            yield f"not shown: {counted(len(difference.changes) - limit, 'record')} that differ; see --limit"
            return
        yield _head(change)
        if show_values and (change.before is None or change.after is None):
            yield from _whole(change.item, width)
        for field in change.fields:
            yield from field_lines(field, width, show_values=show_values)


def _count_table(difference: VersionDiff, width: int) -> Iterator[str]:
    longest = max(12, width - 2 - sum(max(len(name), 7) + 2 for name in COUNTS))
    rows = [_row(one_line(name, longest), counts) for name, counts in difference.rows(_MOST_CATEGORIES)]
    yield from table(["category", *COUNTS], rows)


def _row(name: str, counts: dict[str, int]) -> list[str]:
    return [name, *(f"{counts[key]:,}" if counts[key] else "-" for key in COUNTS)]


def _head(change: RecordChange) -> str:
    item = change.item
    parts = [f"{change.what:<8} {one_line(item.id, 40)}"]
    if item.category:
        parts.append(f"({one_line(item.category, 24)})")
    if change.is_moved and change.before and change.after:
        parts.append(f"{change.before.split or 'no split'} -> {change.after.split or 'no split'}")
    return " ".join(parts)


def field_lines(change: FieldChange, width: int, *, show_values: bool) -> Iterator[str]:
    """Yield the pointer of a field and, indented below, what happened to its words."""
    how = " (new)" if change.is_new else " (gone)" if change.is_gone else ""
    yield f"  {one_line(change.pointer or '/', width - 10)}{how}"
    if not show_values:
        return
    yield from _wrapped(_marked(shortened(pieces_of(change), _MOST_CHARS)), width)


def _marked(pieces: Iterator[Piece]) -> str:
    return "".join(_MARKS[what][0] + text + _MARKS[what][1] for what, text in pieces)


def _whole(item: VersionRecord, width: int) -> Iterator[str]:
    for key, text in preview(item):
        # Cut first: making all of a long text visible takes many times its size.
        content = f"{key}: {text[:width]}"
        yield f"  {one_line(content, max(20, _cells(width - 2, content)))}"


def _wrapped(text: str, width: int) -> Iterator[str]:
    for line in visible(text).expandtabs(4).split("\n"):
        room = _cells(width - 4, line)
        for part in textwrap.wrap(line, room, replace_whitespace=False, drop_whitespace=True) or [""]:
            yield f"    {part}"


def _cells(width: int, text: str) -> int:
    """Return how many characters of ``text`` fit into ``width`` columns: wide ones take two each."""
    is_wide = any(unicodedata.east_asian_width(character) in "WF" for character in text)
    return width // 2 if is_wide else width
