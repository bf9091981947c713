"""`curate apply-edits`: put edits, additions and drops into the record files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted, listed
from curate.cli._options import outside, workspace_argument
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.project.applied import AppliedEdits


@outside(reason="It rewrites the record files, which the app reads: leave the app, then run it.")
@click.command("apply-edits")
@workspace_argument
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(root: Path, dry_run: bool) -> int:
    """Write edits, added records and drops into the record files.

    Edited lines are replaced and dropped ones removed, and every other byte stays; added records go to
    data/added.jsonl. Labels, approvals, splits and proposals stay in the journal, as does the history of what is
    written; take an applied edit back with git, not with `curate undo`. Run it on one branch: two branches that both
    rewrite a file give git a conflict.

    Example: curate apply-edits my-data --dry-run
    """
    from curate.project.applied import plan_edits, write_edits
    from curate.project.notices import open_and_tell

    data = open_and_tell(root).data
    plan = plan_edits(data)
    if not dry_run:
        write_edits(data, plan)
    print_lines(_lines(plan, "would be " if dry_run else ""))
    return Exit.OK


def _lines(plan: AppliedEdits, would: str) -> Iterator[str]:
    from curate.schema.settings import ADDED

    for file, lines in sorted(plan.lines.items()):
        removed = sum(line is None for _, line in lines.values())
        what = {"replaced": len(lines) - removed, "removed": removed}
        said = ", ".join(f"{counted(number, 'line')} {would}{verb}" for verb, number in what.items() if number)
        yield f"{console.visible(file)}: {said}"
    if plan.added:
        yield f"{ADDED}: {counted(len(plan.added), 'line')} {would}added"
    if plan.left:
        names = listed(plan.left, spell=lambda name: console.one_line(name, 60))
        yield f"left in the journal: decisions on {counted(len(plan.left), 'record')} ({names})"
        yield "what is held back, or shares an id with others, stays there; see `curate validate`"
    if not (plan.lines or plan.added or plan.left):
        yield "nothing to apply"
