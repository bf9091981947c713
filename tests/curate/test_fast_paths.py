"""Whatever saves time at the door and in making records changes no result: short ways are held to the long ones."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import SPLITS, content_id, normalised
from curate.jsonl import JsonFault, strict_loads
from curate.jsonl.strict import scan
from curate.schema.view import Content, View
from tests.effort import draws

# --- the front door --------------------------------------------------------------------------------------------------

# Spellings of keys and values that parsers lose something of, or that could hide it from a count of quotes.
spelled = st.sampled_from(
    [
        '"a"',
        '"b"',
        r'"\u0061"',
        r'"\""',
        r'"\u0022"',
        r'"\\\""',
        r'"\\u0022"',
        r'"\u0022\u0022"',
        '"é"',
        r'"\ud83d\ude00"',
    ]
)
numbers = st.sampled_from(
    ["0", "-1", "1.5", "1e5", "1e400", "-0.0", "1e-400", "0.1234567890123456789"]
) | st.sampled_from(
    ["9223372036854775807", "9223372036854775808", "-9223372036854775809", "1234567890123456789012", "9" * 18]
)
blanks = st.sampled_from(["", "", " ", "  "])
json_texts = st.recursive(
    spelled | numbers | st.sampled_from(["true", "null", "[]", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]")
        | st.lists(st.tuples(spelled, blanks, inner), max_size=4).map(
            lambda pairs: "{" + ",".join(f"{key}{blank}:{blank}{value}" for key, blank, value in pairs) + "}"
        )
    ),
    max_leaves=12,
)


@settings(max_examples=draws(600), deadline=None)
@given(json_texts, blanks)
def test_the_cheap_proof_accepts_only_what_the_scanner_accepts(text: str, blank: str) -> None:
    raw = (blank + text + blank).encode()
    expected = ""
    try:
        scan(raw)
    except JsonFault as fault:
        expected = f"{fault.code} {fault.column}"
    try:
        value, found = strict_loads(raw), ""
    except JsonFault as fault:
        found = f"{fault.code} {fault.column}"
    else:
        assert value == json.loads(raw)
    assert found == expected


# --- the record ------------------------------------------------------------------------------------------------------

spaced = st.text(alphabet=" \n\t\r\x0b\x1c\x1f\x7f\x85\u00a0\u3000aAbB.éÉﬁİ１e\u0301", max_size=40)


@settings(max_examples=draws(400), deadline=None)
@given(spaced | st.text())
def test_normal_form_is_what_it_was(text: str) -> None:
    assert normalised(text) == " ".join(unicodedata.normalize("NFKC", text).lower().split())


parts = st.none() | st.text(max_size=5) | st.integers() | st.floats(allow_nan=False) | st.booleans()
objects = st.dictionaries(st.text(max_size=3), parts | st.lists(parts, max_size=2), max_size=3)


@settings(max_examples=draws(300), deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=3) | objects, max_size=3), st.text())
def test_an_id_made_of_content_is_the_digest_of_its_canonical_spelling(turns: list[Any], text: str) -> None:
    for tools in ((), ({"name": "find"},)):
        expected = content_id({"messages": turns, "tools": tools, "text": text})
        assert Content(tuple(turns), tools, text).id() == expected


def is_wanted(name: str, value: Any) -> bool:
    """Say in plain Python what may stand at a place; nothing may, always."""
    texts = ("system", "completion", "text", "category")
    if value is None:
        return True
    if name == "prompt":
        return isinstance(value or "", str)
    if name == "id":
        return isinstance(value, str | int) and not isinstance(value, bool)
    if name == "split":
        return isinstance(value, str) and value in SPLITS
    if name in ("labels", "meta"):
        return isinstance(value, dict)
    if name in texts:
        return isinstance(value, str)
    if not isinstance(value, list):
        return False
    if name == "ignore":
        return all(isinstance(part, str) for part in value)
    return all(isinstance(part, dict) for part in value) and (name == "tools" or all(map(is_message, value)))


def is_message(value: dict[str, Any]) -> bool:
    """Say in plain Python what a message is."""
    content, calls = value.get("content"), value.get("tool_calls")
    is_text = content is None or isinstance(content, str)
    has_parts = isinstance(content, list) and all(isinstance(part, dict) for part in content)
    are_calls = calls is None or (isinstance(calls, list) and all(map(is_call, calls)))
    return isinstance(value.get("role"), str) and (is_text or has_parts) and are_calls


def is_call(value: Any) -> bool:
    """Say in plain Python what a tool call is."""
    function = value.get("function") if isinstance(value, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str) and "arguments" in function


calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": parts, "arguments": parts}) | objects | parts}
)
messages = st.fixed_dictionaries(
    {}, optional={"role": st.just("user") | parts, "content": st.lists(objects | parts, max_size=2) | parts,
                  "tool_calls": st.lists(calls | objects | parts, max_size=2) | parts}
)  # fmt: skip
standing = st.one_of(
    parts,
    st.sampled_from([0, 0.0, -0.0, 1.0, 1, True, False, "", [], {}, "train", "exam"]),
    st.lists(messages | parts, max_size=3),
    st.lists(st.text(max_size=3) | objects, max_size=2),
    objects,
)
NAMES = ("id", "system", "completion", "messages", "tools", "text", "category", "labels", "split", "meta", "ignore")


@settings(max_examples=draws(500), deadline=None)
@given(st.dictionaries(st.sampled_from((*NAMES, "prompt")), standing, max_size=5), st.booleans())
def test_the_engine_agrees_on_what_may_stand_at_each_place(line: dict[str, Any], is_nested: bool) -> None:
    prefix = "/a/b" if is_nested else ""
    view = View({name: f"{prefix}/{name}" for name in (*NAMES, "prompt")})
    value = {"a": {"b": line}} if is_nested else line
    misfits = [problem.pointer.removeprefix(prefix + "/") for problem in view.misfits(value)]
    assert set(misfits) == {name for name in line if not is_wanted(name, line[name])}


def test_a_place_in_a_list_is_looked_at_too() -> None:
    view = View({"prompt": "/turns/0", "completion": "/turns/1"})
    assert not any(view.misfits({"turns": ["Due?", "On the 5th."]}))
    assert any(view.misfits({"turns": ["Due?", 5]}))
    assert not any(view.misfits({"turns": []}))
