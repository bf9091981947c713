"""What dataset checks know of records: a sketch of each in columns, and which of their keys are equal."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from curate.base.record import Problem, Record
from curate.schema.shape import AnswerKeys, answer_keys, digests_of


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


@dataclass
class Sketches:
    """The sketches of N records in reading order, a column for each field."""

    files: list[str] = field(default_factory=list)
    lines: array[int] = field(default_factory=lambda: array("I"))
    ids: list[str] = field(default_factory=list)
    have_own_ids: array[int] = field(default_factory=lambda: array("B"))
    """1 where a record has an id of its own, else 0."""
    contents: array[int] = field(default_factory=lambda: array("Q"))
    """A key of all that each record teaches: equal for the same content, as `curate.schema.shape` has it."""
    prompts: array[int] = field(default_factory=lambda: array("Q"))
    """A key of each question, with roles and tools; 0 where the record has none (raw text)."""
    answers: list[AnswerKeys | None] = field(default_factory=list)
    """Of preferences."""
    categories: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """``meta.source``, "" where a record names none."""
    num_chars: array[int] = field(default_factory=lambda: array("Q"))
    """Length of prompt and completion together, in characters."""
    prints: array[int] = field(default_factory=lambda: array("Q"))
    """The fingerprint of each record where there is a baseline, else 0."""

    @staticmethod
    def of(records: Iterable[Record]) -> Sketches:
        """Return the sketches of ``records``."""
        sketches = Sketches()
        for record in records:
            sketches.add(record)
        return sketches

    def add(self, record: Record, fingerprint: int = 0) -> None:
        """Add the sketch of a record."""
        question, content = digests_of(record)
        self.files.append(record.source.file)
        self.lines.append(record.source.line)
        self.ids.append(record.id)
        self.have_own_ids.append(record.has_own_id)
        self.contents.append(_key_of(content))
        self.prompts.append(_key_of(question) or 1 if question else 0)
        self.answers.append(answer_keys(record))
        self.categories.append(record.category)
        self.splits.append(record.split or "")
        source = record.meta.get("source")
        self.sources.append(source if isinstance(source, str) and source != record.source.file else "")
        self.num_chars.append(len(record.prompt) + len(record.completion) + len(record.text))
        self.prints.append(fingerprint)

    def extend(self, later: Sketches) -> None:
        """Add the sketches of records that follow."""
        for column in fields(self):
            getattr(self, column.name).extend(getattr(later, column.name))

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, file: str, line: int) -> int:
        """Return the row of the record there, -1 where there is none; all records have been added."""
        rows = self._rows.get(file, range(0))
        row = bisect_left(self.lines, line, rows.start, rows.stop)
        return row if row < rows.stop and self.lines[row] == line else -1

    @cached_property
    def _rows(self) -> dict[str, range]:
        """The rows of each file."""
        parts = groupby(enumerate(self.files), key=itemgetter(1))
        firsts = {file: next(rows)[0] for file, rows in parts}
        ends = [*list(firsts.values())[1:], len(self)]
        return {file: range(first, end) for (file, first), end in zip(firsts.items(), ends, strict=True)}

    def spot(self, row: int) -> str:
        """Return where a record stands, as ``file:line``."""
        return f"{self.files[row]}:{self.lines[row]}"

    def problem(
        self, row: int, message: str, pointer: str = "", *, other: int | None = None, group: int | bytes = b""
    ) -> DatasetProblem:
        """Return ``message`` as a problem of one record that is at odds with the ``other``.

        ``group`` is the key that they have in common.
        """
        return DatasetProblem(
            Problem(message, pointer),
            self.files[row],
            self.lines[row],
            self.ids[row],
            other=("", 0) if other is None else (self.files[other], self.lines[other]),
            group=group.to_bytes(8, "big") if isinstance(group, int) else group,
        )


def repeats(keys: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """Yield (index, index of the first one with the same key) for every later key, in order; 0 and "" are none."""
    first: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        if key and (earlier := first.setdefault(key, index)) != index:
            yield index, earlier


def _key_of(digest: bytes) -> int:
    """Return the first 64 bits of a digest."""
    return int.from_bytes(digest[:8], "big")
