"""`train compare`: two models paired record by record, or several of them against one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from train.base import console
from train.cli import Loss, report_exit

if TYPE_CHECKING:
    from train.report.comparison import ComparisonTable, Side
    from train.report.model import Gate


@click.command()
@click.argument("names", metavar="MODEL MODEL...", nargs=-1, required=True)
@click.option("--against", metavar="MODEL", help="The one that the others are held against; by default the first.")
@click.option(
    "--not-worse-than", "margin", type=Loss(0, 1, min_open=True, max_open=True), metavar="LOSS",
    help="Ask whether a loss of this much, such as .02, is ruled out.",
)  # fmt: skip
@click.option(
    "--fail-on", type=click.Choice(["worse", "not-shown"]),
    help="Exit 1 when a category is worse, or (with --not-worse-than) not shown not to be.",
)  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object (schemas/comparison.schema.json).")
def command(
    names: tuple[str, ...], against: str | None, margin: float | None, fail_on: Gate | None, is_json: bool
) -> int:
    """Compare models on the records that all of them were evaluated on.

    MODEL is a run's folder, which means its tuned model, the same with :base behind it, or the folder of an evaluation
    by `train eval DATASET --with`. The table of two reads as that of a single run, with the first as base and the
    second as tuned; below it stand the validation records that went from wrong to right and back. Of more, each is held
    against the first, and p values are adjusted for all of them.

    With --not-worse-than each category and the mean are "not worse", where the 95 % interval of the change ends above
    that loss; "worse", where they are worse beyond chance and by that much; else "cannot tell".

    Records of other versions of a dataset are the same where id, category and reference are; what not all models have
    is counted and left out.

    Example: train compare runs/2026-11-24-a runs/2026-11-25-b

    Example: train compare runs/b runs/b:base runs/eval-tiny-base-4shot --against runs/b:base

    Example: train compare runs/eval-hosted runs/b --not-worse-than .02 --fail-on not-shown
    """
    if against is not None:
        names = (against, *(name for name in names if name != against))
    if len(names) < 2:
        raise click.UsageError("Name two models or more; each is a run's folder, RUN:base or an evaluation.")
    if fail_on == "not-shown" and margin is None:
        raise click.UsageError("--fail-on not-shown needs the loss to be ruled out, such as --not-worse-than .02")
    # Loaded late: the report needs numpy and pydantic, which `train --help` must not pay for.
    from train.report.comparison import compare_sides, read_side
    from train.report.comparison_table import render_table

    sides = [read_side(name) for name in names]
    if margin is not None:
        sides = [replace(side, rules=replace(side.rules, margin=margin, asks_not_worse=True)) for side in sides]
    if len(sides) > 2:
        comparison = compare_sides(sides)
        if is_json:
            console.data(json.dumps({"version": 1, "table": comparison.model_dump(mode="json")}))
        else:
            console.data(render_table(comparison, columns=console.columns()))
        return report_exit(comparison, fail_on)
    # Two runs are told as ever; what an evaluation brings with it stands beside.
    is_wider = any(side.kind != "run" for side in sides)
    return _two(sides[0], sides[1], compare_sides(sides) if is_wider else None, fail_on, is_json=is_json)


def _two(first: Side, second: Side, comparison: ComparisonTable | None, fail_on: Gate | None, *, is_json: bool) -> int:
    from train.report import Run, build_report, flip_lines, table
    from train.report.comparison import (
        has_same_general_text,
        incomplete,
        match_records,
        remarks,
        rules_of,
        side_notes,
        with_gaps,
    )
    from train.report.comparison_table import cost_lines
    from train.report.results import SPLITS

    is_same_text = has_same_general_text((first, second))
    (before, after), counts = match_records([first.records, second.records], has_general=is_same_text)
    notes = side_notes((first, second), (before, after))
    if not is_same_text and first.general_text and second.general_text:
        notes.append(f"General text is not compared: it is {first.general_text} there and {second.general_text} here.")
    rules, pairs = rules_of([first, second]), list(zip(before, after, strict=True))
    report = build_report(
        before,
        after,
        run=Run(id=f"{first.id} and {second.id}", general_text=first.general_text if is_same_text else ""),
        default_metric=set(first.default_metric) & set(second.default_metric),
        rules=rules,
        unsliced=incomplete([first, second]),
        remarks=[*remarks(counts.values()), *notes],
        is_checkpoint_chosen="run" in {first.kind, second.kind},
    )
    own = {part.split: part for part in report.splits}
    parts = [
        part for split in SPLITS
        for part in with_gaps([own.get(split)], split, (first, second), [pairs], rules) if part is not None
    ]  # fmt: skip
    lost = [row.sentence for row in parts[-1].unscored if row.sentence not in report.notes]
    # The first note says which split the verdicts are on.
    told = report.notes if parts[-1].split == report.headline else report.notes[1:]
    report = report.model_copy(update={"splits": parts, "headline": parts[-1].split, "notes": told + lost})
    if is_json:
        splits = {split: asdict(count) for split, count in sorted(counts.items())}
        document = {"version": 1, "splits": splits, "report": report.model_dump(mode="json")}
        further = {} if comparison is None else {"table": comparison.model_dump(mode="json")}
        console.data(json.dumps(document | further))
    else:
        console.data(table(report, sides=(first.name, second.name), columns=console.columns()))
        if comparison is not None:
            console.data("\n".join(["", *cost_lines(comparison, console.columns())]))
        console.data("\n".join(["", *flip_lines(report.flips)]))
    return report_exit(report, fail_on)
