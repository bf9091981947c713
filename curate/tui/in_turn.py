"""Keys one after the other, however quickly they come.

Textual hands a key on before what the last one has begun is done: a screen that is still being made, a field that gets
the focus in a moment. Over a slow line several keys arrive at once, and then `/refund` would not be typed into the
filter that `/` opens but be six commands. So a key waits until the one before it is done with.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from textual import events
from textual.dom import DOMNode
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, TextArea

if TYPE_CHECKING:
    from textual.app import App

_PATIENCE = 2.0
"""Seconds after which the next key is handed on whatever happens: a widget may vanish with what it was sent."""


class KeyDone(Message):
    """Follows a key on its way up, so that it arrives when the key has been dealt with."""


class KeysInTurn:
    """The keys that wait for the one before them."""

    def __init__(self, app: App[Any]) -> None:
        """Hand on the keys of ``app``."""
        self._app = app
        self._waiting: deque[events.Key] = deque()
        self._next: events.Key | None = None
        self._timer: Timer | None = None
        self.is_switching = False
        """Whether another screen has been asked for and is not shown yet."""

    def has_to_wait(self, event: events.Key) -> bool:
        """Whether ``event`` is not to be handed on now; it comes again when it is its turn."""
        if event is self._next:
            self._next = None
            return False
        if self._timer is None and not self._waiting:
            return False
        self._waiting.append(event)
        return True

    def follow(self, event: events.Key, target: DOMNode) -> None:
        """Hold the keys after ``event``, which was handed on to ``target``, until it is done with."""
        if event.is_printable and isinstance(target, Input | TextArea):
            # Text goes to where the text before it went; whoever types a lot shall not wait for the screen.
            self._hand_on()
            return
        if self._timer is None:
            self._timer = self._app.set_timer(_PATIENCE, self.release)
        target.post_message(KeyDone())

    def done(self) -> None:
        """Take note that the key has come to its end; what it has put off comes first."""
        if not self.is_switching:
            self._app.call_after_refresh(self.release)

    def arrived(self) -> None:
        """Take note that the screen that was asked for is shown."""
        if self.is_switching:
            self.is_switching = False
            self._app.call_after_refresh(self.release)

    def release(self) -> None:
        """Hand on the next key."""
        self.is_switching = False
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._hand_on()

    def _hand_on(self) -> None:
        if self._waiting and self._next is None:
            self._next = self._waiting.popleft()
            self._app.post_message(self._next)
