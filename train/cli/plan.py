"""`train plan`: what a run would do and cost, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from train.base import console
from train.cli import cli, takes_a_recipe


@cli.command()
@takes_a_recipe
@click.option(
    "--memory", type=click.FloatRange(min=0, min_open=True), metavar="GB",
    help="Hold the memory against this, such as 80 of an H100, not this machine's.",
)  # fmt: skip
@click.option("--cost-per-hour", type=click.FloatRange(min=0), metavar="X", help="Price of an hour of this machine.")
@click.option(
    "--measure/--no-measure", "is_measured", default=True,
    help="Compute three steps here to correct memory and say how long the run takes.",
)  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def plan(
    dataset: Path, recipe: Path | None, settings: tuple[str, ...], base: str | None, memory: float | None,
    cost_per_hour: float | None, is_measured: bool, is_json: bool,
) -> None:  # fmt: skip
    """Say what a run on DATASET would do: steps, tokens, memory, minutes, money, and what fits.

    Example: train plan my-data/dataset/v1 --memory 24 --cost-per-hour 1.20
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    import json

    from train.pipeline.plan import make_plan, plan_facts
    from train.pipeline.prepare import add_adapters, prepare
    from train.recipe import load_recipe
    from train.recipe.schedule import protection

    loaded = load_recipe(recipe, settings, base)
    if loaded.stage:
        console.info("this is the plan of one run; `train run --dry-run` prices the stages of the recipe")
    prepared = prepare(dataset, loaded, folder=recipe.parent if recipe else None)
    planned = make_plan(
        add_adapters(prepared), prepared.steps, prepared.placement, is_measured=is_measured,
        memory_bytes=None if memory is None else int(memory * 1e9), cost_per_hour=cost_per_hour,
    )  # fmt: skip
    protected = console.one_line(protection(loaded))
    lines = [f"{name:<11} {text}" for name, text in [*plan_facts(planned).items(), ("forgetting", protected)] if text]
    document = planned | {"forgetting": protected}
    console.data(json.dumps(document, indent=1) if is_json else "\n".join(lines))
