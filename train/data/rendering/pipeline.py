"""The one path from rows to records: rendered, located, encoded, proved. A single row is a batch of one.

The template's child and the tokenizer are asked for a whole batch at once. A row that breaks a promise drops out with
its fault, and the others go on. Each promise is proved in one function, which raises RowFault where a row breaks it.

Of the text, as the template rendered it (that every content stands in it, in order, is what `conversation` finds):

- tools, tool calls, results and reasoning stand in it: `prove_parts`;
- no answer is empty: `prove_answers_have_text`;
- the template's own {% generation %} blocks are where the answers are: `prove_marks`.

Of the tokens:

- those of the prompt alone begin those of the row, so what is trained is what is served: `prove_prefix`;
- one beginning-of-text token stands at the beginning, where the tokenizer adds one: `prove_single_bos`;
- all control tokens are the template's: `prove_control_tokens`;
- no token of the system, the user or a tool is trained: `prove_answers_are_apart`;
- what is trained decodes to the answer: `prove_answer`;
- the end token is trained: `prove_end`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from train.data.dataset import (
    TRACES,
    ControlTokenFault,
    Row,
    RowFault,
    TemplateFault,
    answer_weights,
    answers_of,
    last_answer,
    refuse_marks,
    trace_of,
    weight_of,
)
from train.data.messages import all_texts, drop_history, prepare_messages
from train.data.rendering.conversation import (
    Conversation,
    Conversations,
    Layout,
    Message,
    Rendering,
    Span,
    Turn,
    says,
    sentinel,
)
from train.data.rendering.encode import Encoded, Encoder, Passage
from train.data.rendering.examples import Record
from train.data.rendering.reasoning import find_marks, spellings, trained_turns
from train.recipe import Objective, Reasoning

# Rows of a batch, and the characters that end it sooner: the child has little memory.
_MOST_ROWS, _MOST_CHARACTERS = 256, 1 << 20


@dataclass
class Item:
    """A row in the pipeline. Each step fills in its fields or ``fault``; later steps skip a row with a fault."""

    row: Row
    fault: RowFault | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    """As the template gets them, none for raw text."""
    answers: list[int] = field(default_factory=list)
    """Indices of the messages to locate in the text; the last one is the conversation's last answer."""
    notes: list[str] = field(default_factory=list)
    """What the template leaves out and may, in words."""
    talk: Conversation | None = None
    turns: list[Turn] = field(default_factory=list)
    """Where what is trained of each answer stands; the talk's own begin where an answer is generated."""
    encoded: Encoded | None = None
    record: Record | None = None

    def attempt(self, step: Callable[..., None], *arguments: Any) -> None:
        """Take a step, unless one before failed."""
        if self.fault is None:
            try:
                step(self, *arguments)
            except RowFault as fault:
                self.fault = fault

    @property
    def text(self) -> str:
        """What is encoded."""
        return (self.row.text or "") if self.talk is None else self.talk.layout.text


