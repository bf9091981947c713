"""ShareGPT: conversations of from and value, with function calls, observations and tools in LLaMA-Factory's way."""

from __future__ import annotations

from collections.abc import Mapping

from curate.base.record import TRACES, Json, thought
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import (
    json_name,
    read_tools,
    reasoning_of,
    rendered,
    take_common,
    training_marks,
)
from curate.jsonl import JsonFault, strict_loads

_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "observation": "tool", "function_call": "assistant"}
_ALIASES = {
    "user": "human", "assistant": "gpt", "chatgpt": "gpt", "bot": "gpt", "model": "gpt", "tool": "observation",
    "function_response": "observation", "tool_response": "observation", "tool_call": "function_call",
}  # fmt: skip


def _is_turn(turn: Json) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("from"), str) and "value" in turn


def _is_sharegpt(row: dict[str, Json]) -> bool:
    turns = row.get("conversations")
    return isinstance(turns, list) and bool(turns) and all(map(_is_turn, turns))


@importer(
    "sharegpt",
    fits=_is_sharegpt,
    samples=[
        {"id": "a1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
        {
            "conversations": [
                {"from": "human", "value": "Where is order 7?"},
                {"from": "function_call", "value": '{"name": "find", "arguments": {"order": 7}}'},
                {"from": "observation", "value": "on its way"},
                {"from": "gpt", "value": "It is on its way."},
            ],
            "tools": '[{"name": "find", "parameters": {"type": "object"}}]',
        },
    ],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """ShareGPT rows: human, gpt, system, observation and function_call turns, and tools as JSON text."""
    line, extra = take_common(row, ("conversations", "tools", "system"))
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise RowError("'conversations' is not a list of turns")
    messages, is_exact = read_turns(turns)
    if "system" in row:
        extra["system"] = row["system"]
        if isinstance(row["system"], str) and row["system"]:
            messages.insert(0, {"role": "system", "content": row["system"]})
            # ShareGPT has the system text beside the turns; as a turn it is not where it was.
            is_exact = False
        elif row["system"]:
            raise RowError("'system' is not text")
    if not is_exact:
        extra["conversations"] = turns
    line["messages"] = messages
    if "tools" in row:
        tools, _ = read_tools(row["tools"])
        if tools:
            line["tools"] = tools
        if not tools or row["tools"] != rendered([tool["function"] for tool in tools]):
            extra["tools"] = row["tools"]
    return ConvertedRow("chat", line, extra)


def read_turns(turns: list[Json]) -> tuple[list[dict[str, Json]], bool]:
    """Return turns of from and value as messages, and whether these hold all that the turns say.

    Raises:
        RowError: a turn that cannot be read, with its number.
    """
    messages: list[dict[str, Json]] = []
    is_exact = True
    for number, turn in enumerate(turns, start=1):
        if not _is_turn(turn):
            raise RowError(f"turn {number} has no 'from' and 'value'")
        name = _ALIASES.get(turn["from"], turn["from"])
        if name not in _ROLES:
            raise RowError(f"turn {number} is from neither {', '.join(_ROLES)}")
        if not isinstance(turn["value"], str):
            raise RowError(f"the value of turn {number} is {json_name(turn['value'])}, not text")
        is_exact = is_exact and name == turn["from"] and set(turn) <= {"from", "value", TRACES[0]}
        if name == "function_call":
            calls, is_call_exact = _read_calls(turn["value"], number)
            is_exact = is_exact and is_call_exact
            message: dict[str, Json] = {"role": "assistant", "content": None, "tool_calls": calls}
        else:
            message = {"role": _ROLES[name], "content": turn["value"]}
        is_answer = message["role"] == "assistant"
        if trace := reasoning_of(turn, f"turn {number}", is_answer=is_answer):
            message[TRACES[0]] = trace
            # Our own export says it twice: for trainers, which read the value, and to come back.
            is_exact = is_exact and turn["value"].startswith(thought(trace))
            if name == "gpt":
                message["content"] = turn["value"].removeprefix(thought(trace))
        messages.append(message | training_marks(turn, f"turn {number}", is_answer=is_answer))
    return messages, is_exact


def _read_calls(text: str, number: int) -> tuple[list[dict[str, Json]], bool]:
    """Return the tool calls written in ``text``, and whether their usual spelling is that very text."""
    try:
        value = strict_loads(text.encode())
    except JsonFault as error:
        raise RowError(f"the function call of turn {number} is not JSON") from error
    calls = value if isinstance(value, list) else [value]
    read_calls: list[dict[str, Json]] = []
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise RowError(f"the function call of turn {number} has no name")
        arguments = call.get("arguments", {})
        if not isinstance(arguments, str | dict):
            raise RowError(f"the arguments of the function call of turn {number} are neither text nor an object")
        read_calls.append({"type": "function", "function": {"name": call["name"], "arguments": arguments}})
    if not read_calls:
        raise RowError(f"turn {number} calls no function")
    usual = [{"name": call["function"]["name"], "arguments": call["function"]["arguments"]} for call in read_calls]
    return read_calls, rendered(usual[0] if len(usual) == 1 else usual) == text
