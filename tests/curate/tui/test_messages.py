"""Messages are whole, with what to do apart, and go; numbers are never cut; Edit says what it was opened for."""

from __future__ import annotations

import re

import pytest
from textual.widgets import TextArea

from curate.base.record import CurateError
from curate.tui import app as app_module
from curate.tui.frame_table import Column, FrameTable
from curate.tui.screens.edit.view import FormView

LONG = CurateError(
    "E986 changed-meanwhile", "somebody else has changed system, messages, category and output too since you began",
    "Nothing was saved. Save again to keep yours, or take back what you typed and look at theirs first.",
)  # fmt: skip


@pytest.mark.ci
@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30)], ids=str)
def test_an_error_is_whole_and_its_remedy_begins_a_line(make_workspace, make_app, drive, screen_text, size):
    app = make_app(make_workspace())

    async def story(pilot):
        app.tell_error(LONG)
        await pilot.pause()
        text = screen_text(app)
        flat = " ".join(text.split())
        assert f"! error {LONG.code}: {LONG.message} {LONG.hint}" in flat
        assert re.search(r"^ Nothing was saved\.", text, re.M)
        app.tell("short")
        await pilot.pause()
        assert screen_text(app).splitlines()[-2].strip() == "short", "the lines are given back"

    drive(app, story, size=size)


def test_a_message_with_no_room_says_where_the_rest_is(make_workspace, make_app, drive, screen_text, settled):
    app = make_app(make_workspace())

    async def story(pilot):
        app.tell("word " * 150 + "end.", "warn")
        await pilot.pause()
        assert "@ shows all of it" in screen_text(app)
        await pilot.press("at")
        await settled(pilot)
        assert "end." in screen_text(app)

    drive(app, story, size=(80, 24))


@pytest.mark.ci
def test_a_message_goes_with_the_screen_and_with_time_and_a_warning_stays(
    make_workspace, make_app, drive, screen_text, settled, monkeypatch
):
    monkeypatch.setattr(app_module, "EXPIRES", 0.05)
    app = make_app(make_workspace())

    async def story(pilot):
        app.tell("dropped nobody")
        for _ in range(200):
            await pilot.pause(0.02)
            if not app.message:
                break
        assert not app.message
        assert "dropped nobody" not in screen_text(app)
        app.tell("nothing is staged", "warn")
        await pilot.pause(0.2)
        assert "nothing is staged" in screen_text(app)
        await pilot.press("g", "b")
        await settled(pilot)
        assert "nothing is staged" not in screen_text(app)

    drive(app, story)


def test_what_is_under_way_is_told_until_it_is_done(make_workspace, make_app, drive, screen_text, settled):
    app = make_app(make_workspace())

    async def story(pilot):
        app.background(lambda: None, lambda _: None, group="test", message="looking for it ...")
        assert "looking for it ..." in app.message.plain
        await settled(pilot)
        assert "looking for it" not in screen_text(app)

    drive(app, story)


@pytest.mark.parametrize("size", [(80, 24), (100, 30)], ids=str)
def test_no_number_of_a_table_is_cut(drive, make_workspace, make_app, screen_text, size):
    app = make_app(make_workspace())

    async def story(pilot):
        table = app.screen.query_one("#categories", FrameTable)
        columns = [Column("name"), Column("n", 4, is_right=True), Column("m", 3, is_right=True)]
        rows = [("a" * 90, "1", "2"), ("b", "1,234,567", "12,345,678")]
        table.show(rows, columns=columns)
        await pilot.pause()
        text = screen_text(app)
        assert "1,234,567" in text
        assert "12,345,678" in text

    drive(app, story, size=size)


@pytest.mark.ci
@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30), (140, 45)], ids=str)
def test_home_shows_each_step_whole(make_workspace, make_app, drive, settled, screen_text, size, monkeypatch):
    from curate.sessions.overview import NextStep

    step = NextStep("warn", "dataset v1 is older than the data and than 4 records with different answers", "split")
    monkeypatch.setattr(
        "curate.sessions.overview.next_steps", lambda *_: [step, NextStep("", "label 3 records", "label")]
    )
    app = make_app(make_workspace())

    async def story(pilot):
        rows = [row for row in app.screen.query_one("#steps", FrameTable).source[:] if row[-1] == "5"]
        assert " ".join(" ".join(row[3] for row in rows).split()) == step.text
        assert "..." not in screen_text(app).split("CATEGORY")[0].replace("…", "...")
        await pilot.press("4")
        await settled(pilot)
        assert app.current_mode == "label"
        await pilot.press("g", "h", "5")
        await settled(pilot)
        assert app.current_mode == "split"

    drive(app, story, size=size)


