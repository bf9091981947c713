"""From a schema and a value to fields: which kind of editing each part gets, JSON where nothing else shows it whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from curate.base.record import Json
from curate.jsonl import pointer_of
from curate.schema.form.field import Field, Kind, Option, option_index
from curate.schema.form.schema import NOTHING, Schemas, ValueRules, options_of, types_of
from curate.schema.form.text import is_plain, json_text

LONG = 120
"""Characters from which a text gets an area of its own."""
_RADIO_MOST = 4
"""With so many options or fewer all of them are in sight."""
_LONG_FORMATS = {"textarea", "multiline", "markdown", "html"}
_LONG_TAG = 80
_MOST_PLACEHOLDER = 200
_WIDGETS: dict[str, Kind] = {
    "line": "line", "input": "line", "text": "text", "textarea": "text", "json": "json", "list": "list",
}  # fmt: skip
_RANGES = ((">=", "minimum"), (">", "exclusiveMinimum"), ("<=", "maximum"), ("<", "exclusiveMaximum"))
_ANY: Json = {}

Parts = tuple[str, ...]


class Builder:
    """Makes the fields of one line.

    ``is_long`` says of a path whether its text is long, None where it does not know. By pointer, ``fixed`` gives the
    reason why a value cannot be changed, ``offered`` the values to choose from.
    """

    def __init__(
        self,
        schemas: Schemas,
        is_long: Callable[[Sequence[str]], bool | None],
        fixed: Mapping[str, str],
        offered: Mapping[str, Sequence[str]],
    ) -> None:
        self._schemas = schemas
        self._is_long = is_long
        self._fixed = fixed
        self._offered = offered

    def root(self, value: Json) -> Field:
        """Return the field of the whole value."""
        return self._field(self._schemas.root, (), "", value, is_required=True)

    def _field(self, schema: Json, parts: Parts, name: str, value: Json, *, is_required: bool) -> Field:
        """Return the field of ``value``; `NOTHING` is a key that is not there."""
        pointer, rules = pointer_of(parts), self._schemas.rules(schema)
        is_present = value is not NOTHING
        value = value if is_present else None
        options = rules.options
        if pointer in self._offered and options is None and rules.kinds == {"string"}:
            options = options_of(list(self._offered[pointer]))
        field = Field(
            pointer,
            name,
            self._kind(rules, options, parts, value, is_present=is_present),
            value,
            is_present,
            is_required,
            rules.is_nullable,
            is_known=schema is not True,
            is_radio=_is_radio(rules, options),
            fixed=self._fixed.get(pointer, ""),
            help=_help(rules),
            placeholder=_placeholder(rules),
            bounds=_bounds(rules),
        )
        match field.kind:
            case "choice" | "constant":
                return replace(field, options=_with_present(options or (), value, is_present=is_present))
            case "choices":
                return replace(field, options=self._schemas.rules(rules.items).options or ())
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
        unknown = _ANY if rules.is_branching else True
        schemas = {name: rules.properties[name] for name in _ordered(self._schemas, rules)}
        schemas |= {name: unknown for name in value if name not in rules.properties}
        return tuple(
            self._field(schema, (*parts, name), name, value.get(name, NOTHING), is_required=name in rules.required)
            for name, schema in schemas.items()
        )

    def _kind(
        self, rules: ValueRules, options: tuple[Option, ...] | None, parts: Parts, value: Json, *, is_present: bool
    ) -> Kind:
        """Return how a value can be edited without losing any of it."""
        if options is not None:
            is_sole = len(options) == 1 and (not is_present or option_index(value, options) == 0)
            # One value that is offered is still picked or not: the schema allows others.
            return "constant" if is_sole and pointer_of(parts) not in self._offered else "choice"
        if is_present and value is None and not rules.is_nullable:
            return "json"
        kinds, widget = rules.kinds, _WIDGETS.get(str(rules.notes.get("x-widget", "")))
        if value is not None and not kinds & types_of(value):
            return "json"
        if len(kinds) > 1 and isinstance(value, str):
            # Of several types, a text is the one that its JSON would make harder to read.
            kinds = frozenset({"string"})
        if len(kinds) != 1 or widget == "json":
            return "json"
        match next(iter(kinds)):
            case "string":
                return self._text_kind(rules, parts, value or "", widget)
            case "number" | "integer":
                return "number"
            case "boolean":
                return "switch"
            case "array":
                return self._list_kind(rules, parts, value or [], widget)
        # An object of any keys has no form but its JSON, where keys can be added too.
        return "group" if rules.properties else "json"

    def _text_kind(self, rules: ValueRules, parts: Parts, value: str, widget: Kind | None) -> Kind:
        if "\n" in value or "\t" in value:
            return "text"
        if widget in ("line", "text"):
            return widget
        is_long = self._is_long(parts)
        if is_long is None:
            most = rules.notes.get("maxLength")
            is_long = (
                "contentMediaType" in rules.notes
                or (isinstance(most, int) and most > LONG)
                or str(rules.notes.get("format", "")).lower() in _LONG_FORMATS
            )
        return "text" if is_long or len(value) > LONG else "line"

    def _list_kind(self, rules: ValueRules, parts: Parts, value: list[Json], widget: Kind | None) -> Kind:
        if rules.items is NOTHING:
            return "json"
        items = self._schemas.rules(rules.items)
        if widget == "list":
            return "list"
        if items.options is not None:
            indices = [option_index(item, items.options) for item in value]
            is_set = None not in indices and len(set(indices)) == len(indices)
            return "choices" if is_set else "list"
        if items.kinds == {"string"} and not items.is_nullable:
            is_long = self._text_kind(items, (*parts, "-"), "", None) == "text"
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


def _is_radio(rules: ValueRules, options: tuple[Option, ...] | None) -> bool:
    widget = rules.notes.get("x-widget")
    if widget in ("radio", "select"):
        return bool(widget == "radio")
    return options is not None and len(options) <= _RADIO_MOST


def _with_present(options: tuple[Option, ...], value: Json, *, is_present: bool) -> tuple[Option, ...]:
    """Return ``options`` and, last, the present value if it is none of them."""
    if not is_present or value is None or option_index(value, options) is not None:
        return options
    return (*options, Option(value, options_of([value])[0].label, is_allowed=False))


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
