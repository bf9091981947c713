"""The Edit screen: each story ends with a look at the workspace as the next one to open it finds it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Select

from curate.journal import Decision
from curate.tui.app import CurateApp
from curate.tui.form.inputs import AreaField, LineField, MarkField, SelectField
from curate.tui.form.nodes import Leaf
from curate.tui.form.sheet import Sheet
from curate.tui.screens.edit import EditScreen
from curate.workshop import open_workshop
from curate.workshop.drafts import Drafts
from curate.workspace import Workspace, open_workspace

Settled = Callable[[Pilot[Any]], Awaitable[None]]

SCHEMA = {
    "type": "object",
    "required": ["messages"],
    "x-order": ["id", "category", "level"],
    "properties": {
        "id": {"type": "string"},
        "category": {"enum": ["billing", "returns", "account", "shipping", "tech"]},
        "level": {"enum": ["easy", "medium", "hard"], "description": "How hard it is."},
        "tags": {"type": "array", "items": {"type": "string"}},
        "langs": {"type": "array", "items": {"enum": ["en", "de", "fr"]}},
        "checked": {"type": "boolean"},
        "score": {"type": ["number", "null"], "minimum": 0},
        "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/turn"}},
        "action": {
            "oneOf": [
                {"type": "object", "required": ["kind"], "properties": {"kind": {"const": "look"}, "q": {}}},
                {
                    "type": "object", "required": ["kind"],
                    "properties": {"kind": {"const": "pay"}, "sum": {"type": "number"}},
                },
            ]
        },
        "tree": {"$ref": "#/$defs/node"},
    },
    "$defs": {
        "turn": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "role": {"enum": ["system", "user", "assistant"]},
                "content": {"type": "string"},
                "name": {"type": "string"},
            },
        },
        "node": {"type": "object", "properties": {"word": {"type": "string"}, "left": {"$ref": "#/$defs/node"}}},
    },
    "x-record": {"id": "/id", "messages": "/messages", "category": "/category"},
}  # fmt: skip
TURNS = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "It is on its way."}]
LINE = {
    "id": "m1",
    "category": "shipping",
    "level": "easy",
    "tags": ["late"],
    "score": 1.0,
    "messages": TURNS,
    "odd": [1, {"a": None}],
}


@pytest.fixture
def make_own(make_workspace: Any) -> Callable[..., Workspace]:
    """Return a function that makes a workspace of the schema above."""

    def make(lines: list[dict[str, Any]] | None = None, settings: str = "") -> Workspace:
        plain = make_workspace(lines=[])
        (plain.root / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
        (plain.root / "curate.toml").write_text(
            f'schema = "schema.json"\n{settings}\n[split]\nseed = 1\n', encoding="utf-8"
        )
        text = "".join(json.dumps(line) + "\n" for line in (lines or [LINE]))
        (plain.root / "data" / "a.jsonl").write_text(text, encoding="utf-8")
        return open_workspace(plain.root)

    return make


@pytest.fixture
def edit_story(make_app: Any, drive: Any, settled: Settled) -> Callable[..., CurateApp]:
    """Return a function that opens the Edit screen and tells a story there; `arrive` is what it is shown with."""

    def tell(
        workspace: Workspace, story: Any, size: tuple[int, int] = (100, 30), by: str = "ana", **arrive: Any
    ) -> CurateApp:
        app = make_app(workspace, by=by)

        async def whole(pilot: Pilot[Any]) -> None:
            app.go("edit", **arrive)
            await settled(pilot)
            await story(pilot)
            await settled(pilot)
            assert_what_is_seen_is_what_is_there(pilot)

        drive(app, whole, size=size)
        return app

    return tell


def record_in(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return a record as the next one to open the workspace finds it."""
    return dict(next(one.record.data for one in open_workspace(workspace.root).states() if one.record.id == name))


def names_in(workspace: Workspace) -> list[str]:
    return [one.record.id for one in open_workspace(workspace.root).states()]


async def type_in(pilot: Pilot[Any], text: str) -> None:
    for one in text:
        await pilot.press({" ": "space", "\n": "enter"}.get(one, one))


