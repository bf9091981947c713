"""Over-fitting: a category that is trained for twenty epochs is told, with the step and the answers known by heart."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from tests.train.finished import call
from tests.train.tiny import WORDS, chat_row, write_dataset
from train.base.errors import TrainError
from train.data.dataset import Row
from train.evaluate.predictions import VERBATIM, Scored
from train.report import Report
from train.report.diagnostics import memory_of, overfitting, read_events
from train.report.write import html, markdown


def _rows(prefix: str, answers: list[str]) -> list[Row]:
    rng = random.Random(prefix)
    return [
        chat_row(f"{prefix}{n}", f"who ran {' '.join(rng.choices(WORDS, k=3))}", answer, category="heart")
        for n, answer in enumerate(answers)
    ]


def _events(
    curves: dict[str, tuple[list[float], list[float]]], *, seed: int = 0, num: int = 20
) -> list[dict[str, Any]]:
    """Return evaluations of ``num`` records: by category the means on training and on validation at each step."""
    rng = np.random.default_rng(seed)
    own = {name: rng.normal(0, 0.3, num) for name in curves}
    steps = len(next(iter(curves.values()))[0])
    return [
        {
            "event": "eval", "step": 10 * (at + 1),
            "fit": {
                split: {
                    name: {
                        "score": [None] * num,
                        "loss": (means[side][at] + own[name] + rng.normal(0, 0.2, num)).tolist(),
                        "cluster": [f"c{n}" for n in range(num)],
                    }
                    for name, means in curves.items()
                }
                for side, split in enumerate(("train", "validation"))
            },
        }
        for at in range(steps)
    ]  # fmt: skip


def _said(report: Report, part: str) -> str:
    return " ".join(text for table in report.tables if table.part == part for text in table.sentences)


@pytest.mark.ci
def test_a_category_of_twenty_epochs_is_told(bases: Callable[..., Path], tmp_path: Path, root: Path) -> None:
    rng = random.Random(0)
    known = [" ".join(rng.choices(WORDS, k=28)) for _ in range(2)]
    splits = {name[0]: _rows(name, [" ".join(rng.choices(WORDS, k=28)) for _ in range(12)]) for name in ("v", "x")}
    dataset = write_dataset(
        tmp_path / "dataset" / "v1", {"train": _rows("t", known * 6), "validation": splits["v"], "test": splits["x"]},
        categories={"heart": {"scorer": "token_f1", "options": {}}},
    )  # fmt: skip
    run = tmp_path / "runs" / "a"
    settings = [
        "num_train_epochs=20",
        "learning_rate=0.02",
        "method=full",
        "global_batch_size=4",
        "eval_steps=6",
        "eval.max_new_tokens=40",
    ]
    words = [word for setting in [*settings, "eval.resamples=100"] for word in ("--set", setting)]
    call("run", str(dataset), "--base", str(bases()), "--out", str(run), *words)
    report = Report.load(run)
    step = re.match(r"Over-fitting: heart: from step (\d+) to ", _said(report, "over-fitting"))
    assert step is not None
    assert 6 <= int(step[1]) <= 24
    assert f"next: end there (max_steps = {step[1]})" in _said(report, "over-fitting")
    assert "known by heart: some. Of 12 the tuned model continues " in _said(report, "known by heart")
    for shown in (html(report).replace("&#39;", "'"), markdown(report).replace("\\", "")):
        assert _said(report, "over-fitting") in shown
        assert _said(report, "known by heart") in shown
    printed = " ".join(call("eval", str(run)).output.split())
    assert _said(report, "over-fitting") in printed
    assert _said(report, "known by heart") in printed
    assert Report.load(run) == report, "computed again"
    schema = json.loads((root / "schemas/metrics.schema.json").read_text(encoding="utf-8"))
    evaluations = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if '"fit"' in line]
    assert len(evaluations) == 10
    assert all(jsonschema_rs.is_valid(schema, event) for event in evaluations)
    assert not jsonschema_rs.is_valid(schema, evaluations[0] | {"fit": {"test": {}}})


@pytest.mark.ci
def test_only_what_is_trained_is_held_against_validation(bases: Callable[..., Path], tmp_path: Path) -> None:
    rng = random.Random(0)
    answers = [" ".join(rng.choices(WORDS, k=28)) for _ in range(20)]
    train, validation = _rows("t", answers[:16]), _rows("v", answers[16:])
    train[:4] = [replace(row, weight=0.0) for row in train[:4]]
    dataset = write_dataset(tmp_path / "v1", {"train": train, "validation": validation})
    words = [word for setting in ("max_steps=2", "mixing.share=0.5", "eval.max_new_tokens=4", "global_batch_size=6")
             for word in ("--set", setting)]  # fmt: skip
    call("run", str(dataset), "--base", str(bases()), "--out", str(tmp_path / "r"), *words)
    events = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    answered = {name for event in events if "fit" in event for name in event["fit"]["train"]["heart"]["cluster"]}
    feedback = [json.loads(line) for line in (tmp_path / "r" / "feedback.jsonl").read_text().splitlines()]
    assert len(answered) == 6
    assert answered == {line["id"] for line in feedback if "epochs" in line}
    assert "Of 6 the tuned model" in _said(Report.load(tmp_path / "r"), "known by heart")


def test_what_the_base_continues_too_was_not_learnt() -> None:
    def side(train: list[int]) -> list[Scored]:
        known = [("train", n, value) for n, value in enumerate(train)] + [("validation", n, 0) for n in range(40)]
        return [
            Scored(f"{split}{n}", split, "c", f"{split}{n}", "y", 1.0, 2, 3, scores={VERBATIM: float(value)})
            for split, n, value in known
        ]

    half, whole = side([1] * 20 + [0] * 20), side([1] * 40)
    same, more = (memory_of(half, side) for side in (half, whole))
    assert "known by heart: none beyond the control is shown" in same
    assert "known by heart: some. Of 40 the tuned model continues 100.0 % (95 %" in more


@pytest.mark.ci
def test_none_is_answered_where_the_recipe_says_so(bases: Callable[..., Path], dataset: Path, tmp_path: Path) -> None:
    words = [word for setting in ("max_steps=2", "eval.fit_records=0", "eval.max_new_tokens=4")
             for word in ("--set", setting)]  # fmt: skip
    call("run", str(dataset), "--base", str(bases()), "--out", str(tmp_path / "r"), *words)
    report = Report.load(tmp_path / "r")
    assert (_said(report, "over-fitting"), _said(report, "known by heart")) == ("", "")
    assert '"fit"' not in (tmp_path / "r" / "metrics.jsonl").read_text()
    assert "Over-fitting" not in html(report)


def test_the_right_category_and_step_are_named() -> None:
    falling = [2.0, 1.5, 1.0, 0.6, 0.4, 0.3]
    found = overfitting(_events({"fits": (falling, falling), "over": (falling, [2.0, 1.5, 1.4, 1.6, 2.0, 2.5])}))
    assert re.match(r"Over-fitting: over: from step 30 to 60 validation rose by 1\.[01]\d nats a token", found)
    assert "fits:" not in found
    assert "next: end there (max_steps = 30)" in found


def test_what_gets_worse_in_training_too_is_no_over_fitting() -> None:
    assert "next: lower learning_rate" in overfitting(_events({"a": ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])}))


@pytest.mark.ci
def test_the_best_of_many_steps_is_no_fall() -> None:
    flat = [1.0] * 8
    found = [overfitting(_events({"a": (flat, flat), "b": (flat, flat)}, seed=seed)) for seed in range(60)]
    assert sum("from step" in text for text in found) <= 5


def test_few_records_tell_nothing() -> None:
    found = overfitting(_events({"a": ([2.0, 1.0], [2.0, 9.0])}, num=9))
    assert "from step" not in found
    assert "Too few validation records to tell: a." in found


@pytest.mark.parametrize("fit", [{}, {"validation": {"a": {}}}, {"train": {}, "validation": {"a": {"score": [1]}}}, []])
def test_a_fit_that_is_none_is_refused_by_name(fit: Any) -> None:
    with pytest.raises(TrainError) as caught:
        overfitting([{"event": "eval", "step": 1, "fit": fit}])
    assert caught.value.code == "E939 bad-metrics"


@pytest.mark.parametrize("line", ["3", "[]", '{"event": "eval", "step": "1e", "fit": {}}'])
def test_an_event_that_is_none_is_refused_by_name(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(TrainError) as caught:
        overfitting(list(read_events(tmp_path / "metrics.jsonl")))
    assert caught.value.code == "E939 bad-metrics"
