"""What screens, widgets and the lines around them may ask of the app that shows them.

Every arrow of this room points down, from the app to screens to widgets. They still have to say something on the status
line or go to another screen, so what they may ask stands here, below them, and the app above them is what answers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rich.text import Text

from curate.tui.status import Severity

if TYPE_CHECKING:
    from textual.app import App

    from curate.base.record import CurateError
    from curate.project.project import Project

T = TypeVar("T")


@dataclass(frozen=True)
class Tab:
    """What is known of a screen without importing it: its file's name, its title, and its key after ``g``."""

    name: str
    title: str
    key: str


class Loading(Protocol):
    """How far the records of the workspace are read."""

    progress: str
    """How far reading is; empty where nobody knows."""
    failure: CurateError | None
    """Why the records could not be read."""
    is_stale: bool
    """Whether another program has changed the record files since they were read."""

    @property
    def is_loaded(self) -> bool:
        """Whether they are read."""

    def listener(self, ids: set[str]) -> None:
        """Have changes shown by the screens; to act in its name is to show one's own change oneself."""

    def acted(self, name: str, ids: set[str]) -> None:
        """Keep a change for all screens but the one called ``name``, which shows it itself."""


class AppContext(Protocol):
    """The part of the app that what it shows may use."""

    root: Path
    by: str
    """The annotator's name."""
    tabs: list[Tab]
    message: Text
    """What the status line says; from its second line on, what to do about it."""
    is_unsaved: bool
    """Whether the last decision is not on the disk."""
    may_train: bool

    @property
    def following(self) -> Loading:
        """How far the records are read."""

    @property
    def project(self) -> Project:
        """The open project; LookupError where there is none."""

    @property
    def has_project(self) -> bool:
        """Whether a workspace is open."""

    @property
    def is_opening(self) -> bool:
        """Whether it is not known yet if there is a workspace."""

    def go(self, name: str, **what: Any) -> None:
        """Show the screen called ``name`` and hand ``what`` to its `arrive`."""

    def is_open(self, name: str) -> bool:
        """Whether the tab called ``name`` can be gone to."""

    def open(self, root: Path) -> None:
        """Work on the workspace in ``root`` from now on."""

    def action_undo(self) -> None:
        """Take back the last act."""

    def action_reread(self) -> None:
        """Read anew what is shown."""

    def choose_theme(self, name: str) -> None:
        """Draw with the colours of the theme called ``name``."""

    def tell(self, message: str | Text, severity: Severity = "ok", remedy: str = "") -> None:
        """Write ``message`` on the status line, and ``remedy`` below it; plain strings are made visible first."""

    def tell_error(self, error: CurateError) -> None:
        """Write on the status line what went wrong and what to do."""

    def clear_message(self) -> None:
        """Take the message away."""

    def attempt(self) -> AbstractContextManager[None]:
        """Run a block; what it cannot do is written on the status line."""

    def background(self, job: Callable[[], T], then: Callable[[T], object], *, group: str, message: str = "") -> None:
        """Run ``job`` in a thread, and hand what it returns to ``then`` on the app's."""

    def log_command(self, command: str, result: str) -> None:
        """Add to the command log what was done, as a command line, and what came of it."""

    def ask(self, question: str, then: Callable[[], object]) -> None:
        """Ask a question that `y` answers with yes, and only then call ``then``."""

    def prompt(self, question: str, then: Callable[[str], object], *, value: str = "") -> None:
        """Ask for a line of text, and call ``then`` with it unless the user cancels."""

    def deliver(self, screen: Any) -> None:
        """Hand ``screen``, which is shown now, what waited for it."""


if TYPE_CHECKING:

    class HostApp(App[int], AppContext):
        """An app of Textual's that is such a context too. For type checkers: Python has no word for both at once."""
