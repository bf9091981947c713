"""Parquet, through polars, a slice at a time; a file that unpacks to far more than it holds is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.record import CurateError
from curate.formats.importers import Rejected, SourceRow, cannot_import, container, head_of, jsonable

if TYPE_CHECKING:
    from polars import DataFrame

# How many bytes of rows a byte of the file may hold. A long text repeated in all rows makes hundreds of it.
MAX_RATIO = 1000
# So many bytes of rows any file may hold, be it ever so small.
ALWAYS_ALLOWED = 64 * 1024 * 1024
# A slice has twice as many rows as the one before, up to a limit: what is far too large shows itself at once.
_FIRST_ROWS, _SLICE_ROWS = 256, 16_384
_BUFFER_BYTES = 16 * 1024 * 1024
_CUT = "The file may be cut off; fetch it again."
_MAX_FOOTER = 64 * 1024 * 1024
_MAX_DEPTH = 32
# The length of the footer in four bytes, and the mark PAR1.
_TAIL = 8
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_FILE_NUM_ROWS, _ROW_GROUPS, _TOTAL_BYTE_SIZE, _NUM_ROWS = 3, 4, 2, 3


def _fits(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".parquet" or head.startswith(b"PAR1")


@container("parquet", fits=_fits, priority=1, unpacks=("Parquet",))
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Parquet (.parquet): the line number of a row is its number in the file."""
    if not head_of(path).startswith(b"PAR1"):
        raise cannot_import(f"{path}: not a Parquet file", "A Parquet file begins with the bytes PAR1.")
    yield from typed_rows(_frames(path))


