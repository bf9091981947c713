"""An object's members as they are spelled, so that what nobody changed keeps its bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,]', re.DOTALL)


@dataclass(slots=True)
class Members:
    """The members of one object by key: how each key and value is spelled, and what stands between them."""

    keys: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    opening: bytes = b"{"
    colon: bytes = b": "
    comma: bytes = b""
    closing: bytes = b"}"

    def spelled(self, values: Mapping[str, bytes], keys: Mapping[str, bytes]) -> bytes:
        """Return the object of ``values`` in this object's layout; ``keys`` spells those that it lacks."""
        comma = self.comma or (b", " if self.colon.endswith(b" ") else b",")
        pairs = ((self.keys.get(key) or keys[key]) + self.colon + value for key, value in values.items())
        return self.opening + comma.join(pairs) + self.closing


def is_object(raw: bytes | None) -> bool:
    """Whether ``raw``, the spelling of a value, is that of an object."""
    return raw is not None and raw.startswith(b"{")


def members_of(raw: bytes) -> Members:
    """Return the members of an object; ``raw`` is strict JSON without white space around it."""
    found = Members()
    depth = 0
    key, key_end, value_start, last_end = b"", 0, 0, 1
    for token in _TOKEN.finditer(raw):
        mark = raw[token.start()]
        if mark in b"{[":
            depth += 1
        elif mark in b"]}" and depth > 1:
            depth -= 1
        elif depth > 1:
            continue
        elif mark == 0x22 and not key:
            key, key_end = token.group(), token.end()
            if not found.keys:
                found.opening = raw[: token.start()]
            elif not found.comma:
                found.comma = raw[last_end : token.start()]
        elif mark == 0x3A:
            value_start = token.end()
        elif mark != 0x22 and key:
            value = raw[value_start : token.start()].strip()
            start = raw.index(value, value_start)
            if not found.keys:
                found.colon = raw[key_end:start]
            name = orjson.loads(key)
            found.keys[name], found.values[name] = key, value
            key, last_end = b"", start + len(value)
    found.closing = raw[last_end:] if found.keys else b"}"
    return found


def interleaved(ours: Sequence[str], theirs: Sequence[str], base: Mapping[str, object]) -> list[str]:
    """Return the names of both sides in one order: ours, and what only they have after what it follows there.

    What both sides added behind the same neighbour comes ours first.
    """
    known = set(ours)
    behind: dict[str | None, list[str]] = {}
    place: str | None = None
    for name in theirs:
        if name in known:
            place = name
        else:
            behind.setdefault(place, []).append(name)
    if not behind:
        return list(ours)
    shared = set(theirs)
    order: list[str] = []
    waiting = behind.get(None, [])
    for name in ours:
        if name in base or name in shared:
            order += waiting
            waiting = behind.get(name, [])
        order.append(name)
    return order + waiting
