"""A curve in blocks, or in ASCII, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence

from curate.sessions.metrics import thinned
from curate.tui.glyphs import glyphs

_LABEL = 7


def chart(values: Sequence[float], width: int, height: int) -> list[str]:
    """Return ``height`` lines of at most ``width`` cells that draw ``values`` from left to right.

    Neighbours share a column where there are more values than columns: it shows their mean. The highest and the lowest
    column are named at the left; the scale begins at the lowest.
    """
    points = thinned(values, max(1, width - _LABEL - 1))
    if not points or height < 1:
        return []
    low, high = min(points), max(points)
    levels = glyphs().levels
    steps = len(levels) - 1
    span = high - low
    # The lowest column is seen too.
    heights = [1 + round((value - low) / span * (height * steps - 1)) if span else steps for value in points]
    lines = []
    for row in range(height):
        base = (height - 1 - row) * steps
        label = high if row == 0 else low if row == height - 1 else None
        text = "" if label is None else _number(label)
        lines.append(
            f"{text:>{_LABEL - 1}} {glyphs().upright}"
            + "".join(levels[_clamp(level - base, steps)] for level in heights)
        )
    return lines


def _clamp(value: int, most: int) -> int:
    return max(0, min(most, value))


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.0e}"
