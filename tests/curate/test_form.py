"""The form model: fields of any schema, and a line that loses nothing by being shown as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.base.record import Problem
from curate.schema import load_shape
from curate.schema.form import Form, Misspelt, Typed, describe_problem, read_number, read_written, written
from tests.curate.forming import field_at, form_of, obj, own


def kind_in(folder: Path, schema: Any, value: Any = None) -> str:
    """Return how a property of this schema is edited."""
    return field_at(form_of(folder, obj(x=schema), {} if value is None else {"x": value}), "/x").kind


# -- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "value", "kind"),
    [
        ({"type": "string"}, "a", "line"),
        ({"type": "string"}, "a\nb", "text"),
        ({"type": "string"}, "a\tb", "text"),
        ({"type": "string"}, "a" * 200, "text"),
        ({"type": "string", "maxLength": 120}, None, "line"),
        ({"type": "string", "maxLength": 121}, None, "text"),
        ({"type": "string", "contentMediaType": "text/markdown"}, None, "text"),
        ({"type": "string", "format": "textarea"}, None, "text"),
        ({"type": "string", "x-widget": "text"}, None, "text"),
        ({"type": "string", "x-widget": "line"}, "a\nb", "text"),
        ({"type": "string"}, 5, "json"),
        ({"type": "boolean"}, None, "switch"),
        ({"type": "integer"}, 3, "number"),
        ({"type": "number"}, 3.5, "number"),
        ({"type": "integer"}, 3.5, "json"),
        ({"type": ["integer", "null"]}, None, "number"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 3, "number"),
        ({"enum": ["a", "b"]}, "a", "choice"),
        ({"const": 5}, 5, "constant"),
        ({"const": 5}, 6, "choice"),
        ({"oneOf": [{"const": 1, "title": "One"}, {"const": 2}]}, 2, "json"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, ["b"], "choices"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, ["b", "b"], "list"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, ["c"], "list"),
        ({"type": "array", "items": {"type": "string"}}, ["b"], "tags"),
        ({"type": "array", "items": {"type": "string"}}, ["b\nc"], "list"),
        ({"type": "array", "items": {"type": "string"}}, ["b", 3], "list"),
        ({"type": "array", "items": {"type": "string", "maxLength": 500}}, ["b"], "list"),
        ({"type": "array", "items": {"type": "object"}}, [], "list"),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, [], "json"),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "string"}}, ["a"], "json"),
        ({"type": ["string", "object"]}, "a", "line"),
        ({"type": ["string", "object"]}, {"a": 1}, "json"),
        ({"type": ["string", "object"]}, None, "json"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "a", "json"),
        ({"type": "string", "oneOf": [{"minLength": 1}, {"maxLength": 9}]}, "a", "line"),
        ({"type": "array"}, [1], "json"),
        ({"type": "object"}, {"a": 1}, "json"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": "b"}, "json"),
        (obj(a={}), {}, "group"),
        (obj(a={}), [1], "json"),
        ({}, "a", "json"),
        (True, "a", "json"),
        ({"allOf": [{"type": "string"}, {"maxLength": 300}]}, "a", "text"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, None, "json"),
    ],
)
def test_kinds(tmp_path: Path, schema: Any, value: Any, kind: str) -> None:
    assert kind_in(tmp_path, schema, value) == kind


def test_options_are_radio_buttons_up_to_four(tmp_path: Path) -> None:
    for number, is_radio in ((4, True), (5, False)):
        form = form_of(tmp_path, obj(x={"enum": list("abcdefg")[:number]}), {"x": "b"})
        field = field_at(form, "/x")
        assert (field.is_radio, field.chosen, len(field.options)) == (is_radio, 1, number)
    asked = form_of(tmp_path, obj(x={"enum": ["a", "b"], "x-widget": "select"}), {})
    assert not field_at(asked, "/x").is_radio


def test_a_value_that_is_no_option_is_one_that_is_not_allowed(tmp_path: Path) -> None:
    field = field_at(form_of(tmp_path, obj(x={"enum": ["a", 1, "1"]}), {"x": "zz"}), "/x")
    assert [(one.label, one.is_allowed) for one in field.options] == [
        ("a", True),
        ("1", True),
        ('"1"', True),
        ("zz", False),
    ]
    assert field.chosen == 3


def test_one_and_one_point_nought_are_the_same_option_and_true_is_not(tmp_path: Path) -> None:
    schema = obj(x={"enum": [1, 2]})
    assert field_at(form_of(tmp_path, schema, {"x": 1.0}), "/x").chosen == 0
    assert field_at(form_of(tmp_path, schema, {"x": True}), "/x").chosen == 2


def test_help_placeholder_order_and_bounds(tmp_path: Path) -> None:
    schema = obj(
        b={"type": "integer", "minimum": 0, "title": "B", "description": "How many."},
        a={"type": "string", "examples": ["A-2231"], "maxLength": 9},
    )
    form = form_of(tmp_path, {**schema, "x-order": ["a", "b"], "required": ["a"]}, {"zzz": [1]})
    first, second, unknown = form.root.fields
    assert (first.name, first.placeholder, first.bounds, first.is_required) == (
        "a",
        "A-2231",
        "0 to 9 characters",
        True,
    )
    assert (second.name, second.help, second.bounds) == ("b", "B: How many.", "whole number >= 0")
    assert (unknown.name, unknown.kind, unknown.is_known, unknown.value) == ("zzz", "json", False, [1])


def test_the_view_says_which_texts_are_long_and_which_are_names() -> None:
    form = Form(load_shape("instruction"), {"instruction": "a", "output": "b", "category": "c"})
    kinds = {one.name: one.kind for one in form.root.fields}
    assert (kinds["instruction"], kinds["input"], kinds["system"], kinds["output"]) == ("text",) * 4
    assert (kinds["id"], kinds["category"], kinds["split"], kinds["meta"]) == ("line", "line", "choice", "json")
    chat = Form(load_shape("chat"), {"messages": [{"role": "user", "content": "a"}]})
    assert field_at(chat, "/messages/0/content").kind == "text"
    assert field_at(chat, "/messages/0").summary == "user"


def test_offered_values_and_fixed_places(tmp_path: Path) -> None:
    form = Form(
        load_shape("instruction"),
        {"id": "a", "instruction": "a", "output": "b", "category": "c"},
        fixed={"/id": "it names the record"},
        offered={"/category": ["billing", "returns"]},
    )
    category = field_at(form, "/category")
    assert (category.kind, [one.label for one in category.options]) == ("choice", ["billing", "returns", "c"])
    assert form.enter("/id", "b") == "it names the record"
    assert not form.leave_out("/id")
    assert not form.is_changed


# -- editing ----------------------------------------------------------------------------------------------------------


def test_numbers_keep_how_they_were_written(tmp_path: Path) -> None:
    line = {"a": 1, "b": 1.0, "c": 2**63 - 1, "d": 1e22, "e": -0.0}
    form = form_of(tmp_path, obj(**{name: {"type": "number"} for name in line}), line)
    texts = [form.text(one) for one in form.root.fields]
    assert texts == ["1", "1.0", "9223372036854775807", "1e+22", "-0.0"]
    assert form.enter("/a", "2") == ""
    assert form.enter("/b", "2.0") == ""
    assert form.enter("/c", "9223372036854775808") == "an integer of 19 digits does not fit in 64 bits"
    made = form.to_line()
    assert (made["a"], type(made["a"]), made["b"], type(made["b"]), made["c"]) == (2, int, 2.0, float, 2**63 - 1)


@pytest.mark.parametrize("text", ["", "a", "1 2", "01", "+1", "0x10", "true", "[1]", "NaN", "1e999", "١"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        read_number(text)


def test_what_is_typed_and_is_no_value_waits_beside_the_line(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(n={"type": "integer"}, m={"type": "object"}), {"n": 1, "m": {"a": 1}})
    assert form.enter("/n", "1x") == "not a number"
    assert form.enter("/m", '{"a": 1,\n "b" 2}') == "line 2, column 6: a colon after the key was expected"
    assert form.to_line() == {"n": 1, "m": {"a": 1}}
    assert form.text(field_at(form, "/n")) == "1x"
    assert [told.pointer for told in form.problems()] == ["/n", "/m"]
    assert form.is_changed
    assert form.enter("/n", "12") == ""
    assert form.enter("/m", "{}") == ""
    assert form.to_line() == {"n": 12, "m": {}}
    assert not form.typed


def test_typing_away_what_was_never_there_leaves_it_out(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(a={"type": "string"}, b={"type": "string"}), {"b": ""})
    form.enter("/a", "x")
    form.enter("/b", "y")
    assert form.to_line() == {"b": "y", "a": "x"}
    form.enter("/a", "")
    form.enter("/b", "")
    assert form.to_line() == {"b": ""}


def test_leaving_out_goes_by_way_of_null_where_null_may_be(tmp_path: Path) -> None:
    schema = {
        **obj(a={"type": ["string", "null"]}, b={"type": "string"}, c={"type": ["string", "null"]}),
        "required": ["c"],
    }
    form = form_of(tmp_path, schema, {"a": "x", "b": "y", "c": "z"})
    assert form.leave_out("/a")
    assert form.to_line()["a"] is None
    assert form.leave_out("/a")
    assert "a" not in form.to_line()
    assert not form.leave_out("/a")
    assert form.leave_out("/b")
    assert form.leave_out("/c")
    assert form.to_line() == {"c": None}


def test_one_go_of_typing_is_one_change_to_take_back(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(a={"type": "string"}, b={"type": "string"}), {})
    for text in ("h", "hi"):
        form.enter("/a", text)
    form.enter("/b", "x")
    assert form.undo()
    assert form.to_line() == {"a": "hi"}
    assert form.undo()
    assert form.to_line() == {}
    assert not form.undo()


def test_typing_does_not_change_the_kind_of_field_until_it_is_left(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(a={"type": "string"}, n={"type": "string"}), {"a": "x" * 130, "n": 3})
    form.enter("/a", "short")
    form.enter("/n", '"three"')
    assert [one.kind for one in form.root.fields] == ["text", "json"]
    assert form.settle()
    assert [one.kind for one in form.root.fields] == ["line", "line"]
    assert not form.settle()


def test_messages_can_be_added_moved_and_taken_out() -> None:
    form = Form(load_shape("chat"), {"messages": [{"role": "user", "content": "a"}]})
    assert form.add_item("/messages") == "/messages/1"
    assert form.to_line()["messages"][1] == {"role": "assistant"}
    form.enter("/messages/1/content", "b")
    assert form.move_item("/messages", 1, -1) == 0
    assert [one["role"] for one in form.to_line()["messages"]] == ["assistant", "user"]
    assert form.move_item("/messages", 0, -1) == 0
    assert form.remove_item("/messages", 0)
    assert not form.remove_item("/messages", 7)
    assert form.to_line() == {"messages": [{"role": "user", "content": "a"}]}
    assert form.undo()
    assert form.undo()
    assert [one["content"] for one in form.to_line()["messages"]] == ["a", "b"]


def test_what_is_being_typed_moves_with_its_message(tmp_path: Path) -> None:
    schema = {"type": "array", "items": obj(n={"type": "integer"}, a={"type": "string"})}
    form = form_of(tmp_path, obj(x=schema), {"x": [{"n": 1}, {"n": 2}, {"n": 3}]})
    form.enter("/x/1/n", "2x")
    form.move_item("/x", 1, 1)
    assert form.typed == {"/x/2/n": Typed("2x", "not a number")}
    form.remove_item("/x", 0)
    assert form.typed == {"/x/1/n": Typed("2x", "not a number")}
    form.remove_item("/x", 1)
    assert form.typed == {}


def test_no_more_items_than_the_schema_allows(tmp_path: Path) -> None:
    schema = obj(x={"type": "array", "maxItems": 2, "items": obj(a={"type": "string"})})
    form = form_of(tmp_path, schema, {"x": [{}]})
    assert field_at(form, "/x").can_add
    form.add_item("/x")
    assert not field_at(form, "/x").can_add


def test_new_lines_begin_with_what_is_fixed_and_with_no_invented_text(tmp_path: Path) -> None:
    assert Form.blank_line(load_shape("instruction")) == {}
    assert Form.blank_line(load_shape("chat")) == {"messages": [{"role": "user"}, {"role": "assistant"}]}
    schema = {
        **obj(
            a={"const": "v1"}, b={"type": "string", "default": "x"},
            c={**obj(d={"type": "boolean"}), "required": ["d"]},
            e={"type": "array", "minItems": 2, "items": {"type": "boolean"}}, f={"type": "string"}, g={"default": 1},
        ),
        "required": ["f", "c", "e", "b", "a"],
    }  # fmt: skip
    made = Form.blank_line(own(tmp_path, schema))
    assert list(made.items()) == [("a", "v1"), ("b", "x"), ("c", {"d": False}), ("e", [False, False])]


# -- problems ---------------------------------------------------------------------------------------------------------


def test_problems_stand_under_the_nearest_field() -> None:
    form = Form(load_shape("instruction"), {"instruction": 5, "meta": [], "x-ignore": [""], "zzz": 1})
    told = {one.pointer: one.problem.message for one in form.problems()}
    assert told == {
        "/instruction": "must be a string, not a number",
        "/meta": "must be an object, not an array",
        "/output": "'output' is missing",
        "/x-ignore": "must have at least 1 character, and has 0",
        "/zzz": "unknown key 'zzz'",
    }


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{", (1, 2)),
        ('{"é": 1,\n  "b": x}', (2, 8)),
        ('{"a": 1, "a": 2}', (1, 10)),
        ("", (1, 1)),
        ('{"a": NaN}', (1, 7)),
    ],
)
def test_faults_of_json_say_line_and_column(text: str, where: tuple[int, int]) -> None:
    with pytest.raises(Misspelt) as caught:
        read_written(text)
    assert (caught.value.line, caught.value.column) == where


def test_problems_say_where_they_are_in_the_text() -> None:
    text = written({"a": {"b": "é"}, "c": 1})
    assert describe_problem(text, Problem("is odd", "/c")) == "line 5, column 8: /c is odd"


# -- the command line -------------------------------------------------------------------------------------------------


def test_curate_schema_form_prints_the_fields(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from curate.cli import cli

    schema = {
        **obj(a={"enum": ["x", "\x1b[2J"]}, **{"\x1b]0;t": {"type": "string", "description": "\u202eodd"}}),
        "required": ["a"],
    }
    (tmp_path / "s.json").write_text(json.dumps(schema), encoding="utf-8")
    cli.main(["schema", "form", str(tmp_path / "s.json")], standalone_mode=False)
    out = capsys.readouterr().out
    assert out == "a *: radio buttons x, ␛[2J\n␛]0;t: one line of text. <U+202E>odd\n"
    cli.main(["schema", "form", "chat"], standalone_mode=False)
    assert "messages *: cards. Messages: The turns, in order.\n  1 *: group." in capsys.readouterr().out
