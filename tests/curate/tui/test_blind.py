"""The blind comparison on the screen."""

import json

import pytest
from textual.widgets import Static

from tests.curate.judging import NAMES, two_models
from tests.curate.tui.test_screen_compare import opened
from tests.curate.tui.waiting import until


@pytest.fixture
def run(make_workspace, make_report):
    workspace = make_workspace()
    folder = two_models(workspace.root)
    about = {"status": "finished", "seed": 1, "recipe": {"base": "tiny-base"}, "dataset": {"name": "v1"}, "facts": {}}
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "report.json").write_text(json.dumps(make_report()))
    (folder / "feedback.jsonl").write_text("")
    return workspace


def seen(app, name="text"):
    return app.screen.query_one(f"#blind-{name}", Static).render().plain


@pytest.mark.parametrize("size", [(80, 24), (120, 30)])
def test_two_answers_are_judged_by_one_key(run, make_app, drive, settled, screen_text, size):
    app = make_app(run)

    async def story(pilot):
        await opened(pilot, settled)
        await pilot.press("b")
        await until(pilot, lambda: "1 of 6" in seen(app, "head"))
        await settled(pilot)
        text = screen_text(app)
        assert "ANSWER 1" in text
        assert "ANSWER 2" in text
        is_beside = any("ANSWER 1" in line and "ANSWER 2" in line for line in text.splitlines())
        assert is_beside == (size[0] >= 100)
        assert "b:base" not in text
        first = seen(app)
        await pilot.press("d")
        assert "[BASE]" in seen(app)
        await pilot.press("d", "r")
        assert "THE RECORD SAYS" in seen(app)
        await pilot.press("r", "1")
        assert "2 of 6" in seen(app, "head")
        await pilot.press("u")
        assert seen(app) == first
        await pilot.press("s")
        assert seen(app) != first
        await pilot.press("1", "2", "t", "b", "1")
        assert seen(app) == first
        await pilot.press("2")
        await until(pilot, lambda: "b against b:base: 6 verdicts" in seen(app))
        assert "human.jsonl" in seen(app)
        await pilot.press("q")
        await pilot.pause()
        assert app.present().NAME == "compare"

    drive(app, story, size)
    assert len((run.root / "runs/b/human.jsonl").read_text().splitlines()) == len(NAMES)


def test_what_cannot_be_read_is_said(run, make_app, drive, settled):
    app = make_app(run)

    async def story(pilot):
        await opened(pilot, settled)
        (run.root / "runs/b/predictions.jsonl").write_text("nonsense\n")
        await pilot.press("b")
        await until(pilot, lambda: "cannot be compared" in seen(app, "head"))
        assert "predictions.jsonl:1" in seen(app)
        await pilot.press("1", "s", "u", "d", "r", "escape")
        await pilot.pause()
        assert app.present().NAME == "compare"

    drive(app, story)
