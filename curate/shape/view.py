"""The ``x-record`` view: which places of a line are the id, the prompt, the completion, and back again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from curate.door import parts_of, pointer_of
from curate.record import Json, Kind, Problem, Record, Source, content_id
from curate.shape.wanted import WANTED

ONE_PLACE = ("id", "system", "completion", "messages", "tools", "text", "category", "labels", "split", "meta", "ignore")
PART_JOINT = "\n\n"
_CONVENTIONAL = {
    "id": "id",
    "system": "system",
    "completion": "output",
    "messages": "messages",
    "tools": "tools",
    "text": "text",
    "category": "category",
    "labels": "labels",
    "split": "split",
    "meta": "meta",
    "ignore": "x-ignore",
}


@dataclass(frozen=True, slots=True)
class Content:
    """What a record teaches, without its id and bookkeeping: a conversation with its tools, or raw text."""

    messages: tuple[Mapping[str, Json], ...]
    tools: tuple[Mapping[str, Json], ...]
    text: str

    def id(self) -> str:
        """Return the id of a record that has none of its own."""
        return content_id({"messages": self.messages, "tools": self.tools, "text": self.text})


class View:
    """The pointers of one ``x-record``: ``prompt`` is a list of places that are joined, all else is one place."""

    def __init__(self, places: Mapping[str, str | Sequence[str]]) -> None:
        prompt = places.get("prompt", ())
        self.prompt = [parts_of(part) for part in ([prompt] if isinstance(prompt, str) else prompt)]
        self.one = {name: parts_of(str(places[name])) for name in ONE_PLACE if name in places}
        # Nearly every place is a key of the line itself, and a million lines ask for ten each.
        self._keys = {name: parts[0] for name, parts in self.one.items() if len(parts) == 1}

    @property
    def kind(self) -> Kind:
        """What records of this view are when a line does not say more."""
        if "messages" in self.one:
            return "chat"
        return "domain" if "text" in self.one else "instruction"

    def get(self, value: Mapping[str, Json], name: str) -> Json:
        """Return what stands at the place called ``name``, None where nothing does."""
        if (key := self._keys.get(name)) is not None:
            return value.get(key)
        parts = self.one.get(name)
        return None if parts is None else at(value, parts)

    def content(self, value: Mapping[str, Json]) -> Content:
        """Return what a line teaches."""
        tools = tuple(self.get(value, "tools") or ())
        if messages := self.get(value, "messages"):
            return Content(tuple(messages), tools, "")
        completion, text = self.get(value, "completion"), self.get(value, "text")
        if completion is None and isinstance(text, str):
            return Content((), tools, text)
        parts = [part for place in self.prompt if (part := at(value, place))]
        turns = [
            {"role": "user", "content": PART_JOINT.join(parts)},
            {"role": "assistant", "content": completion or ""},
        ]
        if system := self.get(value, "system"):
            turns.insert(0, {"role": "system", "content": system})
        return Content(tuple(turns), tools, "")

    def record(self, value: Mapping[str, Json], source: Source) -> Record:
        """Return the record seen in a valid line."""
        content = self.content(value)
        system, prompt, completion = texts_of(content.messages)
        own_id = self.get(value, "id")
        return Record(
            id=str(own_id) if own_id is not None else content.id(),
            kind=self.kind,
            source=source,
            data=value,
            prompt=prompt,
            completion=completion,
            system=system,
            messages=content.messages,
            tools=content.tools,
            text=content.text,
            category=str(self.get(value, "category") or ""),
            labels=self.get(value, "labels") or {},
            split=self.get(value, "split"),
            meta=self.get(value, "meta") or {},
            has_own_id=own_id is not None,
        )

    def misfits(self, value: Mapping[str, Json]) -> Iterator[Problem]:
        """Yield what stands at a place of the view and cannot be what the view says it is.

        The shipped schemas leave nothing to say; a schema of one's own can allow a number where the answer should be.
        """
        for name, fits, wanted in WANTED:
            if (part := self.get(value, name)) is not None and not fits(part):
                message = f"is the {name} of the record by x-record and must be {wanted}"
                yield Problem(message, pointer_of(self.one[name]))
        for place in self.prompt:
            if not isinstance(at(value, place) or "", str):
                yield Problem("is the prompt of the record by x-record and must be text", pointer_of(place))

    def drafts(self, record: Record) -> Iterator[dict[str, Json]]:
        """Yield lines that may be this record in this shape, the most faithful first; the caller picks a valid one."""
        if record.text and not record.messages:
            drafts = [self._bare({"text": record.text})]
        elif "messages" in self.one:
            drafts = [self._bare({"messages": [dict(turn) for turn in record.messages]})]
        else:
            drafts = list(self._pairs(record))
        for draft in (deepcopy(dict(record.data)), *drafts):
            if record.tools:
                self._put(draft, "tools", [dict(tool) for tool in record.tools])
            yield self.book(draft, record)

    def book(self, line: dict[str, Json], record: Record) -> dict[str, Json]:
        """Write id, category, labels, split and meta of ``record`` into ``line`` and return it."""
        kept: dict[str, Any] = {
            "id": record.id if record.has_own_id else None,
            "category": record.category,
            "labels": dict(record.labels),
            "split": record.split,
            "meta": dict(record.meta),
        }
        for name, new in kept.items():
            old = self.get(line, name)
            if new and new != old and not (name == "id" and str(old) == new):
                self._put(line, name, new)
            elif not new and old:
                self._drop(line, name)
        return line

    def is_told(self, line: Mapping[str, Json], record: Record) -> bool:
        """Whether ``line`` says all that ``record`` says."""
        seen = self.record(line, record.source)
        return (
            self.content(line) == Content(record.messages, record.tools, record.text)
            and (seen.category, dict(seen.labels), seen.split, dict(seen.meta), seen.has_own_id)
            == (record.category, dict(record.labels), record.split, dict(record.meta), record.has_own_id)
            and (not record.has_own_id or seen.id == record.id)
        )

    def _pairs(self, record: Record) -> Iterator[dict[str, Json]]:
        """Lay a single exchange out: the whole prompt in one of the prompt's places, the others left out or empty."""
        turns = list(record.messages)
        system = turns.pop(0).get("content") if turns and turns[0].get("role") in ("system", "developer") else None
        if len(turns) != 2:
            return
        base = self._bare({"completion": turns[1].get("content"), "system": system})
        for rest in (None, ""):
            places = self.prompt if rest is None else list(reversed(self.prompt))
            for chosen in places:
                draft = deepcopy(base)
                for place in self.prompt:
                    text = turns[0].get("content") if place is chosen else rest
                    if text is not None:
                        put(draft, place, text)
                yield draft

    def _bare(self, parts: Mapping[str, Json]) -> dict[str, Json]:
        line: dict[str, Json] = {}
        for name, part in parts.items():
            if part is not None:
                self._put(line, name, part)
        return line

    def _put(self, line: dict[str, Json], name: str, part: Json) -> None:
        if name in self.one:
            put(line, self.one[name], part)

    def _drop(self, line: dict[str, Json], name: str) -> None:
        parts = self.one[name]
        holder = at(line, parts[:-1])
        if isinstance(holder, dict):
            holder.pop(parts[-1], None)


