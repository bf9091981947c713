"""`train compare`: two models paired record by record, or several of them against one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import click

from train.base import console
from train.base.errors import Exit
from train.cli import cli, loss, report_exit

if TYPE_CHECKING:
    from train.report.model import Gate


@cli.command()
@click.argument("names", metavar="MODEL MODEL...", nargs=-1)
@click.option(
    "--not-worse-than", "margin", type=loss, metavar="LOSS",
    help="Ask whether a loss of this much, such as .02, is ruled out.",
)  # fmt: skip
@click.option(
    "--fail-on", type=click.Choice(["worse", "not-shown"]),
    help="Exit 1 when a category is worse, or (with --not-worse-than) not shown not to be.",
)  # fmt: skip
@click.option(
    "--human", type=click.File("rb"), metavar="FILE",
    help="Verdicts of people, as runs/ID/human.jsonl has them: show whom they prefer.",
)  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object (schemas/report.schema.json).")
def compare(
    names: tuple[str, ...], margin: float | None, fail_on: Gate | None, human: BinaryIO | None, is_json: bool
) -> int:
    """Compare models on the records that all of them were evaluated on.

    MODEL is a run's folder, which means its tuned model, the same with :base behind it, or the folder of an evaluation
    by `train eval DATASET --with`. The table of two reads as that of a single run, with the first as base and the
    second as tuned; below it stand the validation records that went from wrong to right and back. With more than two
    models, each is compared with the first, and p values are adjusted for all of them.

    With --not-worse-than each category and the mean are "not worse", where the 95 % interval of the change ends above
    that loss; "worse", where they are worse beyond chance and by that much; else "cannot tell".

    Records of other versions of a dataset are the same where id, category and reference are; what not all models have
    is counted and left out.

    Example: train compare runs/2026-11-24-a runs/2026-11-25-b

    Example: train compare runs/b:base runs/b runs/eval-tiny-base-4shot

    Example: train compare runs/eval-hosted runs/b --not-worse-than .02 --fail-on not-shown

    Example: train compare --human runs/b/human.jsonl
    """
    if human is not None:
        if names:
            raise click.UsageError("Leave the models out: the verdicts of --human name theirs.")
        return _people(human, is_json=is_json)
    if len(names) < 2:
        raise click.UsageError("Name two models or more; each is a run's folder, RUN:base or an evaluation.")
    if fail_on == "not-shown" and margin is None:
        raise click.UsageError("--fail-on not-shown needs the loss to be ruled out, such as --not-worse-than .02")
    # Loaded late: the report needs numpy and pydantic, which `train --help` must not pay for.
    from train.report import table
    from train.report.comparison import compare_sides, read_side

    sides = [read_side(name) for name in names]
    if margin is not None:
        sides = [replace(side, rules=replace(side.rules, margin=margin, is_non_inferiority=True)) for side in sides]
    report = compare_sides(sides)
    console.data(json.dumps(report.model_dump(mode="json")) if is_json else table(report, console.columns()))
    return report_exit(report, fail_on)


def _people(human: BinaryIO, *, is_json: bool) -> int:
    from train.report.people import people_table, read_verdicts, win_rates
    from train.report.tables import to_text

    rates = win_rates(read_verdicts(human, human.name))
    document = json.dumps(rates.model_dump(mode="json"))
    console.data(document if is_json else to_text([people_table(rates)], console.columns()))
    return Exit.OK
