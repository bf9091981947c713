"""Pairs of a chosen and a rejected answer, and single answers with a verdict, for those who train on preferences.

Of answers with ratings the best and the worst are the pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

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
from curate.formats.exporters._rows import (
    PAIR,
    TIED,
    Message,
    conversation_of,
    preference_pair,
    prompt_and_answers,
    tools_of,
    with_arguments_as_object,
)
from curate.formats.exporters.llama_factory import TALKS, ordered_turns, write_files
from curate.formats.exporters.openai import openai_message
from curate.formats.exporters.sharegpt import line as sharegpt_line

_KEYS = ("rejected", "name", "tool_call_id", "developer", TRACES[0])


@exporter("trl-preference", keeps=_KEYS, takes_answers=True)
def write_trl(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """TRL preference rows: prompt, chosen and rejected as lists of messages, and tools."""
    return write_lines(rows_by_split, folder, _trl)


@exporter("trl-unpaired", keeps=(*_KEYS, "liked"), takes_answers=True)
def write_unpaired(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """TRL unpaired preference rows, as for KTO: prompt and completion as lists of messages, and label true or false."""
    # A pair becomes two rows, so that rows are divided before they are written.
    skipped = SkippedRows(folder)
    divided = {split: chain.from_iterable(map(_verdicts, rows)) for split, rows in rows_by_split.items()}
    return write_lines(divided, folder, _unpaired, skipped)


@exporter("openai-preference", keeps=_KEYS[:-1], takes_answers=True)
def write_openai(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """OpenAI preference rows: input, preferred_output and non_preferred_output, each answer one message.

    Reasoning is left out and counted, as in openai.
    """
    return write_lines(rows_by_split, folder, _openai)


@exporter("axolotl-preference", keeps=_KEYS, takes_answers=True)
def write_axolotl(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """Axolotl preference rows of the type chat_template.default: messages, and chosen and rejected as one message."""
    written = write_lines(rows_by_split, folder, _axolotl)
    written.notes.append("In the settings of Axolotl: rl: dpo, and for each file type: chat_template.default.")
    return written


@exporter("llama-factory-ranking", keeps=("rejected", TRACES[0]), takes_answers=True)
def write_ranking(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """LLaMA-Factory ranking files: conversations with a chosen and a rejected turn, and dataset_info.json."""
    about = {**TALKS, "ranking": True, "columns": {**TALKS["columns"], **{name: name for name in PAIR}}}
    return write_files(rows_by_split, folder, manifest, [("", lambda _row: True, _ranked, about)])


def _trl(row: ExportRow) -> dict[str, Json]:
    prompt, chosen, rejected = map(conversation_of, preference_pair(row))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | tools_of(row)


def _verdicts(row: ExportRow) -> Iterator[ExportRow]:
    """Yield a row with the best answer and one with the worst; the row itself where there are no such two."""
    answers: Sequence[Mapping[str, Any]] = row.get("answers") or ()
    if len(answers) < 2 or answers[0]["rating"] == answers[-1]["rating"]:
        yield row
        return
    # The prompt is what stands before the best answer.
    prompt, _ = prompt_and_answers(row)
    worst = [*prompt, *answers[-1]["messages"]]
    yield {**row, "answers": [answers[0]], "is_good": True}
    yield {**row, "messages": worst, "answers": [answers[-1]], "is_good": False}


def _unpaired(row: ExportRow) -> dict[str, Json]:
    prompt, (answer, *others) = prompt_and_answers(row)
    if others:
        raise CannotExpressError(TIED)
    is_good = row.get("is_good", answer["rating"] > 0)
    return {
        "prompt": conversation_of(prompt),
        "completion": conversation_of(answer["messages"]),
        "label": is_good,
    } | tools_of(row)


def _sole(messages: Sequence[Message]) -> Message:
    if len(messages) != 1:
        raise CannotExpressError("an answer has several turns, and the format holds one")
    return messages[0]


def _openai(row: ExportRow) -> dict[str, Json]:
    prompt, chosen, rejected = preference_pair(row)
    return {
        "input": {"messages": list(map(openai_message, prompt))} | tools_of(row),
        "preferred_output": [openai_message(_sole(chosen))],
        "non_preferred_output": [openai_message(_sole(rejected))],
    }


def _axolotl(row: ExportRow) -> dict[str, Json]:
    prompt, chosen, rejected = preference_pair(row)
    pair = {"chosen": with_arguments_as_object(_sole(chosen)), "rejected": with_arguments_as_object(_sole(rejected))}
    return {"messages": conversation_of(prompt)} | pair | tools_of(row)


def _ranked(row: ExportRow) -> dict[str, Json]:
    prompt, *answers = preference_pair(row)
    shared, chosen, rejected = (
        sharegpt_line({**row, "messages": messages}) for messages in (prompt, *([_sole(answer)] for answer in answers))
    )
    system, turns = ordered_turns(shared["conversations"], is_open=True)
    pair = {"chosen": chosen["conversations"][0], "rejected": rejected["conversations"][0]}
    return {"conversations": turns, "system": system, "tools": shared.get("tools", "")} | pair
