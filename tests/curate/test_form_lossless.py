"""A line that is shown as a form comes back as it was, whatever its schema and its texts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from curate.base.console import visible
from curate.base.record import CurateError, canonical
from curate.jsonl import read_entries
from curate.schema import Shape, load_shape, shape_names
from curate.schema.form import Form, Spelling, escaped, is_plain, outline, read_tags, read_written, tags_text, written
from tests.curate.forming import SCALARS, TYPED, VALUES, leaves, obj, own, shown
from tests.effort import draws

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
    form = Form(shape, line)
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


@settings(deadline=None, max_examples=draws(300), suppress_health_check=[HealthCheck.too_slow])
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
    form = Form(shape, line)
    for _ in range(12):
        act(form, chance)
        assert form.root.pointer == ""
        for one in form.problems():
            assert form.field(one.pointer) is not None
    while form.undo():
        pass
    assert canonical(form.to_line()) == canonical(line)
    assert not form.typed


def test_what_is_typed_under_an_unknown_key_keeps_its_field(tmp_path: Path) -> None:
    form = Form(own(tmp_path, obj(a={"type": "string"})), {"role": None})
    form.enter("/role", "")
    form.enter("/role", "[")
    form.settle()
    field = form.field("/role")
    assert field is not None
    assert form.text(field) == "["
    assert "role" not in form.to_line()


def act(form: Form, chance: random.Random) -> None:
    """Do something to some field, as a person at random keys would."""
    field = chance.choice(list(form.root.walk()))
    deed = chance.randrange(8)
    if field.kind in TYPED and deed < 5:
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


# -- spelling ---------------------------------------------------------------------------------------------------------

ODD = st.text(st.sampled_from("<U+>0012FE⟦⟧«»{} \n\t\x00\x1b\x7f\x85\u2028\u202e\u200b\U000e0041é\r"), max_size=30)


@settings(max_examples=draws(500))
@given(st.text() | ODD)
def test_texts_are_shown_without_what_steers_a_terminal_and_read_back_whole(text: str) -> None:
    try:
        spelling = Spelling.of(text)
    except ValueError:
        assert all(opening in text for opening in ("<U+", "⟦U+", "«U+", "{{U+"))
        return
    shown = spelling.spell(text)
    assert visible(shown) == shown
    assert spelling.read(shown) == text
    if is_plain(text):
        assert shown == text


def test_control_characters_are_spelled_by_their_number() -> None:
    spelling = Spelling.of("a\x1b[2J\u202eb")
    assert spelling.spell("a\x1b[2J\u202eb") == "a<U+001B>[2J<U+202E>b"
    assert Spelling.of("<U+202E>").spell("<U+202E>") == "<U+202E>"
    assert Spelling.of("<U+202E> \x1b").spell("<U+202E> \x1b") == "<U+202E> ⟦U+001B⟧"


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
