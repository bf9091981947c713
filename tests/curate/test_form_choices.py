"""Schemas that branch, refer to themselves and to others: what a form makes of them, with JSON where it cannot show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.base.record import CurateError
from curate.schema import load_shape
from curate.schema.form import Form, outline
from tests.curate.forming import field_at, form_of, obj, own

CIRCLE = {**obj(kind={"const": "circle"}, r={"type": "number"}), "required": ["kind", "r"]}
SQUARE = {**obj(kind={"const": "square"}, a={"type": "number"}), "required": ["kind"]}


def test_a_value_of_several_forms_is_json_with_the_same_checks(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(x={"oneOf": [CIRCLE, SQUARE]}), {"x": {"kind": "square", "a": "2"}})
    field = field_at(form, "/x")
    assert (field.kind, form.text(field)) == ("json", '{\n  "kind": "square",\n  "a": "2"\n}')
    assert [(one.pointer, one.problem.message) for one in form.problems()] == [("/x", "must be a number, not a string")]
    assert form.enter("/x", '{"kind": "square", "a": 2}') == ""
    assert form.problems() == []
    assert form.to_line() == {"x": {"kind": "square", "a": 2}}


@pytest.mark.parametrize("value", ["hi", {"a": 1}])
def test_of_several_types_a_text_is_typed_as_it_is_and_all_else_as_json(tmp_path: Path, value: Any) -> None:
    form = form_of(tmp_path, obj(x={"type": ["object", "string", "null"]}), {"x": value})
    assert field_at(form, "/x").kind == ("line" if value == "hi" else "json")
    assert form.leave_out("/x")
    assert form.to_line() == {"x": None}
    assert form.leave_out("/x")
    assert field_at(form, "/x").kind == "json"
    assert form.enter("/x", '{"b": 2}') == ""
    assert form.to_line() == {"x": {"b": 2}}
    assert form.enter("/x", '"ho"') == ""
    assert (field_at(form, "/x").kind, form.settle(), field_at(form, "/x").kind) == ("json", True, "line")
    assert form.text(field_at(form, "/x")) == "ho"


def test_branches_beside_properties_leave_each_of_them_a_field() -> None:
    form = Form(load_shape("domain"), {"text": "T", "category": "c"})
    assert [one.name for one in form.root.fields][:5] == ["id", "context", "question", "answer", "text"]
    form.enter("/question", "Q")
    assert [one.pointer for one in form.problems()] == ["/question"], "raw text has no question"


def test_a_key_that_only_a_branch_knows_is_not_called_unknown(tmp_path: Path) -> None:
    line = {"kind": "a", "more": 1}
    schema = {**obj(kind={"type": "string"}), "anyOf": [obj(more={"type": "integer"}), obj(other={})]}
    assert field_at(form_of(tmp_path, schema, line), "/more").is_known
    assert not field_at(form_of(tmp_path, obj(kind={"type": "string"}), line), "/more").is_known


def test_the_turns_of_a_conversation_have_all_their_fields() -> None:
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    form = Form(load_shape("chat"), line)
    for place in ("/messages/0", "/messages/1"):
        kinds = {one.name: one.kind for one in field_at(form, place).fields}
        assert kinds == {
            "role": "choice", "content": "text", "reasoning_content": "text", "name": "line", "tool_calls": "list",
            "tool_call_id": "line", "train": "switch", "weight": "number",
        }  # fmt: skip
    form.begin("/messages/0/tool_calls")
    assert "/messages/0/tool_calls" in [one.pointer for one in form.problems()], "only an assistant calls tools"


def test_a_missing_key_is_told_at_its_own_field_whatever_it_is_called(tmp_path: Path) -> None:
    name = "it's / ~" + "x" * 80
    schema = {**obj(**{name: {"type": "string"}}), "required": [name, "none"]}
    form = form_of(tmp_path, schema, {})
    own_field = next(one for one in form.root.fields if one.name == name)
    assert sorted(one.pointer for one in form.problems()) == ["", own_field.pointer]


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


def test_a_schema_that_doubles_at_each_level_has_an_outline_that_ends(tmp_path: Path) -> None:
    levels = {f"l{n}": obj(a={"$ref": f"#/$defs/l{n + 1}"}, b={"$ref": f"#/$defs/l{n + 1}"}) for n in range(60)}
    schema = {"$ref": "#/$defs/l0", "$defs": {**levels, "l60": {"type": "string"}}}
    assert 100 < len(list(outline(own(tmp_path, schema)))) < 10_000


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


def test_what_several_schemas_say_of_one_key_is_joined(tmp_path: Path) -> None:
    schema = {"allOf": [obj(x={"type": "string"}), {**obj(x={"maxLength": 300, "title": "X"}), "required": ["x"]}]}
    field = field_at(form_of(tmp_path, schema, {}), "/x")
    assert (field.kind, field.help, field.is_required) == ("text", "X", True)


def test_draft_7_tuples_are_json_and_its_definitions_are_followed(tmp_path: Path) -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **obj(
            x={"type": "array", "items": [{"$ref": "#/definitions/s"}], "additionalItems": {"type": "integer"}},
            y={"$ref": "#/definitions/s"},
        ),
        "definitions": {"s": {"type": "string"}},
    }
    form = form_of(tmp_path, schema, {"x": ["a", 3]})
    assert [one.kind for one in form.root.fields] == ["json", "line"]
