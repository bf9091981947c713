"""`curate drop`: leave records out of the next dataset, or take them in again."""

from __future__ import annotations

from functools import partial

import click

from curate.base.record import Exit
from curate.cli._options import by_option


@click.command("drop")
@click.argument("words", metavar="ID... [DIR]", nargs=-1)
@click.option("--where", default="", metavar="FILTER", help="In place of IDs: all that a filter lets through.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the journal and in dropped.jsonl.")
@click.option("--undo", "is_undone", is_flag=True, help="Take dropped records in again, whoever dropped them.")
@by_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
def command(words: tuple[str, ...], where: str, reason: str, is_undone: bool, by: str, dry_run: bool) -> int:
    """Leave records out, by their ids or by a filter, as one decision that `curate undo` takes back.

    A dropped record stays in its file and is listed with its reason in the dropped.jsonl of each export. An id that no
    record has stops the command before anything is written. The last word is the workspace where it is a folder with a
    curate.toml, else it is an id too. A filter is what `curate list --where` takes, such as status:dropped.

    --undo also keeps in what an export leaves out as repeats: no rule leaves such a record out from then on.

    Example: curate drop r012 r013 my-data --reason "off topic"

    Example: curate drop --where 'source:forum tokens:>2000' my-data --reason "too long" --dry-run
    """
    if is_undone == bool(reason.strip()):
        why = "it is for what is dropped" if is_undone else "say in a few words why; it is kept with the decision"
        raise click.BadParameter(why, param_hint="--reason")
    from curate.base.events import Drop, Restore
    from curate.cli._bulk import BulkAct, named_records

    with named_records(words, where, by) as (project, states):
        act = BulkAct()
        done, decision = ("restored", Restore) if is_undone else ("dropped", partial(Drop, reason=reason.strip()))
        for state in states:
            # To restore also keeps every rule from leaving the record out, so that it says something of one that is in.
            if state.is_wanted if is_undone else state.dropped is not None:
                act.left[f"{done} already"].append(state.record.id)
            else:
                act.decisions.append(decision(state.record.id))
        act.save(project, done, dry_run=dry_run)
    return Exit.OK
