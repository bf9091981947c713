"""Edit in a list: f7 goes on, a finding brings its remedies, and each text can be undone, found in and shown whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from curate.base.record import Finding
from curate.project.project import open_project
from curate.sessions.problems import problems_of
from curate.tui.remedies import Remedies
from curate.tui.screens.edit.inputs import AreaField
from tests.curate.tui.edited import Settled, edit_of, go_to, record_in, type_in

pytestmark = pytest.mark.ci

SECRET = "Use AKIA2QWERZ7SAMP4LE9Q as the key id."
LINES = [
    {"id": "a", "instruction": "Which key id do I use?", "output": SECRET},
    {"id": "b", "instruction": "How do I log in?", "output": SECRET},
    {"id": "c", "instruction": "Where is my parcel?", "output": ""},
    {"id": "d", "instruction": "When do you open?", "output": "OÃ¹ est le cafÃ©?"},
]


class Entries:
    """A list of what to open, as a screen would hand it over."""

    NAME = "browse"

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.entries = entries

    def neighbour(self, opened: Mapping[str, Any], by: int) -> dict[str, Any] | None:
        index = self.entries.index(dict(opened)) + by
        return self.entries[index] if 0 <= index < len(self.entries) else None

    def position(self, opened: Mapping[str, Any]) -> str:
        return f"finding {self.entries.index(dict(opened)) + 1} of {len(self.entries)}"


@pytest.fixture
def found(make_workspace: Any) -> tuple[Any, Entries]:
    """Return a workspace with findings, and the list of them in the order of the records."""
    workspace = make_workspace(LINES)
    with open_project(workspace.root, "ana") as project:
        project.load()
        problems = problems_of(project).search()
        findings = [finding for line in LINES for finding in problems.of_record(str(line["id"]))]
    wanted = [finding for finding in findings if finding.code in ("X702", "Q201")]
    return workspace, Entries([{"record": finding.record, "finding": finding} for finding in wanted])


def finding_of(pilot: Pilot[Any]) -> Finding | None:
    finding: Finding | None = pilot.app.screen._finding_line.finding
    return finding


async def arrived(pilot: Pilot[Any], settled: Settled, entries: Entries, index: int = 0) -> None:
    """Come from Browse to an entry of the list, with the problems known."""
    problems_of(pilot.app.project).search()
    await pilot.press("g", "b")
    await settled(pilot)
    pilot.app.go("edit", **entries.entries[index], listing=entries)
    await settled(pilot)


def test_f7_saves_and_opens_the_next_finding_and_at_the_end_the_list(
    found: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace, entries = found

    async def story(pilot: Pilot[Any]) -> None:
        await arrived(pilot, settled, entries)
        assert "finding 1 of 3" in screen_text(pilot.app)
        pilot.app.focused.select_all()
        await type_in(pilot, "Yours.")
        await pilot.press("f7")
        await settled(pilot)
        assert (edit_of(pilot).name, pilot.app.focused.pointer) == ("b", "/output")
        assert "finding 2 of 3" in screen_text(pilot.app)
        assert "saved a: output" in screen_text(pilot.app)
        await pilot.press("f7")
        await settled(pilot)
        await type_in(pilot, "On its way.")
        await pilot.press("f7")
        await settled(pilot)
        assert pilot.app.current_mode == "browse"
        assert "That was the last one of the list." in screen_text(pilot.app)
        pilot.app.go("edit")
        await settled(pilot)

    edit_story(workspace, story)
    assert [record_in(workspace, name)["output"] for name in "abc"] == ["Yours.", SECRET, "On its way."]


def test_f7_stays_where_nothing_can_be_saved(found: Any, edit_story: Any, settled: Settled, screen_text: Any) -> None:
    workspace, entries = found

    async def story(pilot: Pilot[Any]) -> None:
        await arrived(pilot, settled, entries)
        await pilot.press("shift+tab", "shift+tab", "f8", "f7")
        await settled(pilot)
        assert "E972" in screen_text(pilot.app)
        assert edit_of(pilot).name == "a"
        await pilot.press("ctrl+z")

    edit_story(workspace, story)
    assert record_in(workspace, "a") == LINES[0]


def test_f7_without_a_list_says_so(make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        await pilot.press("f7")
        await settled(pilot)
        assert "There is no list to go on in." in screen_text(pilot.app)

    edit_story(make_workspace(LINES), story, record="a")


def test_a_finding_is_redacted_and_the_next_one_open_by_two_keys(
    found: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace, entries = found

    async def story(pilot: Pilot[Any]) -> None:
        await arrived(pilot, settled, entries)
        await pilot.press("ctrl+r")
        await settled(pilot)
        text = screen_text(pilot.app)
        assert "r  redact this record" in text
        assert "a  redact all 2 records with X702" in text
        assert "AKIA2QWERZ7SAMP4LE9Q" not in text[text.index("r  redact") :].splitlines()[0]
        await pilot.press("r")
        await settled(pilot)
        assert edit_of(pilot).name == "b"
        assert "redacted 1 record" in screen_text(pilot.app)

    edit_story(workspace, story)
    assert record_in(workspace, "a")["output"] == "Use [SECRET_1] as the key id."
    assert record_in(workspace, "b")["output"] == SECRET


def test_all_alike_are_redacted_as_one_act(found: Any, edit_story: Any, settled: Settled) -> None:
    workspace, entries = found

    async def story(pilot: Pilot[Any]) -> None:
        await arrived(pilot, settled, entries)
        await pilot.press("ctrl+r", "a")
        await settled(pilot)
        assert record_in(workspace, "b")["output"] == record_in(workspace, "a")["output"] != SECRET
        await pilot.press("escape", "u")
        await settled(pilot)

    edit_story(workspace, story)
    assert [record_in(workspace, name)["output"] for name in "ab"] == [SECRET, SECRET]


def test_a_record_is_dropped_or_excused(found: Any, edit_story: Any, settled: Settled, screen_text: Any) -> None:
    workspace, entries = found

    async def story(pilot: Pilot[Any]) -> None:
        await arrived(pilot, settled, entries)
        await pilot.press("ctrl+r", "d")
        await settled(pilot)
        assert pilot.app.project.state("a").dropped is not None
        assert edit_of(pilot).name == "b"
        await pilot.press("ctrl+r", "i")
        await settled(pilot)
        assert edit_of(pilot).name == "c"
        await pilot.press("ctrl+r", "escape")
        await settled(pilot)
        assert not isinstance(pilot.app.screen, Remedies)
        await pilot.press("enter", "x")
        await pilot.press("ctrl+r")
        await settled(pilot)
        assert "What you typed is not saved yet." in screen_text(pilot.app)

    edit_story(workspace, story)
    assert record_in(workspace, "b")["x-ignore"] == ["X702"]


def test_remedies_without_a_list_stay_and_say_what_is_mended(
    found: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace, _ = found

    async def story(pilot: Pilot[Any]) -> None:
        problems = problems_of(pilot.app.project).search()
        finding = next(one for one in problems.of_record("d") if problems_of(pilot.app.project).mending(one))
        pilot.app.go("edit", record="d", finding=finding)
        await settled(pilot)
        await pilot.press("ctrl+r", "f")
        await settled(pilot)
        assert edit_of(pilot).name == "d"
        assert f"{finding.code} {finding.name}  is no longer found" in screen_text(pilot.app)
        assert finding_of(pilot) is None
        await pilot.press("ctrl+r")
        await settled(pilot)
        assert "No finding of a record is open." in screen_text(pilot.app)

    edit_story(workspace, story)
    assert record_in(workspace, "d") != LINES[3]


def test_save_and_new_keeps_the_category(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_workspace()

    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "New: ")
        await pilot.press("ctrl+n")
        await settled(pilot)
        edit = edit_of(pilot)
        assert (edit.is_new, edit.is_changed, edit.category) == (True, False, "billing")
        assert pilot.app.focused.pointer == "/instruction"

    edit_story(workspace, story, record="r003", pointer="/output")


# -- one text ---------------------------------------------------------------------------------------------------------


def test_typing_is_taken_back_word_by_word_and_made_again(
    make_workspace: Any, edit_story: Any, settled: Settled
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        area = pilot.app.focused
        await type_in(pilot, "one two three")
        for left in ("one two ", "one ", ""):
            await pilot.press("ctrl+z")
            await settled(pilot)
            assert area.text == left
        assert pilot.app.focused is area
        for again in ("one ", "one two ", "one two three"):
            await pilot.press("ctrl+y")
            await settled(pilot)
            assert area.text == again
            assert area.cursor_location == (0, len(again))
        await pilot.press("f3", "X")
        await settled(pilot)
        await pilot.press("ctrl+y")
        await settled(pilot)
        assert area.text == "one two X"

    edit_story(make_workspace(LINES), story, record="c", pointer="/output")


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (140, 45)], ids=str)
def test_one_text_gets_the_whole_screen_and_is_looked_through(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any, size: tuple[int, int]
) -> None:
    text = "\n".join(f"line {number}" + (" Needle" if number % 20 == 7 else "") for number in range(60))

    async def story(pilot: Pilot[Any]) -> None:
        area = pilot.app.focused
        assert isinstance(area, AreaField)
        await pilot.press("f12")
        await settled(pilot)
        assert area.size.height >= size[1] - 10
        assert (
            "instruction" not in screen_text(pilot.app).split("FORM")[1].split("\n", 1)[1].replace("output", "")[:200]
        )
        await pilot.press("ctrl+home", "ctrl+f")
        await type_in(pilot, "needle")
        for number in ("1 of 3", "2 of 3", "3 of 3", "1 of 3"):
            await pilot.press("enter")
            await settled(pilot)
            assert f"needle  {number}" in screen_text(pilot.app)
            assert "Needle" in screen_text(pilot.app)
        await pilot.press("escape")
        assert pilot.app.focused is area
        assert area.selected_text == "Needle"
        await type_in(pilot, "X")
        await pilot.press("escape")
        await settled(pilot)
        assert area.size.height <= 12
        assert pilot.app.focused is area, "esc closes the whole screen before it leaves the text"
        assert edit_of(pilot).form.to_line()["output"].startswith("line 0\nline 1\n")
        assert "line 7 X\n" in edit_of(pilot).form.to_line()["output"]

    edit_story(make_workspace([{**LINES[0], "output": text}]), story, size=size, record="a", pointer="/output")


def test_a_long_paste_is_one_change(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    pasted = ("word " * 19 + "end.\n") * 1000

    async def story(pilot: Pilot[Any]) -> None:
        pilot.app.post_message(events.Paste(pasted))
        await settled(pilot)
        assert edit_of(pilot).form.to_line()["output"] == pasted + SECRET
        await pilot.press("ctrl+z")
        await settled(pilot)
        assert not edit_of(pilot).is_changed

    edit_story(make_workspace(LINES), story, record="a", pointer="/output")


@pytest.mark.parametrize("pointer", ["/output", "/split"])
def test_leaving_the_app_asks_while_something_is_unsaved(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any, pointer: str
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        await type_in(pilot, "x")
        if pointer == "/output":
            await pilot.press("escape")
        else:
            await go_to(pilot, settled, pointer)
        await pilot.press("q")
        await settled(pilot)
        assert "what you typed is not saved. Quit all the same?" in " ".join(screen_text(pilot.app).split())
        await pilot.press("n")
        await settled(pilot)
        await go_to(pilot, settled, "/output")

    edit_story(make_workspace(LINES), story, record="a", pointer="/output")
