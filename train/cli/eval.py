"""`train eval`: a run's report, computed again from its predictions."""

from __future__ import annotations

from pathlib import Path

import click

from train.base import console
from train.cli import report_exit


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--fail-on", type=click.Choice(["regressed"]), help="Exit 1 when a category got worse.")
@click.option(
    "--margin", type=click.FloatRange(0, 1, max_open=True), help="The loss that counts as none; the run's by default."
)
@click.option("--dry-run", is_flag=True, help="Print the table and write nothing.")
def command(run: Path, fail_on: str | None, margin: float | None, dry_run: bool) -> int:
    """Compute the report of RUN again from its predictions.jsonl, without a model, and print it.

    Numbers do not change by it unless the rules do: another margin, or a newer version of this tool. Verdicts of people
    in RUN/human.jsonl, as `curate compare --blind RUN:base RUN` writes them, are held beside those of the judge.

    Example: train eval runs/2026-11-24-a --fail-on regressed
    """
    # Loaded late: the report needs numpy and pydantic, which `train --help` must not pay for.
    from train.evaluate.predictions import FEEDBACK, PREDICTIONS, read_predictions
    from train.report import Report, build_report, read_curve, read_data_map, read_human, table, write_report

    old = Report.load(run)
    base, tuned = read_predictions(run / PREDICTIONS)
    report = build_report(
        base,
        tuned,
        run=old.run,
        curve=read_curve(run / "metrics.jsonl"),
        default_metric=old.default_metric,
        margin=old.margin if margin is None else margin,
        fewest=old.fewest,
        resamples=old.resamples,
        remarks=old.remarks,
        noise=old.noise,
        judge_summary=old.judged,
        data_map=read_data_map(run / FEEDBACK),
        human=read_human(run),
    )
    console.data(table(report, columns=console.columns()))
    if not dry_run:
        write_report(report, run)
        console.talk(f"written: {run / 'report.html'}")
    return report_exit(report.regressed(), fail_on)
