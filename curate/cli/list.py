"""`curate list`: the records of a workspace, one a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import SPLITS, Exit
from curate.base.tables import counted
from curate.cli._options import format_option, workspace_argument
from curate.cli._output import print_lines
from curate.cli._visible import findings_for, let_through, visible_states

if TYPE_CHECKING:
    from curate.project.filters import Filter
    from curate.project.fold import RecordState


@click.command("list")
@workspace_argument
@click.option("--category", multiple=True, help="Only records of this category; may be repeated.")
@click.option("--split", "splits", multiple=True, type=click.Choice(SPLITS), help="Only records of this split.")
@click.option(
    "--status",
    type=click.Choice(["in", "dropped", "all"]),
    help='Default: "in", or "all" where --where asks for a status itself.',
)
@click.option(
    "--where", default="", metavar="FILTER", help='Only records that a filter lets through: "tokens:>500 refund".'
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many records.")
@format_option("text", "jsonl")
@click.option("--show-values", is_flag=True, help="Show also what others answered to what you are still asked.")
def command(
    root: Path,
    category: tuple[str, ...],
    splits: tuple[str, ...],
    status: str | None,
    where: str,
    limit: int | None,
    form: str,
    show_values: bool,
) -> int:
    """List records by category, split and whether a decision has dropped them, or by a filter.

    A record's split is the one it has in the last dataset, else the one written in it or assigned to it. A filter is
    what Browse takes: words, "exact words", /regex/, category:, status:, split:, source:, kind:, id:, file:, line:,
    tokens:, prompt:, completion:, confidence:, variability: (how the newest run learnt a record), label.NAME: and has:,
    each negated by - before it; all of them must hold.

    Where a record still asks you (CURATE_ANNOTATOR, else your user name) a question that others have answered, it is
    listed as if they had not, and stderr says of how many that is so: label.annotators and label.overlap say who is
    asked what.

    Example: curate list my-data --where 'category:billing tokens:>500 -status:ok "refund"'
    """
    from curate.project.notices import tell_remarks
    from curate.project.project import open_project

    wanted = _parsed(where)
    if status is None:
        # A filter that asks for dropped records would else find none.
        status = "all" if wanted and wanted.asks_about("status") else "in"
    project = open_project(root)
    findings = findings_for(project, wanted)
    tell_remarks(project.data)
    pins = project.data.pins()
    matching: Iterable[RecordState] = (
        state
        for state in visible_states(project.data, show_values=show_values)
        if (not category or state.record.category in category)
        and (not splits or (pins.get(state.record.id) or state.record.split) in splits)
        and (status == "all" or (state.dropped is not None) == (status == "dropped"))
    )
    if wanted:
        matching = let_through(project, wanted, matching, findings)
    # A million of them need not be held at once.
    rest = iter(matching)
    listed = islice(rest, limit)
    print_lines(_json_lines(listed) if form == "jsonl" else _lines(listed))
    if num_more := sum(1 for _ in rest):
        console.talk(f"not shown: {counted(num_more, 'record')}")
    return Exit.OK


def _parsed(where: str) -> Filter | None:
    if not where.strip():
        return None
    # Evaluating needs polars, which a plain list does without.
    from curate.project.filters import parse_filter

    return parse_filter(where)


def _lines(states: Iterator[RecordState]) -> Iterator[str]:
    for state in states:
        record = state.record
        gone = f" [dropped: {console.one_line(state.dropped, 40)}]" if state.dropped is not None else ""
        yield (
            f"{console.visible(record.source.file)}:{record.source.line}: {console.one_line(record.id, 40)} "
            f"{console.one_line(record.category or '-', 30)}: {console.one_line(record.prompt or record.text, 60)} -> "
            f"{console.one_line(record.completion, 40)}{gone}"
        )


def _json_lines(states: Iterator[RecordState]) -> Iterator[str]:
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
