"""The problems of an open project: looked for in a process of its own, and kept up with what is decided after that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import Event, RLock
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from curate.base.console import typed
from curate.base.events import Edit
from curate.base.record import CurateError, Finding, Json, Severity, Source
from curate.checks.runner import CheckPlan, open_baseline
from curate.checks.runner.baseline import Changed
from curate.checks.runner.examine import findings_of
from curate.jsonl import FAULTS, parts_of
from curate.project.approval import UNAPPROVED, num_lacking, waiting, waiting_finding
from curate.project.fold import RecordState
from curate.project.single_file import WORKSPACE_HINT
from curate.schema.view import at
from curate.sessions.excerpt import Excerpt, LineIndex, excerpt
from curate.sessions.problem_groups import EVERY, Level, Problems, level_of
from curate.sessions.problem_search import Child, Job, OnProgress, RecordFix, RecordFixes, fixes_for, mend_record

if TYPE_CHECKING:
    from curate.project.catalog import Catalog
    from curate.project.project import Project

_OWN: tuple[Level, ...] = ("record", "decision")
_ALL: tuple[Level, ...] = ("record", "decision", "whole")


@dataclass(frozen=True, slots=True)
class FixesApplied:
    """How many records were mended, and how many were not because they have changed meanwhile."""

    num_mended: int
    num_changed: int


class ProblemList:
    """What is wrong in one project. Made by `problems_of`; several threads may call it."""

    def __init__(self, project: Project) -> None:
        self._problems: Problems | None = None
        self._problems_of: Catalog | None = None
        self.at: datetime | None = None  # When the last search ended, in local time.
        self.seconds = 0.0  # How long it took.
        self._project_ref = ref(project)
        self._lock = RLock()
        self._child: Child | None = None
        self._done = Event()
        self._failure: CurateError | None = None  # What kept the last search from its end.
        # How many decisions there were when the last search began, and when its records were last looked at again.
        self._num_searched = self._num_followed = 0
        self._plan: CheckPlan | None = None
        self._lines: dict[Path, LineIndex] = {}

    @property
    def project(self) -> Project:
        """The project that it is about."""
        project = self._project_ref()
        assert project is not None, "the project holds its problem list, not the other way round"
        return project

    @property
    def problems(self) -> Problems | None:
        """What the last search found; None before there was one, and once the records were read anew."""
        return self._problems if self._problems is not None and self._problems_of is self.project.catalog else None

    @property
    def is_searching(self) -> bool:
        """Whether a search is under way."""
        return self._child is not None

    @property
    def num_stale(self) -> int:
        """Records decided on since the search: findings about all records together may be out of date for them."""
        return len({event.id for event in self.project.since(self._num_searched)})

    def search(self, on_progress: OnProgress | None = None) -> Problems:
        """Validate all records as decisions have left them, and return what was found. Long: call it in a thread.

        Where a search is under way, it is waited for, and what it finds is returned. Where the records are read anew
        meanwhile, what it finds is of records that are gone: then it begins again.

        Raises:
            CurateError: as `ProjectData.verdict` does; E970 when the search was stopped or its process killed.
        """
        problems: Problems | None = None
        while problems is None:
            with self._lock:
                catalog, num_decisions = self.project.catalog, self.project.num_decisions
                job = self._job() if self._child is None else None
                if job is not None:
                    self._child, self._failure = Child(), None
                    self._done.clear()
            if job is not None:
                self._search(job, catalog, num_decisions, on_progress)
            else:
                self._done.wait()
                if self._failure is not None:
                    raise self._failure
            problems = self.problems
        return problems

    def stop(self) -> None:
        """End a search that is under way."""
        if child := self._child:
            child.stop()

    def catch_up(self, names: Collection[str] = ()) -> bool:
        """Look again at ``names`` and at what was decided on since, record by record; return whether there was any."""
        with self._lock:
            problems = self.problems
            if problems is None:
                return False
            events = self.project.since(self._num_followed)
            self._num_followed += len(events)
            changed = {event.id for event in events}.union(names)
            if not changed:
                return False
            decision_findings = [finding for finding in self.project.findings() if finding.record in changed]
            for name in sorted(changed):
                self._recheck(problems, name, [finding for finding in decision_findings if finding.record == name])
            problems.in_reading_order()
        self._judge()
        return True

    def statuses(self) -> dict[str, Severity]:
        """Return the worst severity of each record that something is wrong with; empty before the first search."""
        with self._lock:
            return self.problems.statuses() if self.problems else {}

    def excerpt(self, finding: Finding) -> Excerpt:
        """Return the lines around a finding. The first time for a large file it is long: call it in a thread."""
        path = self.project.root / finding.file
        lines = self._lines.get(path)
        if lines is None or not lines.is_current:
            lines = self._lines[path] = LineIndex(path)
        state = self._state(finding.record)
        return excerpt(finding, lines, state if state and state.heads else None)

    def is_of_record(self, finding: Finding) -> bool:
        """Whether a finding is about a record, not about a line that only calls itself as one is called."""
        state = self._state(finding.record)
        if state is None or level_of(finding.code) != "line":
            return state is not None
        # What is found in a decision on a record has the code of a line, too.
        return state.record.source == Source(finding.file, finding.line)

    def mending(self, finding: Finding) -> RecordFix | None:
        """Return what the fixes of this finding's code make of its record, by safe ones alone where those do anything.

        None where there is no fix that does anything.
        """
        state = self._state(finding.record)
        data = self.project.data
        for unsafe in (False, True):
            fixes = fixes_for(finding.code, data.settings.checks.ignore, unsafe=unsafe)
            if state and fixes and (fix := mend_record(state.record, data.shape, fixes)):
                return fix
        return None

    def mendings(self, on_progress: OnProgress | None = None) -> RecordFixes:
        """Return the safe fixes of all records, as `Child.run` does. Long: call it in a thread."""
        fixes: RecordFixes = Child().run("mend", self._job(), on_progress)
        return fixes

    def mend(self, fixes: Sequence[RecordFix]) -> FixesApplied:
        """Make fixes, as one act of edits that one undo takes back; records that have changed meanwhile stay."""
        wanted = [fix for fix in fixes if fix.changes and self._is_unchanged(fix)]
        if wanted:
            self.project.apply([fix.decision() for fix in wanted])
        return FixesApplied(len(wanted), len(fixes) - len(wanted))

    def ignore(self, finding: Finding) -> None:
        """Have the record ask to be excused from the check that made ``finding``, by an edit.

        Raises:
            CurateError: E905 when it cannot ask: the line is no record, or its schema has no place for that; and as
                `Project.apply`.
        """
        state = self._state(finding.record) if self.is_of_record(finding) else None
        view = self.project.shape.view
        if state is None or finding.code in FAULTS or finding.code in ("L402", "L403", UNAPPROVED):
            why = f"{finding.code} {finding.name} cannot be ignored for one record"
            hint = "Forgive what is old with a baseline, or set its severity."
            raise CurateError("E905 cannot-express", why, WORKSPACE_HINT if self.project.file else hint)
        if view is None or "ignore" not in view.paths:
            if self.project.file:
                why = "one file keeps no excuses outside of it, and its lines have no place for them"
                raise CurateError("E905 cannot-express", why, WORKSPACE_HINT)
            hint = 'Add "ignore": "/x-ignore" to its x-record.'
            raise CurateError("E905 cannot-express", "the schema has no place for checks that a record ignores", hint)
        data, parts = state.record.data, view.paths["ignore"]
        codes = sorted({*self.project.shape.ignored(data), finding.code})
        value: Json = _with(data.get(parts[0]), parts[1:], codes)
        self.project.apply([Edit(state.record.id, {parts[0]: value})])

    def write_baseline(self, on_progress: OnProgress | None = None) -> Changed:
        """Write what is wrong now to the baseline that curate.toml names (E902), as `validate --update-baseline` does.

        Long: call it in a thread, and search again after it.
        """
        changed: Changed = Child().run("update", self._job(), on_progress)
        return changed

    def ci_command(self) -> str:
        """Return the command that finds the same in a build."""
        return f"curate validate {typed(self.project.root)} --format github"

    def _job(self) -> Job:
        project = self.project
        decided = {(state.record.source.file, state.record.source.line): state.record.id for state in project.decided()}
        # The workspace is validated in another process, what was decided is known here.
        review = project.settings.review
        unapproved = [waiting_finding(*record, review) for record in waiting(project.data)]
        return Job(project.root, (*project.findings(), *unapproved), _renamed(project.catalog) | decided)

    def _search(self, job: Job, catalog: Catalog, num_decisions: int, on_progress: OnProgress | None) -> None:
        assert self._child is not None, "it has been begun"
        began = monotonic()
        try:
            problems: Problems = self._child.run("search", job, on_progress)
            with self._lock:
                self._problems, self._problems_of = problems, catalog
                self.at, self.seconds = datetime.now().astimezone(), monotonic() - began
                self._num_searched = self._num_followed = num_decisions
                self._examiner = None
        except CurateError as error:
            self._failure = error
            raise
        finally:
            self._child = None
            self._done.set()
        self.catch_up()
        self._judge()

    def _judge(self) -> None:
        # The catalogue that was searched, be it the present one or not: of another one nothing is known.
        with self._lock:
            if self._problems is not None and self._problems_of is not None:
                self._problems_of.judge(self._problems.statuses())

    def _recheck(self, problems: Problems, name: str, decision_findings: Sequence[Finding]) -> None:
        state = self._state(name)
        if state is None:
            problems.forget(name, _ALL)
            return
        record, file = state.record, state.record.source.file
        problems.forget(name, _OWN, file)
        if state.dropped is not None:
            problems.put_aside(name, file)
            return
        problems.put_back(name, file)
        # What the baseline holds is forgiven here without counting how often it has been forgiven elsewhere.
        for finding in findings_of(self._single(), record):
            problems.add(replace(finding, record=name), "record")
        for finding in decision_findings:
            problems.add(finding, "decision")
        if num_lacking(state, review := self.project.settings.review):
            problems.add(waiting_finding(name, record.source, state, review), "decision")

    def _single(self) -> CheckPlan:
        if self._plan is None:
            data = self.project.data
            baseline = open_baseline(data.settings, data.root)
            self._plan = CheckPlan(data.shape, data.settings, limit=EVERY, root=data.root, baseline=baseline)
        return self._plan

    def _state(self, name: str) -> RecordState | None:
        try:
            return self.project.state(name) if name else None
        except CurateError as error:
            # A line that is no record may have an id all the same.
            if error.number == "E916":
                return None
            raise

    def _is_unchanged(self, fix: RecordFix) -> bool:
        state = self._state(fix.record)
        return state is not None and all(
            at(state.record.data, parts_of(pointer)) == before for pointer, before, _ in fix.texts
        )


_lists: WeakKeyDictionary[Project, ProblemList] = WeakKeyDictionary()


def problems_of(project: Project) -> ProblemList:
    """Return the one problem list of ``project``."""
    problem_list = _lists.get(project)
    if problem_list is None:
        problem_list = _lists[project] = ProblemList(project)
    return problem_list


def _renamed(catalog: Catalog) -> dict[tuple[str, int], str]:
    # Ids that are another record's id with a number after it, by file and line. One that only looks so does no harm: it
    # is the record's own.
    # The catalogue has loaded it.
    import polars as pl

    frame = catalog.frame(["id", "file", "line"])
    stem = pl.col("id").str.replace("-[0-9]+$", "")
    named = frame.filter((stem != pl.col("id")) & stem.is_in(frame["id"].implode()))
    return {(file, line): name for name, file, line in named.select("id", "file", "line").iter_rows()}


def _with(value: Json, parts: Sequence[str], new: Json) -> Json:
    if not parts:
        return new
    inner: Mapping[str, Json] = value if isinstance(value, Mapping) else {}
    return {**inner, parts[0]: _with(inner.get(parts[0]), parts[1:], new)}
