"""`curate fold`: write what people decided into the record files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.cli._options import outside, workspace_argument
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.project.compact import FoldPlan

_MAX_NAMES = 5


@outside(reason="It needs the workspace to itself: leave the app, then run it.")
@click.command()
@workspace_argument
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def command(root: Path, dry_run: bool) -> int:
    """Write decisions into the record files, and begin the journal anew.

    Edited lines are replaced, and every other byte stays; added records go to data/added.jsonl; drops, splits, answers
    and resolutions, which no line has a place for, to journal/folded/N.json, with the digest of every record file. The
    segments that are done with move to journal/retired/N and stay there. No record is another one afterwards, and each
    decision can still be taken back; also when this is interrupted: run it again. Nobody else may have the workspace
    open on this machine, and decisions that contradict one another have to be settled first.

    Example: curate fold my-data --dry-run
    """
    from curate.project.compact import fold_journal, plan_fold, require_writable
    from curate.project.notices import open_and_tell

    project = open_and_tell(root)
    if dry_run:
        # A dry run refuses what the real one would refuse, and says the same otherwise.
        plan = plan_fold(project.data)
        require_writable(project.data, plan)
    else:
        plan = fold_journal(project.data)
    print_lines(_lines(plan, root, "would be " if dry_run else ""))
    return Exit.OK


def _lines(plan: FoldPlan, root: Path, would: str) -> Iterator[str]:
    from curate.schema.settings import ADDED

    for path, edits in sorted(plan.edits.items()):
        yield f"{console.visible(str(path.relative_to(root)))}: {counted(len(edits), 'line')} {would}replaced"
    if plan.added:
        yield f"{ADDED}: {counted(len(plan.added), 'line')} {would}added"
    if plan.segments:
        what = f"{counted(len(plan.segments), 'segment')} with {counted(plan.num_folded, 'decision')}"
        yield f"journal: {what} {would}retired to journal/retired/{plan.number}"
    if plan.num_refused:
        yield f"of these, {counted(plan.num_refused, 'decision')} never had an effect: the schema refuses their lines"
    for name, why in sorted(plan.changed.items()):
        noted = f"{would}noted as it is now in journal/folded/{plan.number}.json"
        yield f"{console.one_line(name, 200)}: changed since the last fold, other than by decisions ({why}); {noted}"
    for name, why in sorted(plan.left.items())[:_MAX_NAMES]:
        yield f"left in the journal: the decisions on {console.one_line(name, 60)}: {why}"
    if len(plan.left) > _MAX_NAMES:
        yield f"left in the journal: those on {counted(len(plan.left) - _MAX_NAMES, 'more record')}"
    if plan.is_empty:
        yield "nothing to fold"
    elif not plan.last.number and not plan.segments:
        yield f"the digest of every record file {would}noted in journal/folded/{plan.number}.json"
