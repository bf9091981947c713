"""Which decisions of the journal can be put into the record files, and what that makes of each line."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

from curate.door import DoorFault, strict_loads
from curate.door.reader import MAX_LINE
from curate.journal import Add, AnyEvent, Undo, pieces, read_frames, read_segment, segments
from curate.record import CurateError, Exit, Json, Record, Source, canonical
from curate.say import one_line, spelled
from curate.shape import Shape
from curate.shape.view import at, put
from curate.store import is_held
from curate.validate import read_records
from curate.validate.unmerged import unmerged_findings
from curate.workspace import Workspace, told_apart
from curate.workspace.fold import Fold, State, fold, folded, is_line_digest, settled
from curate.workspace.kept import Folded, FoldedFile, kept_by_record, read_folded
from curate.workspace.order import Kept, by_record
from curate.workspace.respelled import spelled_anew
from curate.workspace.seal import changed_since, told_spans

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that nobody has open: what it is called from the journal on, its digest, its events as they stand."""

    path: Path
    file: FoldedFile
    events: list[AnyEvent]
    raws: dict[str, bytes]


@dataclass(slots=True)
class FoldPlan:
    """What a fold does."""

    number: int
    before: Folded | None
    segments: list[Segment] = field(default_factory=list)
    """Those that are taken up."""
    opened: list[Path] = field(default_factory=list)
    """Those that somebody still writes to; they stay."""
    edits: dict[Path, dict[int, tuple[Record, dict[str, Json]]]] = field(default_factory=dict)
    """By file and line, the record that stands there and its new line."""
    added: dict[str, bytes] = field(default_factory=dict)
    """By id, lines of new records."""
    kept: dict[str, Kept] = field(default_factory=dict)
    """What is kept of the records that decisions are folded on."""
    carried: list[bytes] = field(default_factory=list)
    """Decisions that have to stay in the journal."""
    left: dict[str, str] = field(default_factory=dict)
    """By record, why its decisions stay there."""
    changed: dict[str, str] = field(default_factory=dict)
    """By record file, the lines that were changed since the last fold, other than by decisions."""
    num_folded: int = 0
    """Decisions that are put into the record files or set down beside them."""
    num_refused: int = 0
    """Those among them that never had an effect, because the schema refuses the line that they make."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do: no decision to fold, and the record files are as the last fold left them."""
        return not self.segments and not self.changed and self.before is not None


def plan_fold(workspace: Workspace) -> FoldPlan:
    """Return what `curate fold` would do in ``workspace``.

    Raises:
        CurateError: E982 where decisions contradict one another, git has a merge to finish, or a segment is damaged;
            and as reading does.
    """
    root, shape = workspace.root, workspace.shape
    # In this order, so that whatever is folded by somebody else meanwhile is seen at least once.
    closed, opened, events = _segments(root)
    before = read_folded(root)
    kept = kept_by_record(before)
    files = workspace.files()
    if unmerged := unmerged_findings(files, root):
        raise _refusal("git has a merge to finish", [one.file for one in unmerged], "Finish it, then fold.")
    decided = by_record(events)
    bases = _bases(workspace, files, decided.keys())
    # Whatever a fold cannot tell apart later has to be settled now.
    if conflicts := fold(
        bases.values(), events, shape, {name: kept[name] for name in decided if name in kept}
    ).conflicts:
        names = sorted({conflict.record for conflict in conflicts})
        hint = "Settle them with `curate review`, then fold."
        raise _refusal("decisions contradict one another (L403)", names, hint)
    plan = FoldPlan(before.number + 1 if before else 1, before, opened=opened)
    places = {spelled(str(path.relative_to(root))): path for path in files}
    ready = by_record(event for segment in closed for event in segment.events)
    for name, all_ready in ready.items():
        own = kept.get(name, Kept((), {}, {}))
        fresh = list({event.event: event for event in all_ready if event.event not in own.events}.values())
        if fresh:
            _plan_record(plan, name, bases.get(name), fresh, own, shape, places)
    raws = {name: raw for segment in closed for name, raw in segment.raws.items()}
    stays = {event.event for name in plan.left for event in ready[name] if event.event not in _events(kept, name)}
    plan.carried = [raw for name, raw in raws.items() if name in stays]
    if plan.num_folded or any(_is_spent(segment, kept) for segment in closed):
        plan.segments = closed
    else:
        plan.carried = []
    plan.changed = _changed(root, before, places)
    return plan


