"""Plain tables, counts, bars and histograms for a terminal of any width."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉█"


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


def listed(names: Sequence[str], most: int = 3, spell: Callable[[str], str] = str) -> str:
    """Return "a, b, c and 2 more": at most so many of ``names``, each as ``spell`` has it, and how many others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(spell, names[:most])) + more


def padded(cell: str, width: int, *, is_left: bool = True) -> str:
    """Return ``cell`` with blanks up to ``width`` terminal cells, flush left or right."""
    gap = " " * (width - width_of(cell))
    return cell + gap if is_left else gap + cell


def width_of(cell: str) -> int:
    """Return how many terminal cells a text takes: wide characters count as two, combining marks as none."""
    spacing = (character for character in cell if not unicodedata.combining(character))
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in spacing)


def bars(
    names: Sequence[str], values: Sequence[float], *, labels: Sequence[str] = (), width: int = 78
) -> Iterator[str]:
    """Yield a horizontal bar for each value in lines of at most ``width`` cells: name, number, bar.

    ``names`` are single-line texts that are safe to print; ``labels`` stands in for the numbers.
    """
    texts = labels or [f"{value:,}" for value in values]
    left, middle = max(map(width_of, names), default=0), max(map(width_of, texts), default=0)
    room = max(8, width - left - middle - 4)
    top = max(values, default=0) or 1
    for name, text, value in zip(names, texts, values, strict=True):
        drawn = bar(value / top, room)
        yield f"{padded(name, left)}  {padded(text, middle, is_left=False)}  {drawn}".rstrip()


def bar(share: float, width: int) -> str:
    """Return a bar that fills ``share`` (0 to 1) of ``width`` cells; what is not zero shows at least a sliver."""
    eighths = max(1, round(share * width * 8)) if share > 0 else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def bins(values: Sequence[float], most: int = 12) -> list[tuple[float, float, int]]:
    """Return (from, to, number of values) of bins with round edges; a value at ``to`` belongs to the next bin.

    Values that span more than two decades get bins that double or grow by 2, 5, 10; else all are equally wide.
    """
    if not values:
        return []
    edges = _edges(min(values), max(values), most)
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[bisect(edges, value, 1) - 1] += 1
    return list(zip(edges, edges[1:], counts, strict=False))


def _edges(low: float, high: float, most: int) -> list[float]:
    if low >= 0 and high > 100 * max(low, 1):
        edges: list[float] = [0]
        step = 1.0
        while edges[-1] <= high:
            edges += [step, 2 * step, 5 * step]
            step *= 10
        first = max(number for number, edge in enumerate(edges) if edge <= low)
        last = next(number for number, edge in enumerate(edges) if edge > high)
        return edges[first : last + 1]
    step = _round_step((high - low) / most or 1)
    start = math.floor(low / step) * step
    edges = [start]
    while edges[-1] <= high:
        edges.append(start + len(edges) * step)
    return edges


def _round_step(step: float) -> float:
    decade = 10.0 ** math.floor(math.log10(step))
    return next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= step * (1 - 1e-9))
