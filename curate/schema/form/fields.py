"""The fields of a line: what the schema says about each value, and which kind of editing shows it whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

from curate.base.record import TRACES, Json, canonical, json_type
from curate.jsonl import pointer_of
from curate.schema import Shape
from curate.schema.form.text import is_plain, json_text
from curate.schema.rules import ValueRules, is_same, rules_at, rules_of

# There is no such value: the key stays out until somebody fills it in.
NOTHING: Json = object()
# Characters from which a text gets an area of its own.
_LONG = 120
_PROSE = ("system", "completion", "text", "chosen", "rejected")
_MOST_PLACEHOLDER = 200
# Levels that a new value is filled in; a recursive schema could ask for more without end.
_DEEPEST = 8
_RANGES = ((">=", "minimum"), (">", "exclusiveMinimum"), ("<=", "maximum"), ("<", "exclusiveMaximum"))

Parts = tuple[str, ...]

# How a value is edited: a text of one line or of many, a number, yes or no, what must be so, one of some values, the
# turns of a conversation, the keys of an object, or JSON as it is written.
Kind = Literal["line", "text", "number", "switch", "constant", "choice", "list", "group", "json"]


@dataclass(frozen=True, slots=True)
class Field:
    """One value of the line and how to edit it. What is not in the line has no value and no fields within it.

    ``value`` is as it was when the fields were made: what is typed since is in the form.
    """

    pointer: str
    name: str
    """The key, or the number of a turn, from 1."""
    kind: Kind
    value: Json = None
    is_present: bool = False
    is_required: bool = False
    is_nullable: bool = False
    is_in_schema: bool = True
    """Whether the schema names the key."""
    fixed: str = ""
    """Why it cannot be changed here; empty where it can."""
    help: str = ""
    placeholder: str = ""
    bounds: str = ""
    """What the schema allows, in a few words."""
    options: tuple[Json, ...] = ()
    fields: tuple[Field, ...] = ()

    @property
    def chosen(self) -> int | None:
        """The index of the present value among the options, None where there is none."""
        matches = (index for index, option in enumerate(self.options) if is_same(option, self.value))
        return next(matches, None) if self.is_present else None

    @property
    def is_filled(self) -> bool:
        """Whether it is in the line and not null."""
        return self.is_present and self.value is not None

    @property
    def is_turn(self) -> bool:
        """Whether it is a turn of a conversation."""
        return self.kind == "group" and {"role", "content"} <= {inner.name for inner in self.fields}

    def inner(self, name: str) -> Field | None:
        """Return the field within it that is called ``name``."""
        return next((inner for inner in self.fields if inner.name == name), None)

    @property
    def widget(self) -> tuple[object, ...]:
        """What decides which widget shows it: while this stays the same, only the value has changed."""
        is_filled = self.is_filled if self.kind in ("group", "list") else None
        return self.pointer, self.kind, self.fixed, is_filled, tuple(map(canonical, self.options))

    def walk(self) -> Iterator[Field]:
        """Yield this field and all within it, from the top down."""
        yield self
        for inner in self.fields:
            yield from inner.walk()


def is_trained(turn: Json) -> bool:
    """Return whether a turn is learnt: an assistant's, unless it says otherwise."""
    if not isinstance(turn, dict):
        return False
    return turn.get("role") == "assistant" and turn.get("train") is not False and turn.get("weight") != 0


