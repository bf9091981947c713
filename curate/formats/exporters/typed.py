"""Columns with explicit types: Parquet, a folder for the Hugging Face Hub, and one for the `datasets` library."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from glob import escape
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from curate.base.record import TRACES, Json, missing_extra
from curate.base.storage import Scratch, write_atomic
from curate.formats.exporters import CannotExpressError, ExportRow, ExportRun, RowsBySplit, exporter
from curate.formats.exporters._card import readme
from curate.formats.exporters._rows import (
    PAIR,
    Message,
    content_text,
    json_text,
    preference_pair,
    with_arguments_as_text,
)

if TYPE_CHECKING:
    from polars import DataType

_BATCH = 10_000
# Rows of a row group: the size that DuckDB and polars choose.
_GROUP = 122_880
# Columns of text; ``tools`` and ``line`` are JSON text, because their parts have no common type.
_TEXTS = ("id", "kind", "category", "cluster", "text", "tools", "source", "license", "line")
# What may stand in the columns of a message.
_KINDS: dict[str, Any] = dict.fromkeys(("role", "content", TRACES[0], "name", "tool_call_id"), str | None) | {
    "train": bool | None, "weight": float | int | None,
}  # fmt: skip
# Columns of numbers; null where a record counts as others do.
_NUMBERS = ("weight",)


def _types(
    rows: RowsBySplit, text: Any, flag: Any, number: Any, list_of: Callable[[Any], Any], struct: Callable[[Any], Any]
) -> dict[str, Any]:
    """Return the type of each column in the terms of a library; nothing is inferred from the data."""
    scalars = {str | None: text, bool | None: flag, float | int | None: number}
    call = {"id": text, "type": text, "function": struct({"name": text, "arguments": text})}
    message = {name: scalars[kind] for name, kind in _KINDS.items()} | {"tool_calls": list_of(struct(call))}
    # Where records compare answers, there are two conversations more.
    names = ("messages", *PAIR) if "answers" in next(chain.from_iterable(rows.values()), {}) else ("messages",)
    talks = dict.fromkeys(names, list_of(struct(message)))
    return dict.fromkeys(_TEXTS, text) | dict.fromkeys(_NUMBERS, number) | talks


def _write_parquet(export: ExportRun, name: str = "{}.parquet") -> list[Path]:
    """Write a file for each split, called ``name``, in which {} is the split, and return the files."""
    # polars takes longer to import than all of the command line.
    import polars

    text, flag, number = polars.String(), polars.Boolean(), polars.Float64()
    schema = _types(export.rows_by_split, text, flag, number, polars.List, polars.Struct)
    paths = {split: export.folder / name.format(split) for split in export.rows_by_split}
    for split, path in paths.items():
        write_atomic(path, [_parquet(export.lines(split), schema, export.folder / f".{split}")])
    return list(paths.values())


def _parquet(rows: Iterator[Mapping[str, Json]], schema: Mapping[str, DataType], path: Path) -> bytes:
    """Return ``rows`` as the bytes of a Parquet file; what they take in memory until then lies below ``path``."""
    import polars

    # As Python objects a million rows take gigabytes; polars itself goes through the frames of a folder group by group.
    scratch = Scratch(path)
    try:
        for number in count():
            batch = list(islice(rows, _BATCH))
            # One frame without a row holds the types of a split that has none.
            if batch or not number:
                frame, buffer = polars.DataFrame(batch, schema=schema, orient="row"), io.BytesIO()
                frame.write_ipc(buffer)
                scratch.append(f"{number:08}.arrow", buffer.getvalue())
            if len(batch) < _BATCH:
                break
        # Names are taken for patterns, and those that fit come in order.
        frames = polars.scan_ipc(f"{escape(str(scratch.path('')))}/*.arrow")
        buffer = io.BytesIO()
        frames.sink_parquet(buffer, row_group_size=_GROUP)
        return buffer.getvalue()
    finally:
        scratch.discard()


def _write_hub(export: ExportRun) -> list[Path]:
    rows = export.rows_by_split
    export.rows_by_split = {split: some for split, some in rows.items() if some}
    files: dict[str, str] = {split: f"data/{split}.parquet" for split in export.rows_by_split}
    opening = 'Open it with `datasets.load_dataset("parquet", data_dir=...)`, or by its name once it is on the Hub.'
    texts = {
        "README.md": readme(rows, export.manifest, opening, files).encode(),
        "manifest.json": orjson.dumps(export.manifest, option=orjson.OPT_INDENT_2) + b"\n",
    }
    paths = _write_parquet(export, "data/{}.parquet")
    for name, text in texts.items():
        paths.append(export.folder / name)
        write_atomic(paths[-1], [text])
    export.notes += [f"The split {split} is empty and was left out." for split in rows if split not in files]
    return paths


def _write_datasets(export: ExportRun) -> list[Path]:
    try:
        # An extra, and slow to import.
        import datasets
    except ImportError as error:
        raise missing_extra("exporting a `datasets` folder", "hub") from error
    text, flag, number = map(datasets.Value, ("string", "bool", "float64"))
    features = datasets.Features(_types(export.rows_by_split, text, flag, number, datasets.List, dict))
    parts = {}
    for split in export.rows_by_split:
        rows = list(export.lines(split))
        if not rows:
            # The library saves an empty part, and then cannot open the folder.
            export.notes.append(f"The split {split} is empty and was left out.")
            continue
        columns = {name: [row[name] for row in rows] for name in features}
        parts[split] = datasets.Dataset.from_dict(columns, features=features, split=split)
    datasets.disable_progress_bars()
    datasets.DatasetDict(parts).save_to_disk(str(export.folder))
    card = readme(export.rows_by_split, export.manifest, "Open it with `datasets.load_from_disk`.")
    write_atomic(export.folder / "README.md", [card.encode()])
    # What begins with a dot is still being written.
    return sorted(path for path in export.folder.rglob("[!.]*") if path.is_file())


# Preferences are there as whole conversations, chosen and rejected.
_WHOLE: dict[str, Any] = {"keeps": None, "compares_answers": True}


@exporter("parquet", write=_write_parquet, **_WHOLE)
@exporter("hub", write=_write_hub, **_WHOLE)
@exporter("hf", write=_write_datasets, **_WHOLE)
def _columns(row: ExportRow) -> dict[str, Any]:
    """Return a row with every column present; a message has no other keys, so that the types are complete.

    Raises:
        CannotExpressError: a field of a message has another type than its column.
    """
    plain = {name: row.get(name) for name in (*_TEXTS, *_NUMBERS)}
    texts = {"tools": json_text(row["tools"]), "line": json_text(row.get("line"))}
    turns = None if row["messages"] is None else [_message(message) for message in row["messages"]]
    return plain | texts | {"messages": turns} | (_pair(row) if "answers" in row else {})


def _pair(row: ExportRow) -> dict[str, Any]:
    """Return the conversation with the best answer and with the worst; null where a row has no such two."""
    # Trainers find the prompt as what both have in common.
    try:
        prompt, *answers = preference_pair(row)
    except CannotExpressError:
        return dict.fromkeys(PAIR)
    return {name: list(map(_message, (*prompt, *answer))) for name, answer in zip(PAIR, answers, strict=True)}


def _message(message: Message) -> dict[str, Any]:
    calls = with_arguments_as_text(message).get("tool_calls")
    columns = [
        {
            "id": call.get("id"),
            "type": call.get("type"),
            "function": {name: call["function"][name] for name in ("name", "arguments")},
        }
        for call in calls or ()
    ]
    plain = {name: message.get(name) for name in _KINDS}
    if plain["content"] is not None:
        plain["content"] = content_text(message)
    called = [call[name] for call in columns for name in ("id", "type")]
    if not all(isinstance(plain[name], kind) for name, kind in _KINDS.items()) or not all(
        isinstance(text, str | None) for text in called
    ):
        raise CannotExpressError("a field of a message has another type than its column")
    return plain | {"tool_calls": None if calls is None else columns}
