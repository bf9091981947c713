"""`curate stats`: how many records of which category, and how long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from curate import say
from curate.record import SPLITS, Exit

if TYPE_CHECKING:
    from curate.record import Record, Split


@click.command()
@click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
def command(root: Path, form: str) -> int:
    """Count the records of each category, by split, with the lengths of prompts and completions in characters.

    Records that have no split yet are counted under "none".

    Example: curate stats my-data
    """
    import json

    from curate.table import table
    from curate.workspace.opened import open_and_tell

    workspace = open_and_tell(root)
    pins = workspace.pins()
    records = workspace.records()
    by_category: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_category[record.category].append(record)
    rows = [_row(category, part, pins) for category, part in sorted(by_category.items())]
    if form == "jsonl":
        for row in rows:
            say.data(json.dumps(row))
        return Exit.OK
    rows.append({**_row("", records, pins), "category": "all"})
    columns = [name for name in rows[-1] if name != "category"]
    cells = [
        [say.one_line(str(row["category"]) or "(none)", 30), *(f"{row[name]:,}" for name in columns)] for row in rows
    ]
    for line in table(["category", *(name.replace("_", " ") for name in columns)], cells):
        say.data(line)
    if dropped := workspace.dropped():
        say.talk(f"{len(dropped):,} more records are dropped; see `curate list --status dropped`")
    return Exit.OK


def _row(category: str, records: Sequence[Record], pins: dict[str, Split]) -> dict[str, str | int]:
    splits: list[str] = [pins.get(record.id) or record.split or "none" for record in records]
    prompts = [len(record.prompt or record.text) for record in records] or [0]
    completions = [len(record.completion) for record in records] or [0]
    return {
        "category": category,
        "records": len(records),
        **{name: splits.count(name) for name in (*SPLITS, "none")},
        "median_prompt": int(median(prompts)),
        "longest_prompt": max(prompts),
        "median_completion": int(median(completions)),
        "longest_completion": max(completions),
    }
