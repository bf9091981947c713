"""Where each value of a line stands, byte for byte: the one walk over JSON that finding, splicing and showing share."""

# The walk runs over lines that `strict` has accepted, and on few of them: those with a finding, and those that are
# rewritten.

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import orjson

from curate.base.record import Json, canonical
from curate.jsonl.faults import JsonFault
from curate.jsonl.strict import strict_loads

_BLANK = rb"[ \t\r\n]*+"
# Possessive repeats, as in `strict`: a string of a million escapes would else keep a million offsets to go back to.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_START = re.compile(_BLANK)
_FIRST_MEMBER = re.compile(rb"[\[{]" + _BLANK)
_SCALAR = re.compile(_STRING + rb'|[^"{}\[\],:\s]++', re.DOTALL)
_AFTER_VALUE = re.compile(_BLANK + rb"(?P<mark>[,}\]])" + _BLANK)
# A scalar with what follows it; a container has to be walked through before what follows it is known.
_WHOLE = rb"(?:(?P<scalar>" + _SCALAR.pattern + rb")" + _AFTER_VALUE.pattern + rb")?"
_ELEMENT = re.compile(rb"(?P<key>)" + _WHOLE, re.DOTALL)
_MEMBER = re.compile(rb"(?P<key>" + _STRING + rb")" + _BLANK + rb":" + _BLANK + _WHOLE, re.DOTALL)
_STRING_OR_BRACKET = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_QUOTE = 0x22
_OPENERS = frozenset({b"{", b"["})
_CLOSERS = frozenset({b"}", b"]"})
# One character of a JSON string that is spelled by an escape; a pair of surrogate escapes is one character.
ESCAPE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.", re.DOTALL)
_CHARACTER = re.compile(rf"{ESCAPE.pattern}|[^\\]", re.DOTALL)
_NOT_ASCII = re.compile(rb"\\u(?!00[0-7])")


class JsonMember(NamedTuple):
    """A member of an object or an element of an array: its key or index, and the offsets of its key and value.

    An element has no key of its own: ``key_start`` and ``key_end`` are then where its value begins. ``end`` is None for
    a container, whose end `Walker.end` finds.
    """

    name: str
    key_start: int
    key_end: int
    start: int
    end: int | None


class Walker:
    """Walks over ``raw``, a line of valid strict JSON (else a ValueError); ``start`` is where its value begins."""

    # Each container is read no further than was asked for. A walk through a container, or the question for its end,
    # spares the walk around it that part, so that a line is read once however deep it is walked.

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.start = _match(_START, raw, 0).end()
        self._ends: dict[int, int] = {}
        self._children: dict[int, tuple[dict[str, int], Iterator[JsonMember]]] = {}

    def members(self, start: int) -> Iterator[JsonMember]:
        """Yield what the value that begins at ``start`` holds, in order: nothing where it is no container."""
        raw = self.raw
        opener = raw[start : start + 1]
        if opener not in _OPENERS:
            return
        pattern = _MEMBER if opener == b"{" else _ELEMENT
        offset = _match(_FIRST_MEMBER, raw, start).end()
        end, has_more = offset + 1, raw[offset : offset + 1] not in _CLOSERS
        index = 0
        while has_more:
            match = _match(pattern, raw, offset)
            name = orjson.loads(match["key"]) if pattern is _MEMBER else str(index)
            if match["scalar"] is not None:
                yield JsonMember(name, *match.span("key"), *match.span("scalar"))
            else:
                yield JsonMember(name, *match.span("key"), match.end(), None)
                match = _match(_AFTER_VALUE, raw, self.end(match.end()))
            offset, end, has_more = match.end(), match.end("mark"), match["mark"] == b","
            index += 1
        self._ends[start] = end

    def end(self, start: int) -> int:
        """Return the offset after the last byte of the value that begins at ``start``."""
        if self.raw[start : start + 1] not in _OPENERS:
            return _match(_SCALAR, self.raw, start).end()
        if start not in self._ends:
            self._ends[start] = self._end_of_container(start)
        return self._ends[start]

    def child(self, start: int, name: str) -> int | None:
        """Return where the value under the key or index ``name`` of the value at ``start`` begins, if there is one."""
        if start not in self._children:
            self._children[start] = {}, self.members(start)
        known, others = self._children[start]
        if name in known:
            return known[name]
        for member in others:
            # The first counts where a key stands twice, whichever was asked for before.
            known.setdefault(member.name, member.start)
            if member.name == name:
                return member.start
        return None

    def strings(self) -> Iterator[tuple[str, int, int]]:
        """Yield each string value in order as (JSON pointer, offset of its first quote, offset after its last)."""
        raw = self.raw
        if raw.startswith(b'"', self.start):
            yield "", self.start, self.end(self.start)
        containers = [("/", self.members(self.start))]
        while containers:
            prefix, members = containers[-1]
            for name, _, _, start, end in members:
                if end is None:
                    containers.append((f"{prefix}{_escaped(name)}/", self.members(start)))
                    break
                if raw[start] == _QUOTE:
                    yield prefix + _escaped(name), start, end
            else:
                containers.pop()

    def _end_of_container(self, start: int) -> int:
        depth = 0
        for token in _STRING_OR_BRACKET.finditer(self.raw, start):
            first = self.raw[token.start()]
            if first in b"{[":
                depth += 1
            elif first in b"}]":
                depth -= 1
                if depth == 0:
                    return token.end()
        raise ValueError("the line is not JSON")


