"""Each shipped schema proves itself: its examples are valid, its counterexamples are not, by both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from curate.base.record import Source
from curate.base.resources import shipped
from curate.schema import build_validator, load_shape, shape_names
from curate.schema.schema_set import subschemas

FILES = sorted(shipped("schemas").glob("*.schema.json"))
# Schemas that a model of ours generates are proved by tests of that model.
PROVED = [path for path in FILES if b'"x-counterexamples"' in path.read_bytes()]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_schema_is_a_schema(path: Path) -> None:
    schema = read(path)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert not load_shape(str(path)).warnings


def test_the_written_schemas_carry_their_proof() -> None:
    assert {path.name.split(".")[0] for path in PROVED} >= {
        "instruction", "chat", "domain", "findings", "row", "feedback", "predictions", "metrics",
    }  # fmt: skip


@pytest.mark.parametrize("path", PROVED, ids=lambda path: path.name)
def test_examples_hold_in_both_engines(path: Path) -> None:
    schema = read(path)
    rust = build_validator(schema, {})
    python = jsonschema.Draft202012Validator(schema)
    assert len(schema["examples"]) > 0
    assert len(schema["x-counterexamples"]) > 1
    for example in schema["examples"]:
        assert rust.is_valid(example)
        assert python.is_valid(example)
    for example in schema["x-counterexamples"]:
        assert not rust.is_valid(example)
        assert not python.is_valid(example)


def test_the_line_shapes_are_these() -> None:
    assert shape_names() == ["instruction", "chat", "domain", "preference"]


@pytest.mark.parametrize("name", shape_names())
def test_examples_are_records_and_come_back(name: str) -> None:
    shape = load_shape(name)
    for number, example in enumerate(shape.schema["examples"], 1):
        record = shape.record(example, Source("examples", number))
        assert record.text or record.messages
        assert record.kind == name
        assert shape.line(record) == example


def test_messages_are_the_same_in_all_shapes() -> None:
    # Each schema is whole in itself, so that editors and other programs can use it alone.
    chat, preference = (load_shape(name).schema["$defs"] for name in ("chat", "preference"))
    assert {name: preference[name] for name in chat} == chat


@pytest.mark.parametrize("name", shape_names())
def test_line_shapes_refuse_unknown_keys_everywhere(name: str) -> None:
    """An open object would let a misspelt key pass; free-form objects are few and known by name."""
    free = {"labels", "meta", "parameters", "response", "arguments"}
    schema = load_shape(name).schema
    stack: list[tuple[str, Any]] = [("", schema)]
    while stack:
        place, node = stack.pop()
        if isinstance(node, dict):
            if node.get("type") == "object" and place.rsplit("/", 1)[-1] not in free:
                assert node.get("additionalProperties") is False, place
            stack.extend((f"{place}/{'/'.join(map(str, step))}", part) for step, part, _ in subschemas(node))
