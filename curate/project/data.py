"""What a project holds at one moment: settings, schema, datasets, and the records as decisions have left them.

State is the fold of the record files and the journal. Nothing is written here, and what was read stays as it was: a
thread may go through it while `Project` takes the next decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from curate.base.console import spelled
from curate.base.events import Drop, Event
from curate.base.file_guard import FileStamp, inside, stamp_of
from curate.base.record import CurateError, Finding, Record, Split
from curate.base.storage import make_cache, write_atomic
from curate.checks.runner import num_bytes, read_records
from curate.checks.runner.examine import BLOCKS_FROM
from curate.checks.runner.names import UniqueNames
from curate.checks.runner.select import Glob
from curate.project.fold import Decisions, Fold, RecordState
from curate.project.history import frontier_of
from curate.project.journal import Damage, read_journal
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


@dataclass(frozen=True)
class ProjectData:
    """A workspace as it was when this was made. Nothing is read before it is asked for, and then once."""

    root: Path
    settings: Settings
    shape: Shape
    lines: LineItems = field(default_factory=LineItems, repr=False, compare=False)

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
        states = self._fold.states
        if not isinstance(states, dict):
            return cast("LazyStates", states).records()
        return [state.record for state in states.values() if state.dropped is None]

    def states(self) -> list[RecordState]:
        """Return every record with what was decided on it, dropped ones included; see `each_state` for many."""
        return list(self.each_state())

    def each_state(self) -> Iterator[RecordState]:
        """Yield every record with what was decided on it, dropped ones included."""
        return iter(self._fold.states.values())

    def names(self) -> list[str]:
        """Return the id of every record, dropped ones included."""
        return list(self._fold.states)

    def decided(self) -> list[RecordState]:
        """Return the records that somebody has decided on, in their order."""
        states = self._fold.states
        names = self.decisions.names
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
        return [*self._line_findings, *self._fold.findings]

    def num_unread(self) -> int:
        """Return how many lines are left out as no records, or hold a decision that could not be applied."""
        faults = (finding for finding in self._fold.findings if finding.severity == "error")
        return len(self._unread | {(finding.file, finding.line) for finding in faults})

    def remarks(self) -> list[str]:
        """Return what a person should know about the journal: damaged lines, and decisions that apply to nothing."""
        return [*map(str, self.damages), *self._fold.remarks()]

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
        """Return one record with what was decided on it, None where there is none."""
        return self._fold.states.get(name)

    def is_as_proposed(self, state: RecordState) -> bool:
        """Whether a record says what a model proposed for it, and nobody has approved that."""
        if not state.machine or state.approvals:
            return False
        proposals = proposals_in(state.record.id, self.decisions.facts(state.record.id))
        return any(one.outcome == "taken" and one.is_in(state.record.data) for one in proposals)

    def state_getter(self, names: Sequence[str]) -> Callable[[str], RecordState | None]:
        """Return what gives the states of ``names`` as `state` does, their lines read at once."""
        states = self._fold.states
        lazy = () if isinstance(states, dict) else cast("LazyStates", states).of(names)
        return states.get if isinstance(states, dict) else {state.record.id: state for state in lazy}.get

    def frontier(self, name: str) -> Sequence[str]:
        """Return the last events on a record that is not there, which a decision to add it comes after."""
        own = (event for event in self.events if event.id == name)
        return frontier_of(own)

    def read(self) -> Iterator[RecordState | Finding]:
        """Read the files: yield records as decisions have left them, added ones last, and what is wrong with lines.

        Raises:
            CurateError: E904 and E914 as `files`; E913 and E980 for a journal that cannot be read.
        """
        for item in self.read_lines():
            yield self.decisions.state(item) if isinstance(item, Record) else item
        yield from self.decisions.added()

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

    @property
    def damages(self) -> list[Damage]:
        """Lines of the journal that are not read as they stand."""
        return self._journal[1]

    @property
    def events(self) -> list[Event]:
        """The decisions in the journal, everybody's."""
        return self._journal[0]

    @cached_property
    def _journal(self) -> tuple[list[Event], list[Damage]]:
        return read_journal(self.root)

    @cached_property
    def decisions(self) -> Decisions:
        """What people decided, by record."""
        return Decisions(self.events, self.shape)

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
    def _fold(self) -> Fold:
        self.files()
        table = self.table
        if table is None:
            return self._reading[0]
        # They need numpy as well.
        import numpy as np

        from curate.project.records import LazyStates, Records

        rows = table.rows_of(list(self.decisions.names))
        records = Records([], table, np.array(rows, np.int64))
        decided = {row: self.decisions.state(record) for row, record in zip(rows, records, strict=True)}
        return self.decisions.folded(LazyStates(table, decided, list(self.decisions.added())))

    @cached_property
    def _unread(self) -> frozenset[tuple[str, int]]:
        return frozenset((finding.file, finding.line) for finding in self._line_findings if finding.severity == "error")

    @cached_property
    def _line_findings(self) -> list[Finding]:
        table = self.table
        return table.findings() if table is not None else self._reading[1]

    @cached_property
    def _reading(self) -> tuple[Fold, list[Finding]]:
        files = self.files()
        if self._lines_read_of(files) is None:
            stamps = files_as_they_are(files, self.root)
            self.lines.items = list(read_records(files, self.shape, root=self.root))
            self.lines.stamps = stamps
        items = list(self.read())
        states = {item.record.id: item for item in items if isinstance(item, RecordState)}
        return self.decisions.folded(states), [item for item in items if isinstance(item, Finding)]


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
            f"Make one with `curate init {root}`.",
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
    return any(Glob.of(pattern).matches(ADDED) for pattern in data.settings.data)
