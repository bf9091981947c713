"""Conversations as a chat template renders them: where in the text each content, each answer and its reasoning stands.

What is located is proved: each content stands in the text, in order, and an answer where it is generated; tools, calls
and reasoning stand in it too (`prove_parts`); and what is trained of an answer is that answer (`prove_answer`).

A template is a black box, in a child process of its own. What depends on it alone is seen once for each shape of a
conversation (its roles, tools, calls and reasoning), on words in place of the contents: what stands around each content
and where answers begin and end. Each row is rendered too, and must be the same text but for its contents; where it is
not, as with a template that re-indents some of them, it is looked at by itself.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import count
from typing import Any, NamedTuple

from markupsafe import escape

from train.base.process import Worker
from train.data.dataset import REASONING_KEYS, RowFault, TemplateFault, prepare_messages, reasoning_of
from train.data.rendering import template as template_module
from train.data.rendering.template import CHILD_SECONDS

# The child ends itself by its CPU time; this is for one that waits instead, also on a machine that is very busy.
_MOST_SECONDS = 24 * CHILD_SECONDS
_DIED = {"fault": f"it needs more than {CHILD_SECONDS} seconds, or ended the process that rendered it"}
_MOST_SHAPES = 1000
QUESTION: list[dict[str, Any]] = [
    {"role": "user", "content": "What is asked here?"},
    {"role": "assistant", "content": "What is answered here."},
]
"""What every template must be able to train; of several words, so that one that cuts or joins them is seen."""
Message = Mapping[str, Any]
Span = tuple[int, int]
"""[start, end) in characters."""


class RenderFault(RowFault):
    """A conversation has no text; ``is_refusal`` where the template says so itself (raise_exception)."""

    def __init__(self, detail: str, *, is_refusal: bool) -> None:
        super().__init__(f"the chat template refuses the conversation: {detail[:200]}")
        self.is_refusal = is_refusal


class Rendering(NamedTuple):
    """A text, and how many of its characters stand before the last answer where that is generated, -1 for others."""

    text: str
    start: int


class Turn(NamedTuple):
    """The [start, end) characters of one answer; ``end`` lies after its end token, ``stop`` before it."""

    start: int
    stop: int
    end: int


@dataclass(frozen=True)
class Conversation:
    """A rendered conversation up to its last answer: the messages as the template got them, and where they stand."""

    messages: list[dict[str, Any]]
    text: str
    contents: list[Span | None]
    """Of each message the span of its content in ``text``, None where it has none."""
    turns: dict[int, Turn] = field(default_factory=dict)
    """Where answers stand, by the indices of their messages in order; the last is the last message."""

    @cached_property
    def pieces(self) -> list[str]:
        """What the template itself wrote before each content and after the last."""
        spans = [span for span in self.contents if span is not None]
        ends, starts = [0, *(end for _, end in spans)], [*(start for start, _ in spans), len(self.text)]
        return [self.text[end:start] for end, start in zip(ends, starts, strict=True)]

    @property
    def template_text(self) -> str:
        """What the template itself wrote; a NUL stands for each content, lest a token form across the gap."""
        return "\0".join(self.pieces)

    @property
    def prompt(self) -> str:
        """The text that stands before the last answer."""
        return self.text[: self.last_turn.start]

    @property
    def last_turn(self) -> Turn:
        """Where the last answer stands."""
        return self.turns[len(self.messages) - 1]

    def span_around(self, turn: int) -> Span:
        """Return the span between the contents before and after those of a turn."""
        before = (span[1] for span in reversed(self.contents[:turn]) if span)
        return next(before, 0), next((span[0] for span in self.contents[turn + 1 :] if span), len(self.text))

    def fill(self, messages: list[dict[str, Any]], text: str) -> Conversation | None:
        """Return this shape with the contents of ``messages``; None where ``text`` differs in more than them."""
        first, *afters = self.pieces
        if not text.startswith(first):
            return None
        contents: list[Span | None] = []
        ends, shifts, position = [0], [0], len(first)
        for span, message in zip(self.contents, messages, strict=True):
            if span is None:
                contents.append(None)
                continue
            content, after = message["content"], afters[len(ends) - 1]
            # Not joined with what follows, since contents are long.
            forms = (content, content.strip(), content.lstrip(), content.rstrip(), *_quoted(message))
            stops = (position + len(form) for form in forms if text.startswith(form, position))
            stop = next((stop for stop in stops if text.startswith(after, stop)), None)
            if stop is None:
                return None
            contents.append((position, stop))
            ends.append(span[1])
            shifts.append(stop - span[1])
            position = stop + len(after)
        if position != len(text):
            return None
        turns = {
            answer: Turn(*(edge + shifts[bisect_right(ends, edge) - 1] for edge in turn))
            for answer, turn in self.turns.items()
        }
        return Conversation(messages, text, contents, turns)


class SafeTemplate:
    """A chat template in a child of its own, with little memory and time, started again where it died.

    ``has_opening`` says whether it opens an answer by itself (add_generation_prompt), ``closing`` is the control token
    that it ends one with. Raises RowFault where it breaks out, fails, takes over 5 s or too much memory; it may say
    that it knows no system message, or no conversation of this kind.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], end_token: str, special_tokens: Sequence[str]) -> None:
        self.source = source
        handshake = {"template": source, "tokens": dict(tokens)}
        self._worker = Worker([template_module.__file__], handshake=handshake, timeout=_MOST_SECONDS)
        self._shape = lru_cache(_MOST_SHAPES)(self._locate_words)
        self.try_render = lru_cache(_MOST_SHAPES)(self._try_render)
        system = {"role": "system", "content": "system"}
        for probe in (QUESTION, QUESTION[:1], [system, *QUESTION], QUESTION * 2):
            try:
                self.render(probe, is_prompt=len(probe) == 1)
            except RenderFault as fault:
                if not fault.is_refusal:
                    raise
        self.has_opening = self.render(QUESTION[:1]) != self.render(QUESTION[:1], is_prompt=True)
        tail = self.render(QUESTION).rpartition(QUESTION[1]["content"])[2].lstrip()
        self.closing = next((token for token in special_tokens if tail.startswith(token)), None)
        self._end_tokens = sorted(filter(None, {end_token, self.closing}), key=len, reverse=True)

    def render(self, messages: Sequence[Message], tools: Any = None, *, is_prompt: bool = False) -> str:
        """Return the text of one conversation, ``is_prompt`` with the opening of an answer; raises RenderFault."""
        [rendering] = self._ask([(messages, tools, is_prompt, None)])
        if isinstance(rendering, RenderFault):
            raise rendering
        return rendering.text

    def render_all(self, requests: Sequence[tuple[Sequence[Message], Any, int]]) -> list[Rendering | RenderFault]:
        """Return the rendering of each (messages, tools, index of the last answer), or why there is none."""
        return self._ask([(messages, tools, False, answer) for messages, tools, answer in requests])

    def _ask(self, requests: list[tuple[Sequence[Message], Any, bool, int | None]]) -> list[Rendering | RenderFault]:
        answer = self._worker.ask(requests) if requests else []
        if isinstance(answer, list):
            return [
                Rendering(**one) if "text" in one else RenderFault(*one.values(), is_refusal="refused" in one)
                for one in answer
            ]
        # One conversation of several is to blame, and the others shall not suffer for it.
        if len(requests) > 1:
            return [self._ask([request])[0] for request in requests]
        return [RenderFault((answer or _DIED)["fault"], is_refusal=False)]

    def locate(
        self, messages: list[dict[str, Any]], tools: Any, answers: Sequence[int], rendering: Rendering
    ) -> Conversation:
        """Return where in the rendering of a conversation the contents and ``answers`` stand.

        Raises RowFault where a content is lost or rewritten, or what would be trained is not what is generated.
        """
        text, start = rendering
        bare = [{**message, "content": bool(message["content"])} for message in messages]
        conversation = self._shape(json.dumps([bare, tools, answers])).fill(messages, text)
        # What is generated from may depend on contents, too.
        if conversation is not None and (start == conversation.last_turn.start or not self.has_opening):
            return conversation
        contents = [
            self._find_alone(text, messages, tools, turn) if message["content"] else None
            for turn, message in enumerate(messages)
        ]
        return self._with_turns(Conversation(messages, text, contents), tools, answers)

    def _locate_words(self, shape: str) -> Conversation:
        """A conversation of a shape, with words in place of its contents."""
        bare, tools, answers = json.loads(shape)
        word = _sentinel(shape + self.source)
        words = [{**m, "content": f"{word}{turn}z" if m["content"] else ""} for turn, m in enumerate(bare)]
        text, contents, end = self.render(words, tools), list[Span | None](), 0
        for message in words:
            content = message["content"]
            if not content:
                contents.append(None)
                continue
            start = text.find(content, end)
            end = start + len(content)
            if message["role"] == "tool" and content not in text:
                raise RowFault("the chat template has no place for what a tool answers")
            if start < 0 or text.count(content) > 1:
                raise TemplateFault(f"the chat template loses, repeats or reorders what a {message['role']} says")
            contents.append((start, end))
        return self._with_turns(Conversation(words, text, contents), tools, answers)

    def _find_alone(self, text: str, messages: Sequence[Message], tools: Any, turn: int) -> Span:
        # The span of one content, by replacing it alone; see `contains_content` for what the template may do to it.
        word = _sentinel(text + self.source)
        changed = [{**m, "content": word} if number == turn else m for number, m in enumerate(messages)]
        before, separator, after = self.render(changed, tools).partition(word)
        shared = next((n for n, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), len(before))
        start, end = min(shared, len(text)), len(text) - len(after)
        written, message = text[start:end], messages[turn]
        is_there = contains_content(written, message["content"]) or any(form in written for form in _quoted(message))
        # What a template adds to some answers would be trained as theirs.
        if message["role"] == "assistant":
            is_there = _trim_tags(written) == _trim_tags(message["content"])
        if not (separator and text.endswith(after) and is_there):
            raise RowFault(f"the chat template rewrites what the {message['role']} says")
        return start, end

    def _with_turns(self, conversation: Conversation, tools: Any, answers: Sequence[int]) -> Conversation:
        return replace(conversation, turns={answer: self._turn(conversation, tools, answer) for answer in answers})

    def _turn(self, conversation: Conversation, tools: Any, answer: int) -> Turn:
        text, span, messages = conversation.text, conversation.contents[answer], conversation.messages
        if self.has_opening:
            opening = self.render(messages[:answer], tools, is_prompt=True)
        elif span is None:
            raise RowFault("the chat template has no opening of an answer, and this answer has no text")
        else:
            opening = text[: span[0]]
        if text.startswith(opening) and (span is None or len(opening) <= span[1]):
            start = len(opening)
        elif span is None or answer == len(messages) - 1:
            raise RowFault(
                "the chat template opens an answer in another way when it generates than when it trains"
                " (add_generation_prompt is no prefix of the whole)"
            )
        else:
            # Some templates shorten the history (Qwen3 drops reasoning); the answer itself is still trained.
            start = span[0]
        if span is None or messages[answer].get("tool_calls"):
            # The end of an answer that is more than its content: before the last end token of the text up to it.
            ending = self.render(messages[: answer + 1], tools)
            if not text.startswith(ending):
                raise RowFault("the chat template rewrites an answer with tool calls once more messages follow")
            stop = len(ending.rstrip())
            stop -= next((len(token) for token in self._end_tokens if ending.endswith(token, 0, stop)), 0)
        else:
            stop = span[1]
        # Some templates write a newline before the end token.
        end = len(text) - len(text[stop:].lstrip())
        token = next((token for token in self._end_tokens if text.startswith(token, end)), None)
        return Turn(start, stop, stop if token is None else end + len(token))

    def _try_render(self, conversation: str) -> str | None:
        """The text of messages and tools, in JSON; None where the template refuses them."""
        try:
            return self.render(*json.loads(conversation))
        except RowFault:
            return None


