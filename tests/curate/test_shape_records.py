"""Records seen through shapes: what is read from a line, and the line that comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import CurateError, Record, Source, trace_of
from curate.schema import Shape, guess_shape, load_shape, resembled_shape, shape_names
from tests.effort import draws

HERE = Source("a.jsonl", 1)


def own(folder: Path, schema: Any, name: str = "own.json") -> Shape:
    (folder / name).write_text(json.dumps(schema), encoding="utf-8")
    return load_shape(name, folder)


def seen(name: str, value: dict[str, Any]) -> Record:
    shape = load_shape(name)
    assert shape.is_valid(value)
    return shape.record(value, HERE)


def test_an_instruction_record() -> None:
    record = seen("instruction", {"system": "S", "instruction": "I", "input": "P", "output": "O", "category": "c"})
    assert (record.system, record.prompt, record.completion, record.category) == ("S", "I\n\nP", "O", "c")
    assert [(m["role"], m["content"]) for m in record.messages] == [
        ("system", "S"),
        ("user", "I\n\nP"),
        ("assistant", "O"),
    ]
    assert not record.has_own_id
    assert record.prompt_parts == ("I", "P"), "each is compared by itself"
    assert seen("instruction", {"instruction": "I", "output": "O"}).prompt_parts == ()


def test_a_chat_record() -> None:
    turns = [
        {"role": "developer", "content": "S"},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
    ]
    record = seen("chat", {"id": "c", "messages": turns})
    assert (record.system, record.prompt, record.completion) == ("S", "A\n\nB\n\nC", 'f({"x": 1})')
    assert (record.id, record.has_own_id, record.kind) == ("c", True, "chat")


def test_domain_records() -> None:
    pair = seen("domain", {"context": "C", "question": "Q", "answer": "A"})
    assert (pair.prompt, pair.completion, pair.text) == ("C\n\nQ", "A", "")
    text = seen("domain", {"text": "T"})
    assert (text.messages, text.text, text.kind) == ((), "T", "domain")


def test_an_id_is_made_of_what_is_taught() -> None:
    plain = {"instruction": "I", "output": "O"}
    other = {"output": "O", "instruction": "I", "category": "c", "meta": {"x": 1}, "labels": {"q": 1}}
    assert seen("instruction", plain).id == seen("instruction", other).id
    assert seen("instruction", plain).id != seen("instruction", {**plain, "output": "P"}).id
    assert len(seen("instruction", plain).id) == 16


@pytest.mark.parametrize("source", shape_names())
@pytest.mark.parametrize("target", shape_names())
def test_a_record_in_another_shape_teaches_the_same(source: str, target: str) -> None:
    shape = load_shape(target)
    for value in load_shape(source).schema["examples"]:
        record = seen(source, value)
        is_plain = not record.text and not record.system and not record.tools and len(record.messages) == 2
        # Only a chat has a place for reasoning, and a preference compares answers, which no other has.
        is_plain = is_plain and "preference" not in (source, target) and not any(map(trace_of, record.messages))
        try:
            line = shape.line(record)
        except CurateError:
            is_refused = True
        else:
            is_refused = False
        assert not (is_refused and (is_plain or source == target))
        if is_refused:
            continue
        assert shape.is_valid(line)
        again = shape.record(line, HERE)
        assert (again.messages, again.tools, again.text) == (record.messages, record.tools, record.text)
        assert (again.category, again.labels, again.split, again.meta) == (
            record.category,
            record.labels,
            record.split,
            record.meta,
        )


TEXTS = st.text(max_size=8)
FILLED = st.text(min_size=1, max_size=8)
LINES = st.fixed_dictionaries(
    {"instruction": TEXTS, "output": TEXTS},
    optional={
        "id": FILLED,
        "system": TEXTS,
        "input": TEXTS,
        "category": TEXTS,
        "labels": st.dictionaries(TEXTS, st.integers()),
        "split": st.sampled_from(["train", "validation", "test"]),
        "meta": st.dictionaries(TEXTS, TEXTS),
        "x-ignore": st.lists(FILLED, unique=True),
    },
)


@given(LINES)
@settings(max_examples=draws(200), deadline=None)
def test_lines_come_back_as_they_were(value: dict[str, Any]) -> None:
    shape = load_shape("instruction")
    record = shape.record(value, HERE)
    line = shape.line(record)
    assert shape.record(line, HERE) == Record(**{**{n: getattr(record, n) for n in Record.__slots__}, "data": line})
    # An empty part says no more than a missing one, so only those may go.
    lost = value.keys() - line.keys()
    assert all(not value[key] for key in lost)
    assert {key: value[key] for key in value.keys() - lost} == line


def test_a_line_carries_decisions() -> None:
    shape = load_shape("instruction")
    value = {"instruction": "I", "input": "P", "output": "O"}
    assert shape.line(shape.record(value, HERE).moved_to("test")) == {**value, "split": "test"}
    assert value == {"instruction": "I", "input": "P", "output": "O"}


def test_a_shape_that_cannot_hold_a_record_says_why(tmp_path: Path) -> None:
    two = {"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}] * 2}
    with pytest.raises(CurateError, match="does not fit instruction") as caught:
        load_shape("instruction").line(seen("chat", two))
    assert caught.value.code == "E905 cannot-express"
    small = own(
        tmp_path, {"properties": {"q": {"maxLength": 1}, "a": {}}, "x-record": {"prompt": "/q", "completion": "/a"}}
    )
    with pytest.raises(CurateError, match="/q is longer than 1 character"):
        small.line(seen("instruction", {"instruction": "long", "output": "O"}))
    with pytest.raises(CurateError):
        small.line(seen("instruction", {"instruction": "I", "output": "O", "category": "lost"}))


def test_views_of_own_schemas(tmp_path: Path) -> None:
    nested = own(tmp_path, {"x-record": {"id": "/key", "prompt": "/in/q", "completion": "/out/0"}})
    record = nested.record({"key": 7, "in": {"q": "Q"}, "out": ["A"]}, HERE)
    assert (record.id, record.prompt, record.completion) == ("7", "Q", "A")
    named = own(tmp_path, {"properties": {"instruction": {}, "output": {}}}, "named.json")
    assert named.record({"instruction": "I", "output": "O"}, HERE).prompt == "I"
    blind = own(tmp_path, {"properties": {"x": {}}}, "blind.json")
    assert blind.view is None
    with pytest.raises(CurateError, match="does not say which keys"):
        blind.record({"x": 1}, HERE)


def test_guessing() -> None:
    chat, pair = {"messages": [{"role": "assistant", "content": "A"}]}, {"instruction": "I", "output": "O"}
    assert guess_shape([chat, chat, pair]) == "chat"
    assert guess_shape([pair]) == "instruction"
    assert guess_shape([{"text": "T"}]) == "domain"
    assert guess_shape([{"zzz": 1}]) is None
    assert guess_shape([]) is None
    assert resembled_shape([{"messages": 1}]) == "chat"
    assert resembled_shape([]) == "instruction"
