"""The journal looked at byte by byte: every line, every session's numbers, and that nothing is missing."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.base.events import EVENTS, AnyEvent, UndoEvent
from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.git import GitError, ask_git
from curate.base.record import CurateError, is_text_digest
from curate.base.storage import is_segment_open
from curate.project.journal import (
    FOLDER,
    SegmentPiece,
    foreign_segment,
    is_of_journal,
    journal_number,
    pieces,
    read_segment,
    segments,
)

# What a person has taken note of that it is gone.
MISSING = f"{FOLDER}/missing.json"
_RECOVER = "`curate fsck --recover` {}."


class Missing(BaseModel):
    """Decisions that are gone and that a person knows of: spans of numbers by session, and events that others name."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    v: Annotated[int, Field(ge=1, le=1)] = 1
    sessions: dict[str, list[tuple[int, int]]] = Field(default_factory=dict)
    events: list[str] = Field(default_factory=list)


@dataclass(slots=True)
class JournalContents:
    """The events of all segments with their places, and what is missing among them."""

    locations: dict[str, tuple[Path, int, int]] = field(default_factory=dict)
    events: dict[str, AnyEvent] = field(default_factory=dict)
    numbers: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """By session, the event of each number."""
    gaps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By session, the first and last number of what is missing."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Events that are named and not there, by the event that names them."""


def check_journal(report: Report) -> JournalContents:
    """Look at all segments."""
    contents = JournalContents()
    for path in segments(report.root):
        _check_segment(report, path, contents)
    report.count("decision", len(contents.events))
    known = read_missing(report)
    _find_gaps(report, contents, known)
    _find_unknown(report, contents, known)
    _find_deleted(report)
    return contents


def read_missing(report: Report) -> Missing:
    """Return what a person has taken note of."""
    path = report.root / MISSING
    try:
        return Missing.model_validate_json(read_file(path, report.root / FOLDER, most=MOST_DOCUMENT))
    except FileNotFoundError:
        return Missing()
    except (OSError, ValidationError):
        report.add(
            "bad-note",
            path,
            "the file was changed after it was written",
            "Remove it, and take note again with --recover.",
        )
        return Missing()


def _check_segment(report: Report, path: Path, contents: JournalContents) -> None:
    report.count("segment")
    try:
        content = read_segment(path, report.root)
        is_open = content is not None and is_segment_open(path)
    except CurateError as error:
        report.add("unreadable", path, error.message.partition(": ")[2] or error.message, error.hint)
        return
    except OSError:
        is_open = False
    if not content and content is not None and not is_open:
        fix = "Nothing was saved in it when it was made; it may be removed."
        report.add("empty-segment", path, "it holds nothing", fix, is_damage=False)
    parts = list(pieces(content or b""))
    _tell_damage(report, path, parts)
    last: dict[str, int] = {}
    events = [(piece, event) for piece in parts if (event := _event_in(report, path, piece)) is not None]
    number = journal_number(report.root)
    if any(not is_of_journal(event.session, number) for _, event in events):
        refusal = foreign_segment(path)
        report.add("foreign-segment", path, "these decisions were made in another workspace", refusal.hint)
        return
    for piece, event in events:
        _take(report, path, piece, event, contents, last)


def _tell_damage(report: Report, path: Path, parts: list[SegmentPiece]) -> None:
    for piece in parts:
        size = f"{len(piece.raw):,} bytes"
        if piece.is_torn:
            message = f"the end of the segment is torn: {size} of a line that was not saved whole"
            fix = _RECOVER.format(f"moves them to {path.name}.torn")
            report.add("torn-end", path, message, fix, line=piece.line, offset=piece.offset)
        elif piece.payload is None:
            message = f"{size} cannot be read as a decision: a wrong checksum or line end"
            fix = _RECOVER.format(f"moves them to {path.name}.damaged")
            report.add("damaged-line", path, message, fix, line=piece.line, offset=piece.offset)
    crlf = [piece for piece in parts if piece.payload is not None and piece.raw.endswith(b"\r\n")]
    if crlf:
        message = f"{len(crlf):,} lines were given CR LF line ends; they were read all the same"
        fix = f'Put "{FOLDER}/** -text" into .gitattributes. ' + _RECOVER.format("gives them back their own")
        report.add("crlf-line-ends", path, message, fix, line=crlf[0].line, offset=crlf[0].offset)


def _event_in(report: Report, path: Path, piece: SegmentPiece) -> AnyEvent | None:
    if piece.payload is None:
        return None
    try:
        return EVENTS.validate_json(piece.payload)
    except ValidationError as error:
        message = f"this version cannot read this decision: {error.errors()[0]['msg']}"
        fix = "A newer version of pairsmith has probably made it: upgrade."
        report.add("unknown-event", path, message, fix, line=piece.line, offset=piece.offset)
    return None


