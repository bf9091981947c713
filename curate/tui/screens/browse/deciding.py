"""What Browse decides on the records that are marked, or on the one under the cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding

from curate.base.events import Decision, Drop, Label, Restore
from curate.base.tables import counted
from curate.project.journal import CATEGORY
from curate.project.labels import questions_of
from curate.schema.settings.model import Question
from curate.sessions.labelling import values_known
from curate.tui.dialogs import Prompt
from curate.tui.frame_table import FrameTable
from curate.tui.screens.browse.choosing import Choose

if TYPE_CHECKING:
    from curate.tui.screen import ProjectScreen

    _Screen = ProjectScreen
else:
    _Screen = object

REASON = "dropped in Browse"
"""The reason of `d`; `D` asks for another."""
TAKEN_BACK = "(take my answer back)"
_FEW = 100
"""Records that are decided on at once; more take a while, and a thread."""


class Deciding(_Screen):
    """The part of the screen that decides; ``table`` is the table of records."""

    KEYS: ClassVar[Sequence[Binding]] = (
        Binding("t", "label", "Tag", id="browse.label"),
        Binding("d", "drop", "Drop", id="browse.drop"),
        Binding("D", "drop_because", "Drop, with a reason", id="browse.drop_because", show=False),
        Binding("X", "restore", "Restore", id="browse.restore"),
    )

    if TYPE_CHECKING:

        @property
        def table(self) -> FrameTable:
            """The table of records."""

    def action_drop(self) -> None:
        """Leave records out."""
        self._drop(self.table.chosen(), REASON)

    def action_drop_because(self) -> None:
        """Leave records out for a reason that is typed."""
        if names := self.table.chosen():
            question = (
                f"Why is {counted(len(names), 'record')} left out?" if len(names) == 1 else "Why are they left out?"
            )
            self.app.push_screen(Prompt(question, REASON), partial(self._drop, names))

    def action_restore(self) -> None:
        """Take records in again."""
        names = [name for name in self.table.chosen() if self.project.state(name).dropped is not None]
        self._decide([Restore(name) for name in names], "restored", "is dropped")

    def action_label(self) -> None:
        """Answer a question about records."""
        names = self.table.chosen()
        if not names:
            self.tell_no_use("There is no record in the table.")
            return
        settings = self.project.settings
        unsettled = {question.name for question in questions_of(settings) if not question.values}
        # Only a category that nothing settles is looked for in all records.
        categories = values_known(self.project) if CATEGORY in unsettled else ()
        by_name = {question.name: question for question in questions_of(settings, categories)}
        if len(by_name) == 1:
            self._ask_value(names, *by_name.values(), is_open=bool(unsettled))
            return
        values = [(name, question.ask) for name, question in by_name.items()]

        def chosen(name: str | None) -> None:
            if name is not None:
                self._ask_value(names, by_name[name], is_open=name in unsettled)

        self.app.push_screen(Choose("Which question?", values), chosen)

    def _drop(self, names: Sequence[str], reason: str | None) -> None:
        """Leave out those of ``names`` that are in; None where whoever was asked for a reason gave none."""
        if reason is not None:
            present = [name for name in names if self.project.state(name).dropped is None]
            self._decide([Drop(name, reason.strip() or REASON) for name in present], "dropped", "is in")

    def _ask_value(self, names: Sequence[str], question: Question, *, is_open: bool) -> None:
        """Ask for an answer about ``names``; what ``is_open`` takes any text."""
        values = [(value, question.guide.get(value, "")) for value in question.values]
        what = names[0] if len(names) == 1 else counted(len(names), "record")
        title = f"{question.ask or question.name}  ({what})"
        box = Choose(title, [*values, (TAKEN_BACK, "")], is_open=is_open)

        def answered(value: str | None) -> None:
            if value is not None:
                answer = None if value == TAKEN_BACK else value
                done = f"{question.name}: {value} for" if answer is not None else "no answer any more for"
                self._decide([Label(name, question.name, answer) for name in names], done, "")

        self.app.push_screen(box, answered)

    def _decide(self, decisions: Sequence[Decision], done: str, lacking: str) -> None:
        """Save ``decisions``, one on each record, as one act, and say so."""
        if not decisions:
            self.tell_no_use(f"No record that {lacking} is chosen.")
            return
        what = decisions[0].id if len(decisions) == 1 else counted(len(decisions), "record")
        message = f"{done} {what} (u undoes)"
        save: Callable[[], object] = partial(self.project.apply, decisions)

        def saved(_events: object) -> None:
            self.table.clear_chosen()
            self.tell(message)

        if len(decisions) > _FEW:
            self.app.background(save, saved, group="write.browse")
        else:
            save()
            saved(None)
