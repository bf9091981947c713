"""Arguments and options that verbs share, so that the same word means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])
Command = TypeVar("Command", bound=click.Command)

workspace_argument = click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
paths_argument = click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
by_option = click.option(
    "--by", default="", metavar="NAME", help="Who decides; else CURATE_ANNOTATOR or the user's name."
)


def reading_options(function: Function) -> Function:
    """Add the options that say how the rows of a file are read."""
    texts = {
        ("--format", "format_name"): ("NAME", "Read the rows as this format."),
        ("--map", "map_text"): ("FIELD=COLUMN,...", "Map fields to columns or JSON pointers."),
        ("--to-meta",): ("FIELD,...", "Store these fields and do not train on them."),
        ("--encoding",): ("NAME", "Read text that is not UTF-8, such as cp1252 or utf-16."),
    }
    function = click.option("--only", multiple=True, metavar="COLUMN=VALUE", help="Read only these rows.")(function)
    for names, (metavar, text) in reversed(texts.items()):
        function = click.option(*names, default="", metavar=metavar, help=text)(function)
    return function


def format_option(*names: str) -> Callable[[Function], Function]:
    """Return the option ``--format`` with these choices, of which text is the default."""
    return click.option("--format", "form", type=click.Choice(names), default="text", show_default=True)


ray_option = click.option(
    "--ray", default="", metavar="HOST:PORT", help='Work on this Ray cluster; "auto" finds the one this machine is in.'
)


def outside(*, screen: str = "", reason: str = "") -> Callable[[Command], Command]:
    """Have the palette of the terminal UI go to ``screen`` for a command, or say for which ``reason`` it cannot run."""

    def mark(command: Command) -> Command:
        command.outside = (screen, reason)  # type: ignore[attr-defined]
        return command

    return mark


def refuse_if(*rules: tuple[object, str]) -> None:
    """Raise a click.UsageError with the text of the first of ``rules`` that is true."""
    for is_wrong, why in rules:
        if is_wrong:
            raise click.UsageError(why)
