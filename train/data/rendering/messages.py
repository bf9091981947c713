"""A row's messages as chat templates expect them, every text in them, and what may be wrong with a row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from train.base.errors import TrainError

if TYPE_CHECKING:
    from train.data.dataset import Row
    from train.recipe import Objective


# What a message says about its training; no template and no model sees it.
_TRAINING = {"train": True, "weight": 1}


class RowFault(TrainError):  # noqa: N818 - a fault of a row, as a finding is of a line
    """One row cannot be rendered; ``reason`` is the same for all rows with this fault."""

    error_code = "E923 bad-rows"
    advice = (
        "mend the records, take a base whose template has what they need, or leave them out, counted, "
        "with --set on_unrenderable=skip; train preview shows a record"
    )
    """What to do about rows with this fault."""
    is_unrenderable = True
    """Whether on_unrenderable = skip leaves the row out."""

    def __init__(self, reason: str) -> None:
        super().__init__(self.error_code, reason)
        self.reason = reason


class TemplateFault(RowFault):
    """The chat template does something that no row can mend."""

    error_code = "E922 bad-template"
    advice = "train preview shows a record token by token"
    is_unrenderable = False


class ControlTokenFault(RowFault):
    """A text of the row holds a control token."""

    error_code = "E924 control-token-in-data"
    advice = "mend the records, or train them as plain text with allow_special_tokens = true"
    is_unrenderable = False


class TooLongFault(RowFault):
    """The row has more than max_length tokens."""

    error_code = "E925 too-long"
    advice = (
        "add --set on_too_long=skip to leave them out, --set on_too_long=cut to cut them (both are "
        "counted), or --set max_length=N to allow more tokens; `curate train` takes these after --"
    )
    is_unrenderable = False


class Silent(RowFault):
    """No answer of a record may be trained; such records are set aside and counted."""


def answer_weights(messages: Sequence[dict[str, Any]], answers: Sequence[int]) -> list[float]:
    """Return what the tokens of each answer count: its "weight", 1 without one, and 0 where "train" is false.

    Raises Silent where all are 0.
    """
    weights = [weight_of(messages[turn]) for turn in answers]
    if not any(weights):
        raise Silent("no answer of the record may be trained (train is false, or the weight is 0)")
    return weights


def weight_of(answer: dict[str, Any]) -> float:
    """Return what the tokens of one answer count."""
    return 0.0 if answer.get("train") is False else float(_or(answer.get("weight"), 1.0))


def refuse_marks(messages: Sequence[dict[str, Any]]) -> None:
    """Raise RowFault where a message says how it is trained: the objective "domain" trains all tokens alike."""
    if any(_or(message.get(key), default) != default for message in messages for key, default in _TRAINING.items()):
        raise RowFault("a message has a train flag or a weight, and the objective domain trains all tokens alike")


def notes_of(row: Row) -> list[str]:
    """Return what of a row's messages no renderer gives to the template, in words: what follows the last answer."""
    role = row.messages[-1]["role"] if row.messages else "assistant"
    return [] if role == "assistant" else [f"what follows the last answer (a turn of the {role}) is not trained"]


def last_answer(messages: Sequence[dict[str, Any]]) -> int:
    """Return the index of the last assistant message; raises RowFault where there is none."""
    for turn in range(len(messages) - 1, -1, -1):
        if messages[turn]["role"] == "assistant":
            return turn
    raise RowFault("no message of the assistant, so nothing is trained")


def answers_of(messages: Sequence[dict[str, Any]], objective: Objective) -> list[int]:
    """Return the indices of the answers that an objective trains: each one for "chat", else the last.

    Raises RowFault where there is none.
    """
    last = last_answer(messages)
    return [n for n in range(last) if objective == "chat" and messages[n]["role"] == "assistant"] + [last]


def prepare_messages(messages: Sequence[dict[str, Any]], template: str) -> list[dict[str, Any]]:
    """Return the messages up to the last answer, with what templates take for granted.

    Content null is empty text, a developer is the system where the template knows no developer, and the arguments of a
    tool call are an object (OpenAI sends them as JSON text, which templates would quote a second time).
    """
    cleaned = []
    for message in messages[: last_answer(messages) + 1]:
        copy = {key: value for key, value in message.items() if value is not None and key not in _TRAINING} | {
            "content": message["content"] or ""
        }
        if copy["role"] == "developer" and "developer" not in template:
            copy["role"] = "system"
        if "tool_calls" in copy:
            copy["tool_calls"] = [_with_object(call) for call in copy["tool_calls"]]
        cleaned.append(copy)
    if not cleaned[-1]["content"].strip() and not cleaned[-1].get("tool_calls"):
        raise RowFault("the last answer is empty, so nothing is trained")
    return cleaned


def all_texts(row: Row) -> Iterator[tuple[str, str]]:
    """Yield (where, text) of every text that reaches the tokens: contents, roles, names, tool calls, tools."""
    if row.text is not None:
        yield "text", row.text
    for message in row.messages or ():
        if message["content"]:
            yield "content", message["content"]
        for key, value in message.items():
            if key != "content" and key not in _TRAINING and value is not None:
                yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if row.tools:
        yield "tools", json.dumps(row.tools, ensure_ascii=False)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


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
