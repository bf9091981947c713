"""What the Label screen has beside its session: what is begun and not saved, the review, and the model that learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from curate.base.record import CurateError
from curate.base.tables import counted
from curate.project.approval import APPROVAL
from curate.project.project import Project
from curate.sessions.labelling import AnnotatorShare, LabelSession, ReviewItem, Waiting, settle, waiting

if TYPE_CHECKING:
    from curate.tui.context import AppContext

KEYS = "1234567890"  # The keys of the first ten values, in order.
Typed = Literal["", "note", "value"]


class Begun:
    """It belongs to one record, and is saved for that one or not at all."""

    def __init__(self) -> None:
        self.record = ""  # The record that it was begun at.
        self.typing: Typed = ""  # What the line that is typed into is for.
        self.marked: list[str] = []  # The values that are marked so far, where several may be an answer.
        self.sought = ""  # What the values that have keys now have in them.

    def __bool__(self) -> bool:
        return bool(self.typing or self.marked or self.sought)

    def type(self, what: Typed, record: str) -> None:
        """Begin to type something about ``record``."""
        self.typing, self.record = what, record

    def mark(self, value: str, record: str) -> None:
        """Mark a value for ``record``, or take its mark away."""
        self.marked = [other for other in self.marked if other != value] + ([] if value in self.marked else [value])
        self.record = record

    def keyed(self, values: Sequence[str]) -> Sequence[str]:
        """Return those of ``values`` that have a key now: the first ten in which is found what is looked for."""
        sought = self.sought.casefold()
        return [value for value in values if sought in value.casefold()][: len(KEYS)]

    def forget(self) -> None:
        """Begin anew."""
        self.typing, self.marked, self.sought = "", [], ""


class Reviewing:
    """What one annotator has to settle."""

    def __init__(self, project: Project, session: LabelSession) -> None:
        self._project = project
        self._session = session
        self._index = 0
        self.waiting: Waiting = waiting(project, session)

    @property
    def item(self) -> ReviewItem | None:
        """The item that is looked at; None where nothing waits."""
        return self.waiting.items[self._index] if self.waiting.items else None

    def refresh(self) -> None:
        """Look again for what waits, and stay with the item that was looked at if it still does."""
        key = self.item.key if self.item else None
        self.waiting = waiting(self._project, self._session)
        keys = [item.key for item in self.waiting.items]
        self._index = keys.index(key) if key in keys else min(self._index, max(0, len(keys) - 1))

    def move(self, step: int) -> bool:
        """Look at another item; return whether there is one in that direction."""
        if not 0 <= self._index + step < len(self.waiting.items):
            return False
        self._index += step
        return True

    def settle(self, index: int) -> ReviewItem | None:
        """Save that one side of the item holds, and return the item; None where there is no such side.

        Raises:
            CurateError: E906 when it is not saved; E972 when the schema refuses the line that it makes.
        """
        item = self.item
        if item is None or index >= len(item.sides):
            return None
        settle(self._project, item, item.sides[index])
        return item

    @property
    def hidden(self) -> str:
        """What waits and is not shown, and why, in words; empty where everything is shown."""
        parts = []
        if self.waiting.num_unanswered:
            parts.append(f"{counted(self.waiting.num_unanswered, 'question')} still ask you: answer first, then settle")
        if self.waiting.others_own:
            parts.append(f"{counted(len(self.waiting.others_own), 'answer')} given twice: only who answered can settle")
        return "; ".join(parts)

    @property
    def progress(self) -> str:
        """Where the item stands among all that wait, in words."""
        if not self.waiting.items:
            return "nothing to settle"
        return f"{self._index + 1:,} of {counted(len(self.waiting.items), 'item')} to settle"


class SuggestionLearner:
    """Keeps the suggestions of a session up to date; ``then`` is called on the app's thread when there are new ones."""

    def __init__(self, app: AppContext, session: LabelSession, then: Callable[[], object]) -> None:
        self._app = app
        self._session = session
        self._then = then
        self._is_running = False
        self._trouble = ""

    @property
    def lacks(self) -> str:
        """Why there are no suggestions, in words; empty where there are some."""
        if self._session.question.name == APPROVAL:
            return "none for approvals"
        if self._session.question.kind in ("pair", "several"):
            return f"none for questions of the kind {self._session.question.kind}"
        if self._trouble:
            return self._trouble
        suggestions = self._session.suggester.suggestions
        return "being learned from the answers so far" if suggestions is None else suggestions.lacks

    def begin_if_due(self) -> None:
        """Learn again if there is enough to learn, and nothing has gone wrong with it."""
        if not self._is_running and not self._trouble and self._session.is_learning_due():
            self._is_running = True
            self._app.background(self._learn, self._finish, group="label.learn")

    def _learn(self) -> str:
        try:
            self._session.learn()
        except CurateError as error:
            return f"{error.code}: {error.message}. {error.hint}"
        return ""

    def _finish(self, trouble: str) -> None:
        self._is_running = False
        self._trouble = trouble
        self._then()


class TeamShares:
    """What each annotator has done of the question that is asked; ``then`` is called when it was counted."""

    def __init__(self, app: AppContext, session: LabelSession, then: Callable[[], object]) -> None:
        self._app, self._session, self._then = app, session, then
        self.shares: Sequence[AnnotatorShare] = []

    def count(self) -> None:
        """Count in a thread, where the settings name more than one annotator."""
        if len(self._session.project.settings.label.annotators) > 1:
            self._app.background(self._session.shares, self._show, group="label.shares")

    def _show(self, shares: Sequence[AnnotatorShare]) -> None:
        self.shares = shares
        self._then()
