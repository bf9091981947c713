"""A file that was imported comes again, grown or changed: what it says anew goes into its record file.

Three versions are compared, key by key: what the file said at the last import, what it says now, and what stands in the
record file. What only the source has changed is taken; what only people have changed stays. Where both have, what
people say holds, and the source's word is set beside it in the journal: a contradiction (L403) that somebody settles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from curate.base.console import one_line, spelled
from curate.base.events import Decision, Drop, Edit, FileEdit, SourceEdit
from curate.base.file_guard import FileStamp, files_changed, inside, stamp_of
from curate.base.record import (
    BOOKKEEPING,
    CurateError,
    Finding,
    Json,
    Record,
    Source,
    canonical,
    strings_of,
    text_digest,
)
from curate.base.storage import write_atomic
from curate.base.tables import counted
from curate.checks.runner import read_records
from curate.checks.runner.names import UniqueNames
from curate.formats.import_note import (
    FieldDigests,
    field_digests,
    note_path,
    numbered,
    read_digests,
    write_note,
)
from curate.formats.import_plan import Reading
from curate.formats.importers._reading import value_at
from curate.formats.intake import Imported, Intake, set_aside
from curate.jsonl import Entry
from curate.jsonl.rewrite import Ending, Replacement, Rewrite
from curate.jsonl.walker import edited_line
from curate.project.applied import placed_line, save_rewrites
from curate.project.data import ProjectData
from curate.project.diff import VersionDiff, VersionRecord, compare
from curate.project.golden import require_unlocked
from curate.project.history import in_causal_order
from curate.project.project import open_project

# Of the words of a row that was reworded so many stay.
_REWORDED = 0.5


@dataclass(slots=True)
class Update:
    """What becomes of a record file whose source has come again; nothing is written before `write_update`."""

    intake: Intake
    reading: Reading
    stamp: FileStamp
    has_note: bool
    """Whether it is known what the last import took; else every line counts as the source's."""
    edits: dict[int, tuple[Record, dict[str, Json]]] = field(default_factory=dict)
    """By line of the record file, the record that stands there and its new line."""
    added: dict[int, list[tuple[bytes, Record, FieldDigests]]] = field(default_factory=dict)
    """New lines, by the line that they come after; 0 stands for the begin of the file."""
    gone: list[Record] = field(default_factory=list)
    """Records that are in and that the source has no more."""
    returned: list[str] = field(default_factory=list)
    """Records that are dropped, and that the source has changed, or has again although they were gone."""
    contested: list[SourceEdit] = field(default_factory=list)
    ours: list[FileEdit] = field(default_factory=list)
    """What the record file says against the source, where no decision says it."""
    texts: set[str] = field(default_factory=set)
    """Digests of the texts that stand in the record file."""
    coming: set[str] = field(default_factory=set)
    """Digests of the texts that rows of the source say now and did not say before."""
    moved: list[str] = field(default_factory=list)
    """Records that say something else altogether now, so that what was decided on them is held back."""
    num_taken_out: int = 0
    """Rows of the source whose lines people took out of the record file."""
    num_without_key: int = 0
    difference: VersionDiff = field(default_factory=VersionDiff)
    note: dict[str, FieldDigests] = field(default_factory=dict)
    is_noted: bool = False
    """Whether the note says so already."""

    @property
    def drop_reason(self) -> str:
        """Why a record is dropped that is gone."""
        return f"gone from {self.intake.plan.path.name}"


