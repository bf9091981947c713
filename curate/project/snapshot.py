"""What `curate fold` leaves on the disk: ``journal/folded/<n>.json``, the snapshot, and ``journal/retired/<n>/``.

The snapshot has what every folded decision has left of each record, and the digest of every record file. The segments
that it was made of are read only for a history, see `Snapshot.retired`.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.base.events import AnyEvent, is_typed
from curate.base.file_guard import MOST_DOCUMENT, hint_of, open_file, read_file
from curate.base.record import CurateError, Json
from curate.base.storage import move_file, remove_file, write_atomic
from curate.base.tables import listed
from curate.project.history import STATUS, Fact, RecordSnapshot, by_record
from curate.project.journal import FOLDER, read_frames, read_segment

FOLDED = f"{FOLDER}/folded"
RETIRED = "retired"
SUMS = "SHA256SUMS"
# The snapshot that a fold is about to make; it is there while the record files are being written.
UNFINISHED = f"{FOLDED}/next.json"

# Facets of the facts that `RecordSnapshot.before`, ``authors`` and ``texts`` are written as: versions that do not know
# them pass over them.
_BEFORE = ["before"]
_AUTHORS = ["authors"]
_TEXTS = ["texts"]
# Up to so many lines each has a mark of its own.
_MOST_MARKS = 4096
_SHA256 = r"^[0-9a-f]{64}$"
_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)")
_Name = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
# The digest is of all the bytes that follow this member, so that not one of them can change unseen.
_HEAD = re.compile(rb'\{"digest":"([0-9a-f]{64})",\n')


class _SnapshotModel(BaseModel):
    # Built when the first snapshot is read.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class FoldedFile(_SnapshotModel):
    """A file and the SHA-256 of its bytes; a segment is named from the journal on, a record file from the workspace."""

    path: str = Field(min_length=1)
    sha256: str = Field(pattern=_SHA256)


class RecordFile(FoldedFile):
    """A record file as the fold left it, with what tells where it was changed since."""

    every: int = Field(ge=1)
    """So many lines share a mark."""
    marks: str = Field(pattern=r"^([0-9a-f]{8})*$")
    """One after the other, the CRC-32 of each so many lines with their ends, 8 hex digits each."""


class FoldedFact(_SnapshotModel):
    """The value of one facet of a record, and the places, from 0, of the record's events that had given it.

    The first one is the one whose value it is.
    """

    facet: list[str] = Field(min_length=1)
    value: Any
    by: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)


class FoldedRecord(_SnapshotModel):
    """What is kept of the decisions on one record."""

    events: list[_Name]
    """The folded events, in their order."""
    apart: dict[str, list[_Name]] = Field(default_factory=dict)
    """Those whose makers had not seen all the events before them, with the events that they had seen."""
    facts: list[FoldedFact]
    """Every facet that was touched, in the order of the last touch.

    One more, ["before"], has what folds have changed in the line: by key the value that stood there before the first of
    them, in a list that is empty where there was no such key. Another, ["authors"], has by event who made those that
    the line comes from, and ["texts"] the digests of the texts that answers hold for. Snapshots of earlier versions do
    not have them.
    """


class Folded(_SnapshotModel):
    """All that was ever folded: each fold writes it anew, whole, under the next number."""

    digest: str = Field(pattern=_SHA256)
    """SHA-256 of all the bytes of this file that follow the line of this member."""
    v: Annotated[int, Field(ge=1, le=2)]
    """2 where a drop of version 2 of the journal is among the facts, else 1."""
    number: int = Field(ge=1)
    segments: list[FoldedFile]
    """The segments that this fold took up; they lie in ``journal/retired/<number>/`` afterwards."""
    files: list[RecordFile]
    """All record files, as this fold left them."""
    records: dict[str, FoldedRecord]
    """By id, the records that decisions were folded on."""


@dataclass(frozen=True)
class Snapshot:
    """The last snapshot of a workspace, and what is told of a fold that was cut off."""

    root: Path | None = None
    number: int = 0
    segments: Sequence[FoldedFile] = ()
    files: Sequence[RecordFile] = ()
    records: Mapping[str, RecordSnapshot] = field(default_factory=dict)
    unfinished: Mapping[str, Mapping[str, Sequence[Json]]] = field(default_factory=dict)
    """What a fold that was cut off has changed in lines, or may have: as `RecordSnapshot.before`, by record."""

    def retired(self, name: str) -> list[AnyEvent]:
        """Return the folded decisions on the record called ``name`` of which the segments are there.

        Raises:
            CurateError: as `retired_events`.
        """
        return self._retired.get(name, [])

    def takes_back(self, by: str) -> list[AnyEvent]:
        """Return the folded decisions of an annotator that can be taken back, all those of an act or none of them.

        Raises:
            CurateError: as `retired_events`.
        """
        # What a fold has left in the journal is not folded, though its segment was retired.
        own = [event for name in self.records for event in self.retired(name) if event.by == by]
        lasting = {event.act for event in own if self.records[event.id].before is None}
        return [event for event in own if event.act not in lasting]

    @cached_property
    def _retired(self) -> dict[str, list[AnyEvent]]:
        return by_record(retired_events(self.root)) if self.root else {}


def folded_files(root: Path) -> dict[int, Path]:
    """Return the snapshots of the workspace ``root`` by number, the newest last."""
    numbered = {int(path.stem): path for path in (root / FOLDED).glob("*.json") if path.stem.isdecimal()}
    return dict(sorted(numbered.items()))


def read_snapshot(root: Path) -> Snapshot:
    """Return the last snapshot of the workspace ``root``, which is empty before the first fold.

    Raises:
        CurateError: E913 when the file is not what a fold writes; E980 when it cannot be read.
    """
    # A caller that reads the journal too reads it first: what is folded meanwhile is then in both, and counts once.
    unfinished = _read(root / UNFINISHED)
    last = None
    while last is None and (files := folded_files(root)):
        # One that is gone meanwhile has another in its place.
        last = _read(list(files.values())[-1])
    number = last.number if last else 0
    records = {name: _record_snapshot(record) for name, record in last.records.items()} if last else {}
    coming = unfinished.records if unfinished is not None and unfinished.number == number + 1 else {}
    changed = {
        name: record.before
        for name, record in ((name, _record_snapshot(record)) for name, record in coming.items())
        if record.before is not None and (name not in records or records[name].events != record.events)
    }
    return Snapshot(root, number, last.segments if last else (), last.files if last else (), records, changed)


def _read(path: Path) -> Folded | None:
    try:
        return parse_folded(read_file(path, path.parents[1], most=MOST_DOCUMENT), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = hint_of(error, "Ask its owner for the right to read it.")
        hint = f"Decisions would be missing without it. {what}"
        raise CurateError("E980 bad-segment", f"{path}: {error.strerror}", hint) from error


def parse_folded(content: bytes, path: Path) -> Folded:
    """Return what ``content`` of the file ``path`` says.

    Raises:
        CurateError: E913 when it is not what a fold writes.
    """
    head = _HEAD.match(content)
    if head is None or hashlib.sha256(content[head.end() :]).hexdigest() != head[1].decode():
        why = "the file was changed after it was written"
    else:
        try:
            folded = Folded.model_validate_json(content)
            if all(
                index < len(record.events)
                for record in folded.records.values()
                for fact in record.facts
                for index in fact.by
            ):
                return folded
            why = "a value names an event that is missing"
        except ValidationError as error:
            why = error.errors()[0]["msg"]
    raise CurateError(
        "E913 unknown-event", f"{path}: {why}", "See `curate fsck` about damage; else upgrade to read it."
    )


def folded_bytes(
    number: int, segments: Sequence[FoldedFile], files: Sequence[RecordFile], records: Mapping[str, RecordSnapshot]
) -> bytes:
    """Return the file of a fold, one record a line so that a comparison of two versions can be read."""
    statuses = (entry.facts[STATUS].value for entry in records.values() if STATUS in entry.facts)
    has_typed_drops = any(is_typed(status) for status in statuses)
    lines = (
        f"{_json(name)}:{_json(folded_record(entry).model_dump(exclude_defaults=True))}"
        for name, entry in records.items()
    )
    body = (
        # Version 1 wherever it suffices: programs that know no other still read the snapshot.
        f'"v":{2 if has_typed_drops else 1},"number":{number},\n'
        f'"segments":[{_joined(_json(entry.model_dump()) for entry in segments)}],\n'
        f'"files":[{_joined(_json(entry.model_dump()) for entry in files)}],\n'
        f'"records":{{{_joined(lines)}}}}}\n'
    ).encode()
    return b'{"digest":"%b",\n%b' % (hashlib.sha256(body).hexdigest().encode(), body)


def folded_record(snapshot: RecordSnapshot) -> FoldedRecord:
    """Return the snapshot of one record in the form that the file has."""
    indices = {name: index for index, name in enumerate(snapshot.events)}
    facts = [
        FoldedFact(facet=list(facet), value=fact.value, by=[indices[name] for name in fact.sides])
        for facet, fact in snapshot.facts.items()
    ]
    if snapshot.before is not None:
        value = {key: list(some) for key, some in snapshot.before.items()}
        facts.append(FoldedFact(facet=_BEFORE, value=value, by=[0]))
    if snapshot.authors:
        facts.append(FoldedFact(facet=_AUTHORS, value=dict(snapshot.authors), by=[0]))
    if snapshot.texts:
        facts.append(FoldedFact(facet=_TEXTS, value={name: [*some] for name, some in snapshot.texts.items()}, by=[0]))
    apart = {name: sorted(ancestors, key=lambda one: indices[one]) for name, ancestors in snapshot.apart.items()}
    return FoldedRecord(events=list(snapshot.events), apart=apart, facts=facts)


def _record_snapshot(folded: FoldedRecord) -> RecordSnapshot:
    extra = {fact.facet[0]: fact.value for fact in folded.facts if fact.facet in (_BEFORE, _AUTHORS, _TEXTS)}
    before = extra.get("before")
    return RecordSnapshot(
        tuple(folded.events),
        {name: frozenset(ancestors) for name, ancestors in folded.apart.items()},
        {
            tuple(fact.facet): Fact(fact.value, tuple(folded.events[index] for index in fact.by))
            for fact in folded.facts
            if fact.facet not in (_BEFORE, _AUTHORS, _TEXTS)
        },
        before if _is_whole(folded, before) else None,
        extra.get("authors", {}),
        extra.get("texts", {}),
    )


def _is_whole(folded: FoldedRecord, before: Json) -> bool:
    """Whether ``before`` knows of every key that was changed: a version that passes over it may have folded since."""
    keys = {fact.facet[1] for fact in folded.facts if fact.facet[0] == "data"}
    return isinstance(before, dict) and keys <= before.keys()


def retired_segments(root: Path) -> list[Path]:
    """Return the retired segments of ``root``, those of the first fold first."""
    paths = (root / FOLDER / RETIRED).glob("*/*/*.log")
    return sorted(paths, key=lambda path: (path.parts[-3].zfill(9), path))


def retired_events(root: Path) -> list[AnyEvent]:
    """Return the decisions that were folded into the record files, each once: for a history, they count no more.

    Raises:
        CurateError: E913 for a line of a newer version; E980 when a segment cannot be read.
    """
    events: dict[str, AnyEvent] = {}
    for path in retired_segments(root):
        for event in read_frames(read_segment(path, root) or b"", path):
            events.setdefault(event.event, event)
    return list(events.values())


def retired_folds(root: Path) -> list[int]:
    """Return the numbers of the folds that have retired segments."""
    numbers = {path.parts[-3] for path in retired_segments(root)}
    return sorted(int(name) for name in numbers if name.isdecimal())


def retire(root: Path, number: int, segments: Sequence[FoldedFile]) -> None:
    """Move the segments of a fold out of the journal, those that are still there and as the fold has read them.

    Raises:
        CurateError: E906 when the system refuses.
    """
    folder = root / FOLDER / RETIRED / str(number)
    waiting = [segment for segment in segments if digest_of(root / FOLDER / segment.path) == segment.sha256]
    if waiting and not (folder / SUMS).exists():
        write_atomic(folder / SUMS, [f"{segment.sha256}  {segment.path}\n".encode() for segment in segments])
    for segment in waiting:
        path, target = root / FOLDER / segment.path, folder / segment.path
        if digest_of(target) == segment.sha256:
            # A merge has brought it back.
            remove_file(path)
            continue
        move_file(path, target)
        if digest_of(target) != segment.sha256:
            # Where locks mean nothing, somebody may have written to it until now: what is not folded has to be read.
            move_file(target, path)


def call_back(root: Path, number: int) -> int:
    """Put the segments of a fold back into the journal and return how many there were.

    Raises:
        CurateError: E906 when the system refuses.
    """
    folder = root / FOLDER / RETIRED / str(number)
    count = 0
    for path in sorted(folder.glob("*/*.log")):
        target = root / FOLDER / path.relative_to(folder)
        if not target.exists():
            move_file(path, target)
            count += 1
    remove_file(folder / SUMS)
    return count


def sums_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the digests and names that the file of digests in ``folder`` has; a line that is none gives ("", line).

    Raises:
        OSError: it cannot be read.
    """
    for line in read_file(folder / SUMS, most=MOST_DOCUMENT).decode("utf-8", "replace").splitlines():
        match = _SUM.fullmatch(line)
        yield (match[1], match[2]) if match else ("", line)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, "" where there is none."""
    if path.is_symlink() or not path.is_file():
        return ""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(path: Path, name: str) -> RecordFile:
    """Return what a fold notes of the record file ``path``, which it calls ``name``.

    Raises:
        OSError: it cannot be read.
    """
    digest, lines = hashlib.sha256(), array("L")
    with open_file(path) as file:
        for line in file:
            digest.update(line)
            lines.append(zlib.crc32(line))
    every = max(1, -(-len(lines) // _MOST_MARKS))
    return RecordFile(path=name, sha256=digest.hexdigest(), every=every, marks="".join(_marks(lines, every)))


def changed_since(sealed: RecordFile, path: Path) -> list[tuple[int, int]]:
    """Return the lines of ``path`` that are not as they were sealed, as spans of 1-based numbers, first and last.

    Raises:
        OSError: it cannot be read.
    """
    with open_file(path) as file:
        lines = array("L", (zlib.crc32(line) for line in file))
    now = list(_marks(lines, sealed.every))
    before = [sealed.marks[index : index + 8] for index in range(0, len(sealed.marks), 8)]
    most = max(len(now), len(before))
    differs = [index for index in range(most) if now[index : index + 1] != before[index : index + 1]]
    if not differs:
        return []
    # Where lines were added or removed, all that follow have moved, and the span reaches to the end of the file.
    if len(now) != len(before):
        return [(differs[0] * sealed.every + 1, max(len(lines), differs[0] * sealed.every + 1))]
    spans: list[tuple[int, int]] = []
    for index in differs:
        first, last = index * sealed.every + 1, min((index + 1) * sealed.every, len(lines))
        if spans and spans[-1][1] == first - 1:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return spans


def spans_text(spans: list[tuple[int, int]]) -> str:
    """Return spans of lines in words, the first of them."""
    return listed([f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in spans], 5)


def _marks(lines: array[int], every: int) -> Iterator[str]:
    for start in range(0, len(lines), every):
        group = lines[start : start + every]
        mark = group[0] if every == 1 else zlib.crc32(b"".join(checksum.to_bytes(4, "big") for checksum in group))
        yield f"{mark:08x}"


def _joined(parts: Iterator[str]) -> str:
    return "".join(f"{',' if number else ''}\n{part}" for number, part in enumerate(parts))


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
