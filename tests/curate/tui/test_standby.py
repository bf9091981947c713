"""What each screen shows before the records are read and where there are none, and the way from nothing to a record."""

from __future__ import annotations

import json
import threading

import pytest

from curate.project.init import make_workspace as make_new
from curate.project.project import Project, open_project
from curate.tui.app import CurateApp
from curate.tui.screens import TABS
from tests.curate.tui.edited import go_to, names_in, type_in
from tests.curate.tui.waiting import until

KEYS = ("enter", "d", "t", "c", "j", "n", "p", "F", "f", "W", "r", "y", "Y", "tab", "plus", "z", "u", "x", "1", "slash")
"""Keys that most screens do something about."""


@pytest.fixture
def held_reading(monkeypatch):
    """Have the records read only once the event is set."""
    may_read = threading.Event()
    load = Project.load
    monkeypatch.setattr(CurateApp, "on_unmount", lambda self: (may_read.set(), self.following.release()))

    def held(self, *args):
        may_read.wait(60)
        return load(self, *args)

    monkeypatch.setattr(Project, "load", held)
    yield may_read
    may_read.set()


@pytest.fixture
def empty_root(tmp_path):
    """Return a workspace as the third way of the first run makes one."""
    return make_new(tmp_path / "my-data").root


def unread(app: CurateApp):
    """Run ``app`` without waiting for its records."""
    return app.run_test(size=(100, 30))


@pytest.mark.ci
@pytest.mark.parametrize("tab", TABS, ids=lambda tab: tab.name)
def test_no_screen_ends_the_program_while_records_are_read(tab, make_workspace, make_app, screen_text, held_reading):
    import asyncio

    app = make_app(make_workspace())

    async def story():
        async with unread(app) as pilot:
            await pilot.press("g", tab.key)
            await until(pilot, lambda: app.current_mode == tab.name)
            await pilot.pause(0.2)
            assert "eading the records" in screen_text(app), "the state is told"
            for key in KEYS:
                await pilot.press(key)
                if app.screen.is_modal:
                    await pilot.press("escape")
            await pilot.resize_terminal(80, 24)
            await pilot.pause(0.2)
            assert app.current_mode == tab.name
            # What is hidden meanwhile would fill the screen.
            assert app.present().maximized is None
            assert "eading the records" in screen_text(app)
            held_reading.set()
            await until(pilot, lambda: app.following.is_loaded)
            await until(pilot, lambda: "eading the records" not in screen_text(app))

    asyncio.run(story())
    assert not app.crash
    assert app.return_code in (0, None)


@pytest.mark.ci
def test_a_key_of_a_screen_that_waits_is_answered(make_workspace, make_app, screen_text, held_reading):
    import asyncio

    app = make_app(make_workspace())

    async def story():
        async with unread(app) as pilot:
            await pilot.press("g", "b")
            await until(pilot, lambda: app.current_mode == "browse")
            await pilot.press("d")
            assert "drop: still reading the records" in screen_text(app)
            held_reading.set()
            await until(pilot, lambda: "ex-" in screen_text(app) or "r000" in screen_text(app))
            assert app.screen.focused is app.screen.query_one("#rows"), "and then its keys are its own"

    asyncio.run(story())


def test_that_a_key_had_to_wait_for_the_records_is_not_said_once_they_are_read(
    make_workspace, make_app, screen_text, held_reading
):
    import asyncio

    app = make_app(make_workspace())

    async def story():
        async with unread(app) as pilot:
            await pilot.press("U")
            assert "redo: still reading the records" in screen_text(app)
            held_reading.set()
            await until(pilot, lambda: app.following.is_loaded)
            await until(pilot, lambda: "still reading" not in screen_text(app))
            assert "reading the records" not in app.message.plain

    asyncio.run(story())


@pytest.mark.ci
@pytest.mark.parametrize("size", [(80, 24), (100, 30)], ids=str)
@pytest.mark.parametrize("tab", TABS, ids=lambda tab: tab.name)
def test_every_screen_says_that_there_are_no_records_and_what_to_press(
    tab, size, empty_root, drive, settled, screen_text
):
    app = CurateApp(empty_root, project=open_project(empty_root, "ana"), poll=None)

    async def story(pilot):
        await pilot.press("g", tab.key)
        await settled(pilot)
        assert app.current_mode == tab.name
        text = screen_text(app)
        assert "o records yet" in text
        assert "n  " in text
        assert "curate import" in text
        await pilot.press(*(key for key in KEYS if key not in ("n", "t")), "g", tab.key)
        await settled(pilot)
        await pilot.press("n")
        await settled(pilot)
        assert app.current_mode == "edit"
        assert app.screen.edit is not None, "n is the first record"

    drive(app, story, size=size)
    assert not app.crash


