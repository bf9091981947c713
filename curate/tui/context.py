"""What screens, widgets and the lines around them may ask of the app that shows them.

Every arrow of this room points down, from the app to screens to widgets. They still have to say something on the status
line or go to another screen, so what they may ask stands here, below them, and the app above them is what answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from rich.text import Text

from curate.tui.border import Severity

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


TABS = (
    Tab("home", "Home", "h"),
    Tab("browse", "Browse", "b"),
    Tab("edit", "Edit", "e"),
    Tab("label", "Label", "l"),
    Tab("dedupe", "Dedupe", "d"),
    Tab("split", "Split", "s"),
    Tab("validate", "Validate", "v"),
    Tab("train", "Train", "t"),
    Tab("compare", "Compare", "c"),
    Tab("ask", "Ask", "a"),
)

# Screens that are gone to by name, and have no tab.
UNTABBED = (Tab("queue", "Queues", "q"),)


class Listing(Protocol):
    """A list whose entries Edit opens one after the other: a screen hands itself over as ``listing``.

    ``opened`` is what `EditScreen.arrive` was called with for the entry that is open now. The list may have changed
    since: an entry that is gone is looked for where it was.
    """

    NAME: ClassVar[str]  # Of the screen that shows it.

    def neighbour(self, opened: Mapping[str, Any], by: int) -> dict[str, Any] | None:
        """Return what to open ``by`` entries further on, None where the list ends; asked before a save."""

    def position(self, opened: Mapping[str, Any]) -> str:
        """Return where in the list the entry stands, as "finding 4 of 10"; empty where it is gone."""


class Loading(Protocol):
    """How far the records of the workspace are read."""

    progress: str  # How far reading is; empty where nobody knows.
    failure: CurateError | None  # Why the records could not be read.
    is_stale: bool  # Whether another program has changed the record files since they were read.

    @property
    def is_loaded(self) -> bool: ...

    def reread(self, message: str = "", severity: Severity = "ok") -> None:
        """Read the records again where they have changed, and tell ``message`` then."""

    def listener(self, ids: set[str]) -> None:
        """Have the screens show the records ``ids``, which were changed; whoever acts passes it as the actor."""

    def acted(self, name: str, ids: set[str]) -> None:
        """Keep a change for all screens but the one called ``name``, which shows it itself."""

    def reload(self, news: tuple[str, Severity] | None = None) -> None:
        """Read settings, records and decisions anew in a thread; every screen is told."""


class Guide(Protocol):
    """The tour through the app."""

    @property
    def text(self) -> Text: ...
    def begin(self) -> None: ...


class AppContext(Protocol):
    """The part of the app that what it shows may use; `curate.tui.app.CurateApp` describes each method."""

    root: Path
    by: str  # The annotator's name.
    tabs: list[Tab]
    message: Text  # What the status line says; from its second line on, what to do about it.
    to_begin: Path | None  # The file that Home offers to make a workspace of at once, if any.
    may_train: bool  # Whether training may be started through a browser.

    @property
    def following(self) -> Loading: ...
    @property
    def guide(self) -> Guide: ...
    @property
    def project(self) -> Project: ...
    @property
    def has_project(self) -> bool: ...
    @property
    def is_opening(self) -> bool: ...
    def go(self, name: str, **what: Any) -> None: ...
    def is_open(self, name: str) -> bool: ...
    def open(self, root: Path) -> None: ...
    def action_undo(self) -> None: ...
    def action_reread(self) -> None: ...
    def get_started(self, name: str) -> None: ...
    def is_typing(self) -> bool: ...
    def choose_theme(self, name: str) -> None: ...
    def tell(self, message: str | Text, severity: Severity = "ok", remedy: str = "") -> None: ...
    def tell_error(self, error: CurateError) -> None: ...
    def clear_message(self) -> None: ...
    def attempt(self) -> AbstractContextManager[None]: ...
    def background(
        self,
        job: Callable[[], T],
        then: Callable[[T], object],
        *,
        group: str,
        message: str = "",
        failed: Callable[[CurateError], object] | None = None,
    ) -> None: ...
    def log_command(self, command: str, result: str) -> None: ...
    def ask(self, question: str, then: Callable[[], object]) -> None: ...
    def prompt(self, question: str, then: Callable[[str], object], *, value: str = "") -> None: ...
    def ask_with(self, box: Any, then: Callable[[Any], object]) -> None: ...
    def present(self) -> Any: ...
    def hand_over(self, screen: Any) -> None: ...
    def deliver(self, screen: Any) -> None: ...


if TYPE_CHECKING:

    class HostApp(App[int], AppContext):
        """An app of Textual's that is such a context too. For type checkers: Python has no word for both at once."""
