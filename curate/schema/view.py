"""The ``x-record`` view: which parts of a line are the id, the prompt, the completion, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache, cached_property, partial
from hashlib import blake2b
from operator import attrgetter
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

from curate.base.record import (
    MOST_WEIGHT,
    SPLITS,
    TRACES,
    Json,
    Kind,
    Problem,
    RatedAnswer,
    Record,
    Source,
    content_id,
    trace_of,
)
from curate.jsonl import parts_of, pointer_of

SINGLE_FIELDS = (
    "id", "system", "completion", "messages", "tools", "text", "category", "labels", "split", "meta", "ignore",
    "weight", "chosen", "rejected", "answers", "liked",
)  # fmt: skip
PART_JOINT = "\n\n"
# Who says the reasoning before an answer.
REASONING = "reasoning"
# Not the weight: in a schema of one's own that may be a parcel's.
_CONVENTIONAL = {
    "id": "id", "system": "system", "completion": "output", "messages": "messages", "tools": "tools", "text": "text",
    "category": "category", "labels": "labels", "split": "split", "meta": "meta", "ignore": "x-ignore",
}  # fmt: skip

_TEXT = {"type": ["string", "null"]}
_OBJECT = {"type": ["object", "null"]}
_OBJECTS = {"type": ["array", "null"], "items": {"type": "object"}}
_FUNCTION = {"type": "object", "required": ["name", "arguments"], "properties": {"name": {"type": "string"}}}
_CALL = {"type": "object", "required": ["function"], "properties": {"function": _FUNCTION}}
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string"},
        "content": {"type": ["string", "array", "null"], "items": {"type": "object"}},
        "tool_calls": {"type": ["array", "null"], "items": _CALL},
        # No export would have it otherwise. A flag, such as whether a model was to think, is no reasoning.
        **{key: {"type": ["string", "boolean", "null"]} for key in TRACES},
    },
}
_ANSWER = {"type": ["string", "array", "null"], "minItems": 1, "items": _MESSAGE}
_RATED = {
    "type": ["array", "null"],
    "items": {
        "type": "object",
        "required": ["content", "rating"],
        "properties": {"content": _ANSWER, "rating": {"type": "number"}},
    },
}

# The name of a place, what may stand there (null is as good as nothing), and that in words.
_WANTED: tuple[tuple[str, Json, str], ...] = (
    ("id", {"type": ["string", "integer", "null"]}, "text or an integer"),
    ("system", _TEXT, "text"),
    ("completion", _TEXT, "text"),
    ("text", _TEXT, "text"),
    ("category", _TEXT, "text"),
    (
        "messages",
        {"type": ["array", "null"], "items": _MESSAGE},
        "a list of messages, each with a role, and content and reasoning that are text",
    ),
    ("tools", _OBJECTS, "a list of objects"),
    ("labels", _OBJECT, "an object"),
    ("meta", _OBJECT, "an object"),
    ("split", {"enum": [*SPLITS, None]}, f"one of {', '.join(SPLITS)}"),
    ("weight", {"type": ["number", "null"], "minimum": 0, "maximum": MOST_WEIGHT}, f"a number from 0 to {MOST_WEIGHT}"),
    ("ignore", {"type": ["array", "null"], "items": {"type": "string"}}, "a list of codes"),
    ("chosen", _ANSWER, "text or a list of messages"),
    ("rejected", _ANSWER, "text or a list of messages"),
    ("answers", _RATED, "a list of objects, each with a rating, and content that is text or a list of messages"),
    ("liked", {"type": ["boolean", "null"]}, "true or false"),
)

# What may stand at each place of a prompt: text, or nothing that would be joined to it.
_PROMPT: Json = {"anyOf": [_TEXT, {"enum": [False, 0, "", [], {}]}]}

_SCHEMAS: dict[str, Json] = {"prompt": _PROMPT, **{name: schema for name, schema, _ in _WANTED}}

_NOWHERE: Any = object()
_OWN_NAMES = {name: name for name in SINGLE_FIELDS}
Turns = tuple[Mapping[str, Json], ...]


class Content(NamedTuple):
    """What a record teaches, without its id and bookkeeping: a conversation with its tools, or raw text; or answers
    that it compares."""

    messages: Turns
    tools: Turns
    text: str
    answers: tuple[RatedAnswer, ...] = ()

    def id(self) -> str:
        """Return the id of a record that has none of its own."""
        if self.answers:
            return content_id({"messages": self.messages, "tools": self.tools, "answers": self.answers})
        if self.tools or any(type(part) is not str for turn in self.messages for part in turn.values()):
            return content_id({"messages": self.messages, "tools": self.tools, "text": self.text})
        # Where all is text, orjson writes the very bytes that `canonical` does, in a tenth of the time.
        body = {"messages": self.messages, "text": self.text, "tools": ()}
        return blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


# Prompt, completion, raw text, system message, and all messages.
LineTexts = tuple[str, str, str, str, Turns]


class View:
    """The pointers of one ``x-record``: a prompt may have several, whose texts are joined; any other field has one."""

    def __init__(self, pointers: Mapping[str, str | Sequence[str]]) -> None:
        prompt = pointers.get("prompt", ())
        self.prompt = [parts_of(part) for part in ([prompt] if isinstance(prompt, str) else prompt)]
        self.paths = {name: parts_of(str(pointers[name])) for name in SINGLE_FIELDS if name in pointers}
        # Nearly every field is a key of the line itself, and a million lines ask for ten each. A field without a
        # pointer is looked up under a key that no line has.
        self._keys = {name: self.paths.get(name, (_NOWHERE,))[0] for name in SINGLE_FIELDS}
        self._is_flat = all(len(parts) == 1 for parts in self.paths.values())
        self.has_answers = not self.paths.keys().isdisjoint(("chosen", "answers", "liked"))
        """Whether a line compares answers."""

    @cached_property
    def kind(self) -> Kind:
        """What records of this view are when a line does not say more."""
        if self.has_answers:
            return "preference"
        if "messages" in self.paths:
            return "chat"
        return "domain" if "text" in self.paths else "instruction"

    def get(self, value: Mapping[str, Json], name: str) -> Json:
        """Return what stands at the place called ``name``, None where nothing does."""
        if self._is_flat:
            return value.get(self._keys[name])
        parts = self.paths.get(name)
        return None if parts is None else at(value, parts)

    def content(self, value: Mapping[str, Json]) -> Content:
        """Return what a line teaches."""
        messages, tools, text, *_ = self._read(value)
        return Content(messages, tools, text, self.answers(value))

    def record(self, value: Mapping[str, Json], source: Source) -> Record:
        """Return the record seen in a valid line."""
        messages, tools, text, system, prompt, completion, prompt_parts = self._read(value)
        get, name = (value.get, self._keys) if self._is_flat else (partial(self.get, value), _OWN_NAMES)
        own_id, answers = get(name["id"]), self.answers(value)
        return Record(
            str(own_id) if own_id is not None else Content(messages, tools, text, answers).id(),
            self.kind,
            source,
            value,
            prompt,
            completion,
            system,
            messages,
            tools,
            text,
            str(get(name["category"]) or ""),
            get(name["labels"]) or {},
            get(name["split"]),
            get(name["meta"]) or {},
            own_id is not None,
            1.0 if (weight := get(name["weight"])) is None else weight,
            prompt_parts,
            answers,
        )

    def answers(self, value: Mapping[str, Json]) -> tuple[RatedAnswer, ...]:
        """Return the answers that a line compares, the best first and equals in their order; none in other lines."""
        if not self.has_answers:
            return ()
        rated = self.get(value, "answers")
        if rated:
            pairs = [(answer["content"], answer["rating"]) for answer in rated]
        elif (chosen := self.get(value, "chosen")) is not None:
            pairs = [(chosen, 1), (self.get(value, "rejected"), 0)]
        else:
            pairs = [(self.get(value, "completion"), int(self.get(value, "liked") is True))]
        answers = [RatedAnswer(_turns_of(content), float(rating)) for content, rating in pairs]
        return tuple(sorted(answers, key=lambda answer: -answer.rating))

    def texts(self, value: Mapping[str, Json]) -> LineTexts:
        """Return what a valid line says."""
        messages, _, text, system, prompt, completion, _ = self._read(value)
        return prompt, completion, text, system, messages

    def _read(self, value: Mapping[str, Json]) -> tuple[Turns, Turns, str, str, str, str, tuple[str, ...]]:
        """Return what a line teaches, as `Content` has it, the texts of its system, prompt and completion, and the
        parts of the prompt where it has several."""
        get, name = (value.get, self._keys) if self._is_flat else (partial(self.get, value), _OWN_NAMES)
        tools = tuple(get(name["tools"]) or ())
        messages = get(name["messages"])
        if self.has_answers:
            compared, others = self._compared(value, messages)
            return compared, tools, others, *texts_of(compared), ()
        if messages:
            return tuple(messages), tools, "", *texts_of(messages), ()
        completion, text = get(name["completion"]), get(name["text"])
        if completion is None and isinstance(text, str):
            return (), tools, text, "", "", "", ()
        parts = [part for path in self.prompt if (part := at(value, path))]
        prompt, split = PART_JOINT.join(parts), tuple(parts) if len(parts) > 1 else ()
        question, answer = {"role": "user", "content": prompt}, {"role": "assistant", "content": completion or ""}
        if system := get(name["system"]):
            turns = ({"role": "system", "content": system}, question, answer)
            return turns, tools, "", system, prompt, completion or "", split
        return (question, answer), tools, "", "", prompt, completion or "", split

    def _compared(self, value: Mapping[str, Json], messages: Turns | None) -> tuple[Turns, str]:
        """Return the conversation with the best of the answers that a line compares, and the texts of the others."""
        best, *others = self.answers(value)
        answer = best.messages
        if not others and best.rating <= 0:
            answer = tuple({**turn, "train": False} if turn["role"] == "assistant" else turn for turn in answer)
        if not messages:
            prompt = PART_JOINT.join(part for path in self.prompt if (part := at(value, path)))
            system = self.get(value, "system")
            start = ({"role": "system", "content": system},) if system else ()
            messages = (*start, {"role": "user", "content": prompt})
        return (*messages, *answer), PART_JOINT.join(text_of(turn) for other in others for turn in other.messages)

    def misfits(self, value: Mapping[str, Json]) -> Iterator[Problem]:
        """Yield what stands at a place of the view and cannot be what the view says it is."""
        # The shipped schemas leave nothing to say; a schema of one's own can allow a number where the answer should be.
        for name, _, wanted in _WANTED:
            if name in self.paths and not _fits(name)(self.get(value, name)):
                message = f"is the {name} of the record by x-record and must be {wanted}"
                yield Problem(message, pointer_of(self.paths[name]))
        for path in self.prompt:
            if not _fits("prompt")(at(value, path)):
                yield Problem("is the prompt of the record by x-record and must be text", pointer_of(path))
        if self.has_answers and not self._has_body(value):
            yield Problem("compares no answers: it needs chosen and rejected, rated answers, or a completion and liked")

    def _has_body(self, value: Mapping[str, Json]) -> bool:
        """Whether a line has all of one of the ways to compare answers."""
        chosen, rejected = self.get(value, "chosen"), self.get(value, "rejected")
        if self.get(value, "answers"):
            return True
        if chosen is not None or rejected is not None:
            return chosen is not None and rejected is not None
        return self.get(value, "completion") is not None and isinstance(self.get(value, "liked"), bool)

    def drafts(self, record: Record) -> Iterator[dict[str, Json]]:
        """Yield lines that may be this record in this shape, the most faithful first; the caller picks a valid one."""
        if record.answers:
            drafts = []
        elif record.text and not record.messages:
            drafts = [self._bare({"text": record.text})]
        elif "messages" in self.paths:
            drafts = [self._bare({"messages": [dict(turn) for turn in record.messages]})]
        else:
            drafts = list(self._pairs(record))
        # The line that the record came from is tried first: where it fits, nothing can be lost.
        for draft in (deepcopy(dict(record.data)), *drafts):
            if record.tools:
                self._put(draft, "tools", [dict(tool) for tool in record.tools])
            yield self.book(draft, record)

    def book(self, line: dict[str, Json], record: Record) -> dict[str, Json]:
        """Write id, category, labels, split, weight and meta of ``record`` into ``line`` and return it."""
        bookkeeping: dict[str, Any] = {
            "id": record.id if record.has_own_id else None,
            "category": record.category,
            "labels": dict(record.labels),
            "split": record.split,
            "meta": dict(record.meta),
        }
        if record.weight != (1.0 if (weight := self.get(line, "weight")) is None else weight):
            self._put(line, "weight", record.weight)
        for name, new in bookkeeping.items():
            old = self.get(line, name)
            if new and new != old and not (name == "id" and str(old) == new):
                self._put(line, name, new)
            elif not new and old:
                self._drop(line, name)
        return line

    def is_faithful(self, line: Mapping[str, Json], record: Record) -> bool:
        """Whether ``line`` says all that ``record`` says."""
        reread = self.record(line, record.source)
        bookkeeping = attrgetter("category", "labels", "split", "meta", "has_own_id", "weight")
        return (
            self.content(line) == Content(record.messages, record.tools, record.text, record.answers)
            and bookkeeping(reread) == bookkeeping(record)
            and (not record.has_own_id or reread.id == record.id)
        )

    def _pairs(self, record: Record) -> Iterator[dict[str, Json]]:
        """Lay a single exchange out: the whole prompt in one of the prompt's places, the others left out or empty."""
        turns = list(record.messages)
        system = turns.pop(0).get("content") if turns and turns[0].get("role") in ("system", "developer") else None
        if len(turns) != 2:
            return
        base = self._bare({"completion": turns[1].get("content"), "system": system})
        for rest in (None, ""):
            order = self.prompt if rest is None else list(reversed(self.prompt))
            for chosen in order:
                draft = deepcopy(base)
                for path in self.prompt:
                    text = turns[0].get("content") if path is chosen else rest
                    if text is not None:
                        put(draft, path, text)
                yield draft

    def _bare(self, parts: Mapping[str, Json]) -> dict[str, Json]:
        line: dict[str, Json] = {}
        for name, part in parts.items():
            if part is not None:
                self._put(line, name, part)
        return line

    def _put(self, line: dict[str, Json], name: str, part: Json) -> None:
        if name in self.paths:
            put(line, self.paths[name], part)

    def _drop(self, line: dict[str, Json], name: str) -> None:
        parts = self.paths[name]
        holder = at(line, parts[:-1])
        if isinstance(holder, dict):
            holder.pop(parts[-1], None)


