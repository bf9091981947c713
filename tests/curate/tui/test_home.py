"""Home: what there is and what to do next, and how to begin where there is nothing yet."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from textual.widgets import Static

from curate.base.events import Drop, Label
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.project.init import make_workspace as make_new
from curate.tui.app import CurateApp
from curate.tui.border import PRETTY, use_glyphs
from curate.tui.frame_table import FrameTable
from curate.tui.screens import home
from curate.tui.screens.home.rendering import percent


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
        words[row[4]] = f"{words[row[4]]} {row[2].strip()}" if row[4] in words else row[2]
    return list(words.values())


@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
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
        assert steps_of(pilot)[:2] == ["not validated yet", "duplicates not counted yet"]
        seen = screen_text(pilot.app)
        assert "not validated yet" in seen
        assert "100%" not in seen.split("CATEGORY")[0], "no share of records that nobody has validated"
        await pilot.press("r")
        await settled(pilot)
        assert not [step for step in steps_of(pilot) if " yet" in step]

    drive(make_app(make_workspace()), story)


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
        assert not [step for step in steps_of(pilot) if "duplicates" in step]

    drive(make_app(workspace), story)


def test_steps_are_what_is_wrong(make_workspace, make_app, drive, settled, went) -> None:
    lines = [
        {"id": f"r{number}", "instruction": f"Question {number} about thing{number * 7}?", "output": f"a{number}",
         "category": "billing" if number % 2 else ""}
        for number in range(20)
    ]  # fmt: skip
    lines[3]["output"] = ""
    lines[5] = {**lines[4], "id": "r5"}

    async def story(pilot):
        told = steps_of(pilot)
        assert "1 error to fix" in told
        assert "1 cluster of duplicates" in told
        assert any(step.endswith("records unlabelled") for step in told)
        assert "20 records in no split" in told
        number = told.index("1 error to fix") + 1
        await pilot.press(str(number))
        assert went == [("validate", {})]
        pilot.app.screen.query_one("#steps", FrameTable).cursor = told.index("20 records in no split")
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


def test_an_empty_folder_becomes_the_tour(tmp_path, drive, settled) -> None:
    async def story(pilot):
        offers = steps_of(pilot)
        number = next(number for number, text in enumerate(offers, 1) if text.startswith("load the samples"))
        await pilot.press(str(number))
        await pilot.pause()
        await pilot.press("y")
        await settled(pilot)
        assert pilot.app.root == tmp_path

    drive(CurateApp(tmp_path, opener=opening(tmp_path), poll=None), story)
    assert len(load_data(tmp_path).records()) == 1140


def test_a_workspace_below_is_offered_and_a_path_may_be_typed(
    tmp_path, make_workspace, drive, settled, screen_text
) -> None:
    workspace = make_workspace()

    async def story(pilot):
        assert steps_of(pilot)[0] == "open the workspace ws"
        await pilot.press(str(next(n for n, text in enumerate(steps_of(pilot), 1) if "somewhere else" in text)))
        await pilot.pause()
        await pilot.press(*"nowhere", "enter")
        await settled(pilot)
        assert "no workspace and no file at nowhere" in screen_text(pilot.app)
        await pilot.press("2")
        await pilot.pause()
        await pilot.press("w", "s", "enter")
        await settled(pilot)
        assert "60" in screen_text(pilot.app)
        assert pilot.app.root == workspace.root

    drive(CurateApp(tmp_path, opener=opening(tmp_path), poll=None), story)


def test_who_types_ahead_gets_there(make_workspace, drive, settled, monkeypatch) -> None:
    workspace = make_workspace()
    went = []

    async def story(pilot):
        assert pilot.app.has_project

    app = CurateApp(workspace.root, opener=opening(workspace.root), poll=None)
    assert app.is_opening
    monkeypatch.setattr(app, "switch_mode", lambda name: went.append(name))
    app.go("browse")
    assert not went
    drive(app, story)
    assert went == ["browse"]


def test_a_workspace_that_cannot_be_opened_ends_the_app_with_the_reason(tmp_path, drive) -> None:
    (tmp_path / "curate.toml").write_text("nonsense = 1\n", encoding="utf-8")
    app = CurateApp(tmp_path, opener=opening(tmp_path), poll=None)

    async def story(pilot):
        await pilot.pause(0.2)

    drive(app, story)
    assert isinstance(app.failure, CurateError)
    assert app.failure.code.startswith("E902")
    assert app.return_code == 2


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


def test_columns_that_nobody_can_guess_are_asked_for(tmp_path, drive, settled, screen_text) -> None:
    (tmp_path / "odd.csv").write_text("colour,size\nred,large\nblue,small\n", encoding="utf-8")

    async def story(pilot):
        await pilot.press("1")
        await settled(pilot)
        assert "which column is the prompt, and which the completion?" in screen_text(pilot.app)
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
