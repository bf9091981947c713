"""`curate drop`: leave records out of the next dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import by_option

if TYPE_CHECKING:
    from curate.base.events import Decision

# Ids that a message names.
_MAX_NAMED = 5


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
    from curate.base.events import Drop

    if not reason.strip():
        raise click.BadParameter("it is empty; say why in a few words", param_hint="--reason")
    save_act(partial(Drop, reason=reason.strip()), words, where, by=by, dry_run=dry_run)
    return Exit.OK


def ids_and_root(words: Sequence[str]) -> tuple[list[str], Path]:
    """Split the words of a call into record ids, each once, and the workspace: the last word where it is one."""
    from curate.schema.settings import FILE_NAME

    # click cannot have an optional argument after a list of others.
    *ids, last = words or [""]
    root = Path(last)
    if not last or not (root / FILE_NAME).is_file():
        ids, root = list(words), Path()
    if not ids:
        raise click.UsageError("name at least one record by its id; `curate list` shows the ids.")
    return list(dict.fromkeys(ids)), root


def save_act(
    decide: Callable[[str], Decision],
    words: Sequence[str],
    where: str,
    *,
    by: str,
    dry_run: bool,
) -> None:
    """Save what ``decide`` returns for each record that it changes, as one act; say what was done and what was so."""
    from curate.base.events import Drop
    from curate.cli._bulk import root_alone, states_where
    from curate.project.project import open_project

    ids, root = ([], root_alone(words)) if where else ids_and_root(words)
    is_drop = isinstance(decide("r"), Drop)
    verb, opposite = ("dropped", "restore") if is_drop else ("restored", "drop")
    with open_project(root, by) as project:
        if where:
            states = {state.record.id: state for state in states_where(project, where)}
        else:
            project.load()
            # All ids are looked up first: with one that no record has, nothing is written (E916).
            states = {name: project.state(name) for name in ids}
        # A restore also keeps every rule from leaving the record out, so that it says something of one that is in.
        changing = [
            name for name, state in states.items() if (state.dropped is None if is_drop else not state.is_wanted)
        ]
        if changing and not dry_run:
            project.apply([decide(name) for name in changing])
    unchanged = list(states.keys() - set(changing))
    if unchanged:
        console.talk(f"{verb} already: {counted(len(unchanged), 'record')} ({listed_ids(unchanged)})")
    if changing:
        console.data(
            f"{'would be ' if dry_run else ''}{verb}: {counted(len(changing), 'record')} ({listed_ids(changing)})"
        )
    if dry_run or not changing:
        console.talk("nothing was written")
    else:
        console.talk(f"`curate undo` takes it back, and so does `curate {opposite}`")


def listed_ids(ids: Sequence[str]) -> str:
    """Return the first of ``ids`` for a message, and how many more there are."""
    more = f" and {len(ids) - _MAX_NAMED:,} more" if len(ids) > _MAX_NAMED else ""
    return ", ".join(console.one_line(name, 60) for name in ids[:_MAX_NAMED]) + more
