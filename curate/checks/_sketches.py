"""What dataset checks know of records: a sketch of each, many of them in columns, and which keys of those are equal."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any, NamedTuple

from curate.base.record import Problem, Record
from curate.schema.shape import AnswerKeys, answer_keys, digests_of


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


_COLUMNS = Sketches.__slots__[1:]


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
    """Finds records with equal 64-bit keys."""

    def __init__(self) -> None:
        self._keys = array("Q")
        self._lines = array("I")
        self._are_wanted = array("B")
        self._ids: list[str] = []
        self._file_starts: list[int] = []
        self._files: list[str] = []

    def add(self, keys: array[int], sketches: Sketches, rows: Sequence[int] | None = None) -> None:
        """Take note of records under ``keys``, those in the ``rows`` of ``sketches``, by default all of them."""
        sketches = sketches if rows is None else sketches.take(rows)
        if not self._files or self._files[-1] != sketches.file:
            self._file_starts.append(len(self._keys))
            self._files.append(sketches.file)
        self._keys.extend(keys)
        self._lines.extend(sketches.lines)
        self._are_wanted.extend(sketches.are_wanted)
        self._ids += sketches.ids

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (index, index of the first record with the same key) for every later record, in reading order.

        Those of keys that no record has about which findings are wanted are left out.
        """
        wanted = set(compress(self._keys, self._are_wanted)) if 0 in self._are_wanted else None
        first: dict[int, int] = {}
        for index, key in enumerate(self._keys):
            earlier = first.setdefault(key, index)
            if earlier != index and (wanted is None or key in wanted):
                yield index, earlier

    def spot(self, index: int) -> str:
        """Return where a record stands, as ``file:line``."""
        return f"{self._file(index)}:{self._lines[index]}"

    def problem(self, index: int, first: int, message: str, pointer: str = "") -> DatasetProblem:
        """Return ``message`` as a problem of the record at ``index``, the later of a pair with the one at ``first``."""
        return DatasetProblem(
            Problem(message, pointer),
            self._file(index),
            self._lines[index],
            self._ids[index],
            other=(self._file(first), self._lines[first]),
            group=self._keys[index].to_bytes(8, "big"),
        )

    def _file(self, index: int) -> str:
        return self._files[bisect_right(self._file_starts, index) - 1]


def key_of(digest: bytes) -> int:
    """Return the first 64 bits of a digest as the key that `EqualKeys` works with."""
    return int.from_bytes(digest[:8], "big")
