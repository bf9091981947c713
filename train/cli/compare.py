"""`train compare`: the tuned models of two runs, paired record by record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from train.predictions import Scored


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--fail-on", type=click.Choice(["regressed"]), help="Exit 1 when a category is worse in SECOND.")
def command(first: Path, second: Path, fail_on: str | None) -> int:
    """Compare the tuned models of two runs on the records that both were evaluated on.

    The table reads as that of a single run, with FIRST as base and SECOND as tuned. Runs on other versions of a data
    set share the records whose id, category and reference are the same; what only one of them has is counted and left
    out.

    Example: train compare runs/2026-11-24-a runs/2026-11-25-b
    """
    # Loaded late: the report needs numpy and pydantic, which `train --help` must not pay for.
    from train import say
    from train.cli.eval import report_exit
    from train.predictions import PREDICTIONS, read_predictions
    from train.report import Run, build_report, read_report, table

    reports = [read_report(run) for run in (first, second)]
    sides = [read_predictions(run / PREDICTIONS)[1] for run in (first, second)]
    before, after, remarks = _shared(sides[0], sides[1])
    report = build_report(
        before,
        after,
        run=Run(id=f"{reports[0].run.id} and {reports[1].run.id}"),
        default_metric=set(reports[0].default_metric) & set(reports[1].default_metric),
        margin=reports[0].margin,
        fewest=reports[0].fewest,
        resamples=reports[0].resamples,
        remarks=remarks,
    )
    say.data(table(report, sides=(str(first), str(second)), columns=say.columns()))
    return report_exit(report.regressed(), fail_on)


def _shared(first: list[Scored], second: list[Scored]) -> tuple[list[Scored], list[Scored], list[str]]:
    """Return the records that both runs scored in the same way, and remarks on the others."""
    other = {(one.split, one.id): one for one in second}
    pairs = [(one, other[one.split, one.id]) for one in first if (one.split, one.id) in other]
    same = [
        (a, b)
        for a, b in pairs
        if (a.category, a.reference, a.metric, a.num_bytes) == (b.category, b.reference, b.metric, b.num_bytes)
    ]
    remarks = []
    lone = len(first) + len(second) - 2 * len(pairs)
    if lone:
        remarks.append(f"{lone} records were evaluated by one of the runs only; they are left out.")
    if len(same) < len(pairs):
        num = len(pairs) - len(same)
        remarks.append(f"{num} records changed between the runs, or are scored otherwise; they are left out.")
    return [a for a, _ in same], [b for _, b in same], remarks