def typed_rows(frames: Iterable[DataFrame]) -> Iterator[SourceRow | Rejected]:
    """Yield the rows of ``frames`` as JSON, counted from 1, with few of them in memory at a time."""
    number = 0
    for frame in frames:
        per_row = size_of(frame) // max(1, len(frame))
        # The buffer holds Python objects: of long rows it may hold only few.
        for values in frame.iter_rows(named=True, buffer_size=max(1, min(512, _BUFFER_BYTES // max(1, per_row)))):
            number += 1
            yield jsonable(values, number)


def _frames(path: Path) -> Iterator[DataFrame]:
    """Yield the rows in slices, each of which is weighed before anything is made of it.

    Raises:
        CurateError: E908 when the file cannot be read or unpacks to too much.
    """
    # A dictionary lets few bytes stand for many rows: the footer then knows of few bytes, and only the slice shows how
    # long its texts are. polars shares such texts among the rows, so that the slice itself is small.
    # polars takes longer to import than most files take to read as JSON lines.
    import polars
    from polars.exceptions import PanicException, PolarsError

    allowed = max(ALWAYS_ALLOWED, MAX_RATIO * path.stat().st_size)
    try:
        groups = _read_row_groups(path)
    except (ValueError, OSError) as error:
        raise cannot_import(f"{path}: {error}", _CUT) from error
    if sum(group.num_bytes for group in groups) > allowed:
        raise too_large(path, allowed)
    unpacked = offset = end = 0
    size = _FIRST_ROWS
    for group in groups:
        end += group.num_rows
        while offset < end:
            size = min(size, end - offset)
            try:
                frame = polars.scan_parquet(path, glob=False).slice(offset, size).collect()
            # A panic is what the library calls some damage; it is no Exception.
            except (PolarsError, PanicException, OSError) as error:
                raise _unreadable(path, offset, offset + size, str(error)) from error
            if len(frame) != size:
                raise cannot_import(f"{path}: it holds fewer rows than its footer says", _CUT)
            unpacked += size_of(frame)
            if unpacked > allowed:
                raise too_large(path, allowed)
            yield frame
            offset += size
            size = min(2 * size, _SLICE_ROWS)


def size_of(frame: DataFrame) -> int:
    """Return how many bytes the values of a frame take where no two of them share a text."""
    import polars

    shared = frame.select(polars.col(polars.Categorical).cat.len_bytes().cast(polars.UInt64).sum())
    return int(frame.estimated_size()) + sum(size or 0 for size in (shared.row(0) if shared.width else ()))


def _unreadable(path: Path, begin: int, end: int, reason: str) -> CurateError:
    """Return the error for rows ``begin`` to ``end`` that cannot be read, with the columns that are to blame."""
    import polars
    from polars.exceptions import PanicException, PolarsError

    columns = []
    try:
        names = list(polars.scan_parquet(path, glob=False).collect_schema())
    except (PolarsError, PanicException, OSError):
        names = []
    # The library does not say which column it failed on, so that each is read alone.
    for name in names:
        try:
            polars.scan_parquet(path, glob=False).select(polars.col(name)).slice(begin, end - begin).collect()
        except (PolarsError, PanicException, OSError):
            columns.append(name)
    where = f", column {', '.join(map(repr, columns[:5]))}" if columns and len(columns) < len(names) else ""
    first = next(iter(reason.splitlines()), "it cannot be read").removeprefix("parquet: ")
    hint = "Write that column as UTF-8 text." if "UTF-8" in first else _CUT
    return cannot_import(f"{path}: rows {begin + 1:,} to {end:,}{where}: {first}", hint)


def too_large(path: Path, allowed: int) -> CurateError:
    """Return the error of a table that unpacks to more than is allowed."""
    return cannot_import(
        f"{path}: its {path.stat().st_size:,} bytes unpack to more than {allowed:,}",
        "A small file can hold one text in very many rows. If it is meant so, write it as JSON lines.",
    )


# The footer of a file says how many rows and bytes each row group unpacks to, before any of it is unpacked. polars does
# not show these numbers, so the footer, a FileMetaData of parquet.thrift in Thrift's compact protocol, is read here: of
# it only the sizes, and all else is skipped.


@dataclass(frozen=True, slots=True)
class _RowGroup:
    """How many rows a row group has, and how many bytes its pages unpack to before dictionaries are resolved."""

    num_rows: int
    num_bytes: int


class _Thrift:
    """A cursor over the compact protocol. What is not well-formed raises a ValueError or an IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield (id, type) of each field of a struct; the caller takes or skips its value before going on."""
        number = 0
        while kind := self._byte():
            delta = kind >> 4
            number = number + delta if delta else self.integer()
            yield number, kind & 0x0F

    def integer(self) -> int:
        """Take a zigzag integer."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def list_head(self) -> tuple[int, int]:
        """Take the head of a list: how many elements there are, and of which type."""
        head = self._byte()
        size = head >> 4
        return (self._varint() if size == 15 else size), head & 0x0F

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value."""
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deep")
        if kind in _INTEGERS:
            self._varint()
        elif kind == _BYTE:
            self._at += 1
        elif kind == _DOUBLE:
            self._at += 8
        elif kind == _BINARY:
            length = self._varint()
            self._at += length
        elif kind in (_LIST, _SET):
            size, inner = self.list_head()
            for _ in range(size):
                self._element(inner, depth)
        elif kind == _MAP:
            size = self._varint()
            kinds = self._byte() if size else 0
            for _ in range(size):
                self._element(kinds >> 4, depth)
                self._element(kinds & 0x0F, depth)
        elif kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"unknown type {kind}")

    def _element(self, kind: int, depth: int) -> None:
        # In a list a boolean takes a byte; in a struct it is told by the type of its field.
        self.skip(_BYTE if kind in (_TRUE, _FALSE) else kind, depth + 1)
        if self._at > len(self._data):
            raise IndexError("the footer ends too early")

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number is too long")

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value


def _read_row_groups(path: Path) -> list[_RowGroup]:
    """Return the row groups of a Parquet file.

    Raises:
        ValueError: the file has no footer that can be read, with the reason.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        handle.seek(max(0, size - _TAIL))
        tail = handle.read(_TAIL)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1":
            raise ValueError("it does not end with the bytes PAR1, so that a part of it is missing")
        if length > min(size - _TAIL, _MAX_FOOTER):
            raise ValueError(f"its footer would take {length:,} bytes")
        handle.seek(size - _TAIL - length)
        footer = handle.read(length)
    try:
        return _row_groups(_Thrift(footer))
    except (IndexError, ValueError) as error:
        raise ValueError(f"its footer is damaged: {error}") from error


def _row_groups(thrift: _Thrift) -> list[_RowGroup]:
    num_rows = 0
    groups = []
    for number, kind in thrift.fields():
        if number == _FILE_NUM_ROWS and kind in _INTEGERS:
            num_rows = thrift.integer()
        elif number == _ROW_GROUPS and kind == _LIST:
            size, inner = thrift.list_head()
            if size and inner != _STRUCT:
                raise ValueError("a row group is no struct")
            groups += [_row_group(thrift) for _ in range(size)]
        else:
            thrift.skip(kind)
    if sum(group.num_rows for group in groups) != num_rows:
        raise ValueError("the rows of its parts are not as many as those of the whole")
    return groups


def _row_group(thrift: _Thrift) -> _RowGroup:
    sizes = {_TOTAL_BYTE_SIZE: 0, _NUM_ROWS: 0}
    for field, kind in thrift.fields():
        if field in sizes and kind in _INTEGERS:
            sizes[field] = thrift.integer()
        else:
            thrift.skip(kind)
    if min(sizes.values()) < 0:
        raise ValueError("a size is negative")
    return _RowGroup(sizes[_NUM_ROWS], sizes[_TOTAL_BYTE_SIZE])
