"""A `DatasetDict` folder for the `datasets` library, with explicit features and a dataset card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curate.base.record import TRACES, Json, missing_extra
from curate.base.storage import write_atomic
from curate.formats.exporters import ExportRow, ExportRun, exporter
from curate.formats.exporters._card import readme
from curate.formats.exporters._rows import NUMBERS, TEXTS, columns_of, conversations_in


def _write(export: ExportRun) -> list[Path]:
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
    features = datasets.Features(plain | dict.fromkeys(conversations_in(export.rows_by_split), datasets.List(message)))
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


@exporter("hf", write=_write, keeps=None, takes_answers=True)
def convert(row: ExportRow) -> Mapping[str, Json]:
    """A folder for datasets.load_from_disk, with README.md as its dataset card; needs the extra [hub].

    Preferences are there as whole conversations, chosen and rejected.
    """
    return columns_of(row)
