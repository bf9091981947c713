"""The fields of the Edit screen: each kind puts its value into the record, and what is wrong is told beside it."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from curate.tui.screens.edit.inputs import AreaField, LineField
from tests.curate.tui.edited import (
    LINE,
    TURNS,
    Settled,
    assert_what_is_seen_is_what_is_there,
    edit_of,
    go_to,
    record_in,
    type_in,
)

pytestmark = pytest.mark.ci

# -- fields -----------------------------------------------------------------------------------------------------------


def test_every_kind_of_field_puts_its_value_into_the_record(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await go_to(pilot, settled, "/category")
        await pilot.press("enter", "t", "enter")
        await go_to(pilot, settled, "/tags")
        await pilot.press("pagedown", "end", "backspace")
        await type_in(pilot, ', "a, b"]')
        await go_to(pilot, settled, "/langs")
        await type_in(pilot, '["en", "fr"]')
        await go_to(pilot, settled, "/checked")
        await pilot.press("space")
        await go_to(pilot, settled, "/score")
        await pilot.press("end", "2")
        await go_to(pilot, settled, "/odd")
        await pilot.press("pagedown", "end", "backspace")
        await type_in(pilot, ", 9007199254740993]")
        await settled(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1")
    assert record_in(workspace, "m1") == {
        **LINE,
        "category": "tech",
        "tags": ["late", "a, b"],
        "langs": ["en", "fr"],
        "checked": True,
        "score": 1.02,
        "odd": [1, {"a": None}, 9007199254740993],
    }


def test_turns_are_added_moved_and_taken_out(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("f9")
        await settled(pilot)
        await type_in(pilot, "Thanks")
        await settled(pilot)
        await pilot.press("f9")
        await settled(pilot)
        await type_in(pilot, "Gladly")
        await go_to(pilot, settled, "/messages/2")
        await pilot.press("K")
        await settled(pilot)
        await go_to(pilot, settled, "/messages/0")
        await pilot.press("x")
        await settled(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/1/content")
    turns = [(one["role"], one["content"]) for one in record_in(workspace, "m1")["messages"]]
    assert turns == [("user", "Thanks"), ("assistant", "It is on its way."), ("assistant", "Gladly")]


def test_what_was_taken_out_comes_back(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("x")
        await settled(pilot)
        assert len(edit_of(pilot).form.to_line()["messages"]) == 1
        await pilot.press("ctrl+z")
        await settled(pilot)
        assert not edit_of(pilot).is_changed

    edit_story(workspace, story, record="m1", pointer="/messages/0")
    assert record_in(workspace, "m1") == LINE


def test_keys_that_may_be_there_are_opened_typed_and_left_out(
    make_own: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await go_to(pilot, settled, "/messages/0/name")
        await type_in(pilot, "bo")
        await go_to(pilot, settled, "/tree/left/word")
        await type_in(pilot, '{"left": {"word": "leaf"}}')
        await go_to(pilot, settled, "/action")
        await type_in(pilot, '{"kind": "pay", "sum": "12"}')
        await pilot.pause(0.3)
        await settled(pilot)
        assert '! error "look" was expected' in screen_text(pilot.app), "JSON has the same checks"
        await pilot.press("backspace", "backspace", "backspace", "backspace", "backspace")
        await type_in(pilot, "12}")
        await go_to(pilot, settled, "/score")
        await pilot.press("f8", "f8")
        await settled(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1")
    found = record_in(workspace, "m1")
    assert found["messages"][0] == {**TURNS[0], "name": "bo"}
    assert found["tree"] == {"left": {"word": "leaf"}}
    assert found["action"] == {"kind": "pay", "sum": 12}
    assert "score" not in found


def test_a_long_list_shows_each_card_on_one_line(make_own: Any, edit_story: Any, settled: Settled) -> None:
    turns = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"turn {n}"} for n in range(40)]
    workspace = make_own([{**LINE, "messages": turns}])

    async def story(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert not [one for one in app.screen.query(AreaField) if one.pointer.startswith("/messages")]
        await go_to(pilot, settled, "/messages/33/content")
        assert [one.pointer for one in app.screen.query(AreaField) if one.pointer.startswith("/messages")] == [
            "/messages/33/content"
        ]
        await type_in(pilot, "the ")
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages")
    assert record_in(workspace, "m1")["messages"][33]["content"] == "the turn 33"


ODD_TEXTS = [
    "a\rb", "a\r\nb\n", "\n", "\n\n a", "a\u2028b\u2029c\x85d\x0b\x0ce\x1cf", "tab\there", "\x1b[2J\x00\x7f\x9b",
    "\u202eevil\u202c", "<U+001B>", "<U+001B> \x1b", "👩\u200d💻 é e\u0301", "\ufeff", " ", "x" * 300, "[/foo] [b]",
    "\ufe0f",
]  # fmt: skip


def test_odd_texts_are_kept_whole(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    lines = [
        {"id": f"r{number:02}", "instruction": f"{number}{text}", "output": text, "category": text[:99],
         "meta": {"note": text, text: text}}
        for number, text in enumerate(ODD_TEXTS)
    ]  # fmt: skip
    workspace = make_workspace(lines=lines)

    async def change(pilot: Pilot[Any], name: str) -> None:
        pilot.app.go("edit", record=name)
        await settled(pilot)
        edit = edit_of(pilot)
        assert edit.name == name
        for field in [*pilot.app.screen.query(AreaField), *pilot.app.screen.query(LineField)]:
            typed = field.text if isinstance(field, AreaField) else field.value
            assert field.spelling.read(typed) == edit.form.text(edit.form.field(field.pointer))
        for pointer in ("/instruction", "/meta", "/category"):
            await go_to(pilot, settled, pointer)
            await pilot.press("ctrl+home" if pointer != "/category" else "home", "space", "backspace")
        await settled(pilot)
        assert not edit_of(pilot).is_changed
        await go_to(pilot, settled, "/output")
        await pilot.press("ctrl+home", "Z")
        await pilot.press("ctrl+s")
        await settled(pilot)

    async def story(pilot: Pilot[Any]) -> None:
        for line in lines:
            await change(pilot, line["id"])

    edit_story(workspace, story, record="r00")
    for line in lines:
        assert record_in(workspace, line["id"]) == {**line, "output": "Z" + line["output"]}


# -- problems ---------------------------------------------------------------------------------------------------------


def test_what_is_wrong_stands_under_its_field_and_is_not_saved(
    make_own: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("home", "minus")
        await pilot.pause(0.3)
        await settled(pilot)
        shown = screen_text(pilot.app).splitlines()
        place = next(number for number, one in enumerate(shown) if one.startswith("score"))
        assert "! error is less than the minimum of 0" in shown[place + 1]
        assert any("! 1 error" in one for one in shown)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert "E972" in screen_text(pilot.app)
        assert record_in(workspace, "m1") == LINE
        await pilot.press("end", "x", "ctrl+s")
        await settled(pilot)
        assert "not a number" in screen_text(pilot.app)
        await pilot.press("backspace", "home", "delete", "ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/score")
    assert record_in(workspace, "m1") == LINE


def test_the_next_problem_gets_the_focus(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("f9")
        await settled(pilot)
        await go_to(pilot, settled, "/level")
        await pilot.press("p")
        await settled(pilot)
        await type_in(pilot, "Done")
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/1")
    assert record_in(workspace, "m1")["messages"][2] == {"role": "user", "content": "Done"}


def test_a_pointer_into_json_puts_the_cursor_there(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        field = pilot.app.focused
        assert isinstance(field, AreaField)
        assert field.cursor_location == (3, 9)
        assert field.document.get_line(3)[9:] == "null"

    edit_story(workspace, story, record="m1", pointer="/odd/1/a")


def test_what_was_typed_stays_when_the_focus_is_sent_elsewhere(
    make_own: Any, edit_story: Any, settled: Settled
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "One ")
        await pilot.pause(0.3)
        await settled(pilot)
        await go_to(pilot, settled, "/messages/1/content")
        await type_in(pilot, "Two ")
        await go_to(pilot, settled, "/messages/0/content")
        await pilot.press("end")
        await type_in(pilot, " Three")
        await pilot.press("f9")
        await settled(pilot)
        assert_what_is_seen_is_what_is_there(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        await go_to(pilot, settled, "/messages/1")
        await pilot.press("x", "ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    turns = [one["content"] for one in record_in(workspace, "m1")["messages"]]
    assert turns == ["One Where is my parcel? Three", "Two It is on its way."]
