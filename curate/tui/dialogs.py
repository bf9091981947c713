"""Small boxes over a screen: a question, and pages of text."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from curate.tui.border import safe_lines, safe_text
from curate.tui.fields import SafeInput
from curate.tui.pane import Pane


class Ask(ModalScreen[bool]):
    """A question that is answered with `y`, or with anything else for no."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("y", "answer(True)", "Yes", id="dialog.yes"),
        Binding("n,escape,q", "answer(False)", "No", id="dialog.no"),
    ]

    def __init__(self, question: str) -> None:
        """Ask ``question``, which may hold data."""
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Lay out the question and the keys."""
        with Vertical(classes="box"):
            yield Static(safe_lines(self._question))
            yield Static(Text.assemble(("y", "key"), " yes   ", ("n", "key"), " no"))

    def action_answer(self, is_yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(is_yes)


class Prompt(ModalScreen[str | None]):
    """A line to type in."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape", "cancel", "Cancel", id="dialog.cancel"),
    ]

    def __init__(self, question: str, value: str = "") -> None:
        """Ask ``question`` and begin with ``value``; both may hold data."""
        super().__init__()
        self._question, self._value = question, value

    def compose(self) -> ComposeResult:
        """Lay out question, field and keys."""
        with Vertical(classes="box"):
            yield Static(safe_lines(self._question))
            yield SafeInput(self._value)
            yield Static(Text.assemble(("enter", "key"), " ok   ", ("esc", "key"), " cancel"))

    def on_input_submitted(self, event: SafeInput.Submitted) -> None:
        """Close with what was typed."""
        self.dismiss(event.value)

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class Pages(ModalScreen[None]):
    """Text to read and scroll."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape,q,question_mark,f1", "close", "Close", id="dialog.close"),
    ]

    def __init__(self, title: str, text: Text) -> None:
        """Show ``text``, which has come through the display border, under ``title``."""
        super().__init__()
        self._title_shown, self._text = safe_text(title, 70, "strong"), text

    def compose(self) -> ComposeResult:
        """Lay out title, text and keys."""
        with Vertical(classes="box large"):
            yield Static(self._title_shown)
            with Pane(id="pages"):
                yield Static(self._text)
            yield Static(Text.assemble(("esc", "key"), " close   ", ("j k", "key"), " scroll"))

    def action_close(self) -> None:
        """Close the box."""
        self.dismiss(None)
