"""One validation of a workspace or of record files, the same for a command, an export and a screen.

Lines, records and the data set as a whole are for `curate.checks.runner`. Here is what needs more than one line or
another room: decisions, merges, leaks, suspect labels, lengths in tokens. What needs the records asks the workspace.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from importlib.util import find_spec
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.console import one_line, spelled
from curate.base.file_guard import read_file
from curate.base.record import CurateError, Finding, Record, Source
from curate.base.storage import make_cache, write_atomic
from curate.base.tables import counted
from curate.checks import DatasetProblem
from curate.checks.runner import (
    CheckPlan,
    Engine,
    Verdict,
    examine_all,
    open_baseline,
    read_records,
    relative_name,
    select_checks,
    validate,
)
from curate.checks.runner.changes import changed_lines, unmerged_findings
from curate.checks.runner.examine import add_record
from curate.checks.runner.names import UniqueNames, WatchedIds
from curate.checks.runner.results import SpanResult
from curate.checks.runner.select import CheckSelection
from curate.jsonl import Entry, read_entries
from curate.schema import Shape, guess_shape, load_shape, resembled_shape
from curate.schema.settings import Settings, read_settings

# Files of no workspace are checked without what decisions bring with them, pydantic before all.
if TYPE_CHECKING:
    from curate.project.blind import Blind
    from curate.project.data import ProjectData
    from curate.project.fold import RecordState


_SAMPLE_LINES = 100
_LABELS = Path(".curate", "cache", "labels")
OnSpan = Callable[[SpanResult], None]
Results = Iterator[tuple[Path, SpanResult]]
# Finds what is wrong with records in the tokens of a model.
Lengths = Callable[[Sequence[Record]], Sequence[Finding]]


@dataclass
class Validation:
    """What to validate, and how: ``files`` as ``plan`` says, with the decisions of ``workspace`` if there is one.

    Files of the plan's root are all that its workspace has unless ``is_part``. ``jobs`` is the number of processes, 0
    for as many as pay. Leaks are looked for with ``has_leaks``; ``lengths`` brings findings that need a model.
    ``on_span`` sees the result of each span before the others do, and may take findings out of it.
    """

    files: Sequence[Path]
    plan: CheckPlan
    data: ProjectData | None = None
    is_part: bool = False
    jobs: int = 0
    since: str = ""
    """The commit that lines must differ from to be looked at."""
    engine: Engine = examine_all
    has_leaks: bool = True
    lengths: Lengths | None = None
    on_span: OnSpan | None = None
    remarks: list[str] = field(default_factory=list)
    """What is to be said of how findings came about, once it has run."""
    _stream: RecordStream = field(init=False)

    def run(self) -> Verdict:
        """Read the files, once, and return what was found.

        Raises:
            CurateError: E902 for unknown checks in the settings; E904 when a file is missing or may not be read; E913
                and E980 for a journal that cannot be read; E940 for checks that need an extra; E957 for a commit that
                is not there; E970 when a worker is killed; E974 when a file changes meanwhile; and as ``lengths`` does.
        """
        changes = changed_lines(self.files, self.since) if self.since else self.plan.changes
        # Without a view lines are no records, so that there is nothing to decide on.
        data = self.data if self.plan.shape.view else None
        self._stream = RecordStream(self.plan.root, data, is_whole=self._whole is not None)
        return validate(
            self.files,
            replace(self.plan, changes=changes, watched=self._stream.watched),
            jobs=self.jobs,
            engine=self._stream.engine(self.engine, self.on_span),
            further=self._further,
            has_lengths=self.lengths is not None,
        )

    def with_decisions(self, verdict: Verdict) -> Verdict:
        """Return ``verdict`` with what keeps a whole workspace, not one of its files, from an export, once it has run.

        That is what is wrong with decisions (L402, L403, L407 to L409, unfit edits), frozen records that are not as
        they were (P506), held-out records in the words of a model (P507), and records that wait for approval (L406).
        """
        if self._whole is None:
            return verdict
        from curate.project.approval import with_waiting
        from curate.project.golden import changed_records
        from curate.project.whole_findings import machine_records, outdated_drops, returned_texts

        findings = [*self._stream.told(), *changed_records(self._whole)]
        findings += [*machine_records(self._whole), *outdated_drops(self._whole), *returned_texts(self._whole)]
        verdict = verdict.with_findings(self._renamed(findings))
        return with_waiting(verdict, self._whole, self.plan.limit, self._renamed)

    def hidden(self, blind: Blind) -> set[str]:
        """Return the ids of the records whose category ``blind`` hides, as workspace and lines call them."""
        from curate.project.journal import CATEGORY

        hidden = [(state, own_id) for state, own_id in self._stream.answered() if blind.hides(state, CATEGORY)]
        return {name for state, own_id in hidden for name in (state.record.id, own_id)}

    @property
    def _whole(self) -> ProjectData | None:
        """The workspace, where all of its files are read."""
        return None if self.is_part else self.data

    @cached_property
    def _selection(self) -> CheckSelection:
        return select_checks(self.plan.settings)

    def _further(self, has_exam: bool) -> Iterator[tuple[Finding, DatasetProblem | None]]:
        """Yield what is not found line by line."""
        for finding in unmerged_findings(self.files, self.data.root if self.data else None):
            yield finding, None
        if self.lengths:
            yield from self._opened((finding, None) for finding in self.lengths(self._records()))
        if self._selection.doubt_checks:
            # It brings a model and the search for repeats with it.
            from curate.checks.quality.suspects import doubtful

            findings, remark = doubtful(self._records(), self.plan.shape, self.plan.settings)
            self.remarks += [f"L405: {remark}"] if remark else []
            if self._whole and remark:
                _note_label_search(self._whole.root, len(findings))
            yield from self._opened((finding, None) for finding in findings)
        if self.has_leaks and (has_exam or self._has_fixed_exam):
            # It brings the search for repeats, too.
            from curate.project.plan import leaks_between, leaks_in

            yield from self._opened(
                leaks_in(self._whole, has_exam=has_exam)
                if self._whole
                else leaks_between(self._records, self.plan.shape, self.plan.settings)
            )

    def _opened(
        self, findings: Iterable[tuple[Finding, DatasetProblem | None]]
    ) -> Iterator[tuple[Finding, DatasetProblem | None]]:
        """Call files as they are called in a validation: by the paths that they are opened with."""
        files = {self._stream.source_file(path): spelled(str(path)) for path in self.files}
        for finding, location in findings:
            opened = None
            if location:
                other, line = location.other
                opened = location._replace(
                    file=files.get(location.file, location.file), other=(files.get(other, other), line)
                )
            yield replace(finding, file=files.get(finding.file, finding.file)), opened

    def _renamed(self, findings: Iterable[Finding]) -> list[Finding]:
        return [finding for finding, _ in self._opened((finding, None) for finding in findings)]

    def _records(self) -> Sequence[Record]:
        return self._stream.records(self.files, self.plan.shape)

    @property
    def _has_fixed_exam(self) -> bool:
        return self._whole is not None and self._whole.has_fixed_exam()


def validate_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], schema: str = "", *, limit: int = 1000
) -> Verdict:
    """Validate record files that belong to no workspace, by default settings.

    ``schema`` is a shipped one (instruction, chat, domain) or the path of a file; without it the first lines say which
    shipped one it is. At most ``limit`` findings of each severity are returned, and all are counted.

    Raises:
        CurateError: E904 when a file is not there or may not be read; E903 for a schema that cannot be used.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    settings = read_settings(None)
    shape = load_shape(schema or guess_name(files))
    return Validation(files, CheckPlan(shape=shape, settings=settings, limit=limit)).run()


