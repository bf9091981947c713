"""The walk over a line of JSON: what it says of every value is what a parser and the bytes themselves say."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.jsonl import locate, parts_of, pointer_of
from curate.jsonl.walker import Walker
from tests.effort import draws

_BLANKS = st.text(" \t\r\n", max_size=2)
_SCALARS = st.sampled_from(["0", "-0", "12", "1.50e3", "-7E-2", "true", "false", "null", "9223372036854775807"])
_PIECES = st.sampled_from(
    ["a", "b", "/", "~", "~1", "\\/", '\\"', "\\\\", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\u005b", "é", "\u2028", "𝄞",
     " ", "{", "}", "[", "]", ",", ":", "'"]
)  # fmt: skip
_STRINGS = st.lists(_PIECES, max_size=4).map(lambda pieces: f'"{"".join(pieces)}"')
_KEYS = st.one_of(st.sampled_from(['"a"', '"b"', '""', '"0"', '"a\\u0062"']), _STRINGS)


def _array(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(_BLANKS, inner, _BLANKS).map("".join), max_size=4)
    return st.one_of(items.map(lambda some: f"[{','.join(some)}]"), _BLANKS.map(lambda blank: f"[{blank}]"))


def _object(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(_BLANKS, _KEYS, _BLANKS, st.just(":"), _BLANKS, inner, _BLANKS).map("".join)
    pairs = st.lists(pair, max_size=4)
    return st.one_of(pairs.map(lambda some: "{" + ",".join(some) + "}"), _BLANKS.map(lambda blank: "{" + blank + "}"))


def _nested(text: str, around: str) -> str:
    for opener in around:
        text = f"[{text}]" if opener == "[" else '{"k": ' + text + "}"
    return text


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return _array(inner) | _object(inner) | st.builds(_nested, inner, st.text("[{", max_size=60))


# Keys can stand twice here: no walk may lose its way in a line that is shown before it is refused.
LINES = st.tuples(_BLANKS, st.recursive(_SCALARS | _STRINGS, _containers, max_leaves=12), _BLANKS).map("".join)


class _Pairs(list[tuple[str, Any]]):
    """An object with all of its members, those too whose key stands twice."""


def _parsed(text: str | bytes) -> Any:
    return json.loads(text, object_pairs_hook=_Pairs)


def _check(walker: Walker, start: int, value: Any, how: str) -> int:
    """Compare the value at ``start`` with what a parser read, in the order ``how``; return where it ends."""
    raw = walker.raw
    end_before = walker.end(start) if "e" in how else None
    members = list(walker.members(start)) if "a" in how else walker.members(start)
    is_object = isinstance(value, _Pairs)
    wanted = value if is_object else [(str(index), item) for index, item in enumerate(value)] if _is_list(value) else []
    passed: list[str] = []
    offset = start + 1
    for member in members:
        name, item = wanted[len(passed)]
        passed.append(member.name)
        assert member.name == name
        if is_object:
            assert json.loads(raw[member.key_start : member.key_end]) == name
            assert raw[member.key_end : member.start].strip() == b":"
        else:
            assert member.key_start == member.key_end == member.start
        assert raw[offset : member.key_start].strip() == (b"," if len(passed) > 1 else b"")
        end = _check(walker, member.start, item, how) if "d" in how else walker.end(member.start)
        assert end == walker.end(member.start)
        assert member.end == (None if _is_list(item) else end)
        assert _parsed(raw[member.start : end]) == item
        assert raw[member.start : end] == raw[member.start : end].strip()
        offset = end
    assert passed == [name for name, _ in wanted]
    end = walker.end(start)
    assert end_before in (None, end)
    if _is_list(value):
        assert raw[offset:end].strip() in (b"}", b"]")
    return end


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


@pytest.mark.parametrize("how", ["", "d", "e", "ed", "ad", "aed"])
@given(line=LINES)
@settings(max_examples=draws(200), deadline=None)
def test_keys_and_values_stand_where_a_parser_reads_them(how: str, line: str) -> None:
    raw = line.encode()
    walker = Walker(raw)
    end = _check(walker, walker.start, _parsed(line), how)
    assert not raw[: walker.start].strip()
    assert not raw[end:].strip()


def _paths(value: Any) -> list[tuple[list[str | int], Any]]:
    """Return every value in the order in which the values begin, with the way to it."""
    children = value if isinstance(value, _Pairs) else enumerate(value) if _is_list(value) else ()
    return [([], value), *(([name, *path], item) for name, child in children for path, item in _paths(child))]


@given(LINES)
@settings(max_examples=draws(500), deadline=None)
def test_strings_come_in_order_with_their_pointers(line: str) -> None:
    raw = line.encode()
    strings = [(pointer, json.loads(raw[start:end])) for pointer, start, end in Walker(raw).strings()]
    assert strings == [(pointer_of(path), item) for path, item in _paths(_parsed(line)) if isinstance(item, str)]


def _first_of_each_key(value: Any) -> Any:
    """Return the value without the members whose key stood before."""
    if isinstance(value, _Pairs):
        return _Pairs({name: _first_of_each_key(item) for name, item in reversed(value)}.items())
    return [_first_of_each_key(item) for item in value] if _is_list(value) else value


@given(LINES, st.randoms(use_true_random=False))
@settings(max_examples=draws(500), deadline=None)
def test_a_pointer_leads_to_the_first_value_of_its_name(line: str, random: Random) -> None:
    raw = line.encode()
    paths = _paths(_first_of_each_key(_parsed(line)))
    random.shuffle(paths)
    for path, item in paths:
        assert parts_of(pointer_of(path)) == [str(part) for part in path]
        column = locate(raw, pointer_of(path))
        assert _first_of_each_key(_parsed(raw[column - 1 : Walker(raw).end(column - 1)])) == item
        assert locate(raw, pointer_of([*path, "missing"])) == column


@pytest.mark.parametrize("raw", [b"", b" ", b"{", b'{"a"', b'{"a":1', b"[1", b'["a', b"[[1]", b"[1 2]"])
def test_what_is_no_json_ends_the_walk(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        _everything(raw)


def _everything(raw: bytes) -> None:
    walker = Walker(raw)
    list(walker.strings())
    list(walker.members(walker.start))
    walker.end(walker.start)
