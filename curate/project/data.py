"""The state of a workspace at one moment: settings, schema, datasets, and the records as decisions have left them.

State is the fold of the record files and the journal, and it is folded here alone. Nothing is written, and what was
read stays as it was: `ProjectData.after` returns the next state, so that a thread may go through this one meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from curate.base.console import spelled, typed
from curate.base.events import Drop, Event
from curate.base.file_guard import FileStamp, inside, stamp_of
from curate.base.record import CurateError, Finding, Record, Split
from curate.base.storage import make_cache, write_atomic
from curate.checks.runner import num_bytes, read_records
from curate.checks.runner.examine import BLOCKS_FROM
from curate.checks.runner.names import UniqueNames
from curate.checks.runner.select import matching
from curate.project.fold import Decisions, RecordState, States, Told, steps
from curate.project.history import AppliedEvent, frontier_of
from curate.project.journal import JournalReader
from curate.project.proposals import proposals_in
from curate.schema import Shape, load_shape
from curate.schema.settings import ADDED, FILE_NAME, Settings, read_settings

if TYPE_CHECKING:
    from curate.checks.runner.column_cache import ColumnCache
    from curate.checks.runner.parts import Progress
    from curate.checks.runner.table import RecordTable
    from curate.formats.dataset import Manifest
    from curate.project.records import LazyStates

_FOLDER = Path(".curate")
_COLUMNS = _FOLDER / "cache"
DATASETS = "dataset"
RUNS = "runs"
FILES_CHANGED = "E974 files-changed"


@dataclass(slots=True)
class LineItems:
    """What the lines of the record files hold, and what is wrong with them, once somebody has read them all."""

    items: Sequence[Record | Finding] | None = None
    table: RecordTable | None = None
    """The same by column, where it is too much to hold."""
    stamps: Sequence[FileStamp] = ()
    """What told, when they were read, whether the files change."""
    bases: dict[str, Record | None] = field(default_factory=dict)
    """The line of each record that was decided on: whatever becomes of its file, what is saved can be shown."""


@dataclass(eq=False)
class ProjectData:
    """A workspace as it was when this was made. Nothing is read before it is asked for, and then once."""

    root: Path
    settings: Settings
    shape: Shape
    lines: LineItems = field(default_factory=LineItems, repr=False)
    _late: frozenset[str] = field(default=frozenset(), repr=False)
    """Records that others have decided on since their file was changed, so that their lines cannot be read."""

    def after(self, events: Sequence[Event]) -> tuple[ProjectData, set[str]]:
        """Return the state after further ``events``, and the records that it is another for.

        Only these records are folded anew. Those whose lines cannot be read now are tried again the next time.
        """
        data = replace(self, _late=frozenset())
        data.journal, data.decisions = self.journal, self.decisions.after(events)
        changes: dict[str, RecordState | None] = {}
        late = set()
        names = [*self._late, *dict.fromkeys(event.id for event in events)]
        with suppress(CurateError):
            # At once; what cannot be read now is met again one by one.
            self.hold(names)
        for name in names:
            try:
                changes[name] = data.decisions.fold(name, self.line(name))
            except CurateError as error:
                if error.code != FILES_CHANGED:
                    raise
                late.add(name)
        data._late, data._states = frozenset(late), _changed(self._states, changes)
        return data, set(changes)

    @property
    def has_late(self) -> bool:
        """Whether there are records whose lines could not be read when somebody decided on them."""
        return bool(self._late)

    def is_late(self, name: str) -> bool:
        """Whether somebody has decided on the record, and its line could not be read then."""
        return name in self._late

    def is_current(self) -> bool:
        """Whether no decision was moved out of the journal, and the record files are still those that were read."""
        if self.lines.table is None and self.lines.items is None:
            return True
        read = self.lines.table.stamps if self.lines.table is not None else self.lines.stamps
        # An empty file holds no record: the first record that is added makes one, see `make_added_file`.
        now = files_as_they_are(self.matching_files(), self.root)
        return self.journal.is_whole() and [stamp for stamp in now if stamp[1]] == [stamp for stamp in read if stamp[1]]

    def as_files_are(self) -> ProjectData:
        """Return this state, or one that is read anew where a record file was changed since it was read."""
        return self if self.is_current() else ProjectData(self.root, self.settings, self.shape)

    def files(self) -> list[Path]:
        """Return the record files, sorted.

        Raises:
            CurateError: E914 when a glob or link leads outside; E904 when no file matches.
        """
        files = self.matching_files()
        if not files:
            raise CurateError(
                "E904 no-such-file",
                f"no record file in {self.root} matches {', '.join(self.settings.data)}",
                "Import a file with `curate import`, write a record in `curate`, or set `data` in curate.toml.",
            )
        return files

    def matching_files(self) -> list[Path]:
        """Return the record files as `files` does; an empty list where there is none yet, as in a new workspace.

        Raises:
            CurateError: E914 when a glob or link leads outside.
        """
        return data_files(self.root, self.settings.data)

    @cached_property
    def cache(self) -> ColumnCache | None:
        """Where the columns of the records are kept; None where they are too few to repay it, or cannot be kept.

        Raises:
            CurateError: E914 when its folder lies elsewhere; E904 and E914 as `files`.
        """
        return self.cache_of(self.matching_files())

    def cache_of(self, files: Sequence[Path]) -> ColumnCache | None:
        """Return where the columns of the records in ``files`` are kept, as `cache`; not all need be the workspace's.

        Raises:
            CurateError: E914 when its folder lies elsewhere.
        """
        num = num_bytes(files)
        return None if num < BLOCKS_FROM or self.shape.view is None else column_cache(self.root, self.shape)

    def records(self) -> Sequence[Record]:
        """Return the records that are in: dropped ones left out, assigned splits and labels applied.

        They are `Records` where they are many: most are read from their lines when they are looked at.
        """
        states = self._states
        if not isinstance(states, dict):
            return cast("LazyStates", states).records()
        return [state.record for state in states.values() if state.dropped is None]

    @cached_property
    def _states(self) -> States:
        """Every record by id, dropped ones included; of many, lines are read when they are asked for.

        Raises:
            CurateError: as `read`.
        """
        decisions, bases, table = self.decisions, self.lines.bases, self.table
        if table is None:
            states = {}
            for record in (item for item in self._items() if isinstance(item, Record)):
                if record.id in decisions.names:
                    bases[record.id] = record
                states[record.id] = decisions.state(record)
            return states | {state.record.id: state for state in decisions.added()}
        # They need numpy.
        import numpy as np

        from curate.project.records import LazyStates, Records

        rows = table.rows_of(list(decisions.names))
        decided = {}
        for row, record in zip(rows, Records([], table, np.array(rows, np.int64)), strict=True):
            bases[record.id] = record
            decided[row] = decisions.state(record)
        return LazyStates(table, decided, list(decisions.added()))

    def states(self) -> list[RecordState]:
        """Return every record with what was decided on it, dropped ones included; see `each_state` for many."""
        return list(self.each_state())

    def each_state(self) -> Iterator[RecordState]:
        """Yield every record with what was decided on it, dropped ones included."""
        return iter(self._states.values())

    def names(self) -> list[str]:
        """Return the id of every record, dropped ones included."""
        return list(self._states)

    def decided(self) -> list[RecordState]:
        """Return the records that somebody has decided on, in their order."""
        states, names = self._states, self.decisions.names
        if isinstance(states, dict):
            return [state for name, state in states.items() if name in names]
        return cast("LazyStates", states).those_decided()

    def dropped(self) -> dict[str, str]:
        """Return why each record is out that a decision leaves out, in words, by id."""
        return {state.record.id: state.dropped for state in self.decided() if state.dropped is not None}

    def exclusions(self) -> dict[str, Drop]:
        """Return why each record is out that a decision leaves out, by id: a rule with its finding, or words."""
        return {state.record.id: state.exclusion for state in self.decided() if state.exclusion is not None}

    def wanted(self) -> set[str]:
        """Return the records that someone restored, which no automatic rule may leave out."""
        return {state.record.id for state in self.decided() if state.is_wanted}

    def findings(self) -> list[Finding]:
        """Return what is wrong with lines that are not records, and with decisions."""
        return [*self._line_findings, *self.told().findings]

    def told(self) -> Told:
        """Return what is to be said of decisions: what is wrong with them, and those that apply to nothing."""
        # Only of records that somebody has decided on there is anything: without decisions no file is read for it.
        if self.decisions.names:
            assert self._states is not None
        return self.decisions.told()

    def num_unread(self) -> int:
        """Return how many lines are left out as no records, or hold a decision that could not be applied."""
        return len({(finding.file, finding.line) for finding in self.findings() if finding.severity == "error"})

    def remarks(self) -> list[str]:
        """Return what a person should know about the journal: damaged lines, and decisions that apply to nothing."""
        return [*self.journal.remarks(), *self.told().remarks()]

    def latest_dataset(self) -> Path | None:
        """Return the folder of the newest dataset, None before the first export."""
        datasets = inside(self.root, self.root / DATASETS)
        if not datasets.is_dir():
            return None
        # What describes a dataset takes longer to load than a small workspace to validate.
        from curate.formats.dataset import latest

        return latest(datasets)

    def latest_manifest(self) -> Manifest | None:
        """Return the manifest of the newest dataset, None before the first export."""
        from curate.formats.dataset import read_manifest

        folder = self.latest_dataset()
        return read_manifest(folder) if folder else None

    def has_fixed_exam(self) -> bool:
        """Whether there is an exam whatever the records say: the last dataset's, a frozen list, or a benchmark."""
        is_fixed = self.latest_dataset() is not None or (self.root / GOLDEN).exists()
        return is_fixed or bool(self.settings.leaks.against)

    def pins(self) -> dict[str, Split]:
        """Return the split of each record of the newest dataset."""
        from curate.formats.dataset import read_pins

        folder = self.latest_dataset()
        return read_pins(folder) if folder else {}

    def state(self, name: str) -> RecordState | None:
        """Return one record with what was decided on it, None where there is none.

        Raises:
            CurateError: as `read`; E974 when its file was changed since it was read.
        """
        return self.decisions.fold(name, self.line(name)) if name in self._late else self._states.get(name)

    def is_as_proposed(self, state: RecordState) -> bool:
        """Whether a record says what a model proposed for it, and nobody has approved that."""
        if not state.machine or state.approvals:
            return False
        proposals = proposals_in(state.record.id, self.decisions.facts(state.record.id))
        return any(one.outcome == "taken" and one.is_in(state.record.data) for one in proposals)

    def state_getter(self, names: Sequence[str]) -> Callable[[str], RecordState | None]:
        """Return what gives the states of ``names`` as `state` does, their lines read at once."""
        if isinstance(self._states, dict):
            return self._states.get
        states = {state.record.id: state for state in cast("LazyStates", self._states).of(names)}
        return (states | {name: state for name in self._late.intersection(names) if (state := self.state(name))}).get

    def hold(self, names: Sequence[str]) -> Callable[[str], RecordState | None]:
        """Return what `state_getter` does, and keep the lines: what is decided on them is shown whatever comes."""
        state_of, bases = self.state_getter(names), self.lines.bases
        for name in names:
            if name not in bases and name not in self.decisions.names:
                state = state_of(name)
                bases[name] = state.record if state else None
        return state_of

    def line(self, name: str) -> Record | None:
        """Return the record as its line has it, None where no line has it; E974 as `state`."""
        # Lines of records with decisions were kept when the states were made.
        states, bases = self._states, self.lines.bases
        if name not in bases:
            is_added = name in self.decisions.names and name not in self._late
            state = None if is_added else states.get(name)
            bases[name] = state.record if state else None
        return bases[name]

    def heads(self, name: str) -> tuple[str, ...]:
        """Return the last events on a record, which may not be there: what a decision on it comes after."""
        state = self.state(name)
        return state.heads if state else tuple(frontier_of(self.decisions.of(name)))

    def history(self, name: str) -> Iterator[tuple[AppliedEvent, RecordState | None]]:
        """Yield the decisions on one record in the order in which they count, each with the state that it leaves."""
        return steps(self.line(name), self.decisions.of(name), self.shape)

    def read(self) -> Iterator[RecordState | Finding]:
        """Read the files: yield records as decisions have left them, added ones last, and what is wrong with lines.

        Raises:
            CurateError: E904 and E914 as `files`; E913 and E980 for a journal that cannot be read.
        """
        decisions = self.decisions.anew()
        for item in self.read_lines():
            yield decisions.state(item) if isinstance(item, Record) else item
        yield from decisions.added()

    def read_lines(self) -> Iterator[Record | Finding]:
        """Read the files: yield records as their lines have them, and what is wrong with lines.

        Raises:
            CurateError: as `read`.
        """
        names, files = UniqueNames(), self.files()
        items = self._lines_read_of(files)
        for item in read_records(files, self.shape, root=self.root) if items is None else items:
            yield names.rename(item) if isinstance(item, Record) else item

    def _lines_read_of(self, files: Sequence[Path]) -> Sequence[Record | Finding] | None:
        return self.lines.items if self.lines.stamps == files_as_they_are(files, self.root) else None

    @cached_property
    def journal(self) -> JournalReader:
        """The journal, read as far as this state goes or further.

        Raises:
            CurateError: E913 and E980 for a segment that cannot be read.
        """
        reader = JournalReader(self.root)
        reader.read()
        for fault in reader.new_faults():
            raise fault
        return reader

    @cached_property
    def decisions(self) -> Decisions:
        """What people decided, by record."""
        return Decisions(self.journal.events, self.shape)

    @property
    def table(self) -> RecordTable | None:
        """The records as their lines have them, by column; None where they are few and nobody has asked for columns.

        Raises:
            CurateError: as `read_table`.
        """
        return self.read_table() if self.cache or self.lines.table is not None else None

    def read_table(self, on_progress: Progress | None = None) -> RecordTable:
        """Return the records as their lines have them, by column, read from the cache or anew.

        Raises:
            CurateError: as `read`; E970 when a worker is killed; E974 when the files change while they are read.
        """
        # It needs numpy.
        from curate.checks.runner.table import read_table

        files, known = self.matching_files(), self.lines.table
        if known is None or known.stamps != files_as_they_are(files, self.root):
            known = read_table(files, self.shape, self.cache, root=self.root, on_progress=on_progress)
            self.lines.table = known
        return known

    @cached_property
    def _line_findings(self) -> list[Finding]:
        table = self.table
        return table.findings() if table is not None else [item for item in self._items() if isinstance(item, Finding)]

    def _items(self) -> Iterator[Record | Finding]:
        """Return what the lines hold as `read_lines` does, and keep it."""
        files = self.files()
        if self._lines_read_of(files) is None:
            stamps = files_as_they_are(files, self.root)
            self.lines.items = list(read_records(files, self.shape, root=self.root))
            self.lines.stamps = stamps
        return self.read_lines()


