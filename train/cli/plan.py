"""`train plan`: what a run would do and cost, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from train import say
from train.cli import takes_a_recipe


@click.command("plan")
@takes_a_recipe
@click.option("--measure/--no-measure", default=True, help="Compute a few steps here to say how long the run takes.")
@click.option("--json", "is_json", is_flag=True, help="Print the plan as JSON.")
def command(
    dataset: Path, recipe_path: Path | None, settings: tuple[str, ...], base: str | None, measure: bool, is_json: bool
) -> None:
    """Say what a run on DATASET would do: records, tokens, steps, parameters, memory and time.

    Example: train plan my-data/dataset/v1
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    import json
    from dataclasses import asdict

    from train.plan import make_plan
    from train.recipe import load_recipe
    from train.run import prepare
    from train.run.prepare import add_adapters

    recipe = load_recipe(recipe_path, settings, {"base": base})
    prepared = prepare(dataset, recipe, folder=recipe_path.parent if recipe_path else None)
    plan = make_plan(
        add_adapters(prepared), prepared.examples, prepared.steps, prepared.recipe, device=prepared.device,
        dtype=prepared.dtype, threads=prepared.threads, is_measured=measure,
    )  # fmt: skip
    say.data(json.dumps(asdict(plan), indent=1) if is_json else "\n".join(plan.lines()))
