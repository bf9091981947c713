"""The guard that ends a run that forgets, and what a recipe does against it in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.tiny import chat_row, some_rows, write_dataset
from train.base.errors import Exit, TrainError
from train.loop.checkpoint import Checkpoint
from train.pipeline.execute import start_run
from train.recipe import load_recipe
from train.recipe.schedule import describe_protection

FEW = {"max_steps": 4, "eval.max_new_tokens": 4, "eval.resamples": 100, "eval.fit_records": 0, "global_batch_size": 8}


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
    assert describe_protection(plain) == "20% of an epoch replay own.txt; no stop rule"
    assert describe_protection(load_recipe(None)) == "no replay text; no stop rule"
