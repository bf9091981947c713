"""What can be done about one finding without typing: a fix, a redaction, a drop, an excuse.

Each is one act of decisions that one undo takes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.console import one_line
from curate.base.events import Drop, Edit
from curate.base.record import Finding
from curate.base.storage import locked, make_cache
from curate.base.tables import counted
from curate.checks.redact import (
    PlaceholderTable,
    Redactor,
    Terms,
    placeholders_in,
    read_table,
    redacted_line,
    write_table,
)
from curate.sessions.problem_search import RecordFix
from curate.sessions.problems import problems_of

if TYPE_CHECKING:
    from curate.project.project import Project

_SENSITIVE = ("X701", "X702")
TABLE = Path(".curate/redaction.json")


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to do: its key, what it does in words, and the function that does it and returns what was done."""

    key: str
    text: str
    act: Callable[[], str]


def remedies_of(project: Project, finding: Finding) -> list[Remedy]:
    """Return what can be done about a finding of a record. Reads the record: call it in a thread."""
    problem_list = problems_of(project)
    remedies: list[Remedy] = []
    for unsafe in (False, True):
        fix = problem_list.mending(finding, unsafe=unsafe)
        if fix is not None and fix.changes and not remedies:
            warning = ", which can change what the text means" if unsafe else ""
            remedies.append(Remedy("f", f"fix: {', '.join(fix.fixes)}{warning}", partial(_fix, project, fix)))
    if finding.code in _SENSITIVE:
        problems = problem_list.problems
        alike = problems.with_code(finding.code) if problems else [finding.record]
        remedies.append(Remedy("r", "redact this record", partial(redact, project, [finding.record])))
        if len(alike) > 1:
            text = f"redact all {len(alike):,} records with {finding.code}"
            remedies.append(Remedy("a", text, partial(redact, project, alike)))
    remedies.append(Remedy("d", "drop the record", partial(_drop, project, finding)))
    remedies.append(Remedy("i", f"excuse the record from {finding.code}", partial(_excuse, project, finding)))
    return remedies


def redact(project: Project, names: Iterable[str]) -> str:
    """Replace personal data and secrets in records by placeholders, as one act; return what was done, in words.

    The numbers are those of `curate redact`, from its table. Long: call it in a thread.

    Raises:
        CurateError: E904 and E958 when the table cannot be read; E906 when it cannot be written.
    """
    path = project.root / TABLE
    make_cache(path.parent)
    num_refused = 0
    with locked(path, on_wait=lambda: None):
        table = read_table(path) if path.exists() else PlaceholderTable()
        for file in project.files():
            table.reserve(placeholders_in(file, project.root))
        redactor, edits = Redactor(table, Terms([])), []
        num_values = table.num_values
        for name in names:
            before = project.state(name).record.data
            after = redacted_line(before, redactor, project.shape)
            if after != before and project.shape.is_valid(after):
                edits.append(Edit(name, {key: part for key, part in after.items() if part != before[key]}))
            num_refused += after != before and not project.shape.is_valid(after)
        if table.num_values > num_values:
            # Before a record needs it: a number that is lost could be given to another value.
            write_table(path, table)
        if edits:
            project.apply(edits)
    refused = f"; the schema does not allow it in {counted(num_refused, 'record')}" if num_refused else ""
    if not edits:
        return f"nothing could be redacted{refused}"
    return f"redacted {counted(len(edits), 'record')}{refused}; the record files still hold what was there"


def _fix(project: Project, fix: RecordFix) -> str:
    done = problems_of(project).mend([fix])
    return "fixed" if done.num_mended else "the record has changed meanwhile; nothing was fixed"


def _drop(project: Project, finding: Finding) -> str:
    project.apply([Drop(finding.record, reason=f"{finding.code} {finding.name}")])
    return f"dropped {one_line(finding.record, 60)}"


def _excuse(project: Project, finding: Finding) -> str:
    problems_of(project).ignore(finding)
    return f"{one_line(finding.record, 60)} is excused from {finding.code}"
