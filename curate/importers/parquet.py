"""Parquet, through polars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from curate.importers import Rejected, Row, container
from curate.importers._bytes import head_of
from curate.importers._values import jsonable
from curate.record import CurateError


def _fits(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".parquet" or head.startswith(b"PAR1")


@container("parquet", fits=_fits, priority=1)
def rows(path: Path) -> Iterator[Row | Rejected]:
    """Parquet (.parquet): the line number of a row is its number in the file."""
    # polars takes longer to import than most files take to read as JSON lines.
    import polars
    from polars.exceptions import PolarsError

    if not head_of(path).startswith(b"PAR1"):
        raise CurateError(
            "E908 cannot-import", f"{path}: not a Parquet file", "A Parquet file begins with the bytes PAR1."
        )
    try:
        frame = polars.read_parquet(path)
    except (PolarsError, OSError) as error:
        raise CurateError(
            "E908 cannot-import", f"{path}: {str(error).splitlines()[0]}", "The file may be cut off; fetch it again."
        ) from error
    for number, values in enumerate(frame.iter_rows(named=True), start=1):
        yield jsonable(values, number)
