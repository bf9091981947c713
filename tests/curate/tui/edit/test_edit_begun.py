"""Where a record under edit begins: the cursor, fields that nobody has been in yet, and texts that are no JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from textual.pilot import Pilot

from curate.project.data import load_data
from curate.project.drafts import Drafts
from curate.tui.screens.edit import EditScreen
from curate.tui.screens.edit.inputs import AreaField
from tests.curate.tui.edited import Settled, edit_of, names_in, record_in, type_in

pytestmark = pytest.mark.ci

CHAT = 'schema = "chat"\n[split]\nseed = 1\n'
TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Where?"},
    {"role": "assistant", "content": "Here."},
]


def pointer_of_focus(pilot: Pilot[Any]) -> str | None:
    screen = pilot.app.screen
    assert isinstance(screen, EditScreen)
    return screen.query_one("FormView").sheet.focused_pointer()


@pytest.mark.parametrize(
    ("schema", "line", "pointer"),
    [
        ("instruction", {"system": "", "instruction": "Ask.", "output": "Tell."}, "/instruction"),
        ("chat", {"messages": TALK}, "/messages/2/content"),
        ("chat", {"messages": [*TALK, {"role": "user", "content": ""}, TALK[2]]}, "/messages/3/content"),
        ("domain", {"text": "Raw."}, "/text"),
        ("preference", {"prompt": "Ask.", "chosen": "a", "rejected": "b"}, "/prompt"),
    ],
)
def test_the_cursor_begins_where_the_work_is(
    make_workspace: Any, edit_story: Any, schema: str, line: dict[str, Any], pointer: str
) -> None:
    workspace = make_workspace([{"id": "a", **line}], settings=f'schema = "{schema}"\n[split]\nseed = 1\n')

    async def story(pilot: Pilot[Any]) -> None:
        assert pointer_of_focus(pilot) == pointer

    edit_story(workspace, story, record="a")


def test_an_empty_field_is_an_error_once_it_is_left(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        text = screen_text(pilot.app)
        assert text.count(" required\n") == 2
        assert "error" not in text
        assert "2 to fill in" in text
        await pilot.press("tab")
        await settled(pilot)
        text = screen_text(pilot.app)
        assert "! error 'instruction' is missing" in text
        assert "'output' is missing" not in text
        assert "! 1 error" in text
        await pilot.press("shift+tab", "A", "ctrl+s")
        await settled(pilot)
        text = screen_text(pilot.app)
        assert "! error 'output' is missing" in text
        assert "'instruction' is missing" not in text
        assert pointer_of_focus(pilot) == "/output"

    edit_story(make_workspace(), story, size=(80, 24), new=True)


def test_a_new_conversation_has_no_errors_yet_and_a_new_turn_has_none(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        assert "error" not in screen_text(pilot.app)
        await type_in(pilot, "Where?")
        await pilot.press("f9")
        await type_in(pilot, "Here.")
        await pilot.press("f9")
        await settled(pilot)
        assert "error" not in screen_text(pilot.app)
        await pilot.press("shift+tab")
        await settled(pilot)
        assert "! error 'content' is missing" in screen_text(pilot.app)

    edit_story(make_workspace(lines=[], settings=CHAT), story, size=(80, 30), new=True)


def test_a_conversation_that_was_taken_out_comes_back(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("x")
        await settled(pilot)
        assert "took out messages (u brings it back)" in screen_text(pilot.app)
        await pilot.press("u")
        await settled(pilot)
        assert edit_of(pilot).form.to_line() == {"id": "a", "messages": TALK}
        assert "took out" not in screen_text(pilot.app)
        await pilot.press("x", "a")
        await settled(pilot)
        assert edit_of(pilot).form.to_line()["messages"] == [{"role": "user"}]

    edit_story(make_workspace([{"id": "a", "messages": TALK}], settings=CHAT), story, record="a", pointer="/messages")


@pytest.mark.parametrize(("key", "message"), [("f5", "No turn"), ("f6", "No turn"), ("f9", "No list")])
def test_a_key_that_is_for_something_else_says_so(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any, key: str, message: str
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        assert f" {key} " not in screen_text(pilot.app)
        await pilot.press(key)
        await settled(pilot)
        assert message in screen_text(pilot.app)

    edit_story(make_workspace(), story, record="r003")


def test_nothing_is_looked_for_in_a_preview(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("f2", "ctrl+f")
        await settled(pilot)
        assert "No text of several lines has the cursor" in screen_text(pilot.app)

    edit_story(make_workspace(), story, size=(80, 24), record="r003")


def test_a_row_with_bytes_that_are_no_text_is_mended_in_the_app(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace = make_workspace()
    raw = '{"instruction": "<0x41>caf', b"\xe9", '", "output": "\u202e"}'
    row = raw[0].encode() + raw[1] + raw[2].encode()
    entry = {"file": "x.jsonl", "line": 7, "code": "S103", "reason": "not UTF-8", "encoding": "base64"}
    (workspace.root / "quarantine").mkdir()
    name = "quarantine/x.jsonl.jsonl"
    (workspace.root / name).write_text(json.dumps({**entry, "raw": base64.b64encode(row).decode()}) + "\n")

    async def story(pilot: Pilot[Any]) -> None:
        area = pilot.app.screen.query_one(AreaField)
        assert area.text == '{"instruction": "<0x41>caf⟦0xE9⟧", "output": "⟦U+202E⟧"}'
        assert area.cursor_location == (0, len('{"instruction": "<0x41>caf'))
        assert "byte 0xE9 is not UTF-8" in " ".join(screen_text(pilot.app).split())
        await pilot.press("end", "x", "ctrl+s")
        await settled(pilot)
        assert "the text cannot be read yet" in " ".join(screen_text(pilot.app).split())
        draft = Drafts(workspace.root, "ana", "lines").read(edit_of(pilot).draft_name)
        assert draft is not None
        assert draft.text.encode("utf-8", "surrogateescape") == row + b"x", "bytes stay what they are"
        await pilot.press("ctrl+z")
        area.move_cursor((0, len('{"instruction": "<0x41>caf')))
        await pilot.press(*["delete"] * len("⟦0xE9⟧"), "é", "ctrl+s")
        await settled(pilot)
        assert f"from {name}:1" in " ".join(screen_text(pilot.app).split())
        saved = record_in(workspace, edit_of(pilot).name)
        assert (saved["instruction"], saved["output"]) == ("<0x41>café", "\u202e")

    edit_story(workspace, story, file=name, line=1)
    assert len(names_in(workspace)) == 61


def test_a_text_becomes_a_form_when_only_the_schema_refuses_it(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace = make_workspace()
    path = workspace.root / "data" / "b.jsonl"
    path.write_text('{"id": "z", "instruction" "Ask."}\n', encoding="utf-8")

    async def story(pilot: Pilot[Any]) -> None:
        assert "a colon after the key was expected" in screen_text(pilot.app)
        await pilot.press(":", "ctrl+s")
        await settled(pilot)
        assert "! error 'output' is missing" in screen_text(pilot.app)
        assert pointer_of_focus(pilot) == "/output"
        await type_in(pilot, "Tell.")
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, file="data/b.jsonl", line=1)
    assert json.loads(path.read_text()) == {"id": "z", "instruction": "Ask.", "output": "Tell."}
    assert load_data(workspace.root).state("z") is not None
