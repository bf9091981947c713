"""A record as somebody reads it who is to answer about it: what was said, by whom, and nothing of what it is called."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.record import Json, Record, canonical
from curate.schema.view import text_of

MOST_TEXT = 20_000
"""Characters of one text that are shown; how many more there are is said."""


def turns_of(record: Record) -> Iterator[tuple[str, str, int]]:
    """Yield who speaks, in capitals, what they say, and how many characters more are not shown.

    The category, the labels and the split are left out: they may come from somebody else's answer.
    """
    if not record.messages:
        yield "TEXT", record.text[:MOST_TEXT], max(0, len(record.text) - MOST_TEXT)
    for message in record.messages:
        text = text_of(message)
        yield str(message.get("role", "")).upper(), text[:MOST_TEXT], max(0, len(text) - MOST_TEXT)
    if record.tools:
        names = ", ".join(str(tool.get("function", {}).get("name", "")) for tool in record.tools)
        yield "TOOLS", names[:MOST_TEXT], max(0, len(names) - MOST_TEXT)


def spelled_value(value: Json) -> str:
    """Return an answer as people read it; it is data, and not yet safe for a terminal."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(spelled_value, value))
    return canonical(value).decode()
