"""`train sweep`: settings chosen on validation, the winner measured once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from train.cli import takes_a_recipe, takes_a_series
from train.cli.run import run_series


@click.command("sweep")
@takes_a_recipe
@click.option("--grid", multiple=True, metavar="KEY=A,B", help="Values of a key; may be given again.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Seeds of a choice.")
@takes_a_series
def command(
    dataset: Path, grid: tuple[str, ...], seeds: int, resume: bool, **options: Any
) -> int:  # fmt: skip
    """Try settings on DATASET, choose on validation alone, and train the winner again with seeds that are fresh.

    Each combination of the values is trained with each of the seeds. The test split is measured once, after the choice,
    on the winner's fresh runs. Lists are quoted, as in --grid 'lora_target_modules=["q_proj"],["q_proj","v_proj"]'.

    Example: train sweep my-data/dataset/v1 --grid learning_rate=1e-4,3e-4,1e-3 --grid lora_r=8,32
    """
    # torch and transformers take seconds to import, so only a run pays for them.
    from train.pipeline.series import grid_variants

    variants = None if resume else grid_variants(_grid(grid))
    return run_series(None if resume else "sweep", dataset, number=seeds, variants=variants, **options)


def _grid(texts: tuple[str, ...]) -> dict[str, list[Any]]:
    from train.recipe import read_value

    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, separator, values = text.partition("=")
        key = key.strip()
        parsed = read_value(f"[{values}]") if separator else None
        if isinstance(parsed, str):
            # Plain words are no TOML.
            parsed = [read_value(value) for value in values.split(",")]
        if not key or not parsed or key in grid:
            raise click.UsageError(f"--grid {text}: write each key once, as in --grid learning_rate=1e-4,3e-4")
        if any(value in parsed[:number] for number, value in enumerate(parsed)):
            raise click.UsageError(f"--grid {text}: a value stands there twice")
        grid[key] = parsed
    if not grid:
        raise click.UsageError("Name what is tried: --grid learning_rate=1e-4,3e-4.")
    return grid
