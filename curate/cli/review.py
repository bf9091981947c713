"""`curate review`: settle what people have decided differently."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from curate.base.record import Exit
from curate.cli._options import outside, workspace_argument


@outside(screen="label")
@click.command("review")
@workspace_argument
@click.option("--plain", is_flag=True, help="Line by line, without a screen; so it is where TERM is dumb.")
@click.option("--by", default="", metavar="NAME", help="Who settles; else CURATE_ANNOTATOR or the user's name.")
def command(root: Path, plain: bool, by: str) -> int:
    """Settle records on which annotators disagree (L402), and fields that two people decided apart (L403).

    What annotators answered stays in the journal; what is settled here holds. A question that still asks whoever
    reviews is not shown before they have answered it. With --plain, each line of stdin is a command: a number settles,
    s leaves an item, u takes back, q or the end of the input leaves. Exits 1 while something is left.

    Example: curate review my-data --plain
    """
    from curate.cli._lines import has_screen, review_lines, show

    if not plain and has_screen():
        show(root, by, "label", queue="review")
    from curate.project.project import open_project
    from curate.sessions.labelling import LabelSession

    with open_project(root, by) as project:
        project.load()
        return Exit.FINDINGS if review_lines(LabelSession(project), sys.stdin.buffer) else Exit.OK
