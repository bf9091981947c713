"""Reports as the trainer writes them, of one category with a few records or many, and of a model that forgot."""

from __future__ import annotations

import json
from pathlib import Path

from train.evaluate.predictions import Scored, write_predictions
from train.recipe.forgetting import Tuning
from train.report import Run, build_report, write_report

TUNING = Tuning(method="full", lr=3e-3, auto_lr=1.5e-3, replay=None, replay_share=0.05)


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
    write_report(build_report(base, after, run=run), folder)
    write_predictions(base, after, folder)
    (folder / "feedback.jsonl").write_text("", encoding="utf-8")
    about = {"status": "finished", "recipe": {"base": "tiny-base"}, "dataset": {"name": "v1", "sha256": "0" * 64}}
    (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    return folder
