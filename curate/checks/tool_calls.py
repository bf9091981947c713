"""Calls of tools that no program could run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from curate.base.record import Json, Problem, Record
from curate.checks import check, messages_pointer
from curate.schema.calls import broken_arguments
from curate.schema.settings import Settings


def _calling(arguments: Json) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "find_order", "arguments": arguments}}
    return {
        "messages": [
            {"role": "user", "content": "Where is order 7?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "shipped"},
            {"role": "assistant", "content": "It is on its way."},
        ]
    }


@check(
    "Q217",
    "broken-arguments",
    severity="error",
    speaks_if=lambda settings: not settings.target,
    good=[_calling('{"order": 7}'), _calling({"order": 7}), _calling("{}")],
    bad=[_calling("{}x"), _calling("{order: 7}"), _calling("[7]"), _calling("")],
)
def broken_arguments_of_calls(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report a tool call whose arguments are not an object, nor the JSON text of one.

    No program can run such a call, and a model that learns it writes calls that fail. It does not matter whether the
    record declares its tools. Write the arguments as an object: {"city": "Oslo"}, or {} for none. With a ``target``,
    T905 says the same and what that trainer does with it.
    """
    if settings.target:
        return
    for path, fault in broken_arguments(record.messages):
        base = messages_pointer(record)
        pointer = f"{base}/{'/'.join(map(str, path))}" if base else ""
        yield Problem(f"the arguments of the call {fault}", pointer)