def _changed(states: States, changes: Mapping[str, RecordState | None]) -> States:
    """Return ``states`` with ``changes``, in which None stands for a record that is no more, or not yet."""
    if not isinstance(states, dict):
        return cast("LazyStates", states).changed(changes)
    return {name: state for name, state in {**states, **changes}.items() if state is not None}


def column_cache(root: Path, shape: Shape) -> ColumnCache | None:
    """Return where the workspace ``root`` keeps the columns of its records.

    None where it cannot, or where that folder leads elsewhere: then they are held in memory.
    """
    # It needs numpy.
    from curate.checks.runner.column_cache import cache_in

    try:
        inside(root, root / _COLUMNS)
        make_cache(root / _FOLDER)
    except CurateError:
        return None
    return cache_in(root / _COLUMNS, shape)


def load_data(root: Path, settings: Settings | None = None, shape: Shape | None = None) -> ProjectData:
    """Open the workspace in ``root``; ``settings`` and ``shape`` stand in for its own.

    Raises:
        CurateError: E901 when the folder is not a workspace; E902 and E903 for its settings and schema.
    """
    if not (root / FILE_NAME).is_file():
        raise CurateError(
            "E901 no-workspace",
            f"{root} is not a workspace: it has no {FILE_NAME}",
            f"Make one with `curate init {typed(root)}`.",
        )
    inside(root, root / FILE_NAME)
    settings = settings or read_settings(root)
    return ProjectData(root, settings, shape or load_shape(settings.schema_, root))


