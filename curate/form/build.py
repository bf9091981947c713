"""From schemas and a value to fields: which kind of editing each part gets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from curate.door import pointer_of
from curate.form.field import RADIO_MOST, Choice, Field, Kind, Option, place_of
from curate.form.rules import Branching, Nodes, Rules, Schemas, options_of, types_of
from curate.form.spelling import is_plain, json_text
from curate.record import Json

LONG = 120
"""Characters from which a text gets an area of its own."""
_LONG_FORMATS = {"textarea", "multiline", "markdown", "html"}
_LONG_TAG = 80
_MOST_WORDS = 200
_WIDGETS: dict[str, Kind] = {
    "line": "line", "input": "line", "text": "text", "textarea": "text", "json": "json", "list": "list", "tags": "tags",
    "checkboxes": "choices",
}  # fmt: skip

Parts = tuple[str, ...]


@dataclass
class Picked:
    """What stays as it is while somebody types, though by itself the value would ask for something else."""

    schemas: Schemas
    chosen: dict[tuple[str, int], int] = field(default_factory=dict)
    """The branch that is followed at each choice of a value, by (pointer, number); found from the value at first."""
    held: dict[str, Kind] = field(default_factory=dict)
    """How the value at each pointer is edited."""

    def at(self, pointer: str, value: Json, *, is_present: bool) -> _Here:
        """Return what picks for one value."""
        return _Here(self, pointer, value, is_present)


@dataclass(frozen=True)
class _Here:
    picked: Picked
    pointer: str
    value: Json
    is_present: bool

    def branch(self, number: int, branching: Branching) -> int | None:
        """Return what was chosen, else the branch that the value is of; what is not there is of the first."""
        known = self.picked.chosen.get((self.pointer, number))
        if known is not None and known < len(branching.branches):
            return known
        if not self.is_present:
            return 0
        index = self._found(branching)
        if index is not None:
            # Half-way through an edit a value may fit no branch, or another: the choice stays what it was.
            self.picked.chosen[self.pointer, number] = index
        return index

    def holds(self, condition: Json) -> bool:
        """Whether the value fits ``condition``."""
        return self.is_present and self.picked.schemas.allows(condition, self.value)

    def _found(self, branching: Branching) -> int | None:
        schemas, value = self.picked.schemas, self.value
        if branching.key and isinstance(value, dict) and branching.key in value:
            for index, values in enumerate(branching.values):
                if place_of(value[branching.key], _options(values)) is not None:
                    return index
        for index, branch in enumerate(branching.branches):
            if schemas.allows(branch, value):
                return index
        return self._nearest(branching)

    def _nearest(self, branching: Branching) -> int | None:
        """Return the branch of the value's type that shares the most keys with it."""
        best, most = None, -1
        for index, branch in enumerate(branching.branches):
            rules = self.picked.schemas.rules((branch,), self)
            if rules.kinds and not rules.kinds & types_of(self.value):
                continue
            num_shared = len(rules.properties.keys() & self.value.keys()) if isinstance(self.value, dict) else 0
            if num_shared > most:
                best, most = index, num_shared
        return best


def _options(spelled: Collection[bytes]) -> tuple[Option, ...]:
    import json

    return options_of([json.loads(one) for one in sorted(spelled)])


