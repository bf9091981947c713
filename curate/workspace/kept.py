"""What `curate fold` has kept of the decisions that it put into the record files: ``journal/folded/<n>.json``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.file_guard import MOST_DOCUMENT, hint_of, read_file
from curate.journal import FOLDER
from curate.record import CurateError, Json
from curate.workspace.exclusion import is_typed
from curate.workspace.order import Held, Kept

_SHA256 = r"^[0-9a-f]{64}$"
_Name = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
# The digest is of all the bytes that follow this member, so that not one of them can change unseen.
_HEAD = re.compile(rb'\{"digest":"([0-9a-f]{64})",\n')


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FoldedFile(_Part):
    """A file and the SHA-256 of its bytes; a segment is named from the journal on, a record file from the workspace."""

    path: str = Field(min_length=1)
    sha256: str = Field(pattern=_SHA256)


class RecordFile(FoldedFile):
    """A record file as the fold left it, with what tells where it was changed since."""

    every: int = Field(ge=1)
    """So many lines share a mark."""
    marks: str = Field(pattern=r"^([0-9a-f]{8})*$")
    """One after the other, the CRC-32 of each so many lines with their ends, 8 hex digits each."""


class FoldedFact(_Part):
    """The value of one facet of a record, and the places, from 0, of the record's events that had given it.

    The first one is the one whose value it is.
    """

    facet: list[str] = Field(min_length=1)
    value: Any
    by: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)


class FoldedRecord(_Part):
    """What is kept of the decisions on one record."""

    events: list[_Name]
    """The folded events, in their order."""
    apart: dict[str, list[_Name]] = Field(default_factory=dict)
    """Those whose makers had not seen all the events before them, with the events that they had seen."""
    facts: list[FoldedFact]
    """Every facet that was touched, in the order of the last touch."""


class Folded(_Part):
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


def folded_files(root: Path) -> dict[int, Path]:
    """Return what folds of the workspace ``root`` have kept, by number, the newest last."""
    found = {int(path.stem): path for path in (root / FOLDER / "folded").glob("*.json") if path.stem.isdecimal()}
    return dict(sorted(found.items()))


def read_folded(root: Path) -> Folded | None:
    """Return what the last fold of the workspace ``root`` has kept, None before the first.

    Whoever reads the journal as well reads that first: what is folded meanwhile is then in both, and counts once.

    Raises:
        CurateError: E913 when the file is not what a fold writes; E980 when it cannot be read.
    """
    while found := folded_files(root):
        path = list(found.values())[-1]
        try:
            return parse_folded(read_file(path, root / FOLDER, most=MOST_DOCUMENT), path)
        except FileNotFoundError:
            # The next fold has taken its place.
            continue
        except OSError as error:
            what = hint_of(error, "Ask its owner for the right to read it.")
            hint = f"Decisions would be missing without it. {what}"
            raise CurateError("E980 bad-segment", f"{path}: {error.strerror}", hint) from error
    return None


def parse_folded(content: bytes, path: Path) -> Folded:
    """Return what ``content`` of the file ``path`` says.

    Raises:
        CurateError: E913 when it is not what a fold writes.
    """
    head = _HEAD.match(content)
    if head is None or hashlib.sha256(content[head.end() :]).hexdigest() != head[1].decode():
        why = "it is not as it was written"
    else:
        try:
            folded = Folded.model_validate_json(content)
            if all(
                place < len(one.events) for one in folded.records.values() for fact in one.facts for place in fact.by
            ):
                return folded
            why = "a value is said to be of an event that is not there"
        except ValidationError as error:
            why = error.errors()[0]["msg"]
    raise CurateError(
        "E913 unknown-event", f"{path}: {why}", "See `curate fsck` about damage; else upgrade to read it."
    )


def folded_bytes(
    number: int, segments: Sequence[FoldedFile], files: Sequence[RecordFile], records: Mapping[str, FoldedRecord]
) -> bytes:
    """Return the file of a fold, one record a line so that a comparison of two versions can be read."""
    facts = (fact for one in records.values() for fact in one.facts)
    has_typed_drops = any(fact.facet == ["status"] and is_typed(fact.value) for fact in facts)
    told = (f"{_json(name)}:{_json(one.model_dump(exclude_defaults=True))}" for name, one in records.items())
    body = (
        f'"v":{2 if has_typed_drops else 1},"number":{number},\n'
        f'"segments":[{_joined(_json(one.model_dump()) for one in segments)}],\n'
        f'"files":[{_joined(_json(one.model_dump()) for one in files)}],\n'
        f'"records":{{{_joined(told)}}}}}\n'
    ).encode()
    return b'{"digest":"%b",\n%b' % (hashlib.sha256(body).hexdigest().encode(), body)


def kept_by_record(folded: Folded | None) -> dict[str, Kept]:
    """Return what was kept in the form that `curate.workspace.fold` takes."""
    return {name: _kept(one) for name, one in folded.records.items()} if folded else {}


def kept_form(kept: Kept) -> FoldedRecord:
    """Return what was kept of one record in the form that the file has."""
    places = {name: place for place, name in enumerate(kept.events)}
    return FoldedRecord(
        events=list(kept.events),
        apart={name: sorted(seen, key=lambda one: places[one]) for name, seen in kept.apart.items()},
        facts=[
            FoldedFact(facet=list(facet), value=held.value, by=[places[name] for name in held.sides])
            for facet, held in kept.facts.items()
        ],
    )


def _kept(one: FoldedRecord) -> Kept:
    return Kept(
        tuple(one.events),
        {name: frozenset(seen) for name, seen in one.apart.items()},
        {tuple(fact.facet): Held(fact.value, tuple(one.events[place] for place in fact.by)) for fact in one.facts},
    )


def _joined(parts: Iterator[str]) -> str:
    return "".join(f"{',' if number else ''}\n{part}" for number, part in enumerate(parts))


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
