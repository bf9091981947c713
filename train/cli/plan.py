"""`train plan`: what a run would do and cost, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from train.base import console
from train.cli import takes_a_recipe

# Memory of GPUs by name, in GB as their makers count it.
GPUS = {
    "t4": 16, "l4": 24, "a10": 24, "rtx3090": 24, "rtx4090": 24, "rtx5090": 32, "v100": 32, "a100-40": 40, "l40s": 48,
    "a6000": 48, "a100": 80, "h100": 80, "h200": 141, "b200": 180,
}  # fmt: skip


@click.command("plan")
@takes_a_recipe
@click.option(
    "--gpu", metavar="NAME", help='Hold the memory against this GPU, such as "h100" or "l4", not this machine.'
)
@click.option("--memory", type=click.FloatRange(min=0, min_open=True), metavar="GB", help="The same, by size.")
@click.option("--cost-per-hour", type=click.FloatRange(min=0), metavar="X", help="Price of an hour of this machine.")
@click.option(
    "--measure/--no-measure", "is_measured", default=True,
    help="Compute three steps here to correct memory and say how long the run takes.",
)  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def command(
    dataset: Path, recipe_path: Path | None, settings: tuple[str, ...], base: str | None, gpu: str | None,
    memory: float | None, cost_per_hour: float | None, is_measured: bool, is_json: bool,
) -> None:  # fmt: skip
    """Say what a run on DATASET would do: steps, tokens, memory, minutes, money, and what fits.

    Example: train plan my-data/dataset/v1 --memory 24 --cost-per-hour 1.20
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    import json

    from train.pipeline.plan import make_plan, plan_facts
    from train.pipeline.prepare import add_adapters, prepare
    from train.recipe import load_recipe
    from train.recipe.forgetting import protection

    size = _bytes(gpu, memory)
    recipe = load_recipe(recipe_path, settings, base)
    if recipe.stage:
        console.info("this is the plan of one run; `train run --dry-run` prices the stages of the recipe")
    prepared = prepare(dataset, recipe, folder=recipe_path.parent if recipe_path else None)
    plan = make_plan(
        add_adapters(prepared), prepared.steps, prepared.placement, is_measured=is_measured, memory_bytes=size,
        cost_per_hour=cost_per_hour,
    )  # fmt: skip
    protected = console.one_line(protection(recipe))
    if is_json:
        console.data(json.dumps(plan | {"forgetting": protected}, indent=1))
        return
    for name, text in [*plan_facts(plan).items(), ("forgetting", protected)]:
        if text:
            console.data(f"{name:<11} {text}")


def _bytes(gpu: str | None, memory: float | None) -> int | None:
    if gpu is not None and memory is not None:
        raise click.UsageError("--gpu and --memory are two ways to say one thing: give one of them")
    if gpu is None:
        return None if memory is None else int(memory * 1e9)
    name = gpu.lower().replace(" ", "").removeprefix("nvidia")
    if name not in GPUS:
        raise click.UsageError(f"--gpu {gpu!r} is not known; known are {', '.join(GPUS)}; --memory GB says it by size")
    return GPUS[name] * 10**9
