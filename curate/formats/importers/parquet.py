"""Parquet, through polars, a slice at a time; a file that unpacks to far more than it holds is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.record import CurateError
from curate.formats.importers import Rejected, SourceRow, container
from curate.formats.importers._bytes import head_of
from curate.formats.importers._parquet_footer import read_row_groups
from curate.formats.importers._values import jsonable

if TYPE_CHECKING:
    from polars import DataFrame

MAX_RATIO = 1000
"""How many bytes of rows a byte of the file may hold. A long text repeated in all rows makes hundreds of it."""
ALWAYS_ALLOWED = 64 * 1024 * 1024
"""So many bytes of rows any file may hold, be it ever so small."""
_FIRST_ROWS, _SLICE_ROWS = 256, 16_384
"""A slice has twice as many rows as the one before, up to a limit: what is far too large shows itself at once."""
_BUFFER_BYTES = 16 * 1024 * 1024
_CUT = "The file may be cut off; fetch it again."


def _fits(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".parquet" or head.startswith(b"PAR1")


@container("parquet", fits=_fits, priority=1)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Parquet (.parquet): the line number of a row is its number in the file."""
    if not head_of(path).startswith(b"PAR1"):
        raise CurateError(
            "E908 cannot-import", f"{path}: not a Parquet file", "A Parquet file begins with the bytes PAR1."
        )
    number = 0
    for frame in _frames(path):
        per_row = _size_of(frame) // max(1, len(frame))
        for values in frame.iter_rows(named=True, buffer_size=max(1, min(512, _BUFFER_BYTES // max(1, per_row)))):
            number += 1
            yield jsonable(values, number)


def _frames(path: Path) -> Iterator[DataFrame]:
    """Yield the rows in slices, each of which is weighed before anything is made of it.

    A dictionary lets few bytes stand for many rows: the footer then knows of few bytes, and only the slice shows how
    long its texts are. polars shares such texts among the rows, so that the slice itself is small.

    Raises:
        CurateError: E908 when the file cannot be read or unpacks to too much.
    """
    # polars takes longer to import than most files take to read as JSON lines.
    import polars
    from polars.exceptions import PanicException, PolarsError

    allowed = max(ALWAYS_ALLOWED, MAX_RATIO * path.stat().st_size)
    try:
        groups = read_row_groups(path)
    except (ValueError, OSError) as error:
        raise CurateError("E908 cannot-import", f"{path}: {error}", _CUT) from error
    if sum(group.num_bytes for group in groups) > allowed:
        raise _too_large(path, allowed)
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
                raise CurateError("E908 cannot-import", f"{path}: it holds fewer rows than its footer says", _CUT)
            unpacked += _size_of(frame)
            if unpacked > allowed:
                raise _too_large(path, allowed)
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
    for name in names:
        try:
            polars.scan_parquet(path, glob=False).select(polars.col(name)).slice(begin, end - begin).collect()
        except (PolarsError, PanicException, OSError):
            columns.append(name)
    where = f", column {', '.join(map(repr, columns[:5]))}" if columns and len(columns) < len(names) else ""
    first = next(iter(reason.splitlines()), "it cannot be read").removeprefix("parquet: ")
    hint = "Write that column as UTF-8 text." if "UTF-8" in first else _CUT
    return CurateError("E908 cannot-import", f"{path}: rows {begin + 1:,} to {end:,}{where}: {first}", hint)


def _too_large(path: Path, allowed: int) -> CurateError:
    return CurateError(
        "E908 cannot-import",
        f"{path}: its {path.stat().st_size:,} bytes unpack to more than {allowed:,}",
        "A small file can hold one text in very many rows. If it is meant so, write it as JSON lines.",
    )
