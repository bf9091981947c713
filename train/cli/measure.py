"""`train measure`: how many tokens rows have for a model, and how many of them are trained under a limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from train import say

if TYPE_CHECKING:
    from train.recipe import Objective
    from train.render import Lengths, Renderer


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
    from dataclasses import asdict

    from train.model import load_tokenizer
    from train.render import Renderer

    tokenizer, stop_ids = load_tokenizer(model)
    renderer = Renderer(tokenizer, objective, allow_special_tokens=allow_special_tokens, stop_ids=stop_ids)
    for warning in renderer.warnings:
        say.talk(f"warning: {warning}")
    name = Path(rows.name).name
    for number, line in enumerate(rows, 1):
        if line.strip():
            say.data(json.dumps(asdict(_measured(line, f"{name}:{number}", renderer, max_length)), ensure_ascii=False))
            # Whoever sends the rows one by one waits for the answer to each.
            sys.stdout.flush()


def _measured(line: bytes, place: str, renderer: Renderer, max_length: int | None) -> Lengths:
    from train.data import read_row
    from train.errors import TrainError
    from train.render import Lengths, lengths_of

    try:
        return lengths_of(renderer.whole(read_row(line, place)), max_length)
    except TrainError as fault:
        return Lengths(_name(line) or place, fault=fault.message)


def _name(line: bytes) -> str:
    """Return the id of a row that may not be one, "" where it has none."""
    import json

    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    name = value.get("id") if isinstance(value, dict) else None
    return name if isinstance(name, str) else ""
