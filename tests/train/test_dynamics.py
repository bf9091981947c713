"""How a run learnt each record: the same numbers as one forward pass a record and epoch, and the same after a stop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.tiny import make_model, make_tokenizer, some_rows, steps_of
from train.base.errors import TrainError
from train.data.rendering import Example, Renderer
from train.evaluate.dynamics import DynamicsMeter
from train.loop import FitResult, fit
from train.loop.checkpoint import Checkpoint
from train.model.loss import nll_per_example
from train.recipe import build_recipe

EXAMPLES: list[Example] = Renderer(make_tokenizer(), "chat", 256).render(some_rows(20)).examples


def _fit(run: Path, **changes: Any) -> tuple[Any, FitResult]:
    resume = changes.pop("resume", None)
    recipe = build_recipe(
        {"global_batch_size": 8, "num_train_epochs": 3, "learning_rate": 5e-3, "method": "full", **changes}
    )
    run.mkdir(exist_ok=True)
    model = make_model()
    return model, fit(model, steps_of(model, EXAMPLES, recipe), run, resume=resume)


def test_a_frozen_run_sees_what_a_forward_pass_of_each_record_sees(tmp_path: Path) -> None:
    """With a rate of nothing every epoch is alike: the mean is the likelihood itself, and nothing varies."""
    model, result = _fit(tmp_path, learning_rate=1e-30, micro_batch_tokens=64)
    wanted = {one.id: -one.nll / one.num_tokens for one in nll_per_example(model, EXAMPLES)}
    assert [one.id for one in result.dynamics] == [example.id for example in EXAMPLES]
    for one in result.dynamics:
        assert one.epochs == 3
        assert one.confidence == pytest.approx(wanted[one.id], abs=1e-5)
        assert one.variability == pytest.approx(0, abs=1e-4)


def test_the_running_moments_are_numpys() -> None:
    rng = np.random.default_rng(3)
    sizes = [3, 1, 5]
    dynamics = DynamicsMeter(sizes, "cpu")
    seen: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    for _ in range(6):
        dynamics.begin_step([2, 0, 1])
        for places in ([2, 0], [1]):
            drawn = [rng.exponential(1.0, sizes[place]) for place in places]
            owners = np.repeat(np.arange(len(places)), [sizes[place] for place in places])
            dynamics.add(places, torch.tensor(owners), torch.tensor(np.concatenate(drawn), dtype=torch.float32))
            for place, nlls in zip(places, drawn, strict=True):
                seen[place].append(nlls)
        dynamics.end_step(lambda values: values)
    for place, one in enumerate(dynamics.by_record([("a", "x"), ("b", "x"), ("c", "y")])):
        means = [-nlls.mean() for nlls in seen[place]]
        assert one.confidence == pytest.approx(np.mean(means), rel=1e-5)
        assert one.variability == pytest.approx(np.std(means), rel=1e-4)
        likely = [(nlls < math.log(2)).mean() for nlls in seen[place]]
        assert one.correctness == pytest.approx(np.mean(likely), rel=1e-5)


def test_a_record_that_was_never_trained_is_not_told_of_and_one_epoch_has_no_spread(tmp_path: Path) -> None:
    _, result = _fit(tmp_path, max_steps=1)
    assert len(result.dynamics) == 8
    assert all(one.epochs == 1 and one.variability is None for one in result.dynamics)


@pytest.mark.ci
def test_learning_is_seen(tmp_path: Path) -> None:
    _, early = _fit(tmp_path / "early", num_train_epochs=1)
    _, late = _fit(tmp_path / "late", num_train_epochs=40, learning_rate=2e-2)
    assert np.mean([one.confidence for one in late.dynamics]) > np.mean([one.confidence for one in early.dynamics])
    assert np.mean([one.correctness for one in late.dynamics]) > np.mean([one.correctness for one in early.dynamics])
    assert all(one.variability and one.variability > 0 for one in late.dynamics)


@pytest.mark.ci
def test_a_resumed_run_tells_the_same(tmp_path: Path) -> None:
    changes = {"save_steps": 2, "save_total_limit": 9}
    _, whole = _fit(tmp_path / "whole", **changes)
    checkpoint = Checkpoint.read(tmp_path / "whole" / "checkpoint-4")
    _, resumed = _fit(tmp_path / "again", **changes, resume=checkpoint)
    assert resumed.dynamics == whole.dynamics


@pytest.mark.ci
def test_a_checkpoint_of_other_records_is_taken_by_force_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fit(tmp_path / "whole", save_steps=2, save_total_limit=9)
    checkpoint = Checkpoint.read(tmp_path / "whole" / "checkpoint-4")
    monkeypatch.setattr(DynamicsMeter, "restore", lambda *_: False)
    _, resumed = _fit(tmp_path / "again", save_steps=2, save_total_limit=9, resume=checkpoint)
    assert "no learning dynamics" in capsys.readouterr().err
    assert max(one.epochs for one in resumed.dynamics) == 2


def test_damaged_dynamics_damage_the_checkpoint(tmp_path: Path) -> None:
    _fit(tmp_path / "whole", max_steps=1)
    file = tmp_path / "whole" / "checkpoint-1" / "dynamics.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TrainError, match=r"dynamics.safetensors was cut") as caught:
        Checkpoint.read(file.parent)
    assert caught.value.code == "E951 checkpoint-damaged"


def test_dynamics_of_other_records_are_not_taken() -> None:
    one, other = DynamicsMeter([3, 4], "cpu"), DynamicsMeter([3, 5], "cpu")
    assert not other.restore(one.tensors())
    assert DynamicsMeter([3, 4], "cpu").restore(one.tensors())
