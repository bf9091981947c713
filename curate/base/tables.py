"""Plain tables and counts for the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> Iterator[str]:
    """Yield the lines of a table: the first ``left`` columns flush left, the others (numbers) flush right.

    Cells are single-line text that is safe to print; wide characters count as two columns.
    """
    widths = [max(map(width_of, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = [
            padded(cell, width, is_left=index < left)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def counted(number: int, noun: str) -> str:
    """Return "1 record", "2 records" or "1,000 records"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def padded(cell: str, width: int, *, is_left: bool = True) -> str:
    """Return ``cell`` with blanks up to ``width`` terminal cells, flush left or right."""
    gap = " " * (width - width_of(cell))
    return cell + gap if is_left else gap + cell


def width_of(cell: str) -> int:
    """Return how many terminal cells a text takes: wide characters count as two, combining marks as none."""
    spacing = (character for character in cell if not unicodedata.combining(character))
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in spacing)
