"""The shell on terminals of every size, with other keys, files that change, and without colours."""

from __future__ import annotations

import asyncio
import time

import pytest
from textual.binding import Binding

from curate.base.events import Drop
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.tui.app import CurateApp
from curate.tui.chrome import HeaderBar, KeyLine, StatusLine, TabBar
from curate.tui.keys import own_subclasses
from curate.tui.screens import TABS, known_bindings, screen_class
from curate.tui.themes import PALETTES
from tests.curate.tui.probing import probe


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
def test_quitting_asks_only_where_something_would_be_lost(
    workspace, make_app, drive, settled, screen_text, key
) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        probe(pilot).unsaved = True
        await pilot.press(key)
        await pilot.pause()
        assert "Probe: what you typed is not saved" in screen_text(pilot.app)
        await pilot.press("n")
        await pilot.pause()
        assert pilot.app.is_running
        await pilot.press(key)
        await pilot.pause()
        await pilot.press("y")
        await pilot.pause()

    app = make_app(workspace)
    drive(app, story)
    assert app.return_code == 0


def test_quitting_waits_for_what_is_being_written(workspace, make_app, drive, screen_text) -> None:
    import threading

    done = threading.Event()

    async def story(pilot):
        pilot.app.background(done.wait, lambda _: pilot.app.tell("written"), group="write.something")
        await pilot.pause()
        await pilot.press("q")
        await pilot.pause()
        assert pilot.app.is_running
        assert "still being written" in screen_text(pilot.app)
        done.set()

    drive(make_app(workspace), story)


def test_an_error_of_a_job_or_of_what_follows_it_is_told(workspace, make_app, drive, settled, screen_text) -> None:
    def fail(*_):
        raise CurateError("E916 unknown-record", "there is no [/b]")

    async def story(pilot):
        pilot.app.background(fail, print, group="a")
        await settled(pilot)
        assert "! error E916 unknown-record: there is no [/b]" in screen_text(pilot.app)
        pilot.app.tell("fine")
        pilot.app.background(lambda: 1, fail, group="a")
        await settled(pilot)
        assert "! error E916" in screen_text(pilot.app)

    drive(make_app(workspace), story)


def test_a_newer_job_takes_the_place_of_an_older_one(workspace, make_app, drive, settled) -> None:
    import threading

    seen, first = [], threading.Event()

    async def story(pilot):
        pilot.app.background(first.wait, lambda _: seen.append("old"), group="filter")
        pilot.app.background(lambda: None, lambda _: seen.append("new"), group="filter")
        await pilot.pause(0.2)
        first.set()
        await settled(pilot)

    drive(make_app(workspace), story)
    assert seen == ["new"]


def test_what_a_job_brings_while_the_app_ends_is_dropped(workspace, make_app) -> None:
    app, results = make_app(workspace), []

    def job() -> None:
        while app.is_running:
            time.sleep(0.005)

    async def main() -> None:
        async with app.run_test():
            app.background(job, results.append, group="read")

    asyncio.run(main())
    assert not results


def test_a_click_on_a_tab_goes_there(workspace, make_app, drive, settled) -> None:
    async def story(pilot):
        await pilot.click(TabBar, offset=(9, 0))
        await settled(pilot)
        assert pilot.app.current_mode == "probe"

    drive(make_app(workspace), story)


@pytest.mark.draws
def test_what_is_said_and_decided_draws_its_own_line_alone(workspace, make_app, drive, settled, monkeypatch) -> None:
    drawn = []
    for kind in (HeaderBar, TabBar, StatusLine, KeyLine):
        whole = kind.line
        monkeypatch.setattr(
            kind, "line", lambda self, width, whole=whole: drawn.append(type(self).__name__) or whole(self, width)
        )

    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        drawn.clear()
        pilot.app.tell("said")
        assert drawn == ["StatusLine"]
        pilot.app.project.apply([Drop("r003", reason="x")])
        assert drawn == ["StatusLine", "HeaderBar"]
        probe(pilot).query_one("#field").focus()
        await settled(pilot)
        assert set(drawn[2:]) == {"KeyLine"}

    drive(make_app(workspace), story)


def test_another_theme_colours_what_is_there_already(workspace, make_app, drive, settled) -> None:
    def colours(app):
        strips = app.screen._compositor.render_strips()
        return {
            segment.style.color.name for strip in strips for segment in strip if segment.style and segment.style.color
        }

    async def story(pilot):
        assert PALETTES["dark"].accent.lower() in colours(pilot.app)
        pilot.app.choose_theme("light")
        await settled(pilot)
        assert PALETTES["light"].accent.lower() in colours(pilot.app)
        assert PALETTES["dark"].accent.lower() not in colours(pilot.app)

    drive(make_app(workspace), story)


