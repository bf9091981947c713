"""OpenAI fine-tuning files: one conversation a line, arguments of tool calls as JSON text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curate.exporters import ExportRow, RowsBySplit, Written, exporter, write_lines
from curate.exporters._turns import messages_of, parted, with_arguments_as_text
from curate.record import Json


@exporter("openai")
def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> Written:
    """OpenAI chat JSON lines: messages and tools; raw text and conversations without a last answer stay out."""
    return write_lines(rows_by_split, folder, line)


def line(row: ExportRow) -> dict[str, Json]:
    """Return one row as an OpenAI training line.

    Raises:
        CannotExpressError: raw text, or a conversation that does not end with the assistant.
    """
    messages = [with_arguments_as_text(one) for one in messages_of(row)]
    parted(messages)
    return {"messages": messages} | ({"tools": list(row["tools"])} if row["tools"] else {})
