"""The footer of a Parquet file: how many rows and bytes each row group unpacks to, known before any of it is unpacked.

polars does not show these numbers. The footer is a FileMetaData of parquet.thrift in Thrift's compact protocol; of it
only the sizes are read, and all else is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FOOTER = 64 * 1024 * 1024
_MAX_DEPTH = 32
_TAIL = 8
"""The length of the footer in four bytes, and the mark PAR1."""
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_FILE_NUM_ROWS, _ROW_GROUPS, _TOTAL_BYTE_SIZE, _NUM_ROWS = 3, 4, 2, 3


@dataclass(frozen=True, slots=True)
class RowGroup:
    """How many rows a row group has, and how many bytes its pages unpack to before dictionaries are resolved."""

    num_rows: int
    num_bytes: int


class _Thrift:
    """A cursor over the compact protocol. Whatever is not well-formed is a ValueError or an IndexError."""

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


def read_row_groups(path: Path) -> list[RowGroup]:
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
        if length > min(size - _TAIL, MAX_FOOTER):
            raise ValueError(f"its footer would take {length:,} bytes")
        handle.seek(size - _TAIL - length)
        footer = handle.read(length)
    try:
        return _row_groups(_Thrift(footer))
    except (IndexError, ValueError) as error:
        raise ValueError(f"its footer is damaged: {error}") from error


def _row_groups(thrift: _Thrift) -> list[RowGroup]:
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


def _row_group(thrift: _Thrift) -> RowGroup:
    sizes = {_TOTAL_BYTE_SIZE: 0, _NUM_ROWS: 0}
    for field, kind in thrift.fields():
        if field in sizes and kind in _INTEGERS:
            sizes[field] = thrift.integer()
        else:
            thrift.skip(kind)
    if min(sizes.values()) < 0:
        raise ValueError("a size is negative")
    return RowGroup(sizes[_NUM_ROWS], sizes[_TOTAL_BYTE_SIZE])
