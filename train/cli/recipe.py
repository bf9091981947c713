"""`train new`, `train plan` and `train preview`: a recipe, the plan of its run, and records as its model sees them."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.base import console
from train.base.errors import Exit, TrainError
from train.cli import cli, takes_a_recipe

if TYPE_CHECKING:
    from train.data.dataset import Row
    from train.data.rendering import Renderer
    from train.recipe import Recipe


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set one key, such as method=full.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def new(file: Path | None, settings: tuple[str, ...], force: bool) -> None:
    """Write a commented recipe to FILE, or to stdout.

    It has every key, its meaning and its default.

    Nothing is done against forgetting unless mixing.replay names replay text to mix in, or guard.general a limit.

    Example: train new recipe.toml --set method=full --set guard.general=0.05
    """
    # pydantic takes a tenth of a second, which the other commands need not pay.
    from train.recipe import load_recipe, recipe_toml

    text = recipe_toml(load_recipe(None, settings))
    if file is None:
        console.data(text.rstrip("\n"))
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        hint = "; --force overwrites it" if isinstance(error, FileExistsError) else ""
        raise click.UsageError(f"{file}: {error.strerror}{hint}") from None
    console.info(f"wrote {file}; use it with: train run DATASET --recipe {console.typed(file)}")


@cli.command()
@takes_a_recipe
@click.option(
    "--memory", type=click.FloatRange(min=0, min_open=True), metavar="GB",
    help="Check against this many GB, such as 80, instead of this machine's.",
)  # fmt: skip
@click.option("--cost-per-hour", type=click.FloatRange(min=0), metavar="X", help="Price of an hour of this machine.")
@click.option(
    "--measure/--no-measure", "is_measured", default=True,
    help="Run three steps to calibrate memory and time.",
)  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def plan(
    dataset: Path, recipe: Path | None, settings: tuple[str, ...], base: str | None, memory: float | None,
    cost_per_hour: float | None, is_measured: bool, is_json: bool,
) -> None:  # fmt: skip
    """Say the steps, memory, time and price of a run on DATASET.

    Example: train plan my-data/dataset/v1 --memory 24 --cost-per-hour 1.20
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    from train.pipeline.plan import make_plan, plan_facts
    from train.pipeline.prepare import add_adapters, prepare
    from train.recipe import load_recipe
    from train.recipe.schedule import describe_protection

    loaded = load_recipe(recipe, settings, base)
    if loaded.stage:
        console.info("this is the plan of one run; `train run --dry-run` prices the stages of the recipe")
    prepared = prepare(dataset, loaded, folder=recipe.parent if recipe else None)
    planned = make_plan(
        add_adapters(prepared), prepared.steps, prepared.placement, is_measured=is_measured,
        memory_bytes=None if memory is None else int(memory * 1e9), cost_per_hour=cost_per_hour,
    )  # fmt: skip
    protected = console.one_line(describe_protection(loaded))
    lines = [f"{name:<11} {text}" for name, text in [*plan_facts(planned).items(), ("forgetting", protected)] if text]
    document = planned | {"forgetting": protected}
    console.data(json.dumps(document, indent=1) if is_json else "\n".join(lines))


