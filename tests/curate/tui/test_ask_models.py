"""Ask with real models: a .gguf file as llama.cpp serves it, and one behind an endpoint."""

from __future__ import annotations

import importlib.util
import json
from contextlib import closing
from itertools import pairwise

import pytest

from tests.curate.tui.test_ask import LINES, panes
from tests.curate.tui.waiting import until
from tests.train.stub import Stub, said

pytestmark = [pytest.mark.server, pytest.mark.ci]


async def quiet(pilot):
    """Wait until no model is at work; a real one is loaded, which takes long on a busy machine."""
    screen = pilot.app.present()
    await until(pilot, lambda: not screen.session.is_active and screen._timer is None, seconds=600)
    await pilot.pause()


async def say(pilot, text):
    pilot.app.present().action_write()
    await pilot.press(*text, "enter")
    await quiet(pilot)
    await pilot.press("escape")


@pytest.fixture
def begin(make_workspace, make_app, drive):
    """Return a function that tells a story at Ask with models, of which ``aliases`` stand in curate.toml."""

    def tell(script, *models, aliases="", size=(100, 30)):
        app = make_app(make_workspace(LINES, f"[split]\nseed = 1\n[contestants]\n{aliases}\n"))

        async def story(pilot):
            app.go("ask", models=models)
            await until(pilot, lambda: app.current_mode == "ask" and len(panes(app)) == len(models))
            await quiet(pilot)
            await script(app, pilot)

        drive(app, story, size=size)

    return tell


@pytest.mark.skipif(importlib.util.find_spec("httpx2") is None, reason="needs the extra endpoint")
@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
def test_an_endpoint_answers_what_is_typed_turn_by_turn(begin, screen_text, size):
    def answer(body):
        return said(f"I heard {len(body['messages'])} messages.", usage={"prompt_tokens": 9, "completion_tokens": 6})

    with closing(Stub(answer)) as stub:

        async def script(app, pilot):
            await say(pilot, "Name a colour.")
            await say(pilot, "And another?")
            (model,) = app.present().session.participants
            assert (model.kind, model.state) == ("endpoint", "ready")
            assert [reply.text for reply in model.replies] == ["I heard 1 messages.", "I heard 3 messages."]
            assert "I heard 3 messages." in screen_text(app)
            assert "6 tokens" in screen_text(app)

        begin(script, "far", aliases=f'far = "{stub.url}#m"', size=size)
        first, second = stub.seen
        assert second["messages"][1] == {"role": "assistant", "content": "I heard 1 messages."}
        assert all(before in second["messages"] for before in first["messages"])


@pytest.mark.skipif(importlib.util.find_spec("httpx2") is None, reason="needs the extra endpoint")
def test_an_endpoint_that_answers_nothing_is_told_in_its_pane(begin, screen_text):
    with closing(Stub(lambda _: (400, json.dumps({"error": {"message": "no such model"}}).encode()))) as stub:

        async def script(app, pilot):
            await say(pilot, "Name a colour.")
            (model,) = app.present().session.participants
            assert model.replies[-1].state == "failed"
            assert "no such model" in screen_text(app)

        begin(script, f"{stub.url}#m")


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs the extra gguf (xllamacpp)")
def test_a_gguf_file_writes_as_it_goes_beside_the_base_it_was_made_of(begin, tmp_path, screen_text):
    from tests.train.ggufs import write_gguf

    path = write_gguf(tmp_path / "tiny.gguf")
    lengths = []

    async def script(app, pilot):
        app.present().action_write()
        await pilot.press(*"Name a colour.", "enter")
        models = app.present().session.participants
        while app.present().session.is_active:
            lengths.append(sum(len(reply.text) for reply in models[1].replies))
            await pilot.pause(0.01)
        await quiet(pilot)
        base, file = models
        assert (base.kind, file.kind) == ("base", "gguf")
        assert file.replies[0].state == "done"
        assert file.replies[0].text == base.replies[0].text != ""
        assert file.memory > 0
        assert str(path.name) in screen_text(app)

    begin(script, "base", str(path))
    assert all(before <= after for before, after in pairwise(lengths))
