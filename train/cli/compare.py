"""`train compare`: the tuned models of two runs, paired record by record."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.base import console
from train.cli import report_exit

if TYPE_CHECKING:
    from train.evaluate.predictions import Scored


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--fail-on", type=click.Choice(["regressed"]), help="Exit 1 when a category is worse in SECOND.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object: the counts of each split and the report.")
def command(first: Path, second: Path, fail_on: str | None, is_json: bool) -> int:
    """Compare the tuned models of two runs on the records that both were evaluated on.

    The table reads as that of a single run, with FIRST as base and SECOND as tuned; below it stand the validation
    records that went from wrong to right and back. Runs on other versions of a dataset share the records whose id,
    category and reference are the same; what only one of them has is counted and left out.

    Example: train compare runs/2026-11-24-a runs/2026-11-25-b
    """
    # Loaded late: the report needs numpy and pydantic, which `train --help` must not pay for.
    from train.evaluate.predictions import PREDICTIONS, read_predictions
    from train.report import Report, Run, build_report, flip_lines, table

    reports = [Report.load(run) for run in (first, second)]
    general_texts = {report.run.general_text for report in reports}
    sides = [read_predictions(run / PREDICTIONS)[1] for run in (first, second)]
    before, after, counts = match_records(sides[0], sides[1])
    report = build_report(
        before,
        after,
        run=Run(
            id=f"{reports[0].run.id} and {reports[1].run.id}",
            general_text=general_texts.pop() if len(general_texts) == 1 else "",
        ),
        default_metric=set(reports[0].default_metric) & set(reports[1].default_metric),
        margin=reports[0].margin,
        fewest=reports[0].fewest,
        resamples=reports[0].resamples,
        remarks=_remarks(counts.values()),
    )
    if is_json:
        splits = {split: asdict(count) for split, count in sorted(counts.items())}
        console.data(json.dumps({"version": 1, "splits": splits, "report": report.model_dump(mode="json")}))
    else:
        console.data(table(report, sides=(str(first), str(second)), columns=console.columns()))
        console.data("\n".join(["", *flip_lines(report.flips)]))
    return report_exit(report.regressed(), fail_on)


@dataclass
class Counts:
    """Of one split: records in both runs, in one of them only, in both but not comparable, and without a score."""

    shared: int = 0
    lone: int = 0
    changed: int = 0
    unscored: int = 0


def match_records(first: list[Scored], second: list[Scored]) -> tuple[list[Scored], list[Scored], dict[str, Counts]]:
    """Return the records that both runs scored in the same way, side by side, and how many there are by split."""
    other = {(record.split, record.id): record for record in second}
    before: list[Scored] = []
    after: list[Scored] = []
    counts: dict[str, Counts] = defaultdict(Counts)
    for record in first:
        twin = other.pop((record.split, record.id), None)
        count = counts[record.split]
        if twin is None:
            count.lone += 1
        elif _key(record) != _key(twin):
            count.changed += 1
        else:
            count.shared += 1
            count.unscored += record.score is None or twin.score is None
            before.append(record)
            after.append(twin)
    for split, _ in other:
        counts[split].lone += 1
    return before, after, counts


def _key(record: Scored) -> tuple[object, ...]:
    """What must be the same for two scores to be comparable."""
    return record.category, record.reference, record.metric, record.num_bytes


def _remarks(counts: Collection[Counts]) -> list[str]:
    lone, changed = sum(count.lone for count in counts), sum(count.changed for count in counts)
    remarks = []
    if lone:
        remarks.append(f"{lone} records were evaluated by one of the runs only; they are left out.")
    if changed:
        remarks.append(f"{changed} records changed between the runs, or are scored otherwise; they are left out.")
    return remarks
