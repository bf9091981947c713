"""LLaMA-Factory: ShareGPT files in the order it insists on, and the dataset_info.json that names their columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import orjson

from curate.base.record import TRACES, Json, Split
from curate.base.storage import write_atomic
from curate.formats.exporters import (
    CannotExpressError,
    Convert,
    ExportResult,
    ExportRow,
    RowsBySplit,
    SkippedRows,
    converted,
    exporter,
)
from curate.formats.exporters._rows import PAIR, preference_pair
from curate.formats.exporters.lines import sharegpt, sole

_TAGS = {
    "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
    "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
_TALKS: dict[str, Json] = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
    "tags": _TAGS,
}


@exporter("llama-factory", keeps=(TRACES[0],))
def write(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """LLaMA-Factory data files with dataset_info.json; raw text goes to files of its own for pre-training."""
    return _write_files(rows_by_split, folder, manifest, [
        ("", lambda row: row["messages"] is not None, _line, _TALKS),
        ("_text", lambda row: row["messages"] is None, lambda row: {"text": row["text"]},
         {"columns": {"prompt": "text"}}),
    ])  # fmt: skip


@exporter("llama-factory-ranking", keeps=("rejected", TRACES[0]), takes_answers=True)
def write_ranking(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """LLaMA-Factory ranking files: conversations with a chosen and a rejected turn, and dataset_info.json."""
    about = {**_TALKS, "ranking": True, "columns": {**_TALKS["columns"], **{name: name for name in PAIR}}}
    return _write_files(rows_by_split, folder, manifest, [("", lambda _row: True, _ranked, about)])


def _write_files(
    rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json],
    kinds: Sequence[tuple[str, Callable[[ExportRow], bool], Convert, Mapping[str, Json]]],
) -> ExportResult:  # fmt: skip
    """Write a file for each split and kind of rows, and dataset_info.json.

    A kind is what the names of its files end with, which rows it takes, what becomes of one, and what is said of it.
    """
    # The trainer's own settings take small letters and underscores.
    name = "pairsmith_" + re.sub(r"[^a-z0-9]+", "_", str(manifest.get("name", "")).lower()).strip("_")
    info: dict[str, Json] = {}
    skipped, num_rows = SkippedRows(folder), 0
    for split, rows in rows_by_split.items():
        for suffix, takes, convert, about in kinds:
            path = folder / f"{split}{suffix}.json"
            if number := _write_array(path, filter(takes, rows), split, convert, skipped):
                info[f"{name}_{split}{suffix}"] = {"file_name": path.name, **about}
                num_rows += number
    path = folder / "dataset_info.json"
    write_atomic(path, [orjson.dumps(info, option=orjson.OPT_INDENT_2), b"\n"])
    return ExportResult([*(folder / about["file_name"] for about in info.values()), path], num_rows, skipped)


def _write_array(path: Path, rows: Iterable[ExportRow], split: Split, convert: Convert, skipped: SkippedRows) -> int:
    """Write what ``convert`` makes of ``rows`` as one JSON array, and return how many that are; of none there is no
    file."""
    lines = converted(rows, split, convert, skipped)
    number = 0

    def items() -> Iterator[bytes]:
        nonlocal number
        for row in chain([first], lines):
            number += 1
            # A newline within a text is spelled \\n, so these are all between keys.
            item = orjson.dumps(row, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n  ")
            yield (b"[" if number == 1 else b",") + b"\n  " + item
        yield b"\n]\n"

    if (first := next(lines, None)) is not None:
        write_atomic(path, items())
    return number


def _line(row: ExportRow) -> dict[str, Json]:
    """Return a ShareGPT row with system and tools as columns of every row, human and observation at odd places."""
    shared = sharegpt(row)
    system, turns = _ordered_turns(shared["conversations"])
    return {"conversations": turns, "system": system, "tools": shared.get("tools", "")}


def _ranked(row: ExportRow) -> dict[str, Json]:
    prompt, *answers = preference_pair(row)
    shared, chosen, rejected = (
        sharegpt({**row, "messages": messages}) for messages in (prompt, *([sole(answer)] for answer in answers))
    )
    system, turns = _ordered_turns(shared["conversations"], is_open=True)
    pair = {"chosen": chosen["conversations"][0], "rejected": rejected["conversations"][0]}
    return {"conversations": turns, "system": system, "tools": shared.get("tools", "")} | pair


def _ordered_turns(turns: list[Json], *, is_open: bool = False) -> tuple[str, list[Json]]:
    """Return the system text and the other turns of a conversation, which ends with an answer unless it ``is_open``.

    Raises:
        CannotExpressError: user and assistant do not take turns.
    """
    system = turns.pop(0)["value"] if turns and turns[0]["from"] == "system" else ""
    # LLaMA-Factory drops a conversation in another order, with no more than a warning in its log.
    is_ordered = all((turn["from"] in ("human", "observation")) == (index % 2 == 0) for index, turn in enumerate(turns))
    if any(turn["from"] == "system" for turn in turns) or not is_ordered or len(turns) % 2 != is_open:
        raise CannotExpressError("the turns are not user or tool and assistant in turn")
    return system, turns