@pytest.mark.ci
def test_the_first_record_is_written_and_every_other_screen_has_it(empty_root, drive, settled, screen_text):
    app = CurateApp(empty_root, project=open_project(empty_root, "ana"), poll=None)
    seen = {}

    async def story(pilot):
        await pilot.press("n")
        await settled(pilot)
        assert app.focused.pointer == "/instruction", "nobody begins with an id"
        values = {"/id": "first", "/instruction": "Name a colour.", "/output": "Blue.", "/category": "colours"}
        for pointer, text in values.items():
            await go_to(pilot, settled, pointer)
            await type_in(pilot, text)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert "saved the new record first" in screen_text(app)
        await pilot.press("escape", "escape")
        for tab in TABS:
            await pilot.press("g", tab.key)
            await settled(pilot)
            await until(pilot, lambda: not [one for one in app.workers if not one.is_finished])
            seen[tab.name] = screen_text(app)

    drive(app, story)
    assert not app.crash
    assert names_in(open_project(empty_root, "ana").data) == ["first"]
    assert not [name for name, text in seen.items() if "o records yet" in text]
    assert "first" in seen["browse"]
    assert "1 record" in seen["home"] or "records              1" in seen["home"]


@pytest.mark.ci
def test_the_command_line_finds_what_was_written_first(empty_root, drive, settled):
    from click.testing import CliRunner

    from curate.cli import cli

    app = CurateApp(empty_root, project=open_project(empty_root, "ana"), poll=None)

    async def story(pilot):
        await pilot.press("n")
        await settled(pilot)
        for pointer, text in (("/instruction", "Name a colour."), ("/output", "Blue."), ("/category", "colours")):
            await go_to(pilot, settled, pointer)
            await type_in(pilot, text)
        await pilot.press("ctrl+s")
        await settled(pilot)

    drive(app, story)
    listed = CliRunner().invoke(cli, ["list", str(empty_root)])
    assert listed.exit_code == 0, listed.output
    assert "Name a colour." in listed.output
    folded = CliRunner().invoke(cli, ["fold", str(empty_root)])
    assert folded.exit_code == 0, folded.output
    texts = [path.read_text(encoding="utf-8") for path in (empty_root / "data").glob("*.jsonl")]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    assert [line["output"] for line in lines] == ["Blue."]


def test_a_first_record_that_no_record_file_would_take_is_refused_with_what_to_write(empty_root):
    settings = empty_root / "curate.toml"
    settings.write_text(settings.read_text().replace('["data/*.jsonl"]', '["lines/*.jsonl"]'), encoding="utf-8")
    from curate.base.events import Add
    from curate.base.record import CurateError

    with open_project(empty_root, "ana") as project:
        project.load()
        with pytest.raises(CurateError) as caught:
            project.apply([Add("a", {"id": "a", "instruction": "x", "output": "y"})])
    assert caught.value.code == "E904 no-such-file"
    assert "data/added.jsonl" in caught.value.hint
    assert not (empty_root / "data" / "added.jsonl").exists()


@pytest.mark.ci
def test_taking_the_first_record_back_leaves_an_empty_workspace(empty_root, drive, settled, screen_text):
    from curate.base.events import Add

    app = CurateApp(empty_root, project=open_project(empty_root, "ana"), poll=None)
    line = {"id": "a", "instruction": "Name a colour.", "output": "Blue."}

    async def story(pilot):
        app.project.apply([Add("a", line)])
        await settled(pilot)
        assert "o records yet" not in screen_text(app)
        await pilot.press("g", "b")
        await settled(pilot)
        await pilot.press("u")
        await settled(pilot)
        assert "o records yet" in screen_text(app)
        await pilot.press("U")
        await settled(pilot)
        assert "o records yet" not in screen_text(app)
        assert "Name a colour" in screen_text(app)

    drive(app, story)


def test_records_that_another_program_brings_are_read_by_r(empty_root, drive, settled, screen_text):
    app = CurateApp(empty_root, project=open_project(empty_root, "ana"), poll=None)

    async def story(pilot):
        line = {"id": "a", "instruction": "Name a colour.", "output": "Blue."}
        (empty_root / "data" / "x.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
        await pilot.press("r")
        await settled(pilot)
        assert "o records yet" not in screen_text(app)
        assert app.project.is_current()

    drive(app, story)


@pytest.mark.ci
def test_what_keeps_the_records_from_being_read_is_shown_until_it_is_mended(make_workspace, make_app, drive, settled,
                                                                             screen_text):  # fmt: skip
    workspace = make_workspace()
    app = make_app(workspace)
    settings = workspace.root / "curate.toml"
    outside = workspace.root / "data" / "out.jsonl"
    outside.symlink_to("/etc/hostname")
    assert settings.exists()

    async def story(pilot):
        for key in "bvt":
            await pilot.press("g", key)
            await settled(pilot)
            text = screen_text(app)
            assert "E914 outside-workspace" in text
            assert "Copy the files into the workspace" in text
            assert "reading the records" not in text
        outside.unlink()
        await pilot.press("r")
        await settled(pilot)
        assert "E914" not in screen_text(app)
        await pilot.press("g", "b")
        await settled(pilot)
        assert len(app.screen.query_one("#rows").source[:]) == 60

    drive(app, story)
    assert not app.crash


def test_how_far_a_comparison_is_while_the_app_ends_is_dropped(make_workspace, make_app):
    import asyncio

    app = make_app(make_workspace())

    async def story():
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: app.following.is_loaded)
            await pilot.press("g", next(tab.key for tab in TABS if tab.name == "split"))
            await until(pilot, lambda: app.current_mode == "split" and not app.screen.is_comparing)
            screen = app.screen
        # The widgets go before the screen and its workers do.
        assert screen.is_mounted
        assert not screen.query("#progress")
        with app._context():
            screen.show_progress("comparing records")

    asyncio.run(story())
