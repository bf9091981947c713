"""Label: one key answers one question about one record, and the next record is there."""

from __future__ import annotations

from typing import Literal

from rich.text import Text
from textual.widgets import Input

from curate.label import ORDERS
from curate.record import Json
from curate.tui.border import shown
from curate.tui.dialogs import Pages
from curate.tui.screens.label import keys, told
from curate.tui.screens.label.desk import DeskScreen
from curate.tui.screens.label.paper import Paper
from curate.tui.screens.label.reviewing import Reviewing
from curate.workshop.labelling import FLAG, NOTE, QUALITY, spelled_value


class LabelScreen(DeskScreen):
    """The desk of one annotator, and the review of what was answered differently."""

    NAME, TITLE, KEY = "label", "Label", "l"
    HELP, BINDINGS, DEFAULT_CSS = keys.HELP, keys.BINDINGS, keys.CSS

    # Answering.

    def action_choose(self, place: int) -> None:
        """Answer with a value, mark it where several may be, or settle an item."""
        if self._reviewing is not None:
            item = self._reviewing.settle(place)
            if item is not None:
                self.tell(Text.assemble(shown(item.record, 40), " settled  (u undo)"))
                self._redraw()
            return
        values = self._values()
        if self._desk is None or not self._desk.current or place >= len(values):
            return
        value = values[place]
        if not self._is_several:
            self._answer(value)
            return
        self._begun.mark(value, self._desk.current)
        self._draw()

    def action_accept(self) -> None:
        """Answer with what is suggested."""
        suggestion = self._desk.suggestion() if self._desk and self._reviewing is None else None
        if suggestion is None:
            self.tell("Nothing is suggested here.", "warn")
        else:
            self._answer(suggestion.value)

    def action_reject(self) -> None:
        """Show no suggestion for this record any more."""
        if self._desk is not None and self._reviewing is None:
            self._act(self._desk.reject)

    def action_several(self) -> None:
        """Let an answer be several values, or one again."""
        self._is_several, self._begun.marked = not self._is_several, []
        self._draw()

    def action_save_several(self) -> None:
        """Save the marked values as one answer."""
        if self._is_several and self._begun.marked and self._desk is not None:
            order = list(self._desk.question.values)
            self._answer(sorted(self._begun.marked, key=order.index))

    def action_quality(self, place: int) -> None:
        """Answer the question called quality, and stay with the record."""
        desk = self._desk
        if desk is None or not desk.current or self._reviewing is not None:
            return
        values = next((one.values for one in desk.questions if one.name == QUALITY), [])
        if place >= len(values):
            self.tell(f"No question is called {QUALITY} and has {place + 1} values.", "warn")
        elif desk.question.name == QUALITY:
            self._answer(values[place])
        else:
            self._act(lambda: desk.answer_beside(QUALITY, values[place]))

    def action_skip(self) -> None:
        """Pass the record over; in the review, go on to the next item."""
        desk = self._desk
        if self._reviewing is not None:
            self.action_move(1)
        elif desk is not None and desk.current:
            name = desk.current
            self._act(desk.skip, ends=True)
            self.tell(Text.assemble(shown(name, 40), " skipped"))

    def action_flag(self) -> None:
        """Mark the record for a second look, or take the mark away."""
        desk = self._desk
        if desk is not None and desk.current and self._reviewing is None:
            self._act(desk.flag)
            is_flagged = desk.aside(FLAG) is not None
            self.tell(Text.assemble(shown(desk.current, 40), " flagged" if is_flagged else " not flagged any more"))

    def action_move(self, step: int) -> None:
        """Go to another record, or item of the review, without deciding."""
        place = self._reviewing or self._desk
        if place is None:
            return
        if place.move(step):
            self._forget()
            self._draw()
        else:
            self.tell("There is nothing in that direction.", "warn")

    def _answer(self, value: Json) -> None:
        desk, learning = self._desk, self._learning
        assert desk is not None, "there is a desk"
        assert learning is not None, "it came with the desk"
        name = desk.current
        self._act(lambda: desk.answer(value), ends=True)
        self.tell(Text.assemble(shown(name, 40), " -> ", shown(spelled_value(value), 60, "accent"), "  (u undo)"))
        learning.begin_if_due()

    # Typing a note, or a value.

    def action_type(self, what: Literal["note", "value"]) -> None:
        """Open the line for a note, or to find or type a value."""
        desk = self._desk
        if desk is None or not desk.current or self._reviewing is not None:
            return
        self._begun.type(what, desk.current)
        line = self.query_one("#line", Input)
        line.placeholder = "a note; enter saves" if what == "note" else "part of a value, or the answer; enter takes it"
        note = desk.aside(NOTE)
        line.value = note if what == "note" and isinstance(note, str) else ""
        self.add_class("-typing")
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the values in which what is typed is found."""
        if self._begun.typing == "value" and event.input.id == "line":
            self._begun.sought = event.value.strip()
            self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Save the note, or answer with the value; what is not saved stays where it was typed."""
        if event.input.id == "line":
            with self.app.attempt():
                self._take_typed(event.value.strip())

    def _take_typed(self, typed: str) -> None:
        desk, values = self._desk, self._values()
        if desk is None:
            self.tell("The records are being read; press enter again when they are.", "warn")
        elif desk.current != self._begun.record:
            self._tell_out_of_hand()
        elif self._begun.typing == "note":
            self._act(lambda: desk.note(typed))
            self._stop_typing()
        elif typed and not desk.question.values:
            self._answer(typed)
        elif len(values) == 1 and not self._is_several:
            self._answer(values[0])
        else:
            # The keys of the values are free again, and what was found stays.
            self._stop_typing()
            self._draw()

    # What is asked.

    def action_order(self) -> None:
        """Ask in the next of the orders."""
        if self._desk is not None:
            order = ORDERS[(ORDERS.index(self._desk.wish.order) + 1) % len(ORDERS)]
            self._forget()
            self._prepare(self._desk.wish_for(order=order), "")

    def action_question(self) -> None:
        """Ask the next question."""
        if self._desk is not None:
            names = [one.name for one in self._desk.questions]
            name = names[(names.index(self._desk.question.name) + 1) % len(names)]
            self._forget()
            self._prepare(self._desk.wish_for(name))

    def action_all(self) -> None:
        """Ask about all records, or again only about those whose line does not say it."""
        if self._desk is not None:
            self._forget()
            self._prepare(self._desk.wish_for(is_all=not self._desk.wish.is_all), "")

    def action_review(self) -> None:
        """Show what was answered differently, or go back to the desk."""
        if self._desk is None:
            return
        self._reviewing = None if self._reviewing else Reviewing(self.workshop, self._desk)
        if self._reviewing and self._reviewing.hidden:
            self.tell(self._reviewing.hidden)
        self._draw()

    def action_guide(self) -> None:
        """Show the whole guide."""
        guide = self._desk.question.guide if self._desk else {}
        self.app.push_screen(Pages("Guide", told.pages_text(guide, self._guideline)))

    def action_edit(self) -> None:
        """Edit the record at hand."""
        if name := self._at_hand():
            self.app.go("edit", record=name)

    def action_pane(self) -> None:
        """Where there is room for one pane only, show the other one."""
        if self.is_narrow:
            self.is_side_open = not self.is_side_open

    def action_scroll(self, lines: int) -> None:
        """Move the text of the record."""
        self.query_one("#side" if self.is_side_open else "#record", Paper).scroll_lines(lines)
