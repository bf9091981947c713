"""The characters that the UI itself draws with: pretty ones, or ASCII alone for terminals that have nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """One set of characters; what comes from the data is not among them."""

    is_ascii: bool
    ellipsis: str
    newline: str
    rule: str
    upright: str
    bar: str  # One full cell of a bar.
    rest: str  # One cell of a bar that is not full.
    border: str  # The Textual border type of boxes.
    levels: str  # Heights of a column, from nothing to all.
    unknown: str  # What stands for one character that cannot be shown, where its code point has no room.


PRETTY = Glyphs(False, "…", "⏎", "─", "│", "█", "░", "round", " ▁▂▃▄▅▆▇█", "¤")
ASCII = Glyphs(True, "...", "<LF>", "-", "|", "#", ".", "ascii", " .,:-=+*#", "?")

_current = PRETTY
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")

# What Textual's own widgets draw with, and the ASCII character in its place; for the rest of the box drawing block a
# corner. In ASCII the data's own characters of this kind are shown by their code points, so that none is mistaken.
DRAWN = {
    **dict.fromkeys("─━┄┅┈┉╌╍╴╶╸╺╼╾═▔‾", "-"),
    **dict.fromkeys("│┃┆┇┊┋╎╏╵╷╹╻║▏▎▍▌▋▊▉▐▕", "|"),
    **dict.fromkeys("▁▂", "_"), "▃": ".", "▄": "-", "▅": "=", "▆": "+", **dict.fromkeys("▀▇█▓▙▟▛▜■", "#"),
    "░": ".", "▒": ":", "▖": "_", "▗": "_", "▘": "-", "▝": "-", "▚": "#", "▞": "#",
    "●": "*", "•": "*", "○": "o", "▼": "v", "▾": "v", "▲": "^", "▶": ">", "▸": ">", "◀": "<", "…": ".", "✔": "x",
    "→": ">", "←": "<", "↑": "^", "↓": "v", "×": "x", "✓": "x", "✗": "x",
}  # fmt: skip
DRAWN.update({chr(code): "+" for code in range(0x2500, 0x2580) if chr(code) not in DRAWN})


def glyphs() -> Glyphs:
    """Return the set in use."""
    return _current


def use_glyphs(chosen: Glyphs) -> None:
    """Draw with ``chosen`` from now on: there is one terminal to a process, so there is one set."""
    global _current  # noqa: PLW0603  the terminal is as global as this is
    _current = chosen


def is_ascii_wanted() -> bool:
    """Whether the locale says that the terminal shows ASCII alone: C or POSIX, and no word of UTF-8."""
    names = ["LC_ALL", "LC_CTYPE", "LANG"]
    # Under the locale C, Python itself sets this one before it begins (PEP 538).
    if os.environ.get("LC_CTYPE") in _COERCED:
        names.remove("LC_CTYPE")
    for name in names:
        if value := os.environ.get(name, ""):
            return value in ("C", "POSIX")
    return False


def bar(share: float, width: int) -> str:
    """Return a bar of ``width`` cells of which ``share`` (0 to 1) is full; something above nothing shows one cell."""
    full = round(max(0.0, min(1.0, share)) * width)
    if share > 0 and not full and width:
        full = 1
    return _current.bar * full + _current.rest * (width - full)


def columns(counts: Sequence[int]) -> str:
    """Return one character for each of ``counts``, as high as it is beside the largest; nothing only for nought."""
    highest = max(counts, default=0)
    steps = len(_current.levels) - 1
    return "".join(_current.levels[-(-count * steps // highest) if highest else 0] for count in counts)
