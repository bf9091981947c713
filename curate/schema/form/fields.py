"""The fields of a form: what a schema says about each value, and which kind of editing shows it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from curate.base.record import Json
from curate.jsonl import pointer_of
from curate.schema.form.rules import NOTHING, Option, Schemas, ValueRules, option_index, options_of, types_of
from curate.schema.form.text import is_plain, json_text, object_in

# Characters from which a text gets an area of its own.
LONG = 120
# With so many options or fewer all of them are in sight.
_RADIO_MOST = 4
_LONG_FORMATS = {"textarea", "multiline", "markdown", "html"}
_LONG_TAG = 80
_MOST_PLACEHOLDER = 200
_RANGES = ((">=", "minimum"), (">", "exclusiveMinimum"), ("<=", "maximum"), ("<", "exclusiveMaximum"))

Parts = tuple[str, ...]

# How a value is edited: a text of one line or of many, a number, yes or no, what must be so, one of some options,
# several of them, a list of short texts, a list of cards, the keys of an object, or JSON as it is written.
Kind = Literal["line", "text", "number", "switch", "constant", "choice", "choices", "tags", "list", "group", "json"]


@dataclass(frozen=True, slots=True)
class Field:
    """One value of the line and how to edit it. What is not in the line has no value and no fields within it.

    ``value`` is as it was when the tree was made: what is typed since is in the form.
    """

    pointer: str
    name: str
    """The key, or the number in a list, from 1."""
    kind: Kind
    value: Json = None
    is_present: bool = False
    is_required: bool = False
    is_nullable: bool = False
    is_known: bool = True
    """Whether the schema says what stands here."""
    is_radio: bool = False
    """Whether all options are in sight."""
    fixed: str = ""
    """Why it cannot be changed here; empty where it can."""
    help: str = ""
    placeholder: str = ""
    bounds: str = ""
    """What the schema allows, in a few words."""
    options: tuple[Option, ...] = ()
    fields: tuple[Field, ...] = ()
    can_add: bool = False

    @property
    def chosen(self) -> int | None:
        """The index of the present value among the options, None where there is none."""
        return option_index(self.value, self.options) if self.is_present else None

    @property
    def is_filled(self) -> bool:
        """Whether it is in the line and not null."""
        return self.is_present and self.value is not None

    @property
    def is_turn(self) -> bool:
        """Whether it is a turn of a conversation."""
        return self.kind == "group" and {"role", "content"} <= {inner.name for inner in self.fields}

    @property
    def function(self) -> Field | None:
        """What a call of a tool calls: the field with its name and its arguments; None where it is no call."""
        function = self.inner("function") or self
        return function if function.inner("name") and function.inner("arguments") else None

    def inner(self, name: str) -> Field | None:
        """Return the field within it that is called ``name``."""
        return next((inner for inner in self.fields if inner.name == name), None)

    @property
    def summary(self) -> str:
        """What tells a card from its siblings: the first of its values that is one of some options."""
        for inner in self.fields:
            if inner.is_present and inner.kind in ("choice", "constant") and isinstance(inner.value, str):
                return inner.value
        return ""

    @property
    def widget(self) -> tuple[object, ...]:
        """What decides which widget shows it: while this stays the same, only the value has changed."""
        is_filled = self.is_filled if self.kind in ("group", "list") else None
        labels = tuple(option.label for option in self.options)
        return self.pointer, self.kind, self.is_radio, self.fixed, is_filled, labels

    @property
    def widgets(self) -> tuple[object, ...]:
        """The widgets of this field and of all within it."""
        return self.widget, tuple(inner.widgets for inner in self.fields)

    def walk(self) -> Iterator[Field]:
        """Yield this field and all within it, from the top down."""
        yield self
        for inner in self.fields:
            yield from inner.walk()


# References are followed and `allOf` is joined. Branches (`oneOf`, `anyOf`, `if`) are not followed, but for one that
# only adds null: which of them a value is meant to be is for validation to say. What nothing else shows whole is JSON.
# References lead only where the project of the schema leads; nothing is fetched.


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes the fields of one line.

    ``is_long`` says of a path whether its text is long, None where it does not know. By pointer, ``fixed`` gives the
    reason why a value cannot be changed, ``offered`` the values to choose from. ``tools`` has by the name of each tool
    that the line may call the schema of its arguments, None without one.
    """

    schemas: Schemas
    is_long: Callable[[Sequence[str]], bool | None]
    fixed: Mapping[str, str]
    offered: Mapping[str, Sequence[str]]
    tools: Mapping[str, Json] = field(default_factory=dict)

    def root(self, value: Json) -> Field:
        """Return the field of the whole value."""
        return self._field(self.schemas.root, (), "", value, is_required=True)

    def _field(
        self, schema: Json, parts: Parts, name: str, value: Json, *, is_required: bool, names: Sequence[str] = ()
    ) -> Field:
        """Return the field of ``value``; `NOTHING` is a key that is not there. ``names`` are values to choose from."""
        pointer, rules = pointer_of(parts), self.schemas.rules(schema)
        is_present = value is not NOTHING
        value = value if is_present else None
        options, offered = rules.options, self.offered.get(pointer, names)
        is_offered = bool(offered) and options is None and rules.kinds == {"string"}
        options = options_of(list(offered)) if is_offered else options
        field = Field(
            pointer,
            name,
            self._kind(rules, options, parts, value, is_present=is_present, is_offered=is_offered),
            value,
            is_present,
            is_required,
            rules.is_nullable,
            is_known=schema is not True,
            is_radio=rules.widget == "radio"
            or (rules.widget != "select" and options is not None and len(options) <= _RADIO_MOST),
            fixed=self.fixed.get(pointer, ""),
            help=_help(rules),
            placeholder=_placeholder(rules),
            bounds=_bounds(rules),
        )
        match field.kind:
            case "choice" | "constant":
                known = options or ()
                if is_present and value is not None and option_index(value, known) is None:
                    known = (*known, Option(value, options_of([value])[0].label, is_allowed=False))
                return replace(field, options=known)
            case "choices":
                return replace(field, options=self.schemas.rules(rules.items).options or ())
            case "group" if isinstance(value, dict):
                return replace(field, fields=self._properties(rules, parts, value))
            case "list":
                most, items = rules.notes.get("maxItems"), value or []
                fields = tuple(
                    self._field(rules.items, (*parts, str(index)), str(index + 1), item, is_required=True)
                    for index, item in enumerate(items)
                )
                return replace(field, fields=fields, can_add=not isinstance(most, int) or len(items) < most)
        return field

    def _properties(self, rules: ValueRules, parts: Parts, value: dict[str, Json]) -> tuple[Field, ...]:
        # Of a key that is no property, branches of the schema may still know something.
        unknown: Json = {} if rules.is_branching else True
        schemas = {name: rules.properties[name] for name in _ordered(self.schemas, rules)}
        schemas |= {name: unknown for name in value if name not in rules.properties}
        names: Sequence[str] = ()
        if self.tools and {"name", "arguments"} <= rules.properties.keys():
            names = list(self.tools)
            parameters, arguments = self.tools.get(str(value.get("name"))), object_in(value.get("arguments"))
            if parameters is not None and arguments is not None:
                # What the tool says of them; JSON text of an object is shown as that object is.
                schemas, value = {**schemas, "arguments": parameters}, {**value, "arguments": arguments}
        return tuple(
            self._field(
                schema, (*parts, name), name, value.get(name, NOTHING), is_required=name in rules.required,
                names=names if name == "name" else (),
            )
            for name, schema in schemas.items()
        )  # fmt: skip

    def _kind(
        self, rules: ValueRules, options: tuple[Option, ...] | None, parts: Parts, value: Json, *, is_present: bool,
        is_offered: bool,
    ) -> Kind:  # fmt: skip
        """Return how a value can be edited without losing any of it."""
        if options is not None:
            is_sole = len(options) == 1 and (not is_present or option_index(value, options) == 0)
            # One value that is offered is still picked or not: the schema allows others.
            return "constant" if is_sole and not is_offered else "choice"
        if is_present and value is None and not rules.is_nullable:
            return "json"
        kinds = rules.kinds
        if value is not None and not kinds & types_of(value):
            return "json"
        if len(kinds) > 1 and isinstance(value, str):
            # Of several types, a text is the one that its JSON would make harder to read.
            kinds = frozenset({"string"})
        elif len(kinds) > 1 and isinstance(value, list) and rules.items is not NOTHING:
            kinds = frozenset({"array"})
        elif value is None and kinds == {"string", "array"} and self.schemas.rules(rules.items).properties:
            # Text, or turns of a conversation: nobody begins those by writing JSON.
            kinds = frozenset({"string"})
        if len(kinds) != 1 or rules.widget == "json":
            return "json"
        match next(iter(kinds)):
            case "string":
                return self._text_kind(rules, parts, value or "")
            case "number" | "integer":
                return "number"
            case "boolean":
                return "switch"
            case "array":
                return self._list_kind(rules, parts, value or [])
        # An object of any keys has no form but its JSON, where keys can be added too.
        return "group" if rules.properties else "json"

    def _text_kind(self, rules: ValueRules, parts: Parts, value: str) -> Kind:
        if "\n" in value or "\t" in value or rules.widget == "text":
            return "text"
        if rules.widget == "line":
            return "line"
        is_long = self.is_long(parts)
        if is_long is None:
            most = rules.notes.get("maxLength")
            is_long = (
                "contentMediaType" in rules.notes
                or (isinstance(most, int) and most > LONG)
                or str(rules.notes.get("format", "")).lower() in _LONG_FORMATS
            )
        return "text" if is_long or len(value) > LONG else "line"

    def _list_kind(self, rules: ValueRules, parts: Parts, value: list[Json]) -> Kind:
        if rules.items is NOTHING:
            return "json"
        items = self.schemas.rules(rules.items)
        if rules.widget == "list":
            return "list"
        if items.options is not None:
            indices = [option_index(item, items.options) for item in value]
            is_set = None not in indices and len(set(indices)) == len(indices)
            return "choices" if is_set else "list"
        if items.kinds == {"string"} and not items.is_nullable:
            is_long = self._text_kind(items, (*parts, "-"), "") == "text"
            is_short = all(isinstance(item, str) and len(item) <= _LONG_TAG and "\n" not in item for item in value)
            return "tags" if is_short and not is_long else "list"
        return "list"


