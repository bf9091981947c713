"""The lines of a file as values that are read when somebody asks for them, so that a million take little memory.

A table says of each line where it stands and which digest it had when the file was read as a whole. A line that is no
longer the same is refused: what was proved of the file must hold of what is trained.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from train.base.errors import TrainError
from train.base.file_guard import open_file

T = TypeVar("T")


class LineFile(Generic[T]):
    """A file that is read once as a whole, at most ``most`` bytes of it; ``parse`` makes a value of a line.

    Raises what `open_file` does.
    """

    def __init__(self, path: Path, most: int, parse: Callable[[bytes, tuple[LineFile[T], int]], T]) -> None:
        self.path, self.parse = path, parse
        starts, sizes, digests, numbers = (array("q") for _ in range(4))
        hashed, start = hashlib.sha256(), 0
        with open_file(path, most=most) as file:
            for number, line in enumerate(file, 1):
                hashed.update(line)
                if line.strip():
                    starts.append(start)
                    sizes.append(len(line))
                    digests.append(hash(line))
                    numbers.append(number)
                start += len(line)
                if start > most:
                    # It grows while it is read, and is another one already.
                    break
        self.sha256 = hashed.hexdigest()
        # Of each line: its first byte, its bytes, its digest in this process, and its number in the file from 1.
        self._table = np.stack([np.frombuffer(column, np.int64) for column in (starts, sizes, digests, numbers)], 1)

    def __len__(self) -> int:
        return len(self._table)

    def raw(self, indices: Sequence[int]) -> Iterator[tuple[int, int, bytes]]:
        """Yield (index, number in the file, bytes) of lines; raises TrainError "E911 dataset-changed"."""
        try:
            file = open_file(self.path)
        except OSError:
            raise self._changed() from None
        with file:
            for index in indices:
                start, size, digest, number = self._table[index].tolist()
                file.seek(start)
                line = file.read(size)
                if hash(line) != digest:
                    raise self._changed()
                yield index, number, line

    def _changed(self) -> TrainError:
        message = f"{self.path}: the file was changed while it was in use"
        return TrainError("E911 dataset-changed", message, "Export the dataset again, and leave it as it is.")


class Lines(Sequence[T]):
    """The values of the lines ``indices`` of ``file``; slices are `Lines` too, and read nothing.

    ``keys`` [number of all lines] decide which of them a sample takes: those with the lowest ones.
    """

    def __init__(self, file: LineFile[T], keys: npt.NDArray[np.uint64], indices: range | None = None) -> None:
        self.file, self.indices = file, range(len(file)) if indices is None else indices
        self._keys = keys

    @property
    def is_whole(self) -> bool:
        """True for all lines of the file."""
        return self.indices == range(len(self.file))

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """The key of each value [n]."""
        return self._keys[self.indices.start : self.indices.stop : self.indices.step]

    def sample(self, most: int) -> list[T]:
        """Return the ``most`` values with the lowest keys, the lowest first."""
        return list(self._read([self.indices[n] for n in np.argsort(self.keys, kind="stable")[:most].tolist()]))

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Lines[T]: ...
    def __getitem__(self, index: int | slice) -> T | Lines[T]:
        if isinstance(index, slice):
            return Lines(self.file, self._keys, self.indices[index])
        return next(self._read([self.indices[index]]))

    def __iter__(self) -> Iterator[T]:
        return self._read(self.indices)

    def _read(self, indices: Sequence[int]) -> Iterator[T]:
        parse = self.file.parse
        return (parse(line, (self.file, index)) for index, _, line in self.file.raw(indices))