def test_files_changed_by_others_are_told_and_read_again(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        path = workspace.root / "data" / "a.jsonl"
        path.write_text(path.read_text().replace("r003", "r900"))
        pilot.app.following.check_for_changes()
        await settled(pilot)
        assert "changed by another program" in screen_text(pilot.app)
        await pilot.press("r")
        await settled(pilot)
        assert probe(pilot).told.count("ready") == 2
        assert "reread" in probe(pilot).told
        assert pilot.app.project.state("r900").record.id == "r900"

    drive(make_app(workspace), story)


def test_a_terminal_that_is_too_small_is_refused_politely(workspace, make_app, drive, screen_text) -> None:
    async def story(pilot):
        seen = screen_text(pilot.app)
        assert "The terminal is 59x20" in seen
        assert "[Home]" not in seen
        await pilot.press("question_mark")
        assert pilot.app.screen is pilot.app.present(), "keys do nothing that cannot be seen"
        await pilot.resize_terminal(60, 15)
        await pilot.pause()
        assert "[Home]" in screen_text(pilot.app)

    drive(make_app(workspace), story, size=(59, 20))


def test_a_narrow_terminal_shows_one_pane(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        assert "[/foo] detail" not in screen_text(pilot.app)
        probe(pilot).is_side_open = True
        await settled(pilot)
        assert "[/foo] detail" in screen_text(pilot.app)
        await pilot.press("escape")
        await settled(pilot)
        assert pilot.app.current_mode == "probe"
        assert "[/foo] detail" not in screen_text(pilot.app)

    drive(make_app(workspace), story, size=(80, 24))


def test_zoom_shows_the_pane_alone(workspace, make_app, drive, settled) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        await pilot.press("z")
        assert pilot.app.screen.maximized is not None
        await pilot.press("z")
        assert pilot.app.screen.maximized is None

    drive(make_app(workspace), story)


def test_keys_of_the_settings_hold(make_workspace, make_app, drive, settled) -> None:
    workspace = make_workspace(settings='[split]\nseed = 1\n[keys]\n"app.undo" = "f6"\n')

    async def story(pilot):
        pilot.app.project.apply([Drop("r003", reason="x")])
        await pilot.press("u")
        assert load_data(workspace.root).dropped()
        await pilot.press("f6")
        assert not load_data(workspace.root).dropped()

    drive(make_app(workspace), story)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('"app.undoo" = "x"', "no binding 'app.undoo'", "app.undo"),
        ('"zzz.qqq" = "x"', "no binding 'zzz.qqq'", "`?`"),
        ('"app.undo" = "crtl+x"', "'crtl+x' is no key", "comma"),
        ('"app.undo" = "x,"', "'' is no key", "comma"),
    ],
)
def test_keys_that_are_none_are_refused(make_workspace, make_app, line, message, hint) -> None:
    workspace = make_workspace(settings=f"[split]\nseed = 1\n[keys]\n{line}\n")
    with pytest.raises(CurateError) as caught:
        make_app(workspace)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_every_binding_has_an_id_a_word_and_a_key_that_arrives() -> None:
    forbidden = {"ctrl+enter", "shift+enter", "alt+enter", "ctrl+h", "ctrl+space", "ctrl+i", "ctrl+m", "ctrl+a",
                 "ctrl+b",
                 "ctrl+z", "ctrl+s", "f10", "f11"}  # fmt: skip
    bindings = known_bindings()
    assert len(bindings) > 25
    by_owner = [kind for kind in _our_widgets() if kind.__dict__.get("BINDINGS")]
    for kind in by_owner:
        keys: dict[str, set[str]] = {}
        for binding in Binding.make_bindings(kind.__dict__["BINDINGS"]):
            assert binding.id, f"{kind.__name__}: {binding.key} has no id"
            assert binding.description, f"{binding.id} has no word"
            keys.setdefault(binding.id, set()).add(binding.key)
        for name, some in keys.items():
            arriving = {key for key in some if key not in forbidden and not key.startswith("alt+")}
            assert arriving, f"{name} is on {some} alone, which not every terminal passes on"


def _our_widgets():
    from textual.dom import DOMNode

    return [kind for kind in own_subclasses(DOMNode) if kind.__module__.startswith("curate.")]


def test_every_screen_is_what_its_tab_says() -> None:
    assert len(TABS) == len({tab.key for tab in TABS}) == 10
    for tab in TABS:
        kind = screen_class(tab.name)
        assert (tab.name, tab.title) == (kind.NAME, kind.TITLE)


def test_a_folder_that_is_no_workspace_has_home_alone(tmp_path, drive, settled, screen_text) -> None:
    async def story(pilot):
        assert "no workspace" in screen_text(pilot.app)
        await pilot.press("g", "p")
        await settled(pilot)
        assert pilot.app.current_mode == "home"
        assert "Open or make a workspace first" in screen_text(pilot.app)
        await pilot.press("u", "r", "@")

    drive(CurateApp(tmp_path, poll=None), story)


def test_no_colour_draws_without_colours_and_readable(workspace, make_app, drive, monkeypatch, settled) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        styles = [seg.style for strip in pilot.app.screen._compositor.render_strips() for seg in strip if seg.style]
        assert styles
        assert all(style.color is None and style.bgcolor is None for style in styles), "the terminal's own two colours"
        assert any(style.reverse for style in styles), "the tab and the cursor are still told apart"
        assert pilot.app.theme == "mono"

    drive(make_app(workspace), story)


@pytest.mark.parametrize("theme", ["dark", "light", "contrast", "mono"])
def test_every_theme_draws_text_that_differs_from_its_ground(workspace, make_app, drive, settled, theme) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        for strip in pilot.app.screen._compositor.render_strips():
            for segment in strip:
                if segment.text.strip() and segment.style:
                    assert segment.style.color != segment.style.bgcolor, segment

    drive(make_app(workspace, theme=theme), story)


@pytest.mark.ci
def test_ascii_draws_nothing_else(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        assert screen_text(pilot.app).isascii()
        for key in ("question_mark", "@", ":"):
            await pilot.press(key)
            await pilot.pause(0.3)
            seen = screen_text(pilot.app)
            assert seen.isascii(), seen
            await pilot.press("escape")
            await pilot.pause(0.1)

    drive(make_app(workspace, is_ascii=True), story)