def _take(
    report: Report, path: Path, piece: SegmentPiece, event: AnyEvent, contents: JournalContents, last: dict[str, int]
) -> None:
    line, offset = piece.line, piece.offset
    other = contents.locations.get(event.event)
    if other is not None and contents.events[event.event] != event:
        message = f"another version of this decision stands in {other[0].name}:{other[1]}"
        fix = "Find out which one is right, and remove the other one."
        report.add("two-versions", path, message, fix, line=line, offset=offset)
    elif other is not None and other[0] == path:
        message = "a decision stands here twice; it counts once"
        report.add("repeated", path, message, "", line=line, offset=offset, is_damage=False)
    elif other is None:
        owner = contents.numbers[event.session].setdefault(event.seq, event.event)
        if owner != event.event:
            message = f"two decisions of one session have the number {event.seq}"
            fix = "Compare the journal with another copy of it."
            report.add("repeated-number", path, message, fix, line=line, offset=offset)
        if last.get(event.session, 0) > event.seq:
            message = f"decision {event.seq} stands behind {last[event.session]}; their numbers decide, not their order"
            report.add("out-of-order", path, message, "", line=line, offset=offset, is_damage=False)
        last[event.session] = event.seq
        contents.locations[event.event] = (path, line, offset)
        contents.events[event.event] = event


def _find_gaps(report: Report, contents: JournalContents, known: Missing) -> None:
    for session, numbers in contents.numbers.items():
        noted = known.sessions.get(session, ())
        gaps = [(before + 1, after - 1) for before, after in pairwise([0, *sorted(numbers)]) if after > before + 1]
        contents.gaps[session] = gaps
        for first, last in gaps:
            if any(start <= first and last <= end for start, end in noted):
                continue
            path, line, offset = contents.locations[numbers[last + 1]]
            what = f"decision {first}" if first == last else f"decisions {first} to {last}"
            by = contents.events[next(iter(numbers.values()))].by
            report.add(
                "gap",
                path,
                f"{what} of this session of {by} are missing before this line",
                "Get them from another copy of the workspace. " + _RECOVER.format("takes note that they are gone"),
                line=line,
                offset=offset,
            )


def _find_unknown(report: Report, contents: JournalContents, known: Missing) -> None:
    noted = frozenset(known.events)
    for event in contents.events.values():
        named = [*event.parents, *([event.of] if isinstance(event, UndoEvent) else [])]
        for name in named:
            if name in contents.events or is_text_digest(name):
                continue
            contents.unknown[name] = event.event
            if name not in noted:
                path, line, offset = contents.locations[event.event]
                message = f"the decision on {event.id} follows a decision that is missing"
                fix = "Get the missing segment from the annotator who made it. " + _RECOVER.format(
                    "takes note that it is gone"
                )
                report.add("missing-decision", path, message, fix, line=line, offset=offset)


def _find_deleted(report: Report) -> None:
    """Find segments that git knows and that are not there."""
    root = report.root.resolve()
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return
    try:
        listed = os.fsdecode(ask_git(root, ["ls-files", "-d", "-z", "--", FOLDER]))
    except GitError:
        return
    for name in filter(None, listed.split("\0")):
        if name.endswith(".log"):
            fix = f"Restore it with `git restore {name}`."
            report.add("deleted-segment", report.root / name, "git knows this segment, and it is not there", fix)


def noted(contents: JournalContents, before: Missing) -> Missing:
    """Return the note of all that is missing now, and of what was noted before."""
    sessions: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for session, spans in [*before.sessions.items(), *contents.gaps.items()]:
        sessions[session].update(spans)
    known = {session: sorted(spans) for session, spans in sorted(sessions.items()) if spans}
    return Missing(sessions=known, events=sorted({*before.events, *contents.unknown}))


@dataclass(frozen=True, slots=True)
class WorkspaceFault:
    """Something that is not as it was written.

    ``is_damage`` is False for what takes nothing away from anybody, such as the remains of a write that was cut off.
    ``line`` is 1-based, ``offset`` counts bytes from the start of the file; they are 0 and None where a fault has none.
    """

    name: str
    is_damage: bool
    file: str
    message: str
    fix: str
    line: int = 0
    offset: int | None = None


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong with it."""

    root: Path
    faults: list[WorkspaceFault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Things that were looked at, by what one of them is called."""

    def add(
        self,
        name: str,
        path: Path,
        message: str,
        fix: str,
        *,
        line: int = 0,
        offset: int | None = None,
        is_damage: bool = True,
    ) -> None:
        """Add a fault of the file ``path``."""
        file = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        self.faults.append(WorkspaceFault(name, is_damage, str(file), message, fix, line, offset))

    def count(self, what: str, number: int = 1) -> None:
        """Note that so many things more were looked at."""
        self.counts[what] = self.counts.get(what, 0) + number

    @property
    def damage(self) -> list[WorkspaceFault]:
        """The faults by which something is lost, or cannot be told from what is lost."""
        return [fault for fault in self.faults if fault.is_damage]
