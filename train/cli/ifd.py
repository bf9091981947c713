"""`train ifd`: how much each prompt helps a model to expect its answer."""

from __future__ import annotations

from itertools import islice
from typing import BinaryIO

import click

from train.base import console
from train.cli import Unrendered, render_line

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

    from train.data.rendering import Renderer
    from train.evaluate.answers import Difficulty, difficulties
    from train.model import load_base

    if threads:
        torch.set_num_threads(threads)
    model, tokenizer = load_base(name)
    renderer = Renderer(tokenizer, "sft")
    for warning in renderer.warnings:
        console.talk(f"warning: {warning}")
    lines = ((number, line) for number, line in enumerate(rows, 1) if line.strip())
    while block := [render_line(line, f"row {number}", renderer) for number, line in islice(lines, _BLOCK)]:
        scored = iter(
            difficulties(model, [item for item in block if not isinstance(item, Unrendered)], most_tokens=max_length)
        )
        for item in block:
            difficulty = Difficulty(item.id, fault=item.fault) if isinstance(item, Unrendered) else next(scored)
            console.data(json.dumps(asdict(difficulty), ensure_ascii=False))
        # A caller that shows progress reads along.
        sys.stdout.flush()
