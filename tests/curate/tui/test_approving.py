"""Approving on the screens: the queue in Label, what Browse and Home say of what waits, and the team."""

from __future__ import annotations

import pytest

from curate.base.events import Approve, Edit, Label
from curate.project.data import load_data
from curate.tui.dialogs import Pages
from tests.curate.deciding import decide
from tests.curate.tui.test_home import steps_of
from tests.curate.tui.test_label import text_of

pytestmark = pytest.mark.ci

REVIEW = """[split]
seed = 1
[review]
approvals = 1
[[label.questions]]
name = "quality"
values = ["good", "poor"]
"""
LINES = [{"id": f"r{n}", "instruction": f"Say {n}.", "output": f"{n}", "category": "word"} for n in range(5)]


@pytest.fixture
def reviewed(make_workspace):
    return make_workspace(LINES, REVIEW)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
def test_one_key_approves_and_another_drops(reviewed, make_app, drive, settled, size) -> None:
    decide(reviewed, [Edit("r1", {"output": "one"})], by="ana")
    app = make_app(reviewed, by="ana")

    async def story(pilot):
        await pilot.press("g", "l")
        await settled(pilot)
        await pilot.press("w")
        await settled(pilot)
        assert "asked: approval" in text_of(app, "head")
        assert "Is it right as it stands?" in text_of(app, "choices")
        assert "1 approve" in text_of(app, "choices")
        assert "none for approvals" in text_of(app, "side")
        await pilot.press("m", "1", "2", "enter")
        assert "does not wait for such an answer" in app.message.plain
        await pilot.press("escape", "1")
        # Their own words are for another to approve.
        assert "r2" in text_of(app, "record")
        await pilot.press("2", "u")
        assert "r2" in text_of(app, "record")
        await pilot.press("2", "s", "1")
        assert "3 of 4  75%  1 left" in text_of(app, "head")
        # What somebody else approves meanwhile asks no more.
        with_bo = load_data(reviewed.root)
        assert [state.record.id for state in with_bo.states() if state.approvals] == ["r0", "r4"]
        assert "r3" in text_of(app, "record")
        await pilot.press("1")
        assert "nothing waits for an approval of ana" in text_of(app, "record")

    drive(app, story, size=size)
    states = {state.record.id: state for state in load_data(reviewed.root).states()}
    assert [name for name, state in states.items() if "ana" in state.approvals] == ["r0", "r3", "r4"]
    assert states["r2"].dropped == "not approved"


@pytest.mark.usefixtures("no_model")
def test_what_is_approved_elsewhere_goes_and_what_is_edited_stays(reviewed, make_app, drive, settled) -> None:
    app = make_app(reviewed, by="ana")

    async def story(pilot):
        await pilot.press("g", "l")
        await settled(pilot)
        await pilot.press("w")
        await settled(pilot)
        assert "r0" in text_of(app, "record")
        decide(load_data(reviewed.root), [Approve("r0")], by="bo")
        app.project.refresh()
        await settled(pilot)
        assert "r1" in text_of(app, "record")
        # An approval is of what was shown.
        decide(load_data(reviewed.root), [Edit("r1", {"output": "one"})], by="bo")
        await pilot.press("1")
        app.project.refresh()
        await settled(pilot)

    drive(app, story)
    states = {state.record.id: state for state in load_data(reviewed.root).states()}
    assert states["r0"].approvals == {"bo"}
    assert states["r1"].approvals == set()


def test_home_counts_what_waits_and_shows_the_team(reviewed, make_app, drive, settled) -> None:
    decide(reviewed, [Edit("r1", {"output": "one"}), Label("r2", "quality", "good")], by="ana")
    app = make_app(reviewed, by="ana")

    async def story(pilot):
        await settled(pilot)
        assert steps_of(pilot)[3].startswith("4 records wait for your approval")
        assert not [step for step in steps_of(pilot) if "to fix" in step]
        assert ". waiting" in str(app.screen.query_one("#dataset").content)
        await pilot.press("T")
        await settled(pilot)
        assert isinstance(app.screen, Pages)
        words = app.screen._text.plain
        assert words.split("\n")[1].split() == ["ana", "5", "1", "0", "1", "-", "4"]
        await pilot.press("escape")
        await pilot.press("4")
        await settled(pilot)
        assert "asked: approval" in text_of(app, "head")
        await pilot.press("g", "b")
        await settled(pilot)
        table = app.screen.query_one("FrameTable")
        assert {row[2] for row in table.source[:]} == {". waiting"}
        await pilot.press("g", "v")
        await settled(pilot)

    drive(app, story, size=(80, 24))
