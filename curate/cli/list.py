"""`curate list`: the records of a workspace, one a line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate import say
from curate.record import SPLITS, Exit
from curate.table import counted

if TYPE_CHECKING:
    from curate.workspace import State


@click.command("list")
@click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--category", multiple=True, help="Only records of this category; may be repeated.")
@click.option("--split", "splits", multiple=True, type=click.Choice(SPLITS), help="Only records of this split.")
@click.option("--status", type=click.Choice(["in", "dropped", "all"]), default="in", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many records.")
@click.option("--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
def command(
    root: Path, category: tuple[str, ...], splits: tuple[str, ...], status: str, limit: int | None, form: str
) -> int:
    """List records by category, split and whether a decision has dropped them.

    A record's split is the one it has in the last dataset, else the one written in it or assigned to it.

    Example: curate list my-data --category billing --split test
    """
    from curate.workspace.opened import open_and_tell

    workspace = open_and_tell(root)
    pins = workspace.pins()
    matching = [
        state
        for state in workspace.states()
        if (not category or state.record.category in category)
        and (not splits or (pins.get(state.record.id) or state.record.split) in splits)
        and (status == "all" or (state.dropped is not None) == (status == "dropped"))
    ]
    shown = islice(matching, limit)
    for line in _json_lines(shown) if form == "jsonl" else _lines(shown):
        say.data(line)
    if limit is not None and len(matching) > limit:
        say.talk(f"not shown: {counted(len(matching) - limit, 'record')}")
    return Exit.OK


def _lines(states: Iterator[State]) -> Iterator[str]:
    for state in states:
        record = state.record
        gone = f" [dropped: {say.one_line(state.dropped, 40)}]" if state.dropped is not None else ""
        yield (
            f"{say.visible(record.source.file)}:{record.source.line}: {say.one_line(record.id, 40)} "
            f"{say.one_line(record.category or '-', 30)}: {say.one_line(record.prompt or record.text, 60)} -> "
            f"{say.one_line(record.completion, 40)}{gone}"
        )


def _json_lines(states: Iterator[State]) -> Iterator[str]:
    import json

    for state in states:
        record = state.record
        # ASCII only: what controls or turns around a terminal in the data must not reach one.
        yield json.dumps(
            {
                "id": record.id,
                "file": record.source.file,
                "line": record.source.line,
                "category": record.category,
                "split": record.split,
                "labels": dict(record.labels),
                "dropped": state.dropped,
                "data": dict(record.data),
            }
        )
