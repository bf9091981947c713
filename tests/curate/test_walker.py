"""One walk over a line of JSON: what it says of every value is what a parser and the bytes themselves say."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from curate.door import DoorFault, strict_loads
from curate.door.locate import locate as old_locate
from curate.door.splice import strings as old_strings
from curate.door.walker import Walker, pointer_of
from curate.door.walker import locate as new_locate
from curate.merge.members import members_of
from curate.workspace.respelled import _spans as old_spans

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


_VALUES = st.recursive(
    _SCALARS | _STRINGS,
    lambda inner: _array(inner) | _object(inner) | st.builds(_nested, inner, st.text("[{", max_size=60)),
    max_leaves=12,
)
LINES = st.tuples(_BLANKS, _VALUES, _BLANKS).map("".join).map(str.encode)
OBJECTS = _object(_VALUES).map(str.encode)


@given(LINES)
@settings(max_examples=3000, deadline=None)
def test_old_and_new(raw: bytes) -> None:
    walker = Walker(raw)
    assert list(walker.strings()) == list(old_strings(raw))
    json.loads(raw)
    todo: list[tuple[list[Any], Any]] = [([], json.loads(raw, strict=False))]
    pointers = [p for p, _, _ in old_strings(raw)]
    while todo:
        path, node = todo.pop()
        pointers += [pointer_of(path), pointer_of([*path, "missing"])]
        if isinstance(node, dict):
            todo += [([*path, k], v) for k, v in node.items()]
        elif isinstance(node, list):
            todo += [([*path, k], v) for k, v in enumerate(node)]
    for p in pointers:
        # a copy, so that nothing is remembered
        assert new_locate(bytes(bytearray(raw)), p) == old_locate(bytes(bytearray(raw)), p), p
    try:
        strict_loads(raw)
    except DoorFault:
        # A key that stands twice: the old one remembered the last one it had passed.
        return
    for p in [*pointers, *reversed(pointers)]:
        assert new_locate(raw, p) == old_locate(raw, p), p


@given(OBJECTS)
@settings(max_examples=3000, deadline=None)
def test_old_members(raw: bytes) -> None:
    walker = Walker(raw)
    mine = [(m.key_start, m.key_end, m.start, walker.end(m.start)) for m in walker.members(walker.start)]
    assert mine == list(old_spans(raw))
    them = members_of(raw)
    assert {m.name: raw[m.start : walker.end(m.start)] for m in walker.members(walker.start)} == them.values
    fresh = Walker(raw)
    assert [(m.key_start, m.key_end, m.start, fresh.end(m.start)) for m in fresh.members(fresh.start)] == mine
    again = Walker(raw)
    assert [m.start for m in again.members(again.start)] == [m[2] for m in mine]
