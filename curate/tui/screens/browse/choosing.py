"""A box in which one of several values is picked, or another one typed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from curate.tui.border import safe_lines
from curate.tui.fields import SafeInput
from curate.tui.frame_table import Column, FrameTable, ListRows


class Choose(ModalScreen[str | None]):
    """A list that typing narrows; enter takes the row under the cursor, or what was typed where nothing else fits."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape", "cancel", "Cancel", id="choose.cancel"),
        Binding("down", "move(1)", "Down", id="choose.down", show=False, priority=True),
        Binding("up", "move(-1)", "Up", id="choose.up", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    Choose FrameTable { height: 12; }
    """

    def __init__(self, question: str, values: Sequence[tuple[str, str]], *, is_open: bool = False) -> None:
        """Ask ``question``, which may hold data, with values and a note on each; ``is_open`` takes other values too."""
        super().__init__()
        self._question = question
        self._values = values
        self._is_open = is_open

    def compose(self) -> ComposeResult:
        """Lay out question, field and list."""
        with Vertical(classes="box"):
            yield Static(safe_lines(self._question))
            yield SafeInput(placeholder="type to find one" + (", or another" if self._is_open else ""))
            yield FrameTable([Column("answer", 24), Column("")], ListRows(list(self._values)), can_mark=False)
            yield Static(Text.assemble(("enter", "key"), " take it   ", ("esc", "key"), " cancel"))

    def on_mount(self) -> None:
        """Begin in the field."""
        self.set_focus(self.query_one(SafeInput))

    def on_input_changed(self, event: Input.Changed) -> None:
        """List the values that hold what is typed."""
        typed = event.value.strip().lower()
        matches = [pair for pair in self._values if typed in pair[0].lower()]
        self.query_one(FrameTable).show(ListRows(matches))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the row under the cursor, or what was typed."""
        event.stop()
        self._take(self.query_one(FrameTable).current or (event.value.strip() if self._is_open else ""))

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        """Take the row that was opened."""
        event.stop()
        self._take(event.key)

    def on_key(self, event: events.Key) -> None:
        """Type wherever the focus is."""
        field = self.query_one(SafeInput)
        if event.is_printable and not field.has_focus:
            self.set_focus(field)

    def action_move(self, step: int) -> None:
        """Go down the list, or up, without leaving the field."""
        self.query_one(FrameTable).action_move(step)

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.dismiss(None)

    def _take(self, value: str) -> None:
        if value:
            self.dismiss(value)
