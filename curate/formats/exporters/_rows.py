"""Rows as several formats need them: their conversations, without what a format cannot express."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from curate.base.record import Json
from curate.formats.exporters import CannotExpressError, ExportRow

Message = Mapping[str, Json]
# Keys of two answers, the better one first.
PAIR = ("chosen", "rejected")


def messages_of(row: ExportRow) -> list[Message]:
    """Return the messages of a row, for a format in which every answer counts the same.

    Raises:
        CannotExpressError: the row is raw text, or an answer in it is not to be trained as others are.
    """
    messages = weighed_messages(row)
    if any(weight != 1 for _, weight in messages):
        raise CannotExpressError("an answer has a weight or is not to be trained, which the format cannot express")
    return [message for message, _ in messages]


def weighed_messages(row: ExportRow) -> list[tuple[Message, float]]:
    """Return each message of a row without its marks, and how much it counts while training.

    Raises:
        CannotExpressError: the row is raw text.
    """
    if row["messages"] is None:
        raise CannotExpressError("raw text is not a conversation")
    weighed: list[tuple[Message, float]] = []
    for message in row["messages"]:
        weight = 0 if message.get("train") is False else message.get("weight", 1)
        weighed.append(({key: value for key, value in message.items() if key not in ("train", "weight")}, weight))
    return weighed


def prompt_and_answers(row: ExportRow) -> tuple[list[Message], Sequence[Mapping[str, Any]]]:
    """Return the messages before the answers that a row compares, without marks of training, and those answers.

    Raises:
        CannotExpressError: the row compares no answers.
    """
    if not row.get("answers"):
        raise CannotExpressError("the record compares no answers; the format holds preferences")
    messages = [message for message, _ in weighed_messages(row)]
    return messages[: len(messages) - len(row["answers"][0]["messages"])], row["answers"]


def preference_pair(row: ExportRow) -> tuple[Sequence[Message], Sequence[Message], Sequence[Message]]:
    """Return what is asked, the best of the answers and the worst, as messages.

    Raises:
        CannotExpressError: the row compares no answers, has only one, or has none that is better than another.
    """
    prompt, answers = prompt_and_answers(row)
    if len(answers) < 2:
        raise CannotExpressError("it has one answer, and a pair needs two")
    if answers[0]["rating"] == answers[-1]["rating"]:
        raise CannotExpressError("its answers have the same rating, so that none is chosen")
    return prompt, answers[0]["messages"], answers[-1]["messages"]


def parted(messages: Sequence[Message]) -> tuple[list[Message], Message]:
    """Return all before the last assistant message, and that message.

    Raises:
        CannotExpressError: no assistant speaks, or someone speaks after it.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise CannotExpressError("the conversation does not end with the assistant")
    return list(messages[:-1]), messages[-1]


def with_arguments_as_text(message: Message) -> dict[str, Json]:
    """Return a message whose tool calls hold their arguments as JSON text, as OpenAI does."""
    return _with_arguments(message, lambda value: value if isinstance(value, str) else json_text(value))


def with_arguments_as_object(message: Message) -> dict[str, Json]:
    """Return a message whose tool calls hold their arguments as objects, as chat templates expect.

    Raises:
        CannotExpressError: the text is not the JSON of an object.
    """
    return _with_arguments(message, _object)


def conversation_of(messages: Sequence[Message]) -> list[Json]:
    """Return `with_arguments_as_object` of each message."""
    return [with_arguments_as_object(message) for message in messages]


def tools_of(row: ExportRow) -> dict[str, Json]:
    """Return the key ``tools`` of a row that has some."""
    return {"tools": list(row["tools"])} if row["tools"] else {}


def plain_turns(messages: Sequence[Message]) -> tuple[str, list[tuple[str, str]]]:
    """Return the system text and the (user, assistant) pairs of a conversation of texts.

    Raises:
        CannotExpressError: tools are called, or user and assistant do not take turns.
    """
    rest = list(messages)
    system = content_text(rest.pop(0)) if rest and rest[0]["role"] in ("system", "developer") else ""
    if any(message["role"] == "tool" or message.get("tool_calls") for message in rest):
        raise CannotExpressError("the format has no tool calls")
    roles = [message["role"] for message in rest]
    if not roles or len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2):
        raise CannotExpressError("user and assistant do not take turns")
    texts = list(map(content_text, rest))
    return system, list(zip(texts[::2], texts[1::2], strict=True))


def content_text(message: Message) -> str:
    """Return what a message says; where a schema of one's own has content in parts, those of text are joined.

    Raises:
        CannotExpressError: a part is no text.
    """
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    if not all(isinstance(part.get("text"), str) for part in content):
        raise CannotExpressError("the content of a message holds a part that is no text")
    return "".join(part["text"] for part in content)


def instruction_and_input(row: ExportRow, prompt: str) -> tuple[str, str]:
    """Return the instruction and the input that ``prompt`` joins, where the workspace's line still tells them apart."""
    own = row.get("line") or {}
    parts = [str(own.get(name) or "") for name in ("instruction", "input")]
    # An edit since the line was written changes the prompt, and then the line's parts are out of date.
    return (parts[0], parts[1]) if "\n\n".join(part for part in parts if part) == prompt else (prompt, "")


def _with_arguments(message: Message, spell: Callable[[Json], Json]) -> dict[str, Json]:
    copy = dict(message)
    if copy.get("tool_calls"):
        copy["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": spell(call["function"]["arguments"])}}
            for call in copy["tool_calls"]
        ]
    return copy


def _object(value: Json) -> Json:
    if isinstance(value, str):
        try:
            value = orjson.loads(value or "{}")
        except orjson.JSONDecodeError as error:
            raise CannotExpressError("the arguments of a tool call are not JSON") from error
    if not isinstance(value, dict):
        raise CannotExpressError("the arguments of a tool call are not an object")
    return value


def json_text(value: Json) -> str | None:
    """Return a value as JSON text; None stays None."""
    return None if value is None else json.dumps(value, ensure_ascii=False)
