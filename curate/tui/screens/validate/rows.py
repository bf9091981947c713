"""Problems as the rows of a table: the headings of groups and, below those that are open, their findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from curate.base.record import Severity
from curate.sessions.problem_groups import Heading, ProblemItem
from curate.tui.frame_table import Column, ListRows, Tone

SIGNS: dict[Severity, str] = {"error": "! error", "warning": "~ warn", "info": "info"}
KEY = 5
"""Which value of a row names it."""


@dataclass(frozen=True, slots=True)
class MoreRow:
    """Stands below the findings of a group that has more of them than are kept."""

    key: str
    count: int


Line = Heading | ProblemItem | MoreRow


def tone(value: str) -> Tone:
    """Return how a severity is drawn."""
    return "error" if "!" in value else "warn" if "~" in value else ""


def columns(is_narrow: bool) -> list[Column]:
    """Return the columns for the room there is."""
    if is_narrow:
        return [
            Column("", 9, tone=tone),
            Column("finding", 24),
            Column("where", 13),
            Column("n", 6, is_right=True),
            Column("says"),
        ]
    return [
        Column("", 9, tone=tone),
        Column("finding", 28),
        Column("where", 20),
        Column("n", 7, is_right=True),
        Column("says"),
    ]


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


def source_of(lines: Sequence[Line]) -> ListRows:
    """Return the rows of ``lines``, raw; each is named by a key that stays the same in the next list."""
    repeats: Counter[str] = Counter()
    rows = []
    for line in lines:
        row = _row(line)
        # The same may be found twice at one place.
        repeats[row[KEY]] += 1
        rows.append(row if repeats[row[KEY]] == 1 else (*row[:KEY], f"{row[KEY]} {repeats[row[KEY]]}"))
    return ListRows(rows)


def _more(heading: Heading | None) -> list[MoreRow]:
    """Return what stands for the findings of a group that are counted and not kept; a filter cannot see them."""
    if heading is None or heading.count == heading.num_listed:
        return []
    return [MoreRow(f"{heading.key} more", heading.count - heading.num_listed)]


def _row(line: Line) -> tuple[str, ...]:
    match line:
        case Heading():
            mark = "v" if line.is_open else ">"
            number = f"{line.count:,}"
            return f"{mark} {SIGNS[line.severity]}", line.title, line.pointer, number, line.message, line.key
        case ProblemItem():
            finding = line.finding
            location = f"  {finding.file}:{finding.line}" if finding.line else f"  {finding.file or 'all records'}"
            where = finding.record or finding.pointer
            key = f"{line.key} {finding.file}:{finding.line} {finding.code} {finding.pointer}"
            return "", location, where, "", finding.message, key
        case MoreRow():
            return "", f"  {line.count:,} more", "", "", "counted, and not kept to be listed", line.key
