"""Browse: what is found and shown, and what its keys leave in the workspace."""

from __future__ import annotations

import json
from typing import Any

import pytest

from curate.tui.frame_table import FrameTable
from curate.tui.screens.browse.rendering import SETS
from tests.curate.tui.browsing import browse, reopened, shown, type_filter

# What is seen.


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
def test_it_looks_as_drawn(workspace, make_app, drive, settled, snapshot, size):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, 'category:billing "Refund"')
        await pilot.press("space")
        await pilot.pause(0.3)
        await settled(pilot)
        snapshot(app, "browse")
        await pilot.press("enter")
        await pilot.pause(0.3)
        await settled(pilot)
        if size == (80, 24):
            snapshot(app, "browse-detail")
        assert "Refund for a cancelled order" in screen(app)

    def screen(app):
        return "\n".join(strip.text for strip in app.screen._compositor.render_strips())

    drive(app, story, size=size)


@pytest.mark.ci
@pytest.mark.ci
def test_a_filter_shows_some_and_the_command_lists_the_same(workspace, make_app, drive, settled, call_list):
    app = make_app(workspace)
    seen: list[Any] = []

    async def story(pilot):
        await browse(pilot, settled)
        assert len(shown(app)) == 40
        await type_filter(pilot, settled, "category:returns ticket -id:ex-00*")
        seen.append((shown(app), app.screen.equal_command()))
        await pilot.press("y")
        assert app.clipboard == app.screen.equal_command()
        await pilot.press("escape")
        await pilot.pause(0.3)
        await settled(pilot)
        assert len(shown(app)) == 40
        assert "--where" not in app.screen.equal_command()

    drive(app, story)
    ((ids, command),) = seen
    assert len(ids) == 10
    assert call_list(command) == ids


@pytest.fixture
def call_list():
    """Return a function that runs a copied `curate list` command and returns the ids that it lists."""
    from shlex import split

    from click.testing import CliRunner

    from curate.cli import cli

    def run(command: str) -> list[str]:
        words = split(command)
        assert words[:2] == ["curate", "list"]
        said = CliRunner().invoke(cli, [*words[1:], "--format", "jsonl"])
        return [json.loads(line)["id"] for line in said.stdout.splitlines()]

    return run


@pytest.mark.ci
@pytest.mark.ci
def test_a_fault_is_told_where_it_is_typed_and_leaves_the_table(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "category:billing")
        before = shown(app)
        await type_filter(pilot, settled, "category:billing /(/")
        assert shown(app) == before
        assert "column 18: the regular expression is refused: unclosed group" in screen_text(app)
        await type_filter(pilot, settled, "category:billing /x/")
        assert "column 18" not in screen_text(app)
        assert shown(app) == []
        assert "no record" in screen_text(app)

    drive(app, story)


@pytest.mark.ci
@pytest.mark.ci
def test_keys_right_after_the_filter_are_for_the_table(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await pilot.press("slash", *"broken", "enter", "d", "S")
        await settled(pilot)
        assert app.screen.query_one("#filter").value == "broken"
        assert shown(app) == ["ex-038", "ex-031", "ex-024", "ex-017", "ex-010", "ex-003"]

    drive(app, story)
    assert len(reopened(workspace).dropped()) == 1


@pytest.mark.ci
def test_rows_are_sorted_and_columns_changed(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "s", *"id", "enter", "S")
        await settled(pilot)
        assert shown(app) == [f"ex-{number:03}" for number in reversed(range(40))]
        assert "sort: id v" in screen_text(app)
        for name, names in SETS.items():
            await pilot.press("c", *name, "enter")
            await settled(pilot)
            app.screen.query_one("#rows", FrameTable).row(0)
            assert all(word in screen_text(app) for word in names if word in ("source", "split", "kind", "completion"))

    drive(app, story)


@pytest.mark.ci
def test_other_screens_send_it_somewhere(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        app.go("browse", category="returns")
        await settled(pilot)
        assert len(shown(app)) == 14
        app.go("browse", where='prompt:"broken"', record="ex-010")
        await settled(pilot)
        assert app.screen.query_one("#rows", FrameTable).current == "ex-010"
        app.go("browse", record="ex-011")
        await settled(pilot)
        assert shown(app) == ["ex-011"]
        app.go("browse", is_filtering=True)
        await settled(pilot)
        assert app.focused.id == "filter"
        await pilot.press("escape")
        await pilot.pause(0.3)
        await settled(pilot)
        assert len(shown(app)) == 40

    drive(app, story)


@pytest.mark.ci
def test_enter_opens_the_record_and_escape_leaves_it(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "j", "enter")
        await pilot.pause(0.3)
        assert app.focused.id == "side"
        assert "we look into ticket 1" in screen_text(app)
        await pilot.press("p")
        assert '"instruction": "Refund not' in screen_text(app)
        await pilot.press("p")
        assert "No edits: the same as line " in screen_text(app)
        await pilot.press("escape")
        assert app.focused.id == "rows"
        assert app.present().NAME == "browse"
        await pilot.press("Y")
        assert json.loads(app.clipboard)["id"] == "ex-001"

    drive(app, story, size=(80, 24))


@pytest.mark.ci
def test_a_function_key_of_another_screen_is_answered(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await pilot.press("f4")
        await settled(pilot)
        assert app.message.plain == "~ warn f4 does nothing here; ? shows the keys."
        assert app.current_mode == "browse"

    drive(app, story)
