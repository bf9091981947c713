"""The lines of a file as values that are read when somebody asks for them, so that a million take little memory.

A table says of each line where it stands and which digest it had when the file was read as a whole. A line that is no
longer the same is refused: what was proved of the file must hold of what is trained.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

from train.base.errors import TrainError
from train.base.file_guard import open_file

T = TypeVar("T")


class Lines(Sequence[T]):
    """The values of the lines of ``path`` that are not blank, ``parse`` (line, these lines, its index) makes each.

    A slice is `Lines` too, of the same ``root``, and reads nothing. Raises what `open_file` does, for a file of more
    than ``most`` bytes, too.
    """

    def __init__(self, path: Path, most: int, parse: Callable[[bytes, Lines[T], int], T]) -> None:
        self.path, self.root, self._parse = path, self, parse
        table, hashed, start = array("q"), hashlib.sha256(), 0
        with open_file(path, most=most) as file:
            for number, line in enumerate(file, 1):
                hashed.update(line)
                if line.strip():
                    table.extend((start, len(line), hash(line), number))
                start += len(line)
                if start > most:
                    # It grows while it is read, and is another one already.
                    break
        self.sha256 = hashed.hexdigest()
        # Of each line: its first byte, its bytes, its digest in this process, and its number in the file from 1.
        self._table = np.frombuffer(table, np.int64).reshape(-1, 4)
        self.keys = np.zeros(len(self._table), np.uint64)
        """What decides which values a sample takes [n]: those with the lowest ones."""
        self._indices = range(len(self._table))

    def sample(self, most: int) -> list[T]:
        """Return the ``most`` values with the lowest keys, the lowest first."""
        return list(self._read([self._indices[n] for n in np.argsort(self.keys, kind="stable")[:most].tolist()]))

    def raw(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, int, bytes]]:
        """Yield (index, number in the file, bytes) of lines of the file, by default of all; raises TrainError "E911
        dataset-changed".
        """
        changed = TrainError(
            "E911 dataset-changed", f"{self.path}: the file was changed while it was in use",
            "Export the dataset again, and leave it as it is.",
        )  # fmt: skip
        try:
            file = open_file(self.path)
        except OSError:
            raise changed from None
        with file:
            for index in self._indices if indices is None else indices:
                start, size, digest, number = self._table[index].tolist()
                file.seek(start)
                line = file.read(size)
                if hash(line) != digest:
                    raise changed
                yield index, number, line

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Lines[T]: ...
    def __getitem__(self, index: int | slice) -> T | Lines[T]:
        if isinstance(index, int):
            return next(self._read([self._indices[index]]))
        part = copy(self)
        part._indices, part.keys = self._indices[index], self.keys[index]
        return part if part._indices != self.root._indices else self.root

    def __iter__(self) -> Iterator[T]:
        return self._read(self._indices)

    def _read(self, indices: Sequence[int]) -> Iterator[T]:
        return (self._parse(line, self.root, index) for index, _, line in self.raw(indices))
