"""What dataset checks know of records: a sketch of each, many of them in columns, and which keys of those are equal."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from curate.base.record import Problem, Record
from curate.schema.shape import AnswerKeys, answer_keys, digests_of


class Sketch(NamedTuple):
    """What dataset checks know of a record."""

    id: str
    file: str
    line: int
    content: int
    """A key of all that the record teaches: equal for the same content, as `curate.schema.shape` has it."""
    prompt: int
    """A key of the question, with roles and tools; 0 where the record has none (raw text)."""
    category: str
    split: str
    source: str
    """``meta.source`` where the record names one, else the file."""
    num_chars: int
    """Length of prompt and completion together, in characters."""
    has_own_id: bool
    answers: AnswerKeys | None = None
    """Of a preference."""


@dataclass(slots=True)
class Sketches:
    """The sketches of N records of one file, a column for each field of `Sketch`: small enough to pass to the parent.

    ``sources`` are "" where a record names none.
    """

    file: str
    ids: list[str] = field(default_factory=list)
    lines: array[int] = field(default_factory=lambda: array("I"))
    contents: array[int] = field(default_factory=lambda: array("Q"))
    prompts: array[int] = field(default_factory=lambda: array("Q"))
    categories: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    num_chars: array[int] = field(default_factory=lambda: array("Q"))
    have_own_ids: array[int] = field(default_factory=lambda: array("B"))
    """1 where a record has an id of its own, else 0."""
    answers: list[AnswerKeys] = field(default_factory=list)
    """Of preferences; empty where records are none."""
    prints: array[int] = field(default_factory=lambda: array("Q"))
    """The fingerprint of each record, where there is a baseline."""

    @staticmethod
    def of(records: Sequence[Record]) -> Sketches:
        """Return the sketches of ``records``, at least one, which are of one file."""
        sketches = Sketches(records[0].source.file)
        for record in records:
            sketches.add(record)
        return sketches

    def add(self, record: Record) -> None:
        """Add the sketch of a record."""
        question, content = digests_of(record)
        self.ids.append(record.id)
        self.lines.append(record.source.line)
        self.contents.append(key_of(content))
        self.prompts.append(key_of(question) or 1 if question else 0)
        self.categories.append(record.category)
        self.splits.append(record.split or "")
        source = record.meta.get("source")
        self.sources.append(source if isinstance(source, str) and source != self.file else "")
        self.num_chars.append(len(record.prompt) + len(record.completion) + len(record.text))
        self.have_own_ids.append(record.has_own_id)
        if answers := answer_keys(record):
            self.answers.append(answers)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Sketch]:
        """Yield the sketches one by one."""
        answers: Sequence[AnswerKeys | None] = self.answers or [None] * len(self)
        columns = self.contents, self.prompts, self.categories, self.splits, self.sources, self.num_chars
        rows = zip(self.ids, self.lines, *columns, self.have_own_ids, answers, strict=True)
        for name, line, content, prompt, category, split, source, num_chars, has_own_id, keys in rows:
            place = self.file, line, content, prompt, category, split, source or self.file
            yield Sketch(name, *place, num_chars, bool(has_own_id), keys)

    def take(self, rows: Sequence[int]) -> Sketches:
        """Return the sketches ``rows``, in that order."""
        taken: list[Any] = []
        for name in Sketches.__slots__[1:]:
            column = getattr(self, name)
            values = [column[row] for row in rows] if column else []
            taken.append(array(column.typecode, values) if isinstance(column, array) else values)
        return Sketches(self.file, *taken)

    def in_order(self) -> Sketches:
        """Return the same sketches in the order of their lines."""
        return self.take(sorted(range(len(self)), key=self.lines.__getitem__))


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
        self._ids += sketches.ids

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (index, index of the first record with the same key) for every later record, in reading order."""
        first: dict[int, int] = {}
        for index, key in enumerate(self._keys):
            earlier = first.setdefault(key, index)
            if earlier != index:
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
