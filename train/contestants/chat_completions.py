"""The form of chat/completions: what a request says there, and what an answer says, whole or streamed, read strictly.

Nothing is sent from here. Whatever an endpoint sends is hostile data: it has bounds, and another shape is no answer.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from train.base.console import visible
from train.base.errors import TrainError, validation_fault
from train.contestants.contestant import Request
from train.data.dataset import TRACES, trace_of
from train.data.strict import parse_object
from train.evaluate.scoring import Answer

MOST_BYTES = 1 << 20
"""Bytes of an answer, and of one event of a stream."""
MOST_TOKENS = 10_000_000
"""No answer has more of them, whatever it says."""
MOST_ERROR = 8192
"""Bytes of what is read of an error."""


class CompletionError(ValueError):
    """What came is no answer of chat/completions; the text of the error says why."""


def request_body(
    request: Request, model: str, omit: Collection[str] = (), max_tokens_key: str = "max_tokens"
) -> dict[str, Any]:
    """Return what is sent for ``request``, without the options ``omit``. Raises RowFault where it asks nothing."""
    sampling = request.sampling
    body: dict[str, Any] = {"model": model, "messages": _messages(request.prompt)}
    if request.row.tools:
        body["tools"] = [
            tool if "function" in tool else {"type": "function", "function": tool} for tool in request.row.tools
        ]
    options = {"temperature": sampling.temperature, "seed": sampling.seed, max_tokens_key: sampling.max_new_tokens}
    return body | {name: value for name, value in options.items() if name not in omit}


def _messages(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # Only what the form knows: other keys of a message are for training, or its owner's own.
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
            # Rows may leave the ids out, for results follow their calls in the same order; endpoints ask for them.
            first = open_calls.pop(0) if open_calls else ""
            sent["tool_call_id"] = message.get("tool_call_id") or first
        messages.append(sent)
    return messages


def _call(call: Mapping[str, Any], otherwise: str) -> dict[str, Any]:
    function = call["function"] if isinstance(call.get("function"), dict) else call
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.get("id") or otherwise, "type": "function",
        "function": {"name": function.get("name"), "arguments": arguments},
    }  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _CalledFunction(_Strict):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(_Strict):
    index: int | None = Field(default=None, ge=0, lt=1000)
    function: _CalledFunction


class _Message(_Strict):
    """A whole message, or what a stream adds to it; endpoints have two names for reasoning."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(_Strict):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Body(_Strict):
    choices: list[_Choice]
    usage: Any = None


