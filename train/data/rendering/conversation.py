"""Conversations as a chat template renders them, and where in the text each content and each answer stands.

A template is a black box, in a child process of its own, tried on short conversations before it is used. An answer is
what stands between its content's opening, as the template writes it to have an answer generated, and the end token
after it. Nothing here knows any template: where an answer is not to be located for sure, the row is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from train.base.errors import TrainError
from train.base.worker import Worker
from train.data.dataset import RowFault, TemplateFault, trace_of
from train.data.rendering import template as template_module
from train.data.rendering.template import CHILD_SECONDS

# The child ends itself by its CPU time; this is for one that waits instead, also on a machine that is very busy.
_MOST_SECONDS = 24 * CHILD_SECONDS
_DIED = {"fault": f"it needs more than {CHILD_SECONDS} seconds, or ended the process that rendered it"}
_SYSTEM, _USER, _ASSISTANT = (
    {"role": role, "content": f"probe {word}"}
    for role, word in (("system", "system"), ("user", "question"), ("assistant", "answer"))
)


def request(
    messages: Sequence[Mapping[str, Any]], tools: Any = None, openings: Sequence[int] = (),
    endings: Sequence[int] = (), *, has_marks: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Return what to ask a template for: the text of a conversation, of each turn of ``openings`` what stands before it
    when it is generated, of each of ``endings`` the text as far as that turn, and the generation blocks.
    """
    return {"messages": messages, "tools": tools, "openings": openings, "endings": endings, "has_marks": has_marks}


class RenderFault(RowFault):
    """A conversation has no text; ``is_refusal`` where the template says so itself (raise_exception)."""

    def __init__(self, detail: str, *, is_refusal: bool) -> None:
        super().__init__(f"the chat template refuses the conversation: {detail[:200]}")
        self.detail, self.is_refusal = detail, is_refusal