def _plan_record(
    plan: FoldPlan,
    name: str,
    base: Record | None,
    fresh: Sequence[AnyEvent],
    own: Kept,
    shape: Shape,
    places: Mapping[str, Path],
) -> None:
    """Add to ``plan`` what becomes of one record's decisions."""
    known = {*own.events, *(event.event for event in fresh)}
    if base is None and not any(isinstance(event, Add) for event in fresh):
        plan.left[name] = "it is in no record file"
        return
    if any(_lacks(event, known) for event in fresh):
        plan.left[name] = "decisions that were made before are not here, or in a segment that is still open"
        return
    line, kept, num_refused = settled(base, fresh, shape, own)
    if line is None:
        plan.left[name] = "its addition was taken back"
        return
    is_changed = base is None or canonical(dict(base.data)) != canonical(line)
    placed = _placed(line, name, base, shape) if is_changed else line
    if placed is None:
        plan.left[name] = "its line has no place for the id that it is known by"
        return
    if is_changed and not _is_readable(placed):
        plan.left[name] = "its line could not be read again"
        return
    ways = [((), kept), (fresh, own)] if is_changed else [((), kept)]
    if not _is_the_same(folded(base, fresh, shape, own, Fold({})), placed, name, ways, shape):
        plan.left[name] = "on the line that they make they would mean something else"
        return
    if is_changed:
        if base is None:
            plan.added[name] = spelled_anew(placed)
        else:
            plan.edits.setdefault(places[base.source.file], {})[base.source.line] = (base, placed)
    plan.kept[name] = kept
    plan.num_folded += len(fresh)
    plan.num_refused += num_refused


def _segments(root: Path) -> tuple[list[Segment], list[Path], list[AnyEvent]]:
    """Return the segments that are done, those that are open, and the events of both.

    Raises:
        CurateError: E982 when one is damaged; E913 and E980 as reading the journal does.
    """
    closed, opened, events, damaged = [], [], [], []
    for path in segments(root):
        try:
            is_open = is_held(path)
        except FileNotFoundError:
            continue
        except OSError:
            is_open = False
        content = read_segment(path, root) or b""
        found = list(read_frames(content, path))
        events += found
        parts = list(pieces(content))
        if is_open:
            opened.append(path)
        elif any(piece.payload is None or not piece.raw.endswith(b"}\n") for piece in parts):
            damaged.append(str(path.relative_to(root)))
        elif content:
            name = str(path.relative_to(path.parent.parent))
            raws = {event.event: piece.raw for event, piece in zip(found, parts, strict=True)}
            file = FoldedFile(path=name, sha256=hashlib.sha256(content).hexdigest())
            closed.append(Segment(path, file, found, raws))
    if damaged:
        raise _refusal("the journal is damaged", damaged, "Set what is damaged aside with `curate fsck --recover`.")
    return closed, opened, events


def _bases(workspace: Workspace, files: Sequence[Path], names: Collection[str]) -> dict[str, Record]:
    """Return the records called ``names`` as their lines have them."""
    items = read_records(files, workspace.shape, root=workspace.root)
    records = told_apart(item for item in items if isinstance(item, Record))
    return {record.id: record for record in records if record.id in names}


def _lacks(event: AnyEvent, known: Collection[str]) -> bool:
    """Whether ``event`` is about an event that is not among the ``known`` ones."""
    named = [*event.parents, *([event.of] if isinstance(event, Undo) else [])]
    return any(name not in known and not is_line_digest(name) for name in named)


