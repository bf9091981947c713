"""`curate restore`: take dropped records in again."""

from __future__ import annotations

import click

from curate.base.record import Exit
from curate.cli._options import by_option


@click.command("restore")
@click.argument("words", metavar="ID... [DIR]", nargs=-1)
@click.option("--where", default="", metavar="FILTER", help="In place of IDs: all that a filter lets through.")
@by_option
@click.option("--dry-run", is_flag=True, help="Say what would be restored, and write nothing.")
def command(words: tuple[str, ...], where: str, by: str, dry_run: bool) -> int:
    """Take dropped records in again, by their ids or by a filter, as one decision that `curate undo` takes back.

    Also for records that an export leaves out as repeats: a record that somebody restored is never left out by a rule.
    A filter is what `curate list --where` takes, such as status:dropped.

    Example: curate restore r012 my-data
    """
    from curate.base.events import Restore
    from curate.cli._bulk import BulkAct, named_records

    with named_records(words, where, by) as (project, states):
        act = BulkAct()
        for state in states:
            # A restore also keeps every rule from leaving the record out, so that it says something of one that is in.
            if state.is_wanted:
                act.left["restored already"].append(state.record.id)
            else:
                act.decisions.append(Restore(state.record.id))
        act.save(project, "restored", dry_run=dry_run)
    return Exit.OK
