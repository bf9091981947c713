"""What schemas say about a value: its types, its options, its properties, and what it can begin with."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from curate.base.record import Json, canonical, json_type
from curate.schema import Shape
from curate.schema.schema_set import BASE, REFERENCES, resolve

# There is no such value: the key stays out until somebody fills it in.
NOTHING: Json = object()

_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})
_NOTES = (
    "title", "description", "examples", "default", "format", "contentMediaType", "minLength", "maxLength", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "x-order", "x-widget",
)  # fmt: skip
# Levels that a new value is filled in; a recursive schema could ask for more without end.
_DEEPEST = 8
_MOST_ITEMS = 8


@dataclass(frozen=True, slots=True)
class Option:
    """One of the values that the schema lists; ``is_allowed`` is False for a value of the data that it does not."""

    value: Json
    label: str
    is_allowed: bool = True


def option_index(value: Json, options: Sequence[Option]) -> int | None:
    """Return the index of the option that equals ``value`` as JSON Schema compares: 1 is 1.0, and true is neither."""
    spelled = canonical(value)
    is_number = type(value) in (int, float)
    for index, option in enumerate(options):
        is_same_number = is_number and type(option.value) in (int, float) and option.value == value
        if is_same_number or canonical(option.value) == spelled:
            return index
    return None


@dataclass(slots=True)
class ValueRules:
    """What schemas say about one value."""

    types: frozenset[str] | None = None
    """JSON types that are allowed, None where no schema says."""
    options: tuple[Option, ...] | None = None
    is_nullable: bool = False
    is_branching: bool = False
    """Whether there are branches, which may say more than stands here."""
    properties: dict[str, Json] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    items: Json = NOTHING
    notes: dict[str, Json] = field(default_factory=dict)
    nodes: set[int] = field(default_factory=set)
    """The schemas that were joined, each by its identity in memory."""

    @property
    def widget(self) -> str:
        """How the schema's author wants it edited, in the words of ``x-widget``."""
        name = str(self.notes.get("x-widget", ""))
        return {"input": "line", "textarea": "text"}.get(name, name)

    @property
    def kinds(self) -> frozenset[str]:
        """The types as far as they are said or can be told from other rules; null left out, integer within number."""
        if self.types is not None:
            return self.types - {"null"} - ({"integer"} if "number" in self.types else set())
        if self.properties:
            return frozenset({"object"})
        return frozenset() if self.items is NOTHING else frozenset({"array"})


class Schemas:
    """The schemas of one shape, read for a form."""

    def __init__(self, shape: Shape) -> None:
        self.root: Json = shape.schema
        self._project = shape.schema_set
        # A schema is kept beside its rules, so that no other one can get its identity.
        self._rules: dict[int, tuple[Json, ValueRules]] = {}

    def rules(self, schema: Json) -> ValueRules:
        """Return what ``schema``, and all that it refers to and joins, says about a value."""
        if id(schema) not in self._rules:
            rules, waiting = ValueRules(), [schema]
            while waiting:
                node = waiting.pop(0)
                if isinstance(node, dict) and id(node) not in rules.nodes:
                    rules.nodes.add(id(node))
                    _add(rules, node)
                    waiting += [self._target(node, str(node[key])) for key in sorted(node.keys() & REFERENCES)]
                    waiting += _list(node.get("allOf")) + _add_branches(rules, node)
            self._rules[id(schema)] = schema, rules
        return self._rules[id(schema)][1]

    def at(self, parts: Sequence[str], schema: Json = NOTHING) -> Json:
        """Return the schema of what stands, or could stand, at a path below ``schema``; true where none says."""
        schema = self.root if schema is NOTHING else schema
        for part in parts:
            rules = self.rules(schema)
            schema = rules.properties.get(part, True if rules.items is NOTHING else rules.items)
        return schema

    def blank(self, schema: Json, depth: int = 0) -> Json:
        """Return the value to begin with: what the schema fixes or gives as default, and no invented text.

        Objects and lists begin with what must be in them, a switch with false, texts and numbers with `NOTHING`.
        """
        rules = self.rules(schema)
        if "default" in rules.notes:
            return deepcopy(rules.notes["default"])
        if rules.options is not None:
            return deepcopy(rules.options[0].value) if len(rules.options) == 1 else NOTHING
        if len(rules.kinds) != 1 or depth >= _DEEPEST:
            return NOTHING
        match next(iter(rules.kinds)):
            case "boolean":
                return False
            case "object":
                required = {name: part for name, part in rules.properties.items() if name in rules.required}
                parts = {name: self.blank(part, depth + 1) for name, part in required.items()}
                return {name: part for name, part in parts.items() if part is not NOTHING}
            case "array":
                fewest = rules.notes.get("minItems")
                count = min(fewest, _MOST_ITEMS) if isinstance(fewest, int) and rules.items is not NOTHING else 0
                items = [self.blank(rules.items, depth + 1) for _ in range(count)]
                return [item for item in items if item is not NOTHING]
        return NOTHING

    def blank_item(self, schema: Json) -> Json:
        """Return what a new item begins with: unlike a key, an item cannot be left out."""
        value = self.blank(schema)
        if value is not NOTHING:
            return value
        rules = self.rules(schema)
        if rules.options:
            return deepcopy(rules.options[0].value)
        kind = next(iter(rules.kinds)) if len(rules.kinds) == 1 else ""
        return {"number": 0, "integer": 0, "boolean": False, "object": {}, "array": []}.get(kind, "")

    def _target(self, node: dict[str, Json], reference: str) -> Json:
        return resolve(self._project, self._project.bases.get(id(node), BASE), reference)


