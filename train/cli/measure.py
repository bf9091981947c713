"""`train measure`: how many tokens rows have for a model, and how many of them are trained under a limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from train.base import console
from train.base.errors import TrainError

if TYPE_CHECKING:
    from train.data.rendering import Renderer
    from train.recipe import Objective


@click.command("measure")
@click.argument("rows", type=click.File("rb"))
@click.option("--model", required=True, help="Folder, .gguf file or hub id of the model; its weights are not read.")
@click.option("--max-length", type=click.IntRange(min=1), help="Tokens that a trainer keeps of a row; none: all.")
@click.option(
    "--objective",
    type=click.Choice(["sft", "chat"]),
    default="chat",
    show_default=True,
    help="sft: the last answer is trained; chat: every answer.",
)
@click.option("--allow-special-tokens", is_flag=True, help="Let control tokens stand in the data, as plain text.")
def command(
    rows: BinaryIO, model: str, max_length: int | None, objective: Objective, *, allow_special_tokens: bool
) -> None:
    """Print the lengths of ROWS, lines as `curate export` writes them ("-" reads stdin): one JSON object a line.

    A row that cannot be rendered has a "fault"; it changes no exit code.

    Example: train measure my-data/dataset/v1/train.jsonl --model tiny-base
    """
    # transformers takes seconds to import, so only this command pays for it.
    import json
    import sys

    from train.data.rendering import Renderer
    from train.model import load_tokenizer

    renderer = Renderer(load_tokenizer(model)[0], objective, allow_special_tokens=allow_special_tokens)
    for warning in renderer.warnings:
        console.talk(f"warning: {warning}")
    name = Path(rows.name).name
    for number, line in enumerate(rows, 1):
        if line.strip():
            lengths = _lengths(line, f"{name}:{number}", renderer, max_length)
            console.data(json.dumps(lengths, ensure_ascii=False))
            # A caller that sends rows one by one waits for each answer.
            sys.stdout.flush()


def _lengths(line: bytes, location: str, renderer: Renderer, max_length: int | None) -> dict[str, object]:
    """A line of output; ``schemas/lengths.schema.json`` says what each number counts.

    ``location`` stands in for the id of a line without one.
    """
    from train.data.dataset import read_row
    from train.data.strict import text_of

    try:
        item = renderer.whole(read_row(line, location))
        name, fault, mask = item.id, "", item.mask
    except TrainError as error:
        name, fault, mask = text_of(line, "id") or location, error.message, []
    runs = _runs(mask)
    return {
        "id": name, "tokens": len(mask), "supervised": sum(mask), "supervised_left": sum(mask[:max_length]),
        "prompt_tokens": runs[0][0] if runs else len(mask), "runs": runs, "fault": fault,
    }  # fmt: skip


def _runs(mask: Sequence[bool]) -> list[tuple[int, int]]:
    """The [start, stop) of each run of trained tokens."""
    edges = [
        index for index, (before, here) in enumerate(zip([False, *mask], [*mask, False], strict=True)) if before != here
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))
