"""Ways in: columns that are missing are asked for before anything is tried, and choices are in sight however low."""

from __future__ import annotations

import json

import pytest

from curate.cli.open import _opened
from curate.project.project import open_project
from curate.tui.app import CurateApp
from curate.tui.columns import ColumnsDialog
from curate.tui.screens.home import HomeScreen


@pytest.mark.ci
def test_without_a_completion_the_columns_stay_and_say_which_key_to_press(
    tmp_path, drive, settled, screen_text
) -> None:
    (tmp_path / "ask.csv").write_text("question,place\nHow long?,Bern\nWho?,Genf\n", encoding="utf-8")
    app = CurateApp(tmp_path, opener=lambda: _opened(tmp_path, "ana"), by="ana", poll=None)

    async def story(pilot):
        await pilot.press("1")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert isinstance(app.screen, ColumnsDialog)
        seen = " ".join(screen_text(app).split())
        assert "! error y takes nothing yet. No column is the completion." in seen
        assert "Press enter on a column, and choose output." in seen
        assert not (tmp_path / "ask").exists()
        await pilot.press("down", "enter")
        await settled(pilot)
        await pilot.press(*"output", "enter")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert "2 records" in screen_text(app)

    drive(app, story, size=(80, 24))
    lines = (tmp_path / "ask/data/ask.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["output"] for line in lines] == ["Bern", "Genf"]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.weird", b"some words", ".weird cannot be imported These can: .jsonl,"),
        ("notes", b"", "files without a suffix cannot be imported"),
        ("arr.json", b"[1, 2]", "an element of the array is not an object Each row is an object such as"),
        ("empty.csv", b"", "it holds no row Name a file with records in it."),
    ],
)
def test_what_is_no_file_of_records_is_told_with_the_key_that_goes_on(
    tmp_path, drive, settled, screen_text, name, content, what
) -> None:
    (tmp_path / name).write_bytes(content)
    app = CurateApp(tmp_path, opener=lambda: _opened(tmp_path / name, "ana"), by="ana", poll=None)
    app.to_begin = tmp_path / name

    async def story(pilot):
        await settled(pilot)
        seen = " ".join(screen_text(app).split())
        assert f"{name} is not taken in. ! error" in seen
        assert what in seen
        assert "esc go on without it" in seen
        assert "take it" not in seen
        assert "how sure" not in seen
        await pilot.press("y")
        assert "y takes nothing yet." in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)
        assert "HOW TO BEGIN" in screen_text(app)

    drive(app, story, size=(80, 24))


@pytest.mark.ci
def test_rows_of_the_shape_of_the_workspace_need_no_columns_named(
    make_workspace, tmp_path, drive, settled, screen_text
) -> None:
    schema = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "ask": {"type": "string"}, "say": {"type": "string"}},
        "required": ["ask", "say"],
        "x-record": {"prompt": "/ask", "completion": "/say"},
    }
    root = make_workspace([{"id": "a", "ask": "Why?", "say": "So."}], "[split]\nseed = 1\n").root
    (root / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    settings = (root / "curate.toml").read_text(encoding="utf-8")
    (root / "curate.toml").write_text('schema = "schema.json"\n' + settings, encoding="utf-8")
    file = tmp_path / "more.jsonl"
    file.write_text('{"id": "b", "ask": "Who?", "say": "I."}\n', encoding="utf-8")
    app = CurateApp(root, project=open_project(root, "ana"), poll=None)

    async def story(pilot):
        await pilot.press("i")
        await settled(pilot)
        app.screen.enter(str(file))
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, ColumnsDialog)
        await pilot.press("y")
        await settled(pilot)
        assert "imported more.jsonl: 1 record" in app.message.plain

    drive(app, story)


@pytest.mark.parametrize("num_files", [0, 6])
def test_the_choices_are_in_sight_on_the_lowest_terminal(tmp_path, drive, settled, screen_text, num_files) -> None:
    for number in range(num_files):
        (tmp_path / f"part-{number}.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "note.docx").write_bytes(b"PK")
    app = CurateApp(tmp_path, opener=lambda: _opened(tmp_path, "ana"), by="ana", poll=None)

    async def story(pilot):
        assert isinstance(app.screen, HomeScreen)
        assert "This folder is no workspace yet" in screen_text(app)
        first = "make a workspace from part-0.jsonl" if num_files else "pick a file to import"
        assert first in screen_text(app)
        for _ in range(num_files + 3):
            await pilot.press("j")
        await settled(pilot)
        assert "write the first record, in a new workspace" in screen_text(app)
        await pilot.press("tab", "G")
        await settled(pilot)
        assert "and `dataset/vN`." in screen_text(app), "what is said of the folder is read to its end"

    drive(app, story, size=(60, 15))
