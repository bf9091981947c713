"""`curate approve`: say that records are right as they stand."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.tables import counted
from curate.cli._options import by_option
from curate.cli.drop import ids_and_root, listed_ids

if TYPE_CHECKING:
    from curate.project.fold import RecordState
    from curate.schema.settings import ReviewSettings

_APPROVED, _YOURS = "approved", "left to others, because you wrote them"


@click.command("approve")
@click.argument("words", metavar="[ID]... [DIR]", nargs=-1)
@click.option("--where", default="", metavar="FILTER", help='Those that a filter lets through: "status:waiting".')
@by_option
@click.option("--dry-run", is_flag=True, help="Say what would be approved, and write nothing.")
def command(words: tuple[str, ...], where: str, by: str, dry_run: bool) -> int:
    """Approve records, by their ids or by a filter, as one decision that `curate undo` takes back.

    `[review]` in curate.toml says which records need how many approvals before an export (L406). An approval is of what
    a record says: after an edit it waits again. Records that need no approval are counted and left as they are. With
    `not_author`, so are those that you wrote; then the command exits with 1. A filter is what `curate list --where`
    takes. The last word is the workspace where it is a folder with a curate.toml, else it is an id too.

    Example: curate approve my-data --where "status:waiting category:billing" --dry-run
    """
    from curate.base.events import Approve
    from curate.project.project import open_project

    if where and len(words) > 1:
        raise click.UsageError("name records by their ids, or with --where.")
    ids, root = ([], Path(*words)) if where else ids_and_root(words)
    groups: dict[str, list[str]] = defaultdict(list)
    with open_project(root, by) as project:
        if not project.settings.review.approvals:
            hint = "Set approvals = 1 under [review] of curate.toml."
            raise CurateError("E902 bad-settings", "no record needs an approval here: review.approvals is 0", hint)
        project.load()
        # All are looked up first: with an id that no record has, nothing is written (E916).
        for name in ids or [record.id for record in project.records(where)]:
            # What a category asks for must not tell a category that is hidden.
            state = project.blind.redacted(project.state(name), project.shape)
            groups[_outcome(state, project.settings.review, project.by)].append(name)
        if (approved := groups.pop(_APPROVED, [])) and not dry_run:
            project.apply([Approve(name) for name in approved])
    for what, names in groups.items():
        console.talk(f"{what}: {counted(len(names), 'record')} ({listed_ids(names)})")
    if approved:
        word = f"would be {_APPROVED}" if dry_run else _APPROVED
        console.data(f"{word}: {counted(len(approved), 'record')} ({listed_ids(approved)})")
    console.talk("nothing was written" if dry_run or not approved else "`curate undo` takes it back")
    return Exit.FINDINGS if _YOURS in groups else Exit.OK


def _outcome(state: RecordState, review: ReviewSettings, by: str) -> str:
    """Return what becomes of a record that ``by`` wants to approve."""
    from curate.project.approval import may_approve, num_lacking

    if state.dropped is not None:
        return "dropped"
    if by in state.approvals:
        return "approved by you already"
    if not num_lacking(state, review):
        return "in need of no approval"
    return _APPROVED if may_approve(state, review, by) else _YOURS
