"""The form of chat/completions: how a request is written there, and how an answer, whole or streamed, is read.

Whatever an endpoint sends is hostile data: a reply of another form is no answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from train.base.console import visible
from train.base.errors import TrainError, validation_fault
from train.contestants.contestant import Request
from train.data.dataset import TRACES, trace_of
from train.data.lines import parse_object
from train.evaluate.scoring import Answer

MOST_TOKENS = 10_000_000
"""The largest count of tokens that is believed."""


class ReplyError(ValueError):
    """A reply that is no answer; the text says why."""


def request_body(
    request: Request, model: str, omit: Collection[str] = (), max_tokens_key: str = "max_tokens"
) -> dict[str, Any]:
    """Return the JSON that is sent for ``request``, without the options ``omit``. Raises RowFault without a prompt."""
    sampling = request.sampling
    tools = [tool if "function" in tool else {"type": "function", "function": tool} for tool in request.row.tools or ()]
    options = {"temperature": sampling.temperature, "seed": sampling.seed, max_tokens_key: sampling.max_new_tokens}
    return (
        {"model": model, "messages": _messages(request.prompt)}
        | ({"tools": tools} if tools else {})
        | {name: value for name, value in options.items() if name not in omit}
    )


def _messages(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # Only the keys of the form: other keys of a message are for training, or private.
    messages: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for message in prompt:
        sent = {"role": message["role"], "content": message["content"] or ""}
        if isinstance(message.get("name"), str):
            sent["name"] = message["name"]
        if trace := trace_of(message):
            sent[TRACES[0]] = trace
        if calls := message.get("tool_calls"):
            sent["tool_calls"] = [_call(call, f"call{len(messages):03}{n:02}") for n, call in enumerate(calls)]
            open_calls = [call["id"] for call in sent["tool_calls"]]
        if message["role"] == "tool":
            # Rows may leave the ids out, as results follow their calls in order; endpoints require them.
            first = open_calls.pop(0) if open_calls else ""
            sent["tool_call_id"] = message.get("tool_call_id") or first
        messages.append(sent)
    return messages


def _call(call: Mapping[str, Any], default_id: str) -> dict[str, Any]:
    function = call["function"] if isinstance(call.get("function"), dict) else call
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    named = {"name": function.get("name"), "arguments": arguments}
    return {"id": call.get("id") or default_id, "type": "function", "function": named}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Function(_Strict):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(_Strict):
    index: int | None = Field(default=None, ge=0, lt=1000)
    function: _Function


class _Message(_Strict):
    content: str | None = None
    refusal: str | None = None
    # Endpoints have two names for it.
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None

    @property
    def text(self) -> str:
        """The text, of which a refusal is a part."""
        return (self.content or "") + (self.refusal or "")

    @property
    def thought(self) -> str:
        """The reasoning, by either of its names."""
        return self.reasoning_content or self.reasoning or ""


class _Choice(_Strict):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class Part(_Strict):
    """A whole reply, or one event of a stream."""

    choices: list[_Choice]
    usage: Any = None

    @property
    def choice(self) -> _Choice:
        """The first answer; the part of a stream that only counts tokens has none."""
        return self.choices[0] if self.choices else _Choice()


def read_part(raw: bytes) -> Part:
    """Return the part of an answer that a reply, or an event of a stream, holds; raises ReplyError."""
    try:
        value = parse_object(raw, "not JSON")
        if value.get("error"):
            raise ReplyError(f"it says: {error_message(raw)}")
        return Part.model_validate(value)
    except ValidationError as error:
        raise ReplyError(validation_fault(error)) from None
    except TrainError as error:
        raise ReplyError(error.message) from None


def answer_of(parts: Sequence[Part], *, is_stream: bool) -> Answer:
    """Return the answer in ``parts``, without an id, its tool calls as `text_of` writes them. Raises ReplyError.

    Counts of tokens that cannot be are None.
    """
    messages = [each for part in parts if (each := part.choice.delta if is_stream else part.choice.message)]
    # Of a stream the parts of a call have its index.
    calls: dict[int, tuple[str, str]] = {}
    for message in messages:
        for number, call in enumerate(message.tool_calls or ()):
            index, function = number if call.index is None else call.index, call.function
            name, arguments = calls.get(index, ("", ""))
            calls[index] = name + (function.name or ""), arguments + (function.arguments or "")
    said = "".join(message.text for message in messages)
    text = "\n".join(filter(None, (said, _calls_text([call for _, call in sorted(calls.items())]))))
    reasoning = "".join(message.thought for message in messages)
    finish = next(filter(None, (part.choice.finish_reason for part in reversed(parts))), None)
    if not text:
        if finish == "length":
            raise ReplyError("it ended at the most tokens before it said anything: raise --max-new-tokens")
        if not reasoning and all(message.content is None for message in messages):
            raise ReplyError("it has no content")
    usage = next((part.usage for part in reversed(parts) if isinstance(part.usage, dict)), {})
    # No prompt takes no token, nor does an answer that says something.
    prompt_tokens, new_tokens = (
        value if type(value) is int and 0 < value <= MOST_TOKENS else None
        for value in map(usage.get, ("prompt_tokens", "completion_tokens"))
    )
    stopped = None if finish is None else finish in ("stop", "tool_calls")
    return Answer("", text, stopped, reasoning or None, prompt_tokens=prompt_tokens, new_tokens=new_tokens)


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message of the assistant, its tool calls as those of an answer are written."""
    functions = [_call(call, "")["function"] for call in message.get("tool_calls") or ()]
    calls = _calls_text([(str(function["name"]), function["arguments"]) for function in functions])
    return "\n".join(filter(None, (message.get("content"), calls)))


def _calls_text(calls: Sequence[tuple[str, str]]) -> str:
    texts = []
    for name, arguments in calls:
        value: Any = arguments
        # Arguments that are no JSON are shown as they were written.
        with suppress(TrainError):
            value = parse_object(arguments.encode("utf-8", "surrogatepass"), "arguments")
        call = json.dumps({"name": name, "arguments": value}, ensure_ascii=False)
        texts.append(f"<tool_call>\n{call}\n</tool_call>")
    return "\n".join(texts)


def error_message(raw: bytes) -> str:
    """Return the text of an error as one visible line."""
    value: Any = None
    with suppress(ValueError, RecursionError):
        value = json.loads(raw)
    for key in ("error", "message", "detail"):
        value = value[key] if isinstance(value, dict) and key in value else value
    return visible(" ".join((value if isinstance(value, str) else raw.decode("utf-8", "replace")).split()))
