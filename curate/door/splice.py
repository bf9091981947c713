"""New texts for strings of a line of JSON; every other byte of the line stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import orjson

# Possessive repeats, as in `strict`. What lies between tokens is white space, for the line is valid.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],]|[^"{}\[\],:\s]+', re.DOTALL)
# One character of a string as it is spelled; a pair of surrogate escapes is one character.
_SPELLED = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL
)

_NOT_ASCII = re.compile(rb"\\u(?!00[0-7])")


def strings(raw: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield each string value of ``raw``, valid strict JSON, as (JSON pointer, first byte, byte after the last).

    The bytes are those of the token with its quotes. Keys are not yielded. One pass, whatever the number of strings.
    """
    # Of each open container: its pointer with a slash, then the key that waits for its value or the next list place.
    prefixes: list[str] = []
    steps: list[str | int | None] = []
    for token in _TOKEN.finditer(raw):
        start = token.start()
        byte = raw[start]
        if byte in b"}]":
            prefixes.pop()
            steps.pop()
            continue
        if byte == 0x2C:
            step = steps[-1]
            steps[-1] = step + 1 if isinstance(step, int) else None
            continue
        if steps and steps[-1] is None:
            steps[-1] = orjson.loads(token.group())
            continue
        pointer = f"{prefixes[-1]}{_escaped(steps[-1])}" if steps else ""
        if byte in b"{[":
            prefixes.append(pointer + "/")
            steps.append(None if byte == 0x7B else 0)
        elif byte == 0x22:
            yield pointer, start, token.end()


def respelled(raw: bytes, texts: Mapping[str, str], *, is_ascii: bool) -> bytes:
    """Return ``raw`` with the strings at the JSON pointers of ``texts`` replaced by those texts.

    Of a string only what lies between its first and its last changed character is spelled anew: escapes elsewhere,
    spacing, the order of keys and the spelling of numbers stay. Where the line does not show whether it is kept in
    ASCII, ``is_ascii`` says so, which is mostly what the whole file is.
    """
    is_ascii = raw.isascii() and (is_ascii or _NOT_ASCII.search(raw) is not None)
    parts, place = [], 0
    for pointer, start, end in strings(raw):
        if pointer in texts:
            token = _token(raw[start:end].decode("utf-8"), texts[pointer], is_ascii=is_ascii)
            parts += [raw[place:start], token.encode("utf-8")]
            place = end
    return b"".join([*parts, raw[place:]])


def common_ends(old: str, new: str) -> tuple[int, int]:
    """Return how many characters two texts begin with alike, and how many of what is left they end with alike."""
    most = min(len(old), len(new))
    head = next((n for n in range(most) if old[n] != new[n]), most)
    return head, next((n for n in range(most - head) if old[-1 - n] != new[-1 - n]), most - head)


def _token(old: str, text: str, *, is_ascii: bool) -> str:
    """Return the token ``old`` changed to say ``text``."""
    spelled = _SPELLED.findall(old[1:-1])
    before = json.loads(old)
    head, tail = common_ends(before, text)
    middle = json.dumps(text[head : len(text) - tail], ensure_ascii=is_ascii)[1:-1]
    return f'"{"".join(spelled[:head])}{middle}{"".join(spelled[len(spelled) - tail :])}"'


def _escaped(step: str | int | None) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")