def _placed(line: dict[str, Json], name: str, base: Record | None, shape: Shape) -> dict[str, Json] | None:
    """Return ``line`` so that the record read from it is called ``name``, None where it cannot be."""
    seen = _id_in(line, shape)
    if base is not None:
        old = _id_in(base.data, shape)
        # A repeated id of its own was told apart by its place, and so was repeated content: both stay where they are.
        if old == seen:
            return line
        if old[1]:
            return None
    if seen[1]:
        return line if seen[0] == name else None
    place = shape.view.one.get("id") if shape.view else None
    if not place or not all(isinstance(at(line, place[:depth]), dict) for depth in range(1, len(place))):
        return None
    marked = {**({place[0]: name} if len(place) == 1 else {}), **deepcopy(line)}
    put(marked, place, name)
    return marked if shape.is_valid(marked) and _id_in(marked, shape) == (name, True) else None


def _is_the_same(
    before: State | None,
    line: dict[str, Json],
    name: str,
    ways: Iterable[tuple[Sequence[AnyEvent], Kept]],
    shape: Shape,
) -> bool:
    """Whether the record is what it was once its line is ``line``.

    Of the ``ways`` one is how it is read after the fold; the other how it is if the fold is cut off halfway. It matters
    where a schema makes one key depend on another, so that a decision it had refused is right on the new line.
    """
    if before is None:
        return False
    record = replace(shape.record(line, before.record.source), id=name)
    after = [folded(record, events, shape, kept, Fold({})) for events, kept in ways]
    told = [before, *(one for one in after if one is not None and canonical(dict(one.record.data)) == canonical(line))]
    return len(told) == len(after) + 1 and len({_gist(one) for one in told}) == 1


def _gist(state: State) -> bytes:
    """Return all that a state says, but for its line."""
    record = state.record
    answers = {question: dict(some) for question, some in state.answers.items()}
    excluded = state.exclusion.status() if state.exclusion else None
    said = [excluded, state.is_wanted, answers, dict(state.resolved), sorted(state.heads)]
    return canonical([*said, record.split, dict(record.labels), record.category])


def _id_in(line: Mapping[str, Json], shape: Shape) -> tuple[str, bool]:
    """Return the id of the record in ``line`` as it is read, and whether the line says it itself."""
    record = shape.record(line, Source("", 0))
    return record.id, record.has_own_id


def _is_readable(line: dict[str, Json]) -> bool:
    """Whether a line that says this passes the front door: it may be too long or too deep, or hold no number."""
    raw = spelled_anew(line)
    try:
        return len(raw) * 2 <= MAX_LINE and canonical(strict_loads(raw)) == canonical(line)
    except DoorFault:
        return False


def _events(kept: Mapping[str, Kept], name: str) -> Collection[str]:
    return kept[name].events if name in kept else ()


def _is_spent(segment: Segment, kept: Mapping[str, Kept]) -> bool:
    """Whether all of a segment was folded before: a merge has brought it back."""
    return all(event.event in _events(kept, event.id) for event in segment.events)


def _changed(root: Path, before: Folded | None, places: Mapping[str, Path]) -> dict[str, str]:
    sealed = {file.path: file for file in before.files} if before else {}
    changed = {name: "the whole file" for name in places if before and name not in sealed}
    for name, file in sealed.items():
        if name not in places:
            changed[name] = "the file is gone"
        elif spans := changed_since(file, root / name):
            changed[name] = f"lines {told_spans(spans)}"
    return changed


def _refusal(why: str, names: Iterable[str], hint: str) -> CurateError:
    found = sorted(set(names))
    shown = ", ".join(one_line(name, 60) for name in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    return CurateError("E982 cannot-fold", f"{why}: {shown}{more}", hint, exit_code=Exit.FINDINGS)


__all__ = ["FoldPlan", "Segment", "plan_fold"]
