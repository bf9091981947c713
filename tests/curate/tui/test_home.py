"""Home: what there is and what to do next, and how to begin where there is nothing yet."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner
from textual.widgets import Static

from curate.base.events import Assign, Drop, Label
from curate.cli import cli
from curate.project.data import load_data
from curate.project.drafts import Draft, Drafts
from curate.project.init import make_workspace as make_new
from curate.tui.app import CurateApp
from curate.tui.border import PRETTY, use_glyphs
from curate.tui.frame_table import FrameTable
from curate.tui.screens import home
from curate.tui.screens.home.rendering import percent
from tests.curate.tui.waiting import until

NEW = "[split]\nseed = 1\n"


def raising(error: OSError) -> NoReturn:
    raise error


@pytest.fixture(autouse=True)
def _same_machine(monkeypatch):
    """Let the machine be the same for all who look at a snapshot."""
    monkeypatch.setattr("curate.sessions.overview.disk_free", lambda _root: 41_000_000_000)
    monkeypatch.setattr("curate.sessions.overview._num_changed", lambda _project: 3)
    yield
    use_glyphs(PRETTY)


@pytest.fixture
def went(monkeypatch):
    """Return a list of where the app was told to go, instead of going there."""
    places = []
    monkeypatch.setattr(CurateApp, "go", lambda self, name, **what: places.append((name, what)))
    return places


def steps_of(pilot) -> list[str]:
    table = pilot.app.screen.query_one("#steps", FrameTable)
    words: dict[str, str] = {}
    for row in table.source[:]:
        # A step that is wider than the table goes on in the next row.
        words[row[-1]] = f"{words[row[-1]]} {row[-2].strip()}" if row[-1] in words else row[-2]
    return list(words.values())


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
def test_home_of_the_samples(tmp_path, make_app, drive, snapshot, size) -> None:
    made = make_new(tmp_path / "tour", is_sample=True)

    async def story(pilot):
        snapshot(pilot.app, "home")

    drive(make_app(load_data(made.root)), story, size=size)


@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
def test_home_of_a_messy_set(tmp_path, root, make_app, drive, snapshot, size) -> None:
    made = make_new(tmp_path / "messy", files=[root / "samples" / "messy.jsonl"])

    async def story(pilot):
        snapshot(pilot.app, "home-messy")

    drive(make_app(load_data(made.root), is_ascii=True), story, size=size)


def test_what_is_not_counted_is_said_to_be_so(
    make_workspace, make_app, drive, monkeypatch, screen_text, settled
) -> None:
    monkeypatch.setattr(home, "FEW", 10)

    async def story(pilot):
        await until(pilot, lambda: steps_of(pilot)[1:3] == ["not validated yet", "duplicates not counted yet"])
        seen = screen_text(pilot.app)
        assert "not validated yet" in seen
        assert "100%" not in seen.split("CATEGORY")[0], "no share of records that nobody has validated"
        await pilot.press("r")
        await settled(pilot)
        assert [step for step in steps_of(pilot) if " yet" in step] == ["no run yet"]

    drive(make_app(make_workspace()), story)


def test_a_folder_that_may_not_be_written_says_so(make_workspace, make_app, drive, screen_text, monkeypatch) -> None:
    app, access = make_app(make_workspace()), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != app.root and access(path, mode))

    async def story(pilot):
        await until(pilot, lambda: "nothing can be saved" in " ".join(screen_text(pilot.app).split()))

    drive(app, story, (140, 45))


def test_what_is_counted_is_counted_again_of_records_read_anew(make_workspace, make_app, drive, settled) -> None:
    lines = [{"id": f"r{n}", "instruction": "Where is my parcel?", "output": "On its way."} for n in range(2)]
    workspace = make_workspace(lines)

    async def story(pilot):
        await settled(pilot)
        assert [step for step in steps_of(pilot) if "1 cluster of duplicates" in step]
        lines[1] |= {"instruction": "May I pay later?", "output": "You may, within a month."}
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (workspace.root / "data" / "a.jsonl").write_text(text, encoding="utf-8")
        pilot.app.project.reload()
        pilot.app.present().ready()
        await settled(pilot)
        assert "no duplicates" in steps_of(pilot)

    drive(make_app(workspace), story)


def test_steps_are_what_is_wrong(make_workspace, make_app, drive, settled, went, screen_text) -> None:
    lines = [
        {"id": f"r{number}", "instruction": f"Question {number} about thing{number * 7}?", "output": f"a{number}",
         "category": "billing" if number % 2 else ""}
        for number in range(20)
    ]  # fmt: skip
    lines[3]["output"] = ""
    lines[5] = {**lines[4], "id": "r5"}

    async def story(pilot):
        data, check, dedupe, label, split, train, compare = steps_of(pilot)
        assert data == "20 records"
        assert check.startswith("1 error to fix")
        assert dedupe == "1 cluster of duplicates"
        assert label.endswith("records unlabelled")
        assert split == "20 records in no split"
        assert (train, compare) == ("no run yet", "after the first run")
        assert "NEXT: press 2 (Check)" in screen_text(pilot.app)
        assert re.search(r"^>  2  Check", screen_text(pilot.app), re.M), "that is where the cursor stands"
        await pilot.press("2")
        assert went == [("validate", {})]
        table = pilot.app.screen.query_one("#steps", FrameTable)
        table.cursor = next(index for index, row in enumerate(table.source[:]) if row[-1] == "5")
        await pilot.press("enter")
        assert went[1:] == [("split", {})]
        pilot.app.screen.query_one("#categories", FrameTable).focus()
        await pilot.press("enter", "/")
        assert went[2:] == [("browse", {"category": ""}), ("browse", {"is_filtering": True})]

    drive(make_app(make_workspace(lines)), story)


def test_home_keeps_up_with_decisions(make_workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        pilot.app.project.apply([Drop("r003", reason="[/b]\x1b")])
        await settled(pilot)
        seen = screen_text(pilot.app)
        assert "x dropped          1" in seen
        assert "ana           drop    r003" in seen or "ana  drop    r003" in seen
        assert "[/b]␛" in seen

    drive(make_app(make_workspace()), story, size=(120, 30))


def test_disagreement_is_a_step(make_workspace, make_app, drive, settled) -> None:
    from curate.project.project import open_project

    workspace = make_workspace()
    for by, value in (("ana", "good"), ("bo", "bad")):
        with open_project(workspace.root, by) as project:
            project.load()
            project.apply([Label("r001", "quality", value)])

    async def story(pilot):
        assert "1 record with different labels" in steps_of(pilot)

    drive(make_app(workspace), story)


def test_an_empty_workspace_asks_for_a_first_record(make_workspace, make_app, drive, screen_text) -> None:
    async def story(pilot):
        assert "No records yet" in screen_text(pilot.app)
        assert "write the first record" in screen_text(pilot.app)

    drive(make_app(make_workspace([])), story)


def opening(root: Path):
    """Return what opens ``root`` as `curate` itself does."""
    from curate.cli.open import _opened

    return lambda: _opened(root, "ana")


@pytest.mark.ci
def test_a_folder_offers_its_files_and_makes_a_workspace_of_one(tmp_path, drive, settled, screen_text) -> None:
    lines = [{"instruction": f"q{n}", "output": f"a{n}", "category": "c"} for n in range(5)]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "{broken\n"
    (tmp_path / "answers [b].jsonl").write_text(text, encoding="utf-8")

    async def story(pilot):
        assert "This folder is no workspace yet" in screen_text(pilot.app)
        assert steps_of(pilot)[0].startswith("make a workspace from answers [b].jsonl")
        await pilot.press("1")
        await pilot.pause()
        assert "Make a workspace in" in screen_text(pilot.app)
        await pilot.press("n")
        await settled(pilot)
        assert not (tmp_path / "answers [b]").exists(), "nothing is written before somebody says yes"
        await pilot.press("1")
        await pilot.pause()
        await pilot.press("y")
        await settled(pilot)
        seen = screen_text(pilot.app)
        assert "5 records; 1 row left out" in seen
        assert "CATEGORY" in seen
        assert pilot.app.project.by == "ana"

    drive(CurateApp(tmp_path, opener=opening(tmp_path), by="ana", poll=None), story, size=(160, 30))
    assert len(load_data(tmp_path / "answers [b]").records()) == 5


@pytest.mark.ci
def test_an_empty_folder_gets_the_tour(tmp_path, drive, settled) -> None:
    async def story(pilot):
        assert any("tour" in text for text in steps_of(pilot))
        await pilot.press("t")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert pilot.app.root == tmp_path / "tour"

    drive(CurateApp(tmp_path, opener=opening(tmp_path), by="ana", poll=None), story)
    assert len(load_data(tmp_path / "tour").records()) >= 1140


@pytest.mark.ci
def test_a_workspace_below_is_offered_and_a_path_may_be_typed(
    tmp_path, make_workspace, drive, settled, screen_text, monkeypatch
) -> None:
    workspace = make_workspace()
    monkeypatch.chdir(tmp_path)

    async def story(pilot):
        assert steps_of(pilot)[0] == "open the workspace ws"
        await pilot.press("i")
        await pilot.pause()
        await pilot.press(*"nowhere", "enter")
        await settled(pilot)
        assert "no workspace and no file at nowhere" in screen_text(pilot.app)
        await pilot.press("2")
        await pilot.pause()
        assert "Which file?" in screen_text(pilot.app)
        await pilot.press("w", "s", "enter")
        await settled(pilot)
        assert "60" in screen_text(pilot.app)
        assert pilot.app.root == workspace.root

    drive(CurateApp(tmp_path, opener=opening(tmp_path), poll=None), story)


def test_a_broken_setting_is_shown_and_mended_from_the_screen(
    make_workspace, drive, settled, screen_text, monkeypatch, tmp_path
) -> None:
    root = make_workspace().root
    good = (root / "curate.toml").read_text(encoding="utf-8")
    (root / "curate.toml").write_text(good + "\nnonsense = [/b]\n", encoding="utf-8")
    app = CurateApp(root, opener=opening(root), poll=None)

    async def story(pilot):
        seen = screen_text(app)
        assert "This workspace cannot be opened" in seen
        assert "E902" in seen
        assert re.search(r"^ +e +edit curate.toml", seen, re.M)
        assert re.search(r"at line \d+, column 13", " ".join(seen.split()))
        keys = seen.splitlines()[-1]
        assert "e edit curate.toml" in keys
        assert "r try again" in keys
        assert "undo" not in keys
        await pilot.press("g", "b")
        assert app.current_mode == "home"
        assert app.message.plain == "~ warn the workspace cannot be opened; r tries again"
        await pilot.press("r")
        await settled(pilot)
        assert "cannot be opened" in screen_text(app), "nothing was mended"
        monkeypatch.setattr(app, "suspend", nullcontext)
        monkeypatch.setenv("VISUAL", str(tmp_path / "editor"))
        (tmp_path / "editor").write_text(f'#!/bin/sh\nprintf "%s" "{NEW}" > "$1"\n', encoding="utf-8")
        (tmp_path / "editor").chmod(0o755)
        await pilot.press("e")
        await settled(pilot)
        assert "60 records" in screen_text(app)
        assert app.has_project

    drive(app, story, size=(80, 24))
    assert (root / "curate.toml").read_text(encoding="utf-8") == NEW
    assert not app.crash


def test_what_a_folder_holds_is_said_and_what_cannot_be_read_too(tmp_path, drive, settled, screen_text) -> None:
    for name in ("plan.docx", "scan.pdf", "photo [b].png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "notes.md").write_text("# Parcels\nThey come on Monday.\n", encoding="utf-8")

    async def story(pilot):
        seen = " ".join(screen_text(pilot.app).split())
        assert "Cannot be imported: photo [b].png, plan.docx, scan.pdf. These can: .jsonl" in seen
        assert steps_of(pilot)[0].startswith("make a workspace from notes.md")
        await pilot.press("i")
        await pilot.pause()
        await pilot.press(*"plan", "enter")
        await settled(pilot)
        assert "plan.docx" in screen_text(pilot.app)
        await pilot.press("y", "escape")
        await settled(pilot)
        assert not pilot.app.has_project

    drive(CurateApp(tmp_path, opener=opening(tmp_path), poll=None), story, size=(80, 24))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.md", "photo [b].png", "plan.docx", "scan.pdf"]


@pytest.mark.ci
@pytest.mark.parametrize("is_listed", [True, False])
def test_a_folder_without_rights_sends_a_workspace_elsewhere(
    tmp_path, drive, settled, screen_text, monkeypatch, is_listed
) -> None:
    here, elsewhere = tmp_path / "locked", tmp_path / "me"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.setattr("curate.tui.ways_in.os.access", lambda path, _mode: path != here)
    monkeypatch.setattr(Path, "home", lambda: elsewhere)
    if not is_listed:
        refused = PermissionError(13, "Permission denied", str(here))
        listing = Path.iterdir
        monkeypatch.setattr(Path, "iterdir", lambda path: raising(refused) if path == here else listing(path))

    async def story(pilot):
        assert "Nothing can be written in this folder" in screen_text(pilot.app)
        assert ("cannot be read: Permission denied" in screen_text(pilot.app)) is not is_listed
        await pilot.press("n")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert pilot.app.current_mode == "edit"
        assert pilot.app.root == elsewhere / "my-data"

    drive(CurateApp(here, opener=opening(here), by="ana", poll=None), story)


def test_a_refusal_of_the_system_ends_nothing(tmp_path, drive, settled, screen_text, monkeypatch) -> None:
    refused = OSError(30, "Read-only file system", str(tmp_path))
    monkeypatch.setattr("curate.project.init.make_workspace", lambda *_, **__: raising(refused))

    async def story(pilot):
        await pilot.press("n")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert "E946 system-refused" in screen_text(pilot.app)
        assert "Read-only file system" in screen_text(pilot.app)

    app = CurateApp(tmp_path, opener=opening(tmp_path), by="ana", poll=None)
    drive(app, story, size=(140, 30))
    assert not app.crash


@pytest.mark.ci
def test_a_file_comes_into_an_empty_workspace_by_keys_of_the_screen(
    tmp_path, drive, settled, screen_text, monkeypatch
) -> None:
    made = make_new(tmp_path / "ws").root
    monkeypatch.chdir(made)
    (tmp_path / "ws" / "faq.csv").write_text("question,answer\nHow long?,Three days\nWho?,\n", encoding="utf-8")

    async def story(pilot):
        assert re.search(r"^ +i +import a file", screen_text(pilot.app), re.M)
        await pilot.press("i")
        await pilot.pause()
        await pilot.press(*"faq", "enter")
        await settled(pilot)
        assert "Import faq.csv into" in screen_text(pilot.app)
        await pilot.press("y")
        await settled(pilot)
        assert "imported faq.csv: 2 records." in " ".join(screen_text(pilot.app).split())
        assert steps_of(pilot)[0] == "2 records"
        await pilot.press("@")
        await pilot.pause()
        assert "curate import" in screen_text(pilot.app)

    drive(CurateApp(made, opener=opening(made), by="ana", poll=None), story, size=(80, 24))
    assert len(load_data(made).records()) == 2


@pytest.mark.ci
def test_what_is_not_done_is_listed_and_leads_to_its_queue(
    tmp_path, root, make_app, drive, settled, screen_text
) -> None:
    made = make_new(tmp_path / "messy", files=[root / "samples" / "messy.jsonl"])
    Drafts(made.root, "ana").write(Draft("sd-0003", {}, {"id": "sd-0003"}))

    async def story(pilot):
        seen = screen_text(pilot.app)
        assert "NOT DONE" in seen
        assert "1 unsaved draft" in seen
        assert "10 rows set aside: see, repair, drop" in " ".join(seen.split())
        for key, shown in (("8", "sd-0003"), ("9", "messy.jsonl")):
            await pilot.press("g", "h")
            await settled(pilot)
            await pilot.press(key)
            await settled(pilot)
            assert pilot.app.current_mode == "queue"
            assert shown in screen_text(pilot.app)

    drive(make_app(load_data(made.root)), story, size=(140, 45))


@pytest.mark.ci
def test_a_source_that_has_changed_since_its_import_is_not_done(tmp_path, make_app, drive) -> None:
    source = tmp_path / "faq.jsonl"
    source.write_text('{"instruction": "How long?", "output": "Three days"}\n', encoding="utf-8")
    made = make_new(tmp_path / "ws")
    CliRunner().invoke(cli, ["import", str(source), "--into", str(made.root)])
    seen = []

    async def story(pilot):
        seen.append([text for text in steps_of(pilot) if "changed since" in text])

    drive(make_app(load_data(made.root)), story)
    stamp = time.time() + 60
    os.utime(source, (stamp, stamp))
    drive(make_app(load_data(made.root)), story)
    assert seen == [[], ["faq.jsonl has changed since it was imported: curate import faq.jsonl --update"]]


def test_what_one_key_decided_is_one_line(make_workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        pilot.app.project.apply([Assign(f"r{number:03}", "train") for number in range(50)])
        pilot.app.project.apply([Drop("r055", reason="off topic")])
        await settled(pilot)
        seen = screen_text(pilot.app)
        assert re.search(r"ana  assigned 50 records$", seen, re.M)
        assert re.search(r"ana +drop +r055 +off topic \(u\)$", seen, re.M), "that is what u takes back"

    drive(make_app(make_workspace()), story, size=(120, 30))


def test_a_repeat_that_a_split_leaves_out_waits_for_nothing(make_workspace, make_app, drive, settled) -> None:
    lines = [{"id": f"r{n}", "instruction": f"Where is parcel {n // 2}?", "output": f"At {n // 2}."} for n in range(8)]

    async def story(pilot):
        assert steps_of(pilot)[4] == "8 records in no split"
        pilot.app.project.apply([Assign(f"r{number}", "train") for number in range(0, 8, 2)])
        await settled(pilot)
        assert steps_of(pilot)[4] == "4 train, 0 validation, 0 test"

    drive(make_app(make_workspace(lines)), story)


def test_a_share_is_never_more_than_is_known() -> None:
    assert percent(None, 10) == "-"
    assert percent(0, 10) == "0%"
    assert percent(1, 10_000) == "<1%"
    assert percent(9_999, 10_000) == "99%"
    assert percent(10, 10) == "100%"
    assert percent(0, 0) == "-"


def test_a_category_that_looks_like_markup_is_shown_as_it_is(make_workspace, make_app, drive, screen_text) -> None:
    lines = [{"id": "a", "instruction": "q", "output": "a", "category": "[/b]\x1b[2J"}]

    async def story(pilot):
        assert "[/b]␛[2J" in screen_text(pilot.app)
        assert pilot.app.screen.query_one("#dataset", Static)

    drive(make_app(make_workspace(lines)), story)


@pytest.mark.ci
def test_where_a_column_goes_is_changed_before_anything_is_written(tmp_path, drive, settled, screen_text) -> None:
    (tmp_path / "faq.csv").write_text(
        "question,answer,better_answer\nHow long?,3,Three days\nWho?,me,Write to bo@corp-mail.net\n", encoding="utf-8"
    )

    async def story(pilot):
        await pilot.press("1")
        await settled(pilot)
        seen = screen_text(pilot.app)
        assert "read as table, rows as mapping" in seen
        assert re.search(r"answer\s+completion\s+3\s+a guess by its name", seen)
        assert re.search(r"better_answer\s+meta\s+Three days", seen)
        await pilot.press("down", "down", "enter")
        await settled(pilot)
        assert "Where does better_answer go?" in screen_text(pilot.app)
        await pilot.press(*"output", "enter")
        await settled(pilot)
        seen = screen_text(pilot.app)
        assert re.search(r"better_answer\s+completion\s+Three days\s+as asked", seen)
        assert re.search(r"\banswer\s+meta", seen)
        assert not (tmp_path / "faq").exists()
        await pilot.press("y")
        await settled(pilot)
        assert "2 records" in screen_text(pilot.app)

    drive(CurateApp(tmp_path, opener=opening(tmp_path), by="ana", poll=None), story, size=(80, 24))
    lines = [json.loads(line) for line in (tmp_path / "faq/data/faq.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["output"] for line in lines] == ["Three days", "Write to bo@corp-mail.net"]


@pytest.mark.ci
def test_columns_that_nobody_can_guess_are_asked_for(tmp_path, drive, settled, screen_text) -> None:
    (tmp_path / "odd.csv").write_text("colour,size\nred,large\nblue,small\n", encoding="utf-8")

    async def story(pilot):
        await pilot.press("1")
        await settled(pilot)
        assert "~ warn No column is the prompt, and none is the completion." in screen_text(pilot.app)
        for keys, field in (((), "instruction"), (("down",), "output")):
            await pilot.press(*keys, "enter")
            await settled(pilot)
            await pilot.press(*field, "enter")
            await settled(pilot)
        await pilot.press("y")
        await settled(pilot)

    drive(CurateApp(tmp_path, opener=opening(tmp_path), by="ana", poll=None), story, size=(80, 24))
    lines = [json.loads(line) for line in (tmp_path / "odd/data/odd.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["instruction"], line["output"]) for line in lines] == [("red", "large"), ("blue", "small")]
