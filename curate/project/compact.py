"""`curate fold`: edits and additions go into the record files, all other decisions into one snapshot of the journal."""

from __future__ import annotations

import hashlib
import stat
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

from curate.base.console import one_line, spelled
from curate.base.events import AddEvent, AnyEvent, ProposeEvent, RejectEvent, UndoEvent
from curate.base.file_guard import inside, open_file
from curate.base.record import CurateError, Exit, Finding, Json, Record, Source, canonical
from curate.base.storage import remove_file, write_atomic
from curate.base.tables import listed
from curate.checks.runner import read_records
from curate.checks.runner.changes import unmerged_findings
from curate.checks.runner.names import with_unique_ids
from curate.checks.runner.select import Glob
from curate.jsonl import Entry, JsonFault, strict_loads
from curate.jsonl.reader import MAX_LINE
from curate.jsonl.rewrite import Ending, Replacement, Rewrite
from curate.jsonl.walker import edited_line, new_line
from curate.project.claim import CLAIM, claimed, exclusive, require_closed
from curate.project.data import ProjectData
from curate.project.fold import Fold, folded, history_of, is_line_digest, settled
from curate.project.history import DecisionConflict, RecordSnapshot, by_record
from curate.project.journal import FOLDER, pieces, read_frames, read_segment, segments
from curate.project.snapshot import (
    FOLDED,
    RETIRED,
    UNFINISHED,
    FoldedFile,
    Snapshot,
    changed_since,
    folded_bytes,
    folded_files,
    read_snapshot,
    retire,
    seal,
    spans_text,
)
from curate.schema import Shape
from curate.schema.settings import ADDED
from curate.schema.view import at, put

_BLOCK = 1024 * 1024


@dataclass(slots=True)
class FoldPlan:
    """What a fold does."""

    number: int
    last: Snapshot
    segments: list[FoldedFile] = field(default_factory=list)
    """Those that are taken up."""
    edits: dict[Path, dict[int, tuple[Record, dict[str, Json]]]] = field(default_factory=dict)
    """By file and line, the record that stands there and its new line."""
    added: dict[str, bytes] = field(default_factory=dict)
    """By id, lines of new records."""
    records: dict[str, RecordSnapshot] = field(default_factory=dict)
    """The snapshots of the records that decisions are folded on."""
    carried: list[bytes] = field(default_factory=list)
    """Decisions that have to stay in the journal."""
    left: dict[str, str] = field(default_factory=dict)
    """By record, why its decisions stay there."""
    changed: dict[str, str] = field(default_factory=dict)
    """By record file, the lines that were changed since the last fold, other than by decisions."""
    num_folded: int = 0
    """Decisions that are put into the record files or the snapshot."""
    num_refused: int = 0
    """Those that never had an effect, because the schema refuses the line that they make."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do: no decision to fold, and the record files are as the last fold left them."""
        return not self.segments and not self.changed and self.last.number > 0


def fold_journal(data: ProjectData) -> FoldPlan:
    """Write what was decided into the record files and the snapshot, and return what was done.

    Raises:
        CurateError: E981 while anybody else has the workspace open, or folds it; E982 as `plan_fold`; E959 when
            somebody writes to a record file at the same time, or it is a link; E906 when the system refuses. Whatever
            has been written until then, the records are the same, and the next fold goes on from there.
    """
    root = data.root
    for folder in (FOLDER, FOLDED, f"{FOLDER}/{RETIRED}"):
        inside(root, root / folder)
    with claimed(root / CLAIM, "folding the journal"), exclusive(root):
        last = read_snapshot(root)
        retire(root, last.number, last.segments)
        # What this workspace has read may be old.
        plan = plan_fold(replace(data))
        require_writable(data, plan)
        if not plan.is_empty:
            _carry_out(data, plan)
        if (root / UNFINISHED).exists():
            remove_file(root / UNFINISHED)
    return plan


