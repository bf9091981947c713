"""What a schema says about one value, as far as it does so without choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from curate.base.record import Json
from curate.schema.schema_set import BASE, REFERENCES, SchemaSet, resolve


@dataclass(slots=True)
class ValueRules:
    """What a schema says about one value, with all that it refers to and joins.

    Branches (`oneOf`, `anyOf`, `if`) are not followed, but for one that only adds null.
    """

    types: set[str] | None = None
    """JSON types that are allowed, None where no schema says."""
    options: list[Json] | None = None
    is_nullable: bool = False
    properties: dict[str, Json] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    items: Json = None
    notes: dict[str, Json] = field(default_factory=dict)

    def add(self, node: dict[str, Json]) -> list[Json]:
        """Add what one schema says by itself, and return those that it joins."""
        if "type" in node:
            types = set(_list(node["type"])) or {str(node["type"])}
            self.types = types if self.types is None else self.types & types
        for values in ([node["const"]] if "const" in node else None, node.get("enum")):
            if isinstance(values, list):
                before = values if self.options is None else self.options
                self.options = [value for value in before if any(is_same(value, other) for other in values)]
        for name, part in (node.get("properties") or {}).items():
            self.properties[name] = {"allOf": [self.properties[name], part]} if name in self.properties else part
        self.required.update(map(str, _list(node.get("required"))))
        if self.items is None and isinstance(node.get("items"), dict) and "prefixItems" not in node:
            self.items = node["items"]
        self.notes = {**node, **self.notes}
        joined = _list(node.get("allOf"))
        for branches in (_list(node.get("oneOf")), _list(node.get("anyOf"))):
            other = [branch for branch in branches if not (isinstance(branch, dict) and branch.get("type") == "null")]
            self.is_nullable |= len(other) < len(branches)
            joined += other if len(other) == 1 else []
        return joined

    @property
    def kinds(self) -> set[str]:
        """The types as far as they are said or can be told from other rules; null left out, integer within number."""
        if self.types is None:
            return {"object"} if self.properties else {"array"} if self.items is not None else set()
        return self.types - {"null"} - ({"integer"} if "number" in self.types else set())

    def allows_null(self) -> bool:
        """Return whether null is one of the types, or a branch."""
        return self.is_nullable or "null" in (self.types or ())


def rules_of(schema_set: SchemaSet, schema: Json) -> ValueRules:
    """Return what ``schema`` says about a value. References lead only where the project of the schema leads."""
    rules, waiting, known = ValueRules(), [schema], set()
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, dict) and id(node) not in known:
            known.add(id(node))
            base = schema_set.bases.get(id(node), BASE)
            waiting += [resolve(schema_set, base, str(node[key])) for key in sorted(node.keys() & REFERENCES)]
            waiting += rules.add(node)
    return rules


def rules_at(schema_set: SchemaSet, parts: Sequence[str | int]) -> ValueRules:
    """Return the rules of what stands, or could stand, at a path of a line."""
    rules = rules_of(schema_set, schema_set.schema)
    for part in parts:
        rules = rules_of(schema_set, rules.properties.get(str(part), rules.items))
    return rules


def is_same(one: Json, other: Json) -> bool:
    """Return whether two values are equal as JSON Schema compares: 1 is 1.0, and true is neither."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _list(value: Json) -> list[Json]:
    return list(value) if isinstance(value, list) else []
