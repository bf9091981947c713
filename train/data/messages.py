"""What a chat template gets of a row: its messages in the form that templates take for granted, and all its texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from train.data.dataset import TRACES, TRAINING, Row, RowFault, last_answer, trace_of


@cache
def _trace_name(template: str) -> str:
    # As an attribute or a key: in prose, or within another name, it is no place for the text.
    named = (name for name in TRACES if re.search(rf"[.'\"]{name}\b", template))
    return next(named, TRACES[0])


def drop_history(messages: list[dict[str, Any]]) -> set[int]:
    """Remove the reasoning before the last question, and return the indices of the messages that had some."""
    last_question = max((n for n, message in enumerate(messages) if message["role"] == "user"), default=0)
    dropped = {n for n, message in enumerate(messages[:last_question]) if trace_of(message)}
    for n in dropped:
        messages[n] = {key: value for key, value in messages[n].items() if key not in TRACES}
    return dropped


def prepare_messages(messages: Sequence[dict[str, Any]], template: str) -> list[dict[str, Any]]:
    """Return the messages up to the last answer, with what templates take for granted.

    Content null is empty text, a developer is the system where the template knows no developer, and reasoning has the
    name that the template reads.
    """
    cleaned = []
    for message in messages[: last_answer(messages) + 1]:
        copy = {key: value for key, value in message.items() if value is not None and key not in TRAINING} | {
            "content": message["content"] or ""
        }
        if copy["role"] == "developer" and "developer" not in template:
            copy["role"] = "system"
        # OpenAI sends arguments as JSON text, which templates would quote a second time.
        if "tool_calls" in copy:
            copy["tool_calls"] = [_with_object(call) for call in copy["tool_calls"]]
        if not copy.keys().isdisjoint(TRACES):
            trace = trace_of(copy)
            copy = {key: value for key, value in copy.items() if key not in TRACES}
            copy |= {_trace_name(template): trace} if trace else {}
        cleaned.append(copy)
    if not cleaned[-1]["content"].strip() and not cleaned[-1].get("tool_calls"):
        raise RowFault("the last answer is empty, so nothing is trained")
    return cleaned


def all_texts(row: Row) -> Iterator[tuple[str, str]]:
    """Yield (where, text) of every text that reaches the tokens: contents, reasoning, roles, names, calls, tools."""
    if row.text is not None:
        yield "text", row.text
    for message in row.messages or ():
        if message["content"]:
            yield "content", message["content"]
        for key, value in message.items():
            if key != "content" and key not in TRAINING and value is not None:
                yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if row.tools:
        yield "tools", json.dumps(row.tools, ensure_ascii=False)


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(arguments, str):
        return call
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        raise RowFault("the arguments of a tool call are not JSON") from None
    return {**call, "function": {**call["function"], "arguments": value}}
