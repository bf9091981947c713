"""A folder as the Hugging Face Hub shows it best: Parquet files and a dataset card; the Hub adds Croissant itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from curate.base.record import Json
from curate.base.storage import write_atomic
from curate.formats.exporters import ExportResult, RowsBySplit, exporter
from curate.formats.exporters import parquet as parquet_exporter
from curate.formats.exporters._card import readme


@exporter("hub", keeps=None, takes_answers=True)
def write(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """A folder for the Hub: data/SPLIT.parquet, README.md with the card, and the manifest."""
    filled = {split: rows for split, rows in rows_by_split.items() if rows}
    written = parquet_exporter.write(filled, folder / "data", manifest)
    files: dict[str, str] = {split: f"data/{path.name}" for split, path in zip(filled, written.paths, strict=True)}
    opening = 'Open it with `datasets.load_dataset("parquet", data_dir=...)`, or by its name once it is on the Hub.'
    texts: dict[str, bytes] = {
        "README.md": readme(rows_by_split, manifest, opening, files).encode(),
        "manifest.json": orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n",
    }
    for name, text in texts.items():
        write_atomic(folder / name, [text])
    notes = [f"The split {split} is empty and was left out." for split in rows_by_split if split not in filled]
    return ExportResult([*written.paths, *(folder / name for name in texts)], written.num_rows, notes=notes)