def plan_fold(data: ProjectData) -> FoldPlan:
    """Return what `curate fold` would do in ``workspace``.

    Raises:
        CurateError: E981 when somebody decides; E982 where decisions contradict one another, git has a merge to finish,
            or a segment is damaged; and as reading does.
    """
    root, shape = data.root, data.shape
    taken, known, lines = _read_segments(root)
    last = read_snapshot(root)
    files = data.files()
    # A file with both sides of a merge, or one side only, is no ground to write decisions into.
    if unmerged := unmerged_findings(files, root):
        raise _refusal("git has a merge to finish", [snapshot.file for snapshot in unmerged], "Finish it, then fold.")
    plan = FoldPlan(last.number + 1, last)
    decided = by_record(known.values())
    # As their lines have them.
    items = read_records(files, shape, root=root)
    named = with_unique_ids(item for item in items if isinstance(item, Record))
    records = {record.id: record for record in named if record.id in decided}
    paths = {spelled(str(path.relative_to(root))): path for path in files}
    conflicts: list[DecisionConflict] = []
    for name, events in decided.items():
        folded_before = set(last.records[name].events) if name in last.records else set()
        fresh = [event for event in events if event.event not in folded_before]
        if fresh:
            conflicts += _plan_record(plan, name, records.get(name), fresh, shape, paths)
    if conflicts:
        names = [conflict.record for conflict in conflicts]
        hint = "Settle them with `curate review`, then fold."
        raise _refusal("decisions contradict one another (L403)", names, hint)
    done = {name for snapshot in (*last.records.values(), *plan.records.values()) for name in snapshot.events}
    # Without this, those that stay would be carried from one file to the next for ever.
    if plan.num_folded or any(names <= done for names in taken.values()):
        plan.segments = list(taken)
        plan.carried = [line for name, line in lines.items() if name not in done]
    plan.changed = _changed(root, last, files)
    return plan


def require_writable(data: ProjectData, plan: FoldPlan) -> None:
    """Make sure that all the files that ``plan`` writes can be replaced, before the first one is.

    Raises:
        CurateError: E959 when one is a link; E982 when added records would not be read where they would be written.
    """
    root = data.root
    for path in [*plan.edits, *([root / ADDED] if plan.added else [])]:
        inside(root, path)
        if path.is_symlink():
            message = f"{one_line(str(path))} is a link, and what it leads to is not replaced"
            raise CurateError("E959 not-rewritten", message, "Put the file itself there.")
    if plan.added and not _is_added_file_read(data):
        message = f"`data` in curate.toml does not name {ADDED}, where added records go"
        raise CurateError("E982 cannot-fold", message, f'Add "{ADDED}" to `data` in curate.toml.')


def make_added_file(data: ProjectData) -> None:
    """Make the file that added records go to, empty, where the workspace has no record file at all.

    Raises:
        CurateError: E904 when the settings do not read that file; E906 when it cannot be made; E914 when it lies
            outside the workspace; E919 when another process makes it in the same moment.
    """
    # An added record stands in the journal until it is folded; commands that read a workspace ask for a record file.
    if data.matching_files():
        return
    if not _is_added_file_read(data):
        message = f"{data.root}: no file matches {', '.join(data.settings.data)}; nothing was saved"
        raise CurateError("E904 no-such-file", message, f'Make such a file, or add "{ADDED}" to `data` in curate.toml.')
    write_atomic(inside(data.root, data.root / ADDED), [], is_new=True)


def _is_added_file_read(data: ProjectData) -> bool:
    return any(Glob.of(pattern).matches(ADDED) for pattern in data.settings.data)


def _read_segments(root: Path) -> tuple[dict[FoldedFile, set[str]], dict[str, AnyEvent], dict[str, bytes]]:
    """Return the segments of the journal with the events in each, and by number all events and their lines.

    Raises:
        CurateError: E981 when somebody has one open; E982 when one is damaged; E913 and E980 as reading does.
    """
    taken: dict[FoldedFile, set[str]] = {}
    known: dict[str, AnyEvent] = {}
    lines: dict[str, bytes] = {}
    damaged = []
    for path in segments(root):
        require_closed(path)
        content = read_segment(path, root) or b""
        parts = list(pieces(content))
        if any(piece.payload is None or not piece.raw.endswith(b"}\n") for piece in parts):
            damaged.append(str(path.relative_to(root)))
        elif content:
            file = FoldedFile(path=f"{path.parent.name}/{path.name}", sha256=hashlib.sha256(content).hexdigest())
            events = list(read_frames(content, path))
            taken[file] = {event.event for event in events}
            known |= {event.event: event for event in events}
            lines |= {event.event: piece.raw for event, piece in zip(events, parts, strict=True)}
    if damaged:
        raise _refusal("the journal is damaged", damaged, "Set what is damaged aside with `curate fsck --recover`.")
    return taken, known, lines


