"""The findings of a workspace line by line: what is wrong goes to stdout, what was done about it to stderr.

A line of stdin is one command, as in `curate label --plain`; what is decided is saved before the next finding comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from curate.base import console
from curate.base.record import CurateError, Exit, Finding
from curate.base.tables import counted
from curate.checks.spans import with_values_hidden
from curate.cli._lines import next_line, tell_undone
from curate.cli._output import print_lines
from curate.cli.edit import _edit_until_saved
from curate.project.blind import visible_finding
from curate.project.project import Project, open_project
from curate.sessions.edits import open_edit
from curate.sessions.lines import open_line
from curate.sessions.problem_groups import Heading, listed
from curate.sessions.problems import ProblemList, problems_of
from curate.sessions.remedies import Remedy, change_lines, drop, remedies_of

_HELP = """\
f           make the fix that is shown      e  edit the record in your editor
r           redact the record               a  redact all records with this code
d REASON    drop the record; a reason may be left out
i           excuse the record from this check, in its own x-ignore
s           leave it, and go on             p  the one before
u           take the last decision back     R  look at all records again
q           quit; everything is saved"""
# What stands in the way of one finding's remedy, and is for whoever chose it; a full disk is not.
_REFUSALS = ("E904", "E905", "E916", "E959", "E972", "E986")
_REMEDIES = ("f", "r", "a", "i")
_WIDTH = 160


def finding_lines(root: Path, by: str, source: IO[bytes]) -> int:
    """Ask about each finding of the workspace until none is left or nobody answers; exits 1 while something fails."""
    with open_project(root, by) as project:
        project.load()
        problem_list = problems_of(project)
        problem_list.search()
        _Walk(project, problem_list).go(source)
        problems = problem_list.problems or problem_list.search()
        num_left = sum(group.count for group in problems.groups)
        console.talk(f"{counted(num_left, 'finding')} left, {problems.num_failing:,} block export")
        return Exit.FINDINGS if problems.num_failing else Exit.OK


class _Walk:
    """One way through the findings, errors first. Those that were passed over come again in the next call."""

    def __init__(self, project: Project, problem_list: ProblemList) -> None:
        self._project, self._list = project, problem_list
        self._passed: list[tuple[object, ...]] = []
        self._printed: Finding | None = None
        self._has_decided = False  # Whether there is anything that u could take back.

    def go(self, source: IO[bytes]) -> None:
        """Show a finding, obey a line, and so on."""
        while True:
            findings, num_hidden = self._open()
            finding = next((item for item in findings if _key(item) not in self._passed), None)
            if finding is None:
                if num_hidden:
                    console.talk(f"{counted(num_hidden, 'more finding')} of the same kinds are counted and not listed")
                if not self._passed and not self._has_decided:
                    return
                console.data("no other finding [p the one before, u undo, R look again, q quit] >")
                remedies: list[Remedy] = []
            else:
                remedies = self._show(finding, len(findings))
            line = next_line(source)
            if line is None or line == "q" or (finding is None and line not in ("p", "u", "R", "?")):
                return
            try:
                self._obey(finding, remedies, line)
            except CurateError as error:
                if error.number not in _REFUSALS:
                    raise
                console.talk(console.visible(f"{error.message}. {error.hint}"))
            self._list.catch_up()

    def _open(self) -> tuple[list[Finding], int]:
        """Return the findings that can be asked about, and how many more there are."""
        problems = self._list.problems or self._list.search()
        rows = listed(problems, visible=partial(visible_finding, self._project))
        num_hidden = sum(row.count - row.num_listed for row in rows if isinstance(row, Heading))
        return [row.finding for row in rows if not isinstance(row, Heading)], num_hidden

    def _obey(self, finding: Finding | None, remedies: Sequence[Remedy], line: str) -> None:
        word, _, rest = line.partition(" ")
        if line == "p":
            console.talk("there is none before") if not self._passed else self._passed.pop()
        elif line == "u":
            tell_undone(self._project.undo())
        elif line == "R":
            self._passed.clear()
            self._list.search()
        elif line == "?":
            console.talk(_HELP)
        elif finding is not None and line in ("", "s"):
            self._passed.append(_key(finding))
        elif finding is not None and line == "e":
            is_record = self._list.is_of_record(finding)
            where = partial(open_line, self._project, finding.file, finding.line)
            self._has_decided |= is_record
            _edit_until_saved(open_edit(self._project, finding.record) if is_record else where(), as_json=not is_record)
            if not is_record:
                self._project.reload()
        elif finding is not None and (word == "d" or line in _REMEDIES):
            self._remedy(finding, remedies, word, rest.strip())
        else:
            console.talk(f"{console.one_line(line, 40)}: no command; ? lists them")

    def _remedy(self, finding: Finding, remedies: Sequence[Remedy], key: str, reason: str) -> None:
        remedy = next((remedy for remedy in remedies if remedy.key == key), None)
        if not remedies:
            console.talk("this line is no record; e edits it")
        elif remedy is None:
            console.talk(f"{key} does nothing about {finding.code} here; e edits the record")
        else:
            done = drop(self._project, finding, reason) if reason else remedy.act()
            self._has_decided = True
            console.talk(f"{done} (saved)")

    def _show(self, finding: Finding, size: int) -> list[Remedy]:
        """Print a finding, unless it was printed last, and return what can be done about it."""
        remedies = remedies_of(self._project, finding)
        if finding != self._printed:
            self._printed = finding
            print_lines(self._finding_lines(finding, size))
            for remedy in remedies:
                if remedy.fix is not None:
                    console.data(f"{remedy.key}: {remedy.text}")
                    print_lines(map(console.visible, change_lines(remedy.fix)))
        names = "".join(f"{remedy.key} {remedy.name}, " for remedy in remedies)
        console.data(f"finding [{names}e edit, s leave, u undo, ? help, q quit] >")
        return remedies

    def _finding_lines(self, finding: Finding, size: int) -> Iterator[str]:
        where = f"{finding.file}:{finding.line}" if finding.line else finding.file or "all records"
        yield ""
        yield f"{finding.severity} {finding.code} {finding.name}   {size - len(self._passed):,} left"
        yield console.one_line(finding.message, 400)
        yield console.one_line(f"{where}  {finding.record}  {finding.pointer}".rstrip(), 300)
        yield from self._excerpt(finding)
        if finding.fix:
            yield console.one_line(finding.fix, 400)

    def _excerpt(self, finding: Finding) -> Iterator[str]:
        excerpt = self._list.excerpt(finding)
        for row in excerpt.rows:
            start = max(0, (excerpt.mark or 0) - _WIDTH // 2) if row.line == excerpt.line else 0
            text = with_values_hidden(row.text)[start : start + _WIDTH]
            cut = "..." if start or row.is_cut[0] else ""
            more = "..." if len(row.text) > start + _WIDTH or row.is_cut[1] else ""
            yield f"{'>' if row.line == excerpt.line else ' '} {row.line:>6}  {cut}{console.visible(text)}{more}"


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.code, finding.file, finding.line, finding.record, finding.pointer, finding.message
