"""A `DatasetDict` folder for the `datasets` library, with explicit features and a dataset card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curate.base.record import TRACES, Json, missing_extra
from curate.base.storage import write_atomic
from curate.formats.exporters import ExportResult, RowsBySplit, SkippedRows, exporter
from curate.formats.exporters._card import readme
from curate.formats.exporters._rows import NUMBERS, TEXTS, columns_in, conversations_in


@exporter("hf", keeps=None, takes_answers=True)
def write(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """A folder for datasets.load_from_disk, with README.md as its dataset card; needs the extra [hub].

    Preferences are there as whole conversations, chosen and rejected.
    """
    try:
        # An extra, and slow to import.
        import datasets
    except ImportError as error:
        raise missing_extra("exporting a `datasets` folder", "hub") from error
    text = datasets.Value("string")
    call = {"id": text, "type": text, "function": {"name": text, "arguments": text}}
    number = datasets.Value("float64")
    message = {
        "role": text, "content": text, TRACES[0]: text, "name": text, "tool_call_id": text,
        "train": datasets.Value("bool"), "weight": number, "tool_calls": datasets.List(call),
    }  # fmt: skip
    plain = dict.fromkeys(TEXTS, text) | dict.fromkeys(NUMBERS, number)
    features = datasets.Features(plain | dict.fromkeys(conversations_in(rows_by_split), datasets.List(message)))
    parts = {}
    notes = []
    skipped = SkippedRows(folder)
    for split, rows in rows_by_split.items():
        columns = list(columns_in(rows, split, skipped))
        if not columns:
            # The library saves an empty part, and then cannot open the folder.
            notes.append(f"The split {split} is empty and was left out.")
            continue
        parts[split] = datasets.Dataset.from_dict(
            {name: [row[name] for row in columns] for name in features}, features=features, split=split
        )
    datasets.disable_progress_bars()
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    num_rows = sum(map(len, rows_by_split.values())) - len(skipped)
    opening = "Open it with `datasets.load_from_disk`."
    write_atomic(folder / "README.md", [readme(rows_by_split, manifest, opening).encode()])
    return ExportResult(sorted(path for path in folder.rglob("*") if path.is_file()), num_rows, skipped, notes)
