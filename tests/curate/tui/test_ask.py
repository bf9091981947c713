"""Ask: prompts that are typed or taken from records, models side by side, and what becomes of their answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from curate.project.data import load_data
from curate.project.drafts import Drafts
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.sessions.proposals import counts_of, open_proposals
from curate.sessions.queues import queue_named
from curate.tui.dialogs import Ask
from curate.tui.screens.ask.panes import ModelPane, PickModel
from tests.curate.tui.waiting import until

LINES = [
    {"id": "a", "instruction": "Name a colour.", "output": "red", "category": "billing"},
    {"id": "mail", "instruction": "Who writes?", "output": "It is jo.doe@mailbox.org who writes."},
    {"id": "exam", "instruction": "Name a tree.", "output": "oak", "split": "test"},
]
ENDPOINT = "http://127.0.0.1:9/v1#m"


@pytest.fixture
def workspace(make_workspace, trainer):
    return make_workspace(LINES)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Return the function that returns which models were asked, and what last."""
    path = tmp_path / "asked.jsonl"
    monkeypatch.setenv("FAKE_ASKED", str(path))
    lines = lambda: path.read_text().splitlines() if path.exists() else []  # noqa: E731
    return lambda: [(value["model"], value["messages"][-1]["content"]) for value in map(json.loads, lines())]


@pytest.fixture
def story(workspace, make_app, drive, settled):
    """Return the function that tells a story at Ask with some models, on a workspace of which it returns the app."""

    def tell(script, *models, size=(100, 30), record=""):
        app = make_app(workspace)

        async def told(pilot):
            app.go("ask", models=models, record=record)
            await until(pilot, lambda: app.current_mode == "ask" and len(panes(app)) == len(models))
            await quiet(pilot)
            await script(app, pilot)

        drive(app, told, size=size)
        return app

    return tell


def panes(app):
    return list(app.present().query(ModelPane)) if app.current_mode == "ask" else []


async def quiet(pilot):
    """Wait until no model is at work, and what they wrote is drawn."""
    screen = pilot.app.present()
    await until(pilot, lambda: screen.session is not None and not screen.session.is_active and screen._timer is None)
    await pilot.pause()


async def say(pilot, text):
    pilot.app.present().action_write()
    await pilot.press(*text, "enter")
    await quiet(pilot)
    await pilot.press("escape")


def drafts(workspace):
    store = Drafts(workspace.root, "ana")
    return [store.read(name).line for name in store.names()]


@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
def test_what_the_screen_looks_like(story, snapshot, size):
    async def script(app, pilot):
        await until(pilot, lambda: app.present().session.turns)
        await quiet(pilot)
        await say(pilot, "Why?")
        await pilot.press("tab")
        await pilot.pause()
        snapshot(app, "ask")

    story(script, "one", "broken", size=size, record="a")


@pytest.mark.ci
def test_a_prompt_is_typed_in_lines_and_the_conversation_goes_on(story, asked, screen_text):
    async def script(app, pilot):
        await pilot.press("i", *"One", "ctrl+j", *"two", "enter")
        await quiet(pilot)
        assert sorted(asked()) == [("one", "One\ntwo"), ("two", "One\ntwo")]
        await say(pilot, "Why?")
        assert "two heard: Why?" in screen_text(app)
        assert "8 MB" in screen_text(app)
        await pilot.press("y")
        assert "--prompt 'Why?'" in app.message.plain
        await pilot.press("i", "enter")
        assert "no prompt to send" in app.message.plain
        await pilot.press("escape", "N")
        await quiet(pilot)
        assert "heard" not in screen_text(app)

    story(script, "one", "two")


@pytest.mark.ci
def test_seed_and_temperature_are_seen_and_asked_with_again(story, asked, screen_text):
    async def script(app, pilot):
        await say(pilot, "Hi")
        await pilot.press("s")
        assert "every seed gives the same" in app.message.plain
        await pilot.press("t", "s", "s", "S", "r")
        await quiet(pilot)
        assert "seed 2  temperature 0.3" in screen_text(app)
        assert "(seed 2)" in screen_text(app)
        assert len(app.present().session.participants[0].replies) == 1, "in place of the one before"
        await pilot.press("y")
        assert "--temperature 0.3 --seed 2" in app.message.plain

    story(script, "one")


