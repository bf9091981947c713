"""The form of a line: fields of any schema, and a line that loses nothing by being shown and edited as one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from curate.base.console import visible
from curate.base.record import CurateError, Problem, canonical
from curate.jsonl import read_entries
from curate.schema import Shape, load_shape, shape_names
from curate.schema.form import (
    Form,
    Misspelt,
    Spelling,
    Typed,
    describe_problem,
    json_text,
    read_json,
    read_record,
    toml_of,
)
from tests.curate.forming import SCALARS, TYPED, VALUES, field_at, form_of, leaves, obj, own, shown
from tests.effort import draws

TURN = obj(role={"enum": ["user", "assistant"]}, content={"type": "string"}, n={"type": "integer"})


@pytest.mark.parametrize(
    ("schema", "value", "kind"),
    [
        ({"type": "string"}, "a", "line"),
        ({"type": "string"}, "a\nb", "text"),
        ({"type": "string"}, "a" * 200, "text"),
        ({"type": "string", "maxLength": 121}, None, "text"),
        ({"type": "string"}, 5, "json"),
        ({"type": "boolean"}, None, "switch"),
        ({"type": "number"}, 3.5, "number"),
        ({"type": "integer"}, 3.5, "json"),
        ({"type": "integer"}, 3.0, "number"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 3, "number"),
        ({"enum": ["a", "b"]}, "a", "choice"),
        ({"const": 5}, 5, "constant"),
        ({"const": 5}, 6, "choice"),
        ({"oneOf": [{"const": 1}, {"const": 2}]}, 2, "json"),
        ({"type": "array", "items": {"type": "string"}}, ["b"], "json"),
        ({"type": "array", "items": TURN}, [{}], "list"),
        ({"type": ["string", "object"]}, "a", "line"),
        ({"type": ["string", "object"]}, None, "json"),
        (obj(a={}), {}, "json"),
        ({}, "a", "json"),
        ({"allOf": [{"type": "string"}, {"maxLength": 300}]}, "a", "text"),
    ],
)
def test_kinds(tmp_path: Path, schema: Any, value: Any, kind: str) -> None:
    line = {} if value is None else {"x": value}
    assert field_at(form_of(tmp_path, obj(x=schema), line), "/x").kind == kind


def test_what_the_schema_says_of_a_field(tmp_path: Path) -> None:
    schema = obj(
        a={"type": "string", "examples": ["A-2231"], "maxLength": 9},
        b={"type": "integer", "minimum": 0, "title": "B", "description": "How many."},
        c={"enum": ["a", 1, "1"]},
    )
    form = form_of(tmp_path, {**schema, "required": ["a"]}, {"c": 1.0, "zzz": [1]})
    first, second, third, unknown = form.root.fields
    assert (first.placeholder, first.bounds, first.is_required) == ("A-2231", "0 to 9 characters", True)
    assert (second.help, second.bounds) == ("B: How many.", "whole number >= 0")
    assert (third.options, third.chosen) == (("a", 1, "1"), 1)
    assert (unknown.name, unknown.kind, unknown.is_in_schema, unknown.value) == ("zzz", "json", False, [1])
    odd = field_at(form_of(tmp_path, schema, {"c": True}), "/c")
    assert (odd.options[-1], odd.chosen) == (True, 3)


def test_offered_values_and_fixed_places() -> None:
    line = {"id": "a", "instruction": "a", "output": "b", "category": "c"}
    form = Form(load_shape("instruction"), line)
    form.reopen(line, fixed={"/id": "it names the record"}, offered={"/category": ["billing", "returns"]})
    category = field_at(form, "/category")
    assert (category.kind, category.options) == ("choice", ("billing", "returns", "c"))
    assert form.enter("/id", "b") == "it names the record"
    assert not form.leave_out("/id")
    assert not form.is_changed


def test_both_answers_of_a_preference_are_texts_of_many_lines() -> None:
    form = Form(load_shape("preference"), {"prompt": "Hi", "chosen": "Hello.", "rejected": "No."})
    assert {field.kind for field in form.root.fields if field.name in ("chosen", "rejected")} == {"text"}


def test_numbers_keep_how_they_were_written(tmp_path: Path) -> None:
    line = {"a": 1, "b": 1.0, "c": 2**63 - 1, "d": 1e22, "e": -0.0}
    form = form_of(tmp_path, obj(**{name: {"type": "number"} for name in line}), line)
    assert [form.text(one) for one in form.root.fields] == ["1", "1.0", "9223372036854775807", "1e+22", "-0.0"]
    assert form.enter("/a", "2") == ""
    assert form.enter("/b", "2.0") == ""
    for text in ("9223372036854775808", "a", "1 2", "01", "+1", "true", "[1]", "NaN", "1e999", "١"):
        assert form.enter("/c", text)
    made = form.to_line()
    assert (made["a"], type(made["a"]), made["b"], type(made["b"]), made["c"]) == (2, int, 2.0, float, 2**63 - 1)


def test_what_is_typed_and_is_no_value_waits_beside_the_line(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(n={"type": "integer"}, m={"type": "object"}), {"n": 1, "m": {"a": 1}})
    assert form.enter("/n", "1x")
    assert form.enter("/m", '{"a": 1,\n "b" 2}') == "line 2, column 6: a colon after the key was expected"
    assert form.to_line() == {"n": 1, "m": {"a": 1}}
    assert form.text(field_at(form, "/n")) == "1x"
    assert [told.pointer for told in form.problems()] == ["/n", "/m"]
    assert form.enter("/n", "12") == ""
    assert form.enter("/m", "{}") == ""
    assert form.to_line() == {"n": 12, "m": {}}
    assert not form.typed


def test_typing_away_what_was_never_there_leaves_it_out(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(a={"type": "string"}, b={"type": "string"}), {"b": ""})
    form.enter("/a", "x")
    form.enter("/b", "y")
    form.enter("/a", "")
    form.enter("/b", "")
    assert form.to_line() == {"b": ""}


def test_leaving_out_goes_by_way_of_null_where_null_may_be(tmp_path: Path) -> None:
    schema = {**obj(a={"type": ["string", "null"]}, c={"type": ["string", "null"]}), "required": ["c"]}
    form = form_of(tmp_path, schema, {"a": "x", "c": "z"})
    assert form.leave_out("/a")
    assert form.to_line()["a"] is None
    assert form.leave_out("/a")
    assert not form.leave_out("/a")
    assert form.leave_out("/c")
    assert form.to_line() == {"c": None}


def test_one_go_of_typing_is_one_change_to_take_back(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(a={"type": "string"}, b={"type": "string"}), {})
    for text in ("h", "hi"):
        form.enter("/a", text)
    form.enter("/b", "x")
    assert form.undo()
    assert form.to_line() == {"a": "hi"}
    assert form.redo()
    assert form.to_line() == {"a": "hi", "b": "x"}


def test_turns_are_added_moved_and_taken_out_with_what_is_typed_in_them(tmp_path: Path) -> None:
    form = form_of(tmp_path, obj(x={"type": "array", "items": TURN}), {"x": [{"n": 1}, {"n": 2}, {"n": 3}]})
    form.enter("/x/1/n", "2x")
    assert form.move_turn("/x/1", 1) == "/x/2"
    assert form.move_turn("/x/2", 1) == "/x/2"
    assert form.typed == {"/x/2/n": Typed("2x", "not a number")}
    assert form.leave_out("/x/0")
    assert form.typed == {"/x/1/n": Typed("2x", "not a number")}
    assert form.leave_out("/x/1")
    assert form.typed == {}
    assert form.to_line() == {"x": [{"n": 3}]}
    chat = Form(load_shape("chat"), {"messages": [{"role": "user", "content": "a"}]})
    assert chat.add_turn("/messages") == "/messages/1"
    assert chat.to_line()["messages"][1] == {"role": "assistant"}
    called = chat.add_call("/messages/1")
    assert called == "/messages/1/tool_calls/0"
    assert chat.add_call("/messages/0") == ""
    assert chat.add_next_turn("/messages/1") == "/messages/2"
    assert chat.to_line()["messages"][2] == {"role": "tool", "tool_call_id": "call_1"}


def test_new_lines_begin_with_what_is_fixed_and_with_no_invented_text(tmp_path: Path) -> None:
    assert Form.blank_line(load_shape("instruction")) == {}
    assert Form.blank_line(load_shape("chat")) == {"messages": [{"role": "user"}, {"role": "assistant"}]}
    inner = {**obj(d={"const": 1}), "required": ["d"]}
    schema = obj(
        a={"const": "v1"}, b={"type": "string", "default": "x"}, c=inner, f={"type": "string"}, g={"default": 1}
    )
    made = Form.blank_line(own(tmp_path, {**schema, "required": ["f", "c", "b", "a"]}))
    assert made == {"a": "v1", "b": "x", "c": {"d": 1}}


def test_problems_stand_under_the_nearest_field() -> None:
    form = Form(load_shape("instruction"), {"instruction": 5, "meta": [], "x-ignore": [""], "zzz": 1})
    assert {one.pointer for one in form.problems()} == {"/instruction", "/meta", "/output", "/x-ignore", "/zzz"}


@pytest.mark.parametrize(
    ("text", "where"), [("{", (1, 2)), ('{"é": 1,\n  "b": x}', (2, 8)), ('{"a": 1, "a": 2}', (1, 10)), ("", (1, 1))]
)
def test_faults_of_json_say_line_and_column(text: str, where: tuple[int, int]) -> None:
    with pytest.raises(Misspelt) as caught:
        read_json(text)
    assert (caught.value.line, caught.value.column) == where
    assert describe_problem(json_text({"a": {"b": "é"}, "c": 1}), Problem("is odd", "/c")).startswith(
        "line 5, column 8"
    )


# -- nothing is lost --------------------------------------------------------------------------------------------------


def assert_nothing_is_lost(shape: Shape, line: Any) -> None:
    form = Form(shape, line)
    assert canonical(form.to_line()) == canonical(line)
    assert set(leaves(line)) <= {one.pointer for one in shown(form.root)}
    assert form.problems() is not None
    assert not form.is_changed
    for field in list(form.root.walk()):
        if field.kind in TYPED and field.is_present and field.value is not None:
            text = form.text(field)
            form.enter(field.pointer, text + "\n{,")
            assert form.is_changed
            assert form.enter(field.pointer, text) == ""
    assert canonical(form.to_line()) == canonical(line)
    while form.undo():
        pass
    assert canonical(form.to_line()) == canonical(line)
    if isinstance(line, dict) and (text := toml_of(line)) is not None:
        assert canonical(read_record(text)) == canonical(line)
        assert visible(text) == text


@pytest.mark.parametrize("name", shape_names())
def test_the_examples_of_the_shipped_schemas_come_back_as_they_were(name: str) -> None:
    shape = load_shape(name)
    for line in [*shape.schema["examples"], *shape.schema["x-counterexamples"]]:
        assert_nothing_is_lost(shape, line)


@pytest.mark.parametrize("file", ["support_desk.jsonl", "general.jsonl", "messy.jsonl"])
def test_the_samples_come_back_as_they_were(file: str) -> None:
    shape = load_shape("chat" if file == "general.jsonl" else "instruction")
    path = Path(__file__).resolve().parents[2] / "samples" / file
    entries = [item for item in read_entries(path) if hasattr(item, "value")]
    assert entries
    for entry in entries[:60]:
        assert_nothing_is_lost(shape, entry.value)


@settings(deadline=None, max_examples=draws(150))
@given(st.dictionaries(st.sampled_from(["id", "messages", "tools", "meta", "labels", "split", "x"]), VALUES))
def test_whatever_a_chat_line_holds_comes_back(line: dict[str, Any]) -> None:
    assert_nothing_is_lost(load_shape("chat"), line)


@st.composite
def schemas(draw: Any, depth: int = 0) -> Any:
    """Draw a schema of the keywords that a form looks at."""
    kinds = ["string", "number", "integer", "boolean", "enum", "any", "types", "ref"]
    kind = draw(st.sampled_from([*kinds, *(["object", "array", "oneOf", "allOf"] if depth < 3 else [])]))
    part = schemas(depth=depth + 1)
    match kind:
        case "enum":
            return {"enum": draw(st.lists(SCALARS, min_size=1, max_size=6, unique_by=canonical))}
        case "types":
            types = st.sampled_from(["string", "object", "null", "integer"])
            return {"type": draw(st.lists(types, min_size=1, unique=True))}
        case "any":
            return draw(st.sampled_from([{}, True, {"title": "Any"}]))
        case "ref":
            return {"$ref": "#/$defs/again"}
        case "object":
            names = draw(st.lists(st.sampled_from(["a", "b", "role", "content", "~/"]), unique=True))
            return {"type": "object", "properties": {name: draw(part) for name in names}, "required": names[:1]}
        case "array":
            return {"type": "array", "items": draw(part)}
        case "oneOf":
            return {draw(st.sampled_from(["oneOf", "anyOf"])): draw(st.lists(part, min_size=1, max_size=3))}
        case "allOf":
            return {"allOf": draw(st.lists(part, max_size=2))}
        case _:
            return {"type": kind, **draw(st.sampled_from([{}, {"default": None}, {"title": "T", "maxLength": 300}]))}


@settings(deadline=None, max_examples=draws(300), suppress_health_check=[HealthCheck.too_slow])
@given(schemas(), VALUES, st.randoms())
def test_whatever_the_schema_says_the_line_comes_back(
    tmp_path_factory: pytest.TempPathFactory, schema: Any, line: Any, chance: random.Random
) -> None:
    again = obj(a={"$ref": "#/$defs/again"}, b={"type": "array", "items": TURN})
    whole = {**(schema if isinstance(schema, dict) else {"allOf": [schema]}), "$defs": {"again": again}}
    try:
        shape = own(tmp_path_factory.getbasetemp(), whole)
    except CurateError:
        reject()
    assert_nothing_is_lost(shape, line)
    form = Form(shape, line)
    for _ in range(12):
        act(form, chance)
        for one in form.problems():
            assert form.field(one.pointer) is not None
    while form.undo():
        pass
    assert canonical(form.to_line()) == canonical(line)
    assert not form.typed


def act(form: Form, chance: random.Random) -> None:
    """Do something to some field, as a person at random keys would."""
    field = chance.choice(list(form.root.walk()))
    if field.kind in TYPED and chance.random() < 0.7:
        form.enter(field.pointer, chance.choice(["", "7", "a, b", '{"a": 1}', "[", "\x1b[2J", "é\u202e"]))
    elif field.kind == "choice":
        form.set(field.pointer, chance.choice(field.options))
    elif field.kind == "list":
        form.move_turn(form.add_turn(field.pointer), chance.choice([-1, 1]))
    elif field.is_turn and chance.random() < 0.5:
        form.next_role(field.pointer)
    else:
        form.leave_out(field.pointer)


# -- spelling ---------------------------------------------------------------------------------------------------------

ODD = st.text(st.sampled_from("<U+>0012EC{} \n\t\x00\x1b\x7f\x85\u2028\u202e\u200b\U000e0041é\r'\"\\"), max_size=30)


@settings(max_examples=draws(500))
@given(st.text() | ODD)
def test_texts_are_shown_without_what_steers_a_terminal_and_read_back_whole(text: str) -> None:
    spelling = Spelling(text)
    shown = spelling.spell(text)
    assert visible(shown) == shown
    assert spelling.read(shown) == text


def test_control_characters_are_spelled_by_their_number() -> None:
    assert Spelling("a\x1b[2J\u202eb").spell("a\x1b[2J\u202eb") == "a<U+001B>[2J<U+202E>b"
    assert Spelling("<U+202E>").read("<U+202E>") == "<U+202E>"
    assert Spelling("<U+202E> \x1b").spell("<U+202E> \x1b") == "<U+003C>U+202E> <U+001B>"


@given(st.dictionaries(st.text(max_size=6) | ODD, VALUES | ODD, max_size=4))
def test_a_record_is_read_back_whole(line: dict[str, Any]) -> None:
    for text in filter(None, (toml_of(line), json_text(line))):
        assert visible(text) == text
        assert canonical(read_record(text)) == canonical(line)