class Pipeline:
    """Takes rows along the path for one tokenizer, template and objective."""

    def __init__(
        self, encoder: Encoder, conversations: Conversations, objective: Objective, reasoning: Reasoning, *,
        allow_special_tokens: bool,
    ) -> None:  # fmt: skip
        self.encoder, self.conversations, self.objective = encoder, conversations, objective
        self.reasoning, self.allow_special_tokens = reasoning, allow_special_tokens
        self.marks = find_marks(conversations)

    def records(self, rows: Sequence[Row], *, has_offsets: bool = False) -> Iterator[Item]:
        """Yield each row with its proved record, or with the fault for which it has none."""
        for batch in _batches(rows):
            items = self.encode(self.locate(batch), has_offsets=has_offsets)
            for item in items:
                item.attempt(self._prove)
            yield from items

    def locate(self, rows: Sequence[Row], *, is_trained: bool = True) -> list[Item]:
        """Return each row rendered, with the span of each answer that its objective trains.

        What is not ``is_trained`` is only generated from: then the last answer alone is located, and nothing is proved
        of what stands before it.
        """
        items = [Item(row) for row in rows]
        for item in items:
            item.attempt(self._prepare, is_trained)
        talks = [item for item in items if item.fault is None and item.messages]
        requests = [self.conversations.request(item.messages, item.row.tools, item.answers) for item in talks]
        for item, rendering in zip(talks, self.conversations.template.render(requests), strict=True):
            item.attempt(self._locate, rendering, is_trained)
        return items

    def encode(self, items: list[Item], *, has_offsets: bool = False) -> list[Item]:
        """Encode what `locate` returned."""
        located = [item for item in items if item.fault is None]
        passages = [self._passage(item, has_offsets=has_offsets) for item in located]
        for item, encoded in zip(located, self.encoder.encode(passages), strict=True):
            item.attempt(self._check_encoding, encoded)
        return items

    def _check_encoding(self, item: Item, encoded: Encoded) -> None:
        prove_prefix(encoded)
        item.encoded = encoded

    def _prepare(self, item: Item, is_trained: bool) -> None:
        self._refuse_control(item.row)
        if item.row.messages is not None or not is_trained:
            item.messages = prepare_messages(item.row.messages or (), self.conversations.template.source)
            dropped = drop_history(item.messages) if self.reasoning == "drop-history" else set()
            item.answers = (
                answers_of(item.messages, self.objective, item.row.first_answer)
                if is_trained
                else [last_answer(item.messages)]
            )
            if dropped:
                # Trained without it, such an answer would teach to answer without reasoning.
                item.answers = [answer for answer in item.answers if answer not in dropped]
                item.notes = [DROPPED_NOTE]

    def _locate(self, item: Item, rendering: Rendering, is_trained: bool) -> None:
        messages, tools, answers = item.messages, item.row.tools, item.answers
        layout = self.conversations.layout(messages, tools, rendering.text)
        trained: Collection[int] = answers
        if is_trained:
            weights = [weight_of(message) for message in item.row.messages or ()]
            trained = [n for n in answers if weights[n] > 0] if self.objective != "domain" else range(len(messages))
            item.notes += prove_parts(self.conversations, messages, tools, layout, trained)
            prove_answers_have_text(messages, answers)
        talk = self.conversations.locate(messages, layout, answers, rendering)
        if is_trained:
            prove_marks(rendering.marks, talk)
        item.turns = trained_turns(talk, self.marks, trained, is_masked=not is_trained or self.reasoning == "context")
        item.talk = talk

    def _passage(self, item: Item, *, has_offsets: bool) -> Passage:
        talk, text = item.talk, item.text
        spans = [(0, len(text))] if talk is None else talk.layout.spans
        is_plain = self.allow_special_tokens and any(self.encoder.special_pattern.search(text[a:b]) for a, b in spans)
        plain = spans if is_plain else []
        if talk is None:
            return Passage(text, plain=plain, has_offsets=True)
        answers = [(turn.start, turn.end) for turn in (item.turns if self.objective != "domain" else talk.turns)]
        return Passage(text, answers, talk.turn.start, plain, has_offsets or self.objective == "domain")

    def _prove(self, item: Item) -> None:
        if item.talk is None:
            item.record = self._all_tokens(item)
        elif self.objective == "domain":
            refuse_marks(item.row.messages or ())
            if self.reasoning == "context" and any(map(trace_of, item.messages)):
                raise RowFault("reasoning is to be context, and the objective domain trains all tokens alike")
            item.record = self._all_tokens(item)
        else:
            item.record = self._answers(item, item.talk)

    def _all_tokens(self, item: Item) -> Record:
        # Every token is trained; of raw text its end is one more.
        row, text, encoded, num_prompt = item.row, item.text, item.encoded, -1
        assert encoded is not None
        assert encoded.offsets is not None, "raw text and the objective domain ask for them"
        eos = self.encoder.tokenizer.eos_token_id
        if item.talk is not None:
            num_prompt = encoded.num_prompt
        elif eos is not None:
            offsets = np.append(encoded.offsets, [[len(text), len(text)]], axis=0)
            encoded = encoded._replace(ids=np.append(encoded.ids, np.int32(eos)), offsets=offsets)
        if len(encoded.ids) < 2 or not text.strip():
            raise RowFault("no token of the record is trained")
        prove_single_bos(self.encoder, encoded, text)
        assert encoded.offsets is not None
        num_bytes = len(text[int(encoded.offsets[1, 0]) :].encode())
        weights = None if row.weight == 1 else [row.weight]
        return Record(row.name, encoded.ids, [(1, len(encoded.ids))], num_bytes, num_prompt, weights)

    def _answers(self, item: Item, talk: Conversation) -> Record:
        # The answers of a weight above 0 are trained, each with its end token.
        row, encoder, encoded, text = item.row, self.encoder, item.encoded, talk.layout.text
        assert encoded is not None
        weights = answer_weights(row.messages or (), item.answers)
        every = [part for part in zip(item.turns, item.answers, encoded.runs, weights, strict=True) if part[3] > 0]
        # A first token has nothing before it to be predicted from.
        runs = [(max(start, 1), stop) for _, _, (start, stop), _ in every]
        if all(start >= stop for start, stop in runs):
            raise RowFault("no token of the record is trained")
        own = talk.layout.template_text
        prove_single_bos(encoder, encoded, own)
        prove_control_tokens(encoder, encoded, own)
        turns = [turn for turn, *_ in every]
        prove_answers_are_apart(talk, turns)
        ids = [encoded.ids[start:stop].tolist() for start, stop in runs]
        for (turn, answer, _, _), trained in zip(every, ids, strict=True):
            prove_answer(encoder, text[turn.start : turn.end], item.messages[answer]["content"], trained)
        if every[-1][1] == item.answers[-1]:
            prove_end(encoder, turns[-1], ids[-1], self.conversations.closing)
        num_bytes = sum(len(text[turn.start : turn.stop].encode()) for turn in turns)
        counted = None
        if row.weight != 1 or any(weight != 1 for *_, weight in every):
            counted = [row.weight * weight for *_, weight in every]
        return Record(row.name, encoded.ids, runs, num_bytes, encoded.num_prompt, counted)

    def _refuse_control(self, row: Row) -> None:
        # Control tokens in data are structure that the author of a row must not write (TRUST: tokens/*).
        for where, text in all_texts(row):
            token = self.encoder.special_pattern.search(text)
            if token and not (self.allow_special_tokens and where in ("content", "text")):
                raise ControlTokenFault(f"the control token {token.group()!r} stands in the data ({where})")


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.text or "") + sum(len(message["content"] or "") for message in row.messages or ())
        if len(batch) == _MOST_ROWS or size > _MOST_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


