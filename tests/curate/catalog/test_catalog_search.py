"""Texts are found in lines without parsing most of them: what is found is what the records say."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from curate.base.record import CurateError
from curate.project.catalog import open_catalog
from curate.project.data import load_data
from curate.project.filters import Filter, parse_filter, quoted
from tests.curate.catalogs import lets_through
from tests.effort import draws

# Letters that fold in odd ways, escapes, what JSON may escape, and what cuts lines elsewhere.
ALPHABET = [*"kK\u212asSſßéÉiİıΣς漢😀aAbnu", *'"\\/', *"\n\t\x00\x7f \u2028\ufeff061"]
TEXTS = st.text(st.sampled_from(ALPHABET), max_size=8)
PIECES = [*"aKsénu?*+|^$.", "{2}", "{0,1}", "{0}", r"\w", r"\b", r"\\", r"\x61", r"\pL", r"\u{61}", "[ab]", "[^k]"]
PIECES += ["(a|b)", "(?:s)", "(?P<x>b)", "(?i:k)", "(?i)", "(?s)", "(?x)", '"']


def spelled(text: str, numbers: list[bool]) -> str:
    """Return ``text`` in JSON, with characters spelled by number where ``numbers`` say so, over and over."""
    parts = []
    for index, character in enumerate(text):
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        if numbers[index % len(numbers)]:
            plain = "\\/" if character == "/" else json.dumps(character)[1:-1]
            plain = plain if plain.startswith("\\") else f"\\u{ord(character):04X}"
        parts.append(plain)
    return f'"{"".join(parts)}"'


def records(texts: list[str], numbers: list[bool]) -> bytes:
    """Return lines of pairs of ``texts``, with others between them that are no records."""
    lines = [b"junk \xff \xc3", b""]
    for index, (prompt, answer) in enumerate(pairwise(texts)):
        words = f'"instruction": {spelled(prompt or "p", numbers)}, "output": {spelled(answer, numbers[::-1])}'
        lines += [f'{{"id": "{index}", {words}}}'.encode(), b"" if index % 2 else b"\xff"]
    return b"\n".join(lines) + b"\n"


def check(root: Path, where: Filter) -> None:
    data = load_data(root)
    states = data.states()
    wanted = [row for row, is_in in enumerate(lets_through(where, states)) if is_in]
    assert open_catalog(data).select(where).to_list() == wanted


@st.composite
def filters(draw: Any) -> str:
    if draw(st.booleans()):
        pattern = "".join(draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6)))
        option = f"/{pattern.replace('/', chr(92) + '/')}/{draw(st.sampled_from(['', 'i']))}"
    else:
        text = draw(TEXTS.filter(bool))
        is_bare = not set(text) & set(' "\\/\n\t\x00\u2028|')
        option = text if is_bare and draw(st.booleans()) else quoted(text)
    return draw(st.sampled_from(["", "-", "prompt:", "completion:!", "prompt:zz|"])) + option


@pytest.mark.ci
@settings(max_examples=draws(150), deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=8), st.lists(st.booleans(), min_size=1, max_size=5), filters())
@example(["\u212a", "xx"], [True], "prompt:k")
@example(["ſ", "xx"], [True], "s")
@example(["nab", "a\nb"], [False], '"nb"')
@example(["AbK", "bb"], [True], "/ab?k/i")
def test_searching_lines_finds_what_is_in_the_texts(tmp_path_factory, texts, numbers, text):
    root = tmp_path_factory.mktemp("searched")
    where = None
    with suppress(CurateError):  # some expressions that are put together from pieces are none
        where = parse_filter(text)
    assume(where)
    (root / "curate.toml").touch()
    (root / "data").mkdir()
    (root / "data" / "a.jsonl").write_bytes(records(texts, numbers))
    check(root, where)


CHATS = [
    [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}],
    [{"role": "user", "content": [{"type": "text", "text": "on"}, {"type": "text", "text": "e two"}]}],
    [
        {"role": "user", "content": "call"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "find", "arguments": {"b": 1e3, "a": "x"}}},
        ]},
    ],
]  # fmt: skip


@pytest.mark.parametrize("text", ["one", '"one two"', "-one", "find(", '"a\\": \\"x"', "1000.0", "role", "three"])
def test_what_is_put_together_of_several_texts_is_found(make_workspace, text):
    root = make_workspace([]).root
    (root / "schema.json").write_text(json.dumps({"type": "object", "properties": {"messages": {}}}))
    (root / "curate.toml").write_text('schema = "schema.json"\n[checks]\nmin_category = 0\n')
    lines = [json.dumps({"messages": messages}, separators=(",", ":")) for messages in CHATS]
    (root / "data" / "a.jsonl").write_text("\n".join(lines) + "\n")
    check(root, parse_filter(text))
