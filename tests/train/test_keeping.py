"""No forgetting by default: what `train new` asks, and the guard that ends a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.tiny import chat_row, some_rows, write_dataset
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.cli import new as new_module
from train.loop.checkpoint import Checkpoint
from train.pipeline.execute import start_run
from train.recipe import load_recipe
from train.recipe.forgetting import protection

FEW = {"max_steps": 4, "eval.max_new_tokens": 4, "eval.resamples": 100, "eval.fit_records": 0, "global_batch_size": 8}


def _call(*words: str, typed: str | None = None) -> Any:
    return CliRunner().invoke(cli, [*words], input=typed, standalone_mode=False)


def test_a_new_recipe_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "own.txt").write_text("the red cat sat on a mat")
    own = str(tmp_path / "texts" / "own.txt")
    for keep, replay in ((own, "texts/own.txt"), ("nothing", None)):
        file = tmp_path / "recipe.toml"
        done = _call("new", str(file), "--keep", keep, "--force")
        assert done.exception is None, done.exception
        recipe = load_recipe(file)
        assert (recipe.mixing.replay, recipe.guard.general) == (replay, 0.05 if replay else None)
    plain = _call("new", str(file), "--force")
    assert "nothing is done against forgetting: --keep FILE names text to replay" in plain.stderr
    assert load_recipe(file).mixing.replay is None
    assert "is no file" in str(_call("new", str(file), "--keep", "missing.txt", "--force").exception)
    done = _call("new", str(file), "--keep", own, "--set", "guard.general=0.2", "--force")
    assert done.exception is None
    assert load_recipe(file).guard.general == 0.2


@pytest.mark.parametrize(("typed", "replay"), [("\n", None), ("own.txt\n", "own.txt")])
def test_a_terminal_is_asked(typed: str, replay: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.txt").write_text("the red cat sat on a mat")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(new_module, "_is_terminal", lambda: True)
    done = _call("new", str(tmp_path / "r.toml"), typed=typed)
    assert "What must the model go on knowing?" in done.output
    assert load_recipe(tmp_path / "r.toml").mixing.replay == replay


@pytest.mark.ci
def test_a_run_that_forgets_is_ended_and_says_what_to_do(bases: Callable[..., Path], tmp_path: Path) -> None:
    splits = {name: some_rows(4, prefix=name) for name in ("validation", "test")}
    train = [chat_row(f"t{n}", "who", "a dog " * 5) for n in range(16)]
    dataset = write_dataset(tmp_path / "v1", splits | {"train": train})
    settings = FEW | {
        "base": str(bases()),
        "learning_rate": 0.05,
        "method": "full",
        "max_steps": 12,
        "eval_steps": 3,
        "guard.general": 0.01,
    }
    for is_resumed in (False, True):
        with pytest.raises(TrainError) as caught:
            start_run(dataset, None, settings=settings, out=tmp_path / "run", is_resumed=is_resumed)
        error = caught.value
        assert (error.code, error.exit_code) == ("E899 forgetting", Exit.FAILED)
        assert "more bits per byte after step" in error.message
        assert "and guard.general allows 1.0%" in error.message
        assert 'learning_rate = "auto"' in error.hint
        assert "--set guard.general=" in error.hint
    newest, _ = Checkpoint.newest(tmp_path / "run")
    assert newest is not None
    assert newest.step < 12
    assert f"checkpoint-{newest.step} is kept" in error.message
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "E899 forgetting")
    assert not (tmp_path / "run" / "report.json").exists()


def test_what_holds_is_said_in_words() -> None:
    plain = load_recipe(None, ["mixing.replay=own.txt", "mixing.replay_share=0.2"])
    assert protection(plain) == "20% of an epoch replay own.txt; no stop rule"
    assert protection(load_recipe(None)) == "no replay text; no stop rule"
