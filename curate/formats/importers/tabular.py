"""CSV and TSV: strict, streaming, in UTF-8; a broken row costs that row only."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from curate.base.record import UNCATEGORISED
from curate.formats.importers import Rejected, SourceRow, cannot_import, container, encoding_hint, head_of
from curate.formats.importers._reading import split_of
from curate.formats.importers.mapping import KNOWN_COLUMNS, plain_name
from curate.formats.spreadsheet import COLUMNS, unguarded

# The largest cell, in characters.
MAX_CELL = 16 * 1024 * 1024
MAX_COLUMNS = 1000
# The longest name of a column, in characters; what is longer is a text.
_MAX_NAME = 200
_NAME = re.compile(r"[^\W\d][\w .\-/()]{0,63}")
# How pandas spells a column without a name, before and after it has read one.
_NAMELESS = re.compile(r"(?:Unnamed: \d+)?")

# The line in which Excel names the separator; it is no row of the table.
_SEPARATOR = re.compile(rb"(?:\xef\xbb\xbf)?\"?sep=([^\r\n])\"?\r?\n", re.IGNORECASE)

# A file with its separator and its quoting.
Table = tuple[Path, str, int]
# Reads the records from the first; None for one that is broken.
Records = Callable[[], Iterable[Sequence[str] | None]]


@dataclass(frozen=True, slots=True)
class TableHeader:
    """The names of the columns, None for one that is left out; ``is_named``: the first row of the file holds them."""

    names: tuple[str | None, ...]
    is_named: bool = False
    notices: tuple[str, ...] = ()


class _PhysicalLines:
    """The physical lines of a file as text, with the bytes of those that the CSV reader took since the last record."""

    # Bytes that are not UTF-8 become lone surrogates here, so that the reader goes on and the record is told
    # afterwards.

    def __init__(self, path: Path) -> None:
        self._handle = path.open("rb")
        self._waiting = [line.removeprefix(b"\xef\xbb\xbf") for line in islice(self._handle, 1)]
        self.taken: list[bytes] = []
        self.number = 0
        if self._waiting and _SEPARATOR.fullmatch(self._waiting[0]):
            self._waiting = []
            self.number = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._waiting.pop() if self._waiting else next(self._handle)
        self.number += 1
        self.taken.append(raw)
        return raw.decode("utf-8", "surrogateescape")

    def peek(self) -> bytes:
        """Return the next line, which stays to be read; b"" at the end of the file."""
        if not self._waiting:
            self._waiting = list(islice(self._handle, 1))
        return self._waiting[0] if self._waiting else b""

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def notices(path: Path) -> tuple[str, ...]:
    """Return what is to be said of the columns: those that are left out, and names that were given."""
    header = _header_of(_table(path))
    split = split_of(path.stem) if header.names == COLUMNS else ""
    return (*header.notices, f"split {split}, by the name of the file") if split else header.notices


def _layout(path: Path) -> str:
    table = _table(path)
    return f"separator {table[1]!r} and {'a' if _header_of(table).is_named else 'no'} header"


TABLES = (".csv", ".tsv", ".tab")


@container("table", fits=lambda path, _head: path.suffix.lower() in TABLES, notices=notices, layout=_layout)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """CSV and TSV with or without a header; every row has as many cells as the first."""
    table = _table(path)
    header = _header_of(table)
    is_first = header.is_named
    named = [name for name in header.names if name is not None]
    is_own = header.names == COLUMNS
    for line, cells, raw, fault in _records(table):
        if is_first:
            is_first = False
        elif fault:
            code = "S103" if "UTF-8" in fault else "S101"
            yield Rejected(line, code, _in_column(fault, cells, header), raw)
        elif len(cells) != len(header.names):
            yield Rejected(line, "S101", f"the row has {len(cells)} cells, the first has {len(header.names)}", raw)
        elif is_own:
            yield _own_row(path, cells, line, raw)
        else:
            # A million rows are read this way, and nearly all files name all their columns.
            pairs = zip(header.names, cells, strict=True)
            taken = cells if len(named) == len(cells) else [cell for name, cell in pairs if name is not None]
            yield SourceRow(dict(zip(named, taken, strict=True)), line, raw)


def _own_row(path: Path, cells: list[str], line: int, raw: bytes) -> SourceRow:
    """Return a row of a file that `curate export --to csv` wrote, without the marks that it put into the cells."""
    values = {name: unguarded(cell) for name, cell in zip(COLUMNS, cells, strict=True)}
    if values["category"] == UNCATEGORISED:
        values["category"] = ""
    needed = ("instruction", "output")
    return SourceRow({k: v for k, v in values.items() if v or k in needed}, line, raw, split_of(path.stem))


def _header_of(table: Table) -> TableHeader:
    """Return the header of a file, which is empty for a file without a record.

    Raises:
        CurateError: E908 when the first record cannot be read, so that nobody knows what the columns are.
    """
    path = table[0]
    for line, cells, _raw, fault in _records(table):
        if fault:
            raise cannot_import(
                f"{path}, line {line}: the first row cannot be read, so that its columns have no names: {fault}",
                encoding_hint(path) if "UTF-8" in fault or "NUL" in fault else "Correct that line of the file.",
            )
        return read_header(path, cells, lambda: (None if fault else row for _, row, _, fault in _records(table)))
    return TableHeader(())


def _in_column(fault: str, cells: list[str], header: TableHeader) -> str:
    """Return the fault with the name of the column whose cell holds a byte that is not UTF-8."""
    spoilt = [index for index, cell in enumerate(cells) if any("\udc80" <= character <= "\udcff" for character in cell)]
    if not spoilt or spoilt[0] >= len(header.names):
        return fault
    return f"{fault} (column {header.names[spoilt[0]] or spoilt[0] + 1!r})"


def _records(table: Table) -> Iterator[tuple[int, list[str], bytes, str]]:
    """Yield the first line, the cells, the bytes and the fault (or "") of each record; blank lines are passed over."""
    path, delimiter, quoting = table
    lines = _PhysicalLines(path)
    # The csv module has one limit for the whole process, so that it is put back when the file is read.
    old_limit = csv.field_size_limit(MAX_CELL)
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    width = 0
    try:
        while True:
            lines.taken.clear()
            begin, fault, cells = lines.number + 1, "", []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                _take_rest(lines, delimiter, width)
                fault = _fault_of(str(error), len(lines.taken))
            width = width or len(cells)
            raw = b"".join(lines.taken)
            if not raw.strip():
                continue
            yield begin, cells, raw.rstrip(b"\r\n"), _byte_fault(raw) or fault
    finally:
        lines.close()
        csv.field_size_limit(old_limit)


def _take_rest(lines: _PhysicalLines, delimiter: str, width: int) -> None:
    """Take the other lines of a row that broke in one of its cells, so that they are not read as rows of their own."""
    # Quotes come in pairs: while their number is odd, a cell is open, and the line with the next odd number closes it.
    # A line that is a whole row by itself is never taken.
    if b"".join(lines.taken).count(b'"') % 2 == 0:
        return
    while raw := lines.peek():
        is_closing = raw.count(b'"') % 2 == 1
        if not is_closing and _width_of(raw, delimiter) == width:
            return
        next(lines)
        if is_closing:
            return


def _width_of(raw: bytes, delimiter: str) -> int:
    try:
        return len(next(csv.reader([raw.decode("utf-8", "surrogateescape")], delimiter=delimiter, strict=True), []))
    except csv.Error:
        return 0


def _fault_of(error: str, num_lines: int) -> str:
    """Return what the CSV reader objects to, in words for people."""
    if "expected after" in error:
        return "not CSV: a quote inside a quoted cell is not doubled"
    if "unexpected end" in error:
        also = f"; the {num_lines:,} lines from here to the end of the file are in it" if num_lines > 1 else ""
        return f"not CSV: a quoted cell is never closed{also}"
    if "limit" in error:
        return f"a cell is longer than {MAX_CELL:,} characters"
    return f"not CSV: {error}"


def _byte_fault(raw: bytes) -> str:
    if b"\x00" in raw:
        return f"the row holds a NUL byte at position {raw.index(0) + 1:,}"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte 0x{raw[error.start]:02X} at position {error.start + 1} of the row is not UTF-8"
    return ""


def _table(path: Path) -> Table:
    """Return the file with its separator and its quoting: of a TSV, whichever quoting leaves fewer broken rows."""
    head = head_of(path)
    if named := _SEPARATOR.match(head):
        return path, named[1].decode("ascii", "replace"), csv.QUOTE_MINIMAL
    if path.suffix.lower() == ".csv":
        first = head.partition(b"\n")[0]
        delimiter = (
            ";" if b"," not in first and b";" in first else "\t" if b"," not in first and b"\t" in first else ","
        )
        return path, delimiter, csv.QUOTE_MINIMAL
    # Most TSV files do not quote, and a single quote in a text would swallow the lines after it.
    broken = {quoting: _count_broken((path, "\t", quoting)) for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)}
    return path, "\t", min(broken, key=lambda quoting: broken[quoting])


def _count_broken(table: Table) -> int:
    width, broken = 0, 0
    for _line, cells, _raw, fault in _records(table):
        width = width or len(cells)
        broken += bool(fault) or len(cells) != width
    return broken


def read_header(path: Path, first: Sequence[str], records: Records) -> TableHeader:
    """Return the header of a table whose ``first`` record is given; ``records`` reads it from its beginning.

    Raises:
        CurateError: E908 when two columns have the same name, or there are too many.
    """
    if len(first) > MAX_COLUMNS:
        message = f"{path}: {len(first):,} columns are more than {MAX_COLUMNS:,}"
        raise cannot_import(message, "Is the separator right? Else delete those that are not needed.")
    cells = [cell.strip() for cell in first]
    if not _is_header(cells, records):
        numbered = tuple(f"column_{number}" for number in range(1, len(cells) + 1))
        return TableHeader(
            numbered, notices=("the first line is read as a record; the columns are called column_1 and so on",)
        )
    begin = int(bool(_NAMELESS.fullmatch(cells[0])))
    is_numbered = _is_numbered(cells[begin:])
    if is_numbered:
        cells = [*cells[:begin], *(f"column_{number}" for number in range(1, len(cells) - begin + 1))]
    repeated = [name for name, count in Counter(name for name in cells if name).items() if count > 1]
    if repeated:
        raise cannot_import(
            f"{path}: {sum(name == repeated[0] for name in cells)} columns are called {repeated[0]!r}",
            "Give each column a name of its own in the first line of the file.",
        )
    notices = ["the columns have numbers for names; they are called column_1 and so on"] if is_numbered else []
    names: list[str | None] = list(cells)
    nameless = [index for index, name in enumerate(cells) if _NAMELESS.fullmatch(name)]
    counting, blank = _judge(nameless, records) if nameless else (set(), set())
    for index in nameless:
        if index in counting:
            names[index] = None
            notices.append(f"column {index + 1} has no name and counts the rows from 0, an index of pandas: left out")
        elif index in blank and not cells[index]:
            names[index] = None
            notices.append(f"column {index + 1} has no name and is empty: left out")
        elif not cells[index]:
            names[index] = f"column_{index + 1}"
            notices.append(f"column {index + 1} has no name: it is called column_{index + 1}")
    return TableHeader(tuple(names), True, tuple(notices))


def _is_header(cells: Sequence[str], records: Records) -> bool:
    # A header holds a known column name, or plain names throughout, or the numbers and the nameless index that pandas
    # writes; any other first row is a record.
    if any(len(cell) > _MAX_NAME or "\n" in cell for cell in cells) or not any(cells):
        return False
    if any(plain_name(cell) in KNOWN_COLUMNS for cell in cells):
        return True
    if all(_NAME.fullmatch(cell) for cell in cells):
        return len(set(cells)) == len(cells)
    begin = int(bool(_NAMELESS.fullmatch(cells[0])))
    rest = cells[begin:]
    if _is_numbered(rest):
        # A table of numbers alone can begin with 0, 1, 2 as well.
        return any(not cell.lstrip("-").isdecimal() for row in islice(records(), 1, 20) if row for cell in row[begin:])
    return begin == 1 and all(_NAME.fullmatch(cell) for cell in rest) and len(set(rest)) == len(rest)


def _is_numbered(cells: Sequence[str]) -> bool:
    return len(cells) > 1 and list(cells) == [str(number) for number in range(len(cells))]


def _judge(columns: Sequence[int], records: Records) -> tuple[set[int], set[int]]:
    """Return those of ``columns`` that count the rows from 0, and those whose cells are all empty."""
    counting, blank = set(columns), set(columns)
    for number, row in enumerate(islice(records(), 1, None)):
        for column in columns if row is not None else ():
            cell = row[column] if row and column < len(row) else ""
            if cell != str(number):
                counting.discard(column)
            if cell:
                blank.discard(column)
        if not counting and not blank:
            break
    return counting - blank, blank
