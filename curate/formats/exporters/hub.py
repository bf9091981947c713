"""A folder as the Hugging Face Hub shows it best: Parquet files and a dataset card; the Hub adds Croissant itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from curate.base.record import Json
from curate.base.storage import write_atomic
from curate.formats.exporters import ExportRow, ExportRun, exporter
from curate.formats.exporters._card import readme
from curate.formats.exporters._rows import columns_of
from curate.formats.exporters.parquet import write_parquet

_OPENING = 'Open it with `datasets.load_dataset("parquet", data_dir=...)`, or by its name once it is on the Hub.'


def _write(export: ExportRun) -> list[Path]:
    rows_by_split = export.rows_by_split
    export.rows_by_split = {split: rows for split, rows in rows_by_split.items() if rows}
    files: dict[str, str] = {split: f"data/{split}.parquet" for split in export.rows_by_split}
    texts = {
        "README.md": readme(rows_by_split, export.manifest, _OPENING, files).encode(),
        "manifest.json": orjson.dumps(export.manifest, option=orjson.OPT_INDENT_2) + b"\n",
    }
    paths = write_parquet(export, "data/{}.parquet")
    for name, text in texts.items():
        paths.append(export.folder / name)
        write_atomic(paths[-1], [text])
    export.notes += [f"The split {split} is empty and was left out." for split in rows_by_split if split not in files]
    return paths


@exporter("hub", write=_write, keeps=None, takes_answers=True)
def convert(row: ExportRow) -> Mapping[str, Json]:
    """A folder for the Hub: data/SPLIT.parquet, README.md with the card, and the manifest."""
    return columns_of(row)
