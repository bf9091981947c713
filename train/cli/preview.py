"""`train preview`: a record as the model sees it: whose text each token is, and which are trained."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.base import console
from train.base.errors import Exit, TrainError
from train.cli import takes_a_recipe

if TYPE_CHECKING:
    from train.data.dataset import Row
    from train.data.rendering import Example, Renderer
    from train.recipe import Recipe

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
@click.option(
    "--json", "as_json", is_flag=True, help='Print lengths, a JSON object a row; DATASET "-" reads rows of stdin.'
)
def command(
    dataset: Path,
    recipe_path: Path | None,
    settings: tuple[str, ...],
    base: str | None,
    ids: tuple[str, ...],
    split: str,
    number: int,
    *,
    has_ids: bool,
    as_json: bool,
) -> int:
    """Show records of DATASET as the model sees them: whose text each token is, and whether it is trained.

    Trained text and reasoning are marked by words, on a terminal also by colour (NO_COLOR switches it off). A record
    that a run would refuse, or whose answer is cut, is named with the reason, and makes the exit code 2. With --json
    each has its tokens, and those that are trained; one that cannot be rendered has a "fault", and the exit code is 0.

    Example: train preview my-data/dataset/v1 --id ticket-17
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    from train.data.dataset import open_dataset
    from train.data.rendering import RowFault
    from train.pipeline.prepare import open_renderer
    from train.recipe import PREFERENCES, load_recipe

    recipe = load_recipe(recipe_path, settings, base)
    if str(dataset) == "-":
        if not as_json:
            raise click.UsageError("rows of stdin have lengths alone: add --json")
        _print_lengths_of_stdin(recipe)
        return Exit.OK
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
        if as_json:
            _print_lengths(row.id, partial(renderer.whole, row), recipe)
            continue
        try:
            refused += _show(row, renderer, has_ids=has_ids)
        except RowFault as fault:
            console.trouble(fault.code, f"record {console.one_line(row.id)}: {fault.reason}")
            refused += 1
    return Exit.USAGE if refused else Exit.OK


def _print_lengths_of_stdin(recipe: Recipe) -> None:
    # Rows need no dataset around them: they are the lines that `curate export` writes.
    from train.data.dataset import read_row
    from train.data.rendering import Renderer
    from train.data.strict import text_of
    from train.model import load_tokenizer

    objective = "chat" if recipe.objective == "auto" else recipe.objective
    renderer = Renderer(
        load_tokenizer(recipe.base)[0], objective, reasoning=recipe.reasoning,
        allow_special_tokens=recipe.allow_special_tokens,
    )  # fmt: skip
    for warning in renderer.warnings:
        console.info(f"warning: {warning}")
    for number, line in enumerate(sys.stdin.buffer, 1):
        if line.strip():
            at = f"stdin:{number}"

            def render(line: bytes = line, at: str = at) -> Example:
                return renderer.whole(read_row(line, at))

            _print_lengths(text_of(line, "id") or at, render, recipe)


def _print_lengths(name: str, render: Callable[[], Example], recipe: Recipe) -> None:
    """Print the lengths of a row as `schemas/lengths.schema.json` says, uncut."""
    try:
        fault, mask = "", render().mask
    except TrainError as error:
        fault, mask = error.message, []
    edges = [n for n, (before, here) in enumerate(zip([False, *mask], [*mask, False], strict=True)) if before != here]
    left = mask if recipe.max_length == "auto" else mask[: recipe.max_length]
    lengths = {
        "id": name, "tokens": len(mask), "supervised": sum(mask), "supervised_left": sum(left),
        "prompt_tokens": edges[0] if edges else len(mask), "runs": list(zip(edges[::2], edges[1::2], strict=True)),
        "fault": fault,
    }  # fmt: skip
    console.data(json.dumps(lengths, ensure_ascii=False))
    # A caller that sends rows one by one waits for each answer.
    sys.stdout.flush()


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
        console.info(f"warning: record {console.one_line(row.id)}: {note}")
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
