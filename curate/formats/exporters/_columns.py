"""Rows as columns with explicit types, the same for Parquet and for `datasets`: nothing is inferred from the data."""

from __future__ import annotations

import json
from typing import Any

from curate.base.record import Json
from curate.formats.exporters._registry import ExportRow
from curate.formats.exporters._turns import with_arguments_as_text

TEXTS = ("id", "kind", "category", "cluster", "text", "tools", "source", "license", "line")
"""Columns of text; ``tools`` and ``line`` are JSON text, because their parts have no common type."""
NUMBERS = ("weight",)
"""Columns of numbers; null where a record counts as others do."""


def columns_of(row: ExportRow) -> dict[str, Any]:
    """Return a row with every column present; a message has no other keys, so that the types are complete."""
    messages = row["messages"]
    return {
        "id": row["id"], "kind": row["kind"], "category": row["category"], "cluster": row["cluster"],
        "text": row["text"],
        "messages": None if messages is None else [_message(with_arguments_as_text(message)) for message in messages],
        "tools": _json(row["tools"]), "source": row["source"], "license": row.get("license"),
        "line": _json(row.get("line")), "weight": row.get("weight"),
    }  # fmt: skip


def _message(message: dict[str, Json]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    return {
        "role": message["role"], "content": message.get("content"), "name": message.get("name"),
        "tool_call_id": message.get("tool_call_id"), "train": message.get("train"), "weight": message.get("weight"),
        "tool_calls": None if calls is None else [
            {
                "id": call.get("id"), "type": call.get("type"),
                "function": {"name": call["function"]["name"], "arguments": call["function"]["arguments"]},
            }
            for call in calls
        ],
    }  # fmt: skip


def _json(value: Json) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
