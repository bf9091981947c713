"""A pane of text that is exchanged often, wrapped as far as somebody looks.

A new text costs its own lines, and moves nothing around it: Textual lays out the whole screen when what a `ScrollView`
can scroll over changes, which takes longer than all else that answering a record does. What lies below the pane costs
nothing until it is scrolled to.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from curate.tui.border import glyphs

_PIECE = 2_000  # Characters that are wrapped at a time, and that are wrapped at any rate.


class Wrapped:
    """The lines of a text without tabs, as many as were asked for."""

    def __init__(self, text: Text, console: Console, width: int) -> None:
        self.lines: list[list[Segment]] = []
        self.is_whole = False  # Whether these are all the lines that there are.
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


class Paper(Widget, can_focus=True):
    """A pane of wrapped text that scrolls; its last line says that there are lines below it."""

    def __init__(self, *, id: str, classes: str = "") -> None:
        super().__init__(id=id, classes=classes)
        self.text = Text()  # What is shown, or could be scrolled to.
        self._wrapped: Wrapped | None = None
        self._drawn_lines: list[list[Segment]] = []
        self._strips: list[Strip] = []
        self._drawing_state: tuple[Size, Style] | None = None
        self._top = 0

    def show(self, text: Text) -> None:
        """Show ``text`` from its beginning, unless it is shown already."""
        if text == self.text:
            return
        if text.plain != self.text.plain:
            self._top = 0
        self.text = text
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
        self._wrap()
        self.scroll_lines(0)

    def notify_style_update(self) -> None:
        """Draw with other colours."""
        super().notify_style_update()
        self._wrap()

    def on_mouse_scroll_down(self) -> None:
        self.scroll_lines(2)

    def on_mouse_scroll_up(self) -> None:
        self.scroll_lines(-2)

    def render_line(self, y: int) -> Strip:
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _wrap(self) -> None:
        width = self.size.width
        if width > 0 and self.is_attached:
            self._wrapped = Wrapped(self.text, self.app.console, width)
            self._draw_lines(self._wrapped)

    # Draw the lines that are seen now, but for those that stay as they were: in the pane beside nearly all do.
    def _draw_lines(self, wrapped: Wrapped) -> None:
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
