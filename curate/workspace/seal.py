"""The digest of a record file, with marks that tell where the file was changed since."""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

from curate.file_guard import open_file
from curate.workspace.kept import RecordFile

_MOST_MARKS = 4096
"""Up to so many lines each has a mark of its own."""


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

    Where lines were added or removed, all that follow have moved, and the span reaches to the end of the file.

    Raises:
        OSError: it cannot be read.
    """
    with open_file(path) as file:
        lines = array("L", (zlib.crc32(line) for line in file))
    now = list(_marks(lines, sealed.every))
    before = [sealed.marks[place : place + 8] for place in range(0, len(sealed.marks), 8)]
    most = max(len(now), len(before))
    differs = [place for place in range(most) if now[place : place + 1] != before[place : place + 1]]
    if not differs:
        return []
    if len(now) != len(before):
        return [(differs[0] * sealed.every + 1, max(len(lines), differs[0] * sealed.every + 1))]
    spans: list[tuple[int, int]] = []
    for place in differs:
        first, last = place * sealed.every + 1, min((place + 1) * sealed.every, len(lines))
        if spans and spans[-1][1] == first - 1:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return spans


def told_spans(spans: list[tuple[int, int]], most: int = 5) -> str:
    """Return spans of lines in words, the first of them."""
    shown = ", ".join(f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in spans[:most])
    return shown + (f" and {len(spans) - most:,} more" if len(spans) > most else "")


def _marks(lines: array[int], every: int) -> Iterator[str]:
    for start in range(0, len(lines), every):
        group = lines[start : start + every]
        mark = group[0] if every == 1 else zlib.crc32(b"".join(one.to_bytes(4, "big") for one in group))
        yield f"{mark:08x}"
