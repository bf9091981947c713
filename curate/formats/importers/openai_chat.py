"""OpenAI chat JSONL: messages with roles, tools, and tool calls whose arguments are JSON text."""

from __future__ import annotations

from collections.abc import Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, importer
from curate.formats.importers._reading import (
    argument_kinds,
    is_messages,
    is_own,
    read_messages,
    reference_of,
    take_common,
    take_tools,
)


def _is_openai(row: dict[str, Json]) -> bool:
    is_talk = is_messages(row.get("messages")) and not reference_of(row)
    return is_talk and dict not in argument_kinds(row["messages"]) and not is_own(row)


@importer(
    "openai",
    fits=_is_openai,
    samples=[
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello.", "weight": 1}]},
        {"messages": [
            {"role": "user", "content": "Where is order 7?"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"order":7}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "on its way"},
            {"role": "assistant", "content": "It is on its way."}],
         "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}],
         "parallel_tool_calls": False},
        # Blocks as Anthropic has them; Mistral's hold parts.
        {"messages": [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "2 and 3.", "signature": "c2ln"}, {"type": "text", "text": "5"}]}]},
    ],
)  # fmt: skip
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """OpenAI chat rows: messages and tools, also with thinking blocks; arguments of calls stay as they are written."""
    return chat_draft(row)


def chat_draft(row: dict[str, Json]) -> ConvertedRow:
    """Return a row of messages and tools as a line."""
    line, extra = take_common(row, ("messages", "tools"))
    line["messages"], is_exact = read_messages(row.get("messages"))
    if not is_exact:
        extra["messages"] = row["messages"]
    system = row.get("system")
    if isinstance(system, str) and system and line["messages"][0]["role"] != "system":
        line["messages"].insert(0, {"role": "system", "content": system})
        # As a turn it is not where it was.
        extra["messages"] = row["messages"]
    take_tools(row, line, extra)
    return ConvertedRow("chat", line, extra)
