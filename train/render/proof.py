"""The proof that a rendered conversation holds what a record says beside its contents: tools, tool calls, reasoning.

`Layout` proves the contents. Everything else a template writes in a form of its own (JSON with other spaces, XML
parameters, signatures of TypeScript), so two things are held instead:

- the conversation is rendered once more with a word that occurs nowhere in place of each part, and each word must
  appear: the template has a place for that part, and no text of somebody else can stand in for it;
- each part itself must stand, in one of the known spellings, in what the template writes at that turn: a value that is
  left out for what it is (none, false, zero), cut or rewritten does not.

A record without such parts costs nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from markupsafe import escape

from train.render import asserts
from train.render.faults import RowFault
from train.render.spans import Conversations, Layout, Message, sentinel

REASONING = frozenset({"reasoning_content", "reasoning", "thinking"})
"""What messages call the thoughts that stand before an answer."""
PROVED_KEYS = frozenset({"tool_calls", *REASONING})
"""Keys of messages that are proved here."""


@dataclass(frozen=True)
class _Part:
    """One name, key or value of a record, of the kind ``kind`` (in words) below ``key``.

    ``word`` stands for it in the second render ("" where nothing can); ``turn`` is its message, None for tools. A part
    that is not ``is_needed`` may be left out, which is counted.
    """

    key: str
    kind: str
    value: Any
    word: str
    turn: int | None
    is_needed: bool


class _Words:
    """Puts a word of its own in the place of each part."""

    def __init__(self, taken: str) -> None:
        self._stem = sentinel(taken)
        self.parts: list[_Part] = []

    def put(self, key: str, kind: str, value: Any, turn: int | None = None, *, is_needed: bool = True) -> str:
        word = f"{self._stem}{len(self.parts):05d}y"
        self.parts.append(_Part(key, kind, value, word, turn, is_needed))
        return word

    def message(self, message: Message, turn: int, *, is_trained: bool) -> dict[str, Any]:
        copy = dict(message)
        if calls := message.get("tool_calls"):
            copy["tool_calls"] = [self._call(call, turn) for call in calls]
        for key in sorted(REASONING & message.keys()):
            if isinstance(message[key], str) and message[key].strip():
                copy[key] = self.put(key, key, message[key], turn, is_needed=is_trained)
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
            self.parts.append(_Part("tool_calls", "arguments", value, "", turn, is_needed=True))
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


class _Segments:
    """What the template itself writes: at a turn (between the contents around it), and for None everywhere."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._texts: dict[int | None, str] = {}

    def of(self, turn: int | None) -> str:
        if turn not in self._texts:
            self._texts[turn] = self._read(turn)
        return self._texts[turn]

    def _read(self, turn: int | None) -> str:
        text, contents = self._layout.text, self._layout.contents
        if turn is None:
            return asserts.without(text, [span for span in contents if span is not None])
        start = next((span[1] for span in reversed(contents[:turn]) if span is not None), 0)
        stop = next((span[0] for span in contents[turn + 1 :] if span is not None), len(text))
        own = contents[turn]
        return text[start:stop] if own is None else f"{text[start : own[0]]}\0{text[own[1] : stop]}"


def prove(
    conversations: Conversations, messages: Sequence[Message], tools: Any, layout: Layout, trained: Collection[int]
) -> list[str]:
    """Return what the template leaves out and may, in words; mostly nothing.

    ``trained`` are the turns whose reasoning must be there; that of others may be left out, as Qwen3 does on purpose.
    Raises RowFault with the names of what the template drops of what it must hold.
    """
    if not tools and all(PROVED_KEYS.isdisjoint(message) for message in messages):
        return []
    words = _Words(json.dumps([messages, tools], ensure_ascii=False) + conversations.template.source)
    tool_copies = [words.tool(tool) for tool in tools] if tools else tools
    copies = [words.message(message, turn, is_trained=turn in trained) for turn, message in enumerate(messages)]
    text: str | None = None
    # A template may look into names and values and refuse these; then only the spellings can tell.
    with suppress(RowFault):
        text = conversations.render(copies, tool_copies)
    segments = _Segments(layout)
    missing = [
        part
        for part in words.parts
        if (text is not None and part.word not in text)
        or (part.is_needed and not _is_spelt(part.value, segments.of(part.turn)))
    ]
    if needed := [part for part in missing if part.is_needed]:
        raise RowFault(_refusal(words.parts, needed))
    kinds = dict.fromkeys(
        "descriptions of tools" if part.turn is None else f"the {part.key} of answers that are not trained"
        for part in missing
    )
    return [f"the chat template leaves out {kind}" for kind in kinds]


def _refusal(parts: Sequence[_Part], missing: Sequence[_Part]) -> str:
    """Name each key of which nothing is left, and of the others the kinds of parts that are missing."""
    whole, clauses = [], []
    for key in dict.fromkeys(part.key for part in missing):
        dropped = [part for part in missing if part.key == key]
        if len(dropped) == sum(part.key == key and part.is_needed for part in parts):
            whole.append(key)
        else:
            clauses.append(f"drops {' and '.join(dict.fromkeys(part.kind for part in dropped))} of {key}")
    if whole:
        clauses.insert(0, f"has no place for {' and '.join(whole)}")
    return f"the chat template {' and '.join(clauses)}"


def _function(holder: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    function = holder.get("function", holder)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowFault(f"{what} has no name of a function")
    return function


def _has_description(holder: Any) -> bool:
    text = holder.get("description") if isinstance(holder, Mapping) else None
    return isinstance(text, str) and bool(text.strip())


def _is_spelt(value: Any, text: str) -> bool:
    return any(spelling in text for spelling in _spellings(value))


def _spellings(value: Any) -> Iterator[str]:
    """Yield how templates write a key or a leaf, the commonest first: as it is, in JSON, in JSON in JSON, in HTML, as
    Python prints it.
    """
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
