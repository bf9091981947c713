"""The form model: fields of any schema, and a line that loses nothing by being shown as one."""

from __future__ import annotations

import json
import random
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from curate.door import read_entries
from curate.form import Field, Form, Misspelt, Spelling, Typed, escaped, is_plain, read_written, told, written
from curate.form.outline import outline
from curate.form.spelling import read_number, read_tags, tags_text
from curate.record import CurateError, Problem, canonical
from curate.say import visible
from curate.shape import Shape, load_contract, load_shape, shape_names

NUMBERS = count()
TYPED = ("line", "text", "number", "tags", "json")
SCALARS: Any = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "role", "~/"]), part),
    max_leaves=8,
)


def own(folder: Path, schema: Any) -> Shape:
    name = f"s{next(NUMBERS)}.json"
    (folder / name).write_text(json.dumps(schema), encoding="utf-8")
    return load_contract(folder / name, folder)


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def form_of(folder: Path, schema: Any, line: Any) -> Form:
    return Form.from_line(own(folder, schema), line)


def field_at(form: Form, pointer: str) -> Field:
    found = form.field(pointer)
    assert found is not None, f"no field at {pointer}"
    return found


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
        ({"oneOf": [{"const": 1, "title": "One"}, {"const": 2}]}, 2, "choice"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, ["b"], "choices"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, ["b", "b"], "list"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, ["c"], "list"),
        ({"type": "array", "items": {"type": "string"}}, ["b"], "tags"),
        ({"type": "array", "items": {"type": "string"}}, ["b\nc"], "list"),
        ({"type": "array", "items": {"type": "string"}}, ["b", 3], "list"),
        ({"type": "array", "items": {"type": "string", "maxLength": 500}}, ["b"], "list"),
        ({"type": "array", "items": {"type": "object"}}, [], "list"),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, [], "list"),
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
    assert (second.name, second.help, second.bounds, second.is_integer) == (
        "b",
        "B: How many.",
        "whole number >= 0",
        True,
    )
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


# -- nothing is lost --------------------------------------------------------------------------------------------------


def retyped(form: Form) -> None:
    """Spoil every field that is typed in, and type what stood in it again."""
    for field in list(form.root.walk()):
        if field.kind not in TYPED or not field.is_present or field.value is None or field.fixed:
            continue
        text = form.text(field)
        form.enter(field.pointer, text + "\n{," if field.kind in ("json", "number") else text + ", z")
        assert form.is_changed
        assert form.enter(field.pointer, text) == ""
    for field in list(form.root.walk()):
        if field.chosen is not None and field.kind == "choice":
            form.set(field.pointer, field.options[field.chosen].value)


def assert_nothing_is_lost(shape: Shape, line: Any) -> None:
    form = Form.from_line(shape, line)
    assert canonical(form.to_line()) == canonical(line)
    assert set(leaves(line)) <= {one.pointer for one in shown(form.root)}
    assert form.problems() is not None
    assert canonical(form.to_line()) == canonical(line)
    assert not form.is_changed
    has_twin = [one for one in form.root.walk() if one.chosen is not None]
    is_respelt = any(canonical(one.options[one.chosen or 0].value) != canonical(one.value) for one in has_twin)
    retyped(form)
    if not is_respelt:
        assert canonical(form.to_line()) == canonical(line)
    while form.undo():
        pass
    assert canonical(form.to_line()) == canonical(line)


def leaves(value: Any, pointer: str = "") -> list[str]:
    """Return the pointers of all values that hold no others."""
    if isinstance(value, dict) and value:
        escaped = {key: key.replace("~", "~0").replace("/", "~1") for key in value}
        return [one for key, part in value.items() for one in leaves(part, f"{pointer}/{escaped[key]}")]
    if isinstance(value, list) and value:
        return [one for place, part in enumerate(value) for one in leaves(part, f"{pointer}/{place}")]
    return [pointer]


def shown(root: Field) -> list[Field]:
    """Return a field for every place that a person can see: what stands in JSON, tags and choices counts too."""
    found = []
    for one in root.walk():
        found.append(one)
        if one.kind not in ("group", "list"):
            found += [Field(pointer, "", "json") for pointer in leaves(one.value, one.pointer)]
    return found


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


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(["id", "messages", "tools", "meta", "labels", "split", "x"]), VALUES))
def test_whatever_a_chat_line_holds_comes_back(line: dict[str, Any]) -> None:
    assert_nothing_is_lost(load_shape("chat"), line)