@pytest.mark.ci
def test_esc_stops_what_is_written_and_keeps_it(story, screen_text):
    async def script(app, pilot):
        app.present().action_write()
        await pilot.press(*"Go", "enter")
        model = app.present().session.participants[0]
        await until(pilot, lambda: model.replies and len(model.replies[0].text) > 6)
        assert "writing" in screen_text(app)
        await pilot.press("escape")
        await quiet(pilot)
        assert "Stopped" in app.message.plain
        assert "on on" in screen_text(app)
        assert "(stopped)" in screen_text(app)
        assert app.focused is app.present()._field, "the second one leaves the field"
        await pilot.press("escape", "s")
        assert app.present().session.sampling.seed == 1, "keys are commands again"

    app = story(script, "slow")
    assert not app.crash


@pytest.mark.ci
@pytest.mark.parametrize("key", ["a", "e"])
def test_an_answer_becomes_the_draft_of_its_record_and_nothing_is_saved_by_itself(
    story, workspace, settled, monkeypatch, key
):
    monkeypatch.setattr("curate.tui.screen.ProjectScreen.in_editor", lambda _self, text, _path: text.upper())

    async def script(app, pilot):
        await until(pilot, lambda: app.present().session.turns)
        await quiet(pilot)
        await pilot.press(key)
        await settled(pilot)
        assert app.current_mode == "edit"
        text = "one heard: Name a colour."
        assert app.present().edit.form.to_line()["output"] == (text if key == "a" else text.upper())
        assert "ctrl+s saves it" in app.message.plain
        assert open_project(workspace.root, "bo").num_decisions == 0
        assert [line["output"].lower() for line in drafts(workspace)] == [text.lower()]
        await pilot.press("escape", "ctrl+s")
        await settled(pilot)
        assert app.project.state("a").record.completion.lower() == text.lower()
        # A model's answer counts as one, however it came; one that was chosen says nothing of how many are worth it.
        assert app.project.state("a").machine == "model:one@ffffffff"
        assert not counts_of(app.project)
        assert not open_proposals(app.project)
        made, _ = export_dataset(load_data(workspace.root))
        assert (made.manifest.machine.as_proposed, made.manifest.machine.edited) == ((1, 0) if key == "a" else (0, 1))
        await pilot.press("escape", "u")
        await settled(pilot)
        assert app.project.state("a").machine == ""

    story(script, "one", record="a")


def test_what_was_typed_in_edit_gives_way_and_comes_back(story, settled, workspace):
    async def script(app, pilot):
        await until(pilot, lambda: app.present().session.turns)
        await quiet(pilot)
        app.go("edit", record="a")
        await settled(pilot)
        app.present().edit.form.enter("/output", "typed by me", ends_word=True)
        await pilot.press("escape", "g", "a", "a")
        await settled(pilot)
        edit = app.present().edit
        assert edit.form.to_line()["output"] == "one heard: Name a colour."
        edit.form.undo()
        assert edit.form.to_line()["output"] == "typed by me"

    story(script, "one", record="a")


def test_a_typed_prompt_becomes_a_new_record_with_its_answer_or_without(story, settled, workspace):
    async def script(app, pilot):
        await say(pilot, "Name a bird.")
        await pilot.press("d")
        assert "without an answer" in app.message.plain
        assert [(line["instruction"], line["output"]) for line in drafts(workspace)] == [("Name a bird.", "")]
        await pilot.press("a")
        await settled(pilot)
        assert app.current_mode == "edit"
        line = app.present().edit.form.to_line()
        assert (line["instruction"], line["output"]) == ("Name a bird.", "one heard: Name a bird.")
        assert len(app.project.catalog) == 3, "it is a draft"
        await pilot.press("escape", "ctrl+s")
        await settled(pilot)
        name = app.present().edit.name
        assert app.project.state(name).machine == "model:one@ffffffff"
        assert app.project.state(name).record.split == "train", "and in no exam"

    story(script, "one")


