"""Where the segments lie that `curate fold` has taken up, with their digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.file_guard import MOST_DOCUMENT, open_file, read_file
from curate.journal import FOLDER, AnyEvent, read_frames, read_segment
from curate.store import move_file, remove_file, write_atomic
from curate.workspace.kept import FoldedFile

RETIRED = "retired"
SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)")


def retired_segments(root: Path) -> list[Path]:
    """Return the retired segments of ``root``, those of the first fold first."""
    found = (root / FOLDER / RETIRED).glob("*/*/*.log")
    return sorted(found, key=lambda path: (path.parts[-3].zfill(9), path))


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
    found = {path.parts[-3] for path in retired_segments(root)}
    return sorted(int(name) for name in found if name.isdecimal())


def retire(root: Path, number: int, segments: Sequence[FoldedFile]) -> None:
    """Move the segments of a fold out of the journal, those that are still there and as the fold has read them.

    Raises:
        CurateError: E906 when the system refuses.
    """
    folder = root / FOLDER / RETIRED / str(number)
    waiting = [one for one in segments if digest_of(root / FOLDER / one.path) == one.sha256]
    if waiting and not (folder / SUMS).exists():
        write_atomic(folder / SUMS, [f"{one.sha256}  {one.path}\n".encode() for one in segments])
    for one in waiting:
        path, target = root / FOLDER / one.path, folder / one.path
        if digest_of(target) == one.sha256:
            # A merge has brought it back.
            remove_file(path)
            continue
        move_file(path, target)
        if digest_of(target) != one.sha256:
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
        found = _SUM.fullmatch(line)
        yield (found[1], found[2]) if found else ("", line)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, "" where there is none."""
    if path.is_symlink() or not path.is_file():
        return ""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
