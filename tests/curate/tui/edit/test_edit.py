"""The Edit screen: each story ends with a look at the workspace as the next one to open it finds it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.pilot import Pilot

from curate.base.events import Edit, Label
from curate.project.drafts import Drafts
from curate.project.project import open_project
from curate.tui.screens.edit.view import FormView
from tests.curate.tui.edited import LINE, Settled, edit_of, go_to, names_in, record_in, type_in

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


@pytest.mark.ci
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


@pytest.mark.ci
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
        await app.screen.query_one("FormView").sheet.focus_pointer("/instruction")
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


@pytest.mark.ci
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


@pytest.mark.ci
def test_only_a_draft_that_is_written_ends_its_warning(
    make_own: Any, make_app: Any, drive: Any, settled: Settled, screen_text: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("curate.tui.screens.edit.KEEP", 0.05)
    workspace = make_own()
    blocked = workspace.root / ".curate/drafts"

    async def wait_for(pilot: Pilot[Any], text: str) -> None:
        for _ in range(60):
            if text in screen_text(pilot.app):
                break
            await pilot.pause(0.05)
        assert text in screen_text(pilot.app)

    async def story(pilot: Pilot[Any]) -> None:
        pilot.app.go("edit", record="m1", pointer="/messages/0/content")
        await settled(pilot)
        blocked.parent.mkdir(exist_ok=True)
        blocked.write_text("in the way")
        await type_in(pilot, "Half ")
        await wait_for(pilot, "! draft not saved")
        assert "! error E906" in screen_text(pilot.app)
        pilot.app.project.apply([Label("m1", "mood", "good")])
        with open_project(workspace.root, "ana") as elsewhere:
            elsewhere.load()
            elsewhere.apply([Label("m1", "mood", "bad")])
        await wait_for(pilot, "in another session")
        await settled(pilot)
        assert "! draft not saved" in screen_text(pilot.app)
        blocked.unlink()
        await type_in(pilot, "way ")
        await wait_for(pilot, "draft kept")

    drive(make_app(workspace, poll=0.05), story)


@pytest.mark.ci
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
        await pilot.press("escape", "D")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert not edit_of(pilot).is_changed

    edit_story(workspace, resumed)
    assert not Drafts(workspace.root, "ana").names()
    assert record_in(workspace, "m1") == LINE


@pytest.mark.ci
def test_what_somebody_else_changes_meanwhile_is_taken_in(
    make_own: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace = make_own()

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "Mine ")
        with open_project(workspace.root, "bo") as other:
            other.load()
            other.apply([Edit("m1", {"level": "hard"})])
        pilot.app.project.refresh()
        await settled(pilot)
        assert "(x) hard" in screen_text(pilot.app)
        assert "changed meanwhile" in screen_text(pilot.app)
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="m1", pointer="/messages/0/content")
    found = record_in(workspace, "m1")
    assert (found["level"], found["messages"][0]["content"]) == ("hard", "Mine Where is my parcel?")


@pytest.mark.ci
def test_records_opened_one_upon_the_other_end_with_the_last_one(
    make_workspace: Any, edit_story: Any, settled: Settled
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        for num_steps in range(0, 60, 6):  # the next one comes at each step of showing the one before
            pilot.app.go("edit", record="r001")
            for _ in range(num_steps):
                await asyncio.sleep(0)
            pilot.app.go("edit", record="r002")
            await settled(pilot)
            assert [view.edit.name for view in pilot.app.screen.query(FormView)] == ["r002"]

    edit_story(make_workspace(), story, record="r003")
