"""What can be done about one finding without typing: a fix, a redaction, a drop, an excuse.

Each is one act of decisions that one undo takes back. Screens and line mode offer the same ones.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from curate.base.console import one_line
from curate.base.events import Drop, Edit
from curate.base.record import CurateError, Finding, strings_of
from curate.base.tables import counted
from curate.checks.redact import PLACEHOLDER, Placeholders, Redactor, Terms, placeholders_in, redacted_line
from curate.checks.spans import with_values_hidden
from curate.sessions.edits import CHANGED_MEANWHILE
from curate.sessions.problem_search import RecordFix
from curate.sessions.problems import problems_of

if TYPE_CHECKING:
    from curate.project.project import Project

_SENSITIVE = ("X701", "X702")
_MOST_TEXTS = 3  # Texts of a fix that are shown; the others are counted.


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to do: its key, its name, what it does, and the function that does it and returns what was done.

    The function raises `CurateError` where nothing was done. ``fix`` is what a fix changes.
    """

    key: str
    name: str
    text: str
    act: Callable[[], str]
    fix: RecordFix | None = None


def remedies_of(project: Project, finding: Finding) -> list[Remedy]:
    """Return what can be done about a finding, nothing where it is of no single record. Long: call it in a thread."""
    problem_list = problems_of(project)
    if not problem_list.is_of_record(finding):
        return []
    remedies: list[Remedy] = []
    fix = problem_list.mending(finding)
    if fix is not None and fix.changes:
        text = f"fix: {', '.join(fix.fixes)}{'' if fix.is_safe else ', which can change what the text means'}"
        remedies.append(Remedy("f", "fix", text, partial(_fix, project, fix), fix))
    if finding.code in _SENSITIVE:
        problems = problem_list.problems
        alike = problems.with_code(finding.code) if problems else [finding.record]
        remedies.append(Remedy("r", "redact", "redact this record", partial(redact, project, [finding.record])))
        if len(alike) > 1:
            text = f"redact all {len(alike):,} records with {finding.code}"
            remedies.append(Remedy("a", f"redact all {len(alike):,}", text, partial(redact, project, alike)))
    excuse_text = f"excuse the record from {finding.code}"
    return [
        *remedies,
        Remedy("d", "drop", "drop the record", partial(drop, project, finding)),
        Remedy("i", "excuse", excuse_text, partial(excuse, project, finding)),
    ]


def drop(project: Project, finding: Finding, reason: str = "") -> str:
    """Drop the record of a finding, by default for what was found, and return what was done, in words."""
    project.apply([Drop(finding.record, reason=reason or f"{finding.code} {finding.name}")])
    return f"{one_line(finding.record, 60)} dropped"


def excuse(project: Project, finding: Finding) -> str:
    """Excuse the record of a finding from its check and return what was done, in words; as `ProblemList.ignore`."""
    problems_of(project).ignore(finding)
    return f"{one_line(finding.record, 60)} is excused from {finding.code}"


def change_lines(fix: RecordFix) -> list[str]:
    """Return what a fix changes: of each text a line before and one after, cut to where they differ.

    What a fix changes is often not to be seen: blanks at an end, and marks that stand on letters, are written as code
    points. Sensitive values are hidden; what could steer a terminal is left to whoever prints them.
    """
    lines = []
    for pointer, before, after in fix.texts[:_MOST_TEXTS]:
        pairs = enumerate(zip(before, after, strict=False))
        start = next((n for n, (old, new) in pairs if old != new), min(len(before), len(after)))
        lines += [pointer, f"- {_piece(before, start)}", f"+ {_piece(after, start)}"]
    if len(fix.texts) > _MOST_TEXTS:
        lines.append(f"and {counted(len(fix.texts) - _MOST_TEXTS, 'more text')}")
    return lines


def redact(project: Project, names: Iterable[str]) -> str:
    """Replace personal data and secrets in records by placeholders, as one act; return what was done, in words.

    The same value is the same placeholder in all of them, and no placeholder that is there already is given out.
    Long: call it in a thread.

    Raises:
        CurateError: E905 when nothing can be redacted; as `Project.apply`.
    """
    placeholders, edits, num_refused = Placeholders(), list[Edit](), 0
    for file in project.files():
        placeholders.reserve(placeholders_in(file, project.root))
    for state in project.decided():
        placeholders.reserve(PLACEHOLDER.findall(" ".join(strings_of(state.record.data))))
    redactor = Redactor(placeholders, Terms([]))
    for name in names:
        before = project.state(name).record.data
        after = redacted_line(before, redactor, project.shape)
        if after != before and project.shape.is_valid(after):
            edits.append(Edit(name, {key: part for key, part in after.items() if part != before[key]}))
        num_refused += after != before and not project.shape.is_valid(after)
    if edits:
        project.apply(edits)
    refused = f"the schema does not allow it in {counted(num_refused, 'record')}" if num_refused else ""
    if not edits:
        why = f"nothing could be redacted{refused and f': {refused}'}"
        raise CurateError("E905 cannot-express", why, "Edit the record.")
    done = f"redacted {counted(len(edits), 'record')}{refused and f'; {refused}'}"
    return f"{done}; the record files still hold what was there"


def _fix(project: Project, fix: RecordFix) -> str:
    name = one_line(fix.record, 60)
    if not problems_of(project).mend([fix]).num_mended:
        message = f"{name} has changed meanwhile; nothing was fixed"
        raise CurateError(CHANGED_MEANWHILE, message, "Look at it again.")
    return f"{name} fixed"


def _piece(text: str, start: int) -> str:
    text, end = with_values_hidden(text), start + 40
    piece = text[max(0, start - 24) : end]
    bare = piece.rstrip(" \t\r\n") if end >= len(text) else piece
    tail = "".join(f"<U+{ord(c):04X}>" for c in piece[len(bare) :])
    return "".join(f"<U+{ord(c):04X}>" if unicodedata.category(c).startswith("M") else c for c in bare) + tail