def guess_name(files: Iterable[Path]) -> str:
    """Return the shipped schema that the first lines of ``files`` are like."""
    items = chain.from_iterable(read_entries(path) for path in files)
    values = list(islice((item.value for item in items if isinstance(item, Entry)), _SAMPLE_LINES))
    return guess_shape(values) or resembled_shape(values)


def validate_data(data: ProjectData, *, limit: int = 1000, has_leaks: bool = False) -> Verdict:
    """Validate the records as decisions have left them, and add what could not be applied from the journal.

    With ``has_leaks`` leaks are looked for as well; an export asks the division that it has made.

    Raises:
        CurateError: E902, E904 or E956 for settings and a baseline that cannot be used.
    """
    data, baseline = data.as_files_are(), open_baseline(data.settings, data.root)
    plan = CheckPlan(shape=data.shape, settings=data.settings, limit=limit, root=data.root, baseline=baseline)
    validation = Validation(data.files(), plan, data, has_leaks=has_leaks)
    return validation.with_decisions(validation.run())


class RecordStream:
    """One reading of record files: of a workspace, of some of its files, or of files that belong to none."""

    # Names and decisions go by the order of the workspace's files, in whatever order the files are given. Of files that
    # are none of the workspace's, such as standard input, records are left out whose id was dropped, and no more.

    def __init__(self, root: Path | None, data: ProjectData | None = None, *, is_whole: bool = False) -> None:
        """Read the decisions of ``data``; ``root`` is what the files of records are named relative to.

        If all files of the workspace are read, ``is_whole``, records that were added are among the others.

        Raises:
            CurateError: E913 and E980 for a journal that cannot be read; E904 and E914 for the files decisions are on.
        """
        self._root = root
        self._data = data
        self._decisions = data.decisions.anew() if data and data.decisions.names else None
        # The workspace's files in their order, by the names that settings have for them.
        self._files = (
            {relative_name(path, data.root): path for path in data.files()} if data and self._decisions else {}
        )
        self._ranks = {file: rank for rank, file in enumerate(self._files)}
        self._num_read = 0
        self._names = UniqueNames()
        self._is_whole = is_whole
        self._answered: list[tuple[RecordState, str]] = []

    @property
    def watched(self) -> WatchedIds | None:
        """The ids of the records that may have been decided on, None where there are no decisions."""
        return WatchedIds.of(self._decisions.names) if self._decisions else None

    def records(self, files: Sequence[Path], shape: Shape) -> Sequence[Record]:
        """Return the records that are in, of ``files``, which are read again.

        Those of a whole workspace are named as there, others as their lines name them.
        """
        if self._is_whole and self._data:
            return self._data.records()
        if not self._decisions or not self._data:
            return [item for item in read_records(files, shape, root=self._root) if isinstance(item, Record)]
        own: dict[str, list[Record]] = {}
        for record in self._data.records() if any(map(self._is_ours, files)) else ():
            own.setdefault(record.source.file, []).append(record)
        records = []
        for path in files:
            if self._is_ours(path):
                name = spelled(str(self._files[self._settings_name(path)].relative_to(self._data.root)))
                source_file = self.source_file(path)
                records += [
                    self._as_in_line(record, Source(source_file, record.source.line)) for record in own.get(name, ())
                ]
            else:
                items = read_records([path], shape, root=self._root)
                records += [r for r in items if isinstance(r, Record) and not self._decisions.is_out(r.id)]
        return records

    def told(self) -> list[Finding]:
        """Return what is wrong with decisions on records that were read."""
        return self._decisions.told().findings if self._decisions else []

    def answered(self) -> list[tuple[RecordState, str]]:
        """Return the records of the whole workspace whose category somebody has answered, each with its line's id.

        Of the records there is nothing but the name. Files that were not among those to be read are read for that.
        """
        if not self._is_whole:
            self._pass_over(len(self._files))
            for state in self._decisions.added() if self._decisions else ():
                self._note_answer(state)
        return self._answered

    def engine(self, engine: Engine, on_span: OnSpan | None = None) -> Engine:
        """Return an engine of `curate.checks.runner.validate` that has ``engine`` examine files, and exchanges records.

        ``on_span`` sees each result before the others do, and may take findings out of it.
        """

        def examine(plan: CheckPlan, files: Sequence[Path], jobs: int) -> Results:
            ordered = sorted(files, key=self._rank)
            results = self._exchanged(engine(plan, ordered, jobs), plan)
            results = results if ordered == list(files) else _reordered(results, files)
            for path, result in chain(results, self._added(plan) if self._is_whole else ()):
                if on_span:
                    on_span(result)
                yield path, result

        return examine

    def _exchanged(self, results: Iterable[tuple[Path, SpanResult]], plan: CheckPlan) -> Results:
        """Yield the results of spans, in the order of the workspace's files, with records as decisions leave them.

        A record of a file that is none of the workspace's is left out if one with its id was dropped.
        """
        for path, result in results:
            rank = self._rank(path)
            if is_ours := rank < len(self._files):
                self._pass_over(rank)
                self._num_read = rank + 1
            names = self._named(result) if is_ours else {}
            file, settings_name = self.source_file(path), relative_name(path, plan.root)
            for record, is_changed in result.watched:
                name = names.get(record.source.line)
                state = self._decided(_moved(record, name, file)) if name is not None else None
                if state.dropped is not None if state else self._decisions and self._decisions.is_out(record.id):
                    continue
                is_decided = bool(state and state.heads)
                now = self._as_in_line(state.record, record.source) if state and is_decided else record
                add_record(plan, result, now, settings_name, is_changed=is_changed or is_decided)
            if result.watched:
                result.sketches = result.sketches.in_order()
            # They are used up here: a span that waits for its turn holds findings and sketches only.
            result.watched, result.displacing = [], []
            yield path, result

    def _named(self, result: SpanResult) -> dict[int, str]:
        """Return, by line, what the records of a span are called that may have been decided on."""
        watched = [(record.source.line, record.id) for record, _ in result.watched]
        return {line: self._names.name(own_id) for line, own_id in sorted([*result.displacing, *watched])}

    def _decided(self, record: Record) -> RecordState:
        """Return a record as decisions have left it."""
        assert self._decisions is not None
        state = self._decisions.state(record)
        self._note_answer(state)
        return state

    def _note_answer(self, state: RecordState) -> None:
        from curate.project.journal import CATEGORY

        if state.answers.get(CATEGORY):
            own_id = self._as_in_line(state.record, state.record.source).id
            nothing_more = Record(state.record.id, state.record.kind, Source("", 0), {})
            self._answered.append((replace(state, record=nothing_more), own_id))

    def _added(self, plan: CheckPlan) -> Results:
        """Yield the results of the records that stand in no file."""
        records = []
        for state in self._decisions.added() if self._decisions else ():
            self._note_answer(state)
            if state.dropped is None:
                records.append(state.record)
        # Records of decisions have a place in the journal, which is their reading order.
        records.sort(key=lambda record: (record.source.file, record.source.line))
        for file, group in groupby(records, key=lambda record: record.source.file):
            result = plan.result()
            for record in group:
                add_record(plan, result, self._as_in_line(record, record.source), "")
            result.sketches = result.sketches.in_order()
            yield Path(file), result

    def _pass_over(self, rank: int) -> None:
        """Read the files before the one of this ``rank`` that are not examined: what is in them gives ids numbers."""
        if self._decisions and self._data:
            passed = list(self._files.values())[self._num_read : rank]
            for record in read_records(passed, self._data.shape, root=self._data.root):
                if isinstance(record, Record) and (name := self._names.name(record.id)) in self._decisions.names:
                    self._decided(replace(record, id=name))
        self._num_read = max(self._num_read, rank)

    def source_file(self, path: Path) -> str:
        """Return what the source of a record in a file is called."""
        own = self._files.get(self._settings_name(path)) if self._is_whole else None
        path, root = (own, self._data.root) if own and self._data else (path, self._root)
        return spelled(str(path.relative_to(root) if root and path.is_relative_to(root) else path))

    def _as_in_line(self, record: Record, source: Source) -> Record:
        """Return a record as its line calls it, and where that line was read: its name may be another."""
        view = self._data.shape.view if self._data else None
        own_id = view.get(record.data, "id") if view else None
        return replace(record, id=record.id if own_id is None else str(own_id), source=source)

    def _settings_name(self, path: Path) -> str:
        return relative_name(path, self._data.root) if self._data else ""

    def _is_ours(self, path: Path) -> bool:
        return self._settings_name(path) in self._files

    def _rank(self, path: Path) -> int:
        """Return the place of a file in the workspace's order, after the last for files that are none of it."""
        return self._ranks.get(self._settings_name(path), len(self._files))


