"""What is proved of a row before it is trained; each proof raises RowFault where the row breaks its promise.

Of the text, as the template rendered it (that every content stands in it, in order, is what `conversation` finds):

- tools, tool calls, results and reasoning stand in it: `prove_parts`;
- no answer is empty: `prove_answers_have_text`;
- the template's own {% generation %} blocks are where the answers are: `prove_blocks`.

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from train.data.dataset import TRACES, RowFault, TemplateFault
from train.data.rendering.conversation import (
    Conversation,
    Conversations,
    Message,
    Span,
    Turn,
    says,
    sentinel,
    spellings,
)
from train.data.rendering.encode import Encoded, Encoder

_MOST_SHAPES = 1000


class _RecordPart(NamedTuple):
    """One name, key or value of a record: of the kind ``kind`` (in words) below ``key``, in its call or tool
    ``number`` of the message ``turn``, None for tools. A part that is not ``is_needed`` may be left out, which is
    counted.
    """

    turn: int | None
    number: int
    key: str
    kind: str
    value: Any
    is_needed: bool = True

    @property
    def slot(self) -> tuple[Any, ...]:
        """What a template either has room for or not."""
        return self[:4]


def prove_parts(conversations: Conversations, placed: Conversation, tools: Any, trained: Collection[int]) -> list[str]:
    """Prove that tools, tool calls and reasoning stand in the text; return what is left out and may be, in words.

    ``trained`` are the turns whose reasoning must be there; that of others may be left out, as Qwen3 does on purpose.
    """
    # A template writes them in a form of its own (JSON with other spaces, XML parameters, signatures of TypeScript), so
    # two things are proved. Once for each shape, that the template has a place for each part: no text of somebody else
    # can stand in for it. And of each row that each part stands, in one of the known spellings, in what the template
    # writes at that turn: a value that is cut, rewritten, or left out for what it is (none, false, zero) does not.
    parts = list(_parts(placed.messages, tools, trained))
    if not parts:
        return []
    absent = _absent_slots(conversations, placed.messages, tools)
    written = {part.turn: _written_at(placed, part.turn) for part in parts}
    missing = [
        part for part in parts
        if part.slot in absent
        or (part.is_needed and not any(form in written[part.turn] for form in spellings(part.value)))
    ]  # fmt: skip
    if needed := [part for part in missing if part.is_needed]:
        raise RowFault(_refusal(parts, needed))
    kinds = ("descriptions of tools" if p.turn is None else f"the {p.key} of answers that are not trained"
             for p in missing)  # fmt: skip
    return [f"the chat template leaves out {kind}" for kind in dict.fromkeys(kinds)]


def _parts(messages: Sequence[Message], tools: Any, trained: Collection[int] = ()) -> Iterator[_RecordPart]:
    """Yield what of tools, tool calls and reasoning must stand in the text."""
    for number, tool in enumerate(tools or ()):
        function = _function(tool, "a tool")
        yield _RecordPart(None, number, "tools", "names", function["name"])
        properties = _properties(function)
        for name in properties:
            yield _RecordPart(None, number, "tools", "parameters", name)
        for holder in (function, *properties.values()):
            if _is_described(holder):
                yield _RecordPart(None, number, "tools", "descriptions", holder["description"], is_needed=False)
    for turn, message in enumerate(messages):
        for number, call in enumerate(message.get("tool_calls") or ()):
            function = _function(call, "a tool call")
            yield _RecordPart(turn, number, "tool_calls", "names", function["name"])
            # A call without arguments may be written without any.
            if function.get("arguments") not in (None, {}):
                for leaf in _leaves(function["arguments"]):
                    yield _RecordPart(turn, number, "tool_calls", "arguments", leaf)
        for key in TRACES:
            if isinstance(trace := message.get(key), str) and trace.strip():
                yield _RecordPart(turn, 0, key, "parts", trace, is_needed=turn in trained)


def _absent_slots(conversations: Conversations, messages: Sequence[Message], tools: Any) -> frozenset[Any]:
    """The places of parts that the template writes nowhere, seen by a conversation of the same shape made of words."""
    word, numbers = sentinel(json.dumps([messages, tools], ensure_ascii=False) + conversations.template.source), count()

    def new() -> str:
        return f"{word}{next(numbers):05d}y"

    def described(holder: Mapping[str, Any]) -> dict[str, str]:
        return {"description": new()} if _is_described(holder) else {}

    def tool_like(tool: Mapping[str, Any]) -> dict[str, Any]:
        function = _function(tool, "a tool")
        names = {new(): {"type": "string", **described(schema)} for schema in _properties(function).values()}
        parameters = {"type": "object", "properties": names, "required": list(names)}
        like = {"name": new(), **described(function), "parameters": parameters}
        return {**tool, "function": like} if "function" in tool else like

    def call_like(call: Mapping[str, Any]) -> dict[str, Any]:
        function = _function(call, "a tool call")
        like = {"name": new(), "arguments": {new(): new()} if function.get("arguments") else {}}
        return {**call, "function": like} if "function" in call else like

    def message_like(message: Message) -> dict[str, Any]:
        traces = {key: new() for key in TRACES if message.get(key)}
        calls = {"tool_calls": [call_like(call) for call in message.get("tool_calls") or ()]}
        content = new() if message["content"] else ""
        return {**message, "content": content, **traces, **(calls if message.get("tool_calls") else {})}

    shape = [message_like(message) for message in messages], tools and [tool_like(tool) for tool in tools]
    key = json.dumps(shape, default=str)
    if key not in conversations.absent:
        if len(conversations.absent) >= _MOST_SHAPES:
            # Ids of calls may differ from row to row.
            conversations.absent.clear()
        try:
            text = conversations.render(*shape)
        except RowFault:
            # A template may check names and values and refuse the words; then only the spellings are checked.
            text = None
        absent = (part.slot for part in _parts(*shape) if text is not None and part.value not in text)
        conversations.absent[key] = frozenset(absent)
    return conversations.absent[key]


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


def _properties(function: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _is_described(holder: Any) -> bool:
    text = holder.get("description") if isinstance(holder, Mapping) else None
    return isinstance(text, str) and bool(text.strip())


def _written_at(placed: Conversation, turn: int | None) -> str:
    """What the template itself writes: at a turn (between the contents around it), and for None everywhere."""
    if turn is None:
        return placed.template_text
    start, stop = placed.around(turn)
    own = placed.contents[turn]
    return placed.text[start:stop] if own is None else f"{placed.text[start : own[0]]}\0{placed.text[own[1] : stop]}"


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


def prove_answers_have_text(messages: Sequence[Message], answers: Sequence[int]) -> None:
    """Prove that no answer is only its end."""
    if any(not messages[turn]["content"].strip() and not messages[turn].get("tool_calls") for turn in answers):
        raise RowFault("an answer is empty, so only its end would be trained")


def prove_blocks(blocks: Sequence[Span], placed: Conversation) -> None:
    """Prove that the template's generation blocks, where it has some, cover each answer."""
    for answer, turn in zip(placed.answers, placed.turns, strict=True):
        first, last = placed.contents[answer] or (turn.start, turn.stop)
        if blocks and not any(start <= first and last <= end for start, end in blocks):
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


def prove_answers_are_apart(placed: Conversation, turns: Sequence[Turn]) -> None:
    """Prove that no trained turn, and so no trained token, has a character of somebody else's content."""
    for span, message in zip(placed.contents, placed.messages, strict=True):
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
