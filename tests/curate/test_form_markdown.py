"""A record as Markdown for an editor: whatever it holds comes back, and what cannot be read is told with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.base.record import canonical
from curate.schema import load_shape
from curate.schema.form import Misspelt, is_markdown, markdown_of, read_markdown
from tests.curate.forming import VALUES

TEXTS = (
    st.text(max_size=12)
    | st.lists(
        st.sampled_from(
            [
                "## user", "# output", "\\## user", "```json turn", "```", "---", "a: 1", "", " ", "\t", "said", "\\",
                "\r", "\u2028", "#", "##",
            ]
        ),
        max_size=5,
    ).map("\n".join)
)  # fmt: skip
CALLS = st.lists(
    st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": TEXTS, "arguments": VALUES})}), max_size=2
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "reasoning", "## x"])},
        optional={
            "content": TEXTS | st.none() | VALUES, "reasoning_content": TEXTS, "thinking": TEXTS, "tool_calls": CALLS,
            "train": st.booleans(), "odd key": VALUES,
        },
    ),
    max_size=4,
)  # fmt: skip


def assert_comes_back(line: Any, shape: Any) -> None:
    text = markdown_of(line, shape)
    if text is not None:
        assert is_markdown(text)
        assert canonical(read_markdown(text, shape).line) == canonical(line)


@pytest.mark.ci
@given(
    st.fixed_dictionaries(
        {"messages": TURNS | VALUES}, optional={"id": TEXTS, "category": VALUES, "meta": VALUES, "odd: key": VALUES}
    )
)
@example({"messages": [{"role": "user", "content": "## user\n```json turn\n{}\n```"}]})
def test_whatever_a_conversation_holds_comes_back(line: dict[str, Any]) -> None:
    assert_comes_back(line, load_shape("chat"))


@pytest.mark.ci
@given(
    st.dictionaries(st.sampled_from(["id", "instruction", "input", "output", "system", "meta", "x y"]), TEXTS | VALUES)
)
def test_whatever_an_instruction_holds_comes_back(line: dict[str, Any]) -> None:
    assert_comes_back(line, load_shape("instruction"))


@pytest.mark.ci
@given(st.dictionaries(st.sampled_from(["id", "prompt", "messages", "chosen", "rejected", "answers"]), TEXTS | TURNS))
def test_whatever_a_preference_holds_comes_back(line: dict[str, Any]) -> None:
    assert_comes_back(line, load_shape("preference"))


@pytest.mark.parametrize("file", ["support_desk.jsonl"])
def test_each_record_of_the_sample_is_markdown(file: str) -> None:
    shape = load_shape("instruction")
    lines = [json.loads(line) for line in Path("samples", file).read_text(encoding="utf-8").splitlines()]
    assert all(markdown_of(line, shape) for line in lines)


CHAT = {
    "id": "c1",
    "category": "weather",
    "messages": [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}]},
        {"role": "assistant", "content": "Cold.\n\n## user\nsaid so", "reasoning_content": "It is winter."},
    ],
}


def test_a_conversation_has_a_heading_for_each_turn() -> None:
    text = markdown_of(CHAT, load_shape("chat"))
    assert text is not None
    assert text.startswith('---\nid: "c1"\ncategory: "weather"\n---\n\n## user\n\nWeather in Oslo?\n\n## assistant\n')
    assert '```json turn\n{\n  "tool_calls": [' in text
    assert text.endswith("## reasoning_content\n\nIt is winter.\n\n## assistant\n\nCold.\n\n\\## user\nsaid so\n")


def test_what_is_added_by_hand_is_read() -> None:
    shape = load_shape("chat")
    text = '---\ncategory: "a"\n---\n## user\nHi\n## assistant\n\nHello\n\n\n## user\n## assistant\nBye'
    assert read_markdown(text, shape).line == {
        "category": "a",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user"},
            {"role": "assistant", "content": "Bye"},
        ],
    }


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("---\nid: \"a\"\n", 1, 1),
        ("---\nid: oops\n---\n", 2, 5),
        ("---\nmeta: {\n  \"a\" 1\n}\n---\n", 3, 7),
        ("---\nid: 1\nid: 2\n---\n", 3, 1),
        ("---\n---\nHi\n## user\n", 3, 1),
        ("---\n---\n## user\n\n```json turn\n{\"a\": }\n```\n", 6, 7),
        ("---\n---\n## user\n\n```json turn\n{}\n", 5, 1),
        ("---\n---\n## user\n\n```json turn\n{}\n```\nmore\n", 8, 1),
        ("---\n---\n## user\nHi\n```json turn\n{\"content\": \"Ho\"}\n```\n", 5, 1),
        ("---\nmessages: []\n---\n## user\nHi\n", 4, 1),
        ("---\n---\n## reasoning\nSo\n", 4, 1),
    ],
)  # fmt: skip
def test_faults_say_their_line(text: str, line: int, column: int) -> None:
    with pytest.raises(Misspelt) as caught:
        read_markdown(text, load_shape("chat"))
    assert (caught.value.line, caught.value.column) == (line, column)
