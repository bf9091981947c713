"""`train new`: a recipe with every default in view."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from train.base import console

_MARGIN = 0.05
"""The rise of bits per byte of general text that ends a run."""


@click.command("new")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set one key, such as method=full.")
@click.option("--keep", metavar="TEXT", help='What the model must go on knowing: a file of such text, or "nothing".')
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def command(file: Path | None, settings: tuple[str, ...], keep: str | None, force: bool) -> None:
    """Write a commented recipe to FILE, or to stdout, with every key, its meaning and its default.

    --keep says what the model must go on knowing; a terminal is asked for it. Text of that file is
    replayed while training, and the run ends with an error where general text takes 5 % more bits per byte.

    Example: train new recipe.toml --set method=full --keep encyclopedia.jsonl
    """
    if keep is None and file is not None and _is_terminal():
        question = 'What must the model go on knowing? A file of text, or "nothing"'
        keep = str(click.prompt(question, default="nothing", err=True))
    if keep not in (None, "nothing"):
        if not Path(keep).is_file():
            raise click.UsageError(f'--keep {keep} is no file, and not "nothing"')
        # Paths of a recipe are read from its own folder.
        keep = os.path.relpath(keep, file.parent if file else ".")
        # As JSON, whose texts are TOML's.
        settings = (f"mixing.replay={json.dumps(keep)}", f"guard.general={_MARGIN}", *settings)
    # pydantic takes a tenth of a second, which the other commands need not pay.
    from train.recipe import load_recipe, recipe_toml

    text = recipe_toml(load_recipe(None, settings))
    if file is None:
        console.data(text.rstrip("\n"))
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        hint = "; --force overwrites it" if isinstance(error, FileExistsError) else ""
        raise click.UsageError(f"{file}: {error.strerror}{hint}") from None
    console.info(f"wrote {file}; use it with: train run DATASET --recipe {file}")
    if keep is None:
        console.info("nothing is done against forgetting: --keep FILE names text to replay")


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
