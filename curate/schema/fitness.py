"""What may stand at each place of a view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jsonschema_rs

from curate.base.record import MOST_WEIGHT, SPLITS, TRACES, Json

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
WANTED: tuple[tuple[str, Json, str], ...] = (
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

_SCHEMAS: dict[str, Json] = {"prompt": _PROMPT, **{name: schema for name, schema, _ in WANTED}}


@cache
def fits(name: str) -> Callable[[Json], bool]:
    """Return the function that says whether a value may stand at the place called ``name``."""
    return _compiled(_SCHEMAS[name])


def line_fits(fields: Sequence[tuple[str, Sequence[str]]]) -> Callable[[Mapping[str, Json]], bool]:
    """Return the function that says of a whole line whether each of the named ``fields`` holds what may stand there."""
    root: dict[str, Any] = {}
    for name, parts in fields:
        node = root
        for part in parts:
            node = node.setdefault("properties", {}).setdefault(part, {})
        node.setdefault("allOf", []).append(_SCHEMAS[name])
    return _compiled(root)


def _compiled(schema: dict[str, Json]) -> Callable[[Json], bool]:
    # By draft 4, 1.0 is no integer; ids are compared by their spelling.
    return jsonschema_rs.Draft4Validator(schema).is_valid
