"""What dataset checks know of records: a sketch of each, many of them in columns, and which keys of those are equal."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from mmap import mmap
from typing import Any, NamedTuple

from curate.base.record import Problem, Record
from curate.schema.shape import AnswerKeys, answer_keys, digests_of

_FILTER_BITS = 1 << 25
_FILTER_MASK = _FILTER_BITS - 1
_SLOT_MASK = (1 << 18) - 1
# Records at once that are not worth loading numpy for.
_FEW = 4096


class Sketch(NamedTuple):
    """What dataset checks know of a record; small, so that a million of them can pass from worker to parent."""

    id: str
    file: str
    line: int
    content: bytes
    """16-byte digest of all that the record teaches, as `curate.schema.shape` has it."""
    prompt: bytes
    """16-byte digest of the question, with roles and tools; empty where the record has none (raw text)."""
    category: str
    split: str
    source: str
    """``meta.source`` where the record names one, else the file."""
    num_chars: int
    """Length of prompt and completion together, in characters."""
    has_own_id: bool
    answers: AnswerKeys | None = None
    """Of a preference."""


def sketch_of(record: Record) -> Sketch:
    """Return what dataset checks need to know of ``record``."""
    question, content = digests_of(record)
    source = record.meta.get("source")
    return Sketch(
        record.id,
        record.source.file,
        record.source.line,
        content,
        question,
        record.category,
        record.split or "",
        source if isinstance(source, str) and source else record.source.file,
        len(record.prompt) + len(record.completion) + len(record.text),
        record.has_own_id,
        answer_keys(record),
    )


@dataclass(slots=True)
class Sketches:
    """The sketches of N records of one file, a column for each field of `Sketch`.

    ``contents`` and ``prompts`` are numbers, the same for the same content and question; no prompt has 0, and
    ``sources`` are "" where a record names none.
    """

    file: str
    ids: Sequence[str]
    lines: array[int]
    contents: array[int]
    prompts: array[int]
    categories: Sequence[str]
    splits: Sequence[str]
    sources: Sequence[str]
    num_chars: array[int]
    have_own_ids: array[int]
    """1 where a record has an id of its own, else 0."""
    are_wanted: array[int]
    """1 where findings about a record are wanted, 0 where only those about it and such a record are."""
    answers: Sequence[AnswerKeys]
    """Of preferences; empty where records are none."""
    _id_keys: array[int] | None = None

    @staticmethod
    def of(sketches: Sequence[Sketch]) -> Sketches:
        """Return ``sketches``, which are of one file, in columns."""
        ids, files, lines, contents, prompts, categories, splits, sources, num_chars, have_own_ids, answers = zip(
            *sketches, strict=True
        )
        file = files[0]
        return Sketches(
            file,
            ids,
            array("I", lines),
            array("Q", map(key_of, contents)),
            array("Q", [key_of(prompt) or 1 if prompt else 0 for prompt in prompts]),
            categories,
            splits,
            ["" if source == file else source for source in sources],
            array("Q", num_chars),
            array("B", have_own_ids),
            array("B", b"\x01" * len(ids)),
            answers if answers[0] else (),
        )

    @property
    def id_keys(self) -> array[int]:
        """The hash of each id, the same for equal ones within this process."""
        if self._id_keys is None:
            self._id_keys = keys_of(self.ids)
        return self._id_keys

    def take(self, rows: Sequence[int]) -> Sketches:
        """Return the sketches ``rows``, in that order."""
        columns = [getattr(self, name) for name in _COLUMNS]
        taken: list[Any] = [
            array(column.typecode, [column[row] for row in rows])
            if isinstance(column, array)
            else [column[row] for row in rows if column]
            for column in columns
        ]
        return Sketches(self.file, *taken)

    @staticmethod
    def merged(batches: Sequence[Sketches]) -> Sketches:
        """Return the sketches of one file, in the order of its lines."""
        columns: list[Any] = []
        for name in _COLUMNS:
            parts = [getattr(batch, name) for batch in batches]
            is_array = isinstance(parts[0], array)
            columns.append(array(parts[0].typecode, b"".join(parts)) if is_array else list(chain(*parts)))
        joined = Sketches(batches[0].file, *columns)
        order = sorted(range(len(joined.lines)), key=joined.lines.__getitem__)
        return joined if order == list(range(len(order))) else joined.take(order)


_COLUMNS = Sketches.__slots__[1:-1]


def keys_of(names: Iterable[str]) -> array[int]:
    """Return the hash of each name, the same for equal ones within this process."""
    return array("Q", array("q", map(hash, names)).tobytes())


class DatasetProblem(NamedTuple):
    """A problem of a data set: the record it is shown at (file "" when it concerns the whole set)."""

    problem: Problem
    file: str = ""
    line: int = 0
    record: str = ""
    category: str = ""
    """The category that the problem is about, where it names no record."""
    other: tuple[str, int] = ("", 0)
    """File and line of the other record, where two are at odds."""
    group: bytes = b""
    """What records that are at odds have in common: the same whatever order they stand in, and in every process."""


class EqualKeys:
    """Finds records with equal 64-bit keys: 12 bytes a record and 4 MB in all, however long ids and file names are."""

    # Keys and line numbers are kept for all records, names only for those that a one-hash Bloom filter cannot rule out
    # as repeats (https://doi.org/10.1145/362686.362692); an exact pass over the keys of those decides at the end.

    def __init__(self) -> None:
        self._keys = array("Q")
        self._lines = array("I")
        # Of anonymous memory the system gives only the pages that are used; a bytearray of 4 MB zeros is written whole,
        # which for the checks that have one took 12 ms of a small `curate validate`.
        self._filter = mmap(-1, _FILTER_BITS // 8)
        self._names: dict[int, str] = {}
        self._wanted: set[int] | None = None
        """The keys of the records that findings are wanted about, None where they are all."""
        self._file_starts: list[int] = []
        self._files: list[str] = []

    def add(self, keys: array[int], sketches: Sketches, rows: Sequence[int] | None = None) -> None:
        """Take note of records under ``keys``, those in the ``rows`` of ``sketches``, by default all of them."""
        sketches = sketches if rows is None else sketches.take(rows)
        ids, are_wanted = sketches.ids, sketches.are_wanted
        if not self._files or self._files[-1] != sketches.file:
            self._file_starts.append(len(self._keys))
            self._files.append(sketches.file)
        if self._wanted is not None or 0 in are_wanted:
            before = self._wanted if self._wanted is not None else self._keys
            self._wanted = {*before, *compress(keys, are_wanted)}
        if len(keys) < _FEW:
            self._name_doubtful(keys, ids)
        else:
            self._name_doubtful_of_many(keys, ids)
        self._keys.extend(keys)
        self._lines.extend(sketches.lines)

    def _name_doubtful(self, keys: array[int], ids: Sequence[str]) -> None:
        for index, (key, name) in enumerate(zip(keys, ids, strict=True), len(self._keys)):
            byte, mask = (key & _FILTER_MASK) >> 3, 1 << (key & 7)
            if self._filter[byte] & mask:
                self._names[index] = name
            else:
                self._filter[byte] |= mask

    def _name_doubtful_of_many(self, keys: array[int], ids: Sequence[str]) -> None:
        # Few records are checked without numpy, which takes as long to load as they do.
        import numpy as np

        known = np.frombuffer(self._filter, np.uint8)
        bits = (np.frombuffer(keys, np.uint64) & np.uint64(_FILTER_MASK)).astype(np.int64)
        bytes_, masks = bits >> 3, np.left_shift(1, bits & 7).astype(np.uint8)
        is_doubtful = (known[bytes_] & masks) > 0
        # Of those that share a slot, and so of all that are equal, the first has it.
        rows, slots, owners = np.arange(len(keys)), bits & _SLOT_MASK, np.empty(_SLOT_MASK + 1, np.int32)
        owners[slots[::-1]] = rows[::-1]
        is_doubtful |= owners[slots] != rows
        np.bitwise_or.at(known, bytes_, masks)
        for index in np.flatnonzero(is_doubtful).tolist():
            self._names[len(self._keys) + index] = ids[index]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (index, index of the first record with the same key) for every later record, in reading order.

        Those of keys that no record has about which findings are wanted are left out.
        """
        # Whatever repeats a key has passed the filter, so that only keys of those can be repeated.
        candidates = {self._keys[index] for index in self._names}
        if self._wanted is not None:
            candidates &= self._wanted
        first: dict[int, int] = {}
        for index in self._rows_of(candidates):
            earlier = first.setdefault(self._keys[index], index)
            if earlier != index:
                yield index, earlier

    def _rows_of(self, candidates: set[int]) -> Iterable[int]:
        """Return the rows that have one of these keys."""
        if len(self._keys) < _FEW or not candidates:
            return [index for index, key in enumerate(self._keys) if key in candidates] if candidates else ()
        import numpy as np

        keys, wanted = np.frombuffer(self._keys, np.uint64), np.fromiter(candidates, np.uint64, len(candidates))
        # Most rows have no such key, which their slots say.
        is_used = np.zeros(_SLOT_MASK + 1, np.bool_)
        is_used[wanted & np.uint64(_SLOT_MASK)] = True
        likely = np.flatnonzero(is_used[keys & np.uint64(_SLOT_MASK)])
        rows: list[int] = likely[np.isin(keys[likely], wanted)].tolist()
        return rows

    def spot(self, index: int) -> str:
        """Return where a record stands, as ``file:line``."""
        return f"{self._file(index)}:{self._lines[index]}"

    def problem(self, index: int, first: int, message: str, pointer: str = "") -> DatasetProblem:
        """Return ``message`` as a problem of the record at ``index``, the later of a pair with the one at ``first``."""
        return DatasetProblem(
            Problem(message, pointer),
            self._file(index),
            self._lines[index],
            self._names.get(index, ""),
            other=(self._file(first), self._lines[first]),
            group=self._keys[index].to_bytes(8, "big"),
        )

    def _file(self, index: int) -> str:
        return self._files[bisect_right(self._file_starts, index) - 1]


def key_of(digest: bytes) -> int:
    """Return the first 64 bits of a digest as the key that `EqualKeys` works with."""
    return int.from_bytes(digest[:8], "big")
