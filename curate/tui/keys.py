"""Keys: how people read their names, the user's own map of them, and keys of two strokes and in quick succession."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, Keys, key_to_character
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static, TextArea

from curate.base.record import CurateError

if TYPE_CHECKING:
    from textual.app import App

_WORDS = {
    "escape": "esc", "space": "space", "enter": "enter", "backspace": "bksp", "delete": "del", "pagedown": "pgdn",
    "pageup": "pgup", "tab": "tab",
}  # fmt: skip

_UNICODE_NAMES = {ours: name for name, ours in KEY_NAME_REPLACEMENTS.items()}


def key_name(key: str) -> str:
    """Return ``key`` as people read it: ``question_mark`` is ``?``, ``ctrl+s`` stays."""
    *modifiers, last = key.split("+")
    if last in _WORDS:
        label = _WORDS[last]
    else:
        character = _character(last)
        label = character if character and " " < character <= "~" else last
    return "+".join([*modifiers, label])


def _character(key: str) -> str | None:
    # Textual has names of its own for some characters, and reads only those of Unicode back.
    return key_to_character(_UNICODE_NAMES.get(key, key))


def bindings_of(nodes: Iterable[type[DOMNode]]) -> list[Binding]:
    """Return the bindings that classes declare, or inherit from what is not Textual's, each key apart."""
    bindings: dict[tuple[str, str], Binding] = {}
    for node in nodes:
        for owner in node.__mro__:
            if not owner.__module__.startswith("textual."):
                for binding in Binding.make_bindings(owner.__dict__.get("BINDINGS", ())):
                    bindings.setdefault((binding.id or binding.action, binding.key), binding)
    return list(bindings.values())


def own_subclasses(kind: type[DOMNode]) -> Iterator[type[DOMNode]]:
    """Yield the subclasses of ``kind`` that are not Textual's, as far as they are imported."""
    for child in kind.__subclasses__():
        if not child.__module__.startswith("textual."):
            yield child
        yield from own_subclasses(child)


