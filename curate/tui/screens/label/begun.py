"""What the Label screen has beside its session: what is begun and not saved, and what is computed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from curate.base.record import CurateError
from curate.project.approval import APPROVAL
from curate.sessions.labelling import AnnotatorShare, LabelSession

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


class BackgroundWork:
    """What is computed beside a session: its suggestions, and what each annotator has done.

    ``learned`` is called on the app's thread when there are new suggestions, ``counted`` when there are new shares.
    """

    def __init__(
        self, app: AppContext, session: LabelSession, learned: Callable[[], object], counted: Callable[[], object]
    ) -> None:
        self._app, self._session = app, session
        self._then_learned, self._then_counted = learned, counted
        self._is_learning = False
        self._trouble = ""
        self.shares: Sequence[AnnotatorShare] = []

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
        waiting = f"{self._session.suggest_with} is asked" if self._session.suggest_with else ""
        return waiting or "being learned from the answers so far" if suggestions is None else suggestions.lacks

    def learn_if_due(self) -> None:
        """Learn again if there is enough to learn, and nothing has gone wrong with it."""
        if not self._is_learning and not self._trouble and self._session.is_learning_due():
            self._is_learning = True
            self._app.background(self._learn, self._finish_learning, group="label.learn")

    def count_shares(self) -> None:
        """Count what each has done, where the settings name more than one annotator."""
        if len(self._session.project.settings.label.annotators) > 1:
            self._app.background(self._session.shares, self._take_shares, group="label.shares")

    def _learn(self) -> str:
        try:
            self._session.learn()
        except CurateError as error:
            return f"{error.code}: {error.message}. {error.hint}"
        return ""

    def _finish_learning(self, trouble: str) -> None:
        self._is_learning, self._trouble = False, trouble
        self._then_learned()

    def _take_shares(self, shares: Sequence[AnnotatorShare]) -> None:
        self.shares = shares
        self._then_counted()
