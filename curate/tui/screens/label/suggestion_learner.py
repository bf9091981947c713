"""Learning beside the work: when enough was answered, a model is asked for in a thread, and keys do not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from curate.base.record import CurateError

if TYPE_CHECKING:
    from curate.sessions.labelling import LabelSession
    from curate.tui.context import AppContext


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
