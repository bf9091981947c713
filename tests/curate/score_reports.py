"""Reports as the trainer writes them: a few records or many, a model that forgot, and scores of an LLM judge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from train.evaluate.predictions import Scored, write_predictions
from train.recipe.schedule import Tuning
from train.report import Report, Run, build_report, write_report
from train.report.results import Rules
from train.report.series import seeds_report

TUNING = Tuning(method="full", lr=3e-3, auto_lr=1.5e-3, replay=None, replay_share=0.05)

SERIES_ID = "2026-11-24-a"


def sides(num: int, *, tuned: float, factor: float = 1.0) -> tuple[list[Scored], list[Scored]]:
    """Return the base, all wrong, and a model of mean ``tuned`` whose general text takes ``factor`` times the bits."""
    models = []
    for score, scale in ((0.0, 1.0), (tuned, factor)):
        answers = [
            Scored(f"t{n}", "test", "billing", f"t{n}", "yes", 2.0, 2, 3, "x", True, "exact", {"exact": score})
            for n in range(num)
        ]
        general = [Scored(f"g{n}", "general", "", f"g{n}", "", scale * (200 + n), 60, 150) for n in range(20)]
        models.append([*answers, *general])
    return models[0], models[1]


def write_run(folder: Path, num: int, *, tuned: float = 1.0, factor: float = 1.0) -> Path:
    """Write a finished run of ``num`` test records into ``folder`` and return it."""
    folder.mkdir(parents=True)
    base, after = sides(num, tuned=tuned, factor=factor)
    run = Run(id=folder.name, tuning=TUNING, general_text="general.jsonl")
    return _write(folder, base, after, build_report(base, after, run=run))


def _write(folder: Path, base: list[Scored], after: list[Scored], report: Report) -> Path:
    write_report(report, folder)
    write_predictions(base, after, folder)
    (folder / "feedback.jsonl").write_text("", encoding="utf-8")
    about = {"status": "finished", "recipe": {"base": "tiny-base"}, "dataset": {"name": "v1", "sha256": "0" * 64}}
    (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def write_series(runs: Path, status: str = "finished") -> Path:
    """Write a series of two seeds and its report; the second member is the one to take."""
    folder = runs / SERIES_ID
    members = []
    for seed, tuned in ((0, 0.8), (1, 1.0)):
        write_run(folder / f"seed-{seed}", 40, tuned=tuned)
        members.append({"name": f"seed-{seed}", "changes": {"seed": seed}})
    base = sides(40, tuned=1.0)[0]
    report = seeds_report(
        base, [sides(40, tuned=tuned)[1] for tuned in (0.8, 1.0)], seeds=[0, 1], selected=1, name="seed-1",
        run=Run(id=SERIES_ID), rules=Rules(resamples=200),
    )  # fmt: skip
    if status == "finished":
        write_report(report, folder)
        shutil.copy(folder / "seed-1/feedback.jsonl", folder / "feedback.jsonl")
    about = {
        "version": 1, "id": SERIES_ID, "kind": "seeds", "status": status, "created": "2026-11-24T10:00:00Z",
        "dataset": {"path": str(runs.parent / "dataset/v1"), "name": "v1", "sha256": "0" * 64},
        "recipe_folder": "/", "number": 2, "members": members,
        "selected": "seed-1" if status == "finished" else "",
    }  # fmt: skip
    (folder / "series.json").write_text(json.dumps(about), encoding="utf-8")
    return folder
