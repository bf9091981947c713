"""What people decided, one line each, appended and never changed: the truth from which a workspace is made.

A line is ``crc32 (8 hex digits), blank, JSON, newline``; the checksum covers the JSON's bytes. Each annotator and
session has its own segment, ``journal/<annotator>/<time>-<session>.log``, so that nobody appends to a file that git or
a colleague knows. A damaged line, such as the torn tail a power cut leaves, is reported and stays where it is until a
person runs `curate doctor --recover`; every whole line counts. The last line of a segment that somebody has open is not
torn but being written.
"""

from __future__ import annotations

import getpass
import os
import re
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Literal, Self

from pydantic import ValidationError

from curate.base.console import one_line
from curate.base.events import EVENTS, Decision, Event, SourceEdit
from curate.base.file_guard import MOST_SEGMENT, MOST_STATE, hint_of, inside, read_file
from curate.base.record import CurateError, canonical
from curate.base.storage import Segment, is_segment_open, write_atomic

FOLDER = "journal"
NUMBER = f"{FOLDER}/number"
# Hex digits of the number of a session before those that are made for the journal.
_CHECK = 24
# The question whose agreed answer is the record's category.
CATEGORY = "category"
# Questions that nobody is asked: a mark that a record needs a second look, and words about it. Each is kept like an
# answer, one to an annotator, and none is compared with another's.
ASIDES = frozenset({"flag", "note"})

_FRAME = re.compile(rb"([0-9a-f]{8}) (.*)", re.DOTALL)
_START = re.compile(rb'[0-9a-f]{8} \{"')
_TICK_BITS = 12
_LAST_MOMENT = (1 << 60) - 1


@dataclass(frozen=True, slots=True)
class Damage:
    """A line of a segment that is not read as it stands: 1-based line, its first byte in the file, length in bytes.

    "torn" is an end without a newline, "damaged" any other bytes that are no event; "crlf" stands for all lines of a
    segment that was converted, which are read all the same.
    """

    file: Path
    line: int
    offset: int
    num_bytes: int
    kind: Literal["torn", "damaged", "crlf"]

    def __str__(self) -> str:
        location = f"{self.file}:{self.line}"
        if self.kind == "crlf":
            return f"{location}: a journal segment was given CR LF line ends; it was read, see `curate doctor`"
        what = "the torn end of" if self.kind == "torn" else "a damaged line in"
        size = f"{self.num_bytes} bytes at {self.offset}"
        return f"{location}: {what} a journal segment ({size}) is not read, see `curate doctor`"


@dataclass(frozen=True, slots=True)
class SegmentPiece:
    """Bytes of a segment: a line with the JSON in it, or what is no line, whose ``payload`` is None.

    ``offset`` is its first byte; ``raw`` has all its bytes, so that the pieces of a segment make up the segment.
    """

    line: int
    offset: int
    raw: bytes
    payload: bytes | None
    is_torn: bool = False
    """Whether it is the end of a segment whose last line was not written to its end."""


def frame(event: Event) -> bytes:
    """Return the line of ``event``: checksum, blank, canonical JSON, newline."""
    payload = canonical(event.line())
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def annotator(name: str = "") -> str:
    """Return who decides: ``name``, else the variable CURATE_ANNOTATOR, else the name of the user.

    Raises:
        CurateError: E902 when none is known, as in a container whose user has no name, or when it is no text.
    """
    try:
        by = name or os.environ.get("CURATE_ANNOTATOR") or getpass.getuser()
        by.encode()
    except (KeyError, OSError) as error:
        raise CurateError("E902 bad-settings", "no name of an annotator is known", "Set CURATE_ANNOTATOR.") from error
    except UnicodeEncodeError as error:
        # So it is where the environment holds bytes that are no UTF-8.
        message = f"the annotator's name {by!r} is not UTF-8"
        raise CurateError("E902 bad-settings", message, "Set CURATE_ANNOTATOR.") from error
    return by


