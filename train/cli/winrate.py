"""`train winrate`: which of two models people prefer, from their verdicts."""

from __future__ import annotations

import json
from typing import BinaryIO

import click

from train.base import console


@click.command("winrate")
@click.argument("verdicts", type=click.File("rb"))
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object, schemas/winrate.schema.json.")
def command(verdicts: BinaryIO, is_json: bool) -> None:
    """Print the win rates of VERDICTS, lines of JSON as runs/ID/human.jsonl has them ("-" reads stdin).

    By category: how often the second model is preferred, with ties as half a win, with an interval that counts clusters
    of repeats once; and whether the first shown or the longer answer won more often than chance.

    Example: train winrate runs/2026-11-24-a/human.jsonl
    """
    # Loaded late: intervals need numpy, which `train --help` must not pay for.
    from train.report.winrate import read_verdicts, render, win_rates

    rates = win_rates(read_verdicts(verdicts, verdicts.name))
    console.data(json.dumps(rates.model_dump(mode="json")) if is_json else render(rates, console.columns()))