class Builder:
    """Makes the fields of one line."""

    def __init__(
        self,
        schemas: Schemas,
        picked: Picked,
        is_long: Callable[[Sequence[str]], bool | None],
        fixed: Mapping[str, str],
        offered: Mapping[str, Sequence[str]],
    ) -> None:
        self._schemas = schemas
        self._picked = picked
        self._is_long = is_long
        self._fixed = fixed
        self._offered = offered

    def root(self, value: Json) -> Field:
        """Return the field of the whole value."""
        return self._field(self._schemas.root, (), "", value, is_present=True, is_required=True)

    def rules(self, nodes: Nodes, pointer: str, value: Json, *, is_present: bool) -> Rules:
        """Return what ``nodes`` say of the value at ``pointer``."""
        return self._schemas.rules(nodes, self._picked.at(pointer, value, is_present=is_present))

    def nodes_at(self, value: Json, parts: Sequence[str]) -> Nodes:
        """Return the schemas of what stands, or could stand, at a path; none where no schema says."""
        nodes, here = self._schemas.root, value
        for depth, part in enumerate(parts):
            rules = self.rules(nodes, pointer_of(parts[:depth]), here, is_present=here is not None)
            nodes = _within(rules, part, is_list=isinstance(here, list) or not rules.properties)
            if isinstance(here, dict):
                here = here.get(part)
            elif isinstance(here, list) and part.isdecimal() and int(part) < len(here):
                here = here[int(part)]
            else:
                here = None
        return nodes

    def _field(
        self, nodes: Nodes, parts: Parts, name: str, value: Json, *, is_present: bool, is_required: bool
    ) -> Field:
        pointer = pointer_of(parts)
        rules = self.rules(nodes, pointer, value, is_present=is_present)
        if pointer in self._offered and rules.options is None and rules.kinds == {"string"}:
            rules.options = options_of(list(self._offered[pointer]))
        kind = self._kind(rules, parts, value, is_present=is_present)
        if kind == "constant" and pointer in self._offered:
            # One value that is offered is still picked or not: the schema allows others.
            kind = "choice"
        if _can_hold(held := self._picked.held.setdefault(pointer, kind), value):
            # A line that grows long, or JSON that begins to fit, does not change its widget under the cursor.
            kind = held
        self._picked.held[pointer] = kind
        choices = tuple(
            Choice(number, branching.labels, index) for number, (branching, index) in enumerate(rules.branchings)
        )
        made = Field(
            pointer,
            name,
            kind,
            value,
            is_present,
            is_required,
            rules.is_nullable,
            bool(nodes) and not rules.is_impossible,
            rules.kinds == {"integer"},
            _is_radio(rules),
            self._fixed.get(pointer, ""),
            _help(rules),
            _placeholder(rules),
            bounds_of(rules),
            choices=choices,
        )
        if kind in ("choice", "constant"):
            return replace(made, options=_with_present(rules.options or (), value, is_present=is_present))
        if kind == "choices":
            items = self._schemas.rules(tuple(rules.items), self._picked.at(f"{pointer}/-", None, is_present=False))
            return replace(made, options=items.options or ())
        if kind == "group" and isinstance(value, dict):
            return replace(made, fields=self._properties(rules, parts, value))
        if kind == "list":
            most = rules.notes.get("maxItems")
            can_add = not isinstance(most, int) or len(value or ()) < most
            return replace(made, fields=self._items(rules, parts, value or []), can_add=can_add)
        return made

    def _properties(self, rules: Rules, parts: Parts, value: dict[str, Json]) -> tuple[Field, ...]:
        fields = []
        for name in self._ordered(rules):
            nodes = tuple(rules.properties[name])
            if name not in value and False in nodes:
                continue
            fields.append(self._child(nodes, (*parts, name), name, value, is_required=name in rules.required))
        rest = () if rules.has_patterns else tuple(rules.rest)
        fields += [
            self._child(rest, (*parts, name), name, value, is_required=name in rules.required)
            for name in value
            if name not in rules.properties
        ]
        return tuple(fields)

    def _child(self, nodes: Nodes, parts: Parts, name: str, holder: dict[str, Json], *, is_required: bool) -> Field:
        return self._field(nodes, parts, name, holder.get(name), is_present=name in holder, is_required=is_required)

    def _items(self, rules: Rules, parts: Parts, value: list[Json]) -> tuple[Field, ...]:
        return tuple(
            self._field(
                _within(rules, str(place), is_list=True),
                (*parts, str(place)),
                str(place + 1),
                item,
                is_present=True,
                is_required=True,
            )
            for place, item in enumerate(value)
        )

    def _ordered(self, rules: Rules) -> list[str]:
        """Return the names of the properties in the order of `x-order`: a list of names, or a number at each."""
        order = rules.notes.get("x-order")
        listed = {name: place for place, name in enumerate(order)} if isinstance(order, list) else {}

        def place(name: str) -> float:
            numbers = (node.get("x-order") for node in rules.properties[name] if isinstance(node, dict))
            own = next((number for number in numbers if type(number) in (int, float)), None)
            return listed[name] if name in listed else float("inf") if own is None else float(own)

        return sorted(rules.properties, key=place)

    def _kind(self, rules: Rules, parts: Parts, value: Json, *, is_present: bool) -> Kind:
        """Return how a value can be edited without losing any of it: as JSON where nothing else can hold it."""
        if is_present and value is None and not rules.is_nullable and rules.options is None:
            return "json"
        if rules.options is not None:
            is_sole = len(rules.options) == 1 and (not is_present or place_of(value, rules.options) == 0)
            return "constant" if is_sole else "choice"
        is_given = is_present and value is not None
        if len(rules.kinds) != 1 or (is_given and not _fits(rules.kinds, value)):
            return "json"
        asked = _WIDGETS.get(str(rules.notes.get("x-widget", "")))
        if asked == "json":
            return "json"
        match next(iter(rules.kinds)):
            case "string":
                return self._text_kind(rules, parts, value if is_given else "", asked)
            case "number" | "integer":
                return "number"
            case "boolean":
                return "switch"
            case "array":
                return self._list_kind(rules, parts, value if is_given else [], asked)
            case _:
                # An object of any keys has no form but its JSON, where keys can be added too.
                return "group" if rules.properties else "json"

    def _text_kind(self, rules: Rules, parts: Parts, value: str, asked: Kind | None) -> Kind:
        if "\n" in value or "\t" in value:
            return "text"
        if asked in ("line", "text"):
            return asked
        is_long = self._is_long(parts)
        if is_long is None:
            most = rules.notes.get("maxLength")
            is_long = (
                "contentMediaType" in rules.notes
                or (isinstance(most, int) and most > LONG)
                or str(rules.notes.get("format", "")).lower() in _LONG_FORMATS
            )
        return "text" if is_long or len(value) > LONG else "line"

    def _list_kind(self, rules: Rules, parts: Parts, value: list[Json], asked: Kind | None) -> Kind:
        if not rules.items and not rules.prefix:
            return "json"
        if rules.prefix or asked == "list":
            return "list"
        items = self._schemas.rules(
            tuple(rules.items), self._picked.at(f"{pointer_of(parts)}/-", None, is_present=False)
        )
        if items.options is not None:
            places = [place_of(one, items.options) for one in value]
            is_set = None not in places and len(set(places)) == len(places)
            return "choices" if is_set else "list"
        if items.kinds == {"string"} and not items.is_nullable and not items.branchings:
            # The kind of the items is asked at the place that none of them has.
            is_long = self._text_kind(items, (*parts, "-"), "", None) == "text"
            if not is_long and all(isinstance(one, str) and len(one) <= _LONG_TAG and "\n" not in one for one in value):
                return "tags"
        return "list"


