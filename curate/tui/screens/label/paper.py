"""Text that is exchanged often: a new one costs its own lines, and moves nothing around it.

Textual lays out the whole screen when a `Static` changes, or what a `ScrollView` can scroll over, for something might
have another height. That takes longer than all else that answering a record does.
"""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from curate.tui.glyphs import glyphs


class Paper(Widget, can_focus=True):
    """A pane of wrapped text that scrolls; its last line says how many lines are below it."""

    def __init__(self, *, id: str, classes: str = "") -> None:
        """Begin empty."""
        super().__init__(id=id, classes=classes)
        self._text = Text()
        self._lines: list[list[Segment]] = []
        self._strips: list[Strip] = []
        self._style = Style.null()
        self._top = 0

    def show(self, text: Text) -> None:
        """Show ``text`` from its beginning, unless it is shown already."""
        if text == self._text and text.spans == self._text.spans:
            return
        if text.plain != self._text.plain:
            self._top = 0
        self._text = text
        self._wrap()

    def scroll_lines(self, lines: int) -> None:
        """Show what is so many lines further down, or up."""
        top = max(0, min(self._top + lines, len(self._strips) - self.size.height))
        if top != self._top:
            self._top = top
            self.refresh()

    def on_resize(self, _event: events.Resize) -> None:
        """Wrap anew for another width."""
        self._wrap()
        self.scroll_lines(0)

    def notify_style_update(self) -> None:
        """Draw with other colours."""
        super().notify_style_update()
        self._wrap()

    def on_mouse_scroll_down(self) -> None:
        """Scroll with the wheel."""
        self.scroll_lines(2)

    def on_mouse_scroll_up(self) -> None:
        """Scroll with the wheel."""
        self.scroll_lines(-2)

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        place, width = y + self._top, self.size.width
        below = len(self._strips) - self._top - self.size.height
        if below > 0 and y == self.size.height - 1:
            more = Text.assemble((f"{glyphs().ellipsis} {below + 1:,} more lines (j k)", "muted"))
            return self._strip(self._wrapped(more)[0])
        return self._strips[place] if place < len(self._strips) else Strip.blank(width, self.rich_style)

    def _wrap(self) -> None:
        width = self.size.width
        if width <= 0 or not self.is_attached:
            return
        lines, before, style = self._wrapped(self._text), self._strips, self.rich_style
        is_same = style == self._style and bool(before) and before[0].cell_length == width
        known = self._lines if is_same else []
        self._lines, self._style = lines, style
        # A line that stays as it was is not drawn again; in the pane beside that is nearly every one.
        self._strips = [
            before[y] if y < len(known) and known[y] == line else self._strip(line) for y, line in enumerate(lines)
        ]
        height = self.size.height
        if self._top or max(len(before), len(lines)) > height or not is_same:
            self.refresh()
            return
        longest = max(len(before), len(lines))
        changed = [y for y in range(longest) if before[y : y + 1] != self._strips[y : y + 1]]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def _wrapped(self, text: Text) -> list[list[Segment]]:
        console = self.app.console
        options = console.options.update(width=self.size.width, height=None)
        return list(Segment.split_lines(console.render(text, options)))

    def _strip(self, line: list[Segment]) -> Strip:
        return Strip(line).crop_extend(0, self.size.width, None).apply_style(self._style)


class Panel(Static):
    """A `Static` that has everything around it laid out anew only when it has another height."""

    def show(self, text: Text) -> None:
        """Show ``text``, unless it is shown already."""
        old = self.content
        if isinstance(old, Text) and text == old and text.spans == old.spans:
            return
        self.update(text, layout=self._height_of(text) != self.size.height)

    def _height_of(self, text: Text) -> int:
        width = self.size.width
        return len(text.wrap(self.app.console, width)) if width and text.plain else 0
