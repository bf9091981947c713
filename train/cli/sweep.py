"""`train sweep`: settings chosen on validation, the winner measured once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from train.cli import takes_a_recipe, takes_a_series
from train.cli.run import resumed_series


@click.command("sweep")
@takes_a_recipe
@click.option("--grid", multiple=True, metavar="KEY=A,B", help="Values of a key; may be given again.")
@click.option("--halving", is_flag=True, help="Train all for a part of the steps, and the best third on.")
@click.option("--seeds", type=click.IntRange(1, 100), default=2, show_default=True, help="Fresh seeds of the winner.")
@takes_a_series
def command(
    dataset: Path, recipe_path: Path | None, settings: tuple[str, ...], base: str | None, grid: tuple[str, ...],
    halving: bool, seeds: int, out: Path | None, resume: bool, no_cache: bool, dry_run: bool,
    cost_per_hour: float | None,
) -> int:  # fmt: skip
    """Try settings on DATASET, choose on validation alone, and train the winner again with seeds that are fresh.

    Each combination of the values is a run. The test split is measured once, after the choice, on the winner's fresh
    runs. A value with commas stands in brackets: --grid betas=[0.9,0.95],[0.9,0.999].

    Example: train sweep my-data/dataset/v1 --grid lr=1e-4,3e-4,1e-3 --grid lora.rank=8,32
    """
    if resume:
        return resumed_series(dataset, out, is_cached=not no_cache)
    # torch and transformers take seconds to import, so only a run pays for them.
    from train.model.distributed import SINGLE_PROCESS
    from train.pipeline.series import start_series
    from train.pipeline.series_kinds import SweepSeries

    _, code = start_series(
        SweepSeries(_grid(grid), seeds, halving), dataset, recipe_path, settings=settings, base=base, out=out,
        is_dry=dry_run, is_cached=not no_cache, cost_per_hour=cost_per_hour,
        context=click.get_current_context().obj or SINGLE_PROCESS,
    )  # fmt: skip
    return code


def _grid(texts: tuple[str, ...]) -> dict[str, list[Any]]:
    from train.recipe.files import read_yaml

    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, separator, values = text.partition("=")
        key = key.strip()
        parsed = read_yaml(f"[{values}]", f"--grid {key}") if separator else None
        if not key or not parsed or key in grid:
            raise click.UsageError(f"--grid {text}: write each key once, as in --grid lr=1e-4,3e-4")
        if any(value in parsed[:number] for number, value in enumerate(parsed)):
            raise click.UsageError(f"--grid {text}: a value stands there twice")
        grid[key] = parsed
    if not grid:
        raise click.UsageError("Name what is tried: --grid lr=1e-4,3e-4.")
    return grid
