"""What may stand at each place of an ``x-record`` view."""

from __future__ import annotations

from collections.abc import Callable

from curate.record import SPLITS, Json


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_id(value: Json) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_object(value: Json) -> bool:
    return isinstance(value, dict)


def _is_split(value: Json) -> bool:
    return isinstance(value, str) and value in SPLITS


def _are_objects(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _are_messages(value: Json) -> bool:
    return _are_objects(value) and all(map(_is_message, value))


def _is_message(value: dict[str, Json]) -> bool:
    content, calls = value.get("content"), value.get("tool_calls")
    return (
        isinstance(value.get("role"), str)
        and (content is None or isinstance(content, str) or _are_objects(content))
        and (calls is None or (_are_objects(calls) and all(_is_function(call.get("function")) for call in calls)))
    )


def _is_function(value: Json) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and "arguments" in value


WANTED: tuple[tuple[str, Callable[[Json], bool], str], ...] = (
    ("id", _is_id, "text or an integer"),
    ("system", _is_text, "text"),
    ("completion", _is_text, "text"),
    ("text", _is_text, "text"),
    ("category", _is_text, "text"),
    ("messages", _are_messages, "a list of messages, each with a role, and content that is text"),
    ("tools", _are_objects, "a list of objects"),
    ("labels", _is_object, "an object"),
    ("meta", _is_object, "an object"),
    ("split", _is_split, f"one of {', '.join(SPLITS)}"),
    ("ignore", _are_texts, "a list of codes"),
)
"""The name of a place, whether a value may stand there, and what it must be in words."""
