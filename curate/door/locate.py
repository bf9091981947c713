"""From a JSON pointer to the byte column where its value begins; runs on failing lines only."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    place = _skip_space(raw, 0)
    for part in parts_of(pointer):
        found = _child(raw, place, part)
        if found is None:
            break
        place = found
    return place + 1


def _child(raw: bytes, place: int, part: str) -> int | None:
    """Return where the value under key or index ``part`` of the container at ``place`` begins, if there is one."""
    opener = raw[place : place + 1]
    if opener not in (b"{", b"["):
        return None
    place = _skip_space(raw, place + 1)
    index = 0
    while raw[place : place + 1] not in (b"}", b"]", b""):
        if opener == b"{":
            end = _match_end(_STRING, raw, place)
            name = orjson.loads(raw[place:end])
            place = _skip_space(raw, _skip_space(raw, end) + 1)
        else:
            name = str(index)
        if name == part:
            return place
        place = _skip_space(raw, _value_end(raw, place))
        if raw[place : place + 1] == b",":
            place = _skip_space(raw, place + 1)
        index += 1
    return None


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