class FieldReader:
    """Makes the fields of lines of one shape.

    By pointer, ``fixed`` gives the reason why a value cannot be changed, ``offered`` the values to choose from for a
    text whose schema lists none.
    """

    def __init__(self, shape: Shape, fixed: Mapping[str, str], offered: Mapping[str, Sequence[str]]) -> None:
        self._shape = shape
        self._fixed = fixed
        self._offered = offered
        paths = {name: tuple(path) for name, path in (shape.view.paths if shape.view else {}).items()}
        self._around = {path[:end] for path in paths.values() for end in range(len(path))}
        self._short = {paths[name] for name in ("id", "category", "split") if name in paths}
        prompts = map(tuple, shape.view.prompt if shape.view else ())
        self._long = {*prompts, *(paths[name] for name in _PROSE if name in paths)}

    def root(self, value: Json) -> Field:
        """Return the field of the whole line."""
        return self._field(self._shape.schema, (), value, is_required=True)

    def rules(self, schema: Json) -> ValueRules:
        """Return what ``schema`` says about a value."""
        return rules_of(self._shape.schema_set, schema)

    def at(self, parts: Sequence[str]) -> ValueRules:
        """Return the rules of what stands, or could stand, at a path."""
        return rules_at(self._shape.schema_set, parts)

    def blank(self, schema: Json, depth: int = 0) -> Json:
        """Return the value to begin with: what the schema fixes or gives as default, else `NOTHING`.

        An object begins with the keys that must be in it.
        """
        rules = self.rules(schema)
        if "default" in rules.notes:
            return deepcopy(rules.notes["default"])
        if rules.options is not None and len(rules.options) == 1:
            return deepcopy(rules.options[0])
        if rules.kinds != {"object"} or depth >= _DEEPEST:
            return NOTHING
        required = {name: part for name, part in rules.properties.items() if name in rules.required}
        parts = {name: self.blank(part, depth + 1) for name, part in required.items()}
        return {name: part for name, part in parts.items() if part is not NOTHING}

    def _field(
        self, schema: Json, parts: Parts, value: Json, *, is_required: bool, name: str = "", is_in_schema: bool = True
    ) -> Field:
        """Return the field of ``value``; `NOTHING` is a key that is not there."""
        pointer, rules = pointer_of(parts), self.rules(schema)
        is_present = value is not NOTHING
        value = value if is_present else None
        options = rules.options
        if options is None and rules.kinds == {"string"}:
            options = list(self._offered.get(pointer, ())) or None
        kind = self._kind(rules, parts, value, options, is_present=is_present)
        fields: tuple[Field, ...] = ()
        if kind in ("choice", "constant"):
            options = options or []
            is_listed = not is_present or value is None or any(is_same(value, option) for option in options)
            options = options if is_listed else [*options, value]
        elif kind == "group" and isinstance(value, dict):
            schemas = {**rules.properties, **{key: True for key in value if key not in rules.properties}}
            fields = tuple(
                self._field(
                    part, (*parts, key), value.get(key, NOTHING), name=key, is_required=key in rules.required,
                    is_in_schema=key in rules.properties,
                )
                for key, part in schemas.items()
            )  # fmt: skip
        elif kind == "list":
            fields = tuple(
                self._field(rules.items, (*parts, str(index)), item, name=str(index + 1), is_required=True)
                for index, item in enumerate(value or ())
            )
        texts = (rules.notes.get(note) or "" for note in ("title", "description"))
        return Field(
            pointer, name, kind, value, is_present, is_required, rules.allows_null(), is_in_schema,
            fixed=self._fixed.get(pointer, ""), help=": ".join(filter(None, map(str, texts))),
            placeholder=_placeholder(rules), bounds=_bounds(rules, options),
            options=tuple(options or ()) if kind in ("choice", "constant") else (), fields=fields,
        )  # fmt: skip

    def _kind(
        self, rules: ValueRules, parts: Parts, value: Json, options: list[Json] | None, *, is_present: bool
    ) -> Kind:
        """Return how a value can be edited without losing any of it."""
        if options is not None:
            is_sole = rules.options is not None and len(options) == 1
            return "constant" if is_sole and (not is_present or is_same(value, options[0])) else "choice"
        if is_present and value is None and not rules.allows_null():
            return "json"
        kinds = rules.kinds
        if value is not None:
            is_whole = type(value) is float and value.is_integer()
            kinds = kinds & ({json_type(value), "integer"} if type(value) is int or is_whole else {json_type(value)})
        elif kinds == {"string", "array"}:
            # A text, or turns or parts: nobody begins those by writing JSON.
            kinds = {"string"}
        match next(iter(kinds)) if len(kinds) == 1 else "":
            case "string":
                return self._text_kind(rules, parts, value or "")
            case "number" | "integer":
                return "number"
            case "boolean":
                return "switch"
            case "array" if {"role", "content"} <= self.rules(rules.items).properties.keys():
                return "list"
            case "object" if rules.properties and (parts in self._around or "role" in rules.properties):
                return "group"
        return "group" if not parts and isinstance(value, dict) else "json"

    def _text_kind(self, rules: ValueRules, parts: Parts, value: str) -> Kind:
        most = rules.notes.get("maxLength")
        is_long = len(value) > _LONG or "\n" in value or "\t" in value or parts in self._long
        is_prose = parts[-1:] and parts[-1] in ("content", *TRACES) and parts[-2:-1] and parts[-2].isdecimal()
        if is_long or is_prose or "contentMediaType" in rules.notes:
            return "text"
        return "text" if isinstance(most, int) and most > _LONG and parts not in self._short else "line"


def _placeholder(rules: ValueRules) -> str:
    examples = rules.notes.get("examples")
    if not isinstance(examples, list) or not examples:
        return ""
    text = examples[0] if isinstance(examples[0], str) else json_text(examples[0], indent=None)
    return text if is_plain(text) and len(text) <= _MOST_PLACEHOLDER else ""


def _bounds(rules: ValueRules, options: Sequence[Json] | None) -> str:
    """Return in a few words what a value may be."""
    notes, kinds = rules.notes, rules.kinds
    if options is not None and len(options) > 1:
        return f"one of {len(options)}"
    if kinds & {"number", "integer"}:
        limits = [f"{sign} {notes[name]}" for sign, name in _RANGES if type(notes.get(name)) in (int, float)]
        return " ".join(["whole number" if kinds == {"integer"} else "number", *limits])
    low, high = notes.get("minLength"), notes.get("maxLength")
    if kinds != {"string"} or not (isinstance(high, int) or (isinstance(low, int) and low > 1)):
        return ""
    return f"{low or 0} to {high:,} characters" if isinstance(high, int) else f"{low} or more characters"
