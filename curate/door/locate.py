"""From a JSON pointer to the byte column where its value begins; runs on failing lines only.

One line can have thousands of findings, so what was seen of the latest line is kept: however many pointers are asked
for, each container of it is read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import orjson

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[-+0-9.eEa-zA-Z]+")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)


def pointer_of(parts: Sequence[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a path of keys and list places."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def parts_of(pointer: str) -> list[str]:
    """Return the keys and places of a JSON pointer, unescaped."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def locate(raw: bytes, pointer: str) -> int:
    """Return the 1-based byte column at which the value of ``pointer`` begins in ``raw``.

    ``raw`` is valid strict JSON. A pointer to what is not there gives the column of the deepest value on the way.
    """
    global _latest  # noqa: PLW0603  one slot, replaced whole, so that a second thread can only miss it
    line = _latest
    if line is None or line.raw is not raw:
        line = _latest = _Line(raw)
    place = line.start
    for part in parts_of(pointer):
        found = line.child(place, part)
        if found is None:
            break
        place = found
    return place + 1


class _Line:
    """A line and what has been seen of its containers, each of which is read no further than was asked for."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.start = _skip_space(raw, 0)
        self._seen: dict[int, tuple[dict[str, int], Iterator[tuple[str, int]]]] = {}

    def child(self, place: int, part: str) -> int | None:
        """Return where the value under key or index ``part`` of the container at ``place`` begins, if there is one."""
        if place not in self._seen:
            self._seen[place] = {}, _children(self.raw, place)
        known, others = self._seen[place]
        if part in known:
            return known[part]
        for name, start in others:
            known[name] = start
            if name == part:
                return start
        return None


_latest: _Line | None = None


def _children(raw: bytes, place: int) -> Iterator[tuple[str, int]]:
    """Yield the key or index of each value of the container at ``place``, and where the value begins."""
    opener = raw[place : place + 1]
    if opener not in (b"{", b"["):
        return
    place = _skip_space(raw, place + 1)
    index = 0
    while raw[place : place + 1] not in (b"}", b"]", b""):
        if opener == b"{":
            end = _match_end(_STRING, raw, place)
            name = orjson.loads(raw[place:end])
            place = _skip_space(raw, _skip_space(raw, end) + 1)
        else:
            name = str(index)
        yield name, place
        place = _skip_space(raw, _value_end(raw, place))
        if raw[place : place + 1] == b",":
            place = _skip_space(raw, place + 1)
        index += 1


def _value_end(raw: bytes, place: int) -> int:
    byte = raw[place : place + 1]
    if byte == b'"':
        return _match_end(_STRING, raw, place)
    if byte not in (b"{", b"["):
        return _match_end(_SCALAR, raw, place)
    depth = 0
    for token in _TOKEN.finditer(raw, place):
        mark = raw[token.start()]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                return token.end()
    raise ValueError("the line is not JSON")


def _match_end(pattern: re.Pattern[bytes], raw: bytes, place: int) -> int:
    token = pattern.match(raw, place)
    if token is None:
        raise ValueError("the line is not JSON")
    return token.end()


def _skip_space(raw: bytes, place: int) -> int:
    token = _SPACE.match(raw, place)
    return token.end() if token else place
