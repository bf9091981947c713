"""Shapes: schemas that are refused, messages that hold no data, records that come back as the lines they were."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.record import CurateError, Record, Source
from curate.shape import LimitProblem, Shape, guess_shape, load_shape, resembled_shape, shape_names

DIALECT = "https://json-schema.org/draft/2020-12/schema"
HERE = Source("a.jsonl", 1)


def own(folder: Path, schema: Any, name: str = "own.json") -> Shape:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(schema), encoding="utf-8")
    return load_shape(name, folder)


def said(shape: Shape, value: Any) -> list[tuple[str, str]]:
    return [(problem.pointer, problem.message) for problem in shape.problems(value)]


MESSAGES = [
    ({"required": ["a"]}, {}, "", "'a' is missing"),
    ({"properties": {"a": {"type": ["string", "null"]}}}, {"a": 1}, "/a", "must be null or a string, not a number"),
    ({"properties": {"a": {"type": "integer"}}}, {"a": True}, "/a", "must be an integer, not a boolean"),
    ({"properties": {"a": {"enum": ["x", 1]}}}, {"a": "y"}, "/a", 'must be one of "x", 1'),
    ({"properties": {"a": {"const": "x"}}}, {"a": "y"}, "/a", 'must be "x"'),
    ({"properties": {"a": {"minLength": 2}}}, {"a": "y"}, "/a", "must have at least 2 characters, and has 1"),
    ({"properties": {"a": {"maxLength": 1}}}, {"a": "yyy"}, "/a", "must have at most 1 character, and has 3"),
    ({"properties": {"a": {"minItems": 1}}}, {"a": []}, "/a", "must have at least 1 item, and has 0"),
    ({"properties": {"a": {"maxItems": 1}}}, {"a": [1, 2]}, "/a", "must have at most 1 item, and has 2"),
    ({"minProperties": 2}, {"a": 1}, "", "must have at least 2 keys, and has 1"),
    ({"maxProperties": 0}, {"a": 1}, "", "must have at most 0 keys, and has 1"),
    ({"properties": {"a": {"minimum": 3}}}, {"a": 2}, "/a", "must be at least 3"),
    ({"properties": {"a": {"maximum": 3}}}, {"a": 4}, "/a", "must be at most 3"),
    ({"properties": {"a": {"exclusiveMinimum": 3}}}, {"a": 3}, "/a", "must be more than 3"),
    ({"properties": {"a": {"exclusiveMaximum": 3}}}, {"a": 3}, "/a", "must be less than 3"),
    ({"properties": {"a": {"multipleOf": 3}}}, {"a": 4}, "/a", "must be a multiple of 3"),
    ({"properties": {"a": {"pattern": "^b"}}}, {"a": "c"}, "/a", "must match the pattern ^b"),
    ({"properties": {"a": {"format": "date"}}}, {"a": "c"}, "/a", "must be in the format 'date'"),
    ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1]}, "/a", "must not hold the same item twice"),
    ({"properties": {"a": False}}, {"a": 1}, "/a", "is not allowed here"),
    ({"properties": {"a": {"not": {"const": 1}}}}, {"a": 1}, "/a", "has the form that the schema rules out"),
    ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "", "a key is not allowed: it must have at most 1 character, and has 2"),
    ({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, {"a": 1}, "/a", "must be null or a string, not a number"),
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}, "", "'a' is missing or 'b' is missing"),
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 1}, "", "fits more than one of the forms of which the schema allows one"),
    ({"properties": {"output": {}}, "additionalProperties": False}, {"ouput": 1}, "/ouput", "unknown key 'ouput'; did you mean 'output'?"),
    ({"properties": {"a/b": {"type": "null"}}}, {"a/b": 1}, "/a~1b", "must be null, not a number"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "pointer", "message"), MESSAGES, ids=range(len(MESSAGES)))
def test_messages(schema: Any, value: Any, pointer: str, message: str, tmp_path: Path) -> None:
    shape = own(tmp_path, {"$schema": DIALECT, **schema})
    assert said(shape, value) == [(pointer, message)]
    assert not shape.is_valid(value)


def test_a_confusable_key_is_spelled_out() -> None:
    [_, (pointer, message)] = said(load_shape("instruction"), {"instruction": "a", "\u043eutput": "b"})
    assert pointer == "/\u043eutput"
    assert "U+043E CYRILLIC SMALL LETTER O" in message
    assert "did you mean 'output'?" in message


def test_one_problem_for_each_broken_rule() -> None:
    value = {"id": "", "instruction": 1, "split": "dev", "zzz": 0}
    assert [pointer for pointer, _ in said(load_shape("instruction"), value)] == [
        "",
        "/id",
        "/instruction",
        "/split",
        "/zzz",
    ]


SECRET = "hush-hush-value"
HIDING = [
    ("instruction", {"instruction": 1, "output": "b", "id": SECRET * 100}),
    ("instruction", {"instruction": "a", "output": "b", "split": SECRET}),
    ("instruction", {"instruction": [SECRET], "output": "b"}),
    ("chat", {"messages": [{"role": SECRET, "content": SECRET}]}),
    ("chat", {"messages": SECRET}),
    ("domain", {"text": [SECRET]}),
    ("findings", {"code": SECRET}),
]


@pytest.mark.parametrize(("name", "value"), HIDING)
def test_messages_hold_no_values_unless_asked(name: str, value: Any) -> None:
    shape = load_shape(name)
    assert SECRET not in str(shape.problems(value))
    assert shape.problems(value)


def test_values_are_shown_when_asked_and_harmless() -> None:
    [problem] = load_shape("instruction").problems(
        {"instruction": "a", "output": ["\x1b[2J" + SECRET]}, show_values=True
    )
    assert SECRET in problem.message
    assert "\x1b" not in problem.message


def test_the_explanation_agrees_with_the_verdict() -> None:
    for name in shape_names():
        shape = load_shape(name)
        for value in (*shape.schema["examples"], *shape.schema["x-counterexamples"]):
            assert bool(shape.explain(value)) != shape.is_valid(value)


def refusal(folder: Path, schema: Any) -> str:
    with pytest.raises(CurateError) as caught:
        own(folder, schema)
    assert caught.value.code == "E903 bad-schema"
    return caught.value.message.split(": ")[1]


REFUSED = [
    ({"$schema": "https://example.org/my-dialect"}, "unknown-dialect"),
    ({"$ref": "https://example.org/other.json"}, "remote-ref"),
    ({"$ref": "//example.org/other.json"}, "remote-ref"),
    ({"$ref": "file:///etc/hostname"}, "remote-ref"),
    ({"properties": {"a": {"$ref": "FILE:///etc/hostname"}}}, "remote-ref"),
    ({"$id": "https://example.org/a.json", "properties": {"a": {"$ref": "b.json"}}}, "remote-ref"),
    ({"$ref": "../secret.json"}, "path-traversal"),
    ({"$ref": "..%2fsecret.json"}, "path-traversal"),
    ({"$ref": "/etc/hostname"}, "path-traversal"),
    ({"$ref": "linked.json"}, "path-traversal"),
    ({"$ref": "nothing.json"}, "missing-ref"),
    ({"$ref": "#/$defs/nothing"}, "missing-ref"),
    ({"$ref": "#"}, "schema-recursion"),
    ({"allOf": [{"$ref": "#"}]}, "schema-recursion"),
    ({"$defs": {"a": {"anyOf": [{"not": {"$ref": "#/$defs/a"}}]}}}, "schema-recursion"),
    ({"$defs": {"a": {"$anchor": "x", "if": {"$ref": "#x"}}}}, "schema-recursion"),
    ({"properties": {"a": {"pattern": "("}}}, "schema-pattern"),
    ({"patternProperties": {"[": {}}}, "schema-pattern"),
    ({"properties": {"a": {"pattern": "(?:a{1,1000}){1,1000}"}}}, "schema-pattern"),
    ({"type": "strng"}, "schema-invalid"),
    ({"required": "a"}, "schema-invalid"),
    ([], "schema-invalid"),
    ({"x-record": {"prompt": "/a", "completion": "output"}}, "x-record"),
    ({"x-record": {"promt": "/a", "completion": "/b"}}, "x-record"),
    ({"x-record": {"prompt": "/a"}}, "x-record"),
    ({"x-record": []}, "x-record"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "reason"), REFUSED, ids=lambda value: str(value)[:40])
def test_unfit_schemas(schema: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"const": "hush"}', encoding="utf-8")
    project = tmp_path / "project"
    project.mkdir()
    (project / "linked.json").symlink_to(tmp_path / "secret.json")
    assert refusal(project, schema) == reason


def test_text_that_is_no_schema(tmp_path: Path) -> None:
    for raw, reason in (
        (b'{"type": "object",}', "schema-not-json"),
        (b"[" * 100, "schema-depth"),
        (b"\xff", "schema-not-json"),
    ):
        (tmp_path / "a.json").write_bytes(raw)
        with pytest.raises(CurateError, match=reason):
            load_shape("a.json", tmp_path)
    with pytest.raises(CurateError, match="there is no shape 'instructions'"):
        load_shape("instructions")
    with pytest.raises(CurateError, match="E904|cannot be read"):
        load_shape("b.json", tmp_path)


def test_nothing_is_fetched(tmp_path: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    port = server.getsockname()[1]
    seen: list[object] = []

    def listen() -> None:
        try:
            seen.append(server.accept())
        except TimeoutError:
            return

    listener = threading.Thread(target=listen)
    listener.start()
    refusal(tmp_path, {"$ref": f"http://127.0.0.1:{port}/a.json"})
    refusal(tmp_path, {"$schema": f"http://127.0.0.1:{port}/meta"})
    shape = own(tmp_path, {"properties": {"a": {"const": {"$ref": f"http://127.0.0.1:{port}/b.json"}}}})
    shape.explain({"a": 1})
    listener.join()
    server.close()
    assert seen == []


def test_files_of_the_project_may_refer_to_one_another(tmp_path: Path) -> None:
    own(tmp_path, {"$defs": {"word": {"type": "string", "minLength": 1}}}, "parts/words.json")
    own(tmp_path, {"type": "object", "properties": {"w": {"$ref": "words.json#/$defs/word"}}}, "parts/more.json")
    shape = own(
        tmp_path, {"properties": {"a": {"$ref": "parts/more.json"}, "b": {"$ref": "#/$defs/c"}}, "$defs": {"c": True}}
    )
    assert shape.is_valid({"a": {"w": "x"}})
    assert said(shape, {"a": {"w": ""}}) == [("/a/w", "must have at least 1 character, and has 0")]
    assert shape.explain({"a": {"w": ""}})


def test_recursion_that_looks_deeper_is_welcome(tmp_path: Path) -> None:
    shape = own(tmp_path, {"$defs": {"t": {"items": {"$ref": "#/$defs/t"}, "type": "array"}}, "$ref": "#/$defs/t"})
    assert shape.is_valid([[[]], []])
    assert said(shape, [[1]]) == [("/0/0", "must be an array, not a number")]


def test_unknown_keywords_are_warned_of(tmp_path: Path) -> None:
    schema = {"requird": ["a"], "x-own": 1, "properties": {"requird": {"tpye": "string"}}, "const": {"nope": 1}}
    shape = own(tmp_path, schema)
    assert [(f.code, f.pointer, f.severity) for f in shape.warnings] == [
        ("S125", "/requird", "warning"),
        ("S125", "/properties/requird/tpye", "warning"),
    ]
    assert [f.line for f in shape.warnings] == [1, 1]
    assert "'required'" in shape.warnings[0].fix


def test_a_pattern_cannot_hang(tmp_path: Path) -> None:
    slow = r"^(?:(a|aa)+)\1c$"
    shape = own(tmp_path, {"properties": {"a": {"pattern": slow}}})
    started = time.process_time()
    problems = shape.problems({"a": "a" * 5000 + "!"})
    assert time.process_time() - started < 2
    assert [type(problem) for problem in problems] == [LimitProblem]
    assert [type(problem) for problem in shape.problems({"a": "b"})] != [LimitProblem]


ECMA = [
    (r"^\d$", "\u09ea", False),
    ("^abc$", "abc\n", False),
    (r"^\p{Letter}+$", "h\u00e9llo", True),
    (r"^\w$", "\u00e9", False),
]


@pytest.mark.parametrize(("pattern", "text", "is_valid"), ECMA)
def test_patterns_mean_what_ecma_says(pattern: str, text: str, is_valid: bool, tmp_path: Path) -> None:
    assert own(tmp_path, {"properties": {"a": {"pattern": pattern}}}).is_valid({"a": text}) is is_valid


# --- records ---------------------------------------------------------------------------------------------------------


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
        try:
            line = shape.line(record)
        except CurateError as error:
            assert error.code == "E905 cannot-express"
            is_plain = not record.text and not record.system and not record.tools and len(record.messages) == 2
            assert not is_plain
            continue
        assert shape.is_valid(line)
        again = shape.record(line, HERE)
        assert (again.messages, again.tools, again.text) == (record.messages, record.tools, record.text)
        assert (again.category, again.labels, again.split, again.meta) == (
            record.category, record.labels, record.split, record.meta,
        )  # fmt: skip


TEXTS = st.text(max_size=8)
FILLED = st.text(min_size=1, max_size=8)
LINES = st.fixed_dictionaries(
    {"instruction": TEXTS, "output": TEXTS},
    optional={
        "id": FILLED, "system": TEXTS, "input": TEXTS, "category": TEXTS, "labels": st.dictionaries(TEXTS, st.integers()),
        "split": st.sampled_from(["train", "validation", "test"]), "meta": st.dictionaries(TEXTS, TEXTS),
        "x-ignore": st.lists(FILLED, unique=True),
    },
)  # fmt: skip


@given(LINES)
@settings(max_examples=200, deadline=None)
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
    with pytest.raises(CurateError, match="/q must have at most 1 character"):
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
    with pytest.raises(CurateError, match="does not say which places"):
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


def test_jsonschema_knows_the_examples_of_messages_too() -> None:
    """The verdicts of this file's message table are not the engine's alone."""
    for schema, value, _, _ in MESSAGES:
        if "format" not in str(schema):
            assert not jsonschema.Draft202012Validator(schema).is_valid(value)
