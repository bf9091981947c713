"""What must be known of a record when a finding about the data set names it by file and line."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from curate.checks import Sketch


@dataclass
class _File:
    lines: array[int] = field(default_factory=lambda: array("I"))
    categories: array[int] = field(default_factory=lambda: array("I"))
    prints: array[int] = field(default_factory=lambda: array("Q"))


class RecordIndex:
    """Category and fingerprint of each record by file and line, in 16 bytes a record; records come in reading order."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._numbers: dict[str, int] = {}
        self._categories: list[str] = []

    def add(self, sketches: Sequence[Sketch], prints: Sequence[int]) -> None:
        """Take note of the records of a span; ``prints`` is empty where no baseline asks for them."""
        for index, sketch in enumerate(sketches):
            file = self._files.get(sketch.file)
            if file is None:
                file = self._files[sketch.file] = _File()
            number = self._numbers.setdefault(sketch.category, len(self._numbers))
            if number == len(self._categories):
                self._categories.append(sketch.category)
            file.lines.append(sketch.line)
            file.categories.append(number)
            if prints:
                file.prints.append(prints[index])

    def at(self, file: str, line: int) -> tuple[str, int]:
        """Return category and fingerprint of the record there, "" and 0 where no record is."""
        known = self._files.get(file)
        index = bisect_left(known.lines, line) if known else 0
        if known is None or index == len(known.lines) or known.lines[index] != line:
            return "", 0
        return self._categories[known.categories[index]], known.prints[index] if known.prints else 0