def _plan_record(
    plan: FoldPlan, name: str, record: Record | None, fresh: Sequence[AnyEvent], shape: Shape, paths: Mapping[str, Path]
) -> Sequence[DecisionConflict]:
    """Add to ``plan`` what becomes of one record's decisions; return where they contradict one another."""
    own = plan.last.records.get(name, RecordSnapshot())
    if record is None and not any(isinstance(event, AddEvent) for event in fresh):
        is_proposed = all(isinstance(event, ProposeEvent | RejectEvent | UndoEvent) for event in fresh)
        plan.left[name] = "nobody took what a model proposed" if is_proposed else "it is in no record file"
        return ()
    if _lacks({*own.events, *(event.event for event in fresh)}, fresh):
        plan.left[name] = "earlier decisions on it are missing here"
        return ()
    result = Fold({})
    folded(name, record, fresh, shape, plan.last, result)
    base, events, start = history_of(name, record, fresh, shape, plan.last)
    if result.conflicts:
        return result.conflicts
    line, snapshot, num_refused = settled(base, events, shape, start)
    if line is None:
        plan.left[name] = "its addition was taken back"
        return ()
    present = canonical(dict(record.data)) if record else b""
    placed = line if canonical(line) == present else placed_line(line, name, base, shape)
    if placed is None:
        plan.left[name] = "its line cannot hold the id that it is known by"
        return ()
    if canonical(placed) != present:
        if not _is_readable(placed):
            plan.left[name] = "its new line could not be read again: too long, too deep, or with a bad number"
            return ()
        if record is None:
            plan.added[name] = new_line(placed)
        else:
            plan.edits.setdefault(paths[record.source.file], {})[record.source.line] = (record, placed)
    known = plan.last.unfinished.get(name, own.before if own.events else {})
    plan.records[name] = replace(snapshot, before=_before(base, placed, snapshot, known))
    plan.num_folded += len(fresh)
    plan.num_refused += num_refused
    return ()


def _before(
    base: Record | None, line: Mapping[str, Json], snapshot: RecordSnapshot, known: Mapping[str, Sequence[Json]] | None
) -> dict[str, Sequence[Json]] | None:
    """Return what `RecordSnapshot.before` is once the line of ``base`` is ``line``; ``known`` is what it was."""
    if known is None:
        return None
    old = base.data if base else {}
    changed = [key for key in {**old, **line} if key not in old or canonical(old[key]) != canonical(line.get(key))]
    keys = [*changed, *(facet[1] for facet in snapshot.facts if facet[0] == "data")]
    return {**{key: [old[key]] if key in old else [] for key in keys}, **known}


def _lacks(known: Collection[str], events: Iterable[AnyEvent]) -> bool:
    """Whether one of ``events`` is about an event that is not among the ``known`` ones."""
    named = (
        name for event in events for name in (*event.parents, *([event.of] if isinstance(event, UndoEvent) else []))
    )
    return any(name not in known and not is_line_digest(name) for name in named)


def placed_line(line: dict[str, Json], name: str, base: Record | None, shape: Shape) -> dict[str, Json] | None:
    """Return ``line`` so that the record read from it is called ``name``, None where it cannot be.

    ``base`` is the record that the line stands for now, if any.
    """
    new = _id_in(line, shape)
    if base is not None:
        old = _id_in(base.data, shape)
        # A repeated id of its own was told apart by its place, and so was repeated content: both stay where they are.
        if old == new:
            return line
        if old[1]:
            return None
    if new[1]:
        return line if new[0] == name else None
    pointer = shape.view.paths.get("id") if shape.view else None
    if not pointer or not all(isinstance(at(line, pointer[:depth]), dict) for depth in range(1, len(pointer))):
        return None
    marked = {**({pointer[0]: name} if len(pointer) == 1 else {}), **deepcopy(line)}
    put(marked, pointer, name)
    return marked if shape.is_valid(marked) and _id_in(marked, shape) == (name, True) else None


def _id_in(line: Mapping[str, Json], shape: Shape) -> tuple[str, bool]:
    """Return the id of the record in ``line`` as it is read, and whether the line says it itself."""
    record = shape.record(line, Source("", 0))
    return record.id, record.has_own_id


def _is_readable(line: dict[str, Json]) -> bool:
    """Whether a line that says this passes the strict parser: it may be too long or too deep, or hold no number."""
    raw = new_line(line)
    try:
        return len(raw) * 2 <= MAX_LINE and canonical(strict_loads(raw)) == canonical(line)
    except JsonFault:
        return False


