"""`train run`: fine-tune on a dataset and report per category."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.cli import takes_a_recipe
from train.pipeline.trackers import TRACKERS

if TYPE_CHECKING:
    from train.pipeline.series import Kind
    from train.recipe import Recipe


@click.command("run")
@takes_a_recipe
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the run; default runs/DATE-a.")
@click.option("--resume", is_flag=True, help="Go on with a stopped run from its newest whole checkpoint.")
@click.option("--force", is_flag=True, help='Resume although facts changed; the run is recorded as "not exact".')
@click.option("--no-cache", is_flag=True, help="Measure the base again, though it was measured on the same records.")
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=1, metavar="N", help="Train with N seeds; report all as one."
)
@click.option("--dry-run", is_flag=True, help="Check everything and say the plan; write nothing.")
@click.option(
    "--report-to", multiple=True, type=click.Choice(TRACKERS),
    help="Hand each event on to this installed tracker too; may be given more than once.",
)  # fmt: skip
def command(
    dataset: Path,
    recipe_path: Path | None,
    settings: tuple[str, ...],
    base: str | None,
    out: Path | None,
    resume: bool,
    force: bool,
    no_cache: bool,
    seeds: int,
    dry_run: bool,
    report_to: tuple[str, ...],
) -> int:
    """Fine-tune on DATASET (made by `curate export`) and say per category whether it helped.

    Many GPUs: torchrun --nproc-per-node 8 -m train run DATASET; `train launch` writes files for clusters.

    Exit codes: 0 done, 1 diverged or a judge that scored nothing, 2 bad input, 3 the machine lacks something,
    130/143/129 stopped with a checkpoint.

    Example: train run my-data/dataset/v1 --set epochs=3

    Example: train run my-data/dataset/v1 --seeds 3
    """
    # torch and transformers take seconds to import, so only a run pays for them.
    from train.base.run_folder import SERIES, newest_run
    from train.model.distributed import SINGLE_PROCESS
    from train.pipeline.execute import start_run
    from train.recipe import load_recipe

    context = click.get_current_context().obj or SINGLE_PROCESS
    if resume:
        out = Path(context.broadcast_object(out or newest_run(dataset)))
        if (out / SERIES).is_file():
            return resumed_series(dataset, out, is_cached=not no_cache, report_to=report_to)
    if seeds > 1 and (resume or force):
        raise click.UsageError("--seeds begins a series; --resume goes on with one as it was begun.")
    kind = None if resume else _series_of(dataset, recipe_path, load_recipe(recipe_path, settings, base), seeds)
    if kind is not None:
        from train.pipeline.series import start_series

        _, code = start_series(
            kind, dataset, recipe_path, settings=settings, base=base, out=out, is_dry=dry_run,
            is_cached=not no_cache, report_to=report_to, context=context,
        )  # fmt: skip
        return code
    _, code = start_run(
        dataset, recipe_path, settings=settings, base=base, out=out, is_resumed=resume, is_forced=force, is_dry=dry_run,
        is_cached=not no_cache, report_to=report_to, context=context,
    )  # fmt: skip
    return code


def _series_of(dataset: Path, recipe_path: Path | None, recipe: Recipe, seeds: int) -> Kind | None:
    # What the run is a series of; None where it is one run.
    if recipe.stage and seeds > 1:
        raise click.UsageError("the recipe has stages, which are a series of their own: leave --seeds out.")
    if recipe.stage:
        from train.pipeline.stages import StageSeries

        return StageSeries(str(dataset.resolve()), str((recipe_path.parent if recipe_path else Path()).resolve()))
    if seeds > 1:
        from train.pipeline.series_kinds import Seeds

        return Seeds(seeds)
    return None


def resumed_series(dataset: Path, folder: Path | None, *, is_cached: bool, report_to: Sequence[str] = ()) -> int:
    """Go on with the series in ``folder``, by default the newest, and return the exit code."""
    from train.base.run_folder import newest_run
    from train.model.distributed import SINGLE_PROCESS
    from train.pipeline.series import resume_series
    from train.pipeline.series_kinds import kind_of

    context = click.get_current_context().obj or SINGLE_PROCESS
    folder = Path(context.broadcast_object(folder or newest_run(dataset)))
    _, code = resume_series(dataset, folder, kind_of, is_cached=is_cached, report_to=report_to, context=context)
    return code
