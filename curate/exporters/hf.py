"""A `DatasetDict` folder for the `datasets` library, with explicit features and a dataset card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.exporters import RowsBySplit, Written, exporter
from curate.exporters._columns import TEXTS, columns_of
from curate.record import CurateError, Exit, Json
from curate.say import visible
from curate.store import write_atomic

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_MARKUP = frozenset("\\`*_{}[]()<>#+-.!|&~:\"'=@/")


@exporter("hf")
def write(rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> Written:
    """A folder for datasets.load_from_disk, with README.md as its dataset card; needs the extra [hub]."""
    try:
        # An extra, and slow to import.
        import datasets
        import yaml
    except ImportError as error:
        raise CurateError(
            "E940 missing-extra",
            "exporting a `datasets` folder needs the extra [hub]",
            'pip install "pairsmith[hub]"',
            exit_code=Exit.MISSING,
        ) from error
    text = datasets.Value("string")
    call = {"id": text, "type": text, "function": {"name": text, "arguments": text}}
    message = {"role": text, "content": text, "name": text, "tool_call_id": text, "tool_calls": datasets.List(call)}
    features = datasets.Features(dict.fromkeys(TEXTS, text) | {"messages": datasets.List(message)})
    parts = {}
    notes = []
    for split, rows in rows_by_split.items():
        if not rows:
            # The library saves an empty part, and then cannot open the folder.
            notes.append(f"The split {split} is empty and was left out.")
            continue
        columns = [columns_of(row) for row in rows]
        parts[split] = datasets.Dataset.from_dict(
            {name: [row[name] for row in columns] for name in features}, features=features, split=split
        )
    datasets.disable_progress_bars()
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    num_rows = sum(len(rows) for rows in rows_by_split.values())
    head = yaml.safe_dump(_front_matter(manifest, num_rows), allow_unicode=False, sort_keys=False, width=10_000)
    write_atomic(folder / "README.md", [f"---\n{head}---\n\n{card(rows_by_split, manifest)}".encode()])
    return Written(sorted(path for path in folder.rglob("*") if path.is_file()), num_rows, notes=notes)


def _front_matter(manifest: Mapping[str, Json], num_rows: int) -> dict[str, Json]:
    size = next((name for limit, name in _SIZES if num_rows < limit), "n>1M")
    return {
        # On one line: a value that spans lines could look like the end of the front matter to a careless reader.
        "pretty_name": " ".join(str(manifest.get("name", "dataset")).split()),
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["pairsmith", "instruction-tuning"],
    }


def card(rows_by_split: RowsBySplit, manifest: Mapping[str, Json]) -> str:
    """Return the body of the dataset card: what it is, and the counts of records by category and split."""
    splits = list(rows_by_split)
    counts = {split: Counter(row["category"] for row in rows) for split, rows in rows_by_split.items()}
    categories = sorted({category for count in counts.values() for category in count})
    lines = [_table_line(["category", *splits]), _table_line(["---"] + ["---:"] * len(splits))]
    lines += [
        _table_line([markdown_cell(category), *(f"{counts[split][category]:,}" for split in splits)])
        for category in categories
    ]
    lines.append(_table_line(["all", *(f"{len(rows_by_split[split]):,}" for split in splits)]))
    table = "\n".join(lines)
    return (
        f"# {markdown_cell(str(manifest.get('name', 'dataset')))}\n\n"
        "Made with pairsmith. Open it with `datasets.load_from_disk`.\n\n"
        f"{table}\n\n"
        "`messages` holds conversations in OpenAI form, `text` raw text; the other of the two is null.\n"
        "`tools` and `line` are JSON text. Records of one `cluster` repeat one another and are never in two splits.\n"
    )


def _table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_cell(text: str) -> str:
    """Return ``text`` as one table cell that is shown as it is: no markup, link, image or HTML comes alive."""
    flat = visible(" ".join(text.split())) or "(none)"
    return "".join(f"&#{ord(character)};" if character in _MARKUP else character for character in flat)
