"""A file gone through line by line, some of its lines changed, and put back in one step."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import open_file
from curate.base.record import CurateError, Finding
from curate.base.storage import write_atomic
from curate.jsonl.faults import JsonFault
from curate.jsonl.opening import open_regular
from curate.jsonl.reader import Entry, RawLine, Reader

_BOM = b"\xef\xbb\xbf"
_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ending:
    """What stands around a line in its file: a byte order mark before it, and the bytes that end it."""

    mark: bytes
    newline: bytes


@dataclass(frozen=True, slots=True)
class LineChange:
    """One line that is not to stay as it is, with all its bytes; ``after`` is empty for a line that is to go.

    ``about`` says why, in words of whoever changes it.
    """

    line: int
    before: bytes
    after: bytes
    about: tuple[str, ...] = ()


Replacement = tuple[bytes, tuple[str, ...]]
ReplaceLine = Callable[[Entry | Finding, bytes, Ending], Replacement | None]
"""Gives a line its new bytes and says why, or None to leave it.

It gets the entry, or the finding of a line that is none, the bytes of the line without mark and newline, and these.
"""


class Rewrite:
    """Goes through a file; iterating yields the changes in order, and `write` makes them.

    Memory is bounded by the longest line that is allowed. Lines that are too long to be read, and files that are not
    lines of text, stay byte for byte. ``faults`` gets every finding that is not about a single line, and those of lines
    that are too long; ``num_lines`` counts the lines seen.
    """

    def __init__(self, path: Path, replace: ReplaceLine, *, root: Path | None = None, name: str | None = None) -> None:
        self.path = path
        self.root = root
        self.name = name
        self.faults: list[Finding] = []
        self.num_lines = 0
        self._replace = replace

    @cached_property
    def is_ascii(self) -> bool:
        """Whether the file holds no byte beyond ASCII, as files do whose writer escapes all other characters.

        Raises:
            OSError: the file is gone.
        """
        with open_file(self.path, self.root) as file:
            return all(block.isascii() for block in iter(lambda: file.read(_BLOCK), b""))

    def __iter__(self) -> Iterator[LineChange]:
        """Yield what would change.

        Raises:
            CurateError: E904 when the file is missing or may not be read.
        """
        return (piece for piece in self._pieces() if isinstance(piece, LineChange))

    def write(self, target: Path | None = None, on_change: Callable[[LineChange], None] = lambda _: None) -> bool:
        """Make the changes, in the file or in the new file ``target``; return whether anything was written.

        A file in which nothing changes is not touched; ``target`` is always written. ``on_change`` is told each change.
        The permissions of the file are kept.

        Raises:
            CurateError: E904 when the file is missing or may not be read; E959 when it is a link, or somebody wrote to
                it meanwhile; E906 and E919 when writing fails. The file is then as it was.
        """
        if target is None and self.path.is_symlink():
            message = f"{one_line(str(self.path))} is a link, and what it leads to is not replaced"
            raise CurateError("E959 not-rewritten", message, "Name the file itself.")
        before = self.path.stat()
        pieces = self._pieces()
        same: list[tuple[int, int]] = []
        first = None
        for piece in pieces:
            if isinstance(piece, LineChange):
                first = piece
                break
            same.append(piece)
        if first is None and target is None:
            return False

        def chunks() -> Iterator[bytes]:
            with open_file(self.path, self.root) as source:
                for piece in chain(_joined(same), [] if first is None else [first], pieces):
                    if isinstance(piece, LineChange):
                        on_change(piece)
                        yield piece.after
                    else:
                        yield from _copied(source.fileno(), *piece)
            # The last look before the new file takes the name: what somebody has appended must not be lost.
            now = self.path.stat()
            if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
                message = f"{one_line(str(self.path))} was changed by somebody while it was being rewritten"
                raise CurateError("E959 not-rewritten", message, "Their change is untouched. Run the command again.")

        mode = stat.S_IMODE(before.st_mode)
        write_atomic(target or self.path, chunks(), is_new=target is not None, mode=mode)
        return True

    def _pieces(self) -> Iterator[LineChange | tuple[int, int]]:
        """Yield the file in order: changed lines, and spans of bytes that stay."""
        self.faults, self.num_lines = [], 0
        try:
            handle = open_regular(self.path, self.root)
        except JsonFault:
            lines = Reader(self.path, name=self.name, root=self.root).lines()
            self.faults += [item for item in lines if isinstance(item, Finding)]
            return
        try:
            size = os.fstat(handle).st_size
        finally:
            os.close(handle)
        reader = Reader(self.path, name=self.name, root=self.root)
        offset, num_crlf = 0, 0
        for item in reader.lines():
            if isinstance(item, Finding):
                if item.code != "S118":
                    self.faults.append(item)
                continue
            self.num_lines += 1
            number, start, raw, is_ended = item
            newline = b"\r\n" if reader.num_crlf > num_crlf else b"\n" if is_ended else b""
            num_crlf = reader.num_crlf
            mark = _BOM if number == 1 and start == len(_BOM) else b""
            begin, end = start - len(mark), start + len(raw) + len(newline)
            change = self._changed(reader, item, Ending(mark, newline))
            if change is not None:
                if begin > offset:
                    yield offset, begin
                yield change
                offset = end
            elif end - offset >= _BLOCK:
                yield offset, end
                offset = end
        if size > offset:
            yield offset, size

    def _changed(self, reader: Reader, line: RawLine, ending: Ending) -> LineChange | None:
        number, _, raw, _ = line
        replacement = self._replace(reader.entry(line), raw, ending)
        if replacement is None:
            return None
        before = ending.mark + raw + ending.newline
        return LineChange(number, before, replacement[0], replacement[1]) if replacement[0] != before else None


def _joined(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    if spans:
        yield spans[0][0], spans[-1][1]


def _copied(handle: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = os.pread(handle, min(_BLOCK, end - start), start)
        if not block:
            return
        yield block
        start += len(block)