@pytest.mark.ci
@pytest.mark.parametrize("columns", [100, 140])
def test_the_help_on_filters_is_a_table_with_a_row_for_each_term(
    make_workspace, make_app, drive, settled, screen_text, columns
):
    async def story(pilot):
        await pilot.press("g", "b")
        await settled(pilot)
        await pilot.press("question_mark")
        await settled(pilot)
        rows = screen_text(pilot.app).splitlines()
        places = set()
        for term, meaning in (
            ("refund late", "both words, in"), ("refund|return", "one of them"), ('"Refund, late"', "exactly this"),
            ("-refund", "records that do not"), ("split:test", "train, validation or test"),
        ):  # fmt: skip
            row = next(line for line in rows if line.strip().startswith(term + "  "))
            places.add((row.index(term), row.index(meaning)))
        assert len(places) == 1, "they stand below one another"

    drive(make_app(make_workspace()), story, size=(columns, 120))


@pytest.mark.ci
def test_the_cursor_is_in_sight_after_a_filter_is_taken_away(make_workspace, make_app, drive, settled, screen_text):
    lines = [
        {"id": f"r{n:04}", "instruction": "Find the needle." if n in (3, 419, 450) else f"Say {n}.", "output": f"{n}!"}
        for n in range(600)
    ]
    app = make_app(make_workspace(lines))

    async def story(pilot):
        await pilot.press("g", "b", "slash", *"needle", "enter")
        await settled(pilot)
        await pilot.pause(0.3)
        await pilot.press("j")
        await settled(pilot)
        assert app.screen.query_one("#rows", FrameTable).current == "r0419"
        await pilot.press("escape")
        await pilot.pause(0.3)
        await settled(pilot)
        assert re.search(r"^> +r0419", screen_text(app), re.M)

    drive(app, story)


SECRET = "AKIA2QWERZ7SAMP4LE9Q"
FOUND = [
    {"id": "a", "instruction": "Name a colour.", "output": "Blue.", "category": "x"},
    {"id": "b", "instruction": "Which key?", "output": f"Use {SECRET} as the key id.", "category": "x"},
    {"id": "c", "instruction": "Say nothing at all, please.", "output": "", "category": "x"},
    {"id": "d", "instruction": "When is my bill due?", "output": "On the 5th."},
]
KNOWN = '[split]\nseed = 1\n[checks]\nmin_category = 0\n[categories.x]\nscorer = "exact"\n'


async def opened_from_validate(app, pilot, settled, code):
    """Open the record of the first finding with ``code`` from Validate."""
    await pilot.press("g", "v")
    await settled(pilot)
    await pilot.press("slash", *code, "enter", "n", "enter")
    await settled(pilot)
    await settled(pilot)


@pytest.mark.ci
@pytest.mark.parametrize("size", [(80, 24), (100, 30)], ids=str)
@pytest.mark.parametrize(("code", "pointer"), [("X702", "/output"), ("Q201", "/output"), ("L404", "/category")])
def test_edit_says_what_it_was_opened_for_with_the_cursor_in_the_field(
    make_workspace, make_app, drive, settled, screen_text, code, pointer, size
):
    app = make_app(make_workspace(FOUND, KNOWN))

    async def story(pilot):
        await opened_from_validate(app, pilot, settled, code)
        assert app.current_mode == "edit"
        text = screen_text(app)
        assert f"! error {code}" in text
        assert f"in {pointer}" in text
        assert app.screen.query_one(FormView).sheet.focused_pointer() == pointer
        assert "* required   ok" not in text

    drive(app, story, size=size)


@pytest.mark.ci
def test_what_was_fixed_is_said_to_be_so_when_it_is_saved(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace(FOUND, KNOWN)
    app = make_app(workspace)

    async def story(pilot):
        await opened_from_validate(app, pilot, settled, "Q201")
        assert isinstance(app.focused, TextArea)
        await pilot.press(*"Silence", "ctrl+s")
        await settled(pilot)
        text = screen_text(app)
        assert "! error Q201" not in text
        assert "Q201 empty-completion  is no longer found" in text
        assert "* required   ok" in text

    drive(app, story)


@pytest.mark.ci
def test_a_finding_about_a_whole_file_says_so(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace(FOUND, KNOWN)
    (workspace.root / "data" / "b.jsonl").write_bytes(b"")
    app = make_app(workspace)

    async def story(pilot):
        await opened_from_validate(app, pilot, settled, "S121")
        assert app.current_mode == "validate"
        assert "is about the whole file data/b.jsonl" in " ".join(screen_text(app).split())

    drive(app, story)