# Each starts a process, which all renderers of one base can share.
safe_template = lru_cache(maxsize=8)(SafeTemplate)


def contains_content(text: str, content: str) -> bool:
    """Return whether ``text`` has ``content``, but for white space at its ends and next to tags such as <think>."""
    return content.strip() in text or _trim_tags(content) in _trim_tags(text)


def _trim_tags(text: str) -> str:
    # Templates strip contents, and put reasoning on lines of its own. White space anywhere else is the content's: a
    # template that squeezes or indents it would teach code without its lines.
    return "".join(part.strip() for part in re.split(r"(</?\w+>)", text))


def _sentinel(text: str) -> str:
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
        reasoning, _, after = self._begun(ids[:low], decode).partition(self.closing)
        return (after + decode(ids[low:], has_control=False)).lstrip(), reasoning.strip()

    def length(self, ids: Sequence[int], decode: Callable[..., str]) -> int | None:
        """Return how many of generated ``ids`` are reasoning with its end, None where there is none."""
        text = decode(ids, has_control=True)
        is_begun = self.is_open or text.lstrip().startswith(self.opening)
        if not is_begun or not (self.opening or self.is_open or self.closing in text):
            return None
        # The fewest ids whose text has the end of the reasoning; more of them never lose it.
        return bisect_left(range(len(ids)), True, key=lambda n: self.closing in self._begun(ids[:n], decode))

    def strip_reasoning(self, content: str) -> str:
        """Return the content of an answer without the reasoning that it begins with, as completions are parted too."""
        text = content.lstrip()
        is_begun = self.closing in text and text.startswith(self.opening)
        return text.partition(self.closing)[2].lstrip() if is_begun else content

    def span(self, conversation: Conversation, turn: int) -> Span | None:
        """Return where the reasoning of a message stands, None where it is not between its marks before the content."""
        (start, stop), content_span = conversation.span_around(turn), conversation.contents[turn]
        text = conversation.text[start : content_span[0] if content_span else stop]
        # A short one may stand elsewhere too, so it counts only where its marks are around it.
        for closing in re.finditer(re.escape(self.closing), text):
            before = text[: closing.start()].rstrip()
            for form in _spellings(reasoning_of(conversation.messages[turn])):
                begin = len(before) - len(form)
                if before.endswith(form) and text[:begin].rstrip().endswith(self.opening):
                    return start + begin, start + len(before)
        return None

    def _begun(self, ids: Sequence[int], decode: Callable[..., str]) -> str:
        text: str = decode(ids, has_control=True)
        return text.lstrip().removeprefix(self.opening)


