"""A table of any length that draws only the rows in sight: they are asked for in windows of 256.

Textual's own table measures every cell and takes 16 s of CPU time for 100,000 rows; this one takes the same few
milliseconds for 100 and for a million.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from curate.tui.border import cell, cut_middle

WINDOW = 256
_GUTTER = 3
_NARROWEST = 8
_LONGEST_NAME, _LONGEST_TEXT = 60, 240  # Characters from which on nothing is measured.

Tone = Literal["", "ok", "warn", "error", "muted"]


def tone_of_sign(value: str) -> Tone:
    """Return how a cell with a sign of severity is drawn: ! for an error, ~ for a warning."""
    return "error" if "!" in value else "warn" if "~" in value else ""


class Rows(Protocol):
    """What a table shows: a list, or whatever knows how many rows it has and can hand over a slice of them.

    A row is a tuple of text, raw from the data: the table makes it visible. It may hold more than there are columns;
    one of its values, by default the first, names the row.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, window: slice, /) -> Sequence[tuple[str, ...]]: ...


@dataclass(frozen=True)
class Column:
    """One column: its head, its width in cells (0: what the others leave), and how its values look.

    ``is_name`` is for ids and paths, whose middle is cut and not their end; ``cut`` takes a value and the width where
    something else is to be cut. One that ``is_snug`` takes no more than its values need, as far as they were in sight,
    and leaves the rest to the others. A name with a width takes more where columns without one have no use for it.
    """

    title: str
    width: int = 0
    is_right: bool = False
    tone: Callable[[str], Tone] | None = None
    is_name: bool = False
    is_snug: bool = False
    cut: Callable[[str, int], str] | None = None


