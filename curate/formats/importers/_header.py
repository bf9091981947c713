"""The first row of a table: whether it is a header, and what happens to columns without a usable name.

The cells of the row decide. It is a header if it holds a known column name, or plain names throughout, or the numbers
and the nameless index that pandas writes; any other first row is a record.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from curate.base.record import CurateError
from curate.formats.importers.mapping import KNOWN_COLUMNS, plain_name

MAX_NAME = 200
"""The longest name of a column, in characters; what is longer is a text."""
_NAME = re.compile(r"[^\W\d][\w .\-/()]{0,63}")
_NAMELESS = re.compile(r"(?:Unnamed: \d+)?")
"""How pandas spells a column without a name, before and after it has read one."""

Records = Callable[[], Iterable[Sequence[str] | None]]
"""Reads the records from the first; None for one that is broken."""


@dataclass(frozen=True, slots=True)
class TableHeader:
    """The names of the columns, None for one that is left out; ``is_named``: the first row of the file holds them."""

    names: tuple[str | None, ...]
    is_named: bool = False
    notices: tuple[str, ...] = ()


def read_header(path: Path, first: Sequence[str], records: Records) -> TableHeader:
    """Return the header of a table whose ``first`` record is given; ``records`` reads it from its beginning.

    Raises:
        CurateError: E908 when two columns have the same name.
    """
    cells = [cell.strip() for cell in first]
    if not _is_header(cells, records):
        numbered = tuple(f"column_{number}" for number in range(1, len(cells) + 1))
        return TableHeader(
            numbered, notices=("the first line is read as a record; the columns are called column_1 and so on",)
        )
    begin = int(bool(_NAMELESS.fullmatch(cells[0])))
    is_numbered = _is_numbered(cells[begin:])
    if is_numbered:
        cells = [*cells[:begin], *(f"column_{number}" for number in range(1, len(cells) - begin + 1))]
    repeated = [name for name, count in Counter(name for name in cells if name).items() if count > 1]
    if repeated:
        raise CurateError(
            "E908 cannot-import",
            f"{path}: {sum(name == repeated[0] for name in cells)} columns are called {repeated[0]!r}",
            "Give each column a name of its own in the first line of the file.",
        )
    notices = ["the columns have numbers for names; they are called column_1 and so on"] if is_numbered else []
    names: list[str | None] = list(cells)
    nameless = [index for index, name in enumerate(cells) if _NAMELESS.fullmatch(name)]
    counting, blank = _judge(nameless, records) if nameless else (set(), set())
    for index in nameless:
        if index in counting:
            names[index] = None
            notices.append(f"column {index + 1} has no name and counts the rows from 0, an index of pandas: left out")
        elif index in blank and not cells[index]:
            names[index] = None
            notices.append(f"column {index + 1} has no name and is empty: left out")
        elif not cells[index]:
            names[index] = f"column_{index + 1}"
            notices.append(f"column {index + 1} has no name: it is called column_{index + 1}")
    return TableHeader(tuple(names), True, tuple(notices))


def _is_header(cells: Sequence[str], records: Records) -> bool:
    if any(len(cell) > MAX_NAME or "\n" in cell for cell in cells) or not any(cells):
        return False
    if any(plain_name(cell) in KNOWN_COLUMNS for cell in cells):
        return True
    if all(_NAME.fullmatch(cell) for cell in cells):
        return len(set(cells)) == len(cells)
    begin = int(bool(_NAMELESS.fullmatch(cells[0])))
    rest = cells[begin:]
    if _is_numbered(rest):
        # A table of numbers alone can begin with 0, 1, 2 as well.
        return any(not cell.lstrip("-").isdecimal() for row in islice(records(), 1, 20) if row for cell in row[begin:])
    return begin == 1 and all(_NAME.fullmatch(cell) for cell in rest) and len(set(rest)) == len(rest)


def _is_numbered(cells: Sequence[str]) -> bool:
    return len(cells) > 1 and list(cells) == [str(number) for number in range(len(cells))]


def _judge(columns: Sequence[int], records: Records) -> tuple[set[int], set[int]]:
    """Return those of ``columns`` that count the rows from 0, and those whose cells are all empty."""
    counting, blank = set(columns), set(columns)
    for number, row in enumerate(islice(records(), 1, None)):
        for column in columns if row is not None else ():
            cell = row[column] if row and column < len(row) else ""
            if cell != str(number):
                counting.discard(column)
            if cell:
                blank.discard(column)
        if not counting and not blank:
            break
    return counting - blank, blank
