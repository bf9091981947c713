"""The table that draws only what is in sight."""

from __future__ import annotations

import asyncio

import pytest
from textual.app import App
from textual.geometry import Region

from curate.tui.frame_table import Column, FrameTable

COLUMNS = [
    Column("id", 8),
    Column("st", 8, tone=lambda value: "error" if value.startswith("!") else ""),
    Column("prompt"),
]


class Million:
    """A million rows, made as they are asked for; counts how many were."""

    asked = 0

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, window: slice):
        numbers = range(len(self))[window]
        self.asked += len(numbers)
        return [(f"r{number}", "! error" if number % 7 == 0 else "ok", f"text [/b] {number}") for number in numbers]


def drive(source, story, size=(60, 12), **options):
    seen = []

    class Host(App):
        CSS_PATH = None

        def compose(self):
            yield FrameTable(COLUMNS, source, **options)

        def on_frame_table_moved(self, event):
            seen.append(("moved", event.row, event.key))

        def on_frame_table_opened(self, event):
            seen.append(("opened", event.row, event.key))

        def on_frame_table_marked(self, event):
            seen.append(("marked", *sorted(self.query_one(FrameTable).marks)))

    async def main():
        app = Host()
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await story(pilot, app.query_one(FrameTable))
            await pilot.pause()

    asyncio.run(main())
    return seen


def lines(table):
    return [table.render_line(y).text for y in range(table.size.height)]


def test_only_what_is_in_sight_is_asked_for() -> None:
    source = Million()

    async def story(pilot, table):
        assert "r0 " in lines(table)[1]
        await pilot.press("G")
        await pilot.pause()
        assert table.current == "r999999"
        assert "r999999" in lines(table)[-1]
        await pilot.press("home")
        assert table.current == "r0"

    drive(source, story)
    assert source.asked <= 8 * 256


@pytest.mark.parametrize("width", [20, 60, 140])
def test_every_line_is_as_wide_as_the_table(width) -> None:
    rows = [("日本語", "ok", "wide 😀 and e\u0301"), ("r\n2", "! error", "x" * 500), ("\x1b[2J", "\u202e", "")]

    async def story(pilot, table):
        assert {table.render_line(y).cell_length for y in range(table.size.height)} == {table.size.width}
        assert "\x1b" not in "".join(lines(table))

    drive(rows, story, size=(width, 10))


def test_keys_move_and_stay_inside() -> None:
    async def story(pilot, table):
        height = table.scrollable_content_region.height - 1
        for keys, row in (("j", 1), ("k", 0), ("up", 0), ("pagedown", height), ("ctrl+d", height + height // 2),
                          ("ctrl+u", height), ("end", 99), ("down", 99), ("home", 0)):  # fmt: skip
            await pilot.press(keys)
            assert table.cursor == row, keys
        assert table.scroll_offset.y == 0

    drive([(f"r{n}", "ok", "x") for n in range(100)], story)


@pytest.mark.draws
def test_a_step_or_a_mark_draws_two_lines_and_no_others(monkeypatch) -> None:
    real, drawn = FrameTable.render_line, set()
    monkeypatch.setattr(FrameTable, "render_line", lambda self, y: drawn.add(y) or real(self, y))

    async def story(pilot, table):
        for key, wanted in (("j", {1, 2}), ("space", {2, 3}), ("G", set(range(1, 12))), ("space", {11}),
                            ("k", {10, 11}), ("v", set(range(12)))):  # fmt: skip
            await pilot.pause()
            drawn.clear()
            await pilot.press(key)
            await pilot.pause()
            assert drawn in (wanted, wanted | {0}), key
            # What was not drawn again is as it would be.
            seen = [strip.text for strip in table.render_lines(Region(0, 0, *table.size))]
            assert seen == lines(table)

    drive([(f"r{n}", "ok", "x") for n in range(100)], story)


def test_marks_stay_with_their_rows_when_others_come() -> None:
    rows = [(f"r{n}", "ok", "x") for n in range(20)]

    async def story(pilot, table):
        await pilot.press("space", "space")
        assert table.marks == {"r0", "r1"}
        assert table.cursor == 2
        await pilot.press("v", "j", "j", "space")
        assert table.marks == {"r0", "r1", "r2", "r3", "r4"}
        table.show(rows[::-1], at="r3")
        assert table.current == "r3"
        assert table.chosen() == ["r0", "r1", "r2", "r3", "r4"]
        assert ">* r3" in "\n".join(lines(table))
        table.clear_marks()
        assert table.chosen() == ["r3"]

    seen = drive(rows, story)
    assert ("marked", "r0", "r1") in seen
    assert seen[-1][0] in ("moved", "marked")


def test_a_range_ends_with_escape() -> None:
    async def story(pilot, table):
        await pilot.press("v", "j", "j")
        assert list(table.span) == [0, 1, 2]
        assert lines(table)[1].startswith(" +")
        await pilot.press("escape")
        assert list(table.span) == [2]
        assert not table.marks

    drive([(f"r{n}", "ok", "x") for n in range(9)], story)


def test_a_click_goes_there_a_second_one_opens_and_one_in_the_gutter_marks() -> None:
    async def story(pilot, table):
        await pilot.click(FrameTable, offset=(10, 4))
        assert table.cursor == 3
        await pilot.click(FrameTable, offset=(10, 4), times=2)
        await pilot.click(FrameTable, offset=(0, 2))
        assert table.marks == {"r1"}
        await pilot.click(FrameTable, offset=(10, 0))
        await pilot.press("enter")

    seen = drive([(f"r{n}", "ok", "x") for n in range(9)], story)
    assert ("opened", 3, "r3") in seen
    assert ("moved", 3, "r3") in seen
    assert seen[-1] == ("opened", 2, "r2"), "marking went on to the next row, and enter opens that"


def test_nothing_to_show_is_no_trouble() -> None:
    async def story(pilot, table):
        await pilot.press("j", "space", "v", "enter", "end")
        assert table.current == ""
        assert table.chosen() == []
        assert table.cursor == 0
        table.show([("a", "ok", "b")])
        assert table.current == "a"
        table.show([])
        assert table.current == ""

    seen = drive([], story)
    assert not [one for one in seen if one[0] == "opened"]


def test_a_row_may_hold_more_than_is_shown_and_be_named_by_it() -> None:
    async def story(pilot, table):
        assert table.current == "the-name"
        assert "the-name" not in "".join(lines(table))

    drive([("r0", "ok", "x", "the-name")], story, key=3)


def test_a_table_that_cannot_mark_leaves_the_keys_to_others() -> None:
    async def story(pilot, table):
        await pilot.press("space", "v")
        assert not table.marks
        assert list(table.span) == [0]

    drive([("r0", "ok", "x")], story, can_mark=False)
