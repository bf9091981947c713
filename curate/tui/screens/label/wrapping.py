"""Text wrapped as far as somebody looks: what lies below that costs nothing until it is scrolled to."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

_PIECE = 2_000
"""Characters that are wrapped at a time, and that are wrapped at any rate."""


class Wrapped:
    """The lines of a text without tabs, as many as were asked for."""

    def __init__(self, text: Text, console: Console, width: int) -> None:
        """Wrap ``text`` at ``width`` cells."""
        self.lines: list[list[Segment]] = []
        self.is_whole = False
        """Whether these are all the lines that there are."""
        self._rest = _lines_of(text, console, width)
        self._is_short = len(text) <= _PIECE

    def take(self, count: int) -> None:
        """Have at least the first ``count`` lines, or all of them where there are fewer, or the text is short."""
        while not self.is_whole and (self._is_short or len(self.lines) < count):
            line = next(self._rest, None)
            if line is None:
                self.is_whole = True
            else:
                self.lines.append(line)


def _lines_of(text: Text, console: Console, width: int) -> Iterator[list[Segment]]:
    start, size, is_last = 0, _PIECE, False
    while not is_last:
        is_last = start + size >= len(text)
        piece = text[start : start + size]
        if not is_last:
            # A line that ends in blanks would come without them.
            piece.rstrip()
        lines = piece.wrap(console, width)
        if not is_last:
            if len(lines) == 1:
                size *= 2
                continue
            # Where the last line breaks hangs on what comes after the piece.
            start += len(piece) - len(lines.pop())
        size = _PIECE
        for line in lines:
            yield list(line.render(console))