@st.composite
def schemas(draw: Any, depth: int = 0) -> Any:
    """Draw a schema of the keywords that a form looks at."""
    kinds = ["string", "number", "integer", "boolean", "enum", "any", "types", "ref"]
    kind = draw(st.sampled_from([*kinds, *(["object", "array", "oneOf", "allOf", "tagged"] if depth < 3 else [])]))
    part = schemas(depth=depth + 1)
    match kind:
        case "enum":
            return {"enum": draw(st.lists(SCALARS, min_size=1, max_size=6, unique_by=canonical))}
        case "types":
            return {
                "type": draw(
                    st.lists(st.sampled_from(["string", "object", "null", "integer"]), min_size=1, unique=True)
                )
            }
        case "any":
            return draw(st.sampled_from([{}, True, {"title": "Any"}]))
        case "ref":
            return {"$ref": "#/$defs/again"}
        case "object":
            names = draw(st.lists(st.sampled_from(["a", "b", "role", "~/"]), unique=True))
            rest = draw(
                st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": {"type": "string"}}])
            )
            return {"type": "object", "properties": {name: draw(part) for name in names}, "required": names[:1], **rest}
        case "array":
            return {"type": "array", "items": draw(part)}
        case "oneOf":
            return {draw(st.sampled_from(["oneOf", "anyOf"])): draw(st.lists(part, min_size=1, max_size=3))}
        case "allOf":
            return {"allOf": draw(st.lists(part, max_size=2))}
        case "tagged":
            branches = [obj(role={"const": tag}, a=draw(part)) for tag in ("x", "y")]
            return {"oneOf": branches}
        case _:
            return {"type": kind, **draw(st.sampled_from([{}, {"default": None}, {"title": "T", "maxLength": 300}]))}


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(schemas(), VALUES, st.randoms())
def test_whatever_the_schema_says_the_line_comes_back(
    tmp_path_factory: pytest.TempPathFactory, schema: Any, line: Any, chance: random.Random
) -> None:
    again = obj(a={"$ref": "#/$defs/again"}, b={"type": "array", "items": {"$ref": "#/$defs/again"}})
    whole = {**(schema if isinstance(schema, dict) else {"allOf": [schema]}), "$defs": {"again": again}}
    folder = tmp_path_factory.getbasetemp()
    try:
        shape = own(folder, whole)
    except CurateError:
        reject()
    assert_nothing_is_lost(shape, line)
    assert list(outline(shape))
    form = Form.from_line(shape, line)
    for _ in range(12):
        act(form, chance)
        assert form.root.pointer == ""
        for one in form.problems():
            assert form.field(one.pointer) is not None
    while form.undo():
        pass
    assert canonical(form.to_line()) == canonical(line)
    assert not form.typed


def act(form: Form, chance: random.Random) -> None:
    """Do something to some field, as a person at random keys would."""
    field = chance.choice(list(form.root.walk()))
    deed = chance.randrange(8)
    if field.choices and deed < 4:
        choice = chance.choice(field.choices)
        form.choose(field.pointer, choice.number, chance.randrange(len(choice.labels)))
    elif field.kind in TYPED and deed < 5:
        form.enter(field.pointer, chance.choice(["", "7", "a, b", '{"a": 1}', "[", "\x1b[2J", "é\u202e"]))
    elif field.options and field.kind == "choice":
        form.set(field.pointer, chance.choice(field.options).value)
    elif field.kind == "list":
        form.add_item(field.pointer)
        form.move_item(field.pointer, chance.randrange(3), chance.choice([-1, 1]))
        if chance.random() < 0.4:
            form.remove_item(field.pointer, chance.randrange(3))
    elif not field.is_present:
        form.begin(field.pointer)
    else:
        form.leave_out(field.pointer)
        form.settle()


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


# -- spelling ---------------------------------------------------------------------------------------------------------

ODD = st.text(st.sampled_from("<U+>0012FE⟦⟧«»{} \n\t\x00\x1b\x7f\x85\u2028\u202e\u200b\U000e0041é\r"), max_size=30)


@settings(max_examples=500)
@given(st.text() | ODD)
def test_texts_are_shown_without_what_steers_a_terminal_and_read_back_whole(text: str) -> None:
    try:
        spelling = Spelling.of(text)
    except ValueError:
        assert all(opening in text for opening in ("<U+", "⟦U+", "«U+", "{{U+"))
        return
    shown = spelling.shown(text)
    assert visible(shown) == shown
    assert spelling.read(shown) == text
    if is_plain(text):
        assert shown == text


def test_control_characters_are_spelled_by_their_number() -> None:
    spelling = Spelling.of("a\x1b[2J\u202eb")
    assert spelling.shown("a\x1b[2J\u202eb") == "a<U+001B>[2J<U+202E>b"
    assert Spelling.of("<U+202E>").shown("<U+202E>") == "<U+202E>"
    assert Spelling.of("<U+202E> \x1b").shown("<U+202E> \x1b") == "<U+202E> ⟦U+001B⟧"


@given(VALUES | ODD)
def test_written_json_is_plain_and_read_back_whole(value: Any) -> None:
    text = written(value)
    assert visible(text) == text
    assert canonical(read_written(text)) == canonical(value)
    assert escaped(text) == text


@given(st.lists(st.text(max_size=10) | ODD))
def test_tags_are_read_back_whole(tags: list[str]) -> None:
    text = tags_text(tags)
    assert visible(text) == text
    assert read_tags(text) == tags


def test_tags_as_people_type_them() -> None:
    assert read_tags(' late,refund , "a, b",, x y') == ["late", "refund", "a, b", "x y"]
    for text in ('"a', '"a" b'):
        with pytest.raises(ValueError, match="quote"):
            read_tags(text)


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
    assert told(text, Problem("is odd", "/c")) == "line 5, column 8: /c is odd"


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