def _moved(record: Record, name: str, file: str) -> Record:
    """Return a record under its name within the workspace, from a file as that is called there."""
    return replace(record, id=name, source=Source(file, record.source.line))


def _reordered(results: Results, files: Sequence[Path]) -> Results:
    """Yield results file by file in the order of ``files``; those that come too early are held until their turn."""
    turns = deque(files)
    waiting: dict[Path, list[SpanResult]] = {}
    for path, group in groupby(results, key=lambda pair: pair[0]):
        waiting[path] = [result for _, result in group]
        while turns and turns[0] in waiting:
            turn = turns.popleft()
            yield from ((turn, result) for result in waiting.pop(turn))


def label_search(root: Path, settings: Settings, name: str) -> str:
    """Return how many labels looked wrong when they were last searched, or how to learn it; "" without any labels.

    ``name`` is what to call the workspace ``root`` in the command to type.
    """
    kinds = settings.categories.values()
    is_asked = {"L405", "suspect-label"} & {*settings.checks.select, *settings.checks.ignore}
    if is_asked or (len(kinds) < 2 and all(kind.scorer not in ("choice", "exact") for kind in kinds)):
        return ""
    command = f"curate validate {one_line(name)} --select L405"
    try:
        num_wrong, when = read_file(root / _LABELS, root, most=100).decode().split(" ", 1)
        return f"{counted(int(num_wrong), 'label')} looked wrong on {when}: {command}"
    except (OSError, ValueError, CurateError):
        lacking = "" if find_spec("sklearn") else " (first: pip install 'pairsmith[quality]')"
        return f"labels not searched for wrong ones: {command}{lacking}"


def _note_label_search(root: Path, num_wrong: int) -> None:
    # It is told beside what a quick validation finds: the search itself takes seconds.
    make_cache(root / _LABELS.parent.parent)
    when = datetime.now().astimezone()
    write_atomic(root / _LABELS, [f"{num_wrong} {when:%Y-%m-%d at %H:%M}".encode()])