def _within(rules: Rules, part: str, *, is_list: bool) -> Nodes:
    """Return the schemas of a key or an item."""
    if not is_list:
        if part in rules.properties:
            return tuple(rules.properties[part])
        return () if rules.has_patterns else tuple(rules.rest)
    if part.isdecimal() and int(part) < len(rules.prefix):
        return tuple(rules.prefix[int(part)])
    return tuple(rules.items)


def _fits(kinds: frozenset[str], value: Json) -> bool:
    return bool(kinds & types_of(value))


def _can_hold(kind: Kind, value: Json) -> bool:
    """Whether a field where one types can show a value whole."""
    match kind:
        case "json":
            return True
        case "text":
            return isinstance(value, str)
        case "line":
            return isinstance(value, str) and "\n" not in value and "\t" not in value
        case "tags":
            return isinstance(value, list) and all(isinstance(one, str) for one in value)
        case _:
            return False


def _is_radio(rules: Rules) -> bool:
    asked = rules.notes.get("x-widget")
    if asked in ("radio", "select"):
        return bool(asked == "radio")
    return rules.options is not None and len(rules.options) <= RADIO_MOST


def _with_present(options: tuple[Option, ...], value: Json, *, is_present: bool) -> tuple[Option, ...]:
    """Return ``options`` and, last, the present value if it is none of them."""
    if not is_present or value is None or place_of(value, options) is not None:
        return options
    return (*options, Option(value, options_of([value])[0].label, "not one of the options", False))


def _help(rules: Rules) -> str:
    told = [rules.notes.get("title"), rules.notes.get("description")]
    return ": ".join(one for one in told if isinstance(one, str) and one)


def _placeholder(rules: Rules) -> str:
    examples = rules.notes.get("examples")
    if not isinstance(examples, list) or not examples:
        return ""
    text = examples[0] if isinstance(examples[0], str) else json_text(examples[0], indent=None)
    return text if is_plain(text) and len(text) <= _MOST_WORDS else ""


def bounds_of(rules: Rules) -> str:
    """Return in a few words what a value may be."""
    notes = rules.notes
    if rules.options is not None and len(rules.options) > 1:
        return f"one of {len(rules.options)}"
    kinds = rules.kinds
    parts = []
    if kinds & {"number", "integer"}:
        parts.append("whole number" if kinds == {"integer"} else "number")
        for sign, name in ((">=", "minimum"), (">", "exclusiveMinimum"), ("<=", "maximum"), ("<", "exclusiveMaximum")):
            if type(notes.get(name)) in (int, float):
                parts.append(f"{sign} {notes[name]}")
    elif kinds == {"string"}:
        parts.append(_range(notes.get("minLength"), notes.get("maxLength"), "character"))
    elif kinds == {"array"}:
        parts.append(_range(notes.get("minItems"), notes.get("maxItems"), "item"))
    return " ".join(filter(None, parts))


def _range(low: Json, high: Json, word: str) -> str:
    if not isinstance(high, int) or isinstance(high, bool):
        return f"{low} or more {word}s" if isinstance(low, int) and low > 1 else ""
    return f"{low if isinstance(low, int) else 0} to {high:,} {word}s"
