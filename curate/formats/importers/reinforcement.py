"""Prompts with a reference for a grader, as for reinforcement fine-tuning of OpenAI and the GRPO rows of TRL."""

from __future__ import annotations

from collections.abc import Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import (
    read_messages,
    reference_of,
    rendered,
    take_common,
    take_tools,
    talk_of,
)


@importer(
    "reinforcement",
    fits=lambda row: bool(reference_of(row)),
    samples=[
        {"messages": [{"role": "user", "content": "2 + 2?"}], "reference_answer": "4"},
        {"messages": [{"role": "user", "content": "Order 7, two pens."}], "reference_answer": {"order": 7, "pens": 2}},
        {"prompt": [{"role": "user", "content": "2 + 2?"}], "solution": "4"},
    ],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Prompts that end with the user, and the reference answer that a grader compares with, as the answer."""
    talk, name = talk_of(row), reference_of(row)
    if not name:
        raise RowError("it has no reference answer, or its last message is an answer itself")
    line, extra = take_common(row, (talk, "tools"))
    messages, is_exact = read_messages(row[talk], talk)
    extra |= {} if is_exact else {talk: row[talk]}
    answer = row[name] if isinstance(row[name], str) else rendered(row[name])
    if answer == row[name]:
        extra.pop(name, None)
    line["messages"] = [*messages, {"role": "assistant", "content": answer}]
    take_tools(row, line, extra)
    return ConvertedRow("chat", line, extra)
