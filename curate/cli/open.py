"""`curate [DIR]`, short for `curate open [DIR]`: the terminal UI on a workspace."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base.record import CurateError, Exit
from curate.cli._options import by_option, outside

if TYPE_CHECKING:
    from curate.project.project import Project

THEMES = ("dark", "light", "contrast", "mono")


@outside(screen="home")
@click.command("open")
@click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path, file_okay=False, exists=True))
@by_option
@click.option("--ascii", "is_ascii", is_flag=True, help="Draw with ASCII alone; the locale C does so too.")
@click.option("--no-mouse", "has_mouse", is_flag=True, default=True, flag_value=False, help="Leave the mouse alone.")
@click.option("--theme", type=click.Choice(THEMES), default="dark", show_default=True, help="NO_COLOR means mono.")
@click.option("--served", "is_served", is_flag=True, hidden=True, help="For `curate serve`: speak with a browser.")
@click.option("--allow-train", is_flag=True, hidden=True)
def command(
    root: Path, by: str, is_ascii: bool, has_mouse: bool, theme: str, is_served: bool, allow_train: bool
) -> None:
    """Open the terminal UI on a workspace, or on a folder that may become one.

    `curate DIR` and, in a terminal, `curate` alone do the same. Every decision is saved as it is made; `?` lists the
    keys.

    Example: curate my-data --by ana
    """
    # Textual draws on stderr and reads stdin; stdout may go anywhere.
    has_terminal = sys.stdin.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if not (is_served or has_terminal):
        raise CurateError(
            "E990 no-terminal",
            "the terminal UI needs a terminal, and there is none here",
            "`curate --help` lists the commands that need none; for screen readers `curate label --plain`.",
        )
    from curate.tui.app import CurateApp
    from curate.tui.terminal import leave, run

    # The workspace is opened after the first paint: settings and schema take longer than the frame.
    app = CurateApp(root, opener=partial(_opened, root, by), by=by, is_ascii=is_ascii, theme=theme)
    if is_served:
        # There is no terminal to give back.
        app.may_train = allow_train
        app.run()
        leave(app.return_code or Exit.OK)
    leave(run(app, has_mouse=has_mouse))


def _opened(root: Path, by: str) -> Project | None:
    """Return the project in ``root``, None where there is no workspace; the screen is drawn before this is called."""
    from curate.schema.settings import FILE_NAME

    if not (root / FILE_NAME).is_file():
        return None
    from curate.project.project import open_project

    return open_project(root, by)
