"""The lines around a finding, as they are shown: cut to what fits, with personal data and secrets hidden."""

from __future__ import annotations

import json
import os
from array import array
from dataclasses import dataclass
from pathlib import Path

from curate.base.file_guard import open_file
from curate.base.record import Finding, Json
from curate.checks.spans import with_values_hidden
from curate.jsonl import locate
from curate.project.fold import RecordState

_STEP = 1024  # Lines from one remembered offset to the next.
_BLOCK = 1 << 20
_MOST_BYTES = 16 * 1024 * 1024
_AROUND = 32 * 1024  # Characters on each side of a place in which values are looked for that must be hidden.


@dataclass(frozen=True, slots=True)
class ExcerptLine:
    """One line of an excerpt: its number in the file, and a piece of it; ``is_cut`` says whether more stands around."""

    line: int
    text: str
    is_cut: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines of a file around a finding. In the row of ``line`` the value begins at the character ``mark``, if known."""

    line: int
    rows: tuple[ExcerptLine, ...]
    mark: int | None
    column: int  # The 1-based byte column of the value in its line, 0 where it has none.
    is_decided: bool = False  # Whether the line is what decisions make of the record, and the file has another one.


class LineIndex:
    """Finds lines of a file by their number, after having gone through it once up to there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets = array("Q", [0])
        self._offset, self._number = 0, 0  # How far the file was gone through: bytes, and whole lines before them.
        self._stamp = _stamp(path)

    @property
    def is_current(self) -> bool:
        """Whether the file is the one that it was."""
        return self._stamp == _stamp(self._path)

    def read(self, first: int, last: int) -> dict[int, bytes]:
        """Return the lines ``first`` to ``last`` by number, without their ends, but for those that are too long."""
        try:
            with open_file(self._path) as file:
                self._go_to(file.fileno(), last)
                start = (max(first, 1) - 1) // _STEP
                if start >= len(self._offsets):
                    return {}
                file.seek(self._offsets[start])
                number, lines = start * _STEP + 1, {}
                while number <= last and (line := file.readline(_MOST_BYTES + 1)):
                    is_whole = len(line) <= _MOST_BYTES
                    while not line.endswith(b"\n") and (more := file.readline(_BLOCK)):
                        line = more
                    if number >= first and is_whole:
                        lines[number] = line.rstrip(b"\r\n")
                    number += 1
                return lines
        except OSError:
            # The file is gone or may not be read any more: then there is nothing to show, and validation says why.
            return {}

    def _go_to(self, handle: int, line: int) -> None:
        # By blocks, not by lines: a line may be longer than the memory.
        while self._number < line and (block := os.pread(handle, _BLOCK, self._offset)):
            num_ends = block.count(b"\n")
            wanted = _STEP - self._number % _STEP
            end = -1
            while wanted <= num_ends:
                for _ in range(wanted):
                    end = block.index(b"\n", end + 1)
                self._offsets.append(self._offset + end + 1)
                self._number += wanted
                num_ends -= wanted
                wanted = _STEP
            self._number += num_ends
            self._offset += len(block)


def excerpt(
    finding: Finding, lines: LineIndex, state: RecordState | None, *, before: int = 2, after: int = 1
) -> Excerpt:
    """Return what stands around ``finding``; ``state`` is its record, if it is one that decisions have changed.

    The column is that of the finding's pointer in the line as it is shown, found by reading the line.
    """
    line = finding.line
    raw_lines = lines.read(line - before, line + after) if line else {}
    is_decided = state is not None and not _says(raw_lines.get(line), state)
    if is_decided and state is not None:
        raw_lines[line] = json.dumps(dict(state.record.data), ensure_ascii=False).encode("utf-8", "surrogatepass")
    raw = raw_lines.get(line)
    column = _column(finding, raw, is_decided) if raw is not None else 0
    # Only the row of the finding needs its place; the lines around begin at their first column.
    rows, mark = [], None
    for number, content in sorted(raw_lines.items()):
        if number == line and column:
            row, mark = _around(content, column, number)
        else:
            row, _ = _around(content, 1, number)
        rows.append(row)
    return Excerpt(line, tuple(rows), mark, column, is_decided)


def _column(finding: Finding, raw: bytes, is_decided: bool) -> int:
    if finding.column and not is_decided:
        return finding.column
    try:
        return locate(raw, finding.pointer) if finding.record or finding.pointer else 0
    except ValueError:
        # A line that is not JSON has places by column only.
        return 0


def _says(raw: bytes | None, state: RecordState) -> bool:
    try:
        value: Json = json.loads(raw) if raw is not None else None
    except (ValueError, RecursionError):
        return False
    return bool(value == dict(state.record.data))


def _around(raw: bytes, column: int, number: int) -> tuple[ExcerptLine, int]:
    # Values are looked for in a wide piece, so that none is cut in two and shown.
    start = max(0, column - 1 - 4 * _AROUND)
    before = raw[start : column - 1].decode("utf-8", "replace")[-_AROUND:]
    after = raw[column - 1 : column - 1 + 4 * _AROUND].decode("utf-8", "replace")[:_AROUND]
    is_cut = (len(raw[: column - 1]) > len(before.encode()), len(raw[column - 1 :]) > len(after.encode()))
    return ExcerptLine(number, with_values_hidden(before + after), is_cut), len(before)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