@cli.command()
@takes_a_recipe
@click.option("--id", "ids", multiple=True, help="Show this record; may be given more than once.")
@click.option("--split", default="train", show_default=True, type=click.Choice(["train", "validation", "test"]))
@click.option(
    "-n", "--number", default=1, show_default=True, type=click.IntRange(1, 1000), help="Records to show without --id."
)
@click.option("--ids", "has_ids", is_flag=True, help="Show a token a line, with its id.")
def preview(
    dataset: Path, recipe: Path | None, settings: tuple[str, ...], base: str | None, ids: tuple[str, ...], split: str,
    number: int, has_ids: bool,
) -> Exit:  # fmt: skip
    """Show records of DATASET as the model sees them, token by token.

    A record that a run would refuse, or whose answer is cut, is named with the reason, and makes the exit code 2.

    DATASET "-" reads rows, as `curate export` writes them, from stdin, and prints a JSON object of each: how many
    tokens it has, and which are trained. One that cannot be rendered has a "fault", and the exit code is 0.

    Example: train preview my-data/dataset/v1 --id ticket-17
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    from train.data.dataset import open_dataset
    from train.data.rendering import RowFault
    from train.pipeline.prepare import open_renderer
    from train.recipe import PREFERENCES, load_recipe

    loaded = load_recipe(recipe, settings, base)
    if str(dataset) == "-":
        _print_lengths(loaded)
        return Exit.OK
    opened = open_dataset(dataset)
    renderer = open_renderer(opened, loaded, folder=recipe.parent if recipe else None)
    rows = opened.splits[split][:number]
    if ids:
        rows = [row for part in opened.splits.values() for row in part if row.id in ids]
    if missing := sorted(set(ids) - {row.id for row in rows if ids}):
        raise click.UsageError(f"no record {', '.join(missing)} in {dataset}")
    if renderer.objective in PREFERENCES:
        # Both sides of a pair are trained.
        rows = [side for row in rows for side in (row.with_trained_answer, row.rejected) if side is not None]
    code = Exit.OK
    for row in rows:
        try:
            if _show(row, renderer, has_ids=has_ids):
                code = Exit.USAGE
        except RowFault as fault:
            console.error(fault.code, f"record {console.one_line(row.id)}: {fault.reason}")
            code = Exit.USAGE
    return code


def _print_lengths(recipe: Recipe) -> None:
    # The lengths of the rows on stdin, uncut, as `schemas/lengths.schema.json` says. They need no dataset around them.
    from train.base.strict_json import read_text_field
    from train.data.dataset import parse_row_line
    from train.data.rendering import Renderer
    from train.model import load_tokenizer

    objective = "chat" if recipe.objective == "auto" else recipe.objective
    renderer = Renderer(
        load_tokenizer(recipe.base)[0], objective, reasoning=recipe.reasoning,
        allow_special_tokens=recipe.allow_special_tokens,
    )  # fmt: skip
    for warning in renderer.warnings:
        console.info(f"warning: {warning}")
    for number, line in enumerate(sys.stdin.buffer, 1):
        if not line.strip():
            continue
        at, fault, mask = f"stdin:{number}", "", list[bool]()
        try:
            mask = renderer.render_uncut(parse_row_line(line, at)).mask
        except TrainError as error:
            fault = error.message
        edges = [n for n, pair in enumerate(zip([False, *mask], [*mask, False], strict=True)) if pair[0] != pair[1]]
        runs = list(zip(edges[::2], edges[1::2], strict=True))
        lengths = {"tokens": len(mask), "supervised": sum(mask), "runs": runs, "fault": fault}
        console.data(json.dumps({"id": read_text_field(line, "id") or at, **lengths}, ensure_ascii=False))
        # A caller that sends rows one by one waits for each answer.
        sys.stdout.flush()


def _show(row: Row, renderer: Renderer, *, has_ids: bool) -> bool:
    """Print one record and return whether its answer is cut; raises RowFault where a run would refuse it."""
    preview = renderer.preview(row)
    example, roles = preview.example, preview.roles
    lost, untrained = len(roles) - len(example.ids), preview.whole.num_supervised - example.num_supervised
    cut = f", cut by {lost}" if lost else ""
    num_reasoning = roles[: len(example.ids)].count("reasoning")
    reasoning = f", {num_reasoning} of reasoning" if num_reasoning else ""
    console.data(
        f"{console.one_line(row.id)}: {len(example.ids)} tokens{cut}, {example.num_supervised} trained{reasoning},"
        f" category {console.one_line(row.category) or '-'}"
    )
    weights = example.weights or [1.0] * len(example.ids)
    marks = [
        "" if not is_trained else "trained" if weight == 1 else f"x {weight:g}"
        for is_trained, weight in zip(example.mask, weights, strict=True)
    ]
    tokens = zip(example.ids, marks, roles, strict=False)
    # Those of one kind that follow one another, or each by itself.
    for (_, mark, role), run in groupby(enumerate(tokens), lambda pair: (has_ids and pair[0], *pair[1][1:])):
        ids = [token for _, (token, *_) in run]
        text = console.visible(renderer.encoder.decode(ids, has_control=True))
        text = text.replace("\n", "\\n").replace("\t", "\\t")
        head = f"{ids[0]:>7}  " if has_ids else ""
        console.data(f"{head}{mark:<7}  {console.visible(role):<9}  |{text}|")
    for note in preview.notes:
        console.info(f"warning: record {console.one_line(row.id)}: {note}")
    if untrained:
        fault = f"its answer is cut by {untrained} tokens, so it is trained without its end"
        console.error("E925 too-long", f"record {console.one_line(row.id)}: {fault}", "Raise max_length.")
    return untrained > 0
