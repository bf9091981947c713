"""Parquet, through polars, a slice at a time; a file that unpacks to far more than it holds is refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
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


def _fits(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".parquet" or head.startswith(b"PAR1")


@container("parquet", fits=_fits, priority=1, unpacks=("Parquet",))
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Parquet (.parquet): the line number of a row is its number in the file."""
    if not head_of(path).startswith(b"PAR1"):
        raise cannot_import(f"{path}: not a Parquet file", "A Parquet file begins with the bytes PAR1.")
    yield from typed_rows(path, _frames(path))


def typed_rows(path: Path, frames: Iterable[DataFrame]) -> Iterator[SourceRow | Rejected]:
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

    if not _tail_of(path).endswith(b"PAR1"):
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


def _tail_of(path: Path) -> bytes:
    with path.open("rb") as handle:
        handle.seek(-min(4, path.stat().st_size), os.SEEK_END)
        return handle.read()


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
