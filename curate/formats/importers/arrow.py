"""Arrow (.arrow), as `datasets` keeps it: validated by pyarrow, once it is known that nothing in it is compressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.base.record import missing_extra
from curate.formats.importers import Rejected, SourceRow, cannot_import, container, head_of
from curate.formats.importers.parquet import typed_rows

if TYPE_CHECKING:
    from polars import DataFrame

_FILE = b"ARROW1"
_SLICE_ROWS = 4096
# The fields of a Message, a DictionaryBatch and a RecordBatch (Message.fbs), by their places in a vtable.
_HEADER, _ROWS, _COMPRESSION = 2, 1, 3
# The same of a Footer (File.fbs), the bytes of a Block, and those behind the footer of a file.
_DICTIONARIES, _BATCHES, _BLOCK, _END = 2, 3, 24, 10


def _fits(path: Path, head: bytes) -> bool:
    return head.startswith(_FILE) or (path.suffix.lower() == ".arrow" and not path.is_dir())


def _notices(path: Path) -> Sequence[str]:
    is_part = (path.parent / "dataset_info.json").is_file()
    return ["it is a part of a folder of `datasets`, which may name the classes of its labels"] if is_part else []


@container("arrow", fits=_fits, priority=1, notices=_notices, unpacks=("Arrow",))
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Arrow (.arrow), files and streams that are not compressed: the line number of a row is its number in the file."""
    yield from typed_rows(path, _frames(path))


def _frames(path: Path) -> Iterator[DataFrame]:
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
                yield from polars.DataFrame(pyarrow.Table.from_batches([batch])).iter_slices(_SLICE_ROWS)
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
