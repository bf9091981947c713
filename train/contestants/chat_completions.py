"""The form of chat/completions: how a request is written there, and how an answer is read.

Whatever an endpoint sends is hostile data: a reply of another form is no answer. What was asked so can be given again
from its recording, without the model and its key.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from train.base.console import visible
from train.base.errors import TrainError, validation_fault
from train.base.run_folder import EVALUATION, read_evaluation
from train.base.storage import digest_of
from train.base.strict_json import parse_object
from train.contestants.contestant import BAD_CONTESTANT, NO_ANSWER, OnAnswer, OnText, Request, Unanswered
from train.data.dataset import REASONING_KEYS, reasoning_of
from train.evaluate.predictions import PREDICTIONS, read_predictions
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
        if reasoning := reasoning_of(message):
            sent[REASONING_KEYS[0]] = reasoning
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
    function: _Function


class _Message(_Strict):
    content: str | None = None
    refusal: str | None = None
    # Endpoints have two names for it.
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(_Strict):
    index: int = 0
    message: _Message | None = None
    finish_reason: str | None = None


class _Completion(_Strict):
    choices: list[_Choice]
    usage: Any = None


def read_answer(raw: bytes) -> Answer:
    """Return the answer of a reply, without an id, its tool calls as `message_text` writes them. Raises ReplyError.

    Counts of tokens that cannot be are None, and so is whether it ended by itself where the reply does not say it.
    """
    try:
        value = parse_object(raw, "not JSON")
        if value.get("error"):
            raise ReplyError(f"it says: {error_message(raw)}")
        reply = _Completion.model_validate(value)
    except ValidationError as error:
        raise ReplyError(validation_fault(error)) from None
    except TrainError as error:
        raise ReplyError(error.message) from None
    choices = [choice for choice in reply.choices if choice.index == 0]
    if len(choices) != 1:
        raise ReplyError(f"it has {len(choices)} choices of index 0, and not one")
    message, finish = choices[0].message or _Message(), choices[0].finish_reason or ""
    if finish == "content_filter":
        raise ReplyError("a filter of the endpoint withheld its answer (content_filter)")
    calls = _calls_text(
        [(each.function.name or "", each.function.arguments or "") for each in message.tool_calls or ()]
    )
    text = "\n".join(filter(None, ((message.content or "") + (message.refusal or ""), calls)))
    reasoning = message.reasoning_content or message.reasoning or None
    if not text:
        if finish == "length":
            raise ReplyError("it ended at the most tokens before it said anything: raise --max-new-tokens")
        if not reasoning and message.content is None:
            raise ReplyError("it has no content")
    usage = reply.usage if isinstance(reply.usage, dict) else {}
    # No prompt takes no token, nor does an answer that says something.
    prompt_tokens, new_tokens = (
        value if type(value) is int and 0 < value <= MOST_TOKENS else None
        for value in map(usage.get, ("prompt_tokens", "completion_tokens"))
    )
    stopped = {"stop": True, "tool_calls": True, "length": False}
    return Answer("", text, stopped.get(finish), reasoning, prompt_tokens=prompt_tokens, new_tokens=new_tokens)


def message_text(message: Mapping[str, Any]) -> str:
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


def digest_of_request(request: Request) -> str:
    """Return the digest of what ``request`` asks, of whatever model; raises RowFault where it asks nothing."""
    return digest_of([request_body(request, "", ["seed"]), *request.choices])


class RecordingContestant:
    """The model whose evaluation lies in ``folder``: it answers what it was asked there, word for word.

    Raises TrainError: E929 bad-contestant where that was not brought to its end, or is of a model on this machine; E952
    run-changed and E935 bad-predictions.
    """

    memory = 0
    context_length: int | None = None
    has_logprobs = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        match read_evaluation(folder):
            case {"files": _, "contestant": {"kind": "endpoint" | "gguf" as kind, "name": name, "digest": digest}}:
                self.kind, self.name, self.digest = kind, name, digest
            case _:
                raise TrainError(
                    BAD_CONTESTANT,
                    f"{folder / EVALUATION} is no finished recording of an endpoint or a .gguf file",
                    "Go on with it by the command that began it; ask a model on this machine itself.",
                )
        self._answers = {
            record.asked: Answer(
                "", record.text or "", record.stopped, record.reasoning, is_cached=True,
                **dict[str, Any](record.usage or {}),
            )
            for record in read_predictions(folder / PREDICTIONS)[1]
        }  # fmt: skip

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Give the recorded answers to ``requests``; what was not asked there in the same way has none."""
        for request in requests:
            try:
                answer = replace(self._answers[digest_of_request(request)], id=request.id)
            except (KeyError, TrainError):
                reason = f"{self.folder} holds no answer to what is asked: other messages, tools or options"
                on_answer(Unanswered(request.id, NO_ANSWER, reason))
                continue
            if on_text is not None:
                on_text(request.id, answer.text)
            on_answer(answer)

    def close(self) -> None:
        """Do nothing: nothing is held."""
