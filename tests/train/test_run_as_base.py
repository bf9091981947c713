"""The folder of a finished run as the base of another: its model, its adapter merged, or its adapter continued."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from train.base.errors import TrainError
from train.cli import cli
from train.evaluate.predictions import read_predictions
from train.model import load_adapter, load_base
from train.report import Report

# peft reads a property that transformers renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def _call(*arguments: str) -> Any:
    return CliRunner().invoke(cli, [*arguments], standalone_mode=False)


def _run(dataset: Path, base: Path, out: Path, *settings: str) -> Any:
    fast = [
        "eval.max_new_tokens=4",
        "eval.resamples=100",
        "global_batch_size=8",
        "max_steps=3",
        "learning_rate=0.01",
        *settings,
    ]
    arguments = [argument for setting in fast for argument in ("--set", setting)]
    return _call("run", str(dataset), "--base", str(base), "--out", str(out), *arguments)


@pytest.fixture
def first(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> Path:
    """A LoRA run."""
    done = _run(dataset, bases(), tmp_path / "runs" / "first", "lora_r=4")
    assert done.exception is None, done.exception
    return tmp_path / "runs" / "first"


def _nlls(side: list[Any]) -> dict[str, float]:
    return {record.id: record.nll for record in side}


@pytest.mark.ci
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((), "the base is run first, whose adapter is merged in memory"),
        (("continue_adapter=true",), "the base is run first, whose adapter is continued"),
        (("method=full",), "the base is run first, whose adapter is merged in memory"),
    ],
)
def test_a_lora_run_is_a_base(
    settings: tuple[str, ...], sentence: str, first: Path, dataset: Path, tmp_path: Path
) -> None:
    second = tmp_path / "runs" / "second"
    done = _run(dataset, first, second, *settings)
    assert done.exception is None, done.exception
    assert sentence in done.stderr
    assert Report.load(second).run.settings["begun"] == sentence
    # What the second run measures as its base is what the first one made.
    before, after = (
        _nlls(read_predictions(first / "predictions.jsonl")[1]),
        _nlls(read_predictions(second / "predictions.jsonl")[0]),
    )
    assert before == pytest.approx(after, rel=1e-4)
    tuned = _nlls(read_predictions(second / "predictions.jsonl")[1])
    assert any(abs(tuned[name] - after[name]) > 0.01 for name in tuned)
    # And the second one is loaded again as what it was, by the verbs that open runs, on its own and as a base.
    third = tmp_path / "runs" / "third"
    done = _run(dataset, second, third, "max_steps=1")
    assert done.exception is None, done.exception
    assert _nlls(read_predictions(third / "predictions.jsonl")[0]) == pytest.approx(tuned, rel=1e-4)
    done = _call("export", str(second), "--to", "merged", "--output", str(tmp_path / "merged"))
    assert done.exception is None, done.exception


@pytest.mark.ci
def test_a_continued_adapter_still_lies_on_the_first_base(
    first: Path, dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    second = tmp_path / "runs" / "second"
    assert _run(dataset, first, second, "continue_adapter=true", "lora_r=64").exception is None
    config = json.loads((second / "adapter" / "adapter_config.json").read_text())
    # Its shape is the first one's, whatever the recipe says.
    assert config["r"] == 4
    assert config["base_model_name_or_path"] == str(bases().resolve())
    recorded = json.loads((second / "run.json").read_text())["recipe"]
    assert recorded["lora_r"] == 4
    model = load_adapter(load_base(str(bases()))[0], second / "adapter")
    assert model is not None
    old, new = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (first, second))
    assert old.keys() == new.keys()
    assert any(not torch.equal(old[name], new[name]) for name in old)


@pytest.mark.ci
def test_what_is_no_base_is_refused(first: Path, dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    done = _run(dataset, bases(), tmp_path / "a", "continue_adapter=true")
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == "E882 bad-run-base"
    record = json.loads((first / "run.json").read_text())
    (first / "run.json").write_text(json.dumps(record | {"status": "stopped"}))
    done = _run(dataset, first, tmp_path / "b")
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == "E942 unfinished-run"
    (first / "run.json").write_text(json.dumps(record | {"facts": record["facts"] | {"base": "0" * 64}}))
    done = _run(dataset, first, tmp_path / "c")
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == "E952 run-changed"
    text = (first / "recipe.toml").read_text().replace("continue_adapter = false", "continue_adapter = true")
    (first / "recipe.toml").write_text(re.sub("^base = .*", f'base = "{first}"', text, flags=re.MULTILINE))
    done = _run(dataset, first, tmp_path / "d")
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == "E882 bad-run-base"


@pytest.mark.ci
def test_an_adapter_on_a_merged_run_is_exported_whole(first: Path, dataset: Path, tmp_path: Path) -> None:
    second = tmp_path / "runs" / "second"
    assert _run(dataset, first, second).exception is None
    done = _call("export", str(second), "--to", "adapter", "--output", str(tmp_path / "adapter"))
    assert isinstance(done.exception, TrainError)
    assert "--to merged" in (done.exception.hint or "")
