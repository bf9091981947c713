"""`curate [PATH]`, short for `curate open [PATH]`: the terminal UI on a workspace, or on one file."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from curate.base.record import CurateError, Exit
from curate.cli._options import by_option, outside

if TYPE_CHECKING:
    from curate.project.project import Project

SUFFIXES = (".jsonl", ".ndjson")  # Of files that are edited where they lie.
_WITHOUT_TERMINAL = "`curate --help` lists the commands that need none; for screen readers `curate label --plain`."
THEMES = ("dark", "light", "contrast", "mono")


@outside(screen="home")
@click.command("open")
@click.argument("path", metavar="[PATH]", default=".", type=click.Path(path_type=Path, exists=True))
@by_option
@click.option("--ascii", "is_ascii", is_flag=True, help="Draw with ASCII alone; the locale C does so too.")
@click.option("--no-mouse", "has_mouse", is_flag=True, default=True, flag_value=False, help="Leave the mouse alone.")
@click.option("--theme", type=click.Choice(THEMES), default="dark", show_default=True, help="NO_COLOR means mono.")
@click.option("--served", "is_served", is_flag=True, hidden=True, help="For `curate serve`: speak with a browser.")
@click.option("--allow-train", is_flag=True, hidden=True)
def command(
    path: Path, by: str, is_ascii: bool, has_mouse: bool, theme: str, is_served: bool, allow_train: bool
) -> None:
    """Open the terminal UI on a workspace, on a folder that may become one, or on one file.

    `curate PATH` and, in a terminal, `curate` alone do the same. Every decision is saved as it is made; `?` lists the
    keys. A file of JSON Lines is read, checked and edited where it lies; of any other file a workspace can be made.

    Example: curate my-data --by ana
    """
    # Textual draws on stderr and reads stdin; stdout may go anywhere.
    has_terminal = sys.stdin.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if not (is_served or has_terminal):
        raise CurateError(
            "E990 no-terminal",
            "the terminal UI needs a terminal, and there is none here",
            _WITHOUT_TERMINAL if path.is_dir() else f"Check the file with `curate validate {quote(str(path))}`.",
        )
    from curate.tui.app import CurateApp
    from curate.tui.terminal import leave, run

    # The workspace is opened after the first paint: settings and schema take longer than the frame.
    root = path if path.is_dir() else path.parent
    app = CurateApp(root, opener=partial(_opened, path, by), by=by, is_ascii=is_ascii, theme=theme)
    app.to_begin = None if path.is_dir() else path.resolve()
    if is_served:
        # There is no terminal to give back.
        app.may_train = allow_train
        app.run()
        leave(app.return_code or Exit.OK)
    leave(run(app, has_mouse=has_mouse))


def _opened(path: Path, by: str) -> Project | None:
    """Return the project in ``path``, None where there is no workspace; the screen is drawn before this is called."""
    from curate.schema.settings import FILE_NAME

    if path.is_file() and path.suffix.lower() in SUFFIXES:
        from curate.project.single_file import open_single_file

        try:
            return open_single_file(path, by)
        except CurateError as error:
            # Home asks which fields are question and answer, and makes a workspace of it.
            if error.number != "E908":
                raise
            return None
    if not (path / FILE_NAME).is_file():
        return None
    from curate.project.project import open_project

    return open_project(path, by)
