"""Proposals on the screens: taken, edited, rejected and undone by one key each."""

from __future__ import annotations

import pytest

from curate.base.events import Propose
from curate.project.data import load_data
from curate.project.project import open_project
from curate.tui.frame_table import FrameTable
from tests.curate.test_proposals import ABOUT, LINES, MODEL, SETTINGS


@pytest.fixture
def workspace(make_workspace):
    workspace = make_workspace(LINES, SETTINGS)
    with open_project(workspace.root, "ana") as project:
        changes = [("a", "Paris, on the Seine."), ("a", "It is \x1b[31mParis."), ("b", "Rome is the capital city.")]
        project.apply([Propose(name, MODEL, ABOUT, {"output": text}) for name, text in changes])
        line = {"id": "n1", "instruction": "Name the capital of Spain.", "output": "It is Madrid.", "category": "geo"}
        project.apply([Propose("n1", MODEL, ABOUT, record=line)])
    return load_data(workspace.root)


def answer_of(workspace, name):
    return load_data(workspace.root).state(name).record.completion


def listed(app):
    return [row[0] for row in app.present().query_one("#entries", FrameTable).source[:]]


@pytest.mark.ci
def test_proposals_are_taken_rejected_and_undone(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        app.go("queue", of="proposals")
        await settled(pilot)
        assert listed(app) == ["a (2)", "a (2)", "b", "new"]
        text = screen_text(app)
        assert "ALSO PROPOSED" in text
        assert "\x1b[31m" not in text
        assert "d reject  a take" in text
        assert "nobody has decided on one yet" in text
        await pilot.press("a")
        await settled(pilot)
        assert "WHAT BECAME OF OTHERS" in screen_text(app)
        assert "1 of 1 taken, 0 of them edited" in screen_text(app)
        assert answer_of(workspace, "a") == "Paris, on the Seine."
        assert listed(app) == ["a", "b", "new"]
        await pilot.press("d")
        await settled(pilot)
        assert listed(app) == ["b", "new"]
        await pilot.press("u")
        await settled(pilot)
        assert listed(app) == ["a", "b", "new"]
        await pilot.press("u")
        await settled(pilot)
        assert answer_of(workspace, "a") == ""
        await pilot.press("G", "a")
        await settled(pilot)
        assert answer_of(workspace, "n1") == "It is Madrid."

    drive(app, story)


@pytest.mark.ci
def test_a_proposal_is_edited_and_then_taken(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        app.go("queue", of="proposals")
        await settled(pilot)
        await pilot.press("j", "j", "e")
        await settled(pilot)
        assert app.present().edit.proposal
        app.present().edit.form.enter("/output", "Rome, of course.")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert answer_of(workspace, "b") == "Rome, of course."
        await pilot.press("escape")
        app.go("queue", of="proposals")
        await settled(pilot)
        assert "b" not in listed(app)
        # Of a new record too; f7 goes on.
        await pilot.press("G", "e")
        await settled(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert answer_of(workspace, "n1") == "It is Madrid."
        assert load_data(workspace.root).state("n1").machine == MODEL

    drive(app, story)


def test_home_counts_proposals(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        app.go("home")
        await settled(pilot)
        assert "4 proposals" in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_a_key_in_edit_has_a_model_answer_beside_the_form(workspace, make_app, drive, settled, screen_text, answers):
    answers({"Add": ["Five, as every child knows."], "France": [""]})
    app = make_app(workspace)

    async def story(pilot):
        app.go("edit", record="c")
        await settled(pilot)
        await pilot.press("ctrl+g")
        await settled(pilot)
        edit = app.present().edit
        assert edit.form.to_line()["output"] == ""
        text = screen_text(app)
        assert "PROPOSED" in text
        assert "Five, as every child knows." in text
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert edit.form.to_line()["output"] == "Five, as every child knows."
        assert answer_of(workspace, "c") == ""
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert answer_of(workspace, "c") == "Five, as every child knows."
        assert load_data(workspace.root).state("c").machine == MODEL
        app.go("edit", record="a")
        await settled(pilot)
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert "Nothing is proposed: as it stands." in screen_text(app)
        app.go("edit", new=True)
        await settled(pilot)
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert "no saved record is open" in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_edit_asks_before_an_endpoint_gets_a_record_with_personal_data(
    make_workspace, make_app, drive, settled, screen_text, answers
):
    asked = answers({"*": ["It is written."]})
    secret = {"id": "p", "instruction": "Write to ana.lopez@hafen-post.de now.", "output": ""}
    workspace = make_workspace([*LINES, secret], f'{SETTINGS}\n[contestants]\nfar = "http://127.0.0.1:9/v1#m"\n')
    app = make_app(workspace)

    def sent():
        return [line for line in asked() if isinstance(line, dict) and line["id"].startswith("p#")]

    async def story(pilot):
        app.go("edit", record="p")
        await settled(pilot)
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert "p has findings of personal data (X7xx). Send it to far all" in screen_text(app)
        await pilot.press("n")
        await settled(pilot)
        assert not sent()
        await pilot.press("ctrl+g", "y")
        await settled(pilot)
        assert sent()
        assert "It is written." in screen_text(app)

    drive(app, story)
