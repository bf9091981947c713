"""A line with new values: what an edit does not touch keeps its bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import orjson

from curate.base.record import Json, canonical
from curate.jsonl import JsonFault, strict_loads

# Possessive repeats, as in `curate.jsonl`: a string of a million escapes would else keep a million places to go back
# to.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,]', re.DOTALL)


class _RawMember(NamedTuple):
    """A member of an object as it is spelled."""

    lead: bytes
    """What stands between it and the one before it, or the opening brace."""
    key: bytes
    colon: bytes
    """The colon, with the blanks around it."""
    value: bytes


def respelled(raw: bytes, line: Mapping[str, Json], *, is_ascii: bool) -> bytes:
    """Return ``raw``, one line without its end, as the spelling of ``line``.

    Members that have the same value in both keep every byte. A new one comes last, but one that comes first in ``line``
    comes first. ``is_ascii`` says that the file escapes all that is not ASCII.
    """
    members, closing = _members(raw)
    old = strict_loads(raw)
    first = next(iter(members.values()), _RawMember(b"", b"", b": ", b""))
    is_tight = not first.colon.endswith(b" ")
    comma = next((member.lead for member in list(members.values())[1:]), b"," if is_tight else b", ")

    def encode(value: Json) -> bytes:
        return json.dumps(value, ensure_ascii=is_ascii, separators=(",", ":") if is_tight else (", ", ": ")).encode()

    members_out: list[_RawMember] = []
    for key, value in line.items():
        member = members.get(key) or _RawMember(comma, encode(key), first.colon, b"")
        is_same = key in old and canonical(old[key]) == canonical(value)
        members_out.append(member if is_same else member._replace(value=encode(value)))
    parts = [raw[: raw.index(b"{") + 1]]
    for index, member in enumerate(members_out):
        lead = member.lead if member.key != first.key else comma
        parts += [lead if index else first.lead, *member[1:]]
    return b"".join([*parts, closing])


def spelled(raw: bytes, line: Mapping[str, Json], *, is_ascii: bool) -> bytes:
    """Return what `respelled` does, proved by reading it again; where that is not ``line``, the line spelled anew."""
    line_bytes = respelled(raw, line, is_ascii=is_ascii)
    try:
        if canonical(strict_loads(line_bytes)) == canonical(line):
            return line_bytes
    except JsonFault:
        # Escapes can make a line too long that is not so without them.
        pass
    return spelled_anew(line)


def spelled_anew(line: Mapping[str, Json]) -> bytes:
    """Return the spelling of a line that stands in no file yet."""
    return json.dumps(line, ensure_ascii=False).encode()


def _members(raw: bytes) -> tuple[dict[str, _RawMember], bytes]:
    """Return the members of the object in ``raw`` by key, and what follows the last of them."""
    members: dict[str, _RawMember] = {}
    end = raw.index(b"{") + 1
    for key_start, key_end, value_start, value_end in _spans(raw):
        key = raw[key_start:key_end]
        parts = (raw[end:key_start], key, raw[key_end:value_start], raw[value_start:value_end])
        members[orjson.loads(key)] = _RawMember(*parts)
        end = value_end
    return members, raw[end:]


def _spans(raw: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield where the key and the value of each member begin and end."""
    depth, key, start = 0, None, 0
    for token in _TOKEN.finditer(raw):
        mark = raw[token.start()]
        is_end = depth == 1 and mark in b",}"
        if is_end and key is not None:
            value = raw[start : token.start()]
            yield *key, start + len(value) - len(value.lstrip()), start + len(value.rstrip())
            key = None
        elif depth == 1 and mark == 0x22 and key is None:
            key = token.span()
        elif depth == 1 and mark == 0x3A:
            start = token.end()
        depth += (mark in b"{[") - (mark in b"}]")
