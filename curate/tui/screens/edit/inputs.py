"""The widgets in which a value is typed or picked. Each knows the pointer of its field; none shows the data raw."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from rich.containers import Lines
from rich.text import Span, Text
from textual.binding import Binding
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Select, Static

from curate.schema.form import Field, Spelling, is_same, json_text
from curate.tui.border import safe_line, safe_lines, safe_text
from curate.tui.widgets import SafeInput, SafeTextArea

if TYPE_CHECKING:
    from curate.base.record import Json

_KEY = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s*:)')
_MOST_COLOURED = 64 * 1024
_LABEL = 60
_MOST_MARKS = 4  # With so many options or fewer all of them are in sight.
# What Textual's text area would do with these keys; they are the form's, which takes back all that is typed in it.
_OF_FORM = ("f6", "f7", "ctrl+z", "super+z", "ctrl+y", "super+y")


class TextTyped(Message):
    """Somebody typed ``text`` in the field at ``pointer``; with ``ends_word`` a word, or a whole text, has ended."""

    def __init__(self, pointer: str, text: str, *, ends_word: bool) -> None:
        super().__init__()
        self.pointer = pointer
        self.text = text
        self.ends_word = ends_word


class ValuePicked(Message):
    """Somebody picked ``value`` for the field at ``pointer``."""

    def __init__(self, pointer: str, value: Json) -> None:
        super().__init__()
        self.pointer = pointer
        self.value = value


class LineField(SafeInput):
    """One line of text, or a number."""

    def __init__(self, field: Field, text: str) -> None:
        self.pointer = field.pointer
        self.spelling = Spelling(text)
        super().__init__(self.spelling.spell(text), placeholder=field.placeholder, compact=True, select_on_focus=False)
        self.disabled = bool(field.fixed)

    def show(self, _field: Field, text: str) -> None:
        """Show ``text``, unless it is what stands there already."""
        if text != self.spelling.read(self.value):
            self.spelling = Spelling(text)
            with self.prevent(SafeInput.Changed):
                self.value = self.spelling.spell(text)

    def on_input_changed(self, event: SafeInput.Changed) -> None:
        event.stop()
        before = event.value[: self.cursor_position][-1:]
        self.post_message(TextTyped(self.pointer, self.spelling.read(event.value), ends_word=not before.isalnum()))


class _LongLine(Text):
    """A line of many rows, each of which is made when it is drawn: Rich makes all of them for each one that is."""

    @staticmethod
    def of(line: Text) -> _LongLine:
        long_line = _LongLine(line.plain, end=line.end, no_wrap=line.no_wrap)
        long_line.spans = line.spans
        return long_line

    def divide(self, offsets: Iterable[int]) -> Lines:
        return _LongLineRows(self, [0, *offsets, len(self)])


class _LongLineRows(Lines):
    def __init__(self, line: Text, ends: list[int]) -> None:
        super().__init__()
        self._line, self._ends = line, ends
        self._has_tabs, self._is_drawn = "\t" in line.plain, False

    def __getitem__(self, index: Any) -> Any:
        # Textual asks for the row to draw, and then for those above it to count the tabs in them.
        if self._is_drawn and not self._has_tabs:
            return _NO_TABS
        self._is_drawn = True
        start, end = self._ends[index : index + 2]
        spans = [
            Span(max(span.start, start) - start, min(span.end, end) - start, span.style)
            for span in self._line.spans
            if span.start < end and span.end > start
        ]
        return Text(self._line.plain[start:end], spans=spans)


_NO_TABS = Text()
_LONG_LINE = 1_000  # Characters from which a line is drawn row by row.


class AreaField(SafeTextArea):
    """Text of many lines, or JSON, whose keys stand out."""

    # A scroll bar has its column at all times, so that nothing has to be wrapped anew when it comes.
    DEFAULT_CSS = "AreaField { scrollbar-gutter: stable; scrollbar-size: 0 1; }"

    def __init__(self, field: Field, text: str) -> None:
        self.pointer = field.pointer
        self.spelling = Spelling(text)
        self._is_coloured = field.kind == "json" and len(text) < _MOST_COLOURED
        super().__init__(
            self.spelling.spell(text),
            soft_wrap=True,
            tab_behavior="focus",
            show_line_numbers=False,
            compact=True,
            placeholder=Content(safe_line(field.placeholder)),
            read_only=bool(field.fixed),
            highlight_cursor_line=False,
        )
        for key in _OF_FORM:
            self._bindings.key_to_bindings.pop(key, None)

    def show(self, _field: Field, text: str) -> None:
        """Show ``text``, unless it is what stands there already, with the cursor where the two differ."""
        before = self.text
        if text == self.spelling.read(before):
            return
        self.spelling = Spelling(text)
        after = self.spelling.spell(text)
        with self.prevent(SafeTextArea.Changed):
            self.load_text(after)
        start = _num_alike(before, after)
        self.move_cursor(location_at(after, len(after) - _num_alike(before[start:][::-1], after[start:][::-1])))

    def _set_document(self, text: str, language: str | None) -> None:
        super()._set_document(text, language)
        wrapped = self.wrapped_document

        def sections(line_index: int) -> list[str]:
            line, ends = wrapped.document[line_index], [0, *wrapped.get_offsets(line_index), None]
            return [line[start:end] for start, end in pairwise(ends)]

        # Textual makes a text with styles of each row of a long line whenever the cursor moves.
        wrapped.get_sections = sections  # type: ignore[method-assign]

    def _rewrap_and_refresh_virtual_size(self) -> None:
        # At the same width a text wraps as it did: Textual would wrap a long one twice for one paste.
        wrapped = self.wrapped_document
        if (wrapped._width, wrapped._tab_width) == (self.wrap_width, self.indent_width):
            self._refresh_size()
        else:
            super()._rewrap_and_refresh_virtual_size()

    def get_line(self, line_index: int) -> Text:
        line = super().get_line(line_index)
        if self._is_coloured:
            line.highlight_regex(_KEY, "accent")
        return _LongLine.of(line) if len(line) > _LONG_LINE else line

    def on_text_area_changed(self, event: SafeTextArea.Changed) -> None:
        event.stop()
        row, column = self.cursor_location
        before = self.document.get_line(row)[column - 1 : column] if column else ""
        self.post_message(TextTyped(self.pointer, self.spelling.read(self.text), ends_word=not before.isalnum()))


def _num_alike(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))


def location_at(text: str, index: int) -> tuple[int, int]:
    """Return the row and the column, from 0, of the character at ``index``."""
    return text.count("\n", 0, index), index - text.rfind("\n", 0, index) - 1


class MarkField(Static, can_focus=True):
    """Options in a row, each with its mark in brackets: told by a letter and not by colour alone.

    Square brackets hold a yes or no, which is one option that is marked or not.
    """

    BINDINGS: ClassVar[list[Any]] = [
        Binding("left,up,h", "move(-1)", "Previous", id="edit.previous_option", show=False),
        Binding("right,down,l", "move(1)", "Next", id="edit.next_option", show=False),
        Binding("space,enter", "mark", "Mark", id="edit.mark", key_display="space"),
    ]

    def __init__(self, field: Field) -> None:
        super().__init__(disabled=bool(field.fixed))
        self.pointer = field.pointer
        self._take(field)
        self._at = field.chosen or 0
        self._spans: list[tuple[int, int, int]] = []

    def show(self, field: Field, _text: str) -> None:
        """Show another value; the cursor stays where it is."""
        self._take(field)
        self._draw()

    def _take(self, field: Field) -> None:
        self._field = field
        self._value: Json = field.value
        self._is_set = field.is_filled or field.chosen is not None

    def on_click(self, event: Click) -> None:
        for line, start, index in self._spans:
            if event.y == line and event.x >= start:
                self._at = index
        self.action_mark()

    def action_move(self, by: int) -> None:
        self._at = (self._at + by) % max(1, len(self._field.options))
        self._draw()

    def action_mark(self) -> None:
        field, option = self._field, self._field.options[self._at : self._at + 1]
        if field.kind == "switch":
            self._value = not (self._is_set and self._value)
        elif option:
            self._value = option[0]
        self._is_set = True
        self._draw()
        self.post_message(ValuePicked(self.pointer, self._value))

    def _draw(self) -> None:
        text, self._spans = Text(end=""), []
        for index, (label, is_marked) in enumerate(self._labels()):
            opening, closing = "[]" if self._field.kind == "switch" else "()"
            mark = f"{opening}{'x' if is_marked else ' '}{closing} "
            width = len(mark) + label.cell_len
            line, start = text.plain.count("\n"), cell_len(text.plain.rpartition("\n")[2])
            if start and start + width > self.size.width:
                text.append("\n")
                line, start = line + 1, 0
            self._spans.append((line, start, index))
            is_here = self.has_focus and index == self._at
            text.append_text(Text.assemble((mark, ""), label, style="reverse" if is_here else ""))
            text.append("  ")
        self.update(text)

    # The width lays the options out, and the focus shows which one a key would mark.
    on_mount = on_resize = on_focus = on_blur = _draw

    def _labels(self) -> list[tuple[Text, bool]]:
        field = self._field
        if field.kind == "switch":
            return [(Text(("true" if self._value else "false") if self._is_set else "not set"), bool(self._value))]
        return [(label_of(option), self._is_set and is_same(option, self._value)) for option in field.options]


class SelectField(Select[int]):
    """One of many options; typing looks for one."""

    def __init__(self, field: Field) -> None:
        self.pointer = field.pointer
        self._offered_options = field.options
        self._before = field.chosen
        super().__init__(
            [(label_of(option), index) for index, option in enumerate(field.options)],
            value=Select.NULL if field.chosen is None else field.chosen,
            prompt="(none)",
            compact=True,
            disabled=bool(field.fixed),
        )

    def show(self, field: Field, _text: str) -> None:
        """Show another value."""
        self._offered_options, self._before = field.options, field.chosen
        with self.prevent(Select.Changed):
            self.value = Select.NULL if field.chosen is None else field.chosen

    def on_select_changed(self, event: Select.Changed) -> None:
        event.stop()
        # It also speaks when it is made, and of the blank that stands for nothing picked.
        if isinstance(event.value, int) and event.value != self._before:
            self._before = event.value
            self.post_message(ValuePicked(self.pointer, self._offered_options[event.value]))


def label_of(option: Json) -> Text:
    """Return an option as it is shown: a text by itself, all else, and what is blank, as JSON."""
    text = option if isinstance(option, str) and option.strip() else json_text(option, indent=None)
    return safe_text(text, _LABEL)


def editor_of(field: Field, text: str) -> Widget:
    """Return the widget in which a value is edited; ``text`` is what stands in it where one types."""
    match field.kind:
        case "line" | "number":
            return LineField(field, text)
        case "text" | "json":
            return AreaField(field, text)
        case "choice" if len(field.options) > _MOST_MARKS:
            return SelectField(field)
        case "choice" | "switch":
            return MarkField(field)
        case _:
            return Static(label_of(field.options[0]) if field.options else safe_lines(text))
