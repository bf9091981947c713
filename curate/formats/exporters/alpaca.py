"""Alpaca: instruction, input, output, with a system text and earlier turns as LLaMA-Factory names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curate.base.record import Json
from curate.formats.exporters import CannotExpressError, ExportResult, ExportRow, RowsBySplit, exporter, write_lines
from curate.formats.exporters._rows import instruction_and_input, messages_of, plain_turns


@exporter("alpaca", keeps=("input",))
def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """Alpaca JSON lines; earlier turns go to history, rows with tools stay out."""
    written = write_lines(rows_by_split, folder, _line)
    has_history = any(
        sum(message["role"] == "assistant" for message in row["messages"] or ()) > 1
        for rows in rows_by_split.values()
        for row in rows
    )
    if has_history:
        written.notes.append("Some rows have history: trainers that read it learn those earlier answers too.")
    return written


def _line(row: ExportRow) -> dict[str, Json]:
    if row["tools"]:
        raise CannotExpressError("the format has no tools")
    system, turns = plain_turns(messages_of(row))
    instruction, entry = instruction_and_input(row, turns[-1][0])
    result: dict[str, Json] = {"instruction": instruction, "input": entry, "output": turns[-1][1]}
    if row.get("line") and "input" not in row["line"]:
        del result["input"]
    if system:
        result["system"] = system
    if len(turns) > 1:
        result["history"] = [list(turn) for turn in turns[:-1]]
    return result
