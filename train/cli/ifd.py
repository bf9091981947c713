"""`train ifd`: how much each prompt helps a model to expect its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import click

from train import say

if TYPE_CHECKING:
    from train.render import Example, Renderer

_BLOCK = 256
"""Rows that are scored together; answers come out block by block."""


@click.command("ifd")
@click.argument("rows", type=click.File("rb"))
@click.option("--model", "name", required=True, help="Folder, .gguf file or hub id of the model.")
@click.option("--max-length", type=click.IntRange(min=2), default=2048, show_default=True, help="Most tokens of a row.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default as many as a run would use.")
def command(rows: BinaryIO, name: str, max_length: int, threads: int | None) -> None:
    """Print the instruction-following difficulty of ROWS, lines as `curate export` writes them ("-" reads stdin).

    One JSON object a row, in order. A row that cannot be scored has a "fault"; it changes no exit code.

    Example: train ifd my-data/dataset/v1/train.jsonl --model samples/tiny-base
    """
    # torch and transformers take seconds to import, so only this command pays for them.
    import json
    import sys
    from dataclasses import asdict

    import torch

    from train.ifd import difficulties
    from train.model import eos_ids, load_base
    from train.render import Renderer

    if threads:
        torch.set_num_threads(threads)
    model, tokenizer = load_base(name)
    renderer = Renderer(tokenizer, "sft", stop_ids=eos_ids(model))
    for warning in renderer.warnings:
        say.talk(f"warning: {warning}")
    for block in _blocks(rows, renderer):
        examples = [one for one in block if not isinstance(one, dict)]
        scored = iter(difficulties(model, examples, most_tokens=max_length))
        for one in block:
            say.data(json.dumps(one if isinstance(one, dict) else asdict(next(scored)), ensure_ascii=False))
        # Whoever shows progress reads along.
        sys.stdout.flush()


def _blocks(rows: Iterable[bytes], renderer: Renderer) -> Iterator[list[Example | dict[str, object]]]:
    lines = ((number, line) for number, line in enumerate(rows, 1) if line.strip())
    while block := list(islice(lines, _BLOCK)):
        yield [_rendered(line, number, renderer) for number, line in block]


def _rendered(line: bytes, number: int, renderer: Renderer) -> Example | dict[str, object]:
    from dataclasses import asdict

    from train.data import read_row
    from train.errors import TrainError
    from train.ifd import Difficulty

    try:
        row = read_row(line, f"row {number}")
    except TrainError as fault:
        return asdict(Difficulty(f"row {number}", fault=fault.message))
    try:
        return renderer.whole(row)
    except TrainError as fault:
        return asdict(Difficulty(row.id, fault=fault.message))
