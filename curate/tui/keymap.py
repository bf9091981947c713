"""Keys: how people read their names, and the user's own map of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS, Keys, key_to_character

from curate.base.record import CurateError

if TYPE_CHECKING:
    from textual.dom import DOMNode

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