def plan_update(intake: Intake, rows: Sequence[Imported], data: ProjectData, *, is_dropping: bool = False) -> Update:
    """Return what the good ``rows`` of a file change in its record file, ``intake.target``.

    The key of its reading is the column or JSON pointer of a line that says which record it is; without one that
    is its id, which is made of its content where it has none. The difference has what is gone from the file as removed
    where it ``is_dropping`` that.

    Raises:
        CurateError: E908 when no row has the key, or several have the same; E993 for a damaged note; and as
            `ProjectData.read_lines`.
    """
    target, shape, reading = intake.target, data.shape, intake.reading_now
    note = note_path(data.root, target)
    noted = read_digests(note) if note.exists() else None
    update = Update(intake, reading, stamp_of(target, str(target)), noted is not None)
    here = _records_in(target, data)
    base = {name: field_digests(record.data) for name, record in here.items()} if noted is None else noted
    records = [shape.record(row.value, Source(str(intake.plan.path), row.line)) for row in rows]
    source = dict(zip(numbered(record.id for record in records), records, strict=True))
    known = dict(zip(_keys(here, reading.key), here.items(), strict=True))
    keys = list(_keys(source, reading.key))
    _refuse_shared_key(reading.key, list(known), [record.source.line for record in here.values()], target)
    _refuse_shared_key(reading.key, keys, [row.line for row in rows], intake.plan.path)
    if data.decisions.names:
        update.texts, update.coming = _texts(zip(known, here.values(), strict=True), zip(keys, records, strict=True))
    update.num_without_key = sum(value.startswith("id ") for value in keys) if reading.key else 0
    if update.num_without_key == len(rows) > 0:
        raise _no_key(reading.key, intake.plan.path)
    missing = {frozenset(base[name].items()): name for name in base.keys() - here.keys()}
    versions: list[VersionRecord] = []
    noted_lines: dict[int, FieldDigests] = {}
    last = 0
    for value, row, record in zip(keys, rows, records, strict=True):
        digests = field_digests(record.data)
        name, old = known.get(value, ("", None))
        if old is not None and (line := _take(update, data, old, record, digests, base.get(name, {}))) is not None:
            del known[value]
            last = old.source.line
            if record.id in intake.answers:
                intake.answers[old.id] = intake.answers.pop(record.id)
            noted_lines[last] = digests
            versions.append(_version(old, line))
        elif old is None and (name := missing.get(frozenset(digests.items()), "")):
            update.num_taken_out += 1
            update.note[name] = digests
            intake.answers.pop(record.id, None)
        else:
            update.added.setdefault(last, []).append((row.raw, record, digests))
    for name, record in known.values():
        if name in base:
            noted_lines[record.source.line] = base[name]
            if not _is_dropped(record, data):
                update.gone.append(record)
    _compare(update, here.values(), versions, is_dropping=is_dropping)
    changed = [*(old.id for old, _ in update.edits.values()), *(record.id for record in update.gone if is_dropping)]
    require_unlocked(data.root, changed, str(intake.plan.path))
    update.note = dict(_note(update, here, noted_lines, data)) | update.note
    update.is_noted = (intake.last, noted) == (reading, update.note)
    return update


def write_update(update: Update, data: ProjectData, *, is_dropping: bool = False) -> None:
    """Write what `plan_update` says; with ``is_dropping`` records that are gone are dropped, as one act.

    Raises:
        CurateError: E959 and E974 when somebody has changed the record file meanwhile; E906 when writing fails.
    """
    root, target = data.root, update.intake.target
    if stamp_of(target, str(target)) != update.stamp:
        raise files_changed(str(target))
    save_rewrites(root, _carried(update, data), update.intake.plan.path.name)
    # The note comes last: what is interrupted before it is done again, and comes to the same.
    if update.edits or update.added:
        _write_lines(update, root)
    drops = [Drop(record.id, update.drop_reason) for record in update.gone] if is_dropping else []
    for by, decisions in (("", update.ours), (update.intake.plan.path.name, update.contested), ("", drops)):
        if decisions:
            with open_project(root, by) as project:
                project.apply(list[Decision](decisions))
    if not update.is_noted:
        write_note(inside(root, note_path(root, target)), update.reading, update.note.items())
    set_aside(update.intake)


