"""OpenAI fine-tuning files: one conversation a line, arguments of tool calls as JSON text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curate.base.record import TRACES, Json
from curate.formats.exporters import CannotExpressError, ExportResult, ExportRow, RowsBySplit, exporter, write_lines
from curate.formats.exporters._rows import Message, parted, tools_of, weighed_messages, with_arguments_as_text


@exporter("openai", keeps=("name", "tool_call_id", "developer"))
def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """OpenAI chat JSON lines: messages and tools; raw text and conversations without a last answer stay out.

    Reasoning is left out and counted, because OpenAI refuses messages with other fields; trl-conversational has it.
    """
    return write_lines(rows_by_split, folder, line)


def openai_message(message: Message) -> dict[str, Json]:
    """Return a message as OpenAI takes it: the arguments of tool calls as JSON text, and no reasoning."""
    return {key: value for key, value in with_arguments_as_text(message).items() if key != TRACES[0]}


def line(row: ExportRow) -> dict[str, Json]:
    """Return one row as an OpenAI training line.

    Raises:
        CannotExpressError: raw text, a conversation that does not end with the assistant, or a weight between 0 and 1.
    """
    messages = []
    for message, weight in weighed_messages(row):
        if weight not in (0, 1):
            raise CannotExpressError("an answer has a weight other than 0 and 1, which OpenAI refuses")
        messages.append(openai_message(message) | ({} if weight else {"weight": 0}))
    parted(messages)
    return {"messages": messages} | tools_of(row)
