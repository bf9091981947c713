"""Conversations as a chat template renders them: where in the text each content, each answer and its reasoning stands.

A template is a black box, in a child process of its own, tried on short conversations before it is used. An answer is
what stands between its content's opening, as the template writes it to have an answer generated, and the end token
after it. Nothing here knows any template: what it writes is seen by rendering a word that occurs nowhere else, and
where an answer is not to be located for sure, the row is refused.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from markupsafe import escape

from train.base.process import Worker
from train.data.dataset import TRACES, RowFault, TemplateFault, prepare_messages, trace_of
from train.data.rendering import template as template_module
from train.data.rendering.template import CHILD_SECONDS

# The child ends itself by its CPU time; this is for one that waits instead, also on a machine that is very busy.
_MOST_SECONDS = 24 * CHILD_SECONDS
_DIED = {"fault": f"it needs more than {CHILD_SECONDS} seconds, or ended the process that rendered it"}
QUESTION: list[dict[str, Any]] = [
    {"role": "user", "content": "What is asked here?"},
    {"role": "assistant", "content": "What is answered here."},
]
"""What every template must be able to train; of several words, so that one that cuts or joins them is seen."""
Message = Mapping[str, Any]
Span = tuple[int, int]
"""[start, end) in characters."""


def request(
    messages: Sequence[Message], tools: Any = None, openings: Sequence[int] = (), endings: Sequence[int] = ()
) -> dict[str, Any]:
    """Return what to ask a template for: the text of a conversation, of each turn of ``openings`` what stands before it
    when it is generated, and of each of ``endings`` the text as far as that turn.
    """
    return {"messages": messages, "tools": tools, "openings": openings, "endings": endings}


class RenderFault(RowFault):
    """A conversation has no text; ``is_refusal`` where the template says so itself (raise_exception)."""

    def __init__(self, detail: str, *, is_refusal: bool) -> None:
        super().__init__(f"the chat template refuses the conversation: {detail[:200]}")
        self.is_refusal = is_refusal


class Rendering:
    """What the template answered to a request; asking for a text that there is not raises its RenderFault."""

    def __init__(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        self._request, self._answer = request, answer

    @property
    def text(self) -> str:
        """The whole conversation."""
        return self._part(self._answer["text"])

    @property
    def blocks(self) -> list[Span]:
        """The [start, end) of each generation block; none where the template has none."""
        return [(start, end) for start, end in self._answer["blocks"]]

    def opening(self, turn: int) -> str:
        """Return what stands before a turn when it is generated."""
        return self._part(self._answer["openings"][self._request["openings"].index(turn)])

    def ending(self, turn: int) -> str:
        """Return the text as far as a turn."""
        return self._part(self._answer["endings"][self._request["endings"].index(turn)])

    def _part(self, answer: str | int | dict[str, str]) -> str:
        if isinstance(answer, dict):
            raise RenderFault(answer.get("refused", answer.get("fault", "")), is_refusal="refused" in answer)
        return self.text[:answer] if isinstance(answer, int) else answer


class SafeTemplate:
    """A chat template in a child of its own, with little memory and time, started again where it died."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source, self.num_deaths = source, 0
        """How often a conversation took too long or ended the child, which on another day it may not."""
        greeting = {"template": source, "tokens": dict(tokens)}
        self._worker = Worker([template_module.__file__], greeting=greeting, seconds=_MOST_SECONDS)

    def render(self, requests: Sequence[dict[str, Any]]) -> list[Rendering]:
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
        fault, only = answer or _DIED, requests[0]
        faults = {name: [fault] * len(only[name]) for name in ("openings", "endings")}
        return [Rendering(only, {"text": fault, "blocks": [], **faults})]


