"""What people decided, one line each, appended and never changed: the truth from which a workspace is folded.

A line is ``crc32 (8 hex digits), blank, JSON, newline``; the checksum covers the JSON's bytes. Each annotator and
sitting has its own segment, ``journal/<annotator>/<time>-<session>.log``, so that nobody appends to a file that git or
a colleague knows. A damaged line, such as the torn tail a power cut leaves, is reported and stays where it is; every
whole line counts.
"""

from __future__ import annotations

import getpass
import os
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from curate.record import CurateError, Json, Split, canonical
from curate.store import Segment

FOLDER = "journal"

_HEX = r"^[0-9a-f]{32}$"
_FRAME = re.compile(rb"([0-9a-f]{8}) (.*)", re.DOTALL)


class _Event(BaseModel):
    """What every decision says about itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    v: int = Field(ge=1, le=1)
    event: str = Field(pattern=_HEX)
    """Number of the event, unique in the world; the same event read twice counts once."""
    at: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    """When, for people only: nothing is ordered by a clock."""
    by: str = Field(min_length=1)
    session: str = Field(pattern=_HEX)
    seq: int = Field(ge=1, le=2**53)
    """Place in the session, from 1."""
    id: str = Field(min_length=1)
    """The record decided on."""
    act: str = Field(pattern=_HEX)
    """What was decided in one go and is taken back in one go has the same act."""
    parents: list[Annotated[str, Field(pattern=_HEX)]]
    """The last events on the record that the one who decides had seen; before any, the digest of the record's line.

    Empty for a new record.
    """


class Drop(_Event):
    """Leave the record out."""

    op: Literal["drop"]
    reason: str


class Restore(_Event):
    """Take a dropped record in again."""

    op: Literal["restore"]


class Assign(_Event):
    """Put the record in a split."""

    op: Literal["assign"]
    split: Split


class Label(_Event):
    """Answer a label question; null takes the answer back."""

    op: Literal["label"]
    question: str = Field(min_length=1)
    value: Any


class Edit(_Event):
    """Give top-level keys of the record's line new values; null removes the key."""

    op: Literal["edit"]
    changes: dict[str, Any] = Field(min_length=1)


class Add(_Event):
    """Add a record with this line."""

    op: Literal["add"]
    record: dict[str, Any]


class Resolve(_Event):
    """Settle a label question, whatever the annotators answered; null leaves it to their answers again."""

    op: Literal["resolve"]
    question: str = Field(min_length=1)
    value: Any


class Undo(_Event):
    """Take back what another event did to the record; taking back an undo does it again."""

    op: Literal["undo"]
    of: str = Field(pattern=_HEX)
    """The event that is taken back."""


Event = Annotated[
    Drop | Restore | Assign | Label | Edit | Add | Resolve | Undo,
    Field(discriminator="op"),
]
AnyEvent = Drop | Restore | Assign | Label | Edit | Add | Resolve | Undo

EVENTS: TypeAdapter[AnyEvent] = TypeAdapter(Event)


@dataclass(frozen=True, slots=True)
class Decision:
    """What someone wants done with a record, before it is numbered and written."""

    op: Literal["drop", "restore", "assign", "label", "edit", "add", "resolve", "undo"]
    id: str
    parents: Sequence[str] = ()
    fields: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Damage:
    """A line of a segment that is not whole: 1-based line, its first byte in the file, its length in bytes."""

    file: Path
    line: int
    offset: int
    num_bytes: int
    is_tail: bool

    def __str__(self) -> str:
        what = "the torn end of" if self.is_tail else "a damaged line in"
        return f"{self.file}:{self.line}: {what} a journal segment ({self.num_bytes} bytes) was set aside, not read"


def frame(event: AnyEvent) -> bytes:
    """Return the line of ``event``: checksum, blank, canonical JSON, newline."""
    payload = canonical(event.model_dump(mode="json"))
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def annotator() -> str:
    """Return who decides: the variable CURATE_ANNOTATOR, else the name of the user."""
    return os.environ.get("CURATE_ANNOTATOR") or getpass.getuser()


