"""`curate FILE`: one file is read, checked and edited where it lies, and a workspace can be made of it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from curate.cli.open import _opened
from curate.project.single_file import open_single_file
from curate.sessions.problems import problems_of
from curate.tui.app import CurateApp
from tests.curate.tui.waiting import until

LINES = [
    {"id": "r1", "instruction": "Where is my parcel?", "output": "On its way.", "category": "status"},
    {"id": "r2", "instruction": "When do you open?", "output": ""},
]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "team" / "desk.jsonl"
    path.parent.mkdir()
    path.write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    return path


def app_of(path: Path) -> CurateApp:
    """Return the app as `curate PATH` makes it."""
    app = CurateApp(path.parent, opener=partial(_opened, path, "ana"), by="ana", poll=None)
    app.to_begin = path
    return app


@pytest.mark.ci
def test_a_record_is_found_edited_and_taken_back_in_the_file(file, drive, settled, screen_text) -> None:
    app, before = app_of(file), file.read_bytes()

    async def story(pilot):
        await until(pilot, lambda: app.has_project and app.project.is_loaded)
        await settled(pilot)
        assert "desk.jsonl  one file, no workspace" in screen_text(app)
        assert "in a workspace" in screen_text(app)
        await pilot.press("g", "b", "j", "e")
        await settled(pilot)
        edit = app.present().edit
        edit.form.set("/output", "At nine.")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert json.loads(file.read_text().splitlines()[1])["output"] == "At nine."
        await pilot.press("escape", "escape", "u")
        await settled(pilot)
        assert file.read_bytes() == before
        await pilot.press("g", "l")
        await settled(pilot)
        assert app.current_mode != "label"
        assert "make a workspace of it" in app.message.plain
        await pilot.press("y")
        assert f"curate {file}" in app.message.plain

    drive(app, story)


@pytest.mark.ci
def test_what_is_wrong_is_found_and_what_another_program_writes_is_read(file, drive, settled, screen_text) -> None:
    app = app_of(file)

    async def story(pilot):
        await until(pilot, lambda: app.has_project and app.project.is_loaded)
        await pilot.press("g", "v")
        await until(pilot, lambda: problems_of(app.project).problems is not None)
        await settled(pilot)
        assert "Q201" in screen_text(app)
        with file.open("a") as stream:
            stream.write(json.dumps({"id": "r3", "instruction": "Who?", "output": "We."}) + "\n")
        await pilot.press("g", "b", "r")
        await until(pilot, lambda: len(app.project.catalog) == 3)

    drive(app, story)


@pytest.mark.ci
def test_a_file_that_is_gone_or_changed_is_told_with_what_to_press(file, drive, settled) -> None:
    app = app_of(file)

    async def story(pilot):
        await until(pilot, lambda: app.has_project and app.project.is_loaded)
        await pilot.press("g", "b", "j", "e")
        await settled(pilot)
        before = file.read_bytes()
        await pilot.press("x")
        file.rename(file.with_suffix(".away"))
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert "is gone" in app.message.plain
        assert "Nothing was written. Put the file back, then save again." in app.message.plain
        assert app.present().edit.draft_path.exists()
        file.with_suffix(".away").rename(file)
        file.write_bytes(before + b"\n")
        app.following._tell_stale()
        assert "press esc, then r" in app.message.plain
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert "Nothing was written. Press r, in a form after esc" in app.message.plain

    drive(app, story)


@pytest.mark.ci
def test_a_workspace_is_made_of_it(file, drive, settled, screen_text) -> None:
    app = app_of(file)

    async def story(pilot):
        await until(pilot, lambda: app.has_project and app.project.is_loaded)
        await settled(pilot)
        await pilot.press("8")
        await until(pilot, lambda: "read as jsonl" in screen_text(app))
        await pilot.press("y")
        await until(pilot, lambda: app.has_project and app.project.file is None and app.project.is_loaded)
        assert app.project.root == file.parent / "desk"
        assert len(app.project.catalog) == 2
        await pilot.press("g", "l")
        await settled(pilot)
        assert app.current_mode == "label"

    drive(app, story)


def test_what_needs_a_workspace_offers_to_make_one(file, drive, settled, screen_text) -> None:
    app = app_of(file)

    async def story(pilot):
        await until(pilot, lambda: app.has_project and app.project.is_loaded)
        await settled(pilot)
        await pilot.press("3")
        await until(pilot, lambda: "from desk.jsonl?" in " ".join(screen_text(app).split()))

    drive(app, story)


def test_a_file_that_somebody_else_has_open_says_so_and_is_tried_again(file, drive, settled, screen_text) -> None:
    app, other = app_of(file), open_single_file(file)

    async def story(pilot):
        await settled(pilot)
        assert f"This file cannot be opened: {file}" in "".join(screen_text(app).split("\n "))
        assert "curate.toml" not in screen_text(app)
        other.close()
        await pilot.press("r")
        await until(pilot, lambda: app.has_project and app.project.is_loaded)

    drive(app, story, size=(200, 50))


@pytest.mark.parametrize(
    ("content", "said"), [("", "No records yet in desk.jsonl\n"), ("{no\n", "no line is a record")]
)
def test_a_file_without_a_record_is_named_and_leads_on(file, drive, settled, screen_text, content, said) -> None:
    file.write_text(content)
    app = app_of(file)

    async def story(pilot):
        await until(pilot, lambda: app.has_project and app.project.is_loaded)
        await settled(pilot)
        assert said in screen_text(app)
        assert "pairsmith/files" not in screen_text(app)
        if content:
            assert "NEXT: press 1 (Data)" in screen_text(app)
            await pilot.press("1")
            await settled(pilot)
            assert app.current_mode == "validate"

    drive(app, story)


@pytest.mark.parametrize(
    ("name", "text"), [("desk.csv", "question,answer\nWho?,We.\n"), ("odd.jsonl", '{"topic": "a", "text": "one"}\n')]
)
def test_of_any_other_file_a_workspace_is_offered_at_once(tmp_path, drive, screen_text, name, text) -> None:
    path = tmp_path / name
    path.write_text(text)
    app = app_of(path)

    async def story(pilot):
        await until(pilot, lambda: f"from {name}?" in " ".join(screen_text(app).split()))
        await pilot.press("escape")
        await until(pilot, lambda: "This folder is no workspace" in screen_text(app))

    drive(app, story)
    assert path.read_text() == text
