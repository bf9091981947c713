"""Text that is typed at the wrong moment: it waits for what it is meant for, and never becomes a command."""

from __future__ import annotations

import asyncio
import threading

import pytest
from textual import events
from textual.widgets import TextArea

from curate.project.data import load_data
from curate.project.project import Project, open_project
from curate.tui import keys
from curate.tui.app import CurateApp
from curate.tui.dialogs import Ask
from curate.tui.frame_table import FrameTable
from curate.tui.screens.edit import EditScreen
from tests.curate.tui.waiting import until


@pytest.fixture
def workspace(make_workspace):
    return make_workspace()


def in_one_go(app: CurateApp, *names: str) -> None:
    """Type all of ``names`` before the app has taken the first of them."""
    for name in names:
        app.post_message(events.Key(name, name if len(name) == 1 else None))


def typed(app: CurateApp) -> str:
    """Return the text of the field that has the focus."""
    return app.focused.text if isinstance(app.focused, TextArea) else getattr(app.focused, "value", "(no field)")


@pytest.mark.parametrize("text", ["nice", "drop", "Dcq", "WXu"])
@pytest.mark.parametrize("opening", [["g", "b", "e"], ["n"], ["g", "e", "n"]])
def test_what_follows_the_key_that_opens_a_form_is_text(workspace, make_app, drive, settled, opening, text):
    async def story(pilot):
        in_one_go(pilot.app, *opening, *text)
        await settled(pilot)
        assert pilot.app.current_mode == "edit"
        assert typed(pilot.app).startswith(text)

    drive(make_app(workspace), story, size=(80, 24))
    assert not load_data(workspace.root).dropped()


def test_a_form_that_takes_long_to_make_loses_no_key_and_no_paste(workspace, make_app, drive, monkeypatch):
    made = threading.Event()
    show = EditScreen._show_open_record

    async def story(pilot):
        async def show_late(screen):
            await until(pilot, made.is_set)
            await show(screen)

        monkeypatch.setattr(EditScreen, "_show_open_record", show_late)
        in_one_go(pilot.app, "g", "b", "e", "d")
        pilot.app.post_message(events.Paste("pasted"))
        in_one_go(pilot.app, "q")
        await pilot.pause(2.5)
        made.set()
        await until(pilot, lambda: typed(pilot.app).startswith("dpastedq"))

    drive(make_app(workspace), story, size=(80, 24))


def test_a_decision_behind_a_filter_is_about_what_the_filter_shows(make_workspace, make_app, drive, settled):
    workspace = make_workspace([{"id": f"r{n}", "instruction": word, "output": "x"} for n, word in enumerate("abcz")])

    async def story(pilot):
        await pilot.press("g", "b")
        await settled(pilot)
        in_one_go(pilot.app, "slash", "z", "enter", "d")
        await settled(pilot)

    drive(make_app(workspace), story, size=(80, 24))
    assert list(load_data(workspace.root).dropped()) == ["r3"]


def test_keys_of_the_first_seconds_wait_for_the_records(workspace):
    may_open = threading.Event()

    def opener():
        may_open.wait(10)
        return open_project(workspace.root, "ana")

    async def main():
        app = CurateApp(workspace.root, opener=opener, poll=None)
        async with app.run_test(size=(80, 24)) as pilot:
            in_one_go(app, "g", "b", "slash", "d", "ctrl+j")
            await pilot.pause(0.3)
            may_open.set()
            await until(pilot, lambda: [field.value for field in app.screen.query("#filter")] == ["d"])
            await until(pilot, lambda: isinstance(app.focused, FrameTable))

    asyncio.run(main())
    assert not load_data(workspace.root).dropped()


def test_the_end_of_a_text_that_was_refused_is_refused_too(workspace, make_app, monkeypatch):
    may_load, load = threading.Event(), Project.load
    monkeypatch.setattr(keys, "PATIENCE", 0.0)
    monkeypatch.setattr(Project, "load", lambda *given: may_load.wait(30) and load(*given))

    async def main():
        app = make_app(workspace)
        async with app.run_test(size=(80, 24)) as pilot:
            text = [events.Key(letter, letter) for letter in "dd"]
            in_one_go(app, "g", "b")
            await until(pilot, lambda: app.current_mode == "browse")
            app.post_message(text[0])
            await until(pilot, lambda: "still reading" in app.message.plain)
            may_load.set()
            await until(pilot, lambda: app.following.is_loaded)
            app.post_message(text[1])
            await until(pilot, lambda: "Type it again" in app.message.plain)

    asyncio.run(main())
    assert not load_data(workspace.root).dropped()


async def _esc(pilot, settled, number: int) -> None:
    for _ in range(number):
        await pilot.press("escape")
        await settled(pilot)


@pytest.mark.parametrize("tab", ["browse", "edit", "validate", "dedupe", "split", "label", "queue", "ask"])
def test_esc_leaves_no_screen(workspace, make_app, drive, settled, tab):
    async def story(pilot):
        pilot.app.go(tab)
        await settled(pilot)
        await _esc(pilot, settled, 5)
        assert pilot.app.current_mode == tab
        assert "g h Home" in pilot.app.message.plain

    drive(make_app(workspace), story, size=(80, 24))


def test_a_field_keeps_the_focus_when_the_terminal_was_too_small(workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        await pilot.press("n", "a")
        await settled(pilot)
        field = pilot.app.focused
        for size in ((50, 12), (80, 24), (80, 10), (59, 24), (100, 30)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
        assert pilot.app.focused is field
        assert "INSERT" in screen_text(pilot.app)
        await pilot.press("n", "q")
        assert typed(pilot.app) == "anq"

    drive(make_app(workspace), story, size=(80, 24))


def test_a_question_in_a_terminal_that_is_too_small_is_answered(workspace, make_app, drive, settled):
    async def story(pilot):
        await pilot.press("n", "a")
        await settled(pilot)
        await pilot.resize_terminal(50, 12)
        await settled(pilot)
        await pilot.press("q")
        await settled(pilot)
        assert isinstance(pilot.app.screen, Ask)
        await pilot.press("y")
        await pilot.pause()

    app = make_app(workspace)
    drive(app, story, size=(80, 24))
    assert app.return_code == 0


@pytest.mark.draws
def test_a_question_that_comes_while_nothing_is_drawn_is_drawn_afterwards(workspace, make_app, drive, settled):
    drawn = []

    async def story(pilot):
        app = pilot.app
        app.post_display_hook = lambda: app._batch_count or drawn.append(app.screen)
        with app.batch_update():
            app.ask("Sure?", lambda: None)
            await asyncio.sleep(0.3)
        drawn.clear()
        await asyncio.sleep(0.3)  # A pause of the pilot draws the screen itself.
        assert isinstance(app.screen, Ask)
        assert app.screen in drawn

    drive(make_app(workspace), story, size=(80, 24))
