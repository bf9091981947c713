"""Texts of records as several screens draw them: cut where they are too long, or by the words that changed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from curate.project.diff.words import word_changes
from curate.tui.border import glyphs, safe_lines

MOST_TEXT = 20_000  # Characters of one text that are drawn; how many more there are is said.
HIT = "underline bold reverse"  # No colour: there may be none.
_MARKS = {"removed": ("[-", "-]"), "added": ("[+", "+]")}


def limited(text: str, style: str = "") -> Text:
    """Return a text as lines, cut where it is too long to draw; what is left out is counted."""
    return marked(text, (), style)


def marked(text: str, spans: Sequence[tuple[int, int]], style: str = "") -> Text:
    """Return a text as `limited` does, with the ``spans`` of it, in order and apart, in the style `HIT`."""
    drawn, end = Text(), 0
    for low, high in spans:
        if high <= MOST_TEXT:
            drawn.append_text(safe_lines(text[end:low], style)).append_text(safe_lines(text[low:high], HIT))
            end = high
    rest = f"{glyphs().ellipsis} {len(text) - MOST_TEXT:,} more characters are not drawn; Y copies them all"
    drawn.append_text(safe_lines(text[end:MOST_TEXT], style))
    return drawn.append("\n" + rest, "muted") if len(text) > MOST_TEXT else drawn


def changed_words(before: str, after: str) -> Text:
    """Return what became of a text; the words that went and came stand in brackets."""
    text = Text()
    for what, piece in word_changes(before, after):
        head, tail = _MARKS.get(what, ("", ""))
        style = what if what in _MARKS else ""
        text.append_text(Text.assemble((head, style), limited(piece, style), (tail, style)))
    return text
