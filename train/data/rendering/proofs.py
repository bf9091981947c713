"""What is proved of a row before it is trained; each proof raises RowFault where the row breaks its promise.

Of the text, as the template rendered it (that every content stands in it, in order, that answers stand where they are
generated and within the template's {% generation %} blocks is what `conversation` finds):

- tools, tool calls and reasoning stand in it: `prove_parts`.

Of the tokens, `prove_tokens`:

- those of the prompt alone begin those of the row, so what is trained is what is served;
- one beginning-of-text token stands at the beginning, where the tokenizer adds one, and never two;
- all control tokens are the template's.

Of each trained answer, `prove_answer`:

- no token of the system, the user or a tool is trained;
- what is trained decodes to the answer;
- the end token is trained.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from train.data.dataset import TRACES, RowFault, TemplateFault
from train.data.rendering.conversation import (
    Conversation,
    Message,
    SafeTemplate,
    Turn,
    says,
    sentinel,
    spellings,
)
from train.data.rendering.encode import Encoded, Encoder


class _RecordPart(NamedTuple):
    """One name, key or value of a record: of the kind ``kind`` (in words) below ``key`` of the message ``turn``, None
    for tools. A part that is not ``is_needed`` may be left out, which is counted.
    """

    turn: int | None
    key: str
    kind: str
    value: Any
    is_needed: bool = True


def prove_parts(template: SafeTemplate, placed: Conversation, tools: Any, trained: Collection[int]) -> list[str]:
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
    like = _in_words(placed.messages, tools, template.source)
    # A template may check names and values and refuse the words; then only the spellings are checked.
    text = template.written(json.dumps(like))
    has_slot = [text is None or not isinstance(part.value, str) or part.value in text for part in _parts(*like)]
    missing = []
    for part, is_slot in zip(parts, has_slot, strict=True):
        written = _written_at(placed, part.turn)
        if not is_slot or (part.is_needed and not any(form in written for form in spellings(part.value))):
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
        for key in TRACES:
            if isinstance(trace := message.get(key), str) and trace.strip():
                yield _RecordPart(turn, key, "parts", trace, is_needed=turn in trained)


def _in_words(messages: Sequence[Message], tools: Any, source: str) -> tuple[list[Any], Any]:
    """Messages and tools of the same shape, of words that the template has nowhere."""
    word, numbers = sentinel(json.dumps([messages, tools], ensure_ascii=False) + source), count()

    def new() -> str:
        return f"{word}{next(numbers):05d}y"

    like = [
        {**message, **{key: new() for key in ("content", *TRACES) if message.get(key)},
         **({"tool_calls": _like(message["tool_calls"], new)} if message.get("tool_calls") else {})}
        for message in messages
    ]  # fmt: skip
    return like, _like(tools, new)


def _like(value: Any, new: Callable[[], str], key: str = "") -> Any:
    # Names, descriptions, and all of the arguments become words; of a schema what it asks for stays.
    if isinstance(value, list):
        return [_like(inner, new, key) for inner in value]
    if not isinstance(value, dict):
        is_word = isinstance(value, str) and value.strip() and key in ("name", "description", "arguments")
        return new() if is_word else value
    if key == "arguments":
        return {new(): _like(inner, new, key) for inner in value.values()}
    if key != "properties":
        return {name: _like(inner, new, name) for name, inner in value.items()}
    return {new(): _like(inner, new) for inner in value.values()}


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


def prove_tokens(encoder: Encoder, encoded: Encoded, written: str, *, is_raw: bool = False) -> None:
    """Prove the prompt's prefix, one beginning-of-text token, and as many control tokens as are ``written``: by the
    template, or where the text ``is_raw`` by the record itself, whose control tokens are not counted.
    """
    ids, bos = encoded.ids, encoder.bos
    if not encoded.is_prefix:
        raise RowFault("the prompt's tokens are no prefix of the trained ones (train and serve differ)")
    if bos is not None and ids[:2] == [bos, bos]:
        raise TemplateFault("the chat template begins with two beginning-of-text tokens")
    # A model may use its BOS as a turn marker too; then the text itself has it more than once.
    if encoder.is_adding_bos and (ids[0] != bos or ids.count(bos) > max(1, written.count(encoder.tokenizer.bos_token))):
        raise RowFault("the record does not begin with exactly one beginning-of-text token")
    if not is_raw and encoder.num_control(ids) != encoder.count_control(written) + encoded.has_added_bos:
        raise RowFault("the number of control tokens is not the chat template's (data acts as structure)")


def prove_answer(
    encoder: Encoder, placed: Conversation, answer: int, turn: Turn, ids: Sequence[int], closing: str | None
) -> None:
    """Prove that the trained ``ids`` of a turn are those of the ``answer``, and of nobody else's content.

    They decode to its text but for outer spaces and the tokenizer's own Unicode normal form, and the last answer ends
    in the end token ``closing`` where the template has one.
    """
    for span, message in zip(placed.contents, placed.messages, strict=True):
        if span and message["role"] != "assistant" and turn.start < span[1] and span[0] < turn.end:
            raise RowFault("a token of the system, the user or a tool would be trained")
    text, decoded = placed.text[turn.start : turn.end], encoder.decode(ids, has_control=True)
    if decoded != text and _normal(decoded) != _normal(text):
        raise RowFault("the tokenizer cannot express the answer (the trained ids decode to another text)")
    if not says(text, placed.messages[answer]["content"]):
        raise RowFault("the trained text is not the assistant's")
    is_last = answer == placed.answers[-1]
    if is_last and closing is not None and ids[-1:] != [encoder.tokenizer.convert_tokens_to_ids(closing)]:
        raise RowFault(f"the last answer does not end in the trained end token {closing!r}")


def _normal(text: str) -> list[str]:
    return unicodedata.normalize("NFKC", text).split()
