"""TRL: prompt and completion (the loss falls on the completion only), as messages or texts, and conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from curate.base.record import TRACES, Json
from curate.formats.exporters import (
    CannotExpressError,
    ExportResult,
    ExportRow,
    RowsBySplit,
    SkippedRows,
    exporter,
    write_lines,
)
from curate.formats.exporters._rows import conversation_of, messages_of, parted, plain_turns, tools_of


@exporter("trl", keeps=("name", "tool_call_id", "developer", TRACES[0]))
def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """TRL prompt-completion rows as lists of messages, with tools; raw text goes to files of its own below text/."""
    return _with_raw_text_apart(rows_by_split, folder, _pair)


@exporter("trl-conversational", keeps=("name", "tool_call_id", "developer", TRACES[0]))
def write_conversations(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """TRL conversational rows: messages and tools, with the arguments of tool calls as objects."""
    return _with_raw_text_apart(rows_by_split, folder, _conversation)


@exporter("trl-text")
def write_texts(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """TRL prompt-completion rows as plain texts: one user message, one answer, no chat template."""
    return write_lines(rows_by_split, folder, _texts)


def _with_raw_text_apart(
    rows_by_split: RowsBySplit, folder: Path, convert: Callable[[ExportRow], dict[str, Json]]
) -> ExportResult:
    """Write conversations and raw text apart: one file cannot hold rows of two types in TRL."""
    skipped = SkippedRows(folder)
    talked = {split: (row for row in rows if row["messages"] is not None) for split, rows in rows_by_split.items()}
    written = write_lines(talked, folder, convert, skipped)
    if written.num_rows + len(skipped) == sum(len(rows) for rows in rows_by_split.values()):
        return written
    raw = {split: (row for row in rows if row["messages"] is None) for split, rows in rows_by_split.items()}
    texts = write_lines(raw, folder / "text", lambda row: {"text": row["text"]}, skipped)
    return ExportResult([*written.paths, *texts.paths], written.num_rows + texts.num_rows, skipped)


def _conversation(row: ExportRow) -> dict[str, Json]:
    return {"messages": conversation_of(messages_of(row))} | tools_of(row)


def _pair(row: ExportRow) -> dict[str, Json]:
    prompt, answer = parted(conversation_of(messages_of(row)))
    return {"prompt": prompt, "completion": [answer]} | tools_of(row)


def _texts(row: ExportRow) -> dict[str, Json]:
    system, turns = plain_turns(messages_of(row))
    if system or len(turns) > 1 or row["tools"]:
        raise CannotExpressError("plain texts hold one question and one answer, without system text and tools")
    return {"prompt": turns[0][0], "completion": turns[0][1]}
