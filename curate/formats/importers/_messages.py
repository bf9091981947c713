"""Messages in OpenAI form: what OpenAI chat files and TRL files share."""

from __future__ import annotations

from typing import Any

from curate.base.record import MOST_WEIGHT, Json
from curate.formats.importers._fields import json_name
from curate.formats.importers._registry import RowError
from curate.jsonl import JsonFault, strict_loads

ROLES = ("system", "developer", "user", "assistant", "tool")
_KNOWN = ("role", "content", "name", "tool_calls", "tool_call_id")
_FUNCTION: dict[str, type[Any] | tuple[type[Any], ...]] = {
    "name": str,
    "description": str,
    "parameters": dict,
    "strict": (bool, type(None)),
    "response": dict,
}


def is_messages(value: Json) -> bool:
    """Whether ``value`` looks like a conversation in OpenAI form."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(message, dict) and message.get("role") in ROLES for message in value)
    )


def argument_kinds(value: Json) -> set[type[Any]]:
    """Return the Python types in which the tool calls of a conversation hold their arguments."""
    calls = [call for message in value for call in message.get("tool_calls") or () if isinstance(call, dict)]
    return {type(call["function"].get("arguments")) for call in calls if isinstance(call.get("function"), dict)}


def read_messages(value: Json, key: str = "messages") -> tuple[list[dict[str, Json]], bool]:
    """Return the messages of a row, and whether they hold all that the row says.

    Content in text parts is joined as it is, without a separator, which is how chat templates write such parts; keys
    that a line's message has no place for (such as ``refusal``) are left out, and the caller then keeps the original.

    Raises:
        RowError: a message that cannot be read, with its number.
    """
    if not isinstance(value, list) or not value:
        raise RowError(f"{key!r} is not a list of messages")
    messages, is_exact = [], True
    for number, turn in enumerate(value, start=1):
        where = f"message {number} of {key!r}"
        if not isinstance(turn, dict):
            raise RowError(f"{where} is {json_name(turn)}, not an object")
        if turn.get("role") not in ROLES:
            raise RowError(f"{where} has no role of {', '.join(ROLES)}")
        message = {name: turn[name] for name in _KNOWN if name in turn}
        message |= training_marks(turn, where, is_answer=turn["role"] == "assistant")
        if isinstance(message.get("content"), list):
            message["content"] = _joined(message["content"], where)
        content = message.setdefault("content", None)
        if content is None and not message.get("tool_calls"):
            raise RowError(f"{where} has no content")
        if content is not None and not isinstance(content, str):
            raise RowError(f"the content of {where} is {json_name(content)}, not text")
        for name in ("name", "tool_call_id", "tool_calls"):
            if name in message and not message[name]:
                del message[name]
        if "tool_calls" in message:
            message["tool_calls"] = [_call(call, where) for call in message["tool_calls"]]
        is_exact = is_exact and message == turn
        messages.append(message)
    return messages, is_exact


def training_marks(turn: dict[str, Json], where: str, *, is_answer: bool) -> dict[str, Json]:
    """Return ``train`` and ``weight`` of a turn as a line's message has them; the weight 1, its default, is left out.

    No turn but an answer is ever trained, so that there a flag which says so is left out too.

    Raises:
        RowError: a flag that means nothing, or that asks for the training of a turn that is no answer.
    """
    train, weight = turn.get("train"), turn.get("weight")
    if train is not None and not isinstance(train, bool):
        raise RowError(f"'train' of {where} is {json_name(train)}, not true or false")
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if weight is not None and not (is_number and 0 <= weight <= MOST_WEIGHT):
        raise RowError(f"'weight' of {where} is no number from 0 to {MOST_WEIGHT:,}")
    if not is_answer:
        if train or weight not in (None, 0, 1):
            raise RowError(f"{where} is marked for training, and only answers are trained")
        return {}
    marks: dict[str, Json] = {} if train is None else {"train": train}
    return marks | ({} if weight in (None, 1) else {"weight": weight})


def read_tools(value: Json) -> tuple[list[dict[str, Json]], bool]:
    """Return tool definitions in OpenAI form, and whether they hold all that ``value`` says.

    A JSON string is parsed; a bare function gets its wrapper.

    Raises:
        RowError: not a list of tool definitions.
    """
    is_exact = isinstance(value, list)
    if isinstance(value, str):
        try:
            value = strict_loads(value.encode()) if value.strip() else []
        except JsonFault as error:
            raise RowError("'tools' is text that is not JSON") from error
    if value is None:
        return [], False
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError("'tools' is not a list of objects")
    wrapped = []
    for tool in value:
        function = tool["function"] if isinstance(tool.get("function"), dict) else tool
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise RowError("a tool has no name")
        known = {
            name: function[name]
            for name, kind in _FUNCTION.items()
            if isinstance(function.get(name), kind) and name in function
        }
        wrapped.append({"type": "function", "function": known})
        is_exact = is_exact and wrapped[-1] == tool
    return wrapped, is_exact and bool(wrapped)


def _joined(parts: list[Json], where: str) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise RowError(f"{where} holds something that is not text (an image or sound); only text can be trained on")
        texts.append(part["text"])
    return "".join(texts)


def _call(call: Json, where: str) -> dict[str, Json]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"{where} has a tool call without a function name")
    if not isinstance(function.get("arguments"), str | dict):
        raise RowError(f"{where} has a tool call whose arguments are neither text nor an object")
    known = {name: call[name] for name in ("id", "type") if isinstance(call.get(name), str)}
    return known | {"function": {"name": function["name"], "arguments": function["arguments"]}}
