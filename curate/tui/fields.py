"""Fields to type in whose text, which may come from the data, is made visible as everything else is.

What is edited stays as it is; only what is drawn has one harmless glyph in place of each character that could steer,
deceive or shift a terminal. One for one, so that the cursor stands where it seems to stand.
"""

from __future__ import annotations

from typing import Any

from rich.highlighter import Highlighter
from rich.text import Text
from textual.geometry import Size
from textual.reactive import Reactive
from textual.widgets import Input, Static, TextArea

from curate.tui.border import same_length


class _SafeHighlighter(Highlighter):
    def highlight(self, text: Text) -> None:
        """Make ``text`` visible in place."""
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
        """Return the line as it is drawn."""
        return Text(same_length(self.document.get_line(line_index)), end="", no_wrap=True)


def update_if_other(widget: Static, text: Text) -> None:
    """Show ``text``, unless it is shown: an update lays everything out anew."""
    if widget.content != text:
        widget.update(text)
