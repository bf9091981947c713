"""`train run`: fine-tune on a dataset and report per category."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from train.cli import takes_a_recipe
from train.pipeline.trackers import TRACKERS

if TYPE_CHECKING:
    from train.pipeline.series import SeriesKind, Variants

_ON_RESUME = {"dataset", "out", "resume", "no_cache", "report_to"}
_OF_RECIPE = {"recipe_path", "settings", "base"}


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
def command(dataset: Path, out: Path | None, resume: bool, force: bool, seeds: int, **options: Any) -> int:
    """Fine-tune on DATASET and say per category whether it helped.

    DATASET is a folder that `curate export` wrote; or JSONL or Parquet with messages, prompt and completion, prompt,
    chosen and rejected, or text, one file or a folder, also as `datasets` saves it.

    Many GPUs: torchrun --nproc-per-node 8 --no-python train run DATASET.

    Exit codes: 0 done, 1 diverged or a judge that scored nothing, 2 bad input, 3 the machine lacks something,
    130/143/129 stopped with a checkpoint.

    Example: train run my-data/dataset/v1 --set num_train_epochs=3

    Example: train run chats.jsonl --base HuggingFaceTB/SmolLM2-135M-Instruct
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
            return run_series(None, dataset, out=out, **options)
    if seeds > 1 and (resume or force):
        raise click.UsageError("--seeds begins a series; --resume goes on with one as it was begun.")
    if seeds > 1:
        return run_series("seeds", dataset, number=seeds, out=out, **options)
    recipe, settings, base = options["recipe_path"], options["settings"], options["base"]
    if not resume and load_recipe(recipe, settings, base).stage:
        return run_series("stages", dataset, out=out, **options)
    _, code = start_run(
        dataset, recipe, settings=settings, base=base, out=out, is_resumed=resume, is_forced=force,
        is_dry=options["dry_run"], is_cached=not options["no_cache"], report_to=options["report_to"], context=context,
    )  # fmt: skip
    return code


def run_series(
    kind: SeriesKind | None, dataset: Path, *, recipe_path: Path | None, settings: tuple[str, ...], base: str | None,
    out: Path | None, dry_run: bool, no_cache: bool, number: int = 1, variants: Variants | None = None,
    cost_per_hour: float | None = None, report_to: Sequence[str] = (),
) -> int:  # fmt: skip
    """Run a series of ``kind``, or go on with the one in ``out``, by default the newest, where that is None.

    Returns the exit code. Raises UsageError for options beside --resume that a series which has begun does not take.
    """
    from train.base.run_folder import newest_run
    from train.model.distributed import SINGLE_PROCESS
    from train.pipeline.series import read_series, resume_series, start_series
    from train.recipe import load_recipe, recipe_digest

    call = click.get_current_context()
    context = call.obj or SINGLE_PROCESS
    shared: dict[str, Any] = {"is_cached": not no_cache, "report_to": report_to, "context": context}
    if kind is not None:
        return start_series(
            kind, dataset, recipe_path, number=number, variants=variants, settings=settings, base=base, out=out,
            is_dry=dry_run, cost_per_hour=cost_per_hour, **shared,
        )  # fmt: skip
    folder = Path(context.broadcast_object(out or newest_run(dataset, is_series=True)))
    record, taken = read_series(folder), _ON_RESUME
    # A script may repeat its own call.
    if recipe_digest(load_recipe(recipe_path, settings, base)) == record.digests.get("recipe"):
        taken = taken | _OF_RECIPE
    if call.params["seeds"] == record.number:
        taken = taken | {"seeds"}
    for option in call.command.params:
        is_given = call.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        if is_given and option.name not in taken:
            raise click.UsageError(f"--resume goes on with a series as it was begun: leave {option.opts[0]} out.")
    found, verb = record.kind, call.command.name
    if verb not in ("run", found):
        command = shlex.join(["train", "run", str(dataset), "--resume", "--out", str(folder)])
        raise click.UsageError(f"{folder} is no {verb}, its kind is {found}. `{command}` goes on with it.")
    return resume_series(dataset, folder, **shared)