def files_as_they_are(files: Iterable[Path], root: Path) -> list[FileStamp]:
    """Return what tells whether one of ``files``, which are named relative to ``root``, changed."""
    return [
        stamp_of(path, spelled(str(path.relative_to(root) if path.is_relative_to(root) else path))) for path in files
    ]


# The frozen test set of a workspace.
GOLDEN = "golden.json"


def data_files(root: Path, globs: Sequence[str], setting: str = "data") -> list[Path]:
    """Return the files that ``globs`` of a setting match below ``root``, each once, sorted.

    Raises:
        CurateError: E914 when a glob or a link leads outside ``root``.
    """
    paths: set[Path] = set()
    for pattern in globs:
        parts = Path(pattern).parts
        if Path(pattern).is_absolute() or ".." in parts or not parts:
            raise CurateError(
                "E914 outside-workspace",
                f"{setting}: {pattern!r} leads outside the workspace {root}",
                'Write globs from the workspace down, like "data/*.jsonl".',
            )
        paths.update(path for path in root.glob(pattern) if not path.is_dir())
    return [inside(root, path) for path in sorted(paths)]


def make_added_file(data: ProjectData) -> None:
    """Make the file that added records go to, empty, where the workspace has no record file at all.

    Raises:
        CurateError: E904 when the settings do not read that file; E906 when it cannot be made; E914 when it lies
            outside the workspace; E919 when another process makes it in the same moment.
    """
    # An added record stands in the journal; commands that read a workspace ask for a record file.
    if data.matching_files():
        return
    if not is_added_file_read(data):
        message = f"{data.root}: no file matches {', '.join(data.settings.data)}; nothing was saved"
        raise CurateError("E904 no-such-file", message, f'Make such a file, or add "{ADDED}" to `data` in curate.toml.')
    write_atomic(inside(data.root, data.root / ADDED), [], is_new=True)


def is_added_file_read(data: ProjectData) -> bool:
    """Whether the settings name the file that added records go to."""
    return any(matching(pattern)(ADDED) for pattern in data.settings.data)
