"""What a key acts on: visible ranges, text fields that are left, faults that are gone to, screens that compute."""

from __future__ import annotations

import threading

import pytest
from textual.widgets import Input, TextArea

from curate.base.events import Edit
from curate.project.project import open_project
from curate.tui.dialogs import Prompt
from curate.tui.frame_table import FrameTable
from curate.tui.screens.edit.view import FormView
from tests.curate.tui.browsing import SETTINGS, browse, lines, reopened, type_filter

pytestmark = pytest.mark.ci


@pytest.fixture
def workspace(make_workspace):
    """Return a workspace of forty records of a support workspace."""
    return make_workspace(lines(), SETTINGS)


def dropped(workspace):
    return set(reopened(workspace).dropped())


@pytest.mark.parametrize("size", [(80, 24), (100, 30)], ids=str)
def test_a_visible_range_is_what_d_drops(workspace, make_app, drive, settled, screen_text, size):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "bank transfer")
        shown = [row[0] for row in app.screen.query_one("#rows", FrameTable).source[0:99]]
        assert len(shown) > 4
        await pilot.press("v", "G")
        text = screen_text(app)
        assert text.count("+ ex-") + text.count(">+ ex-") >= len(shown)
        assert f"range {len(shown)}" in text
        await pilot.press("d")
        await settled(pilot)
        assert dropped(workspace) == set(shown)
        assert f"dropped {len(shown)} records" in screen_text(app)
        assert "range" not in screen_text(app), "what was acted on is a range no more"
        await pilot.press("u")
        await settled(pilot)
        assert not dropped(workspace), "it was one act"

    drive(app, story, size=size)