def find_marks(source: str, render: Callable[..., str]) -> ReasoningMarks | None:
    """Return what a template writes around reasoning; None where it writes none, or nothing between it and the answer,
    so that nobody could tell them apart. ``render`` is as `SafeTemplate.render`.
    """
    if not any(name in source for name in REASONING_KEYS):
        return None
    word, answer = _sentinel(source), QUESTION[1]["content"]
    reasoned = prepare_messages([QUESTION[0], {**QUESTION[1], "reasoning_content": word}], source)
    try:
        opening = render(QUESTION[:1], is_prompt=True)
        text, plain = render(reasoned), render(QUESTION)
    except RowFault:
        return None
    before, separator, after = text.removeprefix(opening).partition(word)
    closing = after.partition(answer)[0].strip()
    if not separator or not text.startswith(opening) or not closing:
        return None
    is_direct = plain.removeprefix(opening).lstrip().startswith(answer)
    return ReasoningMarks(before.strip(), closing, not before.strip() and not is_direct)


def trained_turns(
    conversation: Conversation, marks: ReasoningMarks | None, trained: Collection[int], *, is_masked: bool
) -> list[Turn]:
    """Return where what is trained of each answer stands: with its reasoning, or where that ``is_masked`` without.

    Raises RowFault where the reasoning of one of the ``trained`` stands elsewhere, or its end cannot be told.
    """
    turns = dict(conversation.turns)
    for answer, turn in conversation.turns.items():
        if answer not in trained or not reasoning_of(conversation.messages[answer]):
            continue
        if marks is None:
            raise RowFault("the chat template writes no mark between reasoning and answer")
        span, content = marks.span(conversation, answer), conversation.contents[answer]
        if span is None or span[0] < turn.start or span[1] > turn.stop:
            raise RowFault("the chat template writes reasoning at another place than before its answer")
        if is_masked:
            after = conversation.text[span[1] :].lstrip().removeprefix(marks.closing).lstrip()
            turns[answer] = turn._replace(start=content[0] if content else len(conversation.text) - len(after))
    return list(turns.values())


