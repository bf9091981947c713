"""The guard: it is off by default, stops for a reason that it says, and keeps the look that the run was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.tiny import make_model, make_tokenizer, sha256_of_tensors, some_rows, steps_of, write_dataset
from train.base.errors import Exit, TrainError
from train.data.rendering import Renderer
from train.evaluate.predictions import ValidationScore
from train.loop import EarlyStopping, FitResult, Validation, fit, trainable_tensors
from train.loop.checkpoint import Checkpoint
from train.pipeline import measuring
from train.pipeline.execute import start_run
from train.pipeline.export import export_run, open_source
from train.recipe import GuardRecipe, Recipe, build_recipe, recipe_toml

EXAMPLES = Renderer(make_tokenizer(), "chat", 256).render(some_rows(16)).examples
BASE = {"cats": 0.5, "dogs": 0.2}
OF_BASE = ValidationScore(None, 1.0, BASE)


def _looks(*scores: tuple[float, float]) -> list[ValidationScore]:
    return [ValidationScore((c + d) / 2, 1.0, {"cats": c, "dogs": d}) for c, d in scores]


def _fit(
    run: Path, scores: list[tuple[float, float]], guard: dict[str, Any], resume: Checkpoint | None = None
) -> tuple[Any, FitResult]:
    run.mkdir(exist_ok=True)
    looks = _looks(*scores)
    recipe = build_recipe({
        "global_batch_size": 8, "max_steps": 12, "method": "full", "learning_rate": 5e-3, "guard": guard,
        "eval_steps": 2, "save_steps": 2, "save_total_limit": 9,
    })  # fmt: skip
    model = make_model()
    validation = Validation(lambda step: looks[step // 2 - 1], OF_BASE)
    return model, fit(model, steps_of(model, EXAMPLES, recipe), run, resume=resume, validation=validation)


def _events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_category_that_stays_below_the_base_stops_the_run() -> None:
    guard = EarlyStopping(GuardRecipe(regress=0.1, patience=2), OF_BASE)
    looks = _looks((0.3, 0.9), (0.45, 0.9), (0.35, 0.9), (0.3, 0.9))
    assert guard.regressed_categories(looks) == [{"cats"}, set(), {"cats"}, {"cats"}]
    assert [guard.stop_reason(looks[:n]) for n in range(1, 4)] == [None] * 3
    assert guard.stop_reason(looks) == "cats scored more than 0.1 below the base in 2 validations"
    assert guard.stop_reason(_looks((0.3, 0.2), (0.6, 0.05))) is None, "another category each time is no trend"
    assert guard.stop_reason(_looks((0.4, 0.1), (0.4, 0.1))) is None, "at the margin is not beyond it"


def test_against_best_counts_what_the_run_had_reached() -> None:
    looks = _looks((0.9, 0.2), (0.6, 0.2), (0.6, 0.2))
    assert EarlyStopping(GuardRecipe(regress=0.1, patience=2), OF_BASE).stop_reason(looks) is None
    found = EarlyStopping(GuardRecipe(regress=0.1, patience=2, against="best"), OF_BASE).stop_reason(looks)
    assert found == "cats scored more than 0.1 below their best in 2 validations"


def test_a_plateau_is_as_many_looks_without_a_better_one() -> None:
    guard = EarlyStopping(GuardRecipe(plateau=True, patience=2), OF_BASE)
    assert guard.stop_reason(_looks((0.5, 0.5), (0.4, 0.4))) is None
    assert guard.stop_reason(_looks((0.5, 0.5), (0.4, 0.4), (0.6, 0.5))) is None
    assert (
        guard.stop_reason(_looks((0.5, 0.5), (0.4, 0.4), (0.5, 0.5))) == "validation did not improve in 2 evaluations"
    )
    slow = [ValidationScore(None, loss) for loss in (1.0, 0.9, 0.8, 0.7)]
    assert guard.stop_reason(slow) is None, "without scores the loss tells"


def test_the_best_look_has_no_fallen_category_where_there_is_one() -> None:
    looks = _looks((0.3, 0.9), (0.45, 0.3), (0.3, 1.0), (0.5, 0.3))
    guarded, free = (
        EarlyStopping(GuardRecipe(regress=0.1), OF_BASE),
        EarlyStopping(GuardRecipe(), OF_BASE),
    )
    assert [guarded.is_best(looks[:n]) for n in range(1, 5)] == [True, True, False, True]
    assert [free.is_best(looks[:n]) for n in range(1, 5)] == [True, False, True, False]


def test_a_guarded_run_ends_early_and_says_so_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = [(0.6, 0.3), (0.3, 0.9), (0.3, 0.9), (0.3, 0.9), (0.3, 0.9), (0.3, 0.9)]
    _, result = _fit(tmp_path, scores, {"regress": 0.1, "patience": 2})
    assert (result.step, result.num_steps, result.best_step, result.stop_code) == (6, 12, 2, None)
    assert result.early_stop == "cats scored more than 0.1 below the base in 2 validations"
    assert [(event["step"], event["early_stop"]) for event in _events(tmp_path, "end")] == [(6, result.early_stop)]
    assert "early stopping at step 6 of 12" in capsys.readouterr().err
    newest, faults = Checkpoint.newest(tmp_path)
    assert (newest and newest.step, faults) == (6, [])
    _, again = _fit(tmp_path, scores, {"regress": 0.1, "patience": 2}, resume=newest)
    assert (again.step, again.early_stop) == (6, result.early_stop), "what it ended for still stands when it is resumed"


@pytest.mark.ci
def test_off_by_default_and_the_same_after_a_resume(tmp_path: Path) -> None:
    scores = [(0.6, 0.3), (0.1, 0.1), (0.6, 0.6), (0.1, 0.1), (0.1, 0.1), (0.1, 0.1)]
    assert _fit(tmp_path / "off", scores, {})[1].step == 12
    guard = {"regress": 0.1, "patience": 3}
    whole, result = _fit(tmp_path / "whole", [*scores[:5], (0.7, 0.7)], guard)
    assert result.early_stop is None, "the last step is no early stop"
    resumed, again = _fit(
        tmp_path / "again", [*scores[:5], (0.7, 0.7)], guard, resume=Checkpoint.read(tmp_path / "whole/checkpoint-8")
    )
    assert again.best_step == result.best_step
    assert sha256_of_tensors(trainable_tensors(resumed)) == sha256_of_tensors(trainable_tensors(whole))
    early = _fit(tmp_path / "b", [*scores[:3], *[(0.1, 0.1)] * 3], guard | {"patience": 2})[1]
    part = Checkpoint.read(tmp_path / "b/checkpoint-8")
    late = _fit(tmp_path / "c", [*scores[:3], *[(0.1, 0.1)] * 3], guard | {"patience": 2}, resume=part)[1]
    assert (early.step, late.step) == (10, 10), "looks before the checkpoint count after it"


@pytest.mark.ci
def test_a_guarded_run_takes_the_best_and_ends_with_zero(
    tmp_path: Path, bases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {name: some_rows(4, prefix=name) for name in ("validation", "test")} | {"train": some_rows(16)}
    dataset = write_dataset(tmp_path / "v1", splits)
    # The first is the base's.
    evaluations = iter([ValidationScore(score, 1.0, {"cats": score}) for score in (0.1, 0.9, 0.5, 0.4, 0.3)])
    monkeypatch.setattr(measuring, "summarise_validation", lambda *_: next(evaluations))
    recipe = build_recipe({
        "base": str(bases()), "max_steps": 8, "global_batch_size": 4, "device": "cpu",
        "guard": {"plateau": True, "patience": 2},
        "eval_steps": 1, "eval": {"max_new_tokens": 4},
        "mixing": {"replay": "text.txt"},
    })  # fmt: skip
    (tmp_path / "text.txt").write_text("the red cat sat on a mat")
    file = tmp_path / "recipe.toml"
    file.write_text(recipe_toml(recipe), encoding="utf-8")
    assert start_run(dataset, file, out=tmp_path / "run")[1] is Exit.OK
    export_run(open_source(tmp_path / "run"), "adapter", tmp_path / "out", num_compared=0)
    kept, exported = ((folder / "README.md").read_text() for folder in (tmp_path / "run/adapter", tmp_path / "out"))
    assert kept == exported
    assert "(16 records, " in kept, "replayed text is no record"
    assert "\n- 3 steps, " in kept
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["step"], record["steps"], record["taken_step"]) == ("finished", 3, 8, 1)
    assert record["early_stop"] == "validation did not improve in 2 evaluations"
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "validation did not improve" in report["run"]["settings"]["early stop"]


@pytest.mark.ci
def test_a_guard_that_comes_too_late_is_said_before_the_training(
    tmp_path: Path, bases: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = {name: some_rows(2, prefix=name) for name in ("validation", "test")} | {"train": some_rows(8)}
    dataset = write_dataset(tmp_path / "v1", splits)
    values = {
        "base": str(bases()),
        "max_steps": 4,
        "global_batch_size": 2,
        "device": "cpu",
        "eval": {"max_new_tokens": 2},
    }
    for name, guard, is_late in (("a", {"plateau": True, "general": 9}, True), ("b", {"regress": 0.9}, False)):
        assert start_run(dataset, build_recipe({**values, "guard": guard}), out=tmp_path / name)[1] is Exit.OK
        said = capsys.readouterr().err
        assert ("guard.plateau needs 4 evaluations and the run has 3" in said) == is_late
        assert said.count("so it stops nothing") == is_late


@pytest.mark.ci
def test_a_guard_with_nothing_to_look_at_is_refused(tmp_path: Path, bases: Any) -> None:
    with pytest.raises(TrainError, match=r"eval.during_training is 0"):
        build_recipe({"guard": {"plateau": True}, "eval": {"during_training": 0}})
    dataset = write_dataset(tmp_path / "v1", {"train": some_rows(4), "test": some_rows(2, prefix="x")})
    recipe = Recipe.model_validate({"base": str(bases()), "max_steps": 1, "device": "cpu", "guard": {"regress": 0.1}})
    with pytest.raises(TrainError, match="no validation record with a score"):
        start_run(dataset, recipe, out=tmp_path / "run")
    dataset = write_dataset(tmp_path / "v2", {"train": some_rows(4), "validation": some_rows(2, prefix="x")})
    values = {"base": str(bases()), "max_steps": 1, "max_length": 60, "on_too_long": "skip", "guard": {"general": 0.1}}
    with pytest.raises(TrainError, match="the guard has no general text: all of it is over max_length"):
        start_run(dataset, build_recipe({**values, "eval": {"max_new_tokens": 2}}), out=tmp_path / "b")
