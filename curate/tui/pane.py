"""A pane of text that scrolls with the keys that move in lists."""

from __future__ import annotations

from textual.binding import Binding
from textual.containers import VerticalScroll


class Pane(VerticalScroll):
    """A `VerticalScroll` with vim's keys; `g g` and ``G`` go to its ends."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("j", "scroll_down", "Scroll down", show=False, id="pane.down"),
        Binding("k", "scroll_up", "Scroll up", show=False, id="pane.up"),
        Binding("ctrl+d", "page_down", "Page down", show=False, id="pane.page_down"),
        Binding("ctrl+u", "page_up", "Page up", show=False, id="pane.page_up"),
        Binding("G", "scroll_end", "Last line", show=False, id="pane.bottom"),
    ]