def prove_answer(conversation: Conversation, answer: int, turn: Turn, decoded: str) -> None:
    """Prove that what is trained at a ``turn`` is the ``answer``, and of nobody else's content; ``decoded`` is the text
    of its ids, which may differ from the row's by outer spaces and the tokenizer's own Unicode normal form.

    Raises RowFault.
    """
    for span, message in zip(conversation.contents, conversation.messages, strict=True):
        if span and message["role"] != "assistant" and turn.start < span[1] and span[0] < turn.end:
            raise RowFault("a token of the system, the user or a tool would be trained")
    text = conversation.text[turn.start : turn.end]
    if decoded != text and _normal(decoded) != _normal(text):
        raise RowFault("the tokenizer cannot express the answer (the trained ids decode to another text)")
    if not contains_content(text, conversation.messages[answer]["content"]):
        raise RowFault("the trained text is not the assistant's")


def _normal(text: str) -> list[str]:
    return unicodedata.normalize("NFKC", text).split()


def _spellings(value: Any) -> Iterator[str]:
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


_TEXT_KEYS = ("content", "name", "description", "arguments", *REASONING_KEYS)


class _RecordPart(NamedTuple):
    """One name, key or value of a record: of the kind ``kind`` (in words) below ``key`` of the message ``turn``, None
    for tools. A part that is not ``is_needed`` may be left out, which is counted.
    """

    turn: int | None
    key: str
    kind: str
    value: Any
    is_needed: bool = True


