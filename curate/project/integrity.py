"""Damage of a workspace: the journal byte by byte, and datasets and results against the digests that they keep."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from curate.base.events import EVENTS, Event
from curate.base.file_guard import MOST_DOCUMENT, MOST_SEGMENT, inside, read_file
from curate.base.git import GitError, ask_git
from curate.base.record import CurateError
from curate.base.storage import digest_of, is_segment_open, remove_file, write_atomic
from curate.formats.dataset import FILE_NAME as MANIFEST_FILE
from curate.formats.dataset import read_manifest
from curate.jsonl import JsonFault, strict_loads
from curate.project.claim import claimed
from curate.project.data import DATASETS, RUNS
from curate.project.feedback import changed_files
from curate.project.journal import (
    FOLDER,
    foreign_segment,
    is_of_journal,
    journal_number,
    pieces,
    read_segment,
    segments,
)

# What a person knows to be gone: a session with the first and last number of a gap, or an event; one a line.
MISSING = f"{FOLDER}/missing.txt"
_RESTORE = "Restore it from git or another copy."


class Fault(NamedTuple):
    """Something that is not as it was written.

    ``line`` is 1-based, ``offset`` counts bytes from the start of the file; 0 and None where a fault has none.
    ``missing`` names decisions that are gone as `MISSING` does.
    """

    name: str
    file: str
    message: str
    fix: str
    line: int = 0
    offset: int | None = None
    missing: str = ""


def check(root: Path) -> list[Fault]:
    """Return what is damaged or missing in the workspace ``root``; nothing is changed.

    Raises:
        CurateError: E914 when the journal, the datasets or the runs lead out of ``root``.
    """
    noted = _noted(root)
    journal = [fault for fault in check_journal(root) if fault.missing not in noted]
    return [*journal, *_check_datasets(root), *_check_runs(root)]


def recover(root: Path) -> list[str]:
    """Make the journal of ``root`` whole again and return what was done, a sentence each.

    The torn end of a segment goes to ``<segment>.torn``, damaged lines to ``<segment>.damaged``, and `MISSING` says
    which decisions are gone. Segments that somebody has open are left alone. Every step can be cut off and done again.

    Raises:
        CurateError: E981 while somebody else recovers it; E906 when the system refuses.
    """
    if not inside(root, root / FOLDER).is_dir():
        return []
    with claimed(root / FOLDER / ".recover.lock", "recovering the journal"):
        done = [step for path in segments(root) for step in _mend(root, path)]
        faults, noted = list(check_journal(root)), _noted(root)
        missing = noted.union(fault.missing for fault in faults if fault.missing)
        # What an unknown event says may be what seems to be missing.
        if missing != noted and all(fault.name != "unknown-event" for fault in faults):
            write_atomic(root / MISSING, ["".join(f"{name}\n" for name in sorted(missing)).encode()])
            done.append(f"took note in {MISSING} of what is missing")
    return done


def _noted(root: Path) -> frozenset[str]:
    try:
        return frozenset(read_file(root / MISSING, root / FOLDER, most=MOST_DOCUMENT).decode().splitlines())
    except (OSError, UnicodeDecodeError):
        # Without the note, all that is missing is told of again.
        return frozenset()


def _mend(root: Path, path: Path) -> Iterator[str]:
    """Set aside what is no decision in one segment."""
    try:
        content = read_segment(path, root) or b""
        # The torn end of a segment that somebody has open may be whole in a moment.
        if is_segment_open(path):
            return
    except (CurateError, OSError):
        return
    parts = list(pieces(content))
    whole = b"".join(
        piece.raw.removesuffix(b"\n").removesuffix(b"\r") + b"\n" for piece in parts if piece.payload is not None
    )
    if whole == content:
        return
    name = path.relative_to(root)
    for kind in ("torn", "damaged"):
        chosen = b"".join(piece.raw for piece in parts if piece.payload is None and piece.is_torn == (kind == "torn"))
        if chosen:
            aside = _free(path.with_name(f"{path.name}.{kind}"), chosen)
            write_atomic(aside, [chosen])
            yield f"moved {len(chosen):,} {kind} bytes of {name} to {aside.name}"
    if whole:
        write_atomic(path, [whole])
        yield f"wrote {name} anew, with its {whole.count(10):,} whole lines"
    else:
        remove_file(path)
        yield f"removed {name}, which held nothing else"


def _free(path: Path, content: bytes) -> Path:
    """Return ``path``, with a number if something else than ``content`` has this name already."""
    candidate, number = path, 1
    while candidate.exists() and read_file(candidate, most=MOST_SEGMENT) != content:
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def check_journal(root: Path) -> Iterator[Fault]:
    """Yield every fault of the segments of ``root``, and every decision that is missing.

    Raises:
        CurateError: E914 when the journal leads out of ``root``; E980 when it is no folder.
    """
    events: dict[str, tuple[Event, tuple[str, int, int]]] = {}
    for path in segments(root):
        name = str(path.relative_to(root))
        try:
            content = read_segment(path, root) or b""
        except CurateError as error:
            yield Fault("unreadable", name, error.message, error.hint)
            continue
        if any(not is_of_journal(event.session, journal_number(root)) for event, _ in _events_in(content)):
            refusal = foreign_segment(path)
            yield Fault("foreign-segment", name, "these decisions were made in another workspace", refusal.hint)
            continue
        yield from _check_lines(name, content)
        for event, (line, offset) in _events_in(content):
            other, at = events.setdefault(event.event, (event, (name, line, offset)))
            if other != event:
                message = f"another version of this decision stands in {at[0]}:{at[1]}"
                fix = "Find out which one is right, and remove the other one."
                yield Fault("two-versions", name, message, fix, line, offset)
    yield from _missing(events)
    yield from _deleted(root)


def _events_in(content: bytes) -> Iterator[tuple[Event, tuple[int, int]]]:
    """Yield the events of a segment that can be read, each with its line and offset."""
    for piece in pieces(content):
        if piece.payload is not None:
            try:
                yield EVENTS.validate_json(piece.payload), (piece.line, piece.offset)
            except ValidationError:
                continue


def _check_lines(name: str, content: bytes) -> Iterator[Fault]:
    has_crlf = False
    for piece in pieces(content):
        place, size = (piece.line, piece.offset), f"{len(piece.raw):,} bytes"
        if piece.payload is None:
            kind, aside = ("torn-end", "torn") if piece.is_torn else ("damaged-line", "damaged")
            what = "of a line that was not saved whole" if piece.is_torn else "that are no decision: a wrong checksum"
            fix = f"`curate doctor --recover` moves them to {name.rpartition('/')[2]}.{aside}."
            yield Fault(kind, name, f"{size} {what}", fix, *place)
            continue
        if piece.raw.endswith(b"\r\n") and not has_crlf:
            has_crlf = True
            fix = f'Put "{FOLDER}/** -text" into .gitattributes, and type `curate doctor --recover`.'
            yield Fault("crlf-line-ends", name, "lines were given CR LF line ends; they are read", fix, *place)
        try:
            EVENTS.validate_json(piece.payload)
        except ValidationError as error:
            message = f"this version cannot read this decision: {error.errors()[0]['msg']}"
            yield Fault("unknown-event", name, message, "A newer version has probably made it: upgrade.", *place)


def _missing(events: dict[str, tuple[Event, tuple[str, int, int]]]) -> Iterator[Fault]:
    """Yield the gaps in the numbers of each session, and the events that others name and that are not there."""
    fix = "Get it from another copy of the workspace. `curate doctor --recover` takes note that it is gone."
    sessions: dict[str, dict[int, str]] = defaultdict(dict)
    for name, (event, _) in events.items():
        sessions[event.session][event.seq] = name
    for session, numbers in sessions.items():
        for before, after in pairwise([0, *sorted(numbers)]):
            if after > before + 1:
                event, (file, line, offset) = events[numbers[after]]
                message = f"decisions {before + 1} to {after - 1} of this session of {event.by} are missing before it"
                yield Fault("gap", file, message, fix, line, offset, f"{session} {before + 1}-{after - 1}")
    for event, (file, line, offset) in events.values():
        for name in (*event.decision.parents, *([event.of] if event.of else [])):
            if name not in events:
                message = f"the decision on {event.id} follows a decision that is missing"
                yield Fault("missing-decision", file, message, fix, line, offset, name)


def _deleted(root: Path) -> Iterator[Fault]:
    """Yield the segments that git knows and that are not there."""
    top = root.resolve()
    if any((folder / ".git").exists() for folder in (top, *top.parents)):
        try:
            listed = os.fsdecode(ask_git(top, ["ls-files", "-d", "-z", "--", FOLDER]))
        except GitError:
            return
        for name in listed.split("\0"):
            if name.endswith(".log"):
                fix = f"Restore it with `git restore {name}`."
                yield Fault("deleted-segment", name, "git knows this segment, and it is not there", fix)


def _check_datasets(root: Path) -> Iterator[Fault]:
    """Hold each dataset against its manifest."""
    for folder in sorted(inside(root, root / DATASETS).glob("[!.]*/")):
        try:
            entries = read_manifest(folder).files.items()
        except CurateError as error:
            yield Fault("bad-manifest", str(folder.relative_to(root) / MANIFEST_FILE), error.message, _RESTORE)
            continue
        for name, entry in entries:
            if digest_of(folder / name) != entry.sha256:
                message = "not what the manifest says" if (folder / name).is_file() else "missing, or no regular file"
                yield Fault("changed-file", str(folder.relative_to(root) / name), message, _RESTORE)


def _check_runs(root: Path) -> Iterator[Fault]:
    """Hold the results of runs against their digests; the trainer does so with its checkpoints when it resumes."""
    runs = inside(root, root / RUNS)
    # Those of a series lie in its folder.
    for folder in [*sorted(runs.glob("*/")), *sorted(runs.glob("*/*/"))]:
        for name in ("run.json", "report.json", "eval.json"):
            path = folder / name
            try:
                if path.exists():
                    strict_loads(read_file(path, most=MOST_DOCUMENT))
            except (OSError, JsonFault) as error:
                fix = "Evaluate the run again with `train eval`."
                yield Fault("bad-report", str(path.relative_to(root)), str(error), fix)
        for path, fix in changed_files(folder):
            message = "it was changed after the run wrote it"
            yield Fault("changed-file", str(path.relative_to(root)), message, fix)