def test_a_record_that_is_answered_wrong_is_marked_and_stands_in_a_queue(story, settled):
    async def script(app, pilot):
        await until(pilot, lambda: app.present().session.turns)
        await quiet(pilot)
        await pilot.press("d")
        queue = queue_named(app.project, "flagged")
        assert [entry.record for entry in queue.entries()] == ["a"]
        assert queue.detail(queue.entries()[0])[0].text == "Name a colour."
        await pilot.press("d")
        assert "marked already" in app.message.plain
        await pilot.press("u")
        await settled(pilot)
        assert queue_named(app.project, "flagged").count == 0
        await pilot.press("d")
        app.go("queue", of="flagged")
        await settled(pilot)
        await pilot.press("d")
        await settled(pilot)
        assert queue_named(app.project, "flagged").count == 0, "d there takes the mark away"

    story(script, "one", record="a")


def test_models_are_added_and_taken_out_and_their_processes_end(story, settled, screen_text):
    async def script(app, pilot):
        await say(pilot, "Hi")
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, PickModel))
        assert "the base of the recipe" in screen_text(app)
        await pilot.press(*"bs", "enter")
        await until(pilot, lambda: len(panes(app)) == 2)
        await quiet(pilot)
        assert "tiny-base heard: Hi" in screen_text(app), "it answers what was asked before"
        pid = app.present().session.participants[0].talk._child.pid
        await pilot.press("x")
        await until(pilot, lambda: len(panes(app)) == 1)
        assert not Path(f"/proc/{pid}").exists()
        await pilot.press("x")
        await until(pilot, lambda: not panes(app))
        await pilot.press("i", *"Hi", "enter")
        assert "c adds one" in app.message.plain

    story(script, "one")


def test_a_yes_is_for_the_endpoints_that_it_named(story, asked, screen_text):
    other = "http://127.0.0.1:9/v1#other"

    async def script(app, pilot):
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("y")
        await quiet(pilot)
        assert [model for model, _ in asked()] == [ENDPOINT]
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, PickModel))
        await pilot.press(*other, "enter")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        assert f"Send it to {other} all" in " ".join(screen_text(app).split())
        await pilot.press("n")
        await quiet(pilot)
        assert [model for model, _ in asked()] == [ENDPOINT]

    story(script, ENDPOINT, record="mail", size=(140, 30))


def test_no_model_writes_the_answer_that_models_are_measured_against(make_workspace, trainer, make_app, drive, settled):
    app = make_app(make_workspace([{**LINES[0], "split": "validation"}]))

    async def script(pilot):
        app.go("ask", models=["one"], record="a")
        await until(pilot, lambda: app.current_mode == "ask" and len(panes(app)) == 1 and app.present().session.turns)
        await quiet(pilot)
        await pilot.press("a")
        await settled(pilot)
        assert app.current_mode == "ask"
        assert "validation record" in app.message.plain
        assert not app.project.num_decisions

    drive(app, script)


def test_half_an_answer_that_failed_is_no_answer(story, asked, screen_text, workspace):
    async def script(app, pilot):
        await say(pilot, "Hi")
        assert "E963" in screen_text(app)
        assert "half" not in screen_text(app)
        await pilot.press("a")
        assert "no answer here" in app.message.plain
        await say(pilot, "Why?")
        model = app.present().session.participants[0]
        assert [turn["content"] for turn in app.present().session.messages_before(model, 1)] == ["Why?"]

    story(script, "cut-off")


@pytest.mark.parametrize(("key", "is_sent"), [("n", False), ("y", True)])
def test_a_record_with_personal_data_is_sent_only_after_a_yes(story, asked, screen_text, key, is_sent):
    async def script(app, pilot):
        await until(pilot, lambda: isinstance(app.screen, Ask))
        assert "personal data" in screen_text(app)
        assert [model for model, _ in asked()] in ([], ["one"])
        await pilot.press(key)
        await quiet(pilot)
        assert (ENDPOINT in dict(asked())) is is_sent
        assert ("not sent" in screen_text(app)) is not is_sent
        await say(pilot, "Why?")
        assert (ENDPOINT in dict(asked())) is is_sent, "nor with a later turn"

    story(script, "one", ENDPOINT, record="mail")