def _turns_of(content: Json) -> Turns:
    """Return the turns of an answer that is text, or a list of messages."""
    if isinstance(content, list):
        return tuple(content)
    return ({"role": "assistant", "content": content or ""},)


def conventional_view(schema: Json) -> View | None:
    """Return the view of a schema that declares none but names its properties as everybody does, if it does."""
    names = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(names, dict):
        return None
    pointers: dict[str, str | list[str]] = {name: "/" + key for name, key in _CONVENTIONAL.items() if key in names}
    if "instruction" in names:
        pointers["prompt"] = ["/instruction", "/input"]
    return View(pointers) if pointers.keys() & {"messages", "text", "completion"} else None


def at(value: Json, parts: Sequence[str]) -> Json:
    """Return what stands at a path, None where nothing does."""
    return value_at(value, parts)[0]


def value_at(value: Json, parts: Sequence[str]) -> tuple[Json, bool]:
    """Return what stands at a path, and whether anything does."""
    for part in parts:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None, False
    return value, True


def put(line: dict[str, Json], parts: Sequence[str], part: Json) -> None:
    """Set what stands at a path of object keys, making the objects on the way."""
    for key in parts[:-1]:
        line = line.setdefault(key, {})
    line[parts[-1]] = part


def texts_of(messages: Sequence[Mapping[str, Json]]) -> tuple[str, str, str]:
    """Return (system, prompt, completion): the texts that checks and dedupe read of a conversation."""
    if not messages:
        return "", "", ""
    last = len(messages) - 1
    while last >= 0 and messages[last].get("role") != "assistant":
        last -= 1
    last = last if last >= 0 else len(messages)
    completion = text_of(messages[last]) if last < len(messages) else ""
    has_system = messages[0].get("role") in ("system", "developer") and last > 0
    system = text_of(messages[0]) if has_system else ""
    return system, PART_JOINT.join(text_of(turn) for turn in messages[int(has_system) : last]), completion


