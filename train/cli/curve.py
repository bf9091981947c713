"""`train curve`: what more records would bring, by category."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli import takes_a_recipe, takes_a_series
from train.cli.run import resumed_series


@click.command("curve")
@takes_a_recipe
@click.option("--at", "shares", default="25,50,100", show_default=True, help="Per cent of the records; three or more.")
@click.option("--seeds", type=click.IntRange(1, 100), default=2, show_default=True, help="Runs on each share.")
@takes_a_series
def command(
    dataset: Path, recipe_path: Path | None, settings: tuple[str, ...], base: str | None, shares: str, seeds: int,
    out: Path | None, resume: bool, no_cache: bool, dry_run: bool, cost_per_hour: float | None,
) -> int:  # fmt: skip
    """Train on shares of DATASET under one recipe and say what twice the records would bring, by category.

    A share is taken of each category, in whole clusters of repeats, and the smaller ones lie in the larger ones. All
    runs have the steps of the whole. The curve is that of the split whose verdicts count.

    Example: train curve my-data/dataset/v1 --at 25,50,100
    """
    if resume:
        return resumed_series(dataset, out, is_cached=not no_cache)
    # torch and transformers take seconds to import, so only a run pays for them.
    from train.model.distributed import SINGLE_PROCESS
    from train.pipeline.series import start_series
    from train.pipeline.series_kinds import LearningCurveSeries

    _, code = start_series(
        LearningCurveSeries(_shares(shares), seeds), dataset, recipe_path, settings=settings, base=base, out=out,
        is_dry=dry_run, is_cached=not no_cache, cost_per_hour=cost_per_hour,
        context=click.get_current_context().obj or SINGLE_PROCESS,
    )  # fmt: skip
    return code


def _shares(text: str) -> list[float]:
    try:
        shares = sorted({float(part) / 100 for part in text.split(",")})
    except ValueError:
        raise click.UsageError(f"--at {text}: write per cent with commas, such as 25,50,100") from None
    # Not above 0 refuses NaN, too.
    if not all(0 < share <= 1 for share in shares) or len(shares) < 3 or shares[-1] != 1:
        raise click.UsageError(f"--at {text}: a curve takes three shares or more, above 0, and 100 is one of them")
    return shares
