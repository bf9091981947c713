"""Shapes: schemas that are refused, messages that hold no data, records that come back as the lines they were."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from curate.base.record import CurateError, Source
from curate.schema import LimitProblem, Shape, load_shape

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
    ({"properties": {"a": {"enum": ["x", 1]}}}, {"a": "y"}, "/a", 'is not one of "x" or 1'),
    ({"properties": {"a": {"const": "x"}}}, {"a": "y"}, "/a", '"x" was expected'),
    (
        {"contains": {"$ref": "#/$defs/a"}, "$defs": {"a": {"title": "a turn", "type": "object"}}},
        [],
        "",
        "a turn is missing",
    ),
    (
        {"contains": {"type": "string"}, "minContains": 2},
        [],
        "",
        "must hold an item that the schema asks for at least 2 times",
    ),
    ({"contains": {"const": 3, "title": "a 3"}, "maxContains": 2}, [], "", "must hold a 3 1 to 2 times"),
    (
        {"contains": {"const": 3}, "minContains": 1, "maxContains": 1},
        [3, 3],
        "",
        "must hold an item that the schema asks for 1 to 1 times",
    ),
    ({"contains": True}, [], "", "an item that the schema asks for is missing"),
    ({"properties": {"a": {"minLength": 2}}}, {"a": "y"}, "/a", "is shorter than 2 characters"),
    ({"properties": {"a": {"maxLength": 1}}}, {"a": "yyy"}, "/a", "is longer than 1 character"),
    ({"properties": {"a": {"minItems": 1}}}, {"a": []}, "/a", "has less than 1 item"),
    ({"properties": {"a": {"maxItems": 1}}}, {"a": [1, 2]}, "/a", "has more than 1 item"),
    ({"minProperties": 2}, {"a": 1}, "", "has less than 2 properties"),
    ({"maxProperties": 0}, {"a": 1}, "", "has more than 0 properties"),
    ({"properties": {"a": {"minimum": 3}}}, {"a": 2}, "/a", "is less than the minimum of 3"),
    ({"properties": {"a": {"maximum": 3}}}, {"a": 4}, "/a", "is greater than the maximum of 3"),
    ({"properties": {"a": {"exclusiveMinimum": 3}}}, {"a": 3}, "/a", "is less than or equal to the minimum of 3"),
    ({"properties": {"a": {"exclusiveMaximum": 3}}}, {"a": 3}, "/a", "is greater than or equal to the maximum of 3"),
    ({"properties": {"a": {"multipleOf": 3}}}, {"a": 4}, "/a", "is not a multiple of 3"),
    ({"properties": {"a": {"pattern": "^b"}}}, {"a": "c"}, "/a", 'does not match "^b"'),
    ({"properties": {"a": {"format": "date"}}}, {"a": "c"}, "/a", 'is not a "date"'),
    ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1]}, "/a", "has non-unique elements"),
    ({"properties": {"a": False}}, {"a": 1}, "/a", "is not allowed here"),
    ({"properties": {"a": {"not": {"const": 1}}}}, {"a": 1}, "/a", "has the form that the schema rules out"),
    (
        {"propertyNames": {"maxLength": 1}},
        {"ab": 1},
        "",
        "a key is not allowed: it is longer than 1 character",
    ),
    (
        {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        {"a": 1},
        "/a",
        "must be null or a string, not a number",
    ),
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}, "", "'a' is missing or 'b' is missing"),
    (
        {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"a": 1, "b": 1},
        "",
        "fits more than one of the forms, and the schema allows one",
    ),
    (
        {"properties": {"output": {}}, "additionalProperties": False},
        {"ouput": 1},
        "/ouput",
        "unknown key 'ouput'; did you mean 'output'?",
    ),
    (
        {"properties": {"m": {"properties": {"output": {}}}, "categories": {}}, "additionalProperties": False},
        {"ouput": 1},
        "/ouput",
        "unknown key 'ouput'",
    ),
    ({"properties": {"a/b": {"type": "null"}}}, {"a/b": 1}, "/a~1b", "must be null, not a number"),
]


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
    ({"properties": {"a": {"pattern": "^(?:a{1,1000}){1,1000}$"}}}, "schema-pattern"),
    ({"type": "strng"}, "schema-invalid"),
    ({"required": "a"}, "schema-invalid"),
    ({"$ref": 5}, "schema-invalid"),
    ({"$schema": 5}, "schema-invalid"),
    ({"properties": {"a": 5}}, "schema-invalid"),
    ({"minLength": -1}, "schema-invalid"),
    ({"$ref": "data:application/json,{}"}, "remote-ref"),
    ({"$ref": "urn:example:a"}, "remote-ref"),
    ({"$dynamicRef": "#"}, "schema-recursion"),
    ([], "schema-invalid"),
    ({"x-record": {"prompt": "/a", "completion": "output"}}, "x-record"),
    ({"x-record": {"promt": "/a", "completion": "/b"}}, "x-record"),
    ({"x-record": {"prompt": "/a"}}, "x-record"),
    ({"x-record": []}, "x-record"),
    # No decision and no frozen test would notice another answer.
    ({"x-record": {"prompt": "/a", "completion": "/labels"}}, "x-record"),
    ({"x-record": {"prompt": ["/a", "/meta/b"], "completion": "/c"}}, "x-record"),
]


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
    with pytest.raises(CurateError, match="cannot be read"):
        load_shape("b.json", tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(CurateError, match="not a regular file"):
        load_shape("pipe.json", tmp_path)


def test_the_dialects_themselves_may_be_referred_to(tmp_path: Path) -> None:
    shape = own(tmp_path, {"properties": {"parameters": {"$ref": DIALECT}}})
    assert shape.is_valid({"parameters": {"type": "string"}})
    assert not shape.is_valid({"parameters": {"type": "strng"}})


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
    assert not shape.is_valid({"a": 1})
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
    assert said(shape, {"a": {"w": ""}}) == [("/a/w", "is shorter than 1 character")]


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


def test_jsonschema_knows_the_examples_of_messages_too() -> None:
    """The verdicts of this file's message table are not the engine's alone."""
    for schema, value, _, _ in MESSAGES:
        if "format" not in str(schema):
            assert not jsonschema.Draft202012Validator(schema).is_valid(value)
