"""Chats as OpenAI, TRL and others have them: messages with roles, tools, and calls of tools."""

from __future__ import annotations

from collections.abc import Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import (
    is_messages,
    is_own,
    read_messages,
    reference_of,
    take_common,
    take_tools,
)


def _is_openai(row: dict[str, Json]) -> bool:
    return is_messages(row.get("messages")) and not reference_of(row) and not is_own(row)


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
        # As TRL has it.
        {"messages": [{"role": "user", "content": "Where is order 7?"}, {"role": "assistant", "tool_calls": [
            {"type": "function", "function": {"name": "find", "arguments": {"order": 7}}}]}]},
        # Blocks as Anthropic has them; Mistral's hold parts.
        {"messages": [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "2 and 3.", "signature": "c2ln"}, {"type": "text", "text": "5"}]}]},
    ],
)  # fmt: skip
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Chat rows of OpenAI, TRL, Anthropic, Mistral and Bedrock; the arguments of calls stay as they are written."""
    line, extra = take_common(row, ("messages", "tools"))
    line["messages"], is_exact = read_messages(row.get("messages"))
    if not is_exact:
        extra["messages"] = row["messages"]
    if row.get("choices") and line["messages"][-1]["role"] != "assistant":
        raise RowError("its answer, a model's, stands in choices: put it behind the messages to train on it")
    system = row.get("system")
    if isinstance(system, str | list) and system and line["messages"][0]["role"] != "system":
        line["messages"][:0], _ = read_messages([{"role": "system", "content": system}], "system")
        # As a turn it is not where it was.
        extra["messages"] = row["messages"]
    take_tools(row, line, extra)
    return ConvertedRow("chat", line, extra)