class AnswerReader:
    """Puts an answer together: from a whole body, or from the server-sent events of a stream.

    Its id is empty, and it has tokens where the endpoint says numbers that can be.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._calls: defaultdict[int, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        self._num_chars = 0
        self._finish: str | None = None
        self._usage: Any = None
        self._line, self._data = b"", b""
        self.is_done = False
        """The stream has said that nothing follows."""

    def read(self, raw: bytes) -> Answer:
        """Return the answer that a whole body holds; raises CompletionError."""
        if len(raw) > MOST_BYTES:
            raise CompletionError(f"it has more than {MOST_BYTES:,} bytes")
        message = self._take(raw).message
        if self._finish == "length" and not self._texts and not self._calls:
            raise CompletionError("it ended at the most tokens before it said anything: raise --max-new-tokens")
        if message is None or (message.content is None and not self._num_chars):
            raise CompletionError("it has no content")
        return self.answer(self.rest())

    def feed(self, part: bytes) -> Iterator[str]:
        """Take the next bytes of a stream and yield what each event adds to the text; raises CompletionError.

        That is empty while the model reasons: it can be stopped then, too.
        """
        *lines, self._line = (self._line + part).split(b"\n")
        for line in (line.removesuffix(b"\r") for line in lines):
            if line.startswith(b"data:"):
                self._data += line[5:].removeprefix(b" ") + b"\n"
            elif not line and self._data:
                data, self._data = self._data[:-1], b""
                self.is_done = self.is_done or data == b"[DONE]"
                if not self.is_done and (delta := self._take(data).delta) is not None:
                    yield delta.content or ""
        if max(len(self._line), len(self._data)) > MOST_BYTES:
            raise CompletionError(f"an event has more than {MOST_BYTES:,} bytes")

    @property
    def is_whole(self) -> bool:
        """Whether a stream has come to the end of its answer; not all of them say that nothing follows."""
        return self.is_done or self._finish is not None

    def _take(self, raw: bytes) -> _Choice:
        try:
            value = parse_object(raw, "not JSON")
            if value.get("error"):
                raise CompletionError(f"it says: {error_message(raw)}")
            body = _Body.model_validate(value)
        except TrainError as error:
            raise CompletionError(error.message) from None
        except ValidationError as error:
            raise CompletionError(validation_fault(error)) from None
        self._usage = body.usage or self._usage
        # An event that tells the tokens has no choice.
        choice = body.choices[0] if body.choices else _Choice()
        self._finish = choice.finish_reason or self._finish
        if message := choice.message or choice.delta:
            self._add(self._texts, message.content)
            # To say no is an answer, too.
            self._add(self._texts, message.refusal)
            self._add(self._reasoning, message.reasoning_content or message.reasoning)
            for number, call in enumerate(message.tool_calls or ()):
                name, arguments = self._calls[number if call.index is None else call.index]
                self._add(name, call.function.name)
                self._add(arguments, call.function.arguments)
        return choice

    def _add(self, parts: list[str], text: str | None) -> None:
        if text:
            parts.append(text)
            self._num_chars += len(text)
        if self._num_chars > MOST_BYTES:
            raise CompletionError(f"it has more than {MOST_BYTES:,} characters")

    def rest(self) -> str:
        """Return what follows the text: the tool calls, as most templates write them and `tool_calls` reads them."""
        calls = [("".join(name), "".join(arguments)) for _, (name, arguments) in sorted(self._calls.items())]
        return ("\n" if calls and self._texts else "") + _calls_text(calls)

    def answer(self, rest: str = "") -> Answer:
        """Return the answer as far as it came, and ``rest`` after it."""
        usage = self._usage if isinstance(self._usage, dict) else {}
        prompt_tokens, new_tokens = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        stopped = None if self._finish is None else self._finish in ("stop", "tool_calls")
        # No prompt takes no token, nor does an answer that says something.
        is_wrong = new_tokens == 0 and bool(self._num_chars or rest)
        return Answer(
            "", "".join(self._texts) + rest, stopped, "".join(self._reasoning) or None,
            prompt_tokens=prompt_tokens or None, new_tokens=None if is_wrong else new_tokens,
        )  # fmt: skip


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message of the assistant, its tool calls as those of an answer are written."""
    functions = [_call(call, "")["function"] for call in message.get("tool_calls") or ()]
    calls = _calls_text([(str(function["name"]), function["arguments"]) for function in functions])
    return "\n".join(filter(None, (message.get("content"), calls)))


def _calls_text(calls: Sequence[tuple[str, str]]) -> str:
    texts = []
    for name, arguments in calls:
        raw: Any = arguments
        # Whoever reads the answer sees what was written in place of arguments.
        with contextlib.suppress(TrainError):
            raw = parse_object(raw.encode("utf-8", "surrogatepass"), "arguments")
        call = json.dumps({"name": name, "arguments": raw}, ensure_ascii=False)
        texts.append(f"<tool_call>\n{call}\n</tool_call>")
    return "\n".join(texts)


def error_message(raw: bytes) -> str:
    """Return what an endpoint says of an error, as a visible line."""
    try:
        value: Any = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    for key in ("error", "message", "detail"):
        value = value[key] if isinstance(value, dict) and key in value else value
    text = value if isinstance(value, str) else raw.decode("utf-8", "replace")
    return visible(" ".join(text[:MOST_ERROR].split()))


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