@pytest.mark.parametrize("record", ["", "a"])
def test_a_recipe_that_cannot_be_read_is_told_in_the_pane_of_the_base(
    make_workspace, make_app, drive, trainer, screen_text, record
):
    workspace = make_workspace(LINES, 'recipe = "gone.toml"\n[split]\nseed = 1\n')

    async def script(pilot):
        app = pilot.app
        app.go("ask", record=record)
        await until(pilot, lambda: app.current_mode == "ask" and len(panes(app)) == 1)
        await until(pilot, lambda: "E902 bad-settings: gone.toml" in screen_text(app))
        await pilot.press("c")
        await until(pilot, lambda: "gone.toml" in app.message.plain)
        (workspace.root / "gone.toml").write_text('base = "tiny-base"\n')
        if not record:
            await say(pilot, "Hi")
        await pilot.press("r")
        await quiet(pilot)
        assert "heard: " in screen_text(app), "the recipe was mended"

    drive(make_app(workspace), script, size=(80, 24))


def test_other_lists_ask_about_the_record_under_the_cursor(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def script(pilot):
        await pilot.press("g", "e", "M")
        assert "no saved record here" in app.message.plain
        await pilot.press("g", "b", "M")
        await until(pilot, lambda: app.current_mode == "ask" and app.present().session and app.present().session.turns)
        await quiet(pilot)
        assert app.present().session.opening.record == "a"
        assert "tiny-base heard: Name a colour." in screen_text(app), "without a run the base is asked"
        await pilot.press("g", "b", "j", "j", "M")
        await until(pilot, lambda: "E999" in app.message.plain)
        app.go("edit", record="mail")
        await settled(pilot)
        await pilot.press("escape", "M")
        await until(pilot, lambda: app.current_mode == "ask" and app.present().session.opening.record == "mail")
        await quiet(pilot)

    drive(app, script)


def test_what_a_model_writes_is_harmless_on_the_screen(story, screen_text):
    async def script(app, pilot):
        await say(pilot, "Hi")
        seen = screen_text(app)
        assert "[/b]" in seen
        assert not {"\x1b", "\x07", "\u202e", "\udc80"} & set(seen)

    app = story(script, "hostile")
    assert not app.crash


def test_through_a_browser_no_model_is_started(story, monkeypatch, asked):
    async def script(app, pilot):
        monkeypatch.setattr(type(app), "is_web", True)
        app.may_train = False
        await pilot.press("N", *"Hi", "enter", "escape")
        assert not app.present().session.turns
        assert "--allow-train" in app.message.plain
        assert not asked()

    story(script, "one")


def test_keys_find_a_model_whose_pane_is_not_whole_yet(workspace, make_app, drive, monkeypatch):
    compose = ModelPane._compose
    may_go_on = asyncio.Event()

    async def waiting(pane):
        await may_go_on.wait()
        await compose(pane)

    monkeypatch.setattr(ModelPane, "_compose", waiting)

    async def script(pilot):
        app = pilot.app
        app.go("ask", models=["first", "second"])
        # Not by the pilot: that waits until all is at rest, and nothing is before the panes are whole.
        while len(panes(app)) < 2:
            await asyncio.sleep(0.01)
        keys = asyncio.create_task(pilot.press("tab", "j"))
        await asyncio.sleep(0.2)
        assert not any(pane.is_mounted for pane in panes(app))
        may_go_on.set()
        await keys
        # Where the first keys came before a pane was whole they found nothing to go to; this one does.
        await pilot.press("tab")
        await until(pilot, lambda: app.focused is not None and app.focused.parent in panes(app))
        await quiet(pilot)

    drive(make_app(workspace), script)
