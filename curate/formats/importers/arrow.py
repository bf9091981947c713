"""Arrow (.arrow), as `datasets` keeps it: validated by pyarrow, once it is known that nothing in it is compressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from curate.base.record import missing_extra
from curate.formats.importers import Rejected, SourceRow, cannot_import, container, head_of
from curate.formats.importers.parquet import ALWAYS_ALLOWED, MAX_RATIO, size_of, too_large, typed_rows

if TYPE_CHECKING:
    from polars import DataFrame

_FILE, _STREAM = b"ARROW1", b"\xff\xff\xff\xff"
_MAX_METADATA = 64 * 1024 * 1024
_SLICE_ROWS = 4096
# The fields of a Message and of a RecordBatch (Message.fbs), by their places in a vtable; a batch is of header type 3.
_HEADER_TYPE, _HEADER, _BODY_LENGTH, _COMPRESSION, _BATCH = 1, 2, 3, 3, 3


def _fits(path: Path, head: bytes) -> bool:
    return head.startswith(_FILE) or (path.suffix.lower() == ".arrow" and not path.is_dir())


def _notices(path: Path) -> Sequence[str]:
    is_part = (path.parent / "dataset_info.json").is_file()
    return ["it is a part of a folder of `datasets`, which may name the classes of its labels"] if is_part else []


@container("arrow", fits=_fits, priority=1, notices=_notices, unpacks=("Arrow",))
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Arrow (.arrow), files and streams that are not compressed: the line number of a row is its number in the file."""
    yield from typed_rows(_frames(path))


def _frames(path: Path) -> Iterator[DataFrame]:
    """Yield the rows in slices.

    Raises:
        CurateError: E908 when the file cannot be read, is compressed, or holds too much.
    """
    try:
        import pyarrow
        from pyarrow import ipc
    except ImportError as error:
        raise missing_extra(f"{path}: reading Arrow", "hub", otherwise="save it as Parquet") from error
    import polars

    allowed, held = max(ALWAYS_ALLOWED, MAX_RATIO * path.stat().st_size), 0
    try:
        with path.open("rb") as handle:
            # In a file the messages of a stream stand between a mark and a footer.
            start = 8 if head_of(path).startswith(_FILE) else 0
            handle.seek(start)
            # A compressed buffer says itself how much room it wants, which may be any.
            if any(_compressed(handle, path.stat().st_size)):
                hint = "Save it as Parquet, or without compression."
                raise cannot_import(f"{path}: its buffers are compressed, which is not read", hint)
            handle.seek(start)
            for batch in ipc.open_stream(handle):
                # polars takes what it is given for sound, and damage there can end the whole process.
                batch.validate(full=True)
                frame = polars.DataFrame(pyarrow.Table.from_batches([batch]))
                for part in frame.iter_slices(_SLICE_ROWS):
                    # A dictionary lets few bytes stand for many rows.
                    held += size_of(part)
                    if held > allowed:
                        raise too_large(path, allowed)
                    yield part
    except (
        pyarrow.ArrowException,
        polars.exceptions.PolarsError,
        OSError,
        ValueError,
        TypeError,
        IndexError,
        struct.error,
    ) as error:
        reason = next(iter(str(error).splitlines()), "it is damaged")
        raise cannot_import(f"{path}: it cannot be read as Arrow: {reason}", "Fetch or save it again.") from error


def _compressed(handle: BinaryIO, size: int) -> Iterator[bool]:
    """Yield of each batch of rows whether its buffers are compressed.

    Raises:
        ValueError, IndexError: it is not well-formed.
        struct.error: it ends too early.
    """
    while len(start := handle.read(8)) == 8:
        mark, length = struct.unpack("<4sI", start)
        if mark != _STREAM:
            raise ValueError("it does not consist of messages of Arrow")
        if length == 0:
            return
        if length > _MAX_METADATA:
            raise ValueError(f"a message would take {length:,} bytes")
        data = handle.read(length)
        message = struct.unpack_from("<I", data)[0]
        kind, header = _field(data, message, _HEADER_TYPE), _field(data, message, _HEADER)
        if kind and header and data[kind] == _BATCH:
            batch = header + struct.unpack_from("<I", data, header)[0]
            yield bool(_field(data, batch, _COMPRESSION))
        body = _field(data, message, _BODY_LENGTH)
        num_bytes = struct.unpack_from("<q", data, body)[0] if body else 0
        if not 0 <= num_bytes <= size:
            raise ValueError("a part of it is missing")
        handle.seek(num_bytes, 1)


def _field(data: bytes, table: int, number: int) -> int:
    """Return where a field of a table of FlatBuffers stands, 0 where the table has none."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0 or struct.unpack_from("<H", data, vtable)[0] < 6 + 2 * number:
        return 0
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0
