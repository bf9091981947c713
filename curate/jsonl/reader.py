"""Lines of a file as strict JSON objects, one after the other, with a finding in place of each line that is not one.

Only regular files inside the project are opened, whose first bytes are no archive, pointer or web page. A file that is
missing or may not be read is a `CurateError` E904.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from curate.base.console import one_line, spelled
from curate.base.file_guard import FileGuardError, open_descriptor
from curate.base.record import CurateError, Finding, Json, Line, Source, json_type
from curate.jsonl.disguise import BOM, refuse_disguise
from curate.jsonl.faults import JsonFault, fault_finding
from curate.jsonl.strict import strict_loads

# A longer line is no record but a file without line ends, and would fill the memory.
MAX_LINE = 16 * 1024 * 1024
_PIECE = 1024 * 1024
# Longer ones come from merges within merges; those of the last row are of Jujutsu.
_MARKER = re.compile(
    rb"(?:<{7,32}|\|{7,32}|>{7,32})(?: .*)?|={7,32}(?: .*)?|(?:%{7,32}|\+{7,32}|-{7,32}|\\{7,32}) .*", re.DOTALL
)
_DOCUMENT_STARTS = (b"[", b"{")
_TABLES = {".csv": "a CSV table", ".tsv": "a TSV table", ".tab": "a TSV table"}
_HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One good line and the object it holds."""

    line: Line
    value: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` to ``end`` of a file, cut at line ends; ``first_line`` is the 1-based number of the first."""

    start: int
    end: int
    first_line: int


# A line that has not been parsed yet: number, offset, bytes, and whether a newline ended it.
# A plain tuple, because ten million of them pass and a named one takes four times as long to make.
RawLine = tuple[int, int, bytes, bool]


@dataclass(frozen=True)
class RawBlock:
    """Neighbouring lines that have not been parsed yet.

    Every line ends in a newline but, unless ``is_ended``, the last one of a file.
    """

    number: int
    """Of the first line."""
    offset: int
    whole: bytes
    """The bytes of all, with their newlines."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.whole)

    @property
    def is_ended(self) -> bool:
        """Whether a newline ends the last line."""
        return self.whole.endswith(b"\n")

    @cached_property
    def num_lines(self) -> int:
        """Number of lines."""
        return self.whole.count(b"\n") + (not self.is_ended)

    @cached_property
    def is_plain(self) -> bool:
        """Whether each line begins with a brace and ends in a newline and no more."""
        is_short = self.is_ended and self.size <= MAX_LINE
        # Of the lines only their first bytes are looked at: to count what begins a line takes ten times as long.
        return is_short and b"\r" not in self.whole and all(line[:1] == b"{" for line in self.lines)

    @cached_property
    def lines(self) -> list[bytes]:
        """The lines without their newlines."""
        lines = self.whole.split(b"\n")
        if self.is_ended:
            lines.pop()
        return lines


class Reader:
    """Reads one file, or one span of it, line by line.

    After the iteration ``num_lines`` counts the lines, ``num_crlf`` those that end in CR LF, and ``first_crlf`` is the
    number of the first of those. Memory is bounded by the longest line that is allowed, not by the file.
    """

    def __init__(
        self, path: Path, *, name: str | None = None, span: Span | None = None, root: Path | None = None
    ) -> None:
        self.path = path
        self.name = spelled(str(path) if name is None else name)
        self.span = span
        self.root = root
        self.num_lines = 0
        self.num_crlf = 0
        self.first_crlf = 0

    def __iter__(self) -> Iterator[Entry | Finding]:
        """Yield one entry or finding a line, in order."""
        for item in self.lines():
            yield item if isinstance(item, Finding) else self.entry(item)

    def lines(self) -> Iterator[RawLine | Finding]:
        """Yield the lines before they are parsed, and findings about the file and about lines that cannot be."""
        for item in self.blocks():
            if isinstance(item, RawBlock):
                yield from self.lines_in(item)
            else:
                yield item

    def blocks(self) -> Iterator[RawBlock | Finding]:
        """Yield the lines many at once, and findings about the file and about lines that are too long."""
        try:
            handle = open_regular(self.path, self.root)
        except JsonFault as fault:
            yield self._finding(fault, 0)
            return
        try:
            if self.span is None or self.span.start == 0:
                try:
                    refuse_disguise(os.pread(handle, _HEAD_BYTES, 0))
                except JsonFault as fault:
                    self.num_lines = 1
                    yield self._finding(fault, 1)
                    return
            yield from self._blocks(handle)
        finally:
            os.close(handle)

    def _blocks(self, handle: int) -> Iterator[RawBlock | Finding]:
        number = first = self.span.first_line if self.span else 1
        for offset, chunk, is_ended in cut(partial(os.pread, handle), self.span):
            num_lines = 1
            if chunk is None:
                yield fault_finding("S116", f"longer than {MAX_LINE // 1024 // 1024} MiB", self.name, number, 1)
            elif number == 1 and (what := _other_form(self.path, chunk)):
                if chunk.startswith(BOM):
                    yield _bom_finding(self.name)
                yield self._not_lines(handle, what)
                return
            elif number == 1 and chunk == BOM and not is_ended:
                yield _bom_finding(self.name)
                break
            else:
                yield (block := RawBlock(number, offset, chunk))
                num_lines = block.num_lines
            number += num_lines
        self.num_lines = number - first
        if number == 1:
            yield fault_finding("S121", "the file holds no line", self.name)

    def lines_in(self, block: RawBlock) -> Iterator[RawLine | Finding]:
        """Yield the lines of a block one by one, and findings about those that cannot be parsed."""
        number, start, is_ended, is_plain = block.number, block.offset, block.is_ended, block.is_plain
        for raw in block.lines:
            offset, text = start, raw
            if not is_plain:
                if len(raw) > MAX_LINE:
                    yield fault_finding("S116", f"longer than {MAX_LINE // 1024 // 1024} MiB", self.name, number, 1)
                    start, number = start + len(raw) + 1, number + 1
                    continue
                if is_ended and raw[-1:] == b"\r":
                    text = raw[:-1]
                    self.num_crlf += 1
                    self.first_crlf = self.first_crlf or number
                # Only the first line can have a byte order mark.
                if number == 1 and raw.startswith(BOM):
                    yield _bom_finding(self.name)
                    offset, text = offset + len(BOM), text[len(BOM) :]
            yield number, offset, text, is_ended
            start, number = start + len(raw) + 1, number + 1

    def entry(self, line: RawLine) -> Entry | Finding:
        """Parse a line: the entry it holds, or what is wrong with it."""
        number, offset, raw, _ = line
        value = self.value(line)
        return value if isinstance(value, Finding) else Entry(Line(Source(self.name, number), raw, offset), value)

    def value(self, line: RawLine) -> dict[str, Json] | Finding:
        """Parse a line: the object it holds, or what is wrong with it."""
        number, _, raw, is_ended = line
        try:
            # A healthy line begins with a brace, and only the others need to be looked at before parsing.
            if not raw.startswith(b"{"):
                if not raw.strip():
                    return fault_finding("S120", "a blank line", self.name, number, 1, fix="Remove it.")
                if _MARKER.fullmatch(raw):
                    message, fix = "a merge conflict was left in the file", "Resolve it and remove the marker lines."
                    return fault_finding("S113", message, self.name, number, 1, fix=fix)
            value = strict_loads(raw)
            if type(value) is dict:
                return value
            _refuse_type(raw, value)
        except JsonFault as fault:
            return self._finding(_nul_fault(raw, is_ended) or fault, number)

    def _not_lines(self, handle: int, what: str) -> Finding:
        """Return the one finding of a file that is something else: ``what``, with a place for its number of lines."""
        size = os.fstat(handle).st_size
        self.num_lines = _count_newlines(handle, 0, size) + (size > 0 and os.pread(handle, 1, size - 1) != b"\n")
        fix = "Make a workspace from it with `curate init DIR FILE`, or add it to one with `curate import`."
        message = f"{what.format(f'{self.num_lines:,}')}, not JSON Lines; none of them was read as a record"
        return fault_finding("S124", message, self.name, 1, 1, fix=fix)

    def _finding(self, fault: JsonFault, line: int) -> Finding:
        return fault_finding(fault.code, fault.message, self.name, line, fault.column, fix=fault.fix)


def read_entries(path: Path, *, name: str | None = None, root: Path | None = None) -> Iterator[Entry | Finding]:
    """Yield the entries and findings of a file in order, at the end one finding about CR LF line ends if there are any.

    ``name`` is the file as findings call it. A link is followed only inside ``root``.
    """
    reader = Reader(path, name=name, root=root)
    yield from reader
    if reader.num_crlf:
        yield crlf_finding(reader.name, reader.first_crlf, reader.num_crlf)


def crlf_finding(file: str, first_line: int, num_lines: int) -> Finding:
    """Return the one finding that a file with CR LF line ends gets."""
    plural = "line ends" if num_lines == 1 else "lines end"
    return fault_finding(
        "S119", f"{num_lines:,} {plural} in CR LF", file, first_line, fix="Save the file with LF line ends."
    )


def spans(path: Path, size: int, *, root: Path | None = None, is_counted: bool = True) -> list[Span]:
    """Cut a file at line ends into spans of about ``size`` bytes and count their lines.

    Without ``is_counted`` every first line is 1: a reader of the spans in turn can count along.

    Raises:
        JsonFault: it is not a regular file, or not lines at all, so that there is nothing to be shared out.
    """
    handle = open_regular(path, root)
    try:
        refuse_disguise(os.pread(handle, _HEAD_BYTES, 0))
        _, first, _ = next(cut(partial(os.pread, handle)), (0, b"", True))
        if first and _other_form(path, first):
            raise JsonFault("S124", "one document over many lines", 1)
        length = os.fstat(handle).st_size
        # A rest that is smaller than half a span belongs to the last one.
        cuts = {_next_line(handle, start, length) for start in range(size, length - size // 2, size)}
        parts, line = [], 1
        for start, end in pairwise(sorted({0, length} | cuts)):
            parts.append(Span(start, end, line))
            line += _count_newlines(handle, start, end) if is_counted and end < length else 0
        return parts
    finally:
        os.close(handle)


def _other_form(path: Path, chunk: bytes) -> str:
    """Return what a file is that is no lines of objects by its first one, with a place for its number of lines."""
    line = chunk[: chunk.find(b"\n") + 1 or len(chunk)].removeprefix(BOM).rstrip(b"\r\n")
    if len(line) > MAX_LINE:
        return ""
    if table := _table_as(path, line):
        return f"{table} of {{}} lines"
    return "one JSON document over {} lines" if _is_document(line) else ""


def _bom_finding(file: str) -> Finding:
    return fault_finding("S118", "a byte order mark", file, 1, 1, fix="Save the file without it.")


def cut(read: Callable[[int, int], bytes], span: Span | None = None) -> Iterator[tuple[int, bytes | None, bool]]:
    """Yield (offset, some whole lines or None for one that is too long, whether a newline ended the last of them).

    ``read(num, offset)`` returns the bytes from some offset on, at most ``num`` of them; it is asked in order.
    """
    offset = read_offset = span.start if span else 0
    end = span.end if span else None
    rest, is_too_long = b"", False
    while end is None or read_offset < end:
        block = read(_PIECE if end is None else min(_PIECE, end - read_offset), read_offset)
        if not block:
            break
        read_offset += len(block)
        if is_too_long:
            if (first := block.find(b"\n") + 1) == 0:
                continue
            yield offset, None, True
            offset, block, is_too_long = read_offset - len(block) + first, block[first:], False
        rest += block
        if size := rest.rfind(b"\n") + 1:
            yield offset, rest[:size], True
            offset, rest = offset + size, rest[size:]
        if len(rest) > MAX_LINE:
            rest, is_too_long = b"", True
    # The last line may have no end.
    if rest or is_too_long:
        yield offset, None if is_too_long else rest, False


def _next_line(handle: int, offset: int, size: int) -> int:
    """Return the first start of a line at or after ``offset``."""
    if offset == 0:
        return 0
    # A cut that falls on the start of a line stays there, so that the newline before it is looked at too.
    offset -= 1
    while offset < size:
        block = os.pread(handle, _PIECE, offset)
        newline = block.find(b"\n")
        if newline >= 0:
            return offset + newline + 1
        offset += len(block)
    return size


def _count_newlines(handle: int, start: int, end: int) -> int:
    count = 0
    while start < end:
        block = os.pread(handle, min(_PIECE, end - start), start)
        if not block:
            break
        count += block.count(b"\n")
        start += len(block)
    return count


def _nul_fault(raw: bytes, is_ended: bool) -> JsonFault | None:
    """Return the better name for the fault of a line that ends in NUL bytes: no JSON text does."""
    whole = raw.rstrip(b"\x00")
    if len(whole) == len(raw) or (is_ended and whole):
        return None
    return JsonFault(
        "S122",
        f"{len(raw) - len(whole):,} NUL bytes, as a power cut leaves them",
        len(whole) + 1,
        "Cut the NUL bytes off; the lines before are whole.",
    )


def _refuse_type(raw: bytes, value: Json) -> NoReturn:
    is_rows = isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    fix = "Convert the JSON array with `curate import`." if is_rows else "Make each line one JSON object."
    raise JsonFault(
        "S112", f"a {json_type(value).replace('array', 'list')}, not an object", len(raw) - len(raw.lstrip()) + 1, fix
    )


def _table_as(path: Path, first: bytes) -> str:
    """Return what table the file is by its suffix, "" where it is no table or its first line could be a record."""
    return _TABLES.get(path.suffix.lower(), "") if first.strip() and not first.lstrip().startswith(b"{") else ""


def _is_document(raw: bytes) -> bool:
    """Whether the first line opens a document that goes on over the next lines."""
    text = raw.strip()
    if not text.endswith(_DOCUMENT_STARTS) and not text.startswith(b"["):
        return False
    try:
        strict_loads(raw)
    except JsonFault as fault:
        return fault.code == "S111"
    return False


def open_regular(path: Path, root: Path | None = None) -> int:
    """Open ``path`` for reading and return its descriptor.

    A link is followed only when it stays inside ``root`` (by default the file's own folder).

    Raises:
        JsonFault: S127, it is not a regular file of the project.
    """
    try:
        return open_descriptor(path, root)
    except FileGuardError as error:
        raise JsonFault("S127", str(error), 0, error.hint) from error
    except FileNotFoundError as error:
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} does not exist") from error
    except OSError as error:
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} cannot be read: {error.strerror}") from error
