"""Label with the suggestions of a model that is asked for likelihoods."""

from __future__ import annotations

import pytest

from curate.sessions.labelling import likelihoods
from tests.curate.test_suggest_with import FakeTalk
from tests.curate.tui.asking import MANY
from tests.curate.tui.waiting import until

pytestmark = pytest.mark.ci


def text_of(app, name):
    return str(app.present().query_one(f"#{name}").content)


def test_what_a_model_suggests_is_marked_and_taken_by_a_key(make_workspace, make_app, drive, settled, monkeypatch):
    monkeypatch.setattr(likelihoods, "Talk", FakeTalk)
    FakeTalk.asked, FakeTalk.can_compare = [], True
    workspace = make_workspace(settings=MANY)
    app = make_app(workspace)

    async def story(pilot):
        app.go("label", suggest_with="tiny")
        await until(pilot, lambda: "suggestion" in text_of(app, "choices"))
        await settled(pilot)
        assert "tiny; right in" in app.present().query_one("#side").text.plain
        await pilot.press("a")
        await settled(pilot)
        assert app.message.plain.endswith("(u undo)")

    drive(app, story, (140, 45))
