"""What all the schemas that look at one value say together: references followed, `allOf` joined, branches chosen.

References lead only where the project of the schema leads; nothing is fetched. A recursive schema is followed no deeper
than the value goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urljoin

import jsonschema_rs

from curate.door import pointer_of
from curate.form.field import Option
from curate.record import Json, canonical
from curate.shape import Shape, build_validator
from curate.shape.cost import depth_of
from curate.shape.keywords import REFERENCES, subschemas
from curate.shape.project import BASE, resolve

Nodes = tuple[Json, ...]
"""Schemas that all look at the same value; each is an object, true or false."""

_ALL = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})
_NOTES = (
    "title", "description", "examples", "default", "format", "contentMediaType", "minLength", "maxLength", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "x-order",
    "x-widget",
)  # fmt: skip
_SHAPING = frozenset({"title", "type", "items", "prefixItems", "enum", "const", "allOf", "anyOf", "oneOf"}) | REFERENCES
_TYPES: dict[str, dict[str, Json]] = {
    name: {"type": name} for name in ("string", "number", "integer", "boolean", "array", "object")
}
_TYPE_WORDS = {"string": "text", "array": "list", "boolean": "yes or no", "null": "nothing"}


@dataclass(frozen=True, slots=True)
class Branching:
    """Forms of which the schema allows one or more; ``key`` is the property that tells them apart, if one does."""

    branches: tuple[Json, ...]
    labels: tuple[str, ...]
    key: str = ""
    values: tuple[frozenset[bytes], ...] = ()
    """What ``key`` can be in each branch, in canonical spelling."""


class Picker(Protocol):
    """Knows the value that schemas look at, and what a person has chosen for it."""

    def branch(self, number: int, branching: Branching) -> int | None:
        """Return the branch to follow at the choice of that number, None for none."""

    def holds(self, condition: Json) -> bool:
        """Whether the value fits the schema ``condition``."""


class Unseen:
    """Picks where there is no value to go by: the first branch, and no condition holds."""

    def branch(self, _number: int, _branching: Branching) -> int | None:
        """Return the first branch."""
        return 0

    def holds(self, _condition: Json) -> bool:
        """Say that it does not."""
        return False


@dataclass(slots=True)
class Rules:
    """What schemas say about one value."""

    types: frozenset[str] | None = None
    """JSON types that are allowed, None where no schema says."""
    options: tuple[Option, ...] | None = None
    is_nullable: bool = False
    is_impossible: bool = False
    properties: dict[str, list[Json]] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    is_closed: bool = False
    rest: list[Json] = field(default_factory=list)
    has_patterns: bool = False
    items: list[Json] = field(default_factory=list)
    prefix: list[list[Json]] = field(default_factory=list)
    notes: dict[str, Json] = field(default_factory=dict)
    branchings: list[tuple[Branching, int | None]] = field(default_factory=list)
    """Choices that a person can make, with the branch that is followed."""
    seen: set[int] = field(default_factory=set)
    """The schemas that were joined, each by its identity in memory."""

    @property
    def kinds(self) -> frozenset[str]:
        """The types as far as they are said or can be told from other rules; null left out, integer within number."""
        types = self.types
        if types is None:
            if self.properties or self.rest or self.has_patterns:
                types = frozenset({"object"})
            elif self.items or self.prefix:
                types = frozenset({"array"})
            else:
                return frozenset()
        return types - {"null"} - ({"integer"} if "number" in types else set())


class Schemas:
    """The schemas of one shape, read for a form."""

    def __init__(self, shape: Shape) -> None:
        self.root: Nodes = (shape.schema,)
        self._project = shape.project
        self._dialect = shape.schema.get("$schema", "") if isinstance(shape.schema, dict) else ""
        self._places: dict[int, str] = {}
        self._validators: dict[int, Any] = {}
        for uri, document in self._project.documents.items():
            self._place(document, f"{uri}#")

    def rules(self, nodes: Nodes, picker: Picker) -> Rules:
        """Join what ``nodes`` say. ``picker`` says which branch to follow at each choice."""
        rules = Rules()
        waiting: list[Json] = list(nodes)
        choices: list[list[Json]] = []
        number = 0
        while waiting or choices:
            if not waiting:
                # Only when all else is known: branches that add nothing to it are no choice.
                waiting += self._followed(choices.pop(0), rules, picker, number)
                number += 1
                continue
            node = waiting.pop(0)
            if not isinstance(node, dict):
                rules.is_impossible |= node is False
            elif id(node) not in rules.seen:
                rules.seen.add(id(node))
                _join(rules, node)
                waiting += self._beside(node, picker)
                choices += [node[key] for key in ("oneOf", "anyOf") if isinstance(node.get(key), list)]
        if len(rules.kinds) > 1 and rules.options is None:
            by_type = [node for name, node in _TYPES.items() if name in rules.kinds]
            labels = tuple(_TYPE_WORDS.get(str(node["type"]), str(node["type"])) for node in by_type)
            branching = Branching(tuple(by_type), labels)
            index = picker.branch(number, branching)
            rules.branchings.append((branching, index))
            rules.types = None if index is None else frozenset({str(by_type[index]["type"])})
        return rules

    def allows(self, node: Json, value: Json) -> bool:
        """Whether one schema allows a value; False too where the engine cannot tell."""
        if not isinstance(node, dict):
            return node is not False
        if node.keys() == {"type"} and isinstance(node["type"], str):
            return node["type"] in types_of(value)
        if id(node) not in self._places or depth_of(value) > self._project.depth:
            return False
        if id(node) not in self._validators:
            schema = {"$schema": self._dialect} if self._dialect else {}
            try:
                self._validators[id(node)] = build_validator(
                    {**schema, "$ref": self._places[id(node)]}, self._project.documents, base_uri=f"{BASE}form"
                )
            except (jsonschema_rs.ValidationError, ValueError):
                # A part that only its surroundings make whole: no branch is chosen by it.
                self._validators[id(node)] = None
        validator = self._validators[id(node)]
        return validator is not None and bool(validator.is_valid(value))

    def _beside(self, node: dict[str, Json], picker: Picker) -> Iterator[Json]:
        """Yield the schemas that look at the same value because ``node`` says so."""
        for keyword in sorted(node.keys() & REFERENCES):
            if isinstance(node[keyword], str):
                yield self._target(node, node[keyword])
        yield from node.get("allOf", ())
        if isinstance(condition := node.get("if"), dict | bool):
            yield node.get("then" if picker.holds(condition) else "else", True)

    def _followed(self, branches: list[Json], rules: Rules, picker: Picker, number: int) -> list[Json]:
        """Return the branch to follow, after noting what can be chosen."""
        nothing = [one for one in branches if isinstance(one, dict) and one.get("type") == "null"]
        rules.is_nullable |= bool(nothing)
        rest = [one for one in branches if one not in nothing]
        if len(rest) == 1:
            return rest
        if listed := _listed(rest):
            rules.options = listed if rules.options is None else rules.options
            return []
        branching = self._branching(rest)
        if not rest or (not branching.key and not _is_telling(rest, rules)):
            return []
        index = picker.branch(number, branching)
        rules.branchings.append((branching, index))
        return [] if index is None else [rest[index]]

    def _branching(self, branches: list[Json]) -> Branching:
        told = [self.rules((branch,), Unseen()) for branch in branches]
        shared = [key for key in told[0].properties if all(key in one.properties for one in told)] if told else []
        for key in shared:
            values = tuple(self._values(one.properties[key]) for one in told)
            if all(values) and len(frozenset().union(*values)) == sum(map(len, values)):
                return Branching(tuple(branches), _labels(branches, told, key, values), key, values)
        return Branching(tuple(branches), _labels(branches, told))

    def _values(self, nodes: list[Json]) -> frozenset[bytes]:
        options = self.rules(tuple(nodes), Unseen()).options or ()
        return frozenset(canonical(option.value) for option in options)

    def _target(self, node: dict[str, Json], reference: str) -> Json:
        base = self._project.bases.get(id(node), BASE)
        target = resolve(self._project, base, reference)
        if isinstance(target, dict) and id(target) not in self._places:
            self._place(target, urljoin(base, reference))
        return True if target is None else target

    def _place(self, schema: Json, uri: str) -> None:
        """Note by which URI each schema within ``schema`` can be referred to."""
        stack: list[tuple[Json, str]] = [(schema, uri)]
        while stack:
            node, place = stack.pop()
            if isinstance(node, dict) and id(node) not in self._places:
                self._places[id(node)] = place
                stack.extend((part, place + pointer_of(steps)) for steps, part, _ in subschemas(node))


def _join(rules: Rules, node: dict[str, Json]) -> None:
    """Add what one schema says by itself."""
    if (types := _types(node.get("type"))) is not None:
        rules.types = types if rules.types is None else rules.types & types
        rules.is_nullable |= "null" in types
    if "const" in node:
        _narrow(rules, [node["const"]])
    if isinstance(node.get("enum"), list):
        _narrow(rules, node["enum"])
    for name, part in _dict(node.get("properties")).items():
        rules.properties.setdefault(name, []).append(part)
    rules.required |= {name for name in _list(node.get("required")) if isinstance(name, str)}
    rules.has_patterns |= bool(_dict(node.get("patternProperties")))
    rest = node.get("additionalProperties")
    rules.is_closed |= rest is False or node.get("unevaluatedProperties") is False
    if isinstance(rest, dict):
        rules.rest.append(rest)
    items = node.get("items")
    prefix = _list(node.get("prefixItems")) or _list(items)
    for place, part in enumerate(prefix):
        if place == len(rules.prefix):
            rules.prefix.append([])
        rules.prefix[place].append(part)
    more = node.get("additionalItems") if isinstance(items, list) else items
    if isinstance(more, dict):
        rules.items.append(more)
    for name in _NOTES:
        if name in node:
            rules.notes.setdefault(name, node[name])


def types_of(value: Json) -> frozenset[str]:
    """Return the JSON types that a value is of: 3 and 3.0 are integers and numbers."""
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case str():
            return frozenset({"string"})
        case int():
            return frozenset({"number", "integer"})
        case float():
            return frozenset({"number", "integer"} if value.is_integer() else {"number"})
        case list():
            return frozenset({"array"})
        case _:
            return frozenset({"object"})


def _types(told: Json) -> frozenset[str] | None:
    names = {told} if isinstance(told, str) else {name for name in _list(told) if isinstance(name, str)}
    if not names:
        return None
    return frozenset((names | {"integer"} if "number" in names else names) & _ALL)


def _narrow(rules: Rules, values: list[Json]) -> None:
    told = options_of(values)
    if rules.options is not None:
        known = {canonical(option.value) for option in told}
        told = tuple(option for option in rules.options if canonical(option.value) in known)
    rules.options = told


def options_of(values: list[Json]) -> tuple[Option, ...]:
    """Return ``values`` as options: texts by themselves, all else, and what could be mistaken, as JSON."""
    labels = [value if isinstance(value, str) and value.strip() else _json(value) for value in values]
    return tuple(
        Option(value, label if labels.count(label) == 1 else _json(value))
        for value, label in zip(values, labels, strict=True)
    )


def _listed(branches: list[Json]) -> tuple[Option, ...]:
    """Return the options that branches of nothing but constants amount to, each with its title."""
    found: list[Option] = []
    for branch in branches:
        if not isinstance(branch, dict) or not branch.keys() <= {"const", "title", "description", "type"}:
            return ()
        if "const" not in branch:
            return ()
        label = branch.get("title") or options_of([branch["const"]])[0].label
        found.append(Option(branch["const"], str(label), str(branch.get("description", ""))))
    return tuple(found)


def _is_telling(branches: list[Json], rules: Rules) -> bool:
    """Whether branches say what a value looks like; others only rule something out, which validation tells."""
    for branch in branches:
        if isinstance(branch, dict) and (
            branch.keys() & _SHAPING or _dict(branch.get("properties")).keys() - rules.properties.keys()
        ):
            return True
    return False


def _labels(
    branches: list[Json], told: list[Rules], key: str = "", values: tuple[frozenset[bytes], ...] = ()
) -> tuple[str, ...]:
    names: list[str] = []
    for place, (branch, rules) in enumerate(zip(branches, told, strict=True)):
        if key:
            name = " or ".join(sorted(one.decode().strip('"') for one in values[place]))
        else:
            name = _name(branch, rules) or f"form {place + 1}"
        names.append(f"{name} ({place + 1})" if name in names else name)
    return tuple(names)


def _name(branch: Json, rules: Rules) -> str:
    if isinstance(title := rules.notes.get("title"), str) and title:
        return title
    if isinstance(branch, dict) and isinstance(branch.get("$ref"), str):
        return str(branch["$ref"]).rsplit("/", 1)[-1]
    if rules.required:
        return "with " + ", ".join(sorted(rules.required))
    return " or ".join(sorted(_TYPE_WORDS.get(kind, kind) for kind in rules.kinds))


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _json(value: Json) -> str:
    return canonical(value).decode()