def prove_parts(template: SafeTemplate, conversation: Conversation, tools: Any, trained: Collection[int]) -> list[str]:
    """Prove that tools, tool calls and reasoning stand in the text; return what is left out and may be, in words.

    ``trained`` are the turns whose reasoning must be there; that of others may be left out, as Qwen3 does on purpose.
    """
    # A template writes them in a form of its own (JSON with other spaces, XML parameters, signatures of TypeScript), so
    # two things are proved. Once for each shape, that the template has a place for each part: no text of somebody else
    # can stand in for it. And of each row that each part stands, in one of the known spellings, in what the template
    # writes at that turn: a value that is cut, rewritten, or left out for what it is (none, false, zero) does not.
    parts = list(_parts(conversation.messages, tools, trained))
    if not parts:
        return []
    like = _in_words(conversation.messages, tools, template.source)
    # A template may check names and values and refuse the words; then only the spellings are checked.
    text = template.try_render(json.dumps(like))
    has_slot = [text is None or not isinstance(part.value, str) or part.value in text for part in _parts(*like)]
    missing = []
    for part, is_slot in zip(parts, has_slot, strict=True):
        written = _written_at(conversation, part.turn)
        if not is_slot or (part.is_needed and not any(form in written for form in _spellings(part.value))):
            missing.append(part)
    if needed := [part for part in missing if part.is_needed]:
        raise RowFault(_refusal(parts, needed))
    kinds = ("descriptions of tools" if p.turn is None else f"the {p.key} of answers that are not trained"
             for p in missing)  # fmt: skip
    return [f"the chat template leaves out {kind}" for kind in dict.fromkeys(kinds)]


