"""`train launch`: the file that starts a run on a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from train.base import console
from train.cli import takes_a_recipe
from train.pipeline.launch import EMITTERS, PORT, Job


@click.command("launch")
@takes_a_recipe
@click.option("--emit", required=True, type=click.Choice(list(EMITTERS)), help="What the file is for.")
@click.option("--out", required=True, help="Folder of the run, which all nodes see; a stopped run goes on from it.")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 10_000), help="Machines.")
@click.option("--gpus", default=8, show_default=True, type=click.IntRange(1, 64), help="GPUs of each machine.")
@click.option("--name", help="Name of the job; that of the run's folder by default.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(1024, 65_535), help="Of the first node.")
@click.option("--setup", default="", help="Shell command that each node runs first, such as: source venv/bin/activate.")
@click.option("--time", "limit", default="", help="slurm: time limit, such as 24:00:00.")
@click.option("--partition", default="", help="slurm: partition.")
@click.option("--account", default="", help="slurm: account.")
@click.option("--accelerator", default="H100", show_default=True, help="sky: kind of GPU.")
@click.option("--image", default="", help="k8s: image of the container, which has train in it.")
@click.option("--volume", default="", help="k8s: volume claim that holds data and runs; sky: bucket, such as s3://b.")
@click.option("--mount", default="/data", show_default=True, help="k8s, sky: where the volume is seen.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write there instead of to stdout.")
def command(
    dataset: Path, recipe_path: Path | None, settings: tuple[str, ...], base: str | None, emit: str, out: str,
    nodes: int, gpus: int, name: str | None, port: int, setup: str, limit: str, partition: str, account: str,
    accelerator: str, image: str, volume: str, mount: str, output: Path | None,
) -> None:  # fmt: skip
    """Write the file that runs `train run DATASET` with torchrun on a cluster, and goes on where it was stopped.

    Paths go into the file as they are given here, so give them as the nodes see them.

    Example: train launch my-data/dataset/v1 --emit slurm --nodes 2 --gpus 8 --out runs/first --output first.sbatch
    """
    # pydantic takes a tenth of a second, which `train --help` need not pay.
    from train.recipe import load_recipe

    # A fault of the recipe is better said here than by a job that waited for an hour.
    load_recipe(recipe_path, settings, base)
    given = {"--recipe": None if recipe_path is None else str(recipe_path), "--base": base}
    arguments = [str(dataset)]
    arguments += [part for key, value in given.items() if value is not None for part in (key, value)]
    arguments += [part for setting in settings for part in ("--set", setting)]
    unclear = next((text for text in (*arguments, out, setup, image, volume, mount) if not text.isprintable()), None)
    if unclear is not None:
        raise click.UsageError(f"{unclear!a} has characters that no command line can show")
    job = Job(
        arguments, out, nodes, gpus, name or Path(out).name, port, setup, limit, partition, account, accelerator, image,
        volume, mount,
    )  # fmt: skip
    text = EMITTERS[emit](job)
    if output is None:
        console.data(text.rstrip("\n"))
        return
    from train.base.storage import write_whole

    write_whole(output, [text])
    console.talk(f"wrote {output}")