class Rendering:
    """What the template answered to a request; asking for a text that there is not raises its RenderFault."""

    def __init__(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        self._request, self._answer = request, answer

    @property
    def text(self) -> str:
        """The whole conversation."""
        return self._part(self._answer["text"])

    def opening(self, turn: int) -> str:
        """Return what stands before a turn when it is generated."""
        return self._part(self._answer["openings"][self._request["openings"].index(turn)])

    def ending(self, turn: int) -> str:
        """Return the text as far as a turn."""
        return self._part(self._answer["endings"][self._request["endings"].index(turn)])

    @property
    def marks(self) -> list[tuple[int, int]]:
        """The [start, end) of each generation block; none where the template has none."""
        marks = self._answer["marks"]
        if isinstance(marks, dict):
            self._part(marks)
        return [(start, end) for start, end in marks]

    def _part(self, answer: str | int | dict[str, str]) -> str:
        if isinstance(answer, dict):
            raise RenderFault(answer.get("refused", answer.get("fault", "")), is_refusal="refused" in answer)
        return self.text[:answer] if isinstance(answer, int) else answer


class SafeTemplate:
    """A chat template in a child of its own, with little memory and time, started again where it died."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self.num_deaths = 0
        """How often a conversation took too long or ended the child, which on another day it may not."""
        self.has_generation = "endgeneration" in source
        greeting = {"template": source, "tokens": dict(tokens)}
        self._worker = Worker([template_module.__file__], greeting=greeting, seconds=_MOST_SECONDS)

    def render(self, requests: Sequence[Mapping[str, Any]]) -> list[Rendering]:
        """Return the rendering of each `request`. Where the child dies of a batch, each request is tried alone."""
        if not requests:
            return []
        answer = self._worker.ask({"conversations": requests})
        if answer is not None and "conversations" in answer:
            return [Rendering(*pair) for pair in zip(requests, answer["conversations"], strict=True)]
        # One conversation of the batch is to blame, and the others shall not suffer for it.
        if len(requests) > 1:
            return [self.render([query])[0] for query in requests]
        self.num_deaths += answer is None
        fault = _DIED if answer is None else answer
        num_openings, num_endings = len(requests[0]["openings"]), len(requests[0]["endings"])
        whole = {"text": fault, "openings": [fault] * num_openings, "endings": [fault] * num_endings, "marks": fault}
        return [Rendering(requests[0], whole)]


def safe_template(source: str, tokens: Mapping[str, str]) -> SafeTemplate:
    """Return the template after it rendered short conversations in its child and lived.

    Raises TrainError "E922 bad-template" where it breaks out, fails, takes over 5 s or too much memory, or leaves out
    what a user or the assistant said.
    """
    return _try_template(source, tuple(sorted(tokens.items())))


# Each try starts a process, which all renderers of one base can share.
@lru_cache(maxsize=8)
def _try_template(source: str, tokens: tuple[tuple[str, str], ...]) -> SafeTemplate:
    template = SafeTemplate(source, dict(tokens))
    try:
        text = template.render([request([_USER, _ASSISTANT])])[0].text
    except RenderFault as fault:
        raise _bad(
            "it refuses the conversation of one question and one answer" if fault.is_refusal else fault.detail
        ) from None
    for message in (_USER, _ASSISTANT):
        if message["content"] not in text:
            raise _bad(f"it leaves out what the {message['role']} says")
    if text.index(_USER["content"]) > text.index(_ASSISTANT["content"]):
        raise _bad("it changes the order of the messages")
    for probe in (
        request([_USER], openings=[1]), request([_SYSTEM, _USER, _ASSISTANT]), request([_USER, _ASSISTANT] * 2)
    ):  # fmt: skip
        rendering = template.render([probe])[0]
        try:
            _ = rendering.opening(1) if probe["openings"] else rendering.text
        except RenderFault as fault:
            # A template may say that it knows no system message; it may not fail.
            if not fault.is_refusal:
                raise _bad(fault.detail) from None
    return template


def _bad(what: str) -> TrainError:
    return TrainError(
        "E922 bad-template", f"the chat template of the base model is refused: {what}",
        "Fix chat_template in the model's folder, or take another base.",
    )  # fmt: skip


Message = Mapping[str, Any]
Span = tuple[int, int]
"""[start, end) in characters."""
QUESTION: list[dict[str, Any]] = [
    {"role": "user", "content": "question"},
    {"role": "assistant", "content": "answer"},
]
"""What every template must be able to train."""


@dataclass(frozen=True)
class Layout:
    """A rendered conversation: per message the span of its content in ``text``, or None where it has none."""

    text: str
    contents: list[Span | None]

    @cached_property
    def spans(self) -> list[Span]:
        """The spans of the messages that have a content."""
        return [span for span in self.contents if span is not None]

    @property
    def template_text(self) -> str:
        """What the template itself wrote; a NUL stands for each content, lest a token form across the gap."""
        ends = [0, *(end for _, end in self.spans)]
        starts = [*(start for start, _ in self.spans), len(self.text)]
        return "\0".join(self.text[end:start] for end, start in zip(ends, starts, strict=True))


class Turn(NamedTuple):
    """The [start, end) characters of one answer; ``end`` lies after its end token, ``stop`` before it."""

    start: int
    stop: int
    end: int

    @property
    def has_end_token(self) -> bool:
        """True where the template closes the answer with an end token."""
        return self.end > self.stop


@dataclass(frozen=True)
class Conversation:
    """A rendered conversation up to its last answer: the messages as the template got them, and where they stand."""

    messages: list[dict[str, Any]]
    layout: Layout
    answers: list[int]
    """Indices of the messages that were located as answers; the last is the last of all."""
    turns: list[Turn]
    """Where each of them stands."""

    @property
    def turn(self) -> Turn:
        """The last answer."""
        return self.turns[-1]

    @property
    def prompt(self) -> str:
        """The text that stands before the last answer."""
        return self.layout.text[: self.turn.start]

    @property
    def answer(self) -> str:
        """The last answer with its end token."""
        return self.layout.text[self.turn.start : self.turn.end]


class Conversations:
    """What one template writes around contents and answers.

    ``has_opening`` says whether it opens an answer by itself (add_generation_prompt), ``closing`` is the control token
    that it ends one with. Raises RowFault where it does not render a plain question and answer.
    """

    def __init__(self, template: SafeTemplate, end_tokens: Collection[str], special_tokens: Sequence[str]) -> None:
        self.template = template
        self._pieces: dict[tuple[tuple[str, bool], ...], list[str]] = {}
        opened = template.render([request(QUESTION[:1], openings=[1])])[0]
        self.has_opening = opened.text != opened.opening(1)
        layout = self.layout(QUESTION, None, self.render(QUESTION))
        tail = layout.text[layout.spans[1][1] :].lstrip()
        self.closing = next((token for token in special_tokens if tail.startswith(token)), None)
        own = [] if self.closing is None else [self.closing]
        self._end_tokens = sorted({*end_tokens, *own}, key=len, reverse=True)

    def render(self, messages: Sequence[Message], tools: Any = None) -> str:
        """Return the text of one conversation; raises RowFault where the template refuses it."""
        return self.template.render([request(messages, tools)])[0].text

    def opening(self, messages: Sequence[Message]) -> str:
        """Return what an answer to these messages is generated from; raises RowFault where the template refuses."""
        return self.template.render([request(messages, openings=[len(messages)])])[0].opening(len(messages))

    def request(self, messages: Sequence[Message], tools: Any, answers: Sequence[int]) -> dict[str, Any]:
        """Return the request to the template that lets these answers be located."""
        openings = answers if self.has_opening else []
        endings = [n for n in answers if not messages[n]["content"] or messages[n].get("tool_calls")]
        return request(messages, tools, openings, endings, has_marks=self.template.has_generation)

    def layout(self, messages: Sequence[Message], tools: Any, text: str) -> Layout:
        """Return where in ``text`` each content stands; raises RowFault where one is lost or rewritten."""
        # Rendered a second time with a sentinel word in place of each content, the conversation shows the template's
        # own text; what the first render has between those pieces is the content.
        has_more = any(message.get("tool_calls") or trace_of(message) for message in messages)
        pieces = self._pieces_of(messages, tools, is_plain=not has_more and tools is None)
        # Where a template rewrites a content (Qwen3 re-indents reasoning), the messages are tried one at a time.
        contents = _walk(text, pieces, messages) or [
            self._alone(text, messages, tools, turn) if message["content"] else None
            for turn, message in enumerate(messages)
        ]
        return Layout(text, contents)

    def locate(
        self, messages: list[dict[str, Any]], layout: Layout, answers: list[int], rendering: Rendering
    ) -> Conversation:
        """Return the conversation with its answers; raises RowFault where what is trained is not what is generated."""
        turns = [self._turn(messages, layout, answer, rendering, is_last=answer == answers[-1]) for answer in answers]
        return Conversation(messages, layout, answers, turns)

    def _turn(
        self, messages: Sequence[Message], layout: Layout, answer: int, rendering: Rendering, *, is_last: bool
    ) -> Turn:
        span = layout.contents[answer]
        if self.has_opening:
            opening = rendering.opening(answer)
        elif span is None:
            raise RowFault("the chat template has no opening of an answer, and this answer has no text")
        else:
            opening = layout.text[: span[0]]
        if layout.text.startswith(opening) and (span is None or len(opening) <= span[1]):
            start = len(opening)
        elif is_last or span is None:
            raise RowFault(
                "the chat template opens an answer in another way when it generates than when it trains"
                " (add_generation_prompt is no prefix of the whole)"
            )
        else:
            # Some templates shorten the history (Qwen3 drops reasoning); the answer itself is still trained.
            start = span[0]
        if span is None or messages[answer].get("tool_calls"):
            stop = self._stop(layout.text, rendering.ending(answer))
        else:
            stop = span[1]
        # Some templates write a newline before the end token.
        rest = len(layout.text) - len(layout.text[stop:].lstrip())
        token = next((token for token in self._end_tokens if layout.text.startswith(token, rest)), None)
        return Turn(start, stop, stop if token is None else rest + len(token))

    def _stop(self, text: str, ending: str) -> int:
        # The end of an answer that is more than its content: before the last end token of the text up to it.
        if not text.startswith(ending):
            raise RowFault("the chat template rewrites an answer with tool calls once more messages follow")
        stop = len(ending.rstrip())
        return stop - next((len(token) for token in self._end_tokens if ending.endswith(token, 0, stop)), 0)

    def _pieces_of(self, messages: Sequence[Message], tools: Any, *, is_plain: bool) -> list[str]:
        key = tuple((message["role"], bool(message["content"])) for message in messages)
        # Roles alone decide what a plain conversation is surrounded by, so most rows cost one render and not two.
        if is_plain and key in self._pieces:
            return self._pieces[key]
        word = sentinel(json.dumps([messages, tools], ensure_ascii=False, default=str) + self.template.source)
        stand_ins = [
            {**message, "content": f"{word}{turn:04d}" if message["content"] else message["content"]}
            for turn, message in enumerate(messages)
        ]
        rest, pieces = self.render(stand_ins, tools), []
        for message in stand_ins:
            if message["content"]:
                before, separator, rest = rest.partition(message["content"])
                if not separator and message["role"] == "tool":
                    raise RowFault("the chat template has no place for what a tool answers")
                if not separator or message["content"] in rest:
                    raise TemplateFault(f"the chat template loses, repeats or reorders what a {message['role']} says")
                pieces.append(before)
        pieces.append(rest)
        if is_plain:
            self._pieces[key] = pieces
        return pieces

    def _alone(self, text: str, messages: Sequence[Message], tools: Any, turn: int) -> Span:
        # The span of one content, by replacing it alone; see `says` for what the template may do to it.
        content = messages[turn]["content"]
        word = sentinel(text + self.template.source)
        changed = [{**m, "content": word} if number == turn else m for number, m in enumerate(messages)]
        before, separator, after = self.render(changed, tools).partition(word)
        shared = next(
            (n for n, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), min(len(before), len(text))
        )
        end = len(text) - len(after)
        forms = _quoted(messages[turn])
        is_said = says(text[shared:end], content) or any(form in text[shared:end] for form in forms)
        if not (separator and text.endswith(after) and is_said):
            raise RowFault(f"the chat template rewrites what the {messages[turn]['role']} says")
        return shared, end


def says(text: str, content: str) -> bool:
    """True where ``text`` contains ``content``, but for white space at its ends and next to tags such as <think>."""
    # Templates strip contents, and put reasoning on lines of its own. White space anywhere else is the content's: a
    # template that squeezes or indents it would teach code without its lines.
    if not (_TAG.search(text) or _TAG.search(content)):
        return content.strip() in text.strip()
    return _without_space_at_tags(content) in _without_space_at_tags(text)


def sentinel(text: str) -> str:
    """Return a plain word that occurs nowhere in ``text``."""
    number = 0
    while f"qzx{number}y" in text:
        number += 1
    return f"qzx{number}y"


_TAG = re.compile(r"</?\w+>")


def _without_space_at_tags(text: str) -> str:
    return re.sub(r"\s*(</?\w+>)\s*", r"\1", text).strip()


def _quoted(message: Message) -> tuple[str, ...]:
    # What a tool answers as Llama 3 and gpt-oss write it, inside a string of JSON; nothing for other roles.
    if message["role"] != "tool":
        return ()
    return tuple(json.dumps(message["content"], ensure_ascii=is_ascii)[1:-1] for is_ascii in (False, True))


def _forms(message: Message) -> Iterator[str]:
    # A content as templates write it, the likeliest first.
    content = message["content"]
    yield content
    yield from (content.strip(), content.lstrip(), content.rstrip(), *_quoted(message))


def _walk(text: str, pieces: Sequence[str], messages: Sequence[Message]) -> list[Span | None] | None:
    """Lay pieces and contents, as they are or stripped, over the text; None where they do not fit."""
    if not text.startswith(pieces[0]):
        return None
    spans: list[Span | None] = []
    position, number = len(pieces[0]), 0
    for message in messages:
        content = message["content"]
        if not content:
            spans.append(None)
            continue
        number += 1
        after = pieces[number]
        for form in _forms(message):
            # Not the two joined: contents are long, and nearly all stand there as they are.
            if text.startswith(form, position) and text.startswith(after, position + len(form)):
                spans.append((position, position + len(form)))
                position += len(form) + len(after)
                break
        else:
            return None
    return spans if position == len(text) else None