def spoken_turns(record: Record) -> Iterator[tuple[str, str]]:
    """Yield who says what in a record, as `said_in` does; of a preference all answers, each with what it is worth."""
    if not record.messages:
        yield "text", record.text
    yield from said_in(prompt_messages(record))
    for answer in record.answers:
        for who, text in said_in(answer.messages):
            yield who if who == REASONING else f"{who} ({worth_of(record, answer)})", text


def prompt_messages(record: Record) -> Turns:
    """Return the messages before the answers that a record compares; all where it compares none."""
    return (
        record.messages[: len(record.messages) - len(record.answers[0].messages)] if record.answers else record.messages
    )


def worth_of(record: Record, answer: RatedAnswer) -> str:
    """Return in a word or two how good one of a record's answers is."""
    ratings = [other.rating for other in record.answers]
    if ratings not in ([1, 0], [1], [0]):
        return f"rated {answer.rating:g}"
    return (("rejected", "chosen") if len(ratings) > 1 else ("not liked", "liked"))[answer.rating > 0]


def text_of(message: Mapping[str, Json]) -> str:
    """Return what a message says: its text, and each tool call as ``name(arguments)`` on a line of its own."""
    content = message.get("content")
    if type(content) is str and not message.get("tool_calls"):
        return content
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    lines = [str(content)] if content else []
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        arguments = function.get("arguments", "")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, sort_keys=True)
        lines.append(f"{function.get('name', '')}({text})")
    return "\n".join(lines)


def without_reasoning(message: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a message without the reasoning before it."""
    return message if message.keys().isdisjoint(TRACES) else {k: v for k, v in message.items() if k not in TRACES}


def said_in(messages: Sequence[Mapping[str, Json]]) -> Iterator[tuple[str, str]]:
    """Yield who says what, in order; what an answer's reasoning says is `REASONING`'s."""
    for message in messages:
        if trace := trace_of(message):
            yield REASONING, trace
        yield str(message.get("role", "")), text_of(message)


def unanswered(messages: Sequence[Mapping[str, Json]]) -> Sequence[Mapping[str, Json]]:
    """Return ``messages`` without the answer at their end, all of them where there is none."""
    return messages[:-1] if messages and messages[-1].get("role") == "assistant" else messages


@cache
def _fits(name: str) -> Callable[[Json], bool]:
    """Return the function that says whether a value may stand at the place called ``name``."""
    # By draft 4, 1.0 is no integer; ids are compared by their spelling.
    return jsonschema_rs.Draft4Validator(_SCHEMAS[name]).is_valid