# Each try starts a process, which all renderers of one base can share.
@lru_cache(maxsize=8)
def safe_template(source: str, tokens: tuple[tuple[str, str], ...]) -> SafeTemplate:
    """Return the template after it rendered short conversations in its child and lived.

    Raises RenderFault where it breaks out, fails, takes over 5 s or too much memory. It may say that it knows no system
    message, or no conversation of this kind.
    """
    template, system = SafeTemplate(source, dict(tokens)), {"role": "system", "content": "system"}
    for probe in ([*QUESTION], QUESTION[:1], [system, *QUESTION], QUESTION * 2):
        rendering = template.render([request(probe, openings=[1] if len(probe) == 1 else [])])[0]
        try:
            _ = rendering.opening(1) if len(probe) == 1 else rendering.text
        except RenderFault as fault:
            if not fault.is_refusal:
                raise
    return template


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
    text: str
    contents: list[Span | None]
    """Of each message the span of its content in ``text``, None where it has none."""
    answers: Sequence[int] = ()
    """Indices of the messages that were located as answers; the last is the last of all."""
    turns: Sequence[Turn] = ()
    """Where each of them stands."""

    @property
    def template_text(self) -> str:
        """What the template itself wrote; a NUL stands for each content, lest a token form across the gap."""
        spans = [span for span in self.contents if span is not None]
        ends = [0, *(end for _, end in spans)]
        starts = [*(start for start, _ in spans), len(self.text)]
        return "\0".join(self.text[end:start] for end, start in zip(ends, starts, strict=True))

    @property
    def turn(self) -> Turn:
        """The last answer."""
        return self.turns[-1]

    @property
    def prompt(self) -> str:
        """The text that stands before the last answer."""
        return self.text[: self.turn.start]

    @property
    def answer(self) -> str:
        """The last answer with its end token."""
        return self.text[self.turn.start : self.turn.end]

    def around(self, turn: int) -> Span:
        """Return the span between the contents before and after those of a turn."""
        before = (span[1] for span in reversed(self.contents[:turn]) if span)
        return next(before, 0), next((span[0] for span in self.contents[turn + 1 :] if span), len(self.text))


class Conversations:
    """What one template writes around contents and answers.

    ``has_opening`` says whether it opens an answer by itself (add_generation_prompt), ``closing`` is the control token
    that it ends one with. Raises RowFault where it does not render a plain question and answer.
    """

    def __init__(self, template: SafeTemplate, end_tokens: Collection[str], special_tokens: Sequence[str]) -> None:
        self.template = template
        self._frames: dict[tuple[tuple[str, bool], ...], list[str]] = {}
        self.absent: dict[str, frozenset[Any]] = {}
        """By the shape of a conversation what the template has no place for, see `proofs`."""
        opened = template.render([request(QUESTION[:1], openings=[1])])[0]
        self.has_opening = opened.text != opened.opening(1)
        plain = self.find_contents(QUESTION, None, self.render(QUESTION))
        tail = plain.text[(plain.contents[1] or (0, 0))[1] :].lstrip()
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
        endings = [n for n in answers if not messages[n]["content"] or messages[n].get("tool_calls")]
        return request(messages, tools, answers if self.has_opening else [], endings)

    def find_contents(self, messages: list[dict[str, Any]], tools: Any, text: str) -> Conversation:
        """Return where in ``text`` each content stands; raises RowFault where one is lost or rewritten."""
        frame = self._frame(messages, tools)
        # Where a template rewrites a content (Qwen3 re-indents reasoning), the messages are tried one at a time.
        contents = _walk(text, frame, messages) or [
            self._find_alone(text, messages, tools, turn) if message["content"] else None
            for turn, message in enumerate(messages)
        ]
        return Conversation(messages, text, contents)

    def locate(self, placed: Conversation, answer: int, rendering: Rendering, *, is_last: bool) -> Turn:
        """Return where an answer stands; raises RowFault where what is trained is not what is generated."""
        text, span, message = placed.text, placed.contents[answer], placed.messages[answer]
        if self.has_opening:
            opening = rendering.opening(answer)
        elif span is None:
            raise RowFault("the chat template has no opening of an answer, and this answer has no text")
        else:
            opening = text[: span[0]]
        if text.startswith(opening) and (span is None or len(opening) <= span[1]):
            start = len(opening)
        elif is_last or span is None:
            raise RowFault(
                "the chat template opens an answer in another way when it generates than when it trains"
                " (add_generation_prompt is no prefix of the whole)"
            )
        else:
            # Some templates shorten the history (Qwen3 drops reasoning); the answer itself is still trained.
            start = span[0]
        if span is None or message.get("tool_calls"):
            # The end of an answer that is more than its content: before the last end token of the text up to it.
            ending = rendering.ending(answer)
            if not text.startswith(ending):
                raise RowFault("the chat template rewrites an answer with tool calls once more messages follow")
            stop = len(ending.rstrip())
            stop -= next((len(token) for token in self._end_tokens if ending.endswith(token, 0, stop)), 0)
        else:
            stop = span[1]
        # Some templates write a newline before the end token.
        rest = len(text) - len(text[stop:].lstrip())
        token = next((token for token in self._end_tokens if text.startswith(token, rest)), None)
        return Turn(start, stop, stop if token is None else rest + len(token))

    def _frame(self, messages: Sequence[Message], tools: Any) -> list[str]:
        """The template's own text before each content and after the last, seen with a word in place of each content."""
        # Roles alone decide what a plain conversation is surrounded by: they are proved once, and each text is laid
        # upon what they gave.
        is_plain = tools is None and not any(message.get("tool_calls") or trace_of(message) for message in messages)
        key = tuple((message["role"], bool(message["content"])) for message in messages)
        if is_plain and key in self._frames:
            return self._frames[key]
        word = sentinel(json.dumps([messages, tools], ensure_ascii=False, default=str) + self.template.source)
        words = [f"{word}{turn:04d}" if message["content"] else "" for turn, message in enumerate(messages)]
        rest, frame = self.render([{**m, "content": w} for m, w in zip(messages, words, strict=True)], tools), []
        for message, own in zip(messages, words, strict=True):
            if own:
                before, separator, rest = rest.partition(own)
                if not separator and message["role"] == "tool":
                    raise RowFault("the chat template has no place for what a tool answers")
                if not separator or own in rest:
                    raise TemplateFault(f"the chat template loses, repeats or reorders what a {message['role']} says")
                frame.append(before)
        frame.append(rest)
        if is_plain:
            self._frames[key] = frame
        return frame

    def _find_alone(self, text: str, messages: Sequence[Message], tools: Any, turn: int) -> Span:
        # The span of one content, by replacing it alone; see `says` for what the template may do to it.
        word = sentinel(text + self.template.source)
        changed = [{**m, "content": word} if number == turn else m for number, m in enumerate(messages)]
        before, separator, after = self.render(changed, tools).partition(word)
        shared = next((n for n, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), len(before))
        start, end = min(shared, len(text)), len(text) - len(after)
        own = text[start:end]
        is_said = says(own, messages[turn]["content"]) or any(form in own for form in _quoted(messages[turn]))
        if not (separator and text.endswith(after) and is_said):
            raise RowFault(f"the chat template rewrites what the {messages[turn]['role']} says")
        return start, end