def checked_keymap(wanted: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Return the user's keys by binding id, once every id is one of ``known`` and every key is one.

    Raises:
        CurateError: E902 with the nearest known ids when there is no such id, or when an entry names no key.
    """
    for name, keys in wanted.items():
        if name not in known:
            near = get_close_matches(name, sorted(known), n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(near)}?" if near else "`?` in the terminal UI lists the ids."
            raise CurateError("E902 bad-settings", f"curate.toml: keys: there is no binding {name!r}", hint)
        for key in keys.split(","):
            if not _is_key(key.strip()):
                hint = (
                    'Write keys such as "x", "f6" or "ctrl+t", several parted by commas; the comma itself is "comma".'
                )
                raise CurateError("E902 bad-settings", f"curate.toml: keys.{name}: {key.strip()!r} is no key", hint)
    return dict(wanted)


def _is_key(key: str) -> bool:
    *modifiers, last = key.split("+")
    if not set(modifiers) <= {"ctrl", "shift", "alt", "super", "hyper", "meta"}:
        return False
    return len(last) == 1 or last in set(Keys) or _character(last) is not None


DELAY = 0.3  # Seconds before the box with what may follow is shown: who knows the letter never sees it.


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
        """Do what ``key`` ends; return False where it ends nothing, and then nothing is done.

        A question mark lists the endings at once, and the next key is still waited for.
        """
        if key == "question_mark":
            self._show()
            return True
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
        # What was due before it was stopped may come all the same.
        if self._box is not None or not self.is_waiting:
            return
        words = [f"{key_name(key):>2}  {word}" for key, (word, _) in self._endings().items()]
        self._box = WhichKey(Text("\n".join(words)))
        self._app.screen.mount(self._box)


# Textual hands a key on before what the last one has begun is done: a screen that is still being made, a form whose
# first field gets the focus in a moment, a question that is read from a file first. Over a slow line several keys
# arrive at once, and then `/refund` would not be typed into the filter that `/` opens but be six commands. So a key
# waits until the one before it is done with, and until what that one opens has the focus.

SHOW = "show"  # Workers with this word in the name of their group show something that the next keys are meant for.
PATIENCE = 3.0  # Seconds for which keys wait for records that are still being read.
_LOST = 2.0  # Seconds to the next refresh at most: a screen may vanish with what it was to call then.
_AGAIN = 0.02  # Seconds between two looks at whether keys have still to wait.


class KeyDone(Message):
    """Follows a key on its way up, so that it arrives when the key has been dealt with."""


class KeysInTurn:
    """The keys, and what is pasted between them, that wait for what came before them."""

    def __init__(self, app: App[Any], is_reading: Callable[[], bool]) -> None:
        """Hold the keys of ``app``; ``is_reading`` tells whether its records are still being read."""
        self._app = app
        self._is_reading = is_reading
        self._waiting: deque[events.Key | events.Paste] = deque()
        self._next: events.Key | events.Paste | None = None
        self._target: DOMNode | None = None  # What deals with the last key, and how often it has to say that it did.
        self._num_rounds = 0
        self._typed_into: DOMNode | None = None  # The field that the last text went to, if it may still be on its way.
        self._timer: Timer | None = None
        self.is_arriving = True  # Whether a screen has been asked for and is not shown yet; at the start it is.
        self._patience = 0.0  # When it ends.

    def has_to_wait(self, event: events.Key | events.Paste) -> bool:
        """Whether ``event`` is not to be handed on now; it comes again when it is its turn."""
        if event is self._next:
            self._next = None
        elif self._waiting or self._next is not None or self._timer is not None or self._is_held():
            # The next key may be behind this one in the queue of the app.
            self._waiting.append(event)
            if self._timer is None:
                self._wait(_AGAIN)
            return True
        typed_into, self._typed_into = self._typed_into, None
        if typed_into is None or self._is_text(event, self._app.focused):
            return False
        # Textual does what has priority before the field has the text that was typed into it.
        self._waiting.appendleft(event)
        self._watch(typed_into)
        return True

    @staticmethod
    def _is_text(event: events.Key | events.Paste, target: DOMNode | None) -> bool:
        return isinstance(target, Input | TextArea) and (isinstance(event, events.Paste) or event.is_printable)

    def _is_held(self) -> bool:
        """Whether what the next key is meant for is still being made."""
        return (
            self.is_arriving
            or (self._is_reading() and monotonic() < self._patience)
            or any(not screen.is_mounted for screen in self._app.screen_stack)  # There is none while the app ends.
            or any(SHOW in worker.group.split(".") and not worker.is_finished for worker in self._app.workers)
        )

    def follow(self, event: events.Key | events.Paste, target: DOMNode) -> None:
        """Hold the keys after ``event``, which was handed on to ``target``, until it is done with."""
        if self._is_text(event, target):
            # Text goes to where the text before it went; whoever types a lot shall not wait for the screen.
            self._typed_into = target
            self._hand_on()
        else:
            self._watch(target)

    def _watch(self, target: DOMNode) -> None:
        # A form that the key has closed, or a widget that it has removed, would take it along.
        self._target = target if target.is_attached and target.screen in self._app.screen_stack else self._app.screen
        # What a widget says of a key, as that a line is entered, stands behind the first in its queue.
        self._num_rounds = 2
        self._wait(_AGAIN)
        self._target.post_message(KeyDone())

    def done(self) -> None:
        """Take note that the key has come to its end; what it has put off comes first."""
        self._num_rounds -= 1
        if self._target is not None and self._target.is_attached and self._num_rounds:
            self._target.post_message(KeyDone())
            return
        self._target = None
        self._wait(_LOST)
        self._app.call_after_refresh(self._release)

    def arrived(self) -> None:
        """Take note that the screen that was asked for is shown, with its records where they are read."""
        self.is_arriving, self._patience = False, monotonic() + PATIENCE

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._app.set_timer(seconds, self._release)

    def _release(self) -> None:
        """Hand on the next key, unless the one before it or what that one opens takes longer."""
        if self._target is not None and not self._target.is_attached:
            self.done()
        elif self._target is not None or self._is_held():
            self._wait(_AGAIN)
        else:
            if self._timer is not None:
                self._timer.stop()
                self._timer = None
            self._hand_on()

    def _hand_on(self) -> None:
        if self._waiting and self._next is None:
            self._next = self._waiting.popleft()
            self._app.post_message(self._next)
