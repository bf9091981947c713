"""What is around the screens: tabs, chords, keys, undo, what others decide, and a polite no."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from curate.base.events import Drop
from curate.project.data import load_data
from curate.project.project import open_project
from curate.tui.chrome import KeyLine
from curate.tui.frame_table import FrameTable
from curate.tui.help import marked_up
from curate.tui.widgets import SafeInput
from tests.curate.tui.probing import probe


@pytest.mark.ci
def test_a_chord_goes_to_a_tab_and_escape_stays_there(workspace, make_app, drive, settled) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        assert probe(pilot).told == ["ready", ("arrive", {})]
        pilot.app.go("probe", record="r001")
        assert probe(pilot).told[-1] == ("arrive", {"record": "r001"})
        await pilot.press("escape")
        await settled(pilot)
        assert pilot.app.current_mode == "probe"
        assert "g h Home" in pilot.app.message.plain
        await pilot.press("g", "h", "]")
        await settled(pilot)
        assert pilot.app.current_mode == "probe"
        await pilot.press("left_square_bracket")
        await settled(pilot)
        assert pilot.app.current_mode == "home"

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_the_box_of_keys_comes_late_and_goes(workspace, make_app, drive, screen_text, settled) -> None:
    async def story(pilot):
        await pilot.press("g")
        await pilot.pause(0.1)
        assert "first row" not in screen_text(pilot.app)
        await pilot.pause(0.4)
        assert "p  Probe" in screen_text(pilot.app)
        await pilot.press("x")
        await settled(pilot)
        assert "first row" not in screen_text(pilot.app)
        assert "g x is no screen; g ? lists them." in screen_text(pilot.app)
        await pilot.press("g", "question_mark")
        assert "p  Probe" in screen_text(pilot.app)
        await pilot.press("escape")
        await settled(pilot)
        assert "p  Probe" not in screen_text(pilot.app)
        assert pilot.app.current_mode == "home"
        # A timer that was due when the second key came cannot be stopped any more.
        pilot.app._chord._show()
        await settled(pilot)
        assert "p  Probe" not in screen_text(pilot.app)

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_gg_goes_to_the_first_row_and_letters_type_where_one_types(workspace, make_app, drive, settled) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        table, field = pilot.app.screen.query_one(FrameTable), pilot.app.screen.query_one(SafeInput)
        await pilot.press("G")
        assert table.cursor == 2
        await pilot.press("g", "g")
        await settled(pilot)
        assert table.cursor == 0
        field.focus()
        await pilot.press("g", "g", "q", "d", "u", "question_mark", "left_square_bracket")
        assert field.value == "ggqdu?["
        assert pilot.app.is_running

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_drop_and_undo_and_redo_reach_the_journal(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        await pilot.press("space", "space", "d")
        await settled(pilot)
        assert probe(pilot).told[-1] == ("changed", {"r000", "r001"})
        assert "journal ok  #2" in screen_text(pilot.app)
        assert len(load_data(workspace.root).dropped()) == 2
        await pilot.press("u")
        await settled(pilot)
        assert "taken back: 2 x drop of r000, r001" in screen_text(pilot.app)
        assert not load_data(workspace.root).dropped()
        await pilot.press("U")
        await settled(pilot)

    drive(make_app(workspace), story)
    assert load_data(workspace.root).dropped() == {"r000": "[/b] asked", "r001": "[/b] asked"}


@pytest.mark.ci
def test_undo_takes_back_what_an_earlier_sitting_did(workspace, make_app, drive) -> None:
    with open_project(workspace.root, "ana") as before:
        before.load()
        before.apply([Drop("r005", reason="old")])

    async def story(pilot):
        await pilot.press("u")

    drive(make_app(workspace, by="ana"), story)
    assert not load_data(workspace.root).dropped()


def test_nothing_to_undo_is_said(workspace, make_app, drive, screen_text) -> None:
    async def story(pilot):
        await pilot.press("u")
        assert "nothing to undo" in screen_text(pilot.app)
        await pilot.press("U")
        assert "nothing to redo" in screen_text(pilot.app)

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_what_others_decide_is_seen(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        with open_project(workspace.root, "bo") as other:
            other.load()
            other.apply([Drop("r007", reason="bo")])
        for _ in range(40):
            await pilot.pause(0.05)
            if ("changed", {"r007"}) in probe(pilot).told:
                break
        assert ("changed", {"r007"}) in probe(pilot).told
        assert "others decided on 1 record" in screen_text(pilot.app)
        await pilot.press("g", "h")
        await settled(pilot)

    drive(make_app(workspace, poll=0.1), story)


def block_journal(root) -> Path:
    """Put a file where the annotator's part of the journal is to be, so that no decision can be saved."""
    blocked = root / "journal/ana"
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("in the way")
    return blocked


