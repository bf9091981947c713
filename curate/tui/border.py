"""The display border: the characters that we draw with, and the only way in which text of the data comes to a widget.

`console.visible` decides what is harmless; here its result becomes a `rich.text.Text`, which no widget parses for
markup. A plain ``str`` of the data must never reach a widget: Textual would take ``[/foo]`` for markup and fail.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text

from curate.base import console

_PLAIN = re.compile(r"[ -~]*")
_ODD = re.compile(r"[^\n -~]")
# Rich counts what a joiner joins as part of the character before, and a selector may widen that character.
_JOINT = re.compile("\u200d.?|\ufe0f", re.DOTALL)
# Letters and marks by their category, and yet nothing is seen of them: fillers, variation selectors, blank patterns.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_PILE = re.compile(f"({_MARK}{{4}})({_MARK}+)")
_TAB = 4


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


def safe(text: str) -> str:
    """Return ``text`` with nothing in it that could steer, deceive or shift a terminal; newlines stay.

    What `console.visible` shows as glyphs or code points is shown so; invisible letters and variation selectors become
    code points too, tabs become blanks, and of marks piled on one letter those from the fifth on are counted.
    """
    if _PLAIN.fullmatch(text):
        return text
    if "\t" in text:
        text = text.expandtabs(_TAB)
    return _ODD.sub(
        lambda odd: _visible_character(odd[0], glyphs().is_ascii),
        _PILE.sub(lambda pile: f"{pile[1]}<+{len(pile[2])} marks>", text),
    )


def dotted(text: str) -> str:
    """Return ``text`` with the dots of hidden values as this terminal can show them."""
    return text.replace("·", "*") if glyphs().is_ascii else text


def safe_line(text: str, limit: int | None = None) -> str:
    """Return ``text`` safe and on one line, cut to ``limit`` characters with an ellipsis that shows it."""
    # What is cut away need not be looked at: a record may be megabytes.
    piece = text if limit is None else text[: limit + 1]
    flat = safe(piece.replace("\n", glyphs().newline).replace("\t", " ")) if not _PLAIN.fullmatch(piece) else piece
    # The newline glyph is ours, and a glyph of the data that looks the same is harmless.
    if limit is None or (len(flat) <= limit and len(text) <= limit):
        return flat
    end = glyphs().ellipsis[:limit]
    return flat[: limit - len(end)] + end


def safe_text(text: str, limit: int | None = None, style: str | Style = "") -> Text:
    """Return ``text`` as one line that any widget may show: visible, at most ``limit`` characters, never markup.

    ``style`` is a name of `curate.tui.themes` ("ok", "warn", "error", "dropped", "muted", "strong", "accent", "key"),
    or whatever Rich takes for a style.
    """
    return Text(safe_line(text, limit), style=style, no_wrap=True, end="")


def safe_lines(text: str, style: str | Style = "") -> Text:
    """Return ``text`` with its line breaks, for widgets that wrap; otherwise as `safe_text`."""
    return Text(safe(text), style=style, end="")


def cut_middle(text: str, width: int) -> str:
    """Return the name ``text`` safe and on one line, its middle left out where it has more than ``width`` cells.

    Ids and paths differ at their ends: of `rec-0000017` and `data/a.jsonl:214` it is the end that says which one.
    """
    # A cell holds no more than so many characters, and an id may be of any length.
    is_long = len(text) > 8 * width + 32
    flat = safe_line(text[: 4 * width] + text[-4 * width :] if is_long else text)
    if cell_len(flat) <= width and not is_long:
        return flat
    mark = glyphs().ellipsis[:width]
    head = (width - len(mark)) // 3
    return set_cell_size(flat, head) + mark + _end_of(flat, width - len(mark) - head)


def cut_around(text: str, start: int, end: int, width: int) -> str:
    """Return ``text`` safe and on one line, cut on both sides to ``width`` cells, ``text[start:end]`` in their middle.

    What is wider than ``width`` itself loses its end.
    """
    core = safe_line(text[start:end])
    room = width - cell_len(core)
    if room <= 0:
        return cell(core, width)
    # A cell holds no more than so many characters.
    before, after = safe_line(text[max(0, start - 4 * width) : start]), safe_line(text[end : end + 4 * width])
    # What one side does not need the other one gets.
    left = min(cell_len(before), max(room // 2, room - cell_len(after)))
    right, mark = room - left, glyphs().ellipsis
    if cell_len(before) > left or start > 4 * width:
        before = mark[:left] + _end_of(before, left - len(mark[:left]))
    if cell_len(after) > right or len(text) - end > 4 * width:
        after = set_cell_size(after, right - len(mark[:right])) + mark[:right]
    return before + core + after


def _end_of(flat: str, width: int) -> str:
    """Return the last ``width`` cells of a safe text, with a blank where half a character would stand."""
    end = flat
    while cell_len(end) > width:
        # At least one character goes each time, and for text of single cells this is one step.
        end = end[max(1, len(end) - width) :]
    return " " * (width - cell_len(end)) + end


def cell(text: str, width: int, *, is_right: bool = False) -> str:
    """Return ``text`` safe, on one line, exactly ``width`` terminal cells wide, with an ellipsis where it was cut."""
    # A cell cannot hold more than so many characters, and rows must not cost what their records weigh.
    flat = safe_line(text[: 4 * width + 16])
    if cell_len(flat) > width or len(text) > 4 * width + 16:
        end = glyphs().ellipsis[:width]
        return set_cell_size(flat, width - len(end)) + end
    return " " * (width - cell_len(flat)) + flat if is_right else set_cell_size(flat, width)


@lru_cache(maxsize=4096)
def _visible_character(character: str, is_ascii: bool) -> str:
    if character == glyphs().newline:
        return character
    visible = console.visible(character)
    if is_ascii and character in DRAWN:
        return f"<U+{ord(character):04X}>"
    if visible != character:
        return f"<U+{ord(character):04X}>" if is_ascii else visible
    return f"<U+{ord(character):04X}>" if _UNSEEN.match(character) else character


def same_length(text: str) -> str:
    """Return ``text`` safe with one character for each of its own, for fields in which a cursor moves; tabs stay."""
    if _PLAIN.fullmatch(text):
        return text
    characters = (char if char in "\n\t" else _visible_character(char, glyphs().is_ascii) for char in text)
    return "".join(char if len(char) == 1 else glyphs().unknown for char in characters)


def harmless(text: str) -> str:
    """Return drawn ``text`` without characters that steer or deceive a terminal, as many cells wide as before.

    With ASCII glyphs, what Textual's widgets draw is drawn in ASCII.
    """
    return text if _PLAIN.fullmatch(text) else _drawn(text, glyphs().is_ascii)


@lru_cache(maxsize=4096)
def _drawn(text: str, is_ascii: bool) -> str:
    drawn, end = "", 0
    for joint in _JOINT.finditer(text):
        width = cell_len(text[: joint.end()]) - cell_len(text[: joint.start()])
        drawn += _drawn(text[end : joint.start()], is_ascii) + glyphs().unknown * width
        end = joint.end()
    return drawn + "".join(_cells_of(character, is_ascii) for character in text[end:])


def _cells_of(character: str, is_ascii: bool) -> str:
    if is_ascii and character in DRAWN:
        return DRAWN[character]
    if character not in "\n\t" and _visible_character(character, is_ascii) == character:
        return character
    return glyphs().unknown * cell_len(character)


Severity = Literal["ok", "warn", "error"]

SIGNS: dict[str, str] = {"ok": "", "warn": "~ warn ", "error": "! error "}
# Sign and style of a finding by its severity: a terminal may have no colour, so that the sign says it too.
FINDING_SIGNS: dict[str, tuple[str, str]] = {
    "error": ("! error", "error"),
    "warning": ("~ warn", "warn"),
    "info": ("info", "muted"),
}