def says(text: str, content: str) -> bool:
    """True where ``text`` contains ``content``, but for white space at its ends and next to tags such as <think>."""
    # Templates strip contents, and put reasoning on lines of its own. White space anywhere else is the content's: a
    # template that squeezes or indents it would teach code without its lines.
    if not (_TAG.search(text) or _TAG.search(content)):
        return content.strip() in text.strip()
    plain_text, plain = (re.sub(rf"\s*({_TAG.pattern})\s*", r"\1", part).strip() for part in (text, content))
    return plain in plain_text


_TAG = re.compile(r"</?\w+>")


def sentinel(text: str) -> str:
    """Return a plain word that occurs nowhere in ``text``."""
    number = 0
    while f"qzx{number}y" in text:
        number += 1
    return f"qzx{number}y"


def _quoted(message: Message) -> tuple[str, ...]:
    # What a tool answers as Llama 3 and gpt-oss write it, inside a string of JSON; nothing for other roles.
    if message["role"] != "tool":
        return ()
    return tuple(json.dumps(message["content"], ensure_ascii=is_ascii)[1:-1] for is_ascii in (False, True))


def _walk(text: str, frame: Sequence[str], messages: Sequence[Message]) -> list[Span | None] | None:
    """Lay the frame and the contents, as they are, stripped or quoted, over the text; None where they do not fit."""
    if not text.startswith(frame[0]):
        return None
    spans: list[Span | None] = []
    position, afters = len(frame[0]), iter(frame[1:])
    for message in messages:
        content = message["content"]
        if not content:
            spans.append(None)
            continue
        after = next(afters)
        forms = (content, content.strip(), content.lstrip(), content.rstrip(), *_quoted(message))
        # Not the two joined: contents are long, and nearly all stand there as they are.
        fits = (len(f) for f in forms if text.startswith(f, position) and text.startswith(after, position + len(f)))
        size = next(fits, None)
        if size is None:
            return None
        spans.append((position, position + size))
        position += size + len(after)
    return spans if position == len(text) else None