async def go_to(pilot: Pilot[Any], settled: Settled, pointer: str) -> None:
    """Jump to a field."""
    pilot.app.go("edit", record=edit_of(pilot).name, pointer=pointer)
    await settled(pilot)


def edit_of(pilot: Pilot[Any]) -> Any:
    screen = pilot.app.screen
    assert isinstance(screen, EditScreen)
    assert screen.edit is not None
    return screen.edit


def assert_what_is_seen_is_what_is_there(pilot: Pilot[Any]) -> None:
    """Whatever was done, every widget shows the value that the form would save."""
    for sheet in pilot.app.screen.query(Sheet):
        for leaf in sheet.query(Leaf):
            field, editor = sheet.form.field(leaf.pointer), leaf.editor
            assert field is not None, leaf.pointer
            if isinstance(editor, AreaField | LineField):
                shown = editor.text if isinstance(editor, AreaField) else editor.value
                assert editor.spelling.read(shown) == sheet.form.text(field), leaf.pointer
            elif isinstance(editor, SelectField):
                assert editor.value == (Select.NULL if field.chosen is None else field.chosen), leaf.pointer
            elif isinstance(editor, MarkField):
                marked = [one.value for one in field.options] if field.kind != "switch" else []
                expected = [value for value in marked if value in (field.value or []) or value == field.value]
                text = str(editor.render())
                assert text.count("(x)") + text.count("[x]") == len(expected) + (field.value is True), leaf.pointer


# -- saving -----------------------------------------------------------------------------------------------------------


def test_a_text_is_changed_and_saved(make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any) -> None:
    workspace = make_workspace()
    before = record_in(workspace, "r003")

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "New g: ")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert "saved r003: output" in screen_text(pilot.app)

    edit_story(workspace, story, record="r003", pointer="/output")
    assert record_in(workspace, "r003") == {**before, "output": "New g: " + before["output"]}
    assert not Drafts(workspace.root, "ana").names()


