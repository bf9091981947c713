"""LLaMA-Factory: ShareGPT files in the order it insists on, and the dataset_info.json that names their columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import orjson

from curate.base.record import TRACES, Json
from curate.base.storage import write_atomic
from curate.formats.exporters import CannotExpressError, ExportRow, ExportRun, exporter, write_files
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


_RANKING = {**_TALKS, "ranking": True, "columns": {**_TALKS["columns"], **{name: name for name in PAIR}}}


def _write(export: ExportRun, about: Mapping[str, Json] = _TALKS) -> list[Path]:
    """Write a file for each split, another for raw text, and dataset_info.json."""
    # The trainer's own settings take small letters and underscores.
    name = "pairsmith_" + re.sub(r"[^a-z0-9]+", "_", str(export.manifest.get("name", "")).lower()).strip("_")
    # A newline within a text is spelled \\n, so these are all between keys.
    paths = write_files(
        export, ("{}.json", "{}_text.json"),
        lambda line: orjson.dumps(line, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n  "),
        begin=b"[\n  ", joint=b",\n  ", end=b"\n]\n",
    )  # fmt: skip
    texts = {"columns": {"prompt": "text"}}
    info = {
        f"{name}_{path.stem}": {"file_name": path.name, **(texts if path.stem.endswith("_text") else about)}
        for path in paths
    }
    paths.append(export.folder / "dataset_info.json")
    write_atomic(paths[-1], [orjson.dumps(info, option=orjson.OPT_INDENT_2), b"\n"])
    return paths


@exporter("llama-factory", write=_write, keeps=(TRACES[0],))
def _line(row: ExportRow) -> dict[str, Json]:
    """LLaMA-Factory data files with dataset_info.json; raw text goes to files of its own for pre-training."""
    if row["messages"] is None:
        return {"text": row["text"]}
    # System and tools are columns of every row, human and observation stand at odd places.
    shared = sharegpt(row)
    system, turns = _ordered_turns(shared["conversations"])
    return {"conversations": turns, "system": system, "tools": shared.get("tools", "")}


@exporter(
    "llama-factory-ranking", write=partial(_write, about=_RANKING), keeps=("rejected", TRACES[0]), takes_answers=True
)
def _ranked(row: ExportRow) -> dict[str, Json]:
    """LLaMA-Factory ranking files: conversations with a chosen and a rejected turn, and dataset_info.json."""
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