def test_a_range_goes_before_marks_and_leaves_them(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await pilot.press("space", "j", "v", "j", "d")
        await settled(pilot)
        assert dropped(workspace) == {"ex-002", "ex-003"}
        assert app.screen.query_one("#rows", FrameTable).marks == {"ex-000"}

    drive(app, story)


def test_a_range_is_what_t_and_a_reason_are_for_also_when_others_decide_meanwhile(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await pilot.press("j", "v", "j", "j", "D")
        await settled(pilot)
        assert isinstance(app.screen, Prompt)
        with open_project(workspace.root, "bo") as other:
            other.load()
            other.apply([Edit("ex-020", {"output": "Else."})])
        app.project.refresh()
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert dropped(workspace) == {"ex-001", "ex-002", "ex-003"}
        await pilot.press("v", "k", "t", *"quality", "enter")
        await settled(pilot)
        await pilot.press(*"good", "enter")
        await settled(pilot)
        states = {one.record.id: one.answers for one in reopened(workspace).states()}
        assert sum(bool(answers) for answers in states.values()) == 2

    drive(app, story)


def test_what_others_decide_does_not_end_a_range(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await pilot.press("j", "v", "j", "j")
        with open_project(workspace.root, "bo") as other:
            other.load()
            other.apply([Edit("ex-020", {"output": "Else."})])
        app.project.refresh()
        await settled(pilot)
        await pilot.press("d")
        await settled(pilot)
        assert dropped(workspace) == {"ex-001", "ex-002", "ex-003"}

    drive(app, story)


def test_esc_in_a_field_leaves_the_field_and_never_the_form(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "j", "e")
        app.go("edit", record="ex-001", pointer="/output")
        await settled(pilot)
        field = app.focused
        assert isinstance(field, TextArea)
        keys = screen_text(app).splitlines()[-1]
        assert keys.startswith(" INSERT")
        assert keys.endswith("f1 keys"), "a question mark would be typed"
        await pilot.press("X", "escape")
        await settled(pilot)
        assert screen_text(app).splitlines()[-1].endswith("? keys")
        assert app.current_mode == "edit"
        assert not isinstance(app.focused, Input | TextArea)
        assert "INSERT" not in screen_text(app)
        assert "g another screen" in screen_text(app)
        await pilot.press("i", "Y")
        await settled(pilot)
        assert app.focused is field
        assert app.screen.edit.form.to_line()["output"].startswith("XY")
        await pilot.press("escape", "tab")
        await settled(pilot)
        assert app.focused is not field
        assert app.focused in app.screen.focus_chain, "tab goes on from the field that was left"
        await pilot.press("escape", "escape")
        await settled(pilot)
        assert app.current_mode == "edit"

    drive(app, story)
    assert not dropped(workspace)


@pytest.mark.parametrize(("tab", "key"), [("b", "slash"), ("v", "slash")])
def test_esc_in_a_filter_leaves_the_field_and_not_the_screen(workspace, make_app, drive, settled, tab, key):
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("g", tab)
        await settled(pilot)
        name = app.current_mode
        await pilot.press(key, "a", "escape")
        await settled(pilot)
        assert app.current_mode == name
        assert not isinstance(app.focused, Input)

    drive(app, story)


CALL = {
    "id": "c1",
    "messages": [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": None,
         "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}]},
    ],
}  # fmt: skip


def test_save_goes_to_the_text_at_fault_and_not_to_a_choice_beside_it(make_workspace, make_app, drive, settled):
    workspace = make_workspace([CALL], 'schema = "chat"\n[split]\nseed = 1\n')
    app = make_app(workspace)

    async def story(pilot):
        app.go("edit", record="c1")
        await settled(pilot)
        edit = app.screen.edit
        pointer = "/messages/1/tool_calls"
        edit.form.set(pointer, [{"type": "function", "function": {"name": "f"}}])
        await app.screen.query_one(FormView).rebuild()
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert isinstance(app.focused, Input | TextArea), app.focused
        assert app.focused.pointer == pointer
        await pilot.press(*"yy")
        await settled(pilot)
        assert "yy" in app.focused.text, "it is typed there"
        assert "copied" not in app.message.plain

    drive(app, story)


def held(monkeypatch, path):
    """Have what is at ``path`` wait for the event that is returned."""
    may_go = threading.Event()
    module, _, name = path.rpartition(".")
    known = getattr(__import__(module, fromlist=[name]), name)

    def wait(*args, **more):
        assert may_go.wait(60)
        return known(*args, **more)

    monkeypatch.setattr(path, wait)
    return may_go


@pytest.mark.parametrize(
    ("tab", "path", "keys", "what"),
    [
        ("s", "curate.tui.screens.split.read_basis", "FtdWf+", "comparing the records"),
        ("s", "curate.sessions.division.leaks_of", "Ff", "comparing the splits"),
        ("d", "curate.tui.screens.dedupe.find_clusters", "abmdlxnpWf", "comparing the records"),
        ("c", "curate.tui.screens.compare.runs_of", " hGn", "comparing the runs"),
        ("l", "curate.tui.screens.label.LabelSession", "1asfcnp", "making the queue"),
    ],
)
def test_a_key_on_what_is_not_computed_yet_is_answered(
    workspace, make_app, drive, settled, screen_text, monkeypatch, tab, path, keys, what
):
    app = make_app(workspace)
    may_go = held(monkeypatch, path)

    async def story(pilot):
        try:
            await pilot.press("g", tab)
            for _ in range(200):
                await pilot.pause(0.02)
                if what in app.screen.busy():
                    break
            assert what in app.screen.busy()
            for key in keys:
                app.clear_message()
                await pilot.press({" ": "space", "+": "plus"}.get(key, key))
                assert "till " in app.message.plain, (key, app.message.plain)
                assert app.screen is app.present(), "nothing is asked about what is not there"
            assert "till " in screen_text(app)
        finally:
            may_go.set()
        for _ in range(500):
            await pilot.pause(0.02)
            if not app.screen.busy():
                break
        assert not app.screen.busy()

    drive(app, story)
    assert not dropped(workspace)


def test_a_comparison_that_fails_is_told_and_is_not_under_way_any_more(
    make_workspace, make_app, drive, settled, screen_text
):
    workspace = make_workspace(lines(), SETTINGS + '[leaks]\nagainst = ["benchmarks/none.jsonl"]\n')
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("g", "s")
        for _ in range(500):
            await pilot.pause(0.02)
            if "! error" in app.message.plain and not app.screen.busy():
                break
        assert "E964" in screen_text(app)
        await pilot.press("F")
        assert "till " not in app.message.plain

    drive(app, story)
