"""A conversation in Edit: turns, roles, calls with their arguments, and as few keys as that takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from textual.pilot import Pilot

from curate.tui.screens.edit.inputs import AreaField
from curate.tui.screens.edit.view import FormView
from tests.curate.tui.edited import Settled, edit_of, go_to, names_in, record_in, type_in

pytestmark = pytest.mark.ci

CHAT = 'schema = "chat"\n[split]\nseed = 1\n'
PARAMETERS = {
    "type": "object",
    "required": ["city"],
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
OTHER = {"type": "function", "function": {"name": "get_time", "parameters": {"$ref": "#/$defs/none"}}}


def call(arguments: Any, name: str = "get_weather") -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def weather(arguments: Any, *tools: Any) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": None, "reasoning_content": "I ask the tool.", "tool_calls": [call(arguments)]},
        {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "4"},
        {"role": "assistant", "content": "It is 4 degrees."},
    ]
    return {"id": "c1", "messages": turns, "tools": list(tools or (TOOL,))}


async def keys(pilot: Pilot[Any], settled: Settled, *pressed: str) -> int:
    """Press keys that are no text, and return how many they were."""
    for key in pressed:
        await pilot.press(key)
        await settled(pilot)
    return len(pressed)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30), (140, 45)], ids=str)
def test_turns_stand_at_the_full_width(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any, size: tuple[int, int]
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        text = screen_text(pilot.app)
        assert ("PREVIEW" in text) == (size[0] >= 140)
        area = next(one for one in pilot.app.screen.query(AreaField) if one.pointer == "/messages/0/content")
        form = pilot.app.screen.query_one("#fields")
        assert area.size.width >= form.size.width - 6
        await go_to(pilot, settled, "/messages/2/content")
        text = screen_text(pilot.app)
        if size[1] >= 30:
            assert "+ reasoning 4 words; enter opens" in text
            assert '"name": "get_weather"' in text
            assert "- 2 assistant  * trained" in text
        assert "- 3 tool  get_weather  answers call_1" in text
        if size[0] < 140:
            await keys(pilot, settled, "f2")
            assert "<|user|> Weather in Oslo?" in screen_text(pilot.app)
            await keys(pilot, settled, "escape")
            assert "- 3 tool" in screen_text(pilot.app)

    edit_story(make_workspace([weather('{"city": "Oslo"}')], CHAT), story, size=size, record="c1")


@pytest.mark.parametrize("arguments", ['{"city": ', "[1]", '{"city": "a", "city": "b"}', {"other": [1]}, {}])
def test_arguments_that_are_no_fields_come_back_as_they_were(
    make_workspace: Any, edit_story: Any, settled: Settled, arguments: Any
) -> None:
    line = weather(
        arguments, OTHER, {"type": "function", "function": {"name": "get_weather", "parameters": {"properties": 3}}}
    )
    workspace = make_workspace([line], CHAT)

    async def story(pilot: Pilot[Any]) -> None:
        assert edit_of(pilot).form.to_line() == line
        await keys(pilot, settled, "end", "!", "ctrl+s")

    edit_story(workspace, story, record="c1", pointer="/messages/3/content")
    assert record_in(workspace, "c1")["messages"][1] == line["messages"][1]


def test_roles_follow_by_themselves_and_f6_changes_them(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_workspace([weather('{"city": "Oslo"}')], CHAT)

    async def story(pilot: Pilot[Any]) -> None:
        await keys(pilot, settled, "f9")
        await type_in(pilot, "Thanks")
        await keys(pilot, settled, "f9", "f5", "f9")
        await type_in(pilot, "20")
        await keys(pilot, settled, "f9")
        await type_in(pilot, "Warm")
        roles = [turn["role"] for turn in edit_of(pilot).form.to_line()["messages"]]
        assert roles[4:] == ["user", "assistant", "tool", "assistant"]
        await keys(pilot, settled, "f6")
        assert edit_of(pilot).form.to_line()["messages"][7]["role"] == "tool"
        await keys(pilot, settled, "f6", "f6", "f6", "f6", "ctrl+s")

    edit_story(workspace, story, record="c1", pointer="/messages/3/content")
    saved = record_in(workspace, "c1")["messages"]
    assert saved[5]["tool_calls"] == [{**call("{}"), "id": "call_2"}]
    assert saved[6] == {"role": "tool", "tool_call_id": "call_2", "name": "get_weather", "content": "20"}
    assert saved[7] == {"role": "assistant", "content": "Warm"}


def test_only_an_assistant_calls_tools_and_the_calls_go_whole(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        await keys(pilot, settled, "f5")
        assert "Only an assistant's turn calls tools." in screen_text(pilot.app)
        await go_to(pilot, settled, "/messages/1/tool_calls")
        await keys(pilot, settled, "f8")
        assert "tool_calls" not in edit_of(pilot).form.to_line()["messages"][1]
        await keys(pilot, settled, "ctrl+z")
        assert not edit_of(pilot).is_changed
        await keys(pilot, settled, "ctrl+y")
        assert "tool_calls" not in edit_of(pilot).form.to_line()["messages"][1]

    edit_story(make_workspace([weather("{}")], CHAT), story, record="c1", pointer="/messages/0/content")


def test_a_preference_has_turns_too(make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any) -> None:
    line = {
        "id": "p1",
        "messages": [
            {"role": "user", "content": "2 + 3?"},
            {"role": "assistant", "content": "Hm."},
            {"role": "user", "content": "So?"},
        ],
        "chosen": [{"role": "assistant", "content": "5"}],
        "rejected": "6",
    }
    workspace = make_workspace([line], 'schema = "preference"\n')

    async def story(pilot: Pilot[Any]) -> None:
        text = screen_text(pilot.app)
        assert "- 2 assistant ───" in text, "the conversation before the answers is not learnt"
        assert "- 1 assistant  * trained" in text
        await keys(pilot, settled, "end", "!", "ctrl+s")

    edit_story(workspace, story, record="p1", pointer="/chosen/0/content", size=(100, 40))
    assert record_in(workspace, "p1") == {**line, "chosen": [{"role": "assistant", "content": "5!"}]}


def test_a_new_instruction_takes_at_most_five_keys(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    workspace = make_workspace()
    before = set(names_in(workspace))

    async def story(pilot: Pilot[Any]) -> None:
        number = await keys(pilot, settled, "n")
        await type_in(pilot, "Say hello.")
        number += await keys(pilot, settled, "tab", "tab")
        await type_in(pilot, "Hello.")
        number += await keys(pilot, settled, "ctrl+s")
        assert number <= 5

    edit_story(workspace, story)
    (name,) = set(names_in(workspace)) - before
    assert record_in(workspace, name) == {"id": name, "instruction": "Say hello.", "output": "Hello."}


def test_a_chat_with_a_call_its_result_and_an_answer_takes_at_most_16_keys(
    make_workspace: Any, edit_story: Any, settled: Settled
) -> None:
    workspace = make_workspace([weather("{}")], CHAT)

    async def story(pilot: Pilot[Any]) -> None:
        number = await keys(pilot, settled, "n")
        await type_in(pilot, "Weather in Rome?")
        number += await keys(pilot, settled, "f9", "f5")
        pilot.app.focused.select_all()
        await type_in(pilot, json.dumps([call('{"city": "Rome"}')]))
        number += 1 + await keys(pilot, settled, "f9")
        await type_in(pilot, "20")
        number += await keys(pilot, settled, "f9")
        await type_in(pilot, "It is 20 degrees.")
        number += await keys(pilot, settled, "ctrl+s")
        assert number <= 16

    edit_story(workspace, story)
    (name,) = set(names_in(workspace)) - {"c1"}
    saved = record_in(workspace, name)["messages"]
    assert [turn["role"] for turn in saved] == ["user", "assistant", "tool", "assistant"]
    assert json.loads(saved[1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Rome"}
    assert saved[2] == {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "20"}


def test_a_folded_card_shows_the_faults_inside(
    make_workspace: Any, edit_story: Any, settled: Settled, screen_text: Any
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        edit_of(pilot).form.leave_out("/messages/2/content")
        edit_of(pilot).form.leave_out("/messages/2/content")
        await pilot.app.screen.query_one(FormView).rebuild()
        await go_to(pilot, settled, "/messages/2")
        await keys(pilot, settled, "enter")
        shown = screen_text(pilot.app).splitlines()
        place = next(number for number, line in enumerate(shown) if "+ 3 tool" in line)
        assert "! error content: 'content' is missing" in shown[place + 1]

    edit_story(make_workspace([weather("{}")], CHAT), story, record="c1")


def test_u_takes_back_what_was_typed_before_it_takes_back_decisions(
    make_workspace: Any, edit_story: Any, settled: Settled
) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        edit = edit_of(pilot)
        await keys(pilot, settled, "x")
        assert not edit.form.to_line().get("messages")
        await keys(pilot, settled, "u")
        assert len(edit.form.to_line()["messages"]) == 4
        assert not edit.is_changed
        await keys(pilot, settled, "u")
        assert "nothing to undo" in pilot.app.message.plain

    edit_story(make_workspace([weather('{"city": "Oslo"}')], CHAT), story, record="c1", pointer="/messages")


def test_a_on_a_card_adds_the_turn_that_follows(make_workspace: Any, edit_story: Any, settled: Settled) -> None:
    async def story(pilot: Pilot[Any]) -> None:
        await keys(pilot, settled, "a")
        assert edit_of(pilot).form.to_line()["messages"][4]["role"] == "user"

    edit_story(make_workspace([weather('{"city": "Oslo"}')], CHAT), story, record="c1", pointer="/messages")
