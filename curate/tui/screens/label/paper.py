"""Text that is exchanged often: a new one costs its own lines, and moves nothing around it.

Textual lays out the whole screen when a `Static` changes, or what a `ScrollView` can scroll over, for something might
have another height. That takes longer than all else that answering a record does.
"""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from curate.tui.glyphs import glyphs
from curate.tui.screens.label.wrapping import Wrapped


class Paper(Widget, can_focus=True):
    """A pane of wrapped text that scrolls; its last line says that there are lines below it."""

    def __init__(self, *, id: str, classes: str = "") -> None:
        """Begin empty."""
        super().__init__(id=id, classes=classes)
        self._text = Text()
        self._wrapped: Wrapped | None = None
        self._drawn_lines: list[list[Segment]] = []
        self._strips: list[Strip] = []
        self._drawing_state: tuple[Size, Style] | None = None
        self._top = 0

    def show(self, text: Text) -> None:
        """Show ``text`` from its beginning, unless it is shown already."""
        if text == self._text:
            return
        if text.plain != self._text.plain:
            self._top = 0
        self._text = text
        self._wrap()

    def scroll_lines(self, lines: int) -> None:
        """Show what is so many lines further down, or up."""
        if self._wrapped is None:
            return
        height = self.size.height
        self._wrapped.take(self._top + lines + height)
        self._top = max(0, min(self._top + lines, len(self._wrapped.lines) - height))
        self._draw_lines(self._wrapped)

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
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _wrap(self) -> None:
        width = self.size.width
        if width > 0 and self.is_attached:
            self._wrapped = Wrapped(self._text, self.app.console, width)
            self._draw_lines(self._wrapped)

    def _draw_lines(self, wrapped: Wrapped) -> None:
        """Draw the lines that are seen now, but for those that stay as they were: in the pane beside nearly all do."""
        height, drawing_state = self.size.height, (self.size, self.rich_style)
        wrapped.take(self._top + height + 1)
        visible = wrapped.lines[self._top : self._top + height]
        num_below = len(wrapped.lines) - self._top - height
        if visible and num_below > 0:
            count = f"{num_below + 1:,} " if wrapped.is_whole else ""
            more = Text(f"{glyphs().ellipsis} {count}more lines (j k)", "muted")
            visible[-1] = list(more.render(self.app.console))
        before, strips = (self._drawn_lines, self._strips) if drawing_state == self._drawing_state else ([], [])
        same = [y < len(before) and before[y] == line for y, line in enumerate(visible)]
        self._strips = [strips[y] if same[y] else _strip(line, *drawing_state) for y, line in enumerate(visible)]
        changed = [y for y in range(max(len(before), len(visible))) if y >= len(visible) or not same[y]]
        if drawing_state != self._drawing_state:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))
        self._drawn_lines, self._drawing_state = visible, drawing_state


def _strip(line: list[Segment], size: Size, style: Style) -> Strip:
    return Strip(line).crop_extend(0, size.width, None).apply_style(style)


class Panel(Static):
    """A `Static` that has everything around it laid out anew only when it has another height."""

    def show(self, text: Text) -> None:
        """Show ``text``, unless it is shown already."""
        if isinstance(self.content, Text) and text == self.content:
            return
        self.update(text, layout=self._needs_layout(text))

    def _needs_layout(self, text: Text) -> bool:
        height, most = self.styles.height, self.styles.max_height
        if height is not None and not height.is_auto:
            return False
        lines = len(text.wrap(self.app.console, self.size.width)) if self.size.width and text.plain else 0
        return (min(lines, int(most.value)) if most else lines) != self.size.height
