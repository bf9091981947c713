"""`curate drop`: leave records out of the next dataset."""

from __future__ import annotations

from functools import partial

import click

from curate.base.record import Exit
from curate.cli._dropping import save_act


@click.command("drop")
@click.argument("words", metavar="ID... [DIR]", nargs=-1)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stands in the journal and in dropped.jsonl.")
@click.option("--by", default="", metavar="NAME", help="Who decides; else CURATE_ANNOTATOR or the user's name.")
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, and write nothing.")
def command(words: tuple[str, ...], reason: str, by: str, dry_run: bool) -> int:
    """Leave records out, by their ids, as one decision that `curate undo` takes back.

    A dropped record stays in its file and is listed with its reason in the dropped.jsonl of each export. An id that no
    record has stops the command before anything is written. The last word is the workspace where it is a folder with a
    curate.toml, else it is an id too.

    Example: curate drop r012 r013 my-data --reason "off topic"
    """
    from curate.base.events import Drop

    if not reason.strip():
        raise click.BadParameter("it is empty; say why in a few words", param_hint="--reason")
    save_act(partial(Drop, reason=reason.strip()), words, by=by, dry_run=dry_run)
    return Exit.OK
