"""The tour: from an empty folder through all seven stages, on by itself, put away and taken up again."""

from __future__ import annotations

import json
import re

import pytest

from curate.base.events import Assign, Drop, Edit, Label
from curate.cli.open import _opened
from curate.project.data import load_data
from curate.project.project import open_project
from curate.sessions.runs import Run
from curate.sessions.tour import STEPS, Tour
from curate.tui.app import CurateApp
from curate.tui.frame_table import FrameTable
from tests.curate.tui.waiting import until

pytestmark = pytest.mark.ci


def step_of(app) -> int:
    """Return the number of the step that the bar shows, 0 where there is no bar."""
    match = re.match(r" TOUR (\d)", app.guide.text.plain)
    return int(match[1]) if match else 0


@pytest.fixture
def tour_root(tmp_path):
    from curate.project.init import make_workspace

    root = make_workspace(tmp_path / "tour", is_sample=True).root
    Tour(root).begin()
    return root


@pytest.mark.ci
@pytest.mark.parametrize("size", [(60, 15), (80, 24), (140, 45)], ids=str)
def test_from_an_empty_folder_the_tour_begins_and_goes_on(tmp_path, drive, settled, screen_text, size) -> None:
    app = CurateApp(tmp_path, opener=lambda: _opened(tmp_path, "ana"), by="ana", poll=None)

    async def story(pilot):
        await pilot.press("t")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert "TOUR 1 of 8  press g b, then j a few times" in screen_text(app)
        assert screen_text(app).splitlines()[-1].strip(), "the keys stay"
        await pilot.press("g", "b")
        await settled(pilot)
        await pilot.press("j")
        await until(pilot, lambda: step_of(app) == 2)
        await pilot.press("/", *"refund", "enter")
        await until(pilot, lambda: step_of(app) == 3)
        assert "TOUR 3 of 8" in screen_text(app)

    drive(app, story, size=size)
    assert Tour(tmp_path / "tour").number == 2
    assert not app.crash


@pytest.mark.ci
def test_each_decision_ends_its_step_and_there_is_something_to_decide(
    tour_root, drive, settled, screen_text, monkeypatch
) -> None:
    app = CurateApp(tour_root, project=open_project(tour_root, "ana"), poll=None)
    runs = []
    monkeypatch.setattr("curate.sessions.tour.runs_of", lambda _: runs)

    async def story(pilot):
        seen = " ".join(screen_text(app).split())
        assert "2 errors to fix" in seen
        assert "1 cluster of duplicates" in seen
        Tour(tour_root).go_to(2)
        await pilot.press("t")
        await until(pilot, lambda: step_of(app) == 3)
        await pilot.pause(0.5)
        for decision in (
            Edit("practice-1", {"output": "A week."}), Drop("practice-3", reason="repeats"),
            Label("practice-4", "category", "summarise"), Assign("practice-1", "train"),
        ):  # fmt: skip
            before = step_of(app)
            app.project.apply([decision])
            await until(pilot, lambda before=before: step_of(app) == before + 1)
        assert step_of(app) == 7
        run = Run(tour_root / "runs" / "a", "running", "", {}, None, has_report=False)
        runs.append(run)
        await until(pilot, lambda: step_of(app) == 8)
        runs[0] = Run(tour_root / "runs" / "a", "done", "", {}, None, has_report=True)
        app.guide._since = app.project.num_decisions
        await pilot.pause(0.6)
        assert step_of(app) == 8, "the scores were not looked at"
        await pilot.press("g", "c")
        await settled(pilot)
        await pilot.pause(0.6)
        assert step_of(app) == 8, "there is no comparison to be seen"
        app.present().query_one("#scores", FrameTable).show([("all", "0.4")])
        await until(pilot, lambda: "END OF THE TOUR" in screen_text(app))
        app.tell("something else")
        await settled(pilot)
        assert "take records of your own: press g h, then i" in " ".join(screen_text(app).split())
        assert screen_text(app).splitlines()[-1].strip(), "the keys stay"
        await pilot.press("g", "h", "escape")
        await settled(pilot)
        assert "TOUR" not in screen_text(app)

    drive(app, story)
    assert Tour(tour_root).number == len(STEPS)


@pytest.mark.ci
def test_it_is_put_away_and_taken_up_again_and_a_step_is_skipped(tour_root, drive, settled, screen_text) -> None:
    app = CurateApp(tour_root, project=open_project(tour_root, "ana"), poll=None)

    async def story(pilot):
        assert "TOUR" not in screen_text(app)
        await pilot.press("t")
        await settled(pilot)
        assert step_of(app) == 1
        await pilot.press("t")
        await settled(pilot)
        assert step_of(app) == 2
        await pilot.press("g", "b")
        await settled(pilot)
        assert "TOUR 2 of 8" in screen_text(app), "the bar is on every screen"
        await pilot.press("escape", "escape")
        await settled(pilot)
        assert "TOUR" not in screen_text(app)
        await pilot.press("t")
        await settled(pilot)
        assert step_of(app) == 2

    drive(app, story)
    (tour_root / ".curate" / "tour.json").write_text("{", encoding="utf-8")
    assert Tour(tour_root).number == 0, "a note that nobody can read begins anew"
    assert len(load_data(tour_root).records()) == 1144
    lines = (tour_root / "data" / "practice.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"practice-{n}" for n in range(1, 5)]
