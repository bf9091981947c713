"""The arguments of calls of tools: an object, or the JSON text of one, and nothing else can be run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import orjson

from curate.base.record import Json
from curate.jsonl import pointer_of
from curate.schema.view import View

_CODES = frozenset({"Q217", "T905"})  # The checks of arguments, from which a record can be excused.


def fault_of_arguments(arguments: Json) -> str:
    """Return why the arguments of a call are no object, nor the JSON text of one; "" where they are."""
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return "are not JSON"
    return "" if isinstance(arguments, Mapping) else "are not an object"


def broken_arguments(turns: Iterable[Json]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Yield the path, in ``turns``, of the arguments of each call that are no object, and why they are none.

    A call without arguments has nothing that could be broken.
    """
    for index, turn in enumerate(turns):
        calls = turn.get("tool_calls") if isinstance(turn, dict) else None
        for number, call in enumerate(calls if isinstance(calls, list) else ()):
            function = call.get("function", call) if isinstance(call, Mapping) else None
            if isinstance(function, Mapping) and (fault := fault_of_arguments(function.get("arguments", {}))):
                inner = ("function", "arguments") if "function" in call else ("arguments",)
                yield (index, "tool_calls", number, *inner), fault


def refused_arguments(line: Mapping[str, Json], view: View) -> Iterator[tuple[str, str]]:
    """Yield the pointer of all `broken_arguments` of a line, with the reason; nothing of one that is excused."""
    ignored, turns = view.get(line, "ignore"), view.get(line, "messages")
    if not isinstance(turns, list) or (isinstance(ignored, list) and not _CODES.isdisjoint(map(str, ignored))):
        return
    for path, fault in broken_arguments(turns):
        yield pointer_of([*view.paths["messages"], *path]), fault
