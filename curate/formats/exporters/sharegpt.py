"""ShareGPT: conversations of from and value; function calls, observations and tools are JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from curate.base.record import TRACES, Json, thought, trace_of
from curate.formats.exporters import CannotExpressError, ExportResult, ExportRow, RowsBySplit, exporter, write_lines
from curate.formats.exporters._rows import Message, content_text, messages_of, with_arguments_as_object

_NAMES = {"system": "system", "developer": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


@exporter("sharegpt", keeps=(TRACES[0],))
def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """ShareGPT JSON lines: conversations, and tools as JSON text; reasoning stands before the answer, in <think>."""
    return write_lines(rows_by_split, folder, line)


def line(row: ExportRow) -> dict[str, Json]:
    """Return one row in ShareGPT form.

    Raises:
        CannotExpressError: raw text, or an assistant message that calls tools and also speaks or reasons.
    """
    result: dict[str, Json] = {"conversations": [_turn(message) for message in messages_of(row)]}
    if row["tools"]:
        result["tools"] = json.dumps([tool["function"] for tool in row["tools"]], ensure_ascii=False)
    return result


def _turn(message: Message) -> dict[str, str]:
    # Arguments as text inside JSON text would be read as one string, and encoded twice by the trainer.
    calls = with_arguments_as_object(message).get("tool_calls")
    trace = trace_of(message)
    if not calls:
        # Trainers read the value alone; the field is there to come back.
        text = content_text(message)
        said = {"value": thought(trace) + text, TRACES[0]: trace}
        return {"from": _NAMES[message["role"]]} | (said if trace else {"value": text})
    if trace:
        raise CannotExpressError("an assistant message both reasons and calls tools")
    if message.get("content"):
        raise CannotExpressError("an assistant message both speaks and calls tools")
    spelled = [{"name": call["function"]["name"], "arguments": call["function"]["arguments"]} for call in calls]
    return {
        "from": "function_call",
        "value": json.dumps(spelled[0] if len(spelled) == 1 else spelled, ensure_ascii=False),
    }
