"""LLaMA-Factory: ShareGPT files in the order it insists on, and the dataset_info.json that names their columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from curate.base.record import Json
from curate.base.storage import write_atomic
from curate.formats.exporters import (
    CannotExpressError,
    ExportResult,
    ExportRow,
    RowsBySplit,
    Skipped,
    converted,
    exporter,
)
from curate.formats.exporters.sharegpt import line as sharegpt_line

_COLUMNS = {"messages": "conversations", "system": "system", "tools": "tools"}
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


@exporter("llama-factory")
def write(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """LLaMA-Factory data files with dataset_info.json; raw text goes to files of its own for pre-training."""
    # The name becomes a key of the trainer's own settings, which takes small letters and underscores.
    name = "pairsmith_" + re.sub(r"[^a-z0-9]+", "_", str(manifest.get("name", "")).lower()).strip("_")
    info: dict[str, Json] = {}
    paths: list[Path] = []
    skipped: list[Skipped] = []
    num_rows = 0
    for split, rows in rows_by_split.items():
        talked = list(converted([row for row in rows if row["messages"] is not None], split, _line, skipped))
        raw = [row for row in rows if row["messages"] is None]
        texts = list(converted(raw, split, lambda row: {"text": row["text"]}, skipped))
        if talked:
            paths.append(_write_array(folder / f"{split}.json", talked))
            info[f"{name}_{split}"] = {
                "file_name": f"{split}.json",
                "formatting": "sharegpt",
                "columns": _COLUMNS,
                "tags": _TAGS,
            }
        if texts:
            paths.append(_write_array(folder / f"{split}_text.json", texts))
            info[f"{name}_{split}_text"] = {"file_name": f"{split}_text.json", "columns": {"prompt": "text"}}
        num_rows += len(talked) + len(texts)
    path = folder / "dataset_info.json"
    write_atomic(path, [orjson.dumps(info, option=orjson.OPT_INDENT_2), b"\n"])
    return ExportResult([*paths, path], num_rows, skipped)


def _write_array(path: Path, rows: Sequence[Mapping[str, Json]]) -> Path:
    write_atomic(path, [orjson.dumps(rows, option=orjson.OPT_INDENT_2), b"\n"])
    return path


def _line(row: ExportRow) -> dict[str, Json]:
    """Return a ShareGPT row with system and tools as columns of every row, human and observation at odd places."""
    shared = sharegpt_line(row)
    turns = shared["conversations"]
    system = turns.pop(0)["value"] if turns and turns[0]["from"] == "system" else ""
    # LLaMA-Factory drops a conversation in another order, with no more than a warning in its log.
    is_ordered = all((turn["from"] in ("human", "observation")) == (index % 2 == 0) for index, turn in enumerate(turns))
    if any(turn["from"] == "system" for turn in turns) or not is_ordered or len(turns) % 2:
        raise CannotExpressError("the turns are not user or tool and assistant in turn")
    return {"conversations": turns, "system": system, "tools": shared.get("tools", "")}