def _carried(update: Update, data: ProjectData) -> dict[str, tuple[str, str]]:
    """Return, by id, the old and the new text of the records that decisions go with.

    They do where a row was reworded. Where it says something else altogether, what another record said, or another row
    says what it said, the id of the source has moved: what was decided is held back (L407).
    """
    return {
        old.id: (text_digest(old.data), text_digest(line))
        for old, line in update.edits.values()
        if old.id in data.decisions.names and old.id not in update.moved
    }


def _is_reworded(old: Mapping[str, Json], new: Mapping[str, Json], edited: set[str]) -> bool:
    """Whether each text that a line has changed, but for the ``edited`` ones, keeps half of its words.

    It is the same record then, said otherwise.
    """
    changed = [key for key in {**old, **new} if not _is_same(old.get(key), new.get(key))]
    changed = [key for key in changed if key not in BOOKKEEPING and key not in edited]
    return all(_likeness(old.get(key), new.get(key)) >= _REWORDED for key in changed)


def _likeness(value: Json, other: Json) -> float:
    """Return the share of words that two values have in common, from 0 to 1."""
    words, others = (Counter(word for text in strings_of(some) for word in text.split()) for some in (value, other))
    return 2 * (words & others).total() / max(1, words.total() + others.total())


def replace_records(root: Path, lines: Mapping[str, Mapping[str, Json]], by: str = "") -> None:
    """Have records say what ``lines`` say, by id, as one act.

    Raises:
        CurateError: E975 for records of the frozen test set; and as `Project.apply`.
    """
    with open_project(root, by) as project:
        edits: list[Decision] = []
        for name, line in lines.items():
            before = project.state(name).record.data
            id_keys = project.shape.view.paths.get("id", ())[:1] if project.shape.view else ()
            keys = [key for key in {**before, **line} if key not in id_keys]
            changes = {key: line.get(key) for key in keys if not _is_same(before.get(key), line.get(key))}
            edits += [Edit(name, changes)] if changes else []
        project.apply(edits)


def _records_in(target: Path, data: ProjectData) -> dict[str, Record]:
    """Return the records that stand in a file, as its lines have them, by a name that none other has in the file."""
    file = spelled(str(target.relative_to(data.root)))
    read = (item for item in data.read_lines() if isinstance(item, Record) and item.source.file == file)
    # Decisions are by the name that a record has among those of all files.
    names = {record.source.line: record.id for record in read}
    items = read_records([target], data.shape, root=data.root)
    records = [item for item in items if isinstance(item, Record)]
    named = (replace(record, id=names.get(record.source.line, record.id)) for record in records)
    return dict(zip(numbered(record.id for record in records), named, strict=True))


def _keys(records: Mapping[str, Record], key: str) -> Iterator[str]:
    def values() -> Iterator[str]:
        for name, record in records.items():
            extra = (record.data.get("meta") or {}).get("extra") if key else None
            value = value_at(record.data, key) if key else None
            if value is None and isinstance(extra, dict):
                value = value_at(extra, key)
            yield f"id {name}" if value is None else f"key {canonical(value).decode()}"

    return numbered(values())


def _texts(here: Iterable[tuple[str, Record]], there: Iterable[tuple[str, Record]]) -> tuple[set[str], set[str]]:
    """Return digests of the texts that stand ``here``, and of those that rows ``there`` say and did not say before."""
    old, new = ({(key, text_digest(record.data)) for key, record in records} for records in (here, there))
    return {text for _, text in old}, {text for _, text in new - old}


def _refuse_shared_key(key: str, keys: Sequence[str], lines: Sequence[int], file: Path) -> None:
    """Refuse a key that several records of a file share: which of them a row is about would be a guess.

    Raises:
        CurateError: E908 with the number of such records, and the lines of the first two.
    """
    shared = [place for place, value in enumerate(keys) if value.startswith("key ") and "\0" in value]
    if not key or not shared:
        return
    value = keys[shared[0]].rpartition("\0")[0]
    message = (
        f"{file}: {one_line(key, 60)} does not tell records apart: {counted(len(shared), 'record')} have the value of "
        f"another one, first in lines {lines[keys.index(value)]} and {lines[shared[0]]}"
    )
    hint = "Name a column whose value is another one in each row, or leave --key out. Nothing was written."
    raise CurateError("E908 cannot-import", message, hint)


