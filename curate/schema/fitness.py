"""What may stand at each place of a view, and whether a schema itself lets nothing else stand there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jsonschema_rs

from curate.base.record import MOST_WEIGHT, SPLITS, Json
from curate.jsonl import parts_of

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
    },
}
_ANSWER = {"type": ["string", "array", "null"], "items": _MESSAGE}
_RATED = {
    "type": ["array", "null"],
    "items": {
        "type": "object",
        "required": ["content", "rating"],
        "properties": {"content": _ANSWER, "rating": {"type": "number"}},
    },
}

# The name of a place, what may stand there (null is as good as nothing), and that in words.
WANTED: tuple[tuple[str, Json, str], ...] = (
    ("id", {"type": ["string", "integer", "null"]}, "text or an integer"),
    ("system", _TEXT, "text"),
    ("completion", _TEXT, "text"),
    ("text", _TEXT, "text"),
    ("category", _TEXT, "text"),
    (
        "messages",
        {"type": ["array", "null"], "items": _MESSAGE},
        "a list of messages, each with a role, and content that is text",
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

_SCHEMAS: dict[str, Json] = {"prompt": _PROMPT, **{name: schema for name, schema, _ in WANTED}}


@cache
def fits(name: str) -> Any:
    """Return the function that says whether a value may stand at the place called ``name``."""
    return _compiled(_SCHEMAS[name])


def line_fits(fields: Sequence[tuple[str, Sequence[str]]]) -> Any:
    """Return the function that says of a whole line whether each of the named ``fields`` holds what may stand there."""
    root: dict[str, Any] = {}
    for name, parts in fields:
        node = root
        for part in parts:
            node = node.setdefault("properties", {}).setdefault(part, {})
        node.setdefault("allOf", []).append(_SCHEMAS[name])
    return _compiled(root)


def is_assured(root: Json, name: str, parts: Sequence[str]) -> bool:
    """Whether the schema ``root`` itself lets nothing stand at a place but what may."""
    # Only plain ways of saying so are understood: types, enumerations, properties, items and local references.
    node = root
    for part in parts:
        node = _resolved(root, node)
        if node is None:
            return False
        if part not in node.get("properties", {}):
            return _has_no_other(node)
        node = node["properties"][part]
    return _implies(root, node, _TEXT if name == "prompt" else _SCHEMAS[name])


def _implies(root: Json, node: Json, wanted: Json) -> bool:
    """Whether each value that ``node`` allows is one that ``wanted`` does; no is the answer when in doubt."""
    node = _resolved(root, node)
    if node is None:
        return False
    if "enum" in node or "const" in node:
        return all(map(_compiled(wanted), node.get("enum", [node.get("const")])))
    types = _types(node)
    # What is an integer to later drafts may be spelled 1.0.
    if not types or not types <= _types(wanted) - {"integer"}:
        return False
    if "maximum" in wanted and not (
        node.get("minimum", -1) >= wanted["minimum"] and node.get("maximum", math.inf) <= wanted["maximum"]
    ):
        return False
    if "array" in types and "items" in wanted:
        return "prefixItems" not in node and _implies(root, node.get("items"), wanted["items"])
    if "object" not in types:
        return True
    return set(wanted.get("required", ())) <= set(node.get("required", ())) and all(
        _implies(root, node["properties"][key], inner) if key in node.get("properties", {}) else _has_no_other(node)
        for key, inner in wanted.get("properties", {}).items()
    )


def _types(node: Mapping[str, Json]) -> set[str]:
    types = node.get("type", [])
    return {types} if isinstance(types, str) else set(types)


def _has_no_other(node: Mapping[str, Json]) -> bool:
    return node.get("additionalProperties") is False and "patternProperties" not in node


def _resolved(root: Json, node: Json) -> Json:
    """Follow local references, as far as a few of them go; None where others, or another base, leave a doubt."""
    for _ in range(8):
        if not isinstance(node, dict) or (node is not root and node.keys() & {"$id", "id"}):
            return None
        reference = node.get("$ref")
        if reference is None:
            return node
        if not str(reference).startswith("#/"):
            return None
        node = root
        for part in parts_of(reference[1:]):
            node = node.get(part) if isinstance(node, dict) else None
    return None


def _compiled(schema: dict[str, Json]) -> Any:
    # By draft 4, 1.0 is no integer; ids are compared by their spelling.
    return jsonschema_rs.Draft4Validator(schema).is_valid
