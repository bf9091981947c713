"""The text of a record that is no JSON yet: what a line of a file, a row of an import, or an editor's file says."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical

from curate.schema.form import Field
from curate.sessions.edits import EditSession
from curate.tui.border import safe_text
from curate.tui.screens.edit.inputs import AreaField, TextTyped, editor_of
from curate.tui.screens.edit.view import PAUSE, FormView, draft_note
from curate.tui.widgets import Panel, Pause


class RawText(Vertical):
    """A text to be mended, and below it what is wrong with it and where."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("f3,ctrl+z", "undo", "Undo typing", id="edit.undo_raw", show=False),
        Binding("escape", "leave", "Leave the text", id="edit.leave_raw", show=False),
        Binding("ctrl+y", "redo", "Redo typing", id="edit.redo_raw", show=False),
    ]
    DEFAULT_CSS = """
    RawText { height: 1fr; }
    RawText AreaField { height: 1fr; padding: 0; background: $panel; }
    RawText Panel { height: auto; max-height: 4; width: 1fr; padding: 0 1; }
    """

    def __init__(self, edit: EditSession) -> None:
        super().__init__()
        self.edit = edit
        self._typed = edit.text
        self._judging = Pause(self)

    def compose(self) -> ComposeResult:
        note = "This cannot be read yet. Mend it here, or in your own editor (f4); then ctrl+s saves it."
        if not self.edit.text.isprintable():
            note += " A character or byte that cannot be shown stands as <U+202E> or <0xFF>."
        yield Panel(Text(note, "warn"), id="note")
        yield editor_of(Field("", "text", "text"), self.edit.text)
        yield Panel(id="fault")

    def on_mount(self) -> None:
        self.judge()

    def go_to_start(self) -> None:
        """Put the cursor where the text cannot be read any further."""
        line, column = self.edit.fault_location
        row = self._typed.split("\n")[line - 1]
        for area in self.query(AreaField):
            area.focus()
            area.move_cursor((line - 1, len(area.spelling.spell(row[: column - 1]))))

    def on_text_typed(self, event: TextTyped) -> None:
        event.stop()
        self._typed = event.text
        self._judging.begin(PAUSE, self.judge)

    def judge(self) -> None:
        """Take in what was typed, and say what is wrong with it; what was not changed stays as it is."""
        self._judging.end()
        edit = self.edit
        faults = edit.take(self._typed)
        state = ("! error ", "error") if edit.text else ("it can be read", "ok")
        fault = safe_text(faults[0], 300) if edit.text else ""
        self.query_one("#fault", Panel).show(Text.assemble(state, fault, (f"   {draft_note(edit)}", "muted")))
        self.post_message(FormView.Changed())

    def action_leave(self) -> None:
        self.screen.set_focus(None)

    def action_undo(self) -> None:
        self.query_one(AreaField).undo()

    def action_redo(self) -> None:
        self.query_one(AreaField).redo()
