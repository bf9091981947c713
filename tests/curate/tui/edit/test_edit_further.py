"""Edit beside other things: an editor of one's own, previews, neighbours, and records that mean harm."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from curate.project.data import load_data
from curate.tui.app import CurateApp
from curate.tui.screens.edit.inputs import AreaField
from tests.curate.tui.edited import LINE, TURNS, Settled, record_in, type_in

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


@pytest.mark.ci
def test_a_record_goes_to_an_editor_and_comes_back(
    make_own: Any, edit_story: Any, settled: Settled, with_editor: Any, screen_text: Any
) -> None:
    line = {**LINE, "odd": [1]}  # TOML has no null.
    workspace = make_own([line])

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "Now ")
        with_editor("assert path.suffix == '.toml'\npath.write_text(text.replace('\"easy\"', '\"hard\" oops'))")
        await pilot.press("f4")
        await settled(pilot)
        assert "line 4, column" in screen_text(pilot.app)
        assert record_in(workspace, "m1") == line
        with_editor("path.write_text(text.replace(' oops', '').replace('Now ', 'And now '))")
        await pilot.press("f4")
        await settled(pilot)
        assert "(x) hard" in screen_text(pilot.app)
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    found = record_in(workspace, "m1")
    assert (found["level"], found["messages"][0]["content"]) == ("hard", "And now Where is my parcel?")


@pytest.mark.ci
def test_bytes_of_another_encoding_end_no_screen_and_lose_nothing(
    make_own: Any, edit_story: Any, settled: Settled, with_editor: Any, screen_text: Any
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        with_editor("path.write_bytes(text.encode().replace(b'Where', b'W\\xfcre'))")
        await pilot.press("f4")
        await settled(pilot)
        assert "byte 0xFC is not UTF-8" in screen_text(pilot.app)
        assert "W<0xFC>re" in screen_text(pilot.app)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    assert record_in(workspace, "m1") == LINE


@pytest.mark.ci
@pytest.mark.parametrize("size", [(60, 15), (80, 24)])
def test_saving_and_the_next_field_are_named_at_every_width(
    make_own: Any, edit_story: Any, screen_text: Any, size: tuple[int, int]
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        last = screen_text(pilot.app).splitlines()[-1]
        assert "tab next field" in last
        assert "ctrl+s save" in last
        title = next(line for line in screen_text(pilot.app).splitlines() if " FORM " in line)
        assert "m1" in title
        assert title.count("schema") in (0, 2), "the schema is named or left out"

    edit_story(make_own(), story, size=size, record="m1", pointer="/messages/0/content")


@pytest.mark.ci
def test_a_draft_of_a_new_record_is_discarded_in_words_that_hold(
    make_own: Any, edit_story: Any, settled: Settled
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "Ask")
        await pilot.press("escape", "D", "y")
        await settled(pilot)
        assert pilot.app.message.plain == "draft discarded: the form is as it was"

    edit_story(make_own(), story, new=True)


@pytest.mark.ci
def test_an_editor_gets_json_on_request(make_own: Any, edit_story: Any, settled: Settled, with_editor: Any) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        with_editor("assert json.loads(text)['id'] == 'm1'\npath.write_text(text.replace('easy', 'hard'))")
        await pilot.press("E", "W")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/level")
    assert record_in(workspace, "m1") == {**LINE, "level": "hard"}


@pytest.mark.ci
def test_an_editor_that_changes_nothing_or_is_not_there(
    make_own: Any, edit_story: Any, settled: Settled, with_editor: Any, screen_text: Any, monkeypatch: Any
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        with_editor("")
        await pilot.press("f4")
        await settled(pilot)
        assert "the editor changed nothing" in screen_text(pilot.app)
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


@pytest.mark.ci
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


@pytest.mark.ci
def test_previews_neighbours_and_differences(
    make_own: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    # With a short answer a question must be the same word for word; this one is long enough to be evidence.
    words = " ".join(f"word{number}" for number in range(30))
    answer = {**TURNS[1], "content": f"{TURNS[1]['content']} {words}"}
    twin = [{"role": "user", "content": "Where is my parcel? It was due on Monday, and it is late"}, answer]
    line = {**LINE, "messages": [TURNS[0], answer]}
    workspace = make_own([line, {**LINE, "id": "m2", "messages": twin}])

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
        about = " ".join(line.rpartition("▏")[2].strip() for line in screen_text(pilot.app).splitlines())
        assert "an estimate, 4 bytes a token; T in Browse counts what the newest dataset has" in about
        assert "no tokenizer" not in about

    edit_story(workspace, story, size=(140, 45), record="m1", pointer="/messages/0/content")


@pytest.mark.ci
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
        answer = pilot.app.screen.query_one("#answer FormSheet")
        await answer.focus_pointer("/answer")
        await pilot.press("home")
        await type_in(pilot, "Very ")
        await pilot.pause(0.3)
        await settled(pilot)
        area = next(one for one in pilot.app.screen.query(AreaField) if one.pointer == "/messages/1/content")
        assert area.text == '{"answer": "Very Soon.", "sources": [2]}'
        await answer.focus_pointer("/sources")  # A list of numbers is JSON.
        await pilot.press("end", "x", "ctrl+s")
        await settled(pilot)
        assert "The answer is not saved" in screen_text(pilot.app)
        await pilot.press("backspace", "left", "3", "ctrl+s")
        await settled(pilot)

    edit_story(load_data(workspace.root), story, size=(100, 60), record="m1")
    content = record_in(workspace, "m1")["messages"][1]["content"]
    assert content == '{"answer": "Very Soon.", "sources": [23]}'


# -- the screen -------------------------------------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
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


@pytest.mark.ci
def test_an_unknown_record_is_told(make_own: Any, edit_story: Any, screen_text: Any) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        assert "E916 unknown-record" in screen_text(pilot.app)
        await pilot.press("ctrl+s", "p", "c", "D", "o", "f4", "f2")
        assert pilot.app.screen.equal_command().startswith("curate edit --new ")

    edit_story(make_own(), story, record="nobody")


@pytest.mark.ci
def test_the_equal_command_names_the_record(make_own: Any, edit_story: Any) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        assert pilot.app.screen.equal_command() == f"curate edit m1 {workspace.root}"
        assert json.loads(pilot.app.screen.record_json()) == LINE

    edit_story(workspace, story, record="m1")


@pytest.mark.ci
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
    session.wait_for(b"<U+001B>")
    session.send(b"\x11")
    session.wait_for(b"is not saved")
    session.send(b"y")
    session.quiet()
    session.end()
    stream = session.output.decode()
    assert "<U+001B>" in stream
    for part in ("\x1b]52;c;aGk=", "\x1b[2J", "\x9b", "\u202e", "\x1bP"):
        assert part not in stream