DROPPED_NOTE = 'reasoning = "drop-history" drops the reasoning of earlier turns and does not train those answers'
_PROVED_KEYS = frozenset({"tool_calls", *TRACES})


def prove_parts(
    conversations: Conversations, messages: Sequence[Message], tools: Any, layout: Layout, trained: Collection[int]
) -> list[str]:
    """Prove that tools, tool calls and reasoning stand in the text; return what is left out and may be, in words.

    ``trained`` are the turns whose reasoning must be there; that of others may be left out, as Qwen3 does on purpose.
    """
    # A template writes them in a form of its own (JSON with other spaces, XML parameters, signatures of TypeScript), so
    # two things are proved. First the conversation is rendered with a marker, a word that occurs nowhere, in place of
    # each part, and each marker must appear: then the template has a place for that part, and no text of somebody else
    # can stand in for it. Second each part itself must stand, in one of the known spellings, in what the template
    # writes at that turn: a value that is cut, rewritten, or left out for what it is (none, false, zero) does not.
    if not tools and all(_PROVED_KEYS.isdisjoint(message) for message in messages):
        return []
    markers = _Markers(json.dumps([messages, tools], ensure_ascii=False) + conversations.template.source)
    marked_tools = [markers.tool(tool) for tool in tools] if tools else tools
    marked = [markers.message(message, turn, is_trained=turn in trained) for turn, message in enumerate(messages)]
    text: str | None = None
    # A template may check names and values and refuse the markers; then only the spellings are checked.
    with suppress(RowFault):
        text = conversations.render(marked, marked_tools)
    written: dict[int | None, str] = {}
    missing = []
    for part in markers.parts:
        if part.turn not in written:
            written[part.turn] = _written_at(layout, part.turn)
        is_present = text is None or part.marker in text
        if not is_present or (part.is_needed and not any(s in written[part.turn] for s in spellings(part.value))):
            missing.append(part)
    if needed := [part for part in missing if part.is_needed]:
        raise RowFault(_refusal(markers.parts, needed))
    kinds = dict.fromkeys(
        "descriptions of tools" if part.turn is None else f"the {part.key} of answers that are not trained"
        for part in missing
    )
    return [f"the chat template leaves out {kind}" for kind in kinds]


