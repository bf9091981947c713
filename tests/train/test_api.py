"""The Python API: `train.run` does what `train run` does, and `import train` stays light."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import train
from tests.train.children import on_ranks, run_from_python
from train.cli import cli
from train.evaluate.predictions import ValidationScore

FAST: dict[str, Any] = {
    "device": "cpu", "threads": 1, "global_batch_size": 4, "max_steps": 2, "eval.max_new_tokens": 6,
    "eval.resamples": 100,
}  # fmt: skip
# peft reads a property that transformers renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.ci
def test_it_trains_the_embedded_base_and_hands_back_what_the_command_writes(dataset: Path, tmp_path: Path) -> None:
    finished = train.run(dataset, base="tiny-base", settings=FAST, out=tmp_path / "api")
    settings = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    arguments = ["run", str(dataset), "--base", "tiny-base", "--out", str(tmp_path / "cli"), *settings]
    assert CliRunner().invoke(cli, arguments, standalone_mode=False).exception is None

    assert finished.folder == tmp_path / "api"
    assert _files(finished.folder) == _files(tmp_path / "cli")
    for name in ("predictions.jsonl", "feedback.jsonl", "recipe.toml", "adapter/adapter_model.safetensors"):
        assert (finished.folder / name).read_bytes() == (tmp_path / "cli" / name).read_bytes(), name
    assert finished.model == finished.folder / "adapter"
    assert len(finished.predictions.read_bytes().splitlines()) == 12 + 24, "validation, test and general text"
    assert finished.report == train.Report.load(finished.folder / "report.json") == train.Report.load(finished.folder)
    assert finished.report.splits == train.Report.load(str(tmp_path / "cli")).splits
    assert finished.report.failing() == []
    assert finished.report.headline == "test"


@pytest.mark.ci
def test_settings_override_a_recipe_that_is_a_file_or_an_object(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('method = "full"\nmax_steps = 9\n', encoding="utf-8")
    recipes = (str(file), file, train.Recipe(method="full", max_steps=9))
    for number, recipe in enumerate(recipes):
        finished = train.run(dataset, recipe, base=str(bases()), settings=FAST, out=str(tmp_path / f"r{number}"))
        recorded = json.loads((finished.folder / "run.json").read_text(encoding="utf-8"))
        assert (recorded["recipe"]["method"], recorded["recipe"]["max_steps"], recorded["step"]) == ("full", 2, 2)
        assert finished.model == finished.folder / "model"


@pytest.mark.ci
def test_the_folder_is_the_next_free_one_by_default(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    finished = train.run(dataset, base=str(bases()), settings=FAST)
    assert finished.folder.parent == tmp_path / "runs"
    assert finished.folder.name.endswith("-a")


@pytest.mark.ci
def test_an_interrupt_is_raised_after_a_checkpoint_and_resume_goes_on(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"base": str(bases()), "settings": {**FAST, "max_steps": 3, "eval_steps": 1}}
    whole = train.run(dataset, out=tmp_path / "whole", **arguments)
    scores: list[ValidationScore] = []
    summary = sys.modules["train.pipeline.measuring"].summarise_validation

    def interrupted(*arguments: Any) -> ValidationScore:
        scores.append(summary(*arguments))
        if len(scores) == 2:
            # The first is that of the base; this one is of the evaluation after the first step.
            os.kill(os.getpid(), signal.SIGINT)
        return scores[-1]

    monkeypatch.setattr("train.pipeline.measuring.summarise_validation", interrupted)
    run = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train.run(dataset, out=run, **arguments)
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "stopped"
    assert (run / "checkpoint-1").is_dir()
    assert not (run / "report.json").exists()

    resumed = train.run(dataset, out=run, resume=True)
    assert resumed.folder == run
    assert resumed.predictions.read_bytes() == whole.predictions.read_bytes()


def test_what_stands_in_the_way_is_a_train_error(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    for settings, message in (
        ({"lora_rank": 8}, "unknown key 'lora_rank': did you mean 'lora_r'?"),
        ({"lora_r": "8"}, "lora_r must be"),
        ({"seed": 2, "seed.deep": 1}, "seed.deep: seed is not a section"),
    ):
        with pytest.raises(train.TrainError) as caught:
            train.run(dataset, base=str(bases()), settings=settings)
        assert caught.value.code == "E920 bad-recipe"
        assert message in caught.value.message
    assert not (tmp_path / "runs").exists()

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(train.TrainError) as caught:
        train.run(dataset, base=str(bases()), out=tmp_path / "taken")
    assert caught.value.code == "E950 run-exists"
    with pytest.raises(train.TrainError) as caught:
        train.run(dataset, base=str(bases()), settings=FAST, out=tmp_path / "a\nb")
    assert caught.value.code == "E936 write-failed"
    for path in (tmp_path / "absent", tmp_path / "taken", tmp_path / "taken" / "notes.txt"):
        with pytest.raises(train.TrainError) as caught:
            train.Report.load(path)
        assert caught.value.code == "E938 bad-report"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_nothing_of_a_run_stays_in_the_process_that_called_it(dataset: Path, bases: Callable[..., Path]) -> None:
    ((kind, seen),) = on_ranks(1, run_from_python, dataset, bases(), FAST)
    assert kind == "done", seen
    assert seen == [(2, True), (2, True), (2, False)]


def test_importing_train_loads_no_library() -> None:
    program = (
        "import sys, train\n"
        "assert dir(train) == train.__all__\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'click', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "train.Report, train.Recipe, train.load_recipe, train.TrainError\n"
        "print(sorted({'torch', 'transformers', 'click'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n") == ["[]", "[]", ""]
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = train.absent  # type: ignore[attr-defined]