def _parts(messages: Sequence[Message], tools: Any, trained: Collection[int] = ()) -> Iterator[_RecordPart]:
    """Yield what of tools, tool calls and reasoning must stand in the text."""
    for tool in tools or ():
        function = _function(tool, "a tool")
        yield _RecordPart(None, "tools", "names", function["name"])
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        properties = properties if isinstance(properties, Mapping) else {}
        for name in properties:
            yield _RecordPart(None, "tools", "parameters", name)
        for holder in (function, *properties.values()):
            text = holder.get("description") if isinstance(holder, Mapping) else None
            if isinstance(text, str) and text.strip():
                yield _RecordPart(None, "tools", "descriptions", text, is_needed=False)
    for turn, message in enumerate(messages):
        for call in message.get("tool_calls") or ():
            function = _function(call, "a tool call")
            yield _RecordPart(turn, "tool_calls", "names", function["name"])
            # A call without arguments may be written without any.
            if function.get("arguments") not in (None, {}):
                for leaf in _leaves(function["arguments"]):
                    yield _RecordPart(turn, "tool_calls", "arguments", leaf)
        for key in REASONING_KEYS:
            if isinstance(reasoning := message.get(key), str) and reasoning.strip():
                yield _RecordPart(turn, key, "parts", reasoning, is_needed=turn in trained)


def _in_words(messages: Sequence[Message], tools: Any, source: str) -> tuple[list[Any], Any]:
    """Return messages and tools of the same shape, of words that the template has nowhere."""
    word, numbers = _sentinel(json.dumps([messages, tools], ensure_ascii=False) + source), count()

    def replace_texts(value: Any, key: str = "") -> Any:
        # Contents, names, descriptions and all of the arguments become words; of a schema what it asks for stays.
        if isinstance(value, list):
            return [replace_texts(inner, key) for inner in value]
        if isinstance(value, dict):
            has_names = key in ("arguments", "properties")
            inner_key = "arguments" if key == "arguments" else ""
            return {
                new_word() if has_names else name: replace_texts(inner, inner_key if has_names else name)
                for name, inner in value.items()
            }
        return new_word() if isinstance(value, str) and value.strip() and key in _TEXT_KEYS else value

    def new_word() -> str:
        return f"{word}{next(numbers):05d}y"

    return replace_texts([*messages]), replace_texts(tools)


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the keys and the leaves of a value; an empty list or object is a leaf."""
    if isinstance(value, dict | list) and value:
        for key in value:
            if isinstance(value, dict):
                yield key
            yield from _leaves(value[key] if isinstance(value, dict) else key)
    else:
        yield value


def _function(holder: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    function = holder.get("function", holder)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowFault(f"{what} has no name of a function")
    return function


def _written_at(conversation: Conversation, turn: int | None) -> str:
    """What the template itself writes: at a turn (between the contents around it), and for None everywhere."""
    if turn is None:
        return conversation.template_text
    start, stop = conversation.span_around(turn)
    text, content = conversation.text, conversation.contents[turn]
    return text[start:stop] if content is None else f"{text[start : content[0]]}\0{text[content[1] : stop]}"


def _refusal(parts: Sequence[_RecordPart], missing: Sequence[_RecordPart]) -> str:
    # Name each key of which nothing is left, and of the others the kinds of parts that are missing.
    dropped_keys, clauses = [], []
    for key in dict.fromkeys(part.key for part in missing):
        dropped = [part for part in missing if part.key == key]
        if len(dropped) == sum(part.key == key and part.is_needed for part in parts):
            dropped_keys.append(key)
        else:
            clauses.append(f"drops {' and '.join(dict.fromkeys(part.kind for part in dropped))} of {key}")
    if dropped_keys:
        clauses.insert(0, f"has no place for {' and '.join(dropped_keys)}")
    is_history = "parts" in (part.kind for part in missing) and not set(REASONING_KEYS) & set(dropped_keys)
    remedy = ' (reasoning = "drop-history" does without it in earlier turns)' if is_history else ""
    return f"the chat template {' and '.join(clauses)}{remedy}"