class JournalWriter:
    """One annotator's work in one go, in a segment of its own that is made with the first decision.

    Use as a context manager. A decision is saved when `append` returns.
    """

    def __init__(self, root: Path, by: str, earlier: Iterable[Event] = ()) -> None:
        """Write for ``by``, whose decisions are saved as later ones than those of theirs among ``earlier``."""
        self._folder = root / FOLDER / _folder_name(by)
        self._by, self._last_moment = by, 0
        self.note(earlier)
        self._journal = journal_number(root)
        self._session = new_session(self._journal)
        # What the same person decides in another process has another session.
        self.sessions = {self._session}
        self.is_unsaved = False  # Whether the last decisions could not be saved.
        self._seq = 0
        self._segment: Segment | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._segment is not None:
            self._segment.close()

    def note(self, events: Iterable[Event]) -> None:
        """Save what comes next as later than those of ``events`` that the same annotator made, whatever the clock."""
        self._last_moment = max([self._last_moment, *(moment_of(event) for event in events if event.by == self._by)])

    def append(self, decisions: Sequence[Decision], act: str = "") -> list[Event]:
        """Number and save ``decisions`` together, as one act, and return them as events.

        Of several on one record, each comes after the one before it. They go on with ``act``, if one is named.

        Raises:
            CurateError: E906 when they could be saved neither in this segment nor in a fresh one.
        """
        # Seconds are enough, because nothing is ordered by a clock.
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        # A clock that was put back makes no act earlier than those that its maker has seen.
        self._last_moment = min(max((time.time_ns() << _TICK_BITS) // 10**6, self._last_moment + 1), _LAST_MOMENT)
        act = act or _act_at(self._last_moment)
        if not self._seq and decisions and isinstance(decisions[0], SourceEdit):
            self._session = new_session(self._journal, decisions[0].session)
            self.sessions.add(self._session)
        last: dict[str, str] = {}
        events: list[Event] = []
        for decision in decisions:
            number, before = uuid.uuid4().hex, last.get(decision.id)
            last[decision.id] = number
            parents = decision.parents if before is None else (before,)
            dated = replace(decision, parents=parents, at=decision.at or at)
            events.append(Event(number, self._by, self._session, self._seq + len(events) + 1, act, dated))
        if not events:
            return events
        frames = b"".join(map(frame, events))
        # What could not be read again is not written.
        events = list(read_frames(frames, self._folder, []))
        try:
            self._save(frames)
        except CurateError:
            # What could not be saved may still turn up after a power cut. No other event shall have the same place.
            self._session, self._seq, self.is_unsaved = new_session(self._journal), 0, True
            self.sessions.add(self._session)
            raise
        self.is_unsaved = False
        self._seq += len(events)
        return events

    def _save(self, frames: bytes) -> None:
        if self._segment is not None:
            # A file whose sync has failed is not to be trusted again; a new one may still work. Events that reach the
            # disk twice count once, by their number.
            with suppress(CurateError):
                self._segment.append(frames)
                return
            self._segment = None
        name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{uuid.uuid4().hex[:12]}.log"
        segment = Segment(self._folder / name)
        segment.append(frames)
        self._segment = segment


def _act_at(moment: int) -> str:
    # As a UUID of version 7, which begins with the time.
    ticks = f"{moment:015x}"
    return f"{ticks[:12]}7{ticks[12:]}{uuid.uuid4().hex[16:]}"


def moment_of(event: Event) -> int:
    """Return when ``event`` was saved, in 4,096ths of a millisecond since 1970."""
    return int(event.act[:12] + event.act[13:16], 16)


def begin_journal(root: Path) -> None:
    """Give the journal of the new workspace ``root`` a number of its own, by which its segments are known.

    Raises:
        CurateError: E906 when it cannot be written.
    """
    write_atomic(root / NUMBER, [f"{uuid.uuid4().hex}\n".encode()], is_new=True)


def journal_number(root: Path) -> str:
    """Return the number of the journal of ``root``, "" where it has none: then every segment is taken for its own."""
    try:
        return read_file(root / NUMBER, root / FOLDER, most=MOST_STATE).decode("ascii", "replace").strip()
    except OSError:
        return ""


def new_session(journal: str, prefix: str = "") -> str:
    """Return the number of a new session, 32 hex digits, that begins with ``prefix``; its end is made for a journal."""
    number = uuid.uuid4().hex
    return _with_check(f"{prefix}{number[len(prefix) :]}", journal)


def is_of_journal(session: str, journal: str) -> bool:
    """Whether a session was made in the journal of this number; in one without a number all are."""
    return not journal or _with_check(session, journal) == session


def _with_check(session: str, journal: str) -> str:
    if not journal:
        return session
    head = session[:_CHECK]
    return head + blake2b(f"{journal}{head}".encode(), digest_size=4).hexdigest()


def segments(root: Path) -> list[Path]:
    """Return the segments of the journal of ``root``, sorted.

    Raises:
        CurateError: E914 when the journal leads out of ``root``; E980 when it is no folder or one of it may not be
            read: a glob would take that for an empty one.
    """
    folder = inside(root, root / FOLDER)
    if not folder.exists():
        return []
    try:
        folders = [annotator for annotator in folder.iterdir() if annotator.is_dir()]
        return sorted(path for annotator in folders for path in annotator.iterdir() if path.suffix == ".log")
    except OSError as error:
        raise _unreadable(Path(error.filename or folder), error) from error


@dataclass(slots=True)
class _SegmentProgress:
    """How far a segment was read: what tells it from another in its place, its size then, the bytes of whole lines."""

    inode: int
    size: int = -1
    start: int = 0
    damages: list[Damage] = field(default_factory=list)
    fault: CurateError | None = None


class JournalReader:
    """Reads each line of every segment once; one without its newline is being written and waits for the next look."""

    def __init__(self, root: Path) -> None:
        self._root, self._journal = root, journal_number(root)
        self.events: list[Event] = []
        """All that were read, each once, in the order in which they were made or read."""
        self._numbers: set[str] = set()
        self._progress: dict[Path, _SegmentProgress] = {}
        self._faults: list[CurateError] = []

    def take(self, events: Iterable[Event]) -> list[Event]:
        """Add those of ``events`` that are new, such as what was just written here, and return them."""
        new = []
        for event in events:
            if event.event not in self._numbers:
                self._numbers.add(event.event)
                new.append(event)
        self.events += new
        return new

    def read(self) -> list[Event]:
        """Return the events that anybody has appended since the last call, by the time at which they were saved.

        A segment that cannot be read, or not on, keeps no other from being read, see `new_faults`.
        """
        events: list[Event] = []
        for path in segments(self._root):
            try:
                now = path.stat()
            except FileNotFoundError:
                continue
            progress = self._progress.get(path)
            # Another inode, or fewer bytes than before, is another file: it is read from its start.
            if progress is None or progress.inode != now.st_ino or progress.size > now.st_size:
                progress = self._progress[path] = _SegmentProgress(now.st_ino)
            # Most looks find nothing new; then a look costs one stat a segment.
            if progress.size == now.st_size:
                continue
            progress.size, progress.fault = now.st_size, None
            try:
                self._read_on(path, progress, events)
            except CurateError as fault:
                progress.fault = fault
                self._faults.append(fault)
        return self.take(sorted(events, key=lambda event: (moment_of(event), event.session, event.seq)))

    def new_faults(self) -> list[CurateError]:
        """Return what is wrong with segments and was not returned yet: E980, and E913 for a line that is no event."""
        faults, self._faults = self._faults, []
        return faults

    def unknown(self) -> CurateError | None:
        """Return E913 where a whole line cannot be read: what is decided without it could contradict it."""
        faults = (progress.fault for progress in self._progress.values())
        return next((fault for fault in faults if fault and fault.number == "E913"), None)

    def is_whole(self) -> bool:
        """Whether every segment that was read is still there."""
        # Another thread may be reading on.
        return all(path.exists() for path in list(self._progress))

    @property
    def damages(self) -> list[Damage]:
        """The lines that are not read as they stand."""
        return [damage for progress in self._progress.values() for damage in progress.damages]

    def remarks(self) -> list[str]:
        """Return what a person should know of segments: lines that are not read, and files that cannot be."""
        faults = [progress.fault.message for progress in self._progress.values() if progress.fault]
        return [*map(str, self.damages), *faults]

    def _read_on(self, path: Path, progress: _SegmentProgress, events: list[Event]) -> None:
        whole = read_segment(path, self._root) or b""
        damages: list[Damage] = []
        fresh = list(read_frames(whole[progress.start :], path, damages))
        if any(not is_of_journal(session, self._journal) for session in {event.session for event in fresh}):
            raise foreign_segment(path)
        events.extend(fresh)
        num_lines = whole.count(b"\n", 0, progress.start) if damages else 0
        progress.damages = [damage for damage in progress.damages if damage.kind != "torn"]
        progress.damages += [
            replace(damage, line=damage.line + num_lines, offset=damage.offset + progress.start) for damage in damages
        ]
        progress.start = max(progress.start, whole.rfind(b"\n") + 1)


def foreign_segment(path: Path) -> CurateError:
    """Return the refusal of a segment that was copied in from another workspace."""
    message = f"{one_line(str(path), 500)}: these decisions were made in another workspace"
    hint = f"None of them is taken. Move it out: mv {quote(str(path))} /tmp"
    return CurateError("E980 bad-segment", message, hint)


def read_journal(root: Path) -> tuple[list[Event], list[Damage]]:
    """Return the events of all segments, each once, and the lines that are not as they were written.

    The order of the events, by their clocks, means nothing, see `curate.project.data`.

    Raises:
        CurateError: E913 when a whole line is not what any version writes; E914 and E980 as `segments`, and E980 when a
            segment cannot be read.
    """
    reader = JournalReader(root)
    reader.read()
    for fault in reader.new_faults():
        raise fault
    return reader.events, reader.damages


def read_segment(path: Path, root: Path) -> bytes | None:
    """Return the bytes of a segment, less an unfinished last line where somebody is writing it; None if it is gone.

    Raises:
        CurateError: E980 when it cannot be read, or is no regular file of the journal of ``root``.
    """
    journal = root / FOLDER
    try:
        whole = read_file(path, journal, most=MOST_SEGMENT)
        if whole and not whole.endswith(b"\n"):
            # Asked after reading: if nobody holds it now, who wrote the half line has since finished it, or died.
            if is_segment_open(path):
                return whole[: whole.rfind(b"\n") + 1]
            whole = read_file(path, journal, most=MOST_SEGMENT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return whole


def _unreadable(path: Path, error: OSError) -> CurateError:
    what = hint_of(error, "Ask its owner for the right to read it, or fix the path.")
    hint = f"Decisions would be missing without it. {what}"
    return CurateError("E980 bad-segment", f"{one_line(str(path), 500)}: {error.strerror or error}", hint)


def pieces(whole: bytes) -> Iterator[SegmentPiece]:
    """Take the bytes of a segment apart into lines, and bytes that are no line."""
    offset = 0
    for number, line in enumerate(whole.split(b"\n"), start=1):
        is_last = offset + len(line) == len(whole)
        raw = line if is_last else line + b"\n"
        payload = None if is_last else _payload(line) or (_payload(line[:-1]) if line.endswith(b"\r") else None)
        if payload is not None or is_last:
            if raw:
                yield SegmentPiece(number, offset, raw, payload, is_torn=is_last)
        else:
            yield from _salvaged(number, offset, raw)
        offset += len(raw)


def _salvaged(number: int, offset: int, raw: bytes) -> Iterator[SegmentPiece]:
    """Yield the whole lines in a damaged one: where a newline was damaged, it holds two of them."""
    # A line begins with what never stands within one, because a quote in a text is escaped.
    bad = 0
    for start, end in pairwise(sorted({0, *(match.start() for match in _START.finditer(raw)), len(raw)})):
        # The last byte stands where the newline was.
        payload = _payload(raw[start : end - 1])
        if payload is None:
            continue
        if bad < start:
            yield SegmentPiece(number, offset + bad, raw[bad:start], None)
        stop = end if end == len(raw) else end - 1
        yield SegmentPiece(number, offset + start, raw[start:stop], payload)
        bad = stop
    if bad < len(raw):
        yield SegmentPiece(number, offset + bad, raw[bad:], None)


def _payload(line: bytes) -> bytes | None:
    match = _FRAME.fullmatch(line)
    return match[2] if match and b"%08x" % zlib.crc32(match[2]) == match[1] else None


def read_frames(whole: bytes, path: Path, damages: list[Damage]) -> Iterator[Event]:
    """Yield the events in ``whole``, the bytes of the segment ``path`` or the last part of them.

    What is no line is added to ``damages``.

    Raises:
        CurateError: E913 for a whole line that is no event: without it others would mean something else.
    """
    crlf: SegmentPiece | None = None
    for piece in pieces(whole):
        if piece.payload is not None:
            crlf = crlf or (piece if piece.raw.endswith(b"\r\n") else None)
            yield _event(piece.payload, f"{path}:{piece.line}")
        else:
            length = len(piece.raw.removesuffix(b"\n"))
            damages.append(Damage(path, piece.line, piece.offset, length, "torn" if piece.is_torn else "damaged"))
    if crlf:
        damages.append(Damage(path, crlf.line, 0, len(whole), "crlf"))


def _event(payload: bytes, location: str) -> Event:
    try:
        return EVENTS.validate_json(payload)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        message = f"{location}: {where + ': ' if where else ''}{fault['msg']}"
        hint = "It was written whole, probably by a newer version of pairsmith. Upgrade to read it."
        raise CurateError("E913 unknown-event", message, hint) from error


def _folder_name(by: str) -> str:
    """Return a folder name for an annotator that is safe everywhere, and different for different names."""
    plain = re.sub(r"[^a-z0-9._-]", "", by.lower()).strip(".-")[:40]
    return plain if plain == by else f"{plain or 'annotator'}-{zlib.crc32(by.encode()):08x}"
