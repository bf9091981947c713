"""New texts for strings of a line of JSON; every other byte of the line stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from curate.jsonl.walker import Walker

ESCAPE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.", re.DOTALL)
"""One character of a JSON string that is spelled by an escape; a pair of surrogate escapes is one character."""
_CHARACTER = re.compile(rf"{ESCAPE.pattern}|[^\\]", re.DOTALL)
_NOT_ASCII = re.compile(rb"\\u(?!00[0-7])")


def respelled(raw: bytes, texts: Mapping[str, str], *, is_ascii: bool) -> bytes:
    """Return ``raw`` with the strings at the JSON pointers of ``texts`` replaced by those texts.

    Of a string only what lies between its first and its last changed character is spelled anew: escapes elsewhere,
    spacing, the order of keys and the spelling of numbers stay. Where the line does not show whether it is kept in
    ASCII, ``is_ascii`` says so, which is mostly what the whole file is.
    """
    is_ascii = raw.isascii() and (is_ascii or _NOT_ASCII.search(raw) is not None)
    parts, offset = [], 0
    for pointer, start, end in Walker(raw).strings():
        if pointer in texts:
            token = _token(raw[start:end].decode("utf-8"), texts[pointer], is_ascii=is_ascii)
            parts += [raw[offset:start], token.encode("utf-8")]
            offset = end
    return b"".join([*parts, raw[offset:]])


def common_ends(old: str, new: str) -> tuple[int, int]:
    """Return how many characters two texts begin with alike, and how many of what is left they end with alike."""
    most = min(len(old), len(new))
    head = next((n for n in range(most) if old[n] != new[n]), most)
    return head, next((n for n in range(most - head) if old[-1 - n] != new[-1 - n]), most - head)


def _token(old: str, text: str, *, is_ascii: bool) -> str:
    """Return the token ``old`` changed to say ``text``."""
    spelled = _CHARACTER.findall(old[1:-1])
    before = json.loads(old)
    head, tail = common_ends(before, text)
    middle = json.dumps(text[head : len(text) - tail], ensure_ascii=is_ascii)[1:-1]
    return f'"{"".join(spelled[:head])}{middle}{"".join(spelled[len(spelled) - tail :])}"'
