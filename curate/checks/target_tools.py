"""What trainers refuse in tool calls: arguments that are no JSON, answers that belong to no call, names out of range.

Sources are those of `target_messages`; for OpenAI the parameter types of its Python client 1.99.9 (``types/chat`` and
``types/shared_params/function_definition.py``), which are made from the API's own description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from curate.base.record import Json, Problem, Record
from curate.checks import check
from curate.checks.target_messages import has_target, message_pointer
from curate.schema.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BREAKS = {
    "openai": "OpenAI asks for the JSON text of an object",
    "together": "Together asks for the JSON text of an object",
    "trl": "chat templates ask for an object, and an export to TRL leaves the record out",
    "axolotl": "Axolotl stops the whole preparation there",
    "llama-factory": "LLaMA-Factory stops the whole preparation there",
}


def _tool_conversation(arguments: Json = '{"order": 7}', **changes: Any) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "find_order", "arguments": arguments}}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "shipped"}
    return {
        "messages": [
            {"role": "user", "content": "Where is order 7?"},
            {"role": "assistant", "content": None, "tool_calls": [call | changes.get("call", {})]},
            {key: value for key, value in (answer | changes.get("answer", {})).items() if value is not None},
            {"role": "assistant", "content": "It is on its way."},
        ]
    }


@check(
    "T905",
    "target-tool-arguments",
    severity="error",
    speaks_if=has_target,
    settings=Settings(target="axolotl"),
    good=[_tool_conversation(), _tool_conversation({"order": 7}), _tool_conversation("{}")],
    bad=[_tool_conversation("{order: 7}"), _tool_conversation("[7]"), _tool_conversation("")],
)
def target_tool_arguments(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report a tool call whose arguments are not an object, nor the JSON text of one.

    Exports write the spelling that a target wants, an object or its text, so both are right here. Of a text that is no
    JSON nothing can be made: Axolotl and LLaMA-Factory end with an error at that record; the exporter for TRL leaves
    the record out; OpenAI and Together describe arguments as JSON.
    """
    if not settings.target:
        return
    for index, number, call in _calls(record):
        arguments = _function(call).get("arguments")
        if not _is_object(arguments):
            what = "are not JSON" if isinstance(arguments, str) and not _is_json(arguments) else "are not an object"
            pointer = message_pointer(record, index, f"tool_calls/{number}/function/arguments")
            yield Problem(f"the arguments of the call {what}; {_BREAKS[settings.target]}", pointer)


@check(
    "T906",
    "target-tool-id",
    severity="error",
    speaks_if=has_target,
    settings=Settings(target="openai"),
    good=[_tool_conversation()],
    bad=[
        _tool_conversation(answer={"tool_call_id": "c2"}),
        _tool_conversation(answer={"tool_call_id": None}),
        _tool_conversation(call={"id": ""}, answer={"tool_call_id": None}),
    ],
)
def target_tool_id(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report a tool call without an id, and a tool's answer that names no earlier call of the conversation.

    ``openai``: both ids are required, and the answer's names the call that it responds to. The other targets read
    answers by their place in the conversation.
    """
    if settings.target != "openai":
        return
    known: set[str] = set()
    for index, message in enumerate(record.messages):
        for number, call in enumerate(message.get("tool_calls") or ()):
            name = call.get("id") if isinstance(call, Mapping) else None
            if not isinstance(name, str) or not name:
                yield Problem(
                    "the call has no id; OpenAI requires one", _at(record, index, f"tool_calls/{number}", call)
                )
            else:
                known.add(name)
        if message.get("role") != "tool":
            continue
        answered = message.get("tool_call_id")
        if not answered:
            yield Problem(
                "the answer names no call; OpenAI requires a tool_call_id", message_pointer(record, index, "role")
            )
        elif answered not in known:
            reason = "the answer names a call that was not made before it"
            yield Problem(reason, message_pointer(record, index, "tool_call_id"))


@check(
    "T907",
    "target-tool-name",
    severity="error",
    speaks_if=has_target,
    settings=Settings(target="openai"),
    good=[_tool_conversation()],
    bad=[
        _tool_conversation() | {"tools": [{"type": "function", "function": {"name": "math.hypot"}}]},
        _tool_conversation(call={"function": {"name": "find order", "arguments": "{}"}}),
        _tool_conversation(call={"function": {"name": "f" * 65, "arguments": "{}"}}),
    ],
)
def target_tool_name(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report a tool whose name the target does not accept.

    ``openai``: letters a to z, digits, underscores and dashes, 64 at most. Names with dots, as in ``math.hypot``, are
    common in public data; replace the dots, in the tools and in the calls alike.
    """
    if settings.target != "openai":
        return
    reason = "the name of the tool is not 1 to 64 letters, digits, underscores and dashes; OpenAI refuses it"
    for number, tool in enumerate(record.tools):
        if not _is_name(_function(tool)):
            yield Problem(reason, f"/tools/{number}/function/name" if "tools" in record.data else "")
    for index, number, call in _calls(record):
        if not _is_name(_function(call)):
            yield Problem(reason, message_pointer(record, index, f"tool_calls/{number}/function/name"))


def _calls(record: Record) -> Iterator[tuple[int, int, Json]]:
    for index, message in enumerate(record.messages):
        for number, call in enumerate(message.get("tool_calls") or ()):
            yield index, number, call


def _function(tool: Json) -> Mapping[str, Json]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function if isinstance(function, Mapping) else {}


def _at(record: Record, index: int, inner: str, call: Json) -> str:
    has_id = isinstance(call, Mapping) and "id" in call
    return message_pointer(record, index, inner + "/id" if has_id else inner)


def _is_name(function: Mapping[str, Json]) -> bool:
    return _NAME.fullmatch(str(function.get("name", ""))) is not None


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_object(arguments: Json) -> bool:
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return False
    return isinstance(arguments, Mapping)
