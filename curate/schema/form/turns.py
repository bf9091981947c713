"""Conversations in a form: who speaks next, which call waits for its answer, and what a tool's arguments are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache

import jsonschema_rs

from curate.base.record import Json, canonical
from curate.jsonl import JsonFault, strict_loads
from curate.schema.form.text import object_in

ROLES = ("system", "user", "assistant", "tool")
# Longer schemas of arguments, and those that refer to others, are left to JSON.
_MOST_SCHEMA = 64 * 1024
_FOLLOWING = {"system": "user", "developer": "user", "user": "assistant", "assistant": "user", "tool": "assistant"}


def next_turn(turns: Sequence[Json], roles: Collection[str], names: Collection[str]) -> dict[str, Json]:
    """Return what the turn after ``turns`` begins with: its role, and of a tool's answer the call that it answers.

    ``roles`` are those that the schema allows, empty where it allows any; ``names`` are the keys that a turn may have.
    """
    allowed = roles or ROLES
    if not turns and "role" in names:
        return {"role": "user" if "user" in allowed else next(iter(allowed))}
    last = turns[-1] if turns else None
    if not isinstance(last, dict):
        return {}
    call = next(_unanswered(turns), None)
    if call is not None and "tool" in allowed:
        answered = {"tool_call_id": call.get("id"), "name": _function(call).get("name")}
        return {"role": "tool", **{key: part for key, part in answered.items() if part and key in names}}
    role = _FOLLOWING.get(str(last.get("role")), "")
    return {"role": role} if role in allowed else {}


def new_call(
    turns: Sequence[Json], tools: Collection[str], names: Collection[str], *, takes_text: bool
) -> dict[str, Json]:
    """Return a call to begin with: an id that none of ``turns`` has, and the only one of ``tools``.

    ``names`` are the keys that a call may have, ``takes_text`` says whether arguments may be the text of an object.
    They are spelled as in the calls that are there.
    """
    calls = [call for turn in turns if isinstance(turn, dict) for call in _calls(turn)]
    known = {call.get("id") for call in calls}
    number = next(number for number in range(1, len(calls) + 2) if f"call_{number}" not in known)
    has_objects = any(isinstance(_function(call).get("arguments"), dict) for call in calls)
    function: dict[str, Json] = {"name": next(iter(tools))} if len(tools) == 1 else {}
    function["arguments"] = "{}" if takes_text and not has_objects else {}
    call: dict[str, Json] = {"id": f"call_{number}", "type": "function", "function": function}
    return {key: part for key, part in call.items() if key in names} if "function" in names else function


def is_trained(turn: Json) -> bool:
    """Return whether a turn is learnt: an assistant's, unless it says otherwise."""
    if not isinstance(turn, dict):
        return False
    return turn.get("role") == "assistant" and turn.get("train") is not False and turn.get("weight") != 0


def parameters_of(tools: Json) -> dict[str, Json]:
    """Return the schema of the arguments of each of a record's ``tools`` by its name, None without a usable one."""
    functions = [tool.get("function", tool) for tool in (tools if isinstance(tools, list) else ()) if _is_object(tool)]
    return {
        str(function["name"]): _usable(canonical(function.get("parameters")))
        for function in functions
        if _is_object(function) and function.get("name")
    }


@lru_cache(maxsize=256)
def _usable(text: bytes) -> Json:
    """Return the schema of arguments that ``text`` is, None where no fields can be made of it.

    The same text is the same object, so that what is known of a schema is found again.
    """
    if len(text) > _MOST_SCHEMA or b'"$ref"' in text:
        return None
    try:
        schema: Json = strict_loads(text)
        is_usable = _is_object(schema) and bool(schema.get("properties")) and jsonschema_rs.meta.is_valid(schema)
    except (JsonFault, ValueError, jsonschema_rs.ReferencingError):
        return None
    return schema if is_usable else None


def _unanswered(turns: Sequence[Json]) -> Iterator[Mapping[str, Json]]:
    """Yield the calls of the last assistant among ``turns`` that no tool after it has answered yet."""
    answers: list[Mapping[str, Json]] = []
    for turn in reversed(turns):
        if not isinstance(turn, dict):
            return
        if turn.get("role") != "tool":
            calls = _calls(turn) if turn.get("role") == "assistant" else []
            ids = {answer.get("tool_call_id") for answer in answers}
            # Calls and answers without an id belong together by their order.
            for number, call in enumerate(calls):
                if call["id"] not in ids if call.get("id") else number >= len(answers):
                    yield call
            return
        answers.append(turn)


def _calls(turn: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    calls = turn.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _function(call: Mapping[str, Json]) -> Mapping[str, Json]:
    return object_in(call.get("function", call)) or {}


def _is_object(value: Json) -> bool:
    return isinstance(value, dict)