async def wait_until(pilot, is_so) -> None:
    for _ in range(60):
        if is_so():
            break
        await pilot.pause(0.05)
    assert is_so()


def test_what_one_decides_in_another_process_is_seen(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        with open_project(workspace.root, "ana") as other:
            other.load()
            other.apply([Drop("r007", reason="elsewhere")])
        await wait_until(pilot, lambda: ("changed", {"r007"}) in probe(pilot).told)
        assert "you decided on 1 record in another session" in screen_text(pilot.app)
        pilot.app.tell("before")
        await pilot.press("d")
        await settled(pilot)
        await pilot.press("u")
        await settled(pilot)
        await wait_until(pilot, lambda: "taken back" in screen_text(pilot.app))
        assert "decided on" not in screen_text(pilot.app), "what is done here is told by whoever did it"

    drive(make_app(workspace, poll=0.1), story)


def test_only_what_is_saved_here_ends_the_warning(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        blocked = block_journal(workspace.root)
        await pilot.press("d")
        assert "journal ! not saved" in screen_text(pilot.app)
        blocked.unlink()
        with open_project(workspace.root, "ana") as other:
            other.load()
            other.apply([Drop("r007", reason="elsewhere")])
        await wait_until(pilot, lambda: ("changed", {"r007"}) in probe(pilot).told)
        assert "journal ! not saved" in screen_text(pilot.app)
        await pilot.press("d")
        await settled(pilot)
        assert "journal ok  #2" in screen_text(pilot.app)

    drive(make_app(workspace, poll=0.1), story)


def test_what_is_saved_in_a_thread_is_ones_own(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        blocked = block_journal(workspace.root)
        await pilot.press("d")
        assert "journal ! not saved" in screen_text(pilot.app)
        blocked.unlink()
        pilot.app.tell("before")
        drop = [Drop("r003", reason="x")]
        pilot.app.background(lambda: pilot.app.project.apply(drop), lambda _: None, group="write.many")
        await settled(pilot)
        assert probe(pilot).told[-1] == ("changed", {"r003"})
        assert "before" in screen_text(pilot.app)
        assert "journal ok  #1" in screen_text(pilot.app)

    drive(make_app(workspace), story)


def test_a_hidden_screen_hears_of_changes_when_it_is_shown(workspace, make_app, drive, settled) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        screen = probe(pilot)
        await pilot.press("g", "h")
        await settled(pilot)
        pilot.app.project.apply([Drop("r003", reason="x")])
        pilot.app.project.apply([Drop("r004", reason="x")])
        assert ("changed", {"r003"}) not in screen.told
        await pilot.press("g", "p")
        await settled(pilot)
        assert ("changed", {"r003", "r004"}) in screen.told
        assert screen.told.count("ready") == 1

    drive(make_app(workspace), story)


def test_an_error_ends_nothing_and_is_shown_as_it_is(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        await pilot.press("f")
        seen = screen_text(pilot.app)
        assert "! error E906 write-failed: the disk [/b] is full␛[2J\n Make room.\n" in seen
        assert "journal ok" in seen, "a file that is not the journal could not be written"

    drive(make_app(workspace), story)


def test_help_lists_every_binding_with_its_id(workspace, make_app, drive, settled) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        text = str(pilot.app.screen.query("#pages Static").first().content)
        for name in ("probe.drop", "probe.fail", "table.mark", "app.undo", "app.quit", "app.log"):
            assert name in text, "where there is one column of keys"
        assert "Press d to drop [/b]." in text
        assert "g p Probe" in text
        await pilot.press("escape")
        await pilot.pause()
        assert pilot.app.screen is pilot.app.present()

    drive(make_app(workspace), story, size=(80, 24))


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 45)], ids=str)
def test_help_is_in_columns_where_there_is_room_and_is_searched(workspace, make_app, drive, settled, size) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        await pilot.press("question_mark")
        await settled(pilot)
        text = str(pilot.app.screen.query("#pages Static").first().content)
        assert "table.mark" in text
        num_lines = len(text.splitlines())
        if size[0] >= 100:
            assert re.search(r"Keys +: ctrl\+p|\? f1 +Keys .* [a-z]", text), "two keys on a line"
        await pilot.press("/", *"Quit")
        await settled(pilot)
        lines = str(pilot.app.screen.query("#pages Static").first().content).splitlines()
        assert 0 < len(lines) < num_lines
        assert all("quit" in line.lower() for line in lines)
        await pilot.press("escape")
        await settled(pilot)
        assert pilot.app.screen is pilot.app.present()

    drive(make_app(workspace), story, size=size)


def test_a_click_on_a_key_of_the_last_line_is_the_key(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        line = screen_text(pilot.app).splitlines()[-1]
        await pilot.click(KeyLine, offset=(line.index("d drop") + 2, 0))
        await settled(pilot)
        assert probe(pilot).told[-1] == ("changed", {"r000"})
        await pilot.click(KeyLine, offset=(line.index("? keys"), 0))
        await settled(pilot)
        assert pilot.app.screen.is_modal

    drive(make_app(workspace), story)


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=str)
def test_the_table_with_the_focus_is_told_from_the_others(make_workspace, make_app, drive, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app = make_app(make_workspace())

    def looks(table) -> list[str]:
        return [str(table.get_component_rich_style(f"frame-table--{part}")) for part in ("head", "cursor")]

    async def story(pilot):
        steps, categories = app.screen.query(FrameTable)
        for focused, other in ((steps, categories), (categories, steps)):
            focused.focus()
            await pilot.pause()
            assert "underline" in looks(focused)[0]
            assert "underline" not in looks(other)[0]
            assert "reverse" in looks(focused)[1]
            assert "reverse" not in looks(other)[1]

    drive(app, story)


def test_help_text_flows_and_keeps_its_lists() -> None:
    text = marked_up("# Head\nOne line\nof two `x`.\n\n- first\n  goes on\n- second\n")
    assert text.plain == "Head\nOne line of two x.\n\n- first goes on\n- second"
    assert [text.plain[span.start : span.end].strip() for span in text.spans if span.style == "key"] == ["x"]


def test_the_command_log_shows_what_was_decided_and_run(workspace, make_app, drive, settled) -> None:
    async def story(pilot):
        pilot.app.project.apply([Drop("r003", reason="[/foo]\x1b")])
        pilot.app.log_command("curate split ws --apply", "60 records")
        await pilot.press("@")
        await pilot.pause()
        text = str(pilot.app.screen.query("#pages Static").first().content)
        assert "ana  drop    r003  [/foo]␛" in text
        assert "curate split ws --apply  60 records" in text

    drive(make_app(workspace), story)


@pytest.mark.parametrize("key", [":", "ctrl+p"])
def test_the_palette_runs_every_action_of_the_screen(workspace, make_app, drive, settled, key) -> None:
    async def story(pilot):
        await pilot.press("g", "p")
        await settled(pilot)
        await pilot.press(key)
        await settled(pilot)
        await pilot.press(*"drop")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.pause(0.2)

    drive(make_app(workspace), story)
    assert load_data(workspace.root).dropped() == {"r000": "[/b] asked"}


def test_copying_goes_through_the_terminal(workspace, make_app, drive, settled, screen_text) -> None:
    async def story(pilot):
        await pilot.press("y")
        await pilot.press("g", "p")
        await settled(pilot)
        await pilot.press("y")
        assert pilot.app.clipboard == "curate list ws"
        assert "copied the command: curate list ws" in screen_text(pilot.app)
        await pilot.press("Y")
        assert pilot.app.clipboard == '{"id": 1}'

    drive(make_app(workspace), story)
