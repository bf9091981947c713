"""`train preview`: a record token by token, and which tokens are trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train import say
from train.cli import takes_a_recipe
from train.errors import Exit

if TYPE_CHECKING:
    from train.render import Example, Renderer

_TRAINED, _PLAIN = "\x1b[32m", "\x1b[0m"


@click.command("preview")
@takes_a_recipe
@click.option("--id", "ids", multiple=True, help="Show this record; may be given more than once.")
@click.option("--split", default="train", show_default=True, type=click.Choice(["train", "validation", "test"]))
@click.option(
    "-n", "--number", default=1, show_default=True, type=click.IntRange(1, 1000), help="Records to show without --id."
)
def command(
    dataset: Path,
    recipe_path: Path | None,
    settings: tuple[str, ...],
    base: str | None,
    ids: tuple[str, ...],
    split: str,
    number: int,
) -> int:
    """Show records of DATASET as the model sees them: a token a line, with its id and whether it is trained.

    A record that a run would refuse is named with the reason, and makes the exit code 2.

    Example: train preview my-data/dataset/v1 --id ticket-17
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    from train.recipe import load_recipe
    from train.render import RowFault
    from train.run import open_renderer

    recipe = load_recipe(recipe_path, settings, {"base": base})
    opened, renderer = open_renderer(dataset, recipe, folder=recipe_path.parent if recipe_path else None)
    rows = (
        [row for rows in opened.splits.values() for row in rows if row.id in ids]
        if ids
        else opened.splits[split][:number]
    )
    missing = sorted(set(ids) - {row.id for row in rows})
    if missing:
        raise click.UsageError(say.visible(f"no record {', '.join(missing)} in {dataset}"))
    refused = 0
    for row in rows:
        try:
            example = renderer.example(row)
        except RowFault as fault:
            say.trouble(fault.code, f"record {row.id}: {fault.reason}")
            refused += 1
            continue
        _show(example, renderer)
    return Exit.USAGE if refused else Exit.OK


def _show(example: Example, renderer: Renderer) -> None:
    has_colour = sys.stdout.isatty()
    say.data(
        f"{say.visible(example.id)}: {len(example.ids)} tokens, {example.num_supervised} trained,"
        f" category {say.visible(example.category) or '-'}"
    )
    weights = example.weights or [1.0] * len(example.ids)
    for token, is_trained, weight in zip(example.ids, example.mask, weights, strict=True):
        text = say.visible(renderer.encoder.decode([token], has_control=True)).replace("\n", "\\n").replace("\t", "\\t")
        mark = "" if not is_trained else "trained" if weight == 1 else f"x {weight:g}"
        line = f"{token:>7}  {mark:<7}  |{text}|"
        say.data(f"{_TRAINED}{line}{_PLAIN}" if has_colour and is_trained else line)
