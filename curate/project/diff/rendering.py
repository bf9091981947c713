"""A difference for people: lines for the terminal, or the comment on a pull request in Markdown."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator

from curate.base.console import markdown_cell, one_line, visible
from curate.base.tables import counted, table
from curate.project.diff.compare import COUNTS, FieldChange, RecordChange, VersionDiff, VersionRecord
from curate.project.diff.words import Piece, pieces_of, preview, shortened

MOST_BYTES = 60_000
"""Of a comment: GitHub takes 65,536 characters."""
_MOST_CHARS, _MOST_CATEGORIES = 600, 20
_COMMENT_CHARS, _COMMENT_CATEGORIES, _COMMENT_FIELDS = 1_000, 50, 20
_TITLES = {"changed": "Changed", "moved": "Moved between splits", "added": "Added", "removed": "Removed"}
_TAGS = {"removed": "del", "added": "ins"}
_CLOSE = "\n</details>\n"
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
    yield f"  {one_line(change.pointer or '/', width - 10)}{_how(change)}"
    if not show_values:
        return
    yield from _wrapped(_marked(shortened(pieces_of(change), _MOST_CHARS)), width)


def _how(change: FieldChange) -> str:
    return " (new)" if change.is_new else " (gone)" if change.is_gone else ""


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


def render_markdown(difference: VersionDiff, before: str, after: str, *, show_values: bool = True) -> Iterator[str]:
    """Yield the parts of a comment of at most `MOST_BYTES`; what did not fit is counted at its end.

    Text of the data stands in code spans with every mark escaped, so that it is no markup, link, image or mention.
    """
    head = _summary(difference, before, after)
    yield head
    # The last sentence and what closes a block have their room kept.
    left = MOST_BYTES - len(head.encode()) - 300
    num_hidden = 0
    for what, title in _TITLES.items():
        changes = [change for change in difference.changes if change.what == what]
        opening = f"\n<details>\n<summary>{title}: {len(changes):,}</summary>\n"
        blocks: list[str] = []
        left -= len((opening + _CLOSE).encode())
        for change in changes:
            block = _block(change, show_values=show_values)
            size = len(block.encode())
            if size > left:
                break
            left -= size
            blocks.append(block)
        num_hidden += len(changes) - len(blocks)
        if blocks:
            yield opening + "".join(blocks) + _CLOSE
    if num_hidden:
        yield f"\n{counted(num_hidden, 'record')} that differ did not fit into this comment: see `curate diff`.\n"


def _summary(difference: VersionDiff, before: str, after: str) -> str:
    totals = difference.totals()
    numbers = ", ".join(f"{totals[name]:,} {name}" for name in COUNTS[2:] if totals[name])
    lines = [
        f"**Records: {numbers or 'no difference'}**",
        "",
        f"{_name(before)} ({difference.num_before:,}) to {_name(after)} ({difference.num_after:,}), "
        f"{difference.num_same:,} the same.",
    ]
    if difference.changes:
        lines += ["", f"| category | {' | '.join(COUNTS)} |", f"|---|{'---:|' * len(COUNTS)}"]
        lines += [_comment_row(_name(name), counts) for name, counts in difference.rows(_COMMENT_CATEGORIES)]
    return "\n".join(lines) + "\n"


def _comment_row(name: str, counts: dict[str, int]) -> str:
    return f"| {name} | {' | '.join(f'{counts[key]:,}' for key in COUNTS)} |"


def _block(change: RecordChange, *, show_values: bool) -> str:
    item = change.item
    head = f"\n- {_name(item.id)}" + (f" in {_name(item.category)}" if item.category else "")
    if change.is_moved and change.before and change.after:
        head += f", {_name(change.before.split or 'no split')} → {_name(change.after.split or 'no split')}"
    lines = [head]
    if show_values and (change.before is None or change.after is None):
        for key, text in preview(item):
            rendered = "".join(_piece(what, part) for what, part in shortened([("whole", text)], _COMMENT_CHARS // 4))
            lines.append(f"  - {_name(key)}: {rendered}")
    for field in change.fields:
        rendered = "".join(_piece(what, text) for what, text in shortened(pieces_of(field), _COMMENT_CHARS))
        lines.append(f"  - {_name(field.pointer or '/')}{_how(field)}" + (f": {rendered}" if show_values else ""))
    if (rest := len(lines) - 1 - _COMMENT_FIELDS) > 0:
        lines[_COMMENT_FIELDS + 1 :] = [f"  - {rest:,} more"]
    return "\n".join(lines) + "\n"


def _piece(what: str, text: str) -> str:
    if what == "cut":
        return f" *…{text}…* "
    tag = _TAGS.get(what)
    return f"<{tag}>{_code(text)}</{tag}>" if tag else _code(text)


def _name(text: str) -> str:
    return _code(one_line(text, 80))


def _code(text: str) -> str:
    """Return ``text`` as code that is shown as it is: within code a mention or a link is none."""
    if not text.strip():
        return f"<code>{'␣' * len(text[:9])}</code>"
    # White space at the ends of a piece is what parts it from its neighbours.
    before, after = "&#32;" * text[:1].isspace(), "&#32;" * text[-1:].isspace()
    return f"<code>{before}{markdown_cell(text.replace(chr(10), '⏎'))}{after}</code>"
