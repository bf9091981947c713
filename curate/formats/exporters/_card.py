"""The card of a dataset, made from its manifest: what it is, where it comes from, how it was made, what is in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from curate.base.console import markdown_cell, visible
from curate.base.record import Json
from curate.formats.exporters import RowsBySplit

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def readme(
    rows_by_split: RowsBySplit, manifest: Mapping[str, Json], opening: str, files: Mapping[str, str] | None = None
) -> str:
    """Return the text of README.md: front matter for the Hub, then the card.

    ``opening`` says how the files are opened; ``files`` names the file of each split for the Hub's viewer.
    """
    head = _front_matter(manifest, sum(map(len, rows_by_split.values())), files or {})
    # JSON in ASCII is YAML too (1.2 is its superset, and no string here can be taken for a date or a number).
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items())
    return f"---\n{lines}---\n\n{card(rows_by_split, manifest, opening)}"


def _front_matter(manifest: Mapping[str, Json], num_rows: int, files: Mapping[str, str]) -> dict[str, Json]:
    about = manifest.get("about") or {}
    licenses = {str(origin["license"]) for origin in manifest.get("provenance") or []}
    size = next((name for limit, name in _SIZES if num_rows < limit), "n>1M")
    head: dict[str, Json] = {
        # On one line: a value that spans lines could look like the end of the front matter to a careless reader.
        "pretty_name": " ".join(str(about.get("title") or manifest.get("name", "dataset")).split()),
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["pairsmith", "instruction-tuning"],
    }
    if licenses - {""}:
        # The Hub spells SPDX identifiers in lower case; where licences differ, the card's table tells them apart.
        head["license"] = licenses.pop().lower() if len(licenses) == 1 else "other"
    if files:
        parts = [{"split": split, "path": path} for split, path in files.items()]
        head["configs"] = [{"config_name": "default", "data_files": parts}]
    return head


def card(rows_by_split: RowsBySplit, manifest: Mapping[str, Json], opening: str) -> str:
    """Return the body of the card; what comes from the data or the settings is shown as text, never as markup."""
    about = manifest.get("about") or {}
    title = about.get("title") or manifest.get("name", "dataset")
    parts = [f"# {markdown_cell(str(title))}", f"Made with pairsmith. {opening}"]
    if about.get("description"):
        parts.insert(1, markdown_cell(str(about["description"])))
    parts.append("\n".join(_counts(rows_by_split)))
    if manifest.get("provenance"):
        parts += ["## Where it comes from", "\n".join(_origins(manifest["provenance"]))]
    if sentences := list(_making(manifest)):
        parts += ["## How it was made", "\n".join(sentences)]
    parts.append(
        "`messages` holds conversations in OpenAI form, `text` raw text; the other of the two is null.\n"
        "`tools` and `line` are JSON text. Records of one `cluster` repeat one another and are never in two splits."
    )
    if about.get("citation"):
        parts += ["## How to cite it", "".join(f"    {visible(line)}\n" for line in about["citation"].split("\n"))]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _counts(rows_by_split: RowsBySplit) -> Iterator[str]:
    splits = list(rows_by_split)
    counts = {split: Counter(row["category"] for row in rows) for split, rows in rows_by_split.items()}
    yield _table_line(["category", *splits])
    yield _table_line(["---"] + ["---:"] * len(splits))
    for category in sorted({category for count in counts.values() for category in count}):
        yield _table_line([markdown_cell(category), *(f"{counts[split][category]:,}" for split in splits)])
    yield _table_line(["all", *(f"{len(rows_by_split[split]):,}" for split in splits)])


def _origins(provenance: Sequence[Mapping[str, Json]]) -> Iterator[str]:
    yield "Counted by the source and the licence that the records name:\n"
    for origin in provenance:
        license_ = markdown_cell(str(origin["license"])) if origin["license"] else "no licence named"
        yield f"- {markdown_cell(str(origin['source']))}: {origin['records']:,} records, {license_}"


def _making(manifest: Mapping[str, Json]) -> Iterator[str]:
    if "seed" in manifest:
        shares = " / ".join(f"{share:.0%}" for share in manifest["ratios"])
        yield f"- Split {shares} by cluster and category with the seed {manifest['seed']}."
    if schema := manifest.get("schema"):
        name = markdown_cell(str(schema["name"]))
        yield f"- Every record fits the schema {name} (SHA-256 {schema['sha256'][:16]}...)."
    if machine := manifest.get("machine"):
        as_proposed, edited = machine["as_proposed"], machine["edited"]
        yield f"- Written by a model and taken by a person: {as_proposed:,} as proposed, {edited:,} after an edit."
    for code, number in (manifest.get("drops") or {}).items():
        yield f"- Left out with code {markdown_cell(code)}: {number:,}."
    for code, number in (manifest.get("findings") or {}).items():
        yield f"- Warnings let through with code {markdown_cell(code)}: {number:,}."


def _table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
