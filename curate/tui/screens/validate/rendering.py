"""What the Validate screen shows: problems as rows of a table, what is known of one of them, and how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from curate.base.record import Finding
from curate.base.tables import counted
from curate.checks import discover
from curate.jsonl import FAULTS
from curate.project.approval import UNAPPROVED
from curate.sessions.excerpt import Excerpt, ExcerptLine
from curate.sessions.problem_groups import Heading, ProblemItem, Problems, level_of
from curate.tui.border import FINDING_SIGNS, cut_middle, dotted, glyphs, safe_line, safe_text
from curate.tui.frame_table import Column, tone_of_sign

KEY = 5  # Which value of a row names it.


@dataclass(frozen=True, slots=True)
class MoreRow:
    """Stands below the findings of a group that has more of them than are kept."""

    key: str
    count: int


Line = Heading | ProblemItem | MoreRow


def columns(is_narrow: bool) -> list[Column]:
    """Return the columns for the room there is."""
    finding, where = (22, 11) if is_narrow else (34, 24)
    number = Column("n", 7, is_right=True, is_snug=True)
    head = Column("finding", finding, is_snug=True, cut=_location)
    location = Column("where", where, is_name=True, is_snug=True)
    return [Column("", 9, tone=tone_of_sign), head, location, number, Column("says")]


# Return the location of a finding with its line number, which stands at the end; titles of groups lose theirs.
def _location(value: str, width: int) -> str:
    return f"  {cut_middle(value[2:], width - 2)}" if value.startswith("  ") else value


def lines_of(listed: Sequence[Heading | ProblemItem]) -> list[Line]:
    """Return ``listed`` with a line below each open group that has more than is listed."""
    lines: list[Line] = []
    waiting: Heading | None = None
    for row in listed:
        if isinstance(row, Heading):
            lines += _more(waiting)
            waiting = row if row.is_open else None
        lines.append(row)
    return [*lines, *_more(waiting)]


def source_of(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """Return the rows of ``lines``, raw; each is named by a key that stays the same in the next list."""
    repeats: Counter[str] = Counter()
    rows = []
    for line in lines:
        row = _row(line)
        # The same may be found twice at one place.
        repeats[row[KEY]] += 1
        rows.append(row if repeats[row[KEY]] == 1 else (*row[:KEY], f"{row[KEY]} {repeats[row[KEY]]}"))
    return rows


# Return what stands for the findings of a group that are counted and not kept; a filter cannot see them.
def _more(heading: Heading | None) -> list[MoreRow]:
    if heading is None or heading.count == heading.num_listed:
        return []
    return [MoreRow(f"{heading.key} more", heading.count - heading.num_listed)]


def _row(line: Line) -> tuple[str, ...]:
    match line:
        case Heading():
            mark = "v" if line.is_open else ">"
            number = f"{line.count:,}"
            code = line.title.split(" ")[0]
            where = line.pointer or (_WHERE.get(level_of(code), "") if code in FAULTS or code in discover() else "")
            return f"{mark} {FINDING_SIGNS[line.severity][0]}", line.title, where, number, line.message, line.key
        case ProblemItem():
            finding = line.finding
            location = f"  {finding.file}:{finding.line}" if finding.line else f"  {finding.file or 'all records'}"
            where = finding.record or finding.pointer
            key = f"{line.key} {finding.file}:{finding.line} {finding.code} {finding.pointer}"
            return "", location, where, "", finding.message, key
        case MoreRow():
            return "", f"  {line.count:,} more", "", "", "counted, and not kept to be listed", line.key


# Where the findings of a group without a pointer are.
_WHERE = {"line": "the line", "whole": "all records", "record": "the record"}
_MARGIN = 10


def render_heading(heading: Heading, width: int) -> Text:
    """Return what a group is about and how much of it is listed."""
    text = Text.assemble(
        FINDING_SIGNS[heading.severity], "  ", safe_text(heading.title, 50, "strong"),
        "  ", safe_text(heading.pointer, 40), f"  {counted(heading.count, 'finding')}",
    )  # fmt: skip
    if heading.count > heading.num_listed:
        text.append(f", the first {heading.num_listed:,} of them listed")
    if heading.num_matching < heading.num_listed:
        text.append(f", {heading.num_matching:,} match the filter")
    text.append_text(Text.assemble("\n", ("why   ", "muted"), safe_text(why(heading.title.split(" ")[0]), 3 * width)))
    return text


def render_finding(finding: Finding, excerpt: Excerpt, fix: str, width: int) -> Text:
    """Return a finding with the lines around it, why it is one, and what can be done; ``fix`` says what a fix does."""
    location = f"{finding.file}:{finding.line}" if finding.line else finding.file or "all records"
    column = f":{excerpt.column}" if excerpt.column else ""
    head = Text.assemble(
        Text(cut_middle(location + column, 48), "strong"),
        "  ",
        safe_text(finding.record, 30),
        "  ",
        safe_text(finding.pointer, 40, "muted"),
    )
    lines = [head, *_rows(excerpt, finding.code, width)]
    if excerpt.is_decided:
        lines.append(Text("decided: the record now says this; the file has another line", style="muted"))
    lines.append(
        Text.assemble(safe_text(f"{finding.code} {finding.name}", 40, "strong"), "  ", safe_text(finding.message, 400))
    )
    lines.append(Text.assemble(("why   ", "muted"), safe_text(why(finding.code), 2 * width)))
    lines.append(Text.assemble(("fix   ", "muted"), safe_text(" ".join([finding.fix, fix]).strip(), 2 * width)))
    return Text("\n").join(lines)


def why(code: str) -> str:
    """Return the first paragraph of what is known of a check."""
    if code == UNAPPROVED:
        return "a record waits until somebody approves what it says, as [review] in curate.toml asks"
    rule = FAULTS.get(code) or discover().get(code)
    return " ".join(rule.help.split("\n\n")[0].split()) if rule else "what people decided does not fit together"


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
    left = safe_line(dotted(before))
    while cell_len(left) > room // 2:
        left, is_cut_before = left[1:], True
    left = (end + left[len(end) :] if len(left) > len(end) else end) if is_cut_before else left
    space = room - cell_len(left)
    piece = row.text[mark : mark + space]
    right = safe_line(dotted(piece))
    is_cut = row.is_cut[1] or len(piece) < len(row.text) - mark
    while cell_len(right) > space - (len(end) if is_cut else 0):
        right, is_cut = right[:-1], True
    return Text(left, end=""), Text(right + (end if is_cut else ""), end="")


_SHOWS = ("", "errors only", "no infos")


def summary(problems: Problems | None, num_stale: int, is_searching: bool, severities: int) -> Text:
    """Return the line; ``severities`` says which severities are listed: all, errors, or errors and warnings."""
    if problems is None:
        return Text(" validating ..." if is_searching else " not validated yet: R begins")
    num_errors, num_warnings, num_infos = (problems.count(severity) for severity in ("error", "warning", "info"))
    parts = [
        (f" {counted(num_errors, 'error')}", "error" if num_errors else "ok"),
        (counted(num_warnings, "warning"), "warn" if num_warnings else ""),
        (counted(num_infos, "info") if num_infos else "", ""),
        (f"in {counted(problems.num_records, 'record')}", ""),
        (
            f"{problems.num_failing:,} {'blocks' if problems.num_failing == 1 else 'block'} export"
            if problems.num_failing
            else "",
            "error",
        ),
        (f"{problems.num_forgiven:,} forgiven" if problems.num_forgiven else "", ""),
        (f"{problems.num_suppressed:,} ignored" if problems.num_suppressed else "", ""),
        (f"{counted(num_stale, 'record')} changed since (R)" if num_stale else "", "warn"),
        ("validating ..." if is_searching else "", ""),
        (_SHOWS[severities], "accent"),
    ]
    return Text("  ", end="", no_wrap=True).join(Text(text, style=style) for text, style in parts if text)
