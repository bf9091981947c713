"""Widgets that screens share: fields to type in, texts that are exchanged often, panes that scroll.

Text in a field may come from the data, and is made visible as everything else is. What is edited stays as it is; only
what is drawn has one harmless glyph in place of each character that could steer, deceive or shift a terminal. One for
one, so that the cursor stands where it seems to stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.highlighter import Highlighter
from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.reactive import Reactive
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from curate.tui.border import same_length


class _SafeHighlighter(Highlighter):
    def highlight(self, text: Text) -> None:
        text.plain = same_length(text.plain)


class SafeInput(Input):
    """An `Input` for text of the data."""

    # A field keeps its place however long its text is: Textual's own lays out the whole screen anew with each letter.
    virtual_size = Reactive(Size(0, 0), layout=False)

    def __init__(self, value: str | None = None, **options: Any) -> None:
        """Take what `Input` takes, but for a highlighter; a ``placeholder`` is made visible too."""
        options["placeholder"] = same_length(options.get("placeholder", ""))
        super().__init__(value, highlighter=_SafeHighlighter(), **options)


class SafeTextArea(TextArea):
    """A `TextArea` for text of the data."""

    def get_line(self, line_index: int) -> Text:
        return Text(same_length(self.document.get_line(line_index)), end="", no_wrap=True)


def hanging(head: Text, text: Text, width: int) -> Text:
    """Return ``text`` after ``head``, in lines of at most ``width`` cells that begin below its own beginning."""
    lines = text.wrap(Console(width=width), max(12, width - head.cell_len)) or [text]
    indent = " " * head.cell_len
    parts = [Text.assemble(indent if number else head, line) for number, line in enumerate(lines)]
    for part in parts:
        part.rstrip()
    return Text("\n").join(parts)


class Panel(Static):
    """A `Static` that has everything around it laid out anew only when it has another height.

    Textual lays out the whole screen when a `Static` changes, which takes longer than all else that a key does.
    """

    def show(self, text: Text) -> None:
        """Show ``text``, unless it is shown already."""
        if text != self.content:
            self.update(text, layout=self._needs_layout(text))

    def _needs_layout(self, text: Text) -> bool:
        height, most = self.styles.height, self.styles.max_height
        if height is not None and not height.is_auto:
            return False
        if not self.size.width:
            return True
        lines = len(text.wrap(self.app.console, self.size.width)) if text.plain else 0
        return (min(lines, int(most.value)) if most else lines) != self.size.height


class Pause:
    """A wait that each key begins anew, until what the keys ask for is worth doing."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._timer: Timer | None = None

    def begin(self, seconds: float, then: Callable[[], object]) -> None:
        """Do ``then`` after ``seconds``, and not what was to be done before."""
        self.end()

        def done() -> object:
            self._timer = None
            return then()

        self._timer = self._widget.set_timer(seconds, done)

    def end(self) -> None:
        """Wait no longer, and do nothing."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None


class Pane(VerticalScroll):
    """A `VerticalScroll` with vim's keys; `g g` and ``G`` go to its ends."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("j", "scroll_down", "Scroll down", show=False, id="pane.down"),
        Binding("k", "scroll_up", "Scroll up", show=False, id="pane.up"),
        Binding("ctrl+d", "page_down", "Page down", show=False, id="pane.page_down"),
        Binding("ctrl+u", "page_up", "Page up", show=False, id="pane.page_up"),
        Binding("G", "scroll_end", "Last line", show=False, id="pane.bottom"),
    ]