class Sitting:
    """One annotator's work in one go, in a segment of its own that is made with the first decision.

    Use as a context manager. A decision is saved when `append` returns.
    """

    def __init__(self, root: Path, by: str) -> None:
        self._folder = root / FOLDER / _folder_name(by)
        self._by = by
        self._session = uuid.uuid4().hex
        self._seq = 0
        self._segment: Segment | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._segment is not None:
            self._segment.close()

    def append(self, decisions: Sequence[Decision]) -> list[AnyEvent]:
        """Number and save ``decisions`` together, as one act, and return them as events.

        Of several on one record, each comes after the one before it.

        Raises:
            CurateError: E906 when they could be saved neither in this segment nor in a fresh one.
        """
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        act = uuid.uuid4().hex
        numbers = [uuid.uuid4().hex for _ in decisions]
        last: dict[str, str] = {}
        parents = []
        for number, decision in zip(numbers, decisions, strict=True):
            parents.append([last[decision.id]] if decision.id in last else list(decision.parents))
            last[decision.id] = number
        events = [
            EVENTS.validate_python(
                {
                    "v": 1,
                    "event": numbers[place],
                    "act": act,
                    "at": at,
                    "by": self._by,
                    "session": self._session,
                    "seq": self._seq + place + 1,
                    "op": decision.op,
                    "id": decision.id,
                    "parents": parents[place],
                    **decision.fields,
                }
            )
            for place, decision in enumerate(decisions)
        ]
        if not events:
            return events
        frames = b"".join(frame(event) for event in events)
        try:
            self._open().append(frames)
        except CurateError:
            # A file whose sync has failed is not to be trusted again; a new one may still work. Events that reach the
            # disk twice count once, by their number.
            self._segment = None
            self._open().append(frames)
        self._seq += len(events)
        return events

    def _open(self) -> Segment:
        if self._segment is None:
            name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{uuid.uuid4().hex[:12]}.log"
            self._segment = Segment(self._folder / name)
        return self._segment


def read_journal(root: Path) -> tuple[list[AnyEvent], list[Damage]]:
    """Return the events of all segments, each once, and the lines that are not whole.

    The order of the events is that of file names and lines; it means nothing, see `curate.workspace`.

    Raises:
        CurateError: E913 when a whole line is not an event that this version knows.
    """
    events: dict[str, AnyEvent] = {}
    damages: list[Damage] = []
    for path in sorted((root / FOLDER).glob("*/*.log")):
        for event in read_frames(path.read_bytes(), path, damages):
            events.setdefault(event.event, event)
    return list(events.values()), damages


def read_frames(whole: bytes, path: Path, damages: list[Damage] | None = None) -> Iterator[AnyEvent]:
    """Yield the events in ``whole``, the bytes of the segment ``path`` or the last part of them.

    Raises:
        CurateError: E913 when a whole line is not an event that this version knows.
    """
    lines = whole.split(b"\n")
    offset = 0
    for number, line in enumerate(lines, start=1):
        is_last = number == len(lines)
        found = _FRAME.fullmatch(line)
        if found and not is_last and b"%08x" % zlib.crc32(found[2]) == found[1]:
            try:
                yield EVENTS.validate_json(found[2])
            except ValidationError as error:
                raise CurateError(
                    "E913 unknown-event",
                    f"{path}:{number}: {error.errors()[0]['msg']}",
                    "It was written whole, so a newer version of pairsmith has probably made it. Upgrade to read it.",
                ) from error
        elif damages is not None and (line or not is_last):
            is_tail = not any(lines[number:])
            damages.append(Damage(path, number, offset, len(line), is_tail))
        offset += len(line) + 1


def _folder_name(by: str) -> str:
    """Return a folder name for an annotator that is safe everywhere, and different for different names."""
    plain = re.sub(r"[^a-z0-9._-]", "", by.lower()).strip(".-")[:40]
    return plain if plain == by else f"{plain or 'annotator'}-{zlib.crc32(by.encode()):08x}"
