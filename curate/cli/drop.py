"""`curate drop`: leave records out of the next dataset."""

from __future__ import annotations

import click

from curate.base.record import Exit
from curate.cli._options import by_option


@click.command("drop")
@click.argument("words", metavar="ID... [DIR]", nargs=-1)
@click.option("--where", default="", metavar="FILTER", help="In place of IDs: all that a filter lets through.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stands in the journal and in dropped.jsonl.")
@by_option
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, and write nothing.")
def command(words: tuple[str, ...], where: str, reason: str, by: str, dry_run: bool) -> int:
    """Leave records out, by their ids or by a filter, as one decision that `curate undo` takes back.

    A dropped record stays in its file and is listed with its reason in the dropped.jsonl of each export. An id that no
    record has stops the command before anything is written. The last word is the workspace where it is a folder with a
    curate.toml, else it is an id too. A filter is what `curate list --where` takes.

    Example: curate drop r012 r013 my-data --reason "off topic"

    Example: curate drop --where 'source:forum tokens:>2000' my-data --reason "too long" --dry-run
    """
    if not reason.strip():
        raise click.BadParameter("it is empty; say why in a few words", param_hint="--reason")
    from curate.base.events import Drop
    from curate.cli._bulk import BulkAct, named_records

    with named_records(words, where, by) as (project, states):
        act = BulkAct()
        for state in states:
            if state.dropped is None:
                act.decisions.append(Drop(state.record.id, reason.strip()))
            else:
                act.left["dropped already"].append(state.record.id)
        act.save(project, "dropped", dry_run=dry_run)
    return Exit.OK