def _no_key(key: str, file: Path) -> CurateError:
    message = f"{file}: no record has {one_line(key, 60)}"
    hint = "Name a key of the lines that are written, such as /id, or a column that is stored in meta.extra."
    return CurateError("E908 cannot-import", message, hint)


def _take(
    update: Update, data: ProjectData, old: Record, new: Record, digests: FieldDigests, base: FieldDigests
) -> Mapping[str, Json] | None:
    """Plan what becomes of a record that the source has again, and return its line as the source has it.

    None where the line would lose the name that the record is known by, so that it would be another one.
    """
    shape = data.shape
    id_keys = shape.view.paths.get("id", ())[:1] if shape.view else ()
    changed = [key for key in {**base, **digests} if digests.get(key) != base.get(key) and key not in id_keys]
    if _is_dropped(old, data, "" if changed else update.drop_reason):
        update.returned.append(old.id)
    if not changed:
        return old.data
    here = field_digests(old.data)
    taken = [key for key in changed if here.get(key) in (base.get(key), digests.get(key))]
    line = _with(old.data, new.data, taken)
    if not shape.is_valid(line):
        line = dict(old.data)
    placed = line if _is_same(line, dict(old.data)) else placed_line(line, old.id, old, shape)
    if placed is None:
        return None
    if not _is_same(placed, dict(old.data)):
        update.edits[old.source.line] = old, placed
    before, after = text_digest(old.data), text_digest(placed)
    is_elsewhere = before != after and (after in update.texts or before in update.coming)
    # Where a field was edited, the file's word and a person's are both shown (L403): that asks about it already.
    edited = {facet[1] for facet in data.decisions.facts(old.id) if facet[0] == "data"}
    if old.id in data.decisions.names and (is_elsewhere or not _is_reworded(old.data, placed, edited)):
        # The id of the source has moved to another text: what people said of the old one is no contradiction.
        update.moved.append(old.id)
    else:
        _contest(update, data, replace(shape.record(placed, old.source), id=old.id), new.data, changed)
    return _with(old.data, new.data, changed)


def _with(line: Mapping[str, Json], other: Mapping[str, Json], keys: Iterable[str]) -> dict[str, Json]:
    """Return ``line`` with the values that ``other`` has for ``keys``, and without those that it lacks."""
    wanted = set(keys)
    merged = {**line, **{key: value for key, value in other.items() if key in wanted}}
    return {key: value for key, value in merged.items() if key in other or key not in wanted}


def _contest(
    update: Update, data: ProjectData, record: Record, new: Mapping[str, Json], changed: Sequence[str]
) -> None:
    """Set what the source says beside what people say of ``record``, as it will stand in its file."""
    decisions, name = data.decisions, record.id
    decided = {facet[1]: value for facet, value in decisions.facts(name).items() if facet[0] == "data"}
    line = {key: value for key, value in {**record.data, **decided}.items() if value is not None or key not in decided}
    said: dict[str, Json] = {}
    text, parents = text_digest(record.data), tuple[str, ...]()
    source = update.intake.plan.path.name
    edits = [event for event in decisions.of(name) if isinstance(event.decision, Edit)]
    for event, _ in in_causal_order([event for event in edits if event.by == source]):
        said |= event.decision.fields["changes"]
        parents = (event.event,)
    theirs = {
        key: new.get(key)
        for key in changed
        if not (_is_same(said[key], new.get(key)) if key in said else _is_same(line.get(key), new.get(key)))
    }
    if not theirs:
        return
    if not data.shape.is_valid(_with(line, new, theirs)):
        # What the source says holds together as a whole.
        id_keys = data.shape.view.paths.get("id", ())[:1] if data.shape.view else ()
        keys = [key for key in {**line, **new} if key not in id_keys]
        theirs = {key: new.get(key) for key in keys if not _is_same(line.get(key), new.get(key))}
    edited = [event.decision.fields["changes"] for event in edits]
    ours = {
        key: own
        for key, value in theirs.items()
        if not _is_same(own := record.data.get(key), value)
        and not any(key in changes and _is_same(changes[key], own) for changes in edited)
    }
    update.ours += [FileEdit(name, ours, text=text)] if ours else []
    update.contested.append(SourceEdit(name, theirs, text=text, parents=parents))


