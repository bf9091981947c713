"""Predictions of two models without any model, for tests of what is made of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.base.run_folder import write_run
from train.evaluate.predictions import Scored, write_predictions
from train.report import Report, Run, build_report, write_report
from train.report.build import summary_for_run_record


def sides_of(
    category: str = "a",
    *,
    split: str = "test",
    num: int = 40,
    base: float = 0.1,
    tuned: float = 0.8,
    metric: str = "exact",
    text: str = "an answer",
    seed: int = 1,
) -> tuple[list[Scored], list[Scored]]:
    """Return predictions of the base and of the tuned model, which are right on these shares of ``num`` records."""
    rng = random.Random(f"{category}{split}{seed}".encode("utf-8", "replace"))
    sides = []
    for share in (base, tuned):
        side = []
        for number in range(num):
            score = float(number / num < share) if metric == "exact" else min(1.0, max(0.0, rng.gauss(share, 0.2)))
            scores = {
                metric: score,
                "behaviour.empty": 0.0,
                "behaviour.repetition": 0.25,
                "behaviour.length_ratio": 1.5,
            }
            side.append(
                Scored(
                    f"{category}-{split}-{number:03d}",
                    split,
                    category,
                    f"{category}{number}",
                    text,
                    10 * rng.random() + 5,
                    7,
                    20,
                    text,
                    number % 2 == 0,
                    metric,
                    scores,
                )
            )
        sides.append(side)
    return sides[0], sides[1]


def joined(*parts: tuple[list[Scored], list[Scored]]) -> tuple[list[Scored], list[Scored]]:
    """Return the two sides of many parts as two sides."""
    return [one for part in parts for one in part[0]], [one for part in parts for one in part[1]]


def report_of(base: Sequence[Scored], tuned: Sequence[Scored], **arguments: Any) -> Report:
    """Return the report of two sides."""
    return build_report(base, tuned, run=Run(id="run-1", base_model="tiny", dataset="v1"), **arguments)


def write_finished(
    folder: Path, base: Sequence[Scored], tuned: Sequence[Scored], report: Report | None = None
) -> Report:
    """Make ``folder`` a finished run of two sides, without a model, and return its report."""
    report = report or report_of(base, tuned)
    write_predictions(base, tuned, folder)
    write_report(report, folder)
    made: dict[str, Any] = {"id": "run-1", "status": "finished", "saved": "model", "examples": 1, "step": 1}
    facts = {"base": "", "tokenizer and template": ""}
    write_run(folder, {**made, "facts": facts, **summary_for_run_record(report, tuned, folder)})
    return report
