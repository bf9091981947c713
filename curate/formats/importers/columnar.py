"""Parquet and Arrow, a slice at a time; a file that unpacks to far more than it holds is refused.

Parquet is read by polars. Arrow, as `datasets` keeps it, is validated by pyarrow once it is known that nothing in it is
compressed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.base.record import CurateError, missing_extra
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
_FILE = b"ARROW1"
_ARROW_ROWS = 4096
# The fields of a Message, a DictionaryBatch and a RecordBatch (Message.fbs), by their places in a vtable.
_HEADER, _ROWS, _COMPRESSION = 2, 1, 3
# The same of a Footer (File.fbs), the bytes of a Block, and those behind the footer of a file.
_DICTIONARIES, _BATCHES, _BLOCK, _END = 2, 3, 24, 10


def _fits(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".parquet" or head.startswith(b"PAR1")


@container("parquet", fits=_fits, priority=1, unpacks=("Parquet",))
def parquet_rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Parquet (.parquet): the line number of a row is its number in the file."""
    if not head_of(path).startswith(b"PAR1"):
        raise cannot_import(f"{path}: not a Parquet file", "A Parquet file begins with the bytes PAR1.")
    yield from _typed_rows(path, _frames(path))


def _typed_rows(path: Path, frames: Iterable[DataFrame]) -> Iterator[SourceRow | Rejected]:
    """Yield the rows of ``frames`` as JSON, counted from 1, with few of them in memory at a time.

    Raises:
        CurateError: E908 when they take far more than the file at ``path`` holds.
    """
    allowed = max(ALWAYS_ALLOWED, MAX_RATIO * path.stat().st_size)
    number = unpacked = 0
    for frame in frames:
        # A dictionary lets few bytes stand for many rows; polars shares such texts among the rows, so that the slice
        # itself is small.
        unpacked += (size := _size_of(frame))
        if unpacked > allowed:
            raise cannot_import(
                f"{path}: its {path.stat().st_size:,} bytes unpack to more than {allowed:,}",
                "A small file can hold one text in very many rows. If it is meant so, write it as JSON lines.",
            )
        per_row = size // max(1, len(frame))
        # The buffer holds Python objects: of long rows it may hold only few.
        for values in frame.iter_rows(named=True, buffer_size=max(1, min(512, _BUFFER_BYTES // max(1, per_row)))):
            number += 1
            yield jsonable(values, number)


def _frames(path: Path) -> Iterator[DataFrame]:
    """Yield the rows in slices.

    Raises:
        CurateError: E908 when the file cannot be read.
    """
    # polars takes longer to import than most files take to read as JSON lines.
    import polars
    from polars.exceptions import PanicException, PolarsError

    with path.open("rb") as handle:
        handle.seek(-min(4, path.stat().st_size), os.SEEK_END)
        tail = handle.read()
    if tail != b"PAR1":
        raise cannot_import(f"{path}: it does not end with the bytes PAR1, so that a part of it is missing", _CUT)
    offset = end = 0
    size = _FIRST_ROWS
    while not offset or offset < end:
        try:
            # Without a column to read, a damaged footer is found out here.
            end = end or polars.scan_parquet(path, glob=False).select(polars.len()).collect().item()
            frame = polars.scan_parquet(path, glob=False).slice(offset, size).collect()
        # A panic is what the library calls some damage; it is no Exception.
        except (PolarsError, PanicException, OSError) as error:
            raise _unreadable(path, offset, min(end, offset + size), str(error)) from error
        if len(frame) != min(size, end - offset):
            raise cannot_import(f"{path}: it holds fewer rows than its footer says", _CUT)
        yield frame
        offset += size
        size = min(2 * size, _SLICE_ROWS)


def _size_of(frame: DataFrame) -> int:
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


def _fits_arrow(path: Path, head: bytes) -> bool:
    return head.startswith(_FILE) or (path.suffix.lower() == ".arrow" and not path.is_dir())


def _notices(path: Path) -> Sequence[str]:
    is_part = (path.parent / "dataset_info.json").is_file()
    return ["it is a part of a folder of `datasets`, which may name the classes of its labels"] if is_part else []


@container("arrow", fits=_fits_arrow, priority=1, notices=_notices, unpacks=("Arrow",))
def arrow_rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Arrow (.arrow), files and streams that are not compressed: the line number of a row is its number in the file."""
    yield from _typed_rows(path, _arrow_frames(path))


def _arrow_frames(path: Path) -> Iterator[DataFrame]:
    """Yield the rows in slices.

    Raises:
        CurateError: E908 when the file cannot be read, or is compressed.
    """
    try:
        import pyarrow
        from pyarrow import ipc
    except ImportError as error:
        raise missing_extra(f"{path}: reading Arrow", "hub", otherwise="save it as Parquet") from error
    import polars

    try:
        with path.open("rb") as handle:
            is_file = head_of(path).startswith(_FILE)
            # A compressed buffer says itself how much room it wants, which may be any.
            if _is_compressed(path, is_file=is_file):
                hint = "Save it as Parquet, or without compression."
                raise cannot_import(f"{path}: its buffers are compressed, which is not read", hint)
            reader = ipc.open_file(handle) if is_file else ipc.open_stream(handle)
            for batch in map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader:
                # polars takes what it is given for sound, and damage there can end the whole process.
                batch.validate(full=True)
                yield from polars.DataFrame(pyarrow.Table.from_batches([batch])).iter_slices(_ARROW_ROWS)
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


def _is_compressed(path: Path, *, is_file: bool) -> bool:
    """Whether the buffers of any batch of rows, or of any dictionary, are compressed."""
    import pyarrow
    from pyarrow import ipc

    # Of a file in memory a length that lies is found out without making room for it.
    with pyarrow.memory_map(str(path)) as source:
        for message in _messages(source) if is_file else ipc.MessageReader.open_stream(source):
            if message.type in ("record batch", "dictionary"):
                data = message.metadata.to_pybytes()
                batch = _table(data, struct.unpack_from("<I", data)[0], _HEADER)
                batch = _table(data, batch, _ROWS) if message.type == "dictionary" else batch
                if _field(data, batch, _COMPRESSION):
                    return True
    return False


def _messages(source: Any) -> Iterator[Any]:
    """Yield the batches that the footer of a file names; what stands before them may be anything."""
    from pyarrow import ipc

    ipc.open_file(source)
    source.seek(source.size() - _END)
    data = source.read_at(length := struct.unpack("<i", source.read(4))[0], source.size() - _END - length)
    for number in (_DICTIONARIES, _BATCHES):
        if place := _field(data, struct.unpack_from("<I", data)[0], number):
            place += struct.unpack_from("<I", data, place)[0]
            for block in range(struct.unpack_from("<I", data, place)[0]):
                source.seek(struct.unpack_from("<q", data, place + 4 + _BLOCK * block)[0])
                yield ipc.read_message(source)


def _table(data: bytes, table: int, number: int) -> int:
    offset = _field(data, table, number)
    return int(offset + struct.unpack_from("<I", data, offset)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Return where a field of a table of FlatBuffers stands, 0 where the table has none; pyarrow has verified both."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if struct.unpack_from("<H", data, vtable)[0] < 6 + 2 * number:
        return 0
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0