def _ordered(schemas: Schemas, rules: ValueRules) -> list[str]:
    """Return the names of the properties in the order of `x-order`: a list of names, or a number at each."""
    order = rules.notes.get("x-order")
    listed = {name: index for index, name in enumerate(order)} if isinstance(order, list) else {}

    def rank(name: str) -> float:
        number: Json = schemas.rules(rules.properties[name]).notes.get("x-order")
        return listed.get(name, number if type(number) in (int, float) else float("inf"))

    return sorted(rules.properties, key=rank)


def _help(rules: ValueRules) -> str:
    texts = [rules.notes.get("title"), rules.notes.get("description")]
    return ": ".join(text for text in texts if isinstance(text, str) and text)


def _placeholder(rules: ValueRules) -> str:
    examples = rules.notes.get("examples")
    if not isinstance(examples, list) or not examples:
        return ""
    text = examples[0] if isinstance(examples[0], str) else json_text(examples[0], indent=None)
    return text if is_plain(text) and len(text) <= _MOST_PLACEHOLDER else ""


def _bounds(rules: ValueRules) -> str:
    """Return in a few words what a value may be."""
    notes, kinds = rules.notes, rules.kinds
    if rules.options is not None and len(rules.options) > 1:
        return f"one of {len(rules.options)}"
    if kinds & {"number", "integer"}:
        limits = [f"{sign} {notes[name]}" for sign, name in _RANGES if type(notes.get(name)) in (int, float)]
        return " ".join(["whole number" if kinds == {"integer"} else "number", *limits])
    if kinds == {"string"}:
        return _range(notes.get("minLength"), notes.get("maxLength"), "character")
    return _range(notes.get("minItems"), notes.get("maxItems"), "item") if kinds == {"array"} else ""


def _range(low: Json, high: Json, word: str) -> str:
    if not isinstance(high, int) or isinstance(high, bool):
        return f"{low} or more {word}s" if isinstance(low, int) and low > 1 else ""
    return f"{low if isinstance(low, int) else 0} to {high:,} {word}s"
