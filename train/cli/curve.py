"""`train curve`: what more records would bring, by category."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from train.cli import takes_a_recipe, takes_a_series
from train.cli.run import run_series


@click.command("curve")
@takes_a_recipe
@click.option("--at", "shares", default="25,50,100", show_default=True, help="Per cent of the records; three or more.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs on each share.")
@takes_a_series
def command(dataset: Path, shares: str, seeds: int, resume: bool, **options: Any) -> int:
    """Train on shares of DATASET under one recipe and say what twice the records would bring, by category.

    A share is taken of each category, in whole clusters of repeats, and the smaller ones lie in the larger ones. All
    runs have the steps of the whole. The curve is that of the split whose verdicts count.

    Example: train curve my-data/dataset/v1 --at 25,50,100
    """
    # torch and transformers take seconds to import, so only a run pays for them.
    from train.pipeline.series import share_variants

    variants = share_variants(_shares(shares))
    return run_series(None if resume else "curve", dataset, number=seeds, variants=variants, **options)


def _shares(text: str) -> list[float]:
    try:
        shares = sorted({float(part) / 100 for part in text.split(",")})
    except ValueError:
        raise click.UsageError(f"--at {text}: write per cent with commas, such as 25,50,100") from None
    # Not above 0 refuses NaN, too.
    if not all(0 < share <= 1 for share in shares) or len(shares) < 3 or shares[-1] != 1:
        raise click.UsageError(
            f"--at {text}: a curve takes three different shares or more, from above 0 to 100, and 100 is one of them"
        )
    return shares