def conventional_view(schema: Json) -> View | None:
    """Return the view of a schema that declares none but names its properties as everybody does, if it does."""
    names = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(names, dict):
        return None
    places: dict[str, str | list[str]] = {name: "/" + key for name, key in _CONVENTIONAL.items() if key in names}
    if "instruction" in names:
        places["prompt"] = ["/instruction", "/input"]
    return View(places) if places.keys() & {"messages", "text", "completion"} else None


def at(value: Json, parts: Sequence[str]) -> Json:
    """Return what stands at a path, None where nothing does."""
    for part in parts:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def put(line: dict[str, Json], parts: Sequence[str], part: Json) -> None:
    """Set what stands at a path of object keys, making the objects on the way."""
    for key in parts[:-1]:
        line = line.setdefault(key, {})
    line[parts[-1]] = part


def texts_of(messages: Sequence[Mapping[str, Json]]) -> tuple[str, str, str]:
    """Return (system, prompt, completion): the texts that checks and dedupe read of a conversation."""
    if not messages:
        return "", "", ""
    last = next((n for n in range(len(messages) - 1, -1, -1) if messages[n].get("role") == "assistant"), len(messages))
    completion = text_of(messages[last]) if last < len(messages) else ""
    has_system = messages[0].get("role") in ("system", "developer") and last > 0
    system = text_of(messages[0]) if has_system else ""
    return system, PART_JOINT.join(text_of(turn) for turn in messages[int(has_system) : last]), completion


def text_of(message: Mapping[str, Json]) -> str:
    """Return what a message says: its text, and each tool call as ``name(arguments)`` on a line of its own."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    lines = [str(content)] if content else []
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        arguments = function.get("arguments", "")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, sort_keys=True)
        lines.append(f"{function.get('name', '')}({text})")
    return "\n".join(lines)