class FrameTable(ScrollView, can_focus=True):
    """Rows under a fixed head, with a cursor, marks that stay with their rows, and a range to mark many at once."""

    COMPONENT_CLASSES = {  # noqa: RUF012  Textual declares it so
        "frame-table--head", "frame-table--cursor", "frame-table--range", "frame-table--ok", "frame-table--warn",
        "frame-table--error", "frame-table--muted",
    }  # fmt: skip

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("down,j", "move(1)", "Down", show=False, id="table.down"),
        Binding("up,k", "move(-1)", "Up", show=False, id="table.up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.page_down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.page_up"),
        Binding("ctrl+d", "page(0.5)", "Half a page down", show=False, id="table.half_down"),
        Binding("ctrl+u", "page(-0.5)", "Half a page up", show=False, id="table.half_up"),
        Binding("home", "top", "First row", show=False, id="table.top"),
        Binding("end,G", "bottom", "Last row", show=False, id="table.bottom"),
        Binding("space", "mark", "Mark", show=False, id="table.mark"),
        Binding("v", "range", "Range", show=False, id="table.range"),
        Binding("escape", "clear", "End range", show=False, id="table.clear"),
        Binding("enter", "open", "Open", show=False, id="table.open"),
    ]

    # Index of the row under the cursor; 0 also where there is no row.
    cursor: reactive[int] = reactive(0, repaint=False)

    class Moved(Message):
        """The cursor stands on another row, or other rows came; ``key`` is "" where there is no row."""

        def __init__(self, table: FrameTable, row: int, key: str) -> None:
            super().__init__()
            self.table, self.row, self.key = table, row, key

    class Opened(Moved):
        """Enter or a second click on a row."""

    class HeadClicked(Message):
        """A click on the head of the column ``column``, from 0."""

        def __init__(self, table: FrameTable, column: int) -> None:
            super().__init__()
            self.table, self.column = table, column

    class Marked(Message):
        """The marks changed, or a range was begun or ended; see `FrameTable.marks` and `FrameTable.span`."""

    class Resized(Message):
        """The table has another size, or its first."""

    def __init__(
        self, columns: Sequence[Column], source: Rows | None = None, *, key: int = 0, can_mark: bool = True,
        id: str | None = None, classes: str | None = None,
    ) -> None:  # fmt: skip
        """Make a table of ``columns``; ``key`` is the index, in each row of ``source``, of the value that names it."""
        super().__init__(id=id, classes=classes)
        self.columns = list(columns)
        self.source: Rows = source if source is not None else []
        self.marks: set[str] = set()
        self.can_mark = can_mark
        self._key = key
        self._start = -1
        self._window: Sequence[tuple[str, ...]] = ()
        self._anchor: int | None = None
        self._num_widths = [0] * len(self.columns)
        self._look: tuple[Style, list[int]] | None = None
        self.empty = ""  # What is drawn in place of the rows where there are none: why, and what to press.

    # What screens call.

    def show(
        self, source: Rows, *, at: str = "", row: int | None = None, columns: Sequence[Column] | None = None
    ) -> None:
        """Show ``source`` in place of what was shown; marks stay.

        The cursor goes to ``row``, else to the one named ``at`` if it lies near where the cursor was, else to the
        next row of before that is still there, else stays where it is.
        """
        anchor = "" if self._anchor is None else self._key_of(self._anchor)
        # Where the cursor's row goes, the next one that stays takes its place.
        following = self._window[max(0, self.cursor - self._start) :] if self._start >= 0 else ()
        names = [at, *(row[self._key] for row in following)] if at else []
        self.source = source
        if columns is not None:
            self.columns = list(columns)
            self._num_widths = [0] * len(self.columns)
        self._start = -1
        self._measure()
        # A range goes on where its first row still is: what others decide must not change what a key acts on.
        index = self.index_near(anchor)
        self._anchor = index if anchor and self._key_of(index) == anchor else None
        wanted = self._index_of_first(names) if row is None else row
        self.set_reactive(FrameTable.cursor, self.validate_cursor(wanted))
        self._follow()
        self.refresh()
        self.post_message(self.Moved(self, self.cursor, self.current))

    def reread(self) -> None:
        """Ask for the rows in sight again, because their values changed, not their number or order."""
        self._start = -1
        self.refresh()

    @property
    def current(self) -> str:
        """What names the row under the cursor; "" where there is no row."""
        return self._key_of(self.cursor)

    def _key_of(self, index: int) -> str:
        row = self.row(index)
        return row[self._key] if row else ""

    def row(self, index: int) -> tuple[str, ...]:
        """Return the row at ``index``, raw; an empty tuple where there is none."""
        if not 0 <= index < len(self.source):
            return ()
        start = index // WINDOW * WINDOW
        if start != self._start:
            self._window = self.source[start : start + WINDOW]
            self._start = start
            self._make_room()
        return self._window[index - start] if index - start < len(self._window) else ()

    def chosen(self) -> list[str]:
        """Return what an action is for: the rows of the range, else the marked ones, else the one under the cursor."""
        if self.has_range:
            return [row[self._key] for row in self.source[self.span.start : self.span.stop]]
        return sorted(self.marks) if self.marks else [self.current] if self.current else []

    def clear_chosen(self) -> None:
        """End the range, after it was acted on; where there is none, take all marks away."""
        if self.has_range:
            self.action_clear()
        else:
            self.clear_marks()

    def clear_marks(self) -> None:
        """Take all marks away."""
        if self.marks:
            self.marks.clear()
            self.refresh()
            self.post_message(self.Marked())

    @property
    def has_range(self) -> bool:
        """Whether a range is open."""
        return self._anchor is not None

    @property
    def span(self) -> range:
        """Indices of the rows that the range covers; the cursor's alone without one."""
        if self._anchor is None:
            return range(self.cursor, self.cursor + 1)
        return range(min(self._anchor, self.cursor), max(self._anchor, self.cursor) + 1)

    @property
    def flexible_width(self) -> int:
        """Cells of the columns that share what the others leave; 0 where there is none."""
        return next((width for column, width in zip(self.columns, self._widths(), strict=True) if not column.width), 0)

    # Drawing.

    def on_mount(self) -> None:
        self._measure()

    def on_resize(self) -> None:
        self._measure()
        self._follow()
        self.post_message(self.Resized())

    def render_lines(self, crop: Region) -> list[Strip]:
        self.row(self.scroll_offset.y)
        self._look = None
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        width = self.size.width
        if self._look is None:
            # Textual goes up through all ancestors for a style.
            self._look = self.rich_style, self._widths()
        base, widths = self._look
        if y == 0:
            style = self.get_component_rich_style("frame-table--head")
            titles = tuple(column.title for column in self.columns)
            segments = self._segments(" " * _GUTTER, titles, widths, style)
        else:
            index = top + y - 1
            row = self.row(index)
            if not row:
                style = self.get_component_rich_style("frame-table--muted") if index == 0 and self.empty else base
                text = " " * _GUTTER + self.empty if index == 0 and not len(self.source) else ""
                return Strip([Segment(cell(text, width), style)])
            style = self._row_style(index, base)
            # The cursor's own colours must stay readable, so a tone only adds to rows that are not under it.
            segments = self._segments(self._gutter(index, row), row, widths, style, has_tones=style is base)
        return Strip(segments).crop_extend(left, left + width, style)

    def _row_style(self, index: int, base: Style) -> Style:
        if index == self.cursor:
            return self.get_component_rich_style("frame-table--cursor")
        if self._anchor is not None and index in self.span:
            return self.get_component_rich_style("frame-table--range")
        return base

    # Return the cursor and the mark as characters: neither is ever shown by colour alone.
    def _gutter(self, index: int, row: tuple[str, ...]) -> str:
        mark = "*" if row[self._key] in self.marks else "+" if self._anchor is not None and index in self.span else " "
        return f"{'>' if index == self.cursor else ' '}{mark} "

    def _segments(
        self, gutter: str, row: tuple[str, ...], widths: Sequence[int], style: Style, *, has_tones: bool = False
    ) -> list[Segment]:
        segments = [Segment(gutter, style)]
        for column, width, value in zip(self.columns, widths, row, strict=False):
            tone = column.tone(value) if column.tone and has_tones else ""
            cell_style = style + self.get_component_rich_style(f"frame-table--{tone}", partial=True) if tone else style
            cut = cut_middle if column.is_name else column.cut
            text = cut(value, width) if cut else value
            segments.append(Segment(cell(text, width, is_right=column.is_right), cell_style))
            segments.append(Segment(" ", style))
        return segments

    # Widen columns of numbers for those of the window: a number that is cut is another number. Snug ones grow as well.
    def _make_room(self) -> None:
        needed = list(self._num_widths)

        def measure(index: int, most: int | None) -> None:
            # What is longer than the column need not be measured to its end.
            lengths = (cell_len(row[index][:most]) for row in self._window if index < len(row))
            needed[index] = max(needed[index], max(lengths, default=0))

        for index, column in enumerate(self.columns):
            if column.is_right or column.is_snug:
                is_long = column.is_name or not column.width
                measure(index, None if column.is_right else _LONGEST_NAME if is_long else column.width + 1)
        if any(column.is_name and 0 < column.width < size for column, size in zip(self.columns, needed, strict=True)):
            for index in [index for index, column in enumerate(self.columns) if not column.width]:
                measure(index, _LONGEST_TEXT)
        if needed != self._num_widths:
            self._num_widths = needed
            self._measure()
            self.refresh()

    # Return the width of each column in cells; those without one share what the others leave.
    def _widths(self) -> list[int]:
        needed = [max(size, cell_len(col.title)) for size, col in zip(self._num_widths, self.columns, strict=True)]
        widths = [self._given(*pair) for pair in zip(self.columns, self._num_widths, strict=True)]
        fixed = sum(widths) + len(self.columns) + _GUTTER
        flexible = [index for index, width in enumerate(widths) if not width]
        for index in flexible:
            share = max(_NARROWEST, (self.scrollable_content_region.width - fixed) // len(flexible))
            widths[index] = min(share, needed[index]) if self.columns[index].is_snug else share
        for index, column in enumerate(self.columns):
            # A name that is cut gets what nobody else needs.
            for other in flexible if column.is_name and column.width and self._num_widths[index] > column.width else ():
                spare = widths[other] - max(needed[other], _NARROWEST) if self._num_widths[other] else 0
                more = max(0, min(spare, needed[index] - widths[index]))
                widths[index], widths[other] = widths[index] + more, widths[other] - more
        return widths

    # Return the width of a column whose values in sight need ``needed`` cells; 0 where it takes what others leave.
    def _given(self, column: Column, needed: int) -> int:
        if not column.width:
            return 0
        snug = max(needed, cell_len(column.title)) if column.is_snug else column.width
        return max(snug, needed) if column.is_right else min(snug, column.width)

    def _measure(self) -> None:
        self._look = None
        width = sum(self._widths()) + len(self.columns) + _GUTTER
        self.virtual_size = Size(width if width > self.size.width else 0, len(self.source) + 1)

    # The cursor.

    def validate_cursor(self, value: int) -> int:
        """Keep the cursor on a row."""
        return max(0, min(len(self.source) - 1, value))

    def watch_cursor(self, before: int, now: int) -> None:
        """Keep the cursor in sight and tell of it."""
        scrolled = self.scroll_offset
        self._follow()
        if self._anchor is not None or self.scroll_offset != scrolled:
            self.refresh()
        else:
            # All other lines stay as they are.
            self.refresh_line(before + 1)
            self.refresh_line(now + 1)
        self.post_message(self.Moved(self, now, self.current))

    def _follow(self) -> None:
        top, height = self.scroll_offset.y, max(1, self.scrollable_content_region.height - 1)
        # Where the rows before these needed no scroll bar, there is none yet, and only by force it scrolls.
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True, force=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, immediate=True, force=True)

    def index_near(self, key: str) -> int:
        """Return the index of the row named ``key`` within the window around the cursor, else the cursor."""
        return self._index_of_first([key] if key else [])

    def _index_of_first(self, names: Sequence[str]) -> int:
        """Return the index of the first of ``names`` that is a row near the cursor, else the cursor."""
        if not names:
            return self.cursor
        start = max(0, self.cursor - WINDOW)
        rows = self.source[start : start + 2 * WINDOW]
        indices = {row[self._key]: start + index for index, row in reversed([*enumerate(rows)])}
        return next((indices[name] for name in names if name in indices), self.cursor)

    def action_move(self, step: int) -> None:
        self.cursor += step

    def action_page(self, share: float) -> None:
        self.cursor += int(share * max(2, self.scrollable_content_region.height - 1))

    def action_top(self) -> None:
        self.cursor = 0

    def action_bottom(self) -> None:
        self.cursor = len(self.source) - 1

    # Marks.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Leave keys that would do nothing to others: `esc` goes back where no range is open.
        if action in ("mark", "range"):
            return self.can_mark
        return self._anchor is not None if action == "clear" else True

    def action_mark(self) -> None:
        # Mark the row, or take its mark away, and go on; with a range, do so for all of it.
        rows = self.source[self.span.start : self.span.stop]
        keys = {row[self._key] for row in rows}
        self.marks = self.marks - keys if keys <= self.marks else self.marks | keys
        if self._anchor is None:
            self.refresh_line(self.cursor + 1)
            self.cursor += 1
        else:
            self._anchor = None
            self.refresh()
        self.post_message(self.Marked())

    def action_range(self) -> None:
        self._anchor = None if self._anchor is not None else self.cursor
        self.refresh()
        self.post_message(self.Marked())

    def action_clear(self) -> None:
        self._anchor = None
        self.refresh()
        self.post_message(self.Marked())

    def action_open(self) -> None:
        if self.current:
            self.post_message(self.Opened(self, self.cursor, self.current))

    def on_click(self, event: events.Click) -> None:
        # Go to the row that was clicked; a second click opens it, one in the gutter marks it.
        offset = event.get_content_offset(self)
        if offset is None or offset.y == 0:
            self._click_head(-1 if offset is None else offset.x + self.scroll_offset.x - _GUTTER)
            return
        index = self.scroll_offset.y + offset.y - 1
        if index >= len(self.source):
            return
        self.cursor = index
        if offset.x < _GUTTER and self.can_mark and not self.scroll_offset.x:
            self.action_mark()
        elif event.chain > 1:
            self.action_open()

    def _click_head(self, x: int) -> None:
        for index, width in enumerate(self._widths()):
            if 0 <= x < width:
                self.post_message(self.HeadClicked(self, index))
            x -= width + 1
