"""`curate approve`: say that records are right as they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from curate.base.record import CurateError, Exit
from curate.cli._options import by_option

if TYPE_CHECKING:
    from curate.project.fold import RecordState
    from curate.schema.settings import ReviewSettings

_YOURS = "left to others, because you wrote them"


@click.command("approve")
@click.argument("words", metavar="[ID]... [DIR]", nargs=-1)
@click.option("--where", default="", metavar="FILTER", help='Those that a filter lets through: "status:waiting".')
@by_option
@click.option("--dry-run", is_flag=True, help="Say what would be approved, and write nothing.")
def command(words: tuple[str, ...], where: str, by: str, dry_run: bool) -> int:
    """Approve records, by their ids or by a filter, as one decision that `curate undo` takes back.

    `[review]` in curate.toml says which records need how many approvals before an export (L406). An approval is of what
    a record says: after an edit it waits again. A record in
    the words of a model that is to be held out needs one as well (P507). Others are counted and left as they are. With
    `not_author`, so are those that you wrote; then the command exits with 1. A filter is what `curate list --where`
    takes. The last word is the workspace where it is a folder with a curate.toml, else it is an id too.

    Example: curate approve my-data --where "status:waiting category:billing" --dry-run
    """
    from curate.base.events import Approve
    from curate.cli._bulk import BulkAct, named_records

    with named_records(words, where, by) as (project, states):
        review = project.settings.review
        proposed = {state.record.id for state in states if project.data.is_as_proposed(state)}
        if not review.approvals and not proposed:
            hint = "Set approvals = 1 under [review] of curate.toml."
            raise CurateError("E902 bad-settings", "no record needs an approval here: review.approvals is 0", hint)
        act = BulkAct()
        for state in states:
            why_not = "" if state.record.id in proposed else _why_not(state, review, project.by)
            if why_not:
                act.left[why_not].append(state.record.id)
            else:
                act.decisions.append(Approve(state.record.id))
        act.save(project, "approved", dry_run=dry_run)
    return Exit.FINDINGS if _YOURS in act.left else Exit.OK


def _why_not(state: RecordState, review: ReviewSettings, by: str) -> str:
    """Return why ``by`` does not approve a record, "" where nothing speaks against it."""
    from curate.project.approval import may_approve, num_lacking

    if state.dropped is not None:
        return "dropped"
    if by in state.approvals:
        return "approved by you already"
    if not num_lacking(state, review):
        return "in need of no approval"
    return "" if may_approve(state, review, by) else _YOURS