def _is_same(value: Json, other: Json) -> bool:
    return canonical(value) == canonical(other)


def _is_dropped(record: Record, data: ProjectData, reason: str = "") -> bool:
    """Whether a decision leaves the record out, for this ``reason`` if one is given."""
    if record.id not in data.decisions.names:
        return False
    state = data.decisions.fold(record.id, record)
    return state is not None and state.dropped is not None and (not reason or state.dropped == reason)


def _compare(update: Update, here: Iterable[Record], versions: list[VersionRecord], *, is_dropping: bool) -> None:
    names, gone = UniqueNames(), {record.id for record in update.gone}
    for record in here:
        names.name(record.id)
    again = {record.id for record in versions}
    before = [_version(record, record.data) for record in here if record.id in again or record.id in gone]
    new = [record for added in update.added.values() for _, record, _ in added]
    staying = [] if is_dropping else [version for version in before if version.id in gone]
    after = [*versions, *staying, *(_version(replace(record, id=names.name(record.id)), record.data) for record in new)]
    update.difference = compare(before, after)


def _version(record: Record, line: Mapping[str, Json]) -> VersionRecord:
    location = f"{record.source.file}:{record.source.line}"
    return VersionRecord(record.id, line, record.category, record.split or "", location)


def _note(
    update: Update, here: Mapping[str, Record], lines: Mapping[int, FieldDigests], data: ProjectData
) -> Iterator[tuple[str, FieldDigests]]:
    """Yield what the source said last of each record, under the name that it has in the file when it is written."""

    def entries() -> Iterator[tuple[str, FieldDigests | None]]:
        yield from ((record.id, digests) for _, record, digests in update.added.get(0, ()))
        for name, old in here.items():
            number = old.source.line
            edit = update.edits.get(number)
            own = name.partition("\0")[0] if edit is None else data.shape.record(edit[1], old.source).id
            yield own, lines.get(number)
            yield from ((record.id, digests) for _, record, digests in update.added.get(number, ()))

    final = list(entries())
    for name, (_, digests) in zip(numbered(name for name, _ in final), final, strict=True):
        if digests is not None:
            yield name, digests


def _write_lines(update: Update, root: Path) -> None:
    """Rewrite the record file in one step; lines that nothing is said of keep their bytes."""
    target, waiting = update.intake.target, dict(update.edits)
    added = {number: [line for line, *_ in lines] for number, lines in update.added.items()}

    def mend(item: Entry | Finding, raw: bytes, ending: Ending) -> Replacement | None:
        number = item.line.source.line if isinstance(item, Entry) else item.line
        before, after = added.pop(0, []), added.pop(number, [])
        if number in waiting:
            record, line = waiting.pop(number)
            if not isinstance(item, Entry) or not _is_same(item.value, dict(record.data)):
                raise files_changed(str(target))
            raw = edited_line(raw, line, is_ascii=rewrite.is_ascii)
        end = ending.newline or b"\n"
        lines = (part for line in (*before, raw, *after) for part in (line, end))
        return b"".join([ending.mark, *lines])[: None if ending.newline or after else -1], ()

    rewrite = Rewrite(target, mend, root=root)
    rewrite.write()
    if added and not rewrite.num_lines:
        write_atomic(target, [line + b"\n" for line in added[0]])
