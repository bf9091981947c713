"""A run's report, computed again: from predictions.jsonl, and from what run.json keeps of the report beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from train.base.errors import TrainError, validation_fault
from train.base.run_folder import RUN, digests, write_run
from train.evaluate.predictions import FEEDBACK, PREDICTIONS, Scored, rewrite_feedback, write_predictions
from train.report.build import build_report, read_data_map
from train.report.calibration import read_human
from train.report.model import REPORT, CategoryFit, JudgeSummary, Memorised, Noise, Report, ReportPart, Run
from train.report.results import Rules
from train.report.write import read_curve, write_report


class Measured(ReportPart):
    """What predictions do not tell; run.json keeps it, so that no report is made of another one."""

    run: Run
    default_metric: list[str]
    margin: float
    fewest: int
    resamples: int
    remarks: list[str]
    noise: Noise | None
    judged: JudgeSummary | None
    fits: list[CategoryFit]
    memory: Memorised | None


def kept_of(report: Report, tuned: Sequence[Scored], run: Path) -> dict[str, Any]:
    """Return what run.json keeps of the report and the predictions in ``run``: digests, numbers, what was measured."""
    return {
        "results": {row.category: row.verdict for row in report.main().categories},
        "report": report.model_dump(mode="json", include=set(Measured.model_fields)),
        "records": Counter(record.split for record in tuned if record.split != "train"),
        "files": digests(run, PREDICTIONS, REPORT),
    }


def read_measured(run: Path, record: dict[str, Any]) -> Measured:
    """Return what ``record``, the run's run.json, keeps of its report; raises TrainError "E938 bad-report"."""
    try:
        return Measured.model_validate(record.get("report"))
    except ValidationError as error:
        raise TrainError("E938 bad-report", f"{run / RUN}: report: {validation_fault(error)}", "Train again.") from None


def compute_again(run: Path, measured: Measured, sides: tuple[Sequence[Scored], Sequence[Scored]]) -> Report:
    """Return the report of ``run`` on ``sides``; raises TrainError as `build_report` does."""
    own = dict(measured)
    rules = Rules(*(own.pop(name) for name in ("margin", "fewest", "resamples")))
    return build_report(
        *sides, rules=rules, judge_summary=own.pop("judged"), curve=read_curve(run / "metrics.jsonl"),
        data_map=read_data_map(run / FEEDBACK), human=read_human(run), **own,
    )  # fmt: skip


def write_again(
    report: Report, run: Path, record: dict[str, Any], sides: tuple[Sequence[Scored], Sequence[Scored]], *,
    is_rescored: bool,
) -> None:  # fmt: skip
    """Write the report of ``run``, before it the predictions where they ``is_rescored``, and run.json last.

    Until then run.json has no digest of what is being written, so that nobody takes it who finds it after a kill.
    """
    files = {} if is_rescored else digests(run, PREDICTIONS)
    write_run(run, record | {"files": files})
    if is_rescored:
        write_predictions(*sides, run)
        rewrite_feedback(*sides, run)
    write_report(report, run)
    write_run(run, record | kept_of(report, sides[1], run))
