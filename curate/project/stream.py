"""The records of a workspace as decisions have left them, while its files are examined, wherever that is done.

Each line is parsed once. Decisions are read first; a line whose record somebody has decided on comes back from whoever
parses it, and is exchanged for the record as it now is. Nobody examines what such a line says, and a record that was
left out not at all. Records that were added stand in no file and come last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path

from curate.base.console import spelled
from curate.base.record import Record, Source
from curate.checks.runner import Engine, read_records, relative_name
from curate.checks.runner.examine import Examiner, SpanResult
from curate.checks.runner.naming import UniqueNames, Watched, WatchedIds
from curate.checks.runner.verdict import FindingTally
from curate.project.data import CATEGORY, ProjectData, RecordState
from curate.schema import Shape

OnSpan = Callable[[SpanResult], None]
Results = Iterator[tuple[Path, SpanResult]]


class RecordStream:
    """One reading of record files: of a workspace, of some of its files, or of files that belong to none.

    Names and decisions go by the order of the workspace's files, in whatever order the files are given. Of files that
    are none of the workspace's, such as standard input, records are left out whose id was dropped, and no more.
    """

    def __init__(
        self,
        root: Path | None,
        data: ProjectData | None = None,
        *,
        is_whole: bool = False,
        has_records: bool = False,
    ) -> None:
        """Read the decisions of ``workspace``; ``root`` is what the files of records are named relative to.

        If all files of the workspace are read, ``is_whole``, records that were added are among the others, and with
        ``has_records`` the workspace takes all of them in the end.

        Raises:
            CurateError: E913 and E980 for a journal that cannot be read; E904 and E914 for the files decisions are on.
        """
        self._root = root
        self._data = data
        self._decisions = data.decisions if data and data.decisions.names else None
        self._files: dict[str, Path] = {}
        """The workspace's files in their order, by the names that settings have for them."""
        if data and (self._decisions or has_records):
            self._files = {relative_name(path, data.root): path for path in data.files()}
        self._ranks = {file: rank for rank, file in enumerate(self._files)}
        self._num_read = 0
        self._names = UniqueNames()
        self._is_whole = is_whole
        self.has_records = has_records
        self._states: list[RecordState] = []
        self._records: list[Record] = []
        self._unread: list[tuple[str, int]] = []
        self._answered: list[tuple[RecordState, str]] = []

    @property
    def watched(self) -> WatchedIds | None:
        """The ids of the records that may have been decided on, None where there are no decisions."""
        return WatchedIds.of(self._decisions.names) if self._decisions else None

    def records(self, files: Sequence[Path], shape: Shape) -> Sequence[Record]:
        """Return the records that are in, of ``files``, which were read; they are read again if none were retained.

        Those of a whole workspace are named as there, others as their lines name them.
        """
        if self._is_whole and self._data:
            return self._data.records()
        if self.has_records:
            order = {self.source_file(path): index for index, path in enumerate(files)}
            return sorted(self._records, key=lambda record: order[record.source.file])
        is_out = self._decisions.is_out if self._decisions else lambda _: False
        records = (item for item in read_records(files, shape, root=self._root) if isinstance(item, Record))
        return [record for record in records if not is_out(record.id)]

    def finish(self) -> None:
        """Give the workspace its records, where all were read and retained."""
        if self._is_whole and self._data and self.has_records:
            self._data.hold(self._states, self._unread)

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

        def examine(examiner: Examiner, files: Sequence[Path], jobs: int) -> Results:
            ordered = sorted(files, key=self._rank)
            results = self._exchanged(engine(examiner, ordered, jobs), examiner)
            results = results if ordered == list(files) else _reordered(results, files)
            for path, result in chain(results, self._added(examiner) if self._is_whole else ()):
                if on_span:
                    on_span(result)
                yield path, result

        return examine

    def _exchanged(self, results: Iterable[tuple[Path, SpanResult]], examiner: Examiner) -> Results:
        """Yield the results of spans, in the order of the workspace's files, with records as decisions leave them."""
        for path, result in results:
            rank = self._rank(path)
            is_ours = rank < len(self._files)
            if is_ours:
                self._pass_over(rank)
                self._num_read = rank + 1
            names = self._named(result) if is_ours else {}
            file, settings_name = self.source_file(path), relative_name(path, examiner.spec.root)
            states: dict[int, RecordState | None] = {}
            for watched in result.watched:
                line = watched.record.source.line
                states[line] = self._exchange(result, watched, names.get(line), file, settings_name, examiner)
            if states:
                result.sort()
            for record in result.records:
                self._retain(record, names.get(record.source.line), file, states)
            self._unread += [(file, line) for line in result.unread] if is_ours else []
            result.watched, result.displacing, result.records = [], [], []
            yield path, result

    def _retain(self, record: Record, name: str | None, file: str, decided: Mapping[int, RecordState | None]) -> None:
        """Retain a record of a line, or what is in ``decided`` in place of it."""
        line = record.source.line
        state = decided[line] if line in decided else RecordState(_moved(record, name or record.id, file))
        if state is None:
            return
        if self._is_whole:
            # Other files are read with a workspace at times, and none of its records.
            self._states += [state] if name is not None else []
        elif state.dropped is None:
            own_id = self._as_in_line(state.record, record.source).id if state.heads else record.id
            self._records.append(replace(state.record, id=own_id))

    def _named(self, result: SpanResult) -> dict[int, str]:
        """Return, by line, what the records of a span are called that may have been decided on or are retained."""
        if self.has_records:
            return {record.source.line: self._names.name(record.id) for record in result.records}
        watched = [(changed.record.source.line, changed.record.id) for changed in result.watched]
        return {line: self._names.name(own_id) for line, own_id in sorted([*result.displacing, *watched])}

    def _exchange(
        self, result: SpanResult, watched: Watched, name: str | None, file: str, settings_name: str, examiner: Examiner
    ) -> RecordState | None:
        """Add to the result of a span one record as decisions have left it, and return its state.

        ``file`` is what its source is called, ``settings_name`` what settings call it. Without a ``name`` it stands in
        a file that is none of the workspace's; then there is none if a record with its id was dropped.
        """
        record = watched.record
        assert self._decisions is not None
        if name is not None:
            state = self._decided(_moved(record, name, file))
        elif self._decisions.is_out(record.id):
            return None
        else:
            state = RecordState(_moved(record, record.id, file))
        if not state.heads and state.dropped is None:
            examiner.add_record(result, record, settings_name, watched.raw, is_changed=watched.is_changed)
        elif state.dropped is None:
            # Its findings have no column: the file's line may be another than what it now is.
            examiner.add_record(result, self._as_in_line(state.record, record.source), settings_name, None)
        return state

    def _decided(self, record: Record) -> RecordState:
        """Return a record as decisions have left it."""
        assert self._decisions is not None
        state = self._decisions.state(record)
        self._note_answer(state)
        return state

    def _note_answer(self, state: RecordState) -> None:
        if state.answers.get(CATEGORY):
            own_id = self._as_in_line(state.record, state.record.source).id
            nothing_more = Record(state.record.id, state.record.kind, Source("", 0), {})
            self._answered.append((replace(state, record=nothing_more), own_id))

    def _added(self, examiner: Examiner) -> Results:
        """Yield the results of the records that stand in no file."""
        records = []
        for state in self._decisions.added() if self._decisions else ():
            self._note_answer(state)
            if self.has_records:
                self._states.append(state)
            if state.dropped is None:
                records.append(state.record)
        records.sort(key=lambda record: (record.source.file, record.source.line))
        for file, group in groupby(records, key=lambda record: record.source.file):
            result = SpanResult(FindingTally(examiner.spec.limit))
            for record in group:
                examiner.add_record(result, self._as_in_line(record, record.source), "", None)
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
