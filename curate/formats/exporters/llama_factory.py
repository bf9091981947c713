"""LLaMA-Factory: ShareGPT files in the order it insists on, and the dataset_info.json that names their columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import orjson

from curate.base.record import TRACES, Json, Split
from curate.base.storage import write_atomic
from curate.formats.exporters import (
    CannotExpressError,
    ExportResult,
    ExportRow,
    RowsBySplit,
    SkippedRows,
    converted,
    exporter,
)
from curate.formats.exporters.sharegpt import line as sharegpt_line

_COLUMNS = {"messages": "conversations", "system": "system", "tools": "tools"}
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


@exporter("llama-factory", keeps=(TRACES[0],))
def write(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """LLaMA-Factory data files with dataset_info.json; raw text goes to files of its own for pre-training."""
    name = data_name(manifest)
    info: dict[str, Json] = {}
    paths: list[Path] = []
    skipped = SkippedRows(folder)
    num_rows = 0
    for split, rows in rows_by_split.items():
        talked = (row for row in rows if row["messages"] is not None)
        if num_talked := write_array(path := folder / f"{split}.json", talked, split, _line, skipped):
            paths.append(path)
            info[f"{name}_{split}"] = {
                "file_name": path.name,
                "formatting": "sharegpt",
                "columns": _COLUMNS,
                "tags": TAGS,
            }
        raw = (row for row in rows if row["messages"] is None)
        path = folder / f"{split}_text.json"
        if num_texts := write_array(path, raw, split, lambda row: {"text": row["text"]}, skipped):
            paths.append(path)
            info[f"{name}_{split}_text"] = {"file_name": path.name, "columns": {"prompt": "text"}}
        num_rows += num_talked + num_texts
    path = folder / "dataset_info.json"
    write_atomic(path, [orjson.dumps(info, option=orjson.OPT_INDENT_2), b"\n"])
    return ExportResult([*paths, path], num_rows, skipped)


def data_name(manifest: Mapping[str, Json]) -> str:
    """Return what a dataset is called in the trainer's own settings, which take small letters and underscores."""
    return "pairsmith_" + re.sub(r"[^a-z0-9]+", "_", str(manifest.get("name", "")).lower()).strip("_")


def write_array(
    path: Path,
    rows: Iterable[ExportRow],
    split: Split,
    convert: Callable[[ExportRow], Mapping[str, Json]],
    skipped: SkippedRows,
) -> int:
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
    shared = sharegpt_line(row)
    system, turns = ordered_turns(shared["conversations"])
    return {"conversations": turns, "system": system, "tools": shared.get("tools", "")}


def ordered_turns(turns: list[Json], *, is_open: bool = False) -> tuple[str, list[Json]]:
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
