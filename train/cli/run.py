"""`train run`, `train curve` and `train sweep`: train on a dataset, once or as a series, and report by category."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from train.base.errors import Exit
from train.cli import cli, sharing, takes_a_recipe
from train.pipeline.trackers import TRACKERS

if TYPE_CHECKING:
    from train.model.distributed import DistributedContext

takes_a_run = sharing(
    takes_a_recipe,
    click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder; default runs/DATE-a."),
    click.option("--cache/--no-cache", "is_cached", default=True, help="Reuse cached base measurements."),
    click.option("--dry-run", "is_dry", is_flag=True, help="Check everything and say the plan; write nothing."),
    click.option(
        "--report-to", multiple=True, type=click.Choice(TRACKERS),
        help="Hand each event on to this installed tracker too; may be given more than once.",
    ),
)  # fmt: skip


@cli.command()
@takes_a_run
@click.option("--resume", is_flag=True, help="Go on with what was stopped, by default the newest run or series.")
@click.option("--force", is_flag=True, help='Resume although facts changed; the run is recorded as "not exact".')
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=1, metavar="N", help="Train with N seeds; report all as one."
)
def run(dataset: Path, resume: bool, force: bool, seeds: int, **options: Any) -> Exit:
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
    from train.pipeline.execute import start_run
    from train.pipeline.series import resume_series, start_series
    from train.recipe import load_recipe

    context = _context()
    changes = {name: options[name] for name in ("recipe", "settings", "base")}
    if resume:
        options["out"] = folder = Path(context.broadcast_object(options["out"] or newest_run(dataset)))
        is_series = (folder / SERIES).is_file()
        if seeds > 1 or (is_series and (force or options["is_dry"] or any(changes.values()))):
            raise click.UsageError("--resume goes on with a series as it was begun: give DATASET and --out alone.")
        if is_series:
            shared = {name: options[name] for name in ("is_cached", "report_to")}
            return resume_series(dataset, folder, context=context, **shared)
    elif seeds > 1 or load_recipe(*changes.values()).stage:
        return start_series("seeds", dataset, num_seeds=seeds, context=context, **options)
    return start_run(dataset, is_resumed=resume, is_forced=force, context=context, **options)[1]


def _context() -> DistributedContext:
    from train.model.distributed import SINGLE_PROCESS

    return click.get_current_context().obj or SINGLE_PROCESS


def _shares(text: str) -> dict[str, dict[str, float]]:
    try:
        shares = sorted({float(part) / 100 for part in text.split(",")})
    except ValueError:
        shares = []
    # Not above 0 refuses NaN, too.
    if len(shares) < 3 or not all(0 < share <= 1 for share in shares) or shares[-1] != 1:
        raise click.BadParameter(f"{text}: write three shares or more in per cent, 100 among them, such as 25,50,100")
    return {f"share-{100 * share:g}": {"mixing.share": share} for share in shares}


@cli.command()
@takes_a_run
@click.option("--at", "variants", type=_shares, default="25,50,100", metavar="P,P,100", help="By default 25,50,100.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs on each share.")
def curve(seeds: int, **options: Any) -> Exit:
    """Estimate, by category, what twice the records would gain.

    Trains on shares of DATASET under one recipe. A share is taken of each category, in whole clusters of repeats, and
    the smaller ones lie in the larger ones. Every run takes as many steps as the full one. The curve is that of the
    split whose verdicts count.

    Example: train curve my-data/dataset/v1 --at 25,50,100
    """
    from train.pipeline.series import start_series

    return start_series("curve", num_seeds=seeds, context=_context(), **options)


def _values(text: str) -> tuple[str, list[Any]]:
    from train.recipe import parse_value

    key, _, values = text.partition("=")
    parsed = parse_value(f"[{values}]")
    # Plain words are no TOML.
    return key.strip(), [parse_value(value) for value in values.split(",")] if isinstance(parsed, str) else parsed


@cli.command()
@takes_a_run
@click.option(
    "--grid", type=_values, multiple=True, required=True, metavar="KEY=A,B", help="Values to try; repeat for more keys."
)
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Seeds per setting.")
def sweep(grid: tuple[tuple[str, list[Any]], ...], seeds: int, **options: Any) -> Exit:
    """Try settings on DATASET and train the best of them again.

    Each combination of the values is trained with each of the seeds, and the choice is made on validation alone. The
    winner is trained again with fresh seeds, and on these runs the test split is measured, once.

    Lists are quoted, as in --grid 'lora_target_modules=["q_proj"],["q_proj","v_proj"]'.

    Example: train sweep my-data/dataset/v1 --grid learning_rate=1e-4,3e-4,1e-3 --grid lora_r=8,32
    """
    from train.pipeline.series import grid_variants, start_series

    return start_series("sweep", variants=grid_variants(grid), num_seeds=seeds, context=_context(), **options)