def test_w_saves_where_no_letter_is_typed_and_u_takes_it_back(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("right", "right", "space", "W")
        await settled(pilot)
        assert record_in(workspace, "m1")["level"] == "hard"
        await pilot.press("u")
        await settled(pilot)
        assert edit_of(pilot).form.to_line()["level"] == "easy"

    edit_story(workspace, story, record="m1", pointer="/level")
    assert record_in(workspace, "m1") == LINE


def test_the_palette_saves_too(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "Q")
        await pilot.press("ctrl+p")
        await type_in(pilot, "save")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    assert record_in(workspace, "m1")["messages"][0]["content"] == "QWhere is my parcel?"


def test_a_new_record_is_written(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_workspace()

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("n")
        await settled(pilot)
        edit_of(pilot)
        name = edit_of(pilot).name
        app = pilot.app
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert len(names_in(workspace)) == 60, "nothing is saved that is no record"
        await app.screen.query_one("FormView").focus_pointer("/instruction")
        await type_in(pilot, "Say hello\nto ana")
        await pilot.press("tab", "tab")
        await type_in(pilot, "Hello")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert record_in(workspace, name) == {"id": name, "instruction": "Say hello\nto ana", "output": "Hello"}
        await pilot.press("ctrl+n")
        await settled(pilot)
        assert edit_of(pilot).is_new

    edit_story(workspace, story)
    assert len(names_in(workspace)) == 61


def test_a_record_is_duplicated(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("c")
        await settled(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/level")
    copy = next(name for name in names_in(workspace) if name != "m1")
    assert record_in(workspace, copy) == {**LINE, "id": copy}


# -- fields -----------------------------------------------------------------------------------------------------------


def test_every_kind_of_field_puts_its_value_into_the_record(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await go_to(pilot, settled, "/category")
        await pilot.press("enter", "t", "enter")
        await go_to(pilot, settled, "/tags")
        await pilot.press("end")
        await type_in(pilot, ', "a, b"')
        await go_to(pilot, settled, "/langs")
        await pilot.press("space", "right", "right", "space")
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


def test_keys_that_may_be_there_are_opened_chosen_and_left_out(
    make_own: Any, edit_story: Any, settled: Settled
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await go_to(pilot, settled, "/messages/0/name")
        await type_in(pilot, "bo")
        await go_to(pilot, settled, "/tree")
        await pilot.press("enter")
        await settled(pilot)
        await go_to(pilot, settled, "/tree/left")
        await pilot.press("enter")
        await settled(pilot)
        await go_to(pilot, settled, "/tree/left/word")
        await type_in(pilot, "leaf")
        await go_to(pilot, settled, "/action")
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("tab", "enter", "p", "enter")
        await settled(pilot)
        await go_to(pilot, settled, "/action/sum")
        await type_in(pilot, "12")
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

    edit_story(workspace, story, record="m1")
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
        assert "! error must be at least 0" in shown[place + 1]
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
        await go_to(pilot, settled, "/messages/2")
        await pilot.press("x", "ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    turns = [one["content"] for one in record_in(workspace, "m1")["messages"]]
    assert turns == ["One Where is my parcel? Three", "Two It is on its way."]


# -- drafts -----------------------------------------------------------------------------------------------------------


def test_what_is_typed_is_kept_as_a_draft_and_gone_on_with(
    make_own: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace = make_own()

    async def first(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "Half ")
        await go_to(pilot, settled, "/score")
        await pilot.press("end", "x")
        draft = None
        for _ in range(50):
            await pilot.pause(0.2)
            draft = Drafts(workspace.root, "ana").read("m1")
            if draft is not None and draft.typed:
                break
        assert draft is not None
        assert draft.line["messages"][0]["content"] == "Half Where is my parcel?"
        assert draft.typed["/score"][0] == "1.0x"
        assert "draft kept" in screen_text(pilot.app)

    async def second(pilot: Pilot[Any]) -> None:
        assert "going on with your draft" in screen_text(pilot.app)
        await pilot.press("end", "backspace", "ctrl+s")
        await settled(pilot)

    edit_story(workspace, first, record="m1", pointer="/messages/0/content")
    assert record_in(workspace, "m1") == LINE
    edit_story(workspace, second, record="m1", pointer="/score")
    assert record_in(workspace, "m1")["messages"][0]["content"] == "Half Where is my parcel?"
    assert not Drafts(workspace.root, "ana").names()


def test_leaving_in_haste_loses_nothing(make_own: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "Half ")

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    draft = Drafts(workspace.root, "ana").read("m1")
    assert draft is not None
    assert draft.line["messages"][0]["content"] == "Half Where is my parcel?"

    async def resumed(pilot: Pilot[Any]) -> None:
        await pilot.press("o")
        await settled(pilot)
        await pilot.press("D")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert not edit_of(pilot).is_changed

    edit_story(workspace, resumed)
    assert not Drafts(workspace.root, "ana").names()
    assert record_in(workspace, "m1") == LINE


def test_what_somebody_else_changes_meanwhile_is_taken_in(
    make_own: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "Mine ")
        with open_workshop(workspace.root, "bo") as other:
            other.load()
            other.apply([Decision("edit", "m1", fields={"changes": {"level": "hard"}})])
        pilot.app.workshop.refresh()
        await settled(pilot)
        assert "(x) hard" in screen_text(pilot.app)
        assert "changed meanwhile" in screen_text(pilot.app)
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    found = record_in(workspace, "m1")
    assert (found["level"], found["messages"][0]["content"]) == ("hard", "Mine Where is my parcel?")


# -- $EDITOR ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that makes a few lines of Python the editor of whoever runs the app."""
    monkeypatch.setattr(CurateApp, "suspend", lambda _self: nullcontext())

    def use(program: str) -> None:
        script = tmp_path / "editor.py"
        head = "import json, sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\ntext = path.read_text()\n"
        script.write_text(head + program, encoding="utf-8")
        monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")

    return use


def test_a_record_goes_to_an_editor_and_comes_back(
    make_own: Any, edit_story: Any, settled: Settled, with_editor: Any, screen_text: Any
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "Now ")
        with_editor("path.write_text(text.replace('easy', 'hard').replace('\"level\"', '\"level\" oops'))")
        await pilot.press("f4")
        await settled(pilot)
        assert "line 4, column 11: a colon after the key was expected" in screen_text(pilot.app)
        assert record_in(workspace, "m1") == LINE
        with_editor("assert 'oops' in text\npath.write_text(text.replace(' oops', ''))")
        await pilot.press("f4")
        await settled(pilot)
        assert "(x) hard" in screen_text(pilot.app)
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    found = record_in(workspace, "m1")
    assert (found["level"], found["messages"][0]["content"]) == ("hard", "Now Where is my parcel?")


def test_an_editor_that_changes_nothing_or_is_not_there(
    make_own: Any, edit_story: Any, settled: Settled, with_editor: Any, screen_text: Any, monkeypatch: Any
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        with_editor("")
        await pilot.press("f4")
        await settled(pilot)
        assert "the editor has changed nothing" in screen_text(pilot.app)
        monkeypatch.setenv("VISUAL", "/no/such/editor")
        await pilot.press("f4")
        await settled(pilot)
        assert "E987 no-editor" in screen_text(pilot.app)
        monkeypatch.undo()
        await pilot.press("f4")
        await settled(pilot)
        assert "An editor cannot be started from here." in screen_text(pilot.app)

    edit_story(workspace, story, record="m1", pointer="/level")
    assert record_in(workspace, "m1") == LINE


def test_a_huge_record_is_for_an_editor_only(
    make_workspace: Any, edit_story: Any, settled: Settled, with_editor: Any, screen_text: Any
) -> None:
    workspace = make_workspace(lines=[{"id": "r", "instruction": "x" * 300_000, "output": "y"}])

    async def story(pilot: Pilot[Any]) -> None:
        assert "larger than 256 KB" in screen_text(pilot.app)
        assert not pilot.app.screen.query("FormView")
        with_editor("path.write_text(text.replace('\"y\"', '\"z\"'))")
        await pilot.press("f4", "W")
        await settled(pilot)

    edit_story(workspace, story, record="r")
    assert record_in(workspace, "r")["output"] == "z"


# -- what stands beside it --------------------------------------------------------------------------------------------


def test_previews_neighbours_and_differences(
    make_own: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    twin = [{"role": "user", "content": "Where is my parcel? It was due on Monday, and it is late"}, TURNS[1]]
    workspace = make_own([LINE, {**LINE, "id": "m2", "messages": twin}])

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("end")
        await type_in(pilot, " It was due on Monday, and it is late now.")
        await pilot.pause(0.3)
        await settled(pilot)
        text = screen_text(pilot.app)
        assert "<|user|> Where is my parcel?" in text
        assert re.search(r"0\.\d\d m2  ! repeats it", text)
        assert "! a duplicate by dedupe (from 0.7)" in text
        assert "* required   ok   ! repeats m2" in text
        assert "/messages/0/content" in text
        await pilot.press("f2")
        assert '"level": "easy"' in screen_text(pilot.app)
        await pilot.press("f2")
        assert "an estimate, 4 bytes a token" in screen_text(pilot.app)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")


def test_an_answer_with_a_schema_is_a_form_too(
    make_own: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    turns = [TURNS[0], {"role": "assistant", "content": '{"answer": "Soon.", "sources": [2]}'}]
    workspace = make_own([{**LINE, "messages": turns}], '[categories.shipping]\nschema = "schema.json"')
    contract = {
        "type": "object",
        "required": ["answer"],
        "properties": {
            "answer": {"type": "string", "minLength": 2},
            "sources": {"type": "array", "items": {"type": "integer"}},
        },
    }
    (workspace.root / "answer.json").write_text(json.dumps(contract), encoding="utf-8")
    settings = (
        (workspace.root / "curate.toml")
        .read_text()
        .replace('[categories.shipping]\nschema = "schema.json"', '[categories.shipping]\nschema = "answer.json"')
    )
    (workspace.root / "curate.toml").write_text(settings)

    async def story(pilot: Pilot[Any]) -> None:
        answer = pilot.app.screen.query_one("#answer Sheet")
        await answer.focus_pointer("/answer")
        await pilot.press("home")
        await type_in(pilot, "Very ")
        await pilot.pause(0.3)
        await settled(pilot)
        area = next(one for one in pilot.app.screen.query(AreaField) if one.pointer == "/messages/1/content")
        assert area.text == '{"answer": "Very Soon.", "sources": [2]}'
        await answer.focus_pointer("/sources/0")
        await pilot.press("end", "x", "ctrl+s")
        await settled(pilot)
        assert "The answer is not saved" in screen_text(pilot.app)
        await pilot.press("backspace", "3", "ctrl+s")
        await settled(pilot)

    edit_story(open_workspace(workspace.root), story, size=(100, 60), record="m1")
    content = record_in(workspace, "m1")["messages"][1]["content"]
    assert content == '{"answer": "Very Soon.", "sources": [23]}'


# -- the screen -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
def test_what_it_looks_like(
    make_own: Any,
    edit_story: Any,
    settled: Settled,
    snapshot: Any,
    screen_text: Any,
    monkeypatch: Any,
    size: tuple[int, int],
) -> None:
    monkeypatch.setattr("curate.tui.screens.edit.KEEP", 0.05)
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("home", "minus")
        for _ in range(50):
            await pilot.pause(0.1)
            if "draft kept" in screen_text(pilot.app):
                break
        await settled(pilot)
        snapshot(pilot.app, "edit")
        await pilot.press("f2")
        await settled(pilot)
        snapshot(pilot.app, "edit-beside")

    edit_story(workspace, story, size=size, record="m1", pointer="/score")


@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
def test_what_it_looks_like_before_a_record_is_open(
    make_own: Any, edit_story: Any, snapshot: Any, size: tuple[int, int]
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        snapshot(pilot.app, "edit-nothing")

    edit_story(make_own(), story, size=size)


def test_an_unknown_record_is_told(make_own: Any, edit_story: Any, screen_text: Any) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        assert "E916 unknown-record" in screen_text(pilot.app)
        await pilot.press("ctrl+s", "p", "c", "D", "o", "f4", "f2")
        assert pilot.app.screen.equal_command().startswith("curate edit --new ")

    edit_story(make_own(), story, record="nobody")


def test_the_equal_command_names_the_record(make_own: Any, edit_story: Any) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        assert pilot.app.screen.equal_command() == f"curate edit m1 {workspace.root}"
        assert json.loads(pilot.app.screen.record_json()) == LINE

    edit_story(workspace, story, record="m1")


def test_no_control_character_of_a_record_reaches_the_terminal(make_workspace: Any, pty_session: Any) -> None:
    payload = "\x1b]52;c;aGk=\x07 \x1b[2J \x9b31m \u202eevil \x1bP+q\x1b\\"
    workspace = make_workspace(
        lines=[
            {"id": "evil", "instruction": payload, "output": payload, "category": payload, "meta": {payload: payload}}
        ]
    )
    program = f"import sys\nsys.argv = ['curate', {str(workspace.root)!r}]\nfrom curate.cli import main\nmain()"
    session = pty_session([sys.executable, "-P", "-c", program], (100, 40))
    session.wait_for(b"1 record")
    session.quiet()
    session.send(b":")
    session.quiet()
    session.send(b"evil")
    session.wait_for(b"Edit record evil")
    for keys in (b"\r", b"\t", b"\t", b"\x1b[200~a\x1b[2Jb\x1b[201~", b"\x1bOQ"):
        session.send(keys)
        session.quiet()
    session.send(b"\x11")
    session.quiet()
    session.end()
    stream = session.output.decode()
    assert "<U+001B>" in stream
    for part in ("\x1b]52;c;aGk=", "\x1b[2J", "\x9b", "\u202e", "\x1bP"):
        assert part not in stream
