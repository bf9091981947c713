"""Rows of a dataset that lie in a file: a million of them in memory take gigabytes."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

from curate.base.record import Json
from curate.base.storage import make_folder, refusal

Row = dict[str, Any]

_BLOCK = 1 << 20


class RowFile(Collection[Row]):
    """The rows of a file of JSON lines, parsed anew each time that they are gone through; none stays in memory."""

    def __init__(self, file: IO[bytes], num_rows: int) -> None:
        """Take ``file``, which is closed when nobody refers to its rows any more."""
        self._file, self._num_rows = file, num_rows
        weakref.finalize(self, _close, file)

    def __len__(self) -> int:
        return self._num_rows

    def __iter__(self) -> Iterator[Row]:
        return map(orjson.loads, self._lines())

    def __contains__(self, row: object) -> bool:
        return any(each == row for each in self)

    def _lines(self) -> Iterator[bytes]:
        # By offset, so that several readers can be under way at once.
        offset, rest = 0, b""
        while block := os.pread(self._file.fileno(), _BLOCK, offset):
            offset += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from lines


class RowSpool(RowFile):
    """Rows that are put into a file without a name, in order to be gone through more than once."""

    def __init__(self, folder: Path) -> None:
        """Begin with no rows; ``folder`` says on which disk, and is made when it is missing."""
        make_folder(folder)
        self._folder = folder
        try:
            file = tempfile.TemporaryFile(buffering=_BLOCK, dir=folder)  # noqa: SIM115  as long as the rows live
        except OSError as error:
            raise refusal(folder, error) from error
        super().__init__(file, 0)

    def append(self, row: Mapping[str, Json]) -> None:
        """Add ``row`` to the end.

        Raises:
            CurateError: E906, the disk is full.
        """
        try:
            self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            raise refusal(self._folder, error) from error
        self._num_rows += 1

    def _lines(self) -> Iterator[bytes]:
        try:
            self._file.flush()
        except OSError as error:
            raise refusal(self._folder, error) from error
        return super()._lines()


def _close(file: IO[bytes]) -> None:
    # What a full disk has not taken is in no file that anybody reads.
    with suppress(OSError):
        file.close()