def _add(rules: ValueRules, node: dict[str, Json]) -> None:
    """Add what one schema says by itself."""
    if (types := _types(node.get("type"))) is not None:
        rules.types = types if rules.types is None else rules.types & types
        rules.is_nullable |= "null" in types
    if "const" in node:
        _narrow(rules, [node["const"]])
    if isinstance(node.get("enum"), list):
        _narrow(rules, node["enum"])
    for name, part in (node.get("properties") or {}).items():
        rules.properties[name] = {"allOf": [rules.properties[name], part]} if name in rules.properties else part
    rules.required |= {name for name in _list(node.get("required")) if isinstance(name, str)}
    if isinstance(node.get("items"), dict) and "prefixItems" not in node:
        rules.items = node["items"] if rules.items is NOTHING else {"allOf": [rules.items, node["items"]]}
    for name in _NOTES:
        if name in node:
            rules.notes.setdefault(name, node[name])


def _add_branches(rules: ValueRules, node: dict[str, Json]) -> list[Json]:
    """Note the branches of a schema, and return those that hold in any case: the only one beside null."""
    rules.is_branching |= "if" in node
    sole: list[Json] = []
    for branches in (_list(node.get(keyword)) for keyword in ("oneOf", "anyOf")):
        other = [branch for branch in branches if not (isinstance(branch, dict) and branch.get("type") == "null")]
        rules.is_nullable |= len(other) < len(branches)
        rules.is_branching |= len(other) > 1
        sole += other if len(other) == 1 else []
    return sole


def types_of(value: Json) -> frozenset[str]:
    """Return the JSON types that a value is of: 3 and 3.0 are integers and numbers."""
    is_whole = json_type(value) == "number" and float(value).is_integer()
    return frozenset({json_type(value)} | ({"integer"} if is_whole else set()))


def options_of(values: list[Json]) -> tuple[Option, ...]:
    """Return ``values`` as options: texts by themselves, all else, and what could be mistaken, as JSON."""
    labels = [value if isinstance(value, str) and value.strip() else _json(value) for value in values]
    return tuple(
        Option(value, label if labels.count(label) == 1 else _json(value))
        for value, label in zip(values, labels, strict=True)
    )


def _types(value: Json) -> frozenset[str] | None:
    names = {value} if isinstance(value, str) else {name for name in _list(value) if isinstance(name, str)}
    if not names:
        return None
    return frozenset((names | {"integer"} if "number" in names else names) & _TYPES)


def _narrow(rules: ValueRules, values: list[Json]) -> None:
    options = options_of(values)
    if rules.options is not None:
        known = {canonical(option.value) for option in options}
        options = tuple(option for option in rules.options if canonical(option.value) in known)
    rules.options = options


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _json(value: Json) -> str:
    return canonical(value).decode()
