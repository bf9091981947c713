"""Small boxes over a screen: a question, a line to type in, a value to pick, and pages of text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from curate.tui.border import safe_lines, safe_text
from curate.tui.frame_table import Column, FrameTable
from curate.tui.widgets import Pane, SafeInput

_NOTE = 20  # Characters of a note for which any table has room.


class Ask(ModalScreen[bool]):
    """A question that is answered with `y`, or with anything else for no."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("y", "dismiss(True)", "Yes", id="dialog.yes"),
        Binding("n,escape,q", "dismiss(False)", "No", id="dialog.no"),
    ]

    def __init__(self, question: str) -> None:
        """Ask ``question``, which may hold data."""
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Static(safe_lines(self._question))
            yield Static(Text.assemble(("y", "key"), " yes   ", ("n", "key"), " no"), id="answers")

    def on_key(self, event: events.Key) -> None:
        # Neither yes nor no: a question may be about what cannot be taken back.
        if event.key == "enter":
            event.stop()
            self.query_one("#answers", Static).update(Text("enter answers nothing here: press y or n", "warn"))


class Prompt(ModalScreen[str | None]):
    """A line to type in."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape", "dismiss", "Cancel", id="dialog.cancel"),
    ]

    def __init__(self, question: str, value: str = "") -> None:
        """Ask ``question`` and begin with ``value``; both may hold data."""
        super().__init__()
        self._question, self._value = question, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Static(safe_lines(self._question))
            yield SafeInput(self._value)
            yield Static(Text.assemble(("enter", "key"), " ok   ", ("esc", "key"), " cancel"))

    def on_input_submitted(self, event: SafeInput.Submitted) -> None:
        self.dismiss(event.value)


class Pages(ModalScreen[None]):
    """Text to read and scroll; `/` leaves the lines that have what is typed."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape,q,question_mark,f1", "dismiss", "Close", id="dialog.close"),
        Binding("slash", "find", "Find", id="dialog.find"),
    ]
    DEFAULT_CSS = """
    Pages SafeInput { display: none; }
    Pages SafeInput.-open { display: block; }
    """

    def __init__(self, title: str, text: Text) -> None:
        """Show ``text``, which has come through the display border, under ``title``."""
        super().__init__()
        self._title_shown, self._text = safe_text(title, 70, "strong"), text

    def compose(self) -> ComposeResult:
        with Vertical(classes="box large"):
            yield Static(self._title_shown)
            with Pane(id="pages"):
                yield Static(self._text)
            yield SafeInput(placeholder="lines with these letters", compact=True)
            keys = ("esc", "key"), " close   ", ("j k", "key"), " scroll   ", ("/", "key"), " find"
            yield Static(Text.assemble(*keys))

    def on_mount(self) -> None:
        self.set_focus(self.query_one("#pages"))

    def action_find(self) -> None:
        field = self.query_one(SafeInput)
        field.add_class("-open")
        self.set_focus(field)

    def on_input_changed(self, event: Input.Changed) -> None:
        typed = event.value.lower()
        lines = [line for line in self._text.split("\n") if typed in line.plain.lower()]
        found = Text("\n").join(lines) if lines else safe_text(f"No line has {event.value}.", 70, "muted")
        self.query_one("#pages Static", Static).update(found if typed else self._text)

    def on_input_submitted(self) -> None:
        self.set_focus(self.query_one("#pages"))


class Choose(ModalScreen[str | None]):
    """A list that typing narrows; enter takes the row under the cursor, or what was typed where nothing else fits."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape", "dismiss", "Cancel", id="choose.cancel"),
        Binding("down", "move(1)", "Down", id="choose.down", show=False, priority=True),
        Binding("up", "move(-1)", "Up", id="choose.up", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    Choose FrameTable { height: 12; }
    """

    def __init__(
        self, question: str, values: Sequence[tuple[str, str]], *, is_open: bool = False, head: str = "answer"
    ) -> None:
        """Ask ``question``, which may hold data, with values and a note on each; ``is_open`` takes other values too.

        ``head`` is what the values are.
        """
        super().__init__()
        self._question = question
        self._values = values
        self._is_open = is_open
        self._head = head

    def compose(self) -> ComposeResult:
        with Vertical(classes="box wide"):
            yield Static(safe_lines(self._question))
            yield SafeInput(placeholder="type to find one" + (", or another" if self._is_open else ""))
            yield FrameTable(self.columns(self._head), list(self._values), can_mark=False)
            yield Static(id="note")
            yield Static(Text.assemble(("enter", "key"), " take it   ", ("esc", "key"), " cancel"))

    def on_mount(self) -> None:
        self.set_focus(self.query_one(SafeInput))

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one(FrameTable).show(self.matches(event.value.strip()), row=0)

    def columns(self, head: str) -> list[Column]:
        """Return the columns of a value, which is what ``head`` says, and of its note."""
        return [Column(head, 24), Column("")]

    def matches(self, typed: str) -> Sequence[tuple[str, str]]:
        """Return the values to show once ``typed`` was typed, each with its note."""
        return [pair for pair in self._values if typed.lower() in pair[0].lower()]

    def enter(self, text: str) -> None:
        """Put ``text`` in place of what was typed."""
        field = self.query_one(SafeInput)
        field.value, field.cursor_position = text, len(text)
        self.set_focus(field)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if value := self.query_one(FrameTable).current or (event.value.strip() if self._is_open else ""):
            self.take(value)

    def on_frame_table_moved(self, event: FrameTable.Moved) -> None:
        row = event.table.row(event.row)
        if not row:
            typed = " enter takes what you typed." if self._is_open else ""
            text = Text(f"Nothing in the list fits.{typed}", "warn")
        else:
            # The note whole, where the table has no room for it.
            text = safe_lines(row[1][:400] if len(row[1]) > _NOTE else "", "muted")
        self.query_one("#note", Static).update(text)

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        event.stop()
        self.take(event.key)

    def on_key(self, event: events.Key) -> None:
        field = self.query_one(SafeInput)
        if event.is_printable and not field.has_focus:
            self.set_focus(field)

    def action_move(self, step: int) -> None:
        self.query_one(FrameTable).action_move(step)

    def take(self, value: str) -> None:
        """Answer with ``value``, which is never empty."""
        self.dismiss(value)