def _match(pattern: re.Pattern[bytes], raw: bytes, offset: int) -> re.Match[bytes]:
    match = pattern.match(raw, offset)
    if match is None:
        raise ValueError("the line is not JSON")
    return match


_latest: Walker | None = None


def locate(raw: bytes, pointer: str) -> int:
    """Return the 1-based byte column at which the value of ``pointer`` begins in ``raw``, valid strict JSON."""
    # A pointer to what is not there gives the column of the deepest value on the way. One line can have thousands of
    # findings, so the walk over the latest line is kept.
    global _latest  # noqa: PLW0603  one slot, replaced whole, so that a second thread can only miss it
    walker = _latest
    if walker is None or walker.raw is not raw:
        walker = _latest = Walker(raw)
    start = walker.start
    for name in parts_of(pointer):
        child = walker.child(start, name)
        if child is None:
            break
        start = child
    return start + 1


def pointer_of(parts: Sequence[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a path of keys and indices."""
    return "".join("/" + _escaped(str(part)) for part in parts)


def parts_of(pointer: str) -> list[str]:
    """Return the keys and indices of a JSON pointer, unescaped."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def respelled(raw: bytes, texts: Mapping[str, str], *, is_ascii: bool) -> bytes:
    """Return ``raw`` with the strings at the JSON pointers of ``texts`` replaced by those texts."""
    # Of a string only what lies between its first and its last changed character is spelled anew: escapes elsewhere,
    # spacing, the order of keys and the spelling of numbers stay. Where the line does not show whether it is kept in
    # ASCII, ``is_ascii`` says so, which is mostly what the whole file is.
    is_ascii = raw.isascii() and (is_ascii or _NOT_ASCII.search(raw) is not None)
    parts, offset = [], 0
    for pointer, start, end in Walker(raw).strings():
        if pointer in texts:
            token = _token(raw[start:end].decode("utf-8"), texts[pointer], is_ascii=is_ascii)
            parts += [raw[offset:start], token.encode("utf-8")]
            offset = end
    return b"".join([*parts, raw[offset:]])


def with_strings(line: Mapping[str, Json], texts: Mapping[str, str]) -> dict[str, Json]:
    """Return ``line`` with the strings at the JSON pointers of ``texts`` replaced by those texts."""
    changed: dict[str, Json] = orjson.loads(respelled(orjson.dumps(line), texts, is_ascii=False))
    return changed


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


class _RawMember(NamedTuple):
    """A member of an object as it is spelled.

    ``lead`` stands between it and the one before it, or the opening brace; ``colon`` has the blanks around it.
    """

    lead: bytes
    key: bytes
    colon: bytes
    value: bytes


def with_members(raw: bytes, line: Mapping[str, Json], *, is_ascii: bool) -> bytes:
    """Return ``raw``, one line of valid strict JSON without its end, as the spelling of the object ``line``.

    Members that have the same value in both keep every byte. A new one comes last, but one that comes first in ``line``
    comes first. ``is_ascii`` says that the file escapes all that is not ASCII.
    """
    members, closing = _raw_members(raw)
    old = strict_loads(raw)
    # A new member is spaced as the first ones are.
    first = next(iter(members.values()), _RawMember(b"", b"", b": ", b""))
    is_tight = not first.colon.endswith(b" ")
    comma = next((member.lead for member in list(members.values())[1:]), b"," if is_tight else b", ")

    def encode(value: Json) -> bytes:
        return json.dumps(value, ensure_ascii=is_ascii, separators=(",", ":") if is_tight else (", ", ": ")).encode()

    parts = [raw[: raw.index(b"{") + 1]]
    for index, (key, value) in enumerate(line.items()):
        member = members.get(key) or _RawMember(comma, encode(key), first.colon, b"")
        is_same = key in old and canonical(old[key]) == canonical(value)
        lead = comma if index and member.key == first.key else member.lead if index else first.lead
        parts += [lead, member.key, member.colon, member.value if is_same else encode(value)]
    return b"".join([*parts, closing])


def _raw_members(raw: bytes) -> tuple[dict[str, _RawMember], bytes]:
    """Return the members of the object in ``raw`` by key, and what follows the last of them."""
    walker = Walker(raw)
    members, offset = {}, walker.start + 1
    for name, key_start, key_end, start, scalar_end in walker.members(walker.start):
        end = walker.end(start) if scalar_end is None else scalar_end
        members[name] = _RawMember(raw[offset:key_start], raw[key_start:key_end], raw[key_end:start], raw[start:end])
        offset = end
    return members, raw[offset:]


def edited_line(raw: bytes, line: Mapping[str, Json], *, is_ascii: bool) -> bytes:
    """Return what `with_members` does, proved by reading it again; else the line written anew."""
    edited = with_members(raw, line, is_ascii=is_ascii)
    try:
        if canonical(strict_loads(edited)) == canonical(line):
            return edited
    except JsonFault:
        # Escapes can make a line too long that is not so without them.
        pass
    return new_line(line)


def new_line(line: Mapping[str, Json]) -> bytes:
    """Return the spelling of a line that stands in no file yet."""
    return json.dumps(line, ensure_ascii=False).encode()
