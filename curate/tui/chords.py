"""`g` and then a letter: keys of two strokes, which Textual itself does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.timer import Timer
from textual.widgets import Static

from curate.tui.keymap import key_name

if TYPE_CHECKING:
    from textual.app import App

DELAY = 0.3
"""Seconds before the box with what may follow is shown: who knows the letter never sees it."""


class WhichKey(Static):
    """The box that lists what may follow the first key."""


class Chord:
    """The wait between the first key and the second; every key that comes is the second one."""

    def __init__(self, app: App[Any], endings: Callable[[], dict[str, tuple[str, Callable[[], object]]]]) -> None:
        """Wait on ``app``; ``endings`` gives, by key, a word and what to do."""
        self._app = app
        self._endings = endings
        self._timer: Timer | None = None
        self._box: WhichKey | None = None
        self.is_waiting = False

    def begin(self) -> None:
        """Take the next key, and show after a while what it may be."""
        self.cancel()
        self.is_waiting = True
        self._timer = self._app.set_timer(DELAY, self._show)

    def finish(self, key: str) -> bool:
        """Do what ``key`` ends; return False where it ends nothing, and then nothing is done."""
        self.cancel()
        ending = self._endings().get(key)
        if ending is None:
            return False
        ending[1]()
        return True

    def cancel(self) -> None:
        """Wait no longer."""
        self.is_waiting = False
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._box is not None:
            self._box.remove()
            self._box = None

    def _show(self) -> None:
        words = [f"{key_name(key):>2}  {word}" for key, (word, _) in self._endings().items()]
        self._box = WhichKey(Text("\n".join(words)))
        self._app.screen.mount(self._box)