@dataclass(frozen=True)
class ReasoningMarks:
    """What a template writes around reasoning, without white space; ``is_open`` where its prompt has begun it."""

    opening: str
    closing: str
    is_open: bool

    def split(self, ids: Sequence[int], decode: Callable[..., str]) -> tuple[str, str | None]:
        """Return the answer of generated ``ids``, and the reasoning before it, None where there is none.

        ``decode(ids, has_control=...)`` gives their text. Reasoning that does not end has an empty answer.
        """
        low = self.length(ids, decode)
        if low is None:
            return decode(ids, has_control=False), None
        trace, _, rest = self._begun(ids[:low], decode).partition(self.closing)
        return (rest + decode(ids[low:], has_control=False)).lstrip(), trace.strip()

    def length(self, ids: Sequence[int], decode: Callable[..., str]) -> int | None:
        """Return how many of generated ``ids`` are reasoning with its end, None where there is none."""
        text = decode(ids, has_control=True)
        is_begun = self.is_open or text.lstrip().startswith(self.opening)
        if not is_begun or not (self.opening or self.is_open or self.closing in text):
            return None
        # The fewest ids whose text has the end of the reasoning; more of them never lose it.
        return bisect_left(range(len(ids)), True, key=lambda n: self.closing in self._begun(ids[:n], decode))

    def answer_in(self, content: str) -> str:
        """Return the content of an answer without the reasoning that it begins with, as completions are parted too."""
        text = content.lstrip()
        is_begun = self.closing in text and text.startswith(self.opening)
        return text.partition(self.closing)[2].lstrip() if is_begun else content

    def _begun(self, ids: Sequence[int], decode: Callable[..., str]) -> str:
        text: str = decode(ids, has_control=True)
        return text.lstrip().removeprefix(self.opening)


def find_marks(conversations: Conversations) -> ReasoningMarks | None:
    """Return what the template writes around reasoning; None where it writes none, or nothing between it and the
    answer, so that nobody could tell them apart.
    """
    source = conversations.template.source
    if not any(name in source for name in TRACES):
        return None
    word = sentinel(source)
    reasoned = prepare_messages([QUESTION[0], {**QUESTION[1], "reasoning_content": word}], source)
    try:
        opening = conversations.opening(QUESTION[:1])
        text, plain = conversations.render(reasoned), conversations.render(QUESTION)
    except RowFault:
        return None
    before, separator, after = text.removeprefix(opening).partition(word)
    closing = after.partition(QUESTION[1]["content"])[0].strip()
    if not separator or not text.startswith(opening) or not closing:
        return None
    is_direct = plain.removeprefix(opening).lstrip().startswith(QUESTION[1]["content"])
    return ReasoningMarks(before.strip(), closing, not before.strip() and not is_direct)


def trace_span(placed: Conversation, turn: int, marks: ReasoningMarks | None) -> Span | None:
    """Return where the reasoning of a message stands in the text, None where it is not between its marks before the
    content.
    """
    (start, stop), own = placed.around(turn), placed.contents[turn]
    text = placed.text[start : own[0] if own else stop]
    # A short one may stand elsewhere too, so it counts only where its marks are around it.
    for closing in re.finditer(re.escape(marks.closing), text) if marks else ():
        before = text[: closing.start()].rstrip()
        for form in spellings(trace_of(placed.messages[turn])):
            begin = len(before) - len(form)
            if before.endswith(form) and text[:begin].rstrip().endswith(marks.opening if marks else ""):
                return start + begin, start + len(before)
    return None


def trained_turns(
    placed: Conversation, marks: ReasoningMarks | None, trained: Collection[int], *, is_masked: bool
) -> list[Turn]:
    """Return where what is trained of each answer stands: with its reasoning, or where that ``is_masked`` without.

    Raises RowFault where the reasoning of one of the ``trained`` stands elsewhere, or its end cannot be told.
    """
    turns = list(placed.turns)
    for number, (answer, turn) in enumerate(zip(placed.answers, placed.turns, strict=True)):
        if answer not in trained or not trace_of(placed.messages[answer]):
            continue
        if marks is None:
            raise RowFault("the chat template writes no mark between reasoning and answer")
        span, content = trace_span(placed, answer, marks), placed.contents[answer]
        if span is None or span[0] < turn.start or span[1] > turn.stop:
            raise RowFault("the chat template writes reasoning at another place than before its answer")
        if is_masked:
            rest = placed.text[span[1] :]
            if rest.lstrip().startswith(marks.closing):
                rest = rest.lstrip().removeprefix(marks.closing).lstrip()
            turns[number] = turn._replace(start=content[0] if content else len(placed.text) - len(rest))
    return turns


def spellings(value: Any) -> Iterator[str]:
    """Yield how templates write a key or a leaf: as it is, in JSON (once or twice), in HTML, as Python prints it."""
    if not isinstance(value, str):
        yield json.dumps(value)
        yield repr(value)
        return
    plain = value.strip()
    yield plain
    for is_ascii in (False, True):
        inside = json.dumps(plain, ensure_ascii=is_ascii)[1:-1]
        yield inside
        yield json.dumps(inside, ensure_ascii=is_ascii)[1:-1]
    yield str(escape(plain))
    yield repr(plain)[1:-1]
