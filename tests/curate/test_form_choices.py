"""Fields that are one of several kinds: told apart by constants, types and conditions, and kept apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forming import field_at, form_of, obj, own

from curate.form import Form
from curate.form.outline import outline
from curate.record import CurateError
from curate.shape import load_shape

CIRCLE = {
    **obj(kind={"const": "circle"}, r={"type": "number"}),
    "required": ["kind", "r"],
    "additionalProperties": False,
}
SQUARE = {**obj(kind={"const": "square"}, a={"type": "number"}), "required": ["kind"], "additionalProperties": False}


def test_a_choice_told_apart_by_a_constant(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(x={"oneOf": [CIRCLE, SQUARE]}), {"x": {"kind": "square", "a": 2, "odd": True}})
    field = field_at(form, "/x")
    assert (field.choices[0].labels, field.choices[0].index) == (("circle", "square"), 1)
    assert [one.name for one in field.fields] == ["kind", "a", "odd"]
    form.choose("/x", 0, 0)
    assert form.to_line() == {"x": {"kind": "circle", "odd": True}}
    form.enter("/x/r", "5")
    form.choose("/x", 0, 1)
    assert form.to_line() == {"x": {"kind": "square", "a": 2, "odd": True}}
    form.choose("/x", 0, 0)
    assert form.to_line() == {"x": {"kind": "circle", "r": 5, "odd": True}}


def test_a_choice_without_a_mark_is_the_first_that_is_valid_and_stays_while_it_is_not(tmp_path: Path) -> None:
    first = {"title": "Short", **obj(a={"type": "string", "maxLength": 3}), "required": ["a"]}
    second = {"title": "Long", **obj(a={"type": "string"}, b={"type": "string"}), "required": ["a", "b"]}
    form = form_of(tmp_path, obj(x={"anyOf": [first, second]}), {"x": {"a": "long", "b": "x"}})
    assert field_at(form, "/x").choices[0].labels == ("Short", "Long")
    assert field_at(form, "/x").choices[0].index == 1
    form.leave_out("/x/b")
    form.enter("/x/a", "abc")
    assert field_at(form, "/x").choices[0].index == 1


def test_types_are_a_choice_too(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(x={"type": ["object", "string", "null"]}), {"x": "hi"})
    field = field_at(form, "/x")
    assert (field.kind, field.choices[0].labels, field.choices[0].index) == ("line", ("text", "object"), 0)
    form.choose("/x", 0, 1)
    assert form.to_line() == {"x": {}}
    form.enter("/x", '{"a": 1}')
    form.choose("/x", 0, 0)
    assert form.to_line() == {"x": "hi"}
    form.choose("/x", 0, 1)
    assert form.to_line() == {"x": {"a": 1}}


def test_branches_that_only_forbid_are_a_choice_by_their_titles() -> None:
    form = Form(load_shape("domain"), {"text": "T", "category": "c"})
    assert form.root.choices[0].labels == ("Grounded pair", "Raw text")
    assert "context" not in [one.name for one in form.root.fields]
    form.choose("", 0, 0)
    assert form.to_line() == {"category": "c"}
    assert [one.name for one in form.root.fields if one.is_required] == ["context", "question", "answer"]
    form.choose("", 0, 1)
    assert form.to_line() == {"text": "T", "category": "c"}


def test_conditions_follow_the_value() -> None:
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    form = Form(load_shape("chat"), line)
    assert form.field("/messages/0/tool_calls") is None
    assert field_at(form, "/messages/1/tool_calls").kind == "list"
    form.set("/messages/0/role", "assistant")
    assert field_at(form, "/messages/0/tool_calls").kind == "list"
    assert not field_at(form, "/messages/0").choices


def test_a_recursive_schema_is_opened_as_far_as_the_value_goes(tmp_path: Path) -> None:
    node = obj(name={"type": "string"}, left={"$ref": "#/$defs/node"})
    form = form_of(tmp_path, {"$ref": "#/$defs/node", "$defs": {"node": node}}, {"left": {"left": {"name": "x"}}})
    assert [one.pointer for one in form.root.walk() if one.kind == "group"] == [
        "", "/left", "/left/left", "/left/left/left",
    ]  # fmt: skip
    assert not field_at(form, "/left/left/left").is_present
    form.begin("/left/left/left")
    assert form.to_line()["left"]["left"]["left"] == {}
    assert list(outline(own(tmp_path, {"$ref": "#/$defs/node", "$defs": {"node": node}}))) == [
        "name: one line of text",
        "left: group (told above)",
    ]


def test_references_reach_other_files_of_the_project_and_no_further(tmp_path: Path) -> None:
    (tmp_path / "part.json").write_text(json.dumps({"$defs": {"p": {"enum": ["a", "b"]}}}), encoding="utf-8")
    form = form_of(
        tmp_path,
        obj(x={"$ref": "part.json#/$defs/p"}, y={"$ref": "#/$defs/q"}) | {"$defs": {"q": {"type": "boolean"}}},
        {},
    )
    assert [one.kind for one in form.root.fields] == ["choice", "switch"]
    with pytest.raises(CurateError, match="remote-ref"):
        form_of(tmp_path, obj(x={"$ref": "http://example.com/x.json"}), {})


def test_draft_7_tuples_and_definitions(tmp_path: Path) -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **obj(x={"type": "array", "items": [{"$ref": "#/definitions/s"}], "additionalItems": {"type": "integer"}}),
        "definitions": {"s": {"type": "string"}},
    }
    form = form_of(tmp_path, schema, {"x": ["a", 3]})
    assert [one.kind for one in field_at(form, "/x").fields] == ["line", "number"]