def prove_answers_have_text(messages: Sequence[Message], answers: Sequence[int]) -> None:
    """Prove that no answer is only its end."""
    if any(not messages[turn]["content"].strip() and not messages[turn].get("tool_calls") for turn in answers):
        raise RowFault("an answer is empty, so only its end would be trained")


def prove_marks(marks: Sequence[Span], talk: Conversation) -> None:
    """Prove that the template's generation blocks, where it has some, cover each answer."""
    for answer, turn in zip(talk.answers, talk.turns, strict=True):
        first, last = talk.layout.contents[answer] or (turn.start, turn.stop)
        if marks and not any(start <= first and last <= end for start, end in marks):
            raise TemplateFault("the template's generation block and the place of the answer do not agree")


def prove_prefix(encoded: Encoded) -> None:
    """Prove that the prompt's tokens are the same when an answer is generated as when it is trained."""
    if not encoded.is_prefix:
        raise RowFault("the prompt's tokens are no prefix of the trained ones (train and serve differ)")


def prove_single_bos(encoder: Encoder, encoded: Encoded, text: str) -> None:
    """Prove exactly one BOS, at the beginning, where the tokenizer adds one, and never two there.

    ``text`` is what the template wrote.
    """
    ids, bos = encoded.ids, encoder.bos
    if bos is not None and list(ids[:2]) == [bos, bos]:
        raise TemplateFault("the chat template begins with two beginning-of-text tokens")
    if not encoder.is_adding_bos:
        return
    # A model may use its BOS as a turn marker too; then the text itself has it more than once.
    written = max(1, text.count(encoder.tokenizer.bos_token)) if encoder.tokenizer.bos_token else 1
    if ids[0] != bos or int((ids == bos).sum()) > written:
        raise RowFault("the record does not begin with exactly one beginning-of-text token")


def prove_control_tokens(encoder: Encoder, encoded: Encoded, text: str) -> None:
    """Prove that the tokens have as many control tokens as the template's ``text``, and one BOS if it was added."""
    if encoder.num_control(encoded.ids) != encoder.count_control(text) + encoded.has_added_bos:
        raise RowFault("the number of control tokens is not the chat template's (data acts as structure)")


def prove_answers_are_apart(talk: Conversation, turns: Sequence[Turn]) -> None:
    """Prove that no trained turn, and so no trained token, has a character of somebody else's content."""
    for span, message in zip(talk.layout.contents, talk.messages, strict=True):
        if span and message["role"] != "assistant" and any(t.start < span[1] and span[0] < t.end for t in turns):
            raise RowFault("a token of the system, the user or a tool would be trained")


def prove_answer(encoder: Encoder, text: str, content: str, ids: Sequence[int]) -> None:
    """Prove that the trained ``ids`` decode to the answer's ``text``, which is the ``content`` of its message.

    Outer spaces and the tokenizer's own Unicode normal form aside.
    """
    decoded = encoder.decode(ids, has_control=True)
    if decoded != text and _normal(decoded) != _normal(text):
        raise RowFault("the tokenizer cannot express the answer (the trained ids decode to another text)")
    if not says(text, content):
        raise RowFault("the trained text is not the assistant's")


def prove_end(encoder: Encoder, turn: Turn, ids: Sequence[int], closing: str | None) -> None:
    """Prove that the last answer ends in the end token ``closing`` where the template has one."""
    if closing is None:
        return
    if not turn.has_end_token or list(ids[-1:]) != [encoder.tokenizer.convert_tokens_to_ids(closing)]:
        raise RowFault(f"the last answer does not end in the trained end token {closing!r}")


def _normal(text: str) -> list[str]:
    return unicodedata.normalize("NFKC", text).split()


@dataclass(frozen=True)
class _RecordPart:
    """One name, key or value of a record, of the kind ``kind`` (in words) below ``key``.

    ``marker`` stands for it in the second render ("" where nothing can); ``turn`` is its message, None for tools. A
    part that is not ``is_needed`` may be left out, which is counted.
    """

    key: str
    kind: str
    value: Any
    marker: str
    turn: int | None
    is_needed: bool


