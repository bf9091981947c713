"""What screens ask of the app: a word on the status line, work in the background, a question, other colours."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from rich.text import Text
from textual.app import App
from textual.dom import DOMNode
from textual.filter import LineFilter
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import get_current_worker

from curate.record import CurateError
from curate.tui.border import shown
from curate.tui.chrome import Header, StatusLine, draw_frame
from curate.tui.dialogs import Ask, Prompt
from curate.tui.help import Ran
from curate.tui.status import SIGNS, Severity
from curate.tui.themes import Harmless, StylesByName, names_of, themes

T = TypeVar("T")
_LONGEST_MESSAGE = 2000
EXPIRES = 20.0
"""Seconds after which a message that is no warning goes: what was done is old news then."""


class Desk(App[int]):
    """An app with a status line; `CurateApp` adds the screens."""

    def __init__(self, theme: str) -> None:
        """Draw with the theme called ``theme``, or with NO_COLOR set without colours."""
        super().__init__()
        self.stylesheet = self._styles = StylesByName(variables=self.get_css_variables())
        self.message: Text = Text("")
        """What the status line says; from its second line on, what to do about it."""
        self._expiry: Timer | None = None
        self.is_unsaved = False
        self.ran_commands: list[Ran] = []
        self.crash = ""
        """The traceback of the mistake of ours that ended the app."""
        self.failure: CurateError | None = None
        """What was wrong with the workspace, where that ended the app."""
        for one in themes():
            self.register_theme(one)
        has_colour = not self.no_color
        self._last_look = Harmless(has_colour=has_colour)
        self.choose_theme(theme if has_colour else "mono")

    def tell(self, message: str | Text, severity: Severity = "ok", remedy: str = "") -> None:
        """Write ``message`` on the status line of whatever screen is shown; a plain string is made visible first.

        ``remedy``, which says what to do, stands on a line of its own. What is no warning goes after `EXPIRES`; all of
        it goes with the next message, or when another screen is gone to.
        """
        text = shown(message, _LONGEST_MESSAGE) if isinstance(message, str) else message
        more = Text.assemble("\n", shown(remedy, _LONGEST_MESSAGE)) if remedy else Text("")
        self._put_message(Text.assemble((SIGNS[severity], "" if severity == "ok" else severity), text, more))
        if severity == "ok":
            self._expiry = self.set_timer(EXPIRES, self.clear_message)

    def clear_message(self) -> None:
        """Take the message away: its cause has gone."""
        self._put_message(Text(""))

    def _put_message(self, message: Text) -> None:
        if self._expiry is not None:
            self._expiry.stop()
            self._expiry = None
        self.message = message
        draw_frame(self.screen, StatusLine)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run a block; what it cannot do is written on the status line."""
        try:
            yield
        except CurateError as error:
            self.tell_error(error)

    def tell_error(self, error: CurateError) -> None:
        """Write on the status line what went wrong and what to do."""
        if error.code.startswith("E906"):
            self.is_unsaved = True
            draw_frame(self.screen, Header)
        self.tell(f"{error.code}: {error.message}", "error", error.hint)

    def background(self, job: Callable[[], T], then: Callable[[T], object], *, group: str, message: str = "") -> None:
        """Run ``job`` in a thread, and hand what it returns to ``then`` on this one.

        A newer job of the same ``group`` takes the place of an older one, whose result is dropped. A `CurateError` is
        written on the status line. A group whose name begins with "write" is not left behind when the app ends.
        ``message`` is on the status line while the job is at work.
        """
        if message:
            self.tell(message)
        meanwhile = self.message

        def run() -> None:
            worker = get_current_worker()
            try:
                result = job()
            except CurateError as error:
                if not worker.is_cancelled:
                    self.call_from_thread(self.tell_error, error)
                return
            if not worker.is_cancelled:
                self.call_from_thread(finish, result)

        def finish(result: T) -> None:
            if message and self.message is meanwhile:
                self.clear_message()
            with self.attempt():
                then(result)

        self.run_worker(run, thread=True, exclusive=True, group=group)

    def ran(self, command: str, result: str) -> None:
        """Add to the command log what was done, as a command line, and what came of it."""
        self.ran_commands.append(Ran(datetime.now().astimezone().strftime("%H:%M"), command, result))

    def ask(self, question: str, then: Callable[[], object]) -> None:
        """Ask a question that `y` answers with yes, and only then call ``then``."""

        def answered(is_sure: bool | None) -> None:
            if is_sure:
                then()

        self.push_screen(Ask(question), answered)

    def prompt(self, question: str, then: Callable[[str], object], *, value: str = "") -> None:
        """Ask for a line of text, and call ``then`` with it unless the user cancels."""

        def answered(text: str | None) -> None:
            if text is not None:
                then(text)

        self.push_screen(Prompt(question, value), answered)

    def choose_theme(self, name: str) -> None:
        """Draw with the colours of the theme called ``name``, one of `themes.LOOKS`."""
        self.theme = name
        self.console.push_theme(names_of(name))
        self._styles.choose(name)
        if self.is_running:
            # What was made of style names has kept the colours that they had.
            for screen in self.screen_stack:
                for widget in screen.query(Static):
                    widget.update(widget.content)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Let nothing harmful, and with NO_COLOR no colour, through to the terminal."""
        return [self._last_look]

    async def run_action(self, action: Any, default_namespace: DOMNode | None = None, namespaces: Any = None) -> bool:
        """Run an action; what it cannot do is written on the status line and ends nothing."""
        try:
            return await super().run_action(action, default_namespace, namespaces)
        except CurateError as error:
            self.tell_error(error)
            return True

    def _fatal_error(self) -> None:
        """Keep the traceback of a mistake of ours for `terminal.run`; Textual's own shows the values of variables."""
        self.crash = traceback.format_exc()
        self.panic()
