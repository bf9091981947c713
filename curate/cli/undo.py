"""`curate undo`: take back what one annotator decided last."""

from __future__ import annotations

from pathlib import Path

import click

from curate.base import console
from curate.base.record import Exit
from curate.cli._options import workspace_argument


@click.command()
@workspace_argument
@click.option("--by", default="", metavar="NAME", help="Whose act; by default yours (CURATE_ANNOTATOR, else the user).")
@click.option("--redo", "is_redo", is_flag=True, help="Do again what was taken back last.")
@click.option("--steps", type=click.IntRange(min=1), default=1, show_default=True, help="So many acts.")
@click.option("--dry-run", is_flag=True, help="Say what would be taken back, and take back nothing.")
def command(root: Path, by: str, is_redo: bool, steps: int, dry_run: bool) -> int:
    """Take back your last act: everything that was decided in one go, in this session or an earlier one.

    Nothing is removed: what takes it back is a decision as well, and `--redo` takes that back. Where somebody has
    decided on the same thing since, their decision stands, and that is said. Exit code 1 where nothing is left.

    Example: curate undo my-data --steps 2
    """
    from curate.project.project import open_project
    from curate.project.transactions import render_act

    with open_project(root, by) as project:
        if dry_run:
            acts = project.standing(is_redo=is_redo)[:steps]
            for act in acts:
                console.data(f"would {'do again' if is_redo else 'take back'}: {render_act(act)}")
            return Exit.OK if acts else _nothing(project.by, is_redo=is_redo)
        for number in range(steps):
            undone = project.redo() if is_redo else project.undo()
            if undone is None:
                return _nothing(project.by, is_redo=is_redo) if number == 0 else Exit.OK
            console.data(undone.message)
            if undone.remark:
                console.talk(f"warning: {undone.remark}")
    return Exit.OK


def _nothing(by: str, *, is_redo: bool) -> int:
    console.talk(f"{console.one_line(by, 40)} has nothing to {'do again' if is_redo else 'take back'}")
    return Exit.FINDINGS
