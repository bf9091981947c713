r"""Text that is itself JSON, such as the arguments of a tool call: what its strings say, and where in the text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import orjson

from curate.base.patterns import lazy_pattern
from curate.base.record import Json, strings_of
from curate.jsonl import JsonFault, strict_loads
from curate.jsonl.walker import ESCAPE, respelled

# Finds values in a text, as (kind, where it begins, where it ends).
FindSpans = Callable[[str], Iterable[tuple[str, int, int]]]

# How many texts of JSON one within the other are looked into.
DEPTH = 3
# Found in every JSON text in which an escape can hide the sign of a check.
ESCAPED = lazy_pattern(r"\A[ \t\r\n]*[\[{][^\\]*\\")

# Its escapes hide what it holds: the letter of a ``\n`` stands right before a value as if it were part of a word.
_STRING = lazy_pattern(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
# Of several backslashes the last one counts: the others are those of JSON within JSON.
_ESCAPES = lazy_pattern(r"\\+(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_STANDS_FOR = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def json_within(text: str) -> Json:
    """Return the object or array that ``text`` is in strict JSON, None where it is not."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return strict_loads(text.encode("utf-8", "surrogatepass"))
    except JsonFault:
        return None


def spans_within(text: str, find: FindSpans, depth: int = DEPTH) -> Iterator[tuple[str, int, int]]:
    """Yield what ``find`` finds in ``text`` and, if that is JSON, in each string of it, as places of ``text``."""
    if not depth or json_within(text) is None:
        yield from find(text)
        return
    spans = set(_as_a_whole(text, find))
    for match in _STRING.finditer(text):
        inner, begin = spans_within(orjson.loads(match.group()), find, depth - 1), match.start(1)
        if some := list(inner):
            starts = _starts(match.group(1))
            spans.update((kind, begin + starts[first], begin + starts[last]) for kind, first, last in some)
    yield from sorted(spans, key=lambda span: span[1:])


def values_within(text: str, find: FindSpans, depth: int = DEPTH) -> Iterator[tuple[str, str]]:
    """Yield what ``find`` finds in ``text`` as (kind, value), and in the strings of JSON within it as they are read."""
    value = json_within(text) if depth else None
    if value is None:
        yield from ((kind, text[start:end]) for kind, start, end in find(text))
        return
    whole = Counter((kind, unescaped(text[start:end])) for kind, start, end in _as_a_whole(text, find))
    inner = Counter(pair for part in strings_of(value) for pair in values_within(part, find, depth - 1))
    yield from (whole | inner).elements()


def respelled_within(text: str, mend: Callable[[str], str]) -> str:
    """Return ``text``, valid JSON, with each string and key as ``mend`` makes it; what it leaves stays as spelled."""
    is_ascii = text.isascii()

    def mended(match: re.Match[str]) -> str:
        old = orjson.loads(match.group())
        new = mend(old)
        token = match.group()
        return token if new == old else respelled(token.encode(), {"": new}, is_ascii=is_ascii).decode()

    return _STRING.sub(mended, text)


def unescaped(part: str) -> str:
    """Return what a part of a JSON string says; as it is where it is no whole part."""
    try:
        return str(orjson.loads(f'"{part}"')) if "\\" in part else part
    except orjson.JSONDecodeError:
        return part


def _as_a_whole(text: str, find: FindSpans) -> Iterable[tuple[str, int, int]]:
    """Find values in JSON text as a whole, since a key can say what its value is."""
    # Every escape is replaced by its character, padded to the width of the escape, so that offsets stay.
    return find(_ESCAPES.sub(_as_wide, text) if "\\" in text else text)


def _as_wide(match: re.Match[str]) -> str:
    number, letter = match.groups()
    character = chr(int(number, 16)) if number else _STANDS_FOR.get(letter, letter)
    # What goes on is no border of a value, but a plus begins a number, and one alone.
    return (" " if character == "+" else character) * (len(match.group()) - 1) + character


def _starts(body: str) -> Sequence[int]:
    """Return where in the spelling of a string each of its characters begins, and where the last one ends."""
    starts: list[int] = []
    offset = 0
    for escape in ESCAPE.finditer(body):
        starts += range(offset, escape.start() + 1)
        offset = escape.end()
    return [*starts, *range(offset, len(body) + 1)]
