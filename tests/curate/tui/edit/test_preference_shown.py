"""A preference under edit: both answers beside one another, with the words marked that differ."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from tests.curate.tui.browsing import browse
from tests.curate.tui.edited import Settled, edit_of, go_to, record_in, type_in

pytestmark = pytest.mark.ci

LINE = {"id": "p1", "prompt": "Where is it?", "chosen": "It is on its way home.", "rejected": "It is on no way."}
RATED = {
    "id": "p2", "prompt": "Add 2 and 3.",
    "answers": [{"content": "6", "rating": 1}, {"content": "5", "rating": 4}, {"content": "7", "rating": 2}],
}  # fmt: skip

CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": {"n": 4}}}
REASONED = {
    "id": "p3", "prompt": "Add 4.",
    "chosen": [{"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "A tool adds."},
               {"role": "tool", "content": "7"}, {"role": "assistant", "content": "It is 7."}],
    "rejected": [{"role": "assistant", "content": "It is 8.", "reasoning_content": "I add."}],
}  # fmt: skip


@pytest.mark.parametrize("size", [(80, 24), (200, 40)])
def test_both_answers_are_shown_with_what_differs(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any, size: tuple[int, int]
) -> None:
    workspace = make_workspace([LINE], 'schema = "preference"\n')
    seen: list[str] = []

    async def story(pilot: Pilot[Any]) -> None:
        if size[0] < 100:
            await pilot.press("f2")
        await settled(pilot)
        seen.append(screen_text(pilot.app))

    edit_story(workspace, story, record="p1", size=size)
    head = next(row for row in seen[0].splitlines() if "ASSISTANT (CHOSEN)" in row)
    assert "ASSISTANT (REJECTED)" in head
    assert "[its ]" in seen[0] or "[its" in seen[0]
    assert "[no" in seen[0]


def test_an_answer_of_several_turns_says_who_speaks(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    workspace = make_workspace([REASONED], 'schema = "preference"\n')
    seen: list[str] = []

    async def story(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        seen.append(screen_text(pilot.app))
        await pilot.press("f2", "f2")
        await settled(pilot)
        seen.append(screen_text(pilot.app))

    edit_story(workspace, story, record="p3", size=(200, 50))
    for who in ("<|reasoning|> [A tool", "<|assistant|>", "<|tool|>", "<|reasoning|> [I"):
        assert who in seen[0]
    # The names are as wide as the longest, and each is parted from its number.
    assert "assistant (rejected)  ~" in seen[1]
    assert "in all                ~" in seen[1]


def test_a_rejected_answer_is_edited_and_saved(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_workspace([LINE], 'schema = "preference"\n')

    async def story(pilot: Pilot[Any]) -> None:
        await go_to(pilot, settled, "/rejected")
        await pilot.press("end")
        await type_in(pilot, " Sorry")
        await settled(pilot)
        assert edit_of(pilot).form.to_line()["rejected"].endswith("Sorry")
        await pilot.press("ctrl+s")
        await settled(pilot)

    edit_story(workspace, story, record="p1", size=(100, 30))
    assert record_in(workspace, "p1")["rejected"] == "It is on no way. Sorry"


def test_browse_shows_what_each_answer_is_worth(
    make_workspace: Any, make_app: Any, drive: Any, settled: Settled, screen_text: Any
) -> None:
    app = make_app(make_workspace([RATED], 'schema = "preference"\n'))

    async def story(pilot: Pilot[Any]) -> None:
        await browse(pilot, settled, "enter")
        await pilot.pause(0.3)
        await settled(pilot)
        text = screen_text(app)
        assert text.index("(RATED 4)") < text.index("(RATED 2)") < text.index("(RATED 1)")

    drive(app, story, size=(120, 40))