def _changed(root: Path, last: Snapshot, files: Sequence[Path]) -> dict[str, str]:
    if not last.number:
        return {}
    names = {spelled(str(path.relative_to(root))) for path in files}
    sealed = {file.path: file for file in last.files}
    changed = dict.fromkeys(names - sealed.keys(), "the whole file")
    for name, file in sealed.items():
        if name not in names:
            changed[name] = "the file is gone"
        elif spans := changed_since(file, root / name):
            changed[name] = f"lines {spans_text(spans)}"
    return changed


# A fold has the workspace for itself. At every moment, also after a crash, the records are what they were: a decision
# that stands in its line already changes nothing when it is applied again, and one that the snapshot has is not
# applied again at all. So first it is written down what the lines were before, then the record files are replaced, each
# in one step, then the snapshot is written, and only then do the segments move to ``journal/retired/<n>/``, where they
# stay.
# What is interrupted is finished by the next fold.


def _carry_out(data: ProjectData, plan: FoldPlan) -> None:
    root = data.root
    records = {**plan.last.records, **plan.records}
    if plan.edits or plan.added:
        write_atomic(root / UNFINISHED, [folded_bytes(plan.number, [], [], records)])
    written = _write_lines(root, plan)
    if plan.carried:
        write_atomic(root / FOLDED / f"{uuid.uuid4().hex[:12]}.log", plan.carried, is_new=True)
    sealed = [seal(path, str(path.relative_to(root))) for path in data.files()]
    content = folded_bytes(plan.number, plan.segments, sealed, records)
    for path, state in written.items():
        # An append between our rename and our seal would be sealed as if the fold had written it.
        if _state_of(path) != state:
            raise _written_by_others(path)
    write_atomic(root / FOLDED / f"{plan.number}.json", [content], is_new=True)
    retire(root, plan.number, plan.segments)
    # The one before stays: should this one be damaged, it and the retired segments give everything back.
    for number, path in folded_files(root).items():
        if number < plan.number - 1:
            remove_file(path)


def _write_lines(root: Path, plan: FoldPlan) -> dict[Path, tuple[int, ...] | None]:
    """Write the new lines and return the state of the files that they are in."""
    written = {}
    for path, edits in sorted(plan.edits.items()):
        _rewrite(root, path, edits)
        written[path] = _state_of(path)
    if plan.added:
        _append(root / ADDED, list(plan.added.values()))
        written[root / ADDED] = _state_of(root / ADDED)
    return written


def _rewrite(root: Path, path: Path, edits: Mapping[int, tuple[Record, dict[str, Json]]]) -> None:
    waiting = dict(edits)

    def mend(item: Entry | Finding, raw: bytes, ending: Ending) -> Replacement | None:
        number = item.line.source.line if isinstance(item, Entry) else item.line
        if number not in waiting:
            return None
        record, line = waiting.pop(number)
        if not isinstance(item, Entry) or canonical(item.value) != canonical(dict(record.data)):
            raise _written_by_others(path)
        return ending.mark + edited_line(raw, line, is_ascii=rewrite.is_ascii) + ending.newline, ()

    rewrite = Rewrite(path, mend, root=root)
    rewrite.write()
    if waiting:
        raise _written_by_others(path)


def _append(path: Path, lines: Sequence[bytes]) -> None:
    """Add ``lines`` to the record file ``path``, which is made when it is missing, in one step."""
    before = _state_of(path)

    def chunks() -> Iterator[bytes]:
        last = b"\n"
        if before is not None:
            with open_file(path) as file:
                while block := file.read(_BLOCK):
                    yield block
                    last = block[-1:]
        yield b"".join([b"" if last == b"\n" else b"\n", *(line + b"\n" for line in lines)])
        # The last look before the new file takes the name: what somebody has appended must not be lost.
        if _state_of(path) != before:
            raise _written_by_others(path)

    write_atomic(path, chunks(), is_new=before is None, mode=stat.S_IMODE(path.stat().st_mode) if before else None)


def _state_of(path: Path) -> tuple[int, ...] | None:
    """Return what is different when somebody has written to a file; None where there is none."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns


def _written_by_others(path: Path) -> CurateError:
    message = f"{one_line(str(path))} was changed by somebody while decisions were being folded into it"
    return CurateError("E959 not-rewritten", message, "Their change is untouched. Run the command again.")


def _refusal(why: str, names: Iterable[str], hint: str) -> CurateError:
    visible_names = listed(sorted(set(names)), spell=lambda name: one_line(name, 60))
    return CurateError("E982 cannot-fold", f"{why}: {visible_names}", hint, exit_code=Exit.FINDINGS)
