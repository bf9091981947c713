"""What is known of one finding, or of a group, as text below the list."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len
from rich.text import Text

from curate.base.record import Finding
from curate.base.tables import counted
from curate.checks import discover
from curate.jsonl import FAULTS
from curate.sessions.excerpt import Excerpt, ExcerptLine
from curate.sessions.problem_groups import Heading
from curate.sessions.problem_search import RecordFix
from curate.tui.border import safe_line, safe_text
from curate.tui.glyphs import glyphs
from curate.tui.screens.validate.rows import SIGNS

_DOT = "·"
_MARGIN = 10


def render_heading(heading: Heading, width: int) -> Text:
    """Return what a group is about and how much of it is listed."""
    text = Text.assemble(
        (SIGNS[heading.severity], _style(heading)), "  ", safe_text(heading.title, 50, "strong"),
        "  ", safe_text(heading.pointer, 40), f"  {counted(heading.count, 'finding')}",
    )  # fmt: skip
    if heading.count > heading.num_listed:
        text.append(f", the first {heading.num_listed:,} of them listed")
    if heading.num_matching < heading.num_listed:
        text.append(f", {heading.num_matching:,} match the filter")
    text.append_text(Text.assemble("\n", ("why   ", "muted"), safe_text(why(heading.title.split(" ")[0]), 3 * width)))
    return text


def render_finding(finding: Finding, excerpt: Excerpt, fix: str, width: int, title: str) -> Text:
    """Return a finding with the lines around it, why it is one, and what can be done; ``fix`` says what a fix does."""
    location = f"{finding.file}:{finding.line}" if finding.line else finding.file or "all records"
    column = f":{excerpt.column}" if excerpt.column else ""
    head = Text.assemble(
        safe_text(location + column, 48, "strong"),
        "  ",
        safe_text(finding.record, 30),
        "  ",
        safe_text(finding.pointer, 40, "muted"),
    )
    lines = [head, *_rows(excerpt, finding.code, width)]
    if excerpt.is_decided:
        lines.append(Text("decided: the record now says this; the file has another line", style="muted"))
    lines.append(Text.assemble(safe_text(title, 40, "strong"), "  ", safe_text(finding.message, 400)))
    lines.append(Text.assemble(("why   ", "muted"), safe_text(why(finding.code), 2 * width)))
    lines.append(Text.assemble(("fix   ", "muted"), safe_text(" ".join([finding.fix, fix]).strip(), 2 * width)))
    return Text("\n").join(lines)


def render_change(mending: RecordFix) -> str:
    """Return what a fix would change, a line before and one after for each text, cut to where they differ.

    What a fix changes is often not to be seen: blanks at an end, and marks that stand on letters, are written as code
    points.
    """
    lines = [f"{', '.join(mending.fixes)} changes {mending.record}:"]
    for pointer, before, after in mending.texts[:3]:
        start = next(
            (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
        )
        lines += [pointer, f"- {_piece(before, start)}", f"+ {_piece(after, start)}"]
    if len(mending.texts) > 3:
        lines.append(f"and {len(mending.texts) - 3} more texts")
    return "\n".join(lines)


def why(code: str) -> str:
    """Return the first paragraph of what is known of a check."""
    rule = FAULTS.get(code) or discover().get(code)
    return " ".join(rule.help.split("\n\n")[0].split()) if rule else "what people decided does not fit together"


def _style(heading: Heading) -> str:
    return {"error": "error", "warning": "warn", "info": ""}[heading.severity]


def _rows(excerpt: Excerpt, code: str, width: int) -> list[Text]:
    room = max(20, width - _MARGIN - 2)
    lines = []
    for row in excerpt.rows:
        is_it = row.line == excerpt.line
        left, right = _cut(row, excerpt.mark or 0 if is_it else 0, room)
        sign = ">" if is_it else " "
        lines.append(
            Text.assemble(
                (f"{sign} {row.line:>6}  ", "strong" if is_it else "muted"), left, right, no_wrap=True, end=""
            )
        )
        if is_it and excerpt.mark is not None:
            lines.append(
                Text.assemble(" " * (_MARGIN + cell_len(left.plain)), ("^ " + code, "error"), no_wrap=True, end="")
            )
    return lines


def _cut(row: ExcerptLine, mark: int, room: int) -> tuple[Text, Text]:
    """Return the piece of a row before ``mark`` and the one from there on, together at most ``room`` cells."""
    end = glyphs().ellipsis
    before = row.text[max(0, mark - room // 2) : mark]
    is_cut_before = row.is_cut[0] or len(before) < mark
    left = safe_line(_dotted(before))
    while cell_len(left) > room // 2:
        left, is_cut_before = left[1:], True
    left = (end + left[len(end) :] if len(left) > len(end) else end) if is_cut_before else left
    space = room - cell_len(left)
    piece = row.text[mark : mark + space]
    right = safe_line(_dotted(piece))
    is_cut = row.is_cut[1] or len(piece) < len(row.text) - mark
    while cell_len(right) > space - (len(end) if is_cut else 0):
        right, is_cut = right[:-1], True
    return Text(left, end=""), Text(right + (end if is_cut else ""), end="")


def _dotted(text: str) -> str:
    """Return ``text`` with the dots of hidden values as this terminal can show them."""
    return text.replace(_DOT, "*") if glyphs().is_ascii else text


def _piece(text: str, start: int) -> str:
    piece = text[max(0, start - 24) : start + 40]
    tail = len(piece) - len(piece.rstrip(" \t\r\n"))
    if start + 40 >= len(text) and tail:
        piece = piece[: len(piece) - tail] + "".join(f"<U+{ord(c):04X}>" for c in piece[len(piece) - tail :])
    return "".join(f"<U+{ord(c):04X}>" if unicodedata.category(c).startswith("M") else c for c in piece)