class _Markers:
    """Replaces each part by a marker that does not occur in ``text``."""

    def __init__(self, text: str) -> None:
        self._stem = sentinel(text)
        self.parts: list[_RecordPart] = []

    def put(self, key: str, kind: str, value: Any, turn: int | None = None, *, is_needed: bool = True) -> str:
        marker = f"{self._stem}{len(self.parts):05d}y"
        self.parts.append(_RecordPart(key, kind, value, marker, turn, is_needed))
        return marker

    def message(self, message: Message, turn: int, *, is_trained: bool) -> dict[str, Any]:
        copy = dict(message)
        if calls := message.get("tool_calls"):
            copy["tool_calls"] = [self._call(call, turn) for call in calls]
        for key in sorted(message.keys() & set(TRACES)):
            if isinstance(message[key], str) and message[key].strip():
                copy[key] = self.put(key, "parts", message[key], turn, is_needed=is_trained)
        return copy

    def tool(self, tool: Mapping[str, Any]) -> dict[str, Any]:
        function = _function(tool, "a tool")
        copy = {**function, "name": self.put("tools", "names", function["name"])}
        if _has_description(function):
            copy["description"] = self._description(function)
        parameters = function.get("parameters")
        if isinstance(parameters, Mapping) and isinstance(properties := parameters.get("properties"), Mapping):
            copy["parameters"] = {**parameters, **self._properties(properties, parameters.get("required"))}
        return {**tool, "function": copy} if "function" in tool else copy

    def _call(self, call: Mapping[str, Any], turn: int) -> dict[str, Any]:
        function = _function(call, "a tool call")
        copy = {**function, "name": self.put("tool_calls", "names", function["name"], turn)}
        # A call without arguments may be written without any.
        if function.get("arguments") not in (None, {}):
            copy["arguments"] = self._arguments(function["arguments"], turn)
        return {**call, "function": copy} if "function" in call else copy

    def _arguments(self, value: Any, turn: int) -> Any:
        if value in ([], {}):
            self.parts.append(_RecordPart("tool_calls", "arguments", value, "", turn, is_needed=True))
            return value
        if isinstance(value, Mapping):
            return {self.put("tool_calls", "arguments", key, turn): self._arguments(value[key], turn) for key in value}
        if isinstance(value, list):
            return [self._arguments(inner, turn) for inner in value]
        return self.put("tool_calls", "arguments", value, turn)

    def _properties(self, properties: Mapping[str, Any], required: Any) -> dict[str, Any]:
        names = {name: self.put("tools", "parameters", name) for name in properties}
        copies = {
            names[name]: {**schema, "description": self._description(schema)} if _has_description(schema) else schema
            for name, schema in properties.items()
        }
        # Templates look there for the names of those that must be given.
        is_list = isinstance(required, list) and all(isinstance(name, str) for name in required)
        return {"properties": copies} | ({"required": [names.get(n, n) for n in required]} if is_list else {})

    def _description(self, holder: Mapping[str, Any]) -> str:
        return self.put("tools", "descriptions", holder["description"], is_needed=False)


def _written_at(layout: Layout, turn: int | None) -> str:
    """What the template itself writes: at a turn (between the contents around it), and for None everywhere."""
    if turn is None:
        return layout.template_text
    text, contents = layout.text, layout.contents
    start = next((span[1] for span in reversed(contents[:turn]) if span is not None), 0)
    stop = next((span[0] for span in contents[turn + 1 :] if span is not None), len(text))
    own = contents[turn]
    return text[start:stop] if own is None else f"{text[start : own[0]]}\0{text[own[1] : stop]}"


def _refusal(parts: Sequence[_RecordPart], missing: Sequence[_RecordPart]) -> str:
    # Name each key of which nothing is left, and of the others the kinds of parts that are missing.
    whole, clauses = [], []
    for key in dict.fromkeys(part.key for part in missing):
        dropped = [part for part in missing if part.key == key]
        if len(dropped) == sum(part.key == key and part.is_needed for part in parts):
            whole.append(key)
        else:
            clauses.append(f"drops {' and '.join(dict.fromkeys(part.kind for part in dropped))} of {key}")
    if whole:
        clauses.insert(0, f"has no place for {' and '.join(whole)}")
    is_history = "parts" in (part.kind for part in missing) and not set(TRACES) & set(whole)
    remedy = ' (reasoning = "drop-history" does without it in earlier turns)' if is_history else ""
    return f"the chat template {' and '.join(clauses)}{remedy}"


def _function(holder: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    function = holder.get("function", holder)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowFault(f"{what} has no name of a function")
    return function


def _has_description(holder: Any) -> bool:
    text = holder.get("description") if isinstance(holder, Mapping) else None
    return isinstance(text, str) and bool(text.strip())
