"""`train preview`: a record as the model sees it: whose text each token is, and which are trained."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.base import console
from train.base.errors import Exit
from train.cli import takes_a_recipe

if TYPE_CHECKING:
    from train.data.dataset import Row
    from train.data.rendering import Renderer

_TRAINED, _REASONING, _PLAIN = "\x1b[1;32m", "\x1b[35m", "\x1b[0m"
_ROLE = "reasoning"


@click.command("preview")
@takes_a_recipe
@click.option("--id", "ids", multiple=True, help="Show this record; may be given more than once.")
@click.option("--split", default="train", show_default=True, type=click.Choice(["train", "validation", "test"]))
@click.option(
    "-n", "--number", default=1, show_default=True, type=click.IntRange(1, 1000), help="Records to show without --id."
)
@click.option("--ids", "has_ids", is_flag=True, help="Show a token a line, with its id.")
def command(
    dataset: Path,
    recipe_path: Path | None,
    settings: tuple[str, ...],
    base: str | None,
    ids: tuple[str, ...],
    split: str,
    number: int,
    has_ids: bool,
) -> int:
    """Show records of DATASET as the model sees them: whose text each token is, and whether it is trained.

    Trained text and reasoning are marked by words, on a terminal also by colour (NO_COLOR switches it off). A record
    that a run would refuse, or whose answer is cut, is named with the reason, and makes the exit code 2.

    Example: train preview my-data/dataset/v1 --id ticket-17
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    from train.data.dataset import open_dataset
    from train.data.rendering import RowFault
    from train.pipeline.prepare import open_renderer
    from train.recipe import PREFERENCES, load_recipe

    recipe = load_recipe(recipe_path, settings, base)
    opened = open_dataset(dataset)
    renderer, _ = open_renderer(opened, recipe, folder=recipe_path.parent if recipe_path else None)
    rows = (
        [row for rows in opened.splits.values() for row in rows if row.id in ids]
        if ids
        else opened.splits[split][:number]
    )
    missing = sorted(set(ids) - {row.id for row in rows})
    if missing:
        raise click.UsageError(f"no record {', '.join(missing)} in {dataset}")
    refused = 0
    if renderer.objective in PREFERENCES:
        # Both sides of a pair are trained.
        rows = [side for row in rows for side in (row.unmasked, row.worse) if side is not None]
    for row in rows:
        try:
            refused += _show(row, renderer, has_ids=has_ids)
        except RowFault as fault:
            console.trouble(fault.code, f"record {console.one_line(row.id)}: {fault.reason}")
            refused += 1
    return Exit.USAGE if refused else Exit.OK


def _show(row: Row, renderer: Renderer, *, has_ids: bool) -> bool:
    """Print one record and return whether its answer is cut; raises RowFault where a run would refuse it."""
    preview = renderer.preview(row)
    example, roles = preview.example, preview.roles
    lost, untrained = len(roles) - len(example.ids), preview.whole.num_supervised - example.num_supervised
    cut = f", cut by {lost}" if lost else ""
    num_reasoning = roles[: len(example.ids)].count(_ROLE)
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
    tokens = list(zip(example.ids, marks, roles, strict=False))
    if has_ids:
        for token, mark, role in tokens:
            _line([token], mark, role, renderer, f"{token:>7}  ")
    else:
        for (mark, role), run in groupby(tokens, key=lambda token: token[1:]):
            _line([token for token, *_ in run], mark, role, renderer, "")
    for note in preview.notes:
        console.talk(f"warning: record {console.one_line(row.id)}: {note}")
    if untrained:
        fault = f"its answer is cut by {untrained} tokens, so it is trained without its end"
        console.trouble("E925 too-long", f"record {console.one_line(row.id)}: {fault}", "Raise max_length.")
    return untrained > 0


def _line(tokens: list[int], mark: str, role: str, renderer: Renderer, head: str) -> None:
    text = console.visible(renderer.encoder.decode(tokens, has_control=True)).replace("\n", "\\n").replace("\t", "\\t")
    # The word stands there in colour too: colour is never the only sign.
    line = f"{head}{mark:<7}  {console.visible(role):<9}  |{text}|"
    colour = (_TRAINED if mark else "") + (_REASONING if role == _ROLE else "")
    console.data(f"{colour}{line}{_PLAIN}" if colour and console.is_colour_wanted(sys.stdout) else line)
