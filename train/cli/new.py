"""`train new`: a recipe with every default in view."""

from __future__ import annotations

from pathlib import Path

import click

from train.base import console
from train.cli import cli


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set one key, such as method=full.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def new(file: Path | None, settings: tuple[str, ...], force: bool) -> None:
    """Write a commented recipe to FILE, or to stdout, with every key, its meaning and its default.

    Nothing is done against forgetting unless mixing.replay names a text to train along, or guard.general a limit.

    Example: train new recipe.toml --set method=full --set guard.general=0.05
    """
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
