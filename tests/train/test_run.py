"""`train run` from dataset to report, as a child process where exit codes and signals count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.train.tiny import chat_row, some_rows, text_row, write_dataset
from train.base.errors import Exit, TrainError
from train.base.run_folder import newest_run, next_run_folder
from train.cli import cli
from train.evaluate.predictions import ValidationScore
from train.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]
FAST = [
    "--set",
    "eval.max_new_tokens=4",
    "--set",
    "eval.resamples=100",
    "--set",
    "eval.during_training=4",
    "--set",
    "global_batch_size=8",
]


def _call(*arguments: str) -> Any:
    return CliRunner().invoke(cli, [*arguments], standalone_mode=False)


def _run(dataset: Path, base: Path, *more: str) -> Any:
    return _call("run", str(dataset), "--base", str(base), *FAST, *more)


# peft reads a property that transformers renamed.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_whole_act(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    done = _run(dataset, bases(), "--set", "max_steps=4")
    assert done.exception is None, done.exception
    assert done.return_value == Exit.OK
    run = next(iter((tmp_path / "runs").iterdir()))
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "recipe.toml",
        "run.json",
        "metrics.jsonl",
        "adapter",
        "predictions.jsonl",
        "feedback.jsonl",
        "report.json",
        "report.md",
        "report.html",
        "checkpoint-4",
    }
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["facts"].keys() >= {
        "dataset",
        "order",
        "tokenizer and template",
        "recipe",
        "base",
        "threads",
        "versions",
    }
    assert record["cpu_seconds"] > 0
    assert record["not_exact"] == []
    assert "cats" in done.stdout
    assert "cats" in record["results"]
    feedback = [json.loads(line) for line in (run / "feedback.jsonl").read_text().splitlines()]
    assert {row["split"] for row in feedback} == {"train", "validation"}
    card = (run / "adapter" / "README.md").read_text()
    assert card.startswith("---\nbase_model:")
    assert record["dataset"]["sha256"] in card
    assert load_recipe(run / "recipe.toml").max_steps == 4
    from peft import AutoPeftModelForCausalLM

    served = AutoPeftModelForCausalLM.from_pretrained(run / "adapter")
    weights = load_file(run / f"checkpoint-{record['best_step']}" / "weights.safetensors")
    loaded = {name: p for name, p in served.named_parameters() if "lora" in name}
    assert all((loaded[name] == tensor).all() for name, tensor in weights.items())


@pytest.mark.ci
def test_a_full_fine_tune_saves_a_model_that_loads(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    done = _run(
        dataset, bases("llama", "bos"), "--set", "max_steps=2", "--set", "method=full", "--out", str(tmp_path / "r")
    )
    assert done.exception is None, done.exception
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "r" / "model")
    assert model.config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(tmp_path / "r" / "model").chat_template


@pytest.mark.ci
def test_raw_text_is_trained_and_scored_by_likelihood(bases: Callable[..., Path], tmp_path: Path) -> None:
    splits = {"train": [text_row(f"t{n}", "the red cat sat on a mat") for n in range(6)],
              "validation": [text_row("v", "a small dog ran")], "test": [text_row("x", "one dog said no")]}  # fmt: skip
    dataset = write_dataset(tmp_path / "v1", splits, objective_hint="domain")
    done = _run(dataset, bases(), "--set", "max_steps=2", "--out", str(tmp_path / "r"))
    assert done.exception is None, done.exception
    assert json.loads((tmp_path / "r" / "run.json").read_text())["objective"] == "domain"


def test_a_dry_run_writes_nothing(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    done = _run(dataset, bases(), "--dry-run")
    assert done.exception is None, done.exception
    assert "plan: 24 records" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_plan(dataset: Path, bases: Callable[..., Path]) -> None:
    plan = _call("plan", str(dataset), "--base", str(bases()), "--json", "--set", "max_steps=5")
    assert plan.exception is None, plan.exception
    value = json.loads(plan.stdout)
    assert (value["records"], value["steps"]) == (24, 5)
    assert value["seconds"] > 0
    assert value["trained"] < value["parameters"]


def test_new_writes_a_recipe_once(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    assert _call("new", str(file)).exception is None
    assert load_recipe(file) == Recipe()
    assert "--force overwrites it" in str(_call("new", str(file)).exception)
    assert _call("new").stdout == file.read_text()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda d, b: (d / "train.jsonl").write_text("x"), "E911 dataset-changed"),
        (lambda d, b: write_dataset(d, {"train": [chat_row("a", "x", "y<|im_end|>z")]}), "E924 control-token-in-data"),
        (lambda d, b: write_dataset(d, {"train": [chat_row("a", "x", "y " * 900)]}), "E925 too-long"),
        (lambda d, b: write_dataset(d, {"validation": [chat_row("a", "x", "y")]}), "E912 bad-dataset"),
        (
            lambda d, b: write_dataset(d, {"train": some_rows(3), "test": [chat_row("long", "x", "y " * 900)]}),
            "E925 too-long",
        ),
    ],
)
def test_faults_are_found_before_anything_is_written(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, spoil: Callable[[Path, Path], object], code: str
) -> None:
    spoil(dataset, tmp_path)
    done = _run(dataset, bases())
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == code
    assert not (tmp_path / "runs").exists()


@pytest.mark.ci
def test_a_used_folder_is_not_overwritten_and_a_changed_run_not_resumed(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "r"), "--set", "max_steps=3"]
    # What `curate` leaves there before the run begins is no run.
    (tmp_path / "r").mkdir()
    (tmp_path / "r/log").touch()
    (tmp_path / "r/process.json").write_text("{}")
    assert _run(dataset, bases(), *out).exception is None
    again = _run(dataset, bases(), *out)
    assert getattr(again.exception, "code", "") == "E950 run-exists"
    changed = _run(dataset, bases(), *out, "--resume", "--set", "seed=7")
    assert getattr(changed.exception, "code", "") == "E952 run-changed"
    assert "recipe" in str(changed.exception)
    forced = _run(dataset, bases(), *out, "--resume", "--force", "--set", "seed=7")
    assert forced.exception is None, forced.exception
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert any("recipe" in change for change in record["not_exact"])
    assert "not exact" in (tmp_path / "r" / "report.json").read_text()


def test_runs_get_free_names_and_stay_in_the_workspace(tmp_path: Path) -> None:
    dataset = tmp_path / "dataset" / "v1"
    dataset.mkdir(parents=True)
    first = next_run_folder(dataset)
    first.mkdir(parents=True)
    assert first.parent == tmp_path / "runs"
    assert next_run_folder(dataset).name == first.name[:-1] + "b"
    with pytest.raises(TrainError) as caught:
        newest_run(dataset)
    assert caught.value.code == "E953 nothing-to-resume"
    for moment, (name, record) in enumerate((("s", "series.json"), ("r", "run.json"))):
        (tmp_path / "runs" / name).mkdir()
        for file in (record, "recipe.toml"):
            (tmp_path / "runs" / name / file).write_text("{}")
            os.utime(tmp_path / "runs" / name / file, (moment, moment))
    assert newest_run(dataset).name == "r"
    # `train eval` writes run.json of an earlier run anew.
    os.utime(tmp_path / "runs" / "r" / "recipe.toml", (-1, -1))
    assert newest_run(dataset).name == "s"
    assert newest_run(dataset, is_series=True).name == "s", "`train curve --resume` goes on with no single run"
    (tmp_path / "other" / "dataset" / "v1").mkdir(parents=True)
    (tmp_path / "other" / "runs").symlink_to(tmp_path / "runs")
    with pytest.raises(TrainError) as caught:
        next_run_folder(tmp_path / "other" / "dataset" / "v1")
    assert caught.value.code == "E955 outside"


def _spawn(dataset: Path, base: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "train", "run", str(dataset), "--base", str(base), "--out", str(out), *FAST, *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with _talk(out).open("ab") as talk:
        return subprocess.Popen(command, env=environment, stderr=talk, stdout=subprocess.DEVNULL)


def _talk(out: Path) -> Path:
    return out.with_suffix(".talk")


@pytest.mark.ci
def test_a_diverged_run_exits_with_one(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    run = _spawn(
        dataset,
        bases(),
        tmp_path / "r",
        "--set",
        "learning_rate=10",
        "--set",
        "max_grad_norm=0",
        "--set",
        "method=full",
        "--set",
        "max_steps=400",
        "--set",
        "lr_scheduler_type=constant_with_warmup",
        "--set",
        "warmup_steps=0",
        "--set",
        "adam_beta1=0",
        "--set",
        "adam_beta2=0",
        "--set",
        "weight_decay=0.9",
    )
    code = run.wait(120)
    talk = _talk(tmp_path / "r").read_text()
    assert code == 1, talk
    assert "error[E930 diverged]" in talk
    assert "Traceback" not in talk
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "E930 diverged")


@pytest.mark.ci
def test_a_damaged_best_checkpoint_costs_its_weights_and_not_the_run(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.pipeline import execute, measuring

    def damaged(path: Path) -> None:
        raise TrainError("E951 checkpoint-damaged", f"{path.name}/weights.safetensors was cut or changed")

    # The first is the base's.
    scores = iter([0.5, 0.9, 0.1])
    monkeypatch.setattr(execute.Checkpoint, "read", damaged)
    monkeypatch.setattr(measuring, "summarise_validation", lambda *_: ValidationScore(next(scores), 1.0))
    done = _run(dataset, bases(), "--set", "max_steps=2", "--set", "eval_steps=1", "--out", str(tmp_path / "r"))
    assert done.exception is None, done.exception
    assert "was cut or changed, so the last step's weights are taken" in done.stderr
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert (record["best_step"], record["taken_step"]) == (1, 2)


@pytest.mark.ci
def test_a_resumed_run_finds_the_base_that_its_recipe_named(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is relative to the recipe file, and the copy of the recipe in the run's folder lies elsewhere."""
    (tmp_path / "models").symlink_to(bases().parent)
    (tmp_path / "recipe.toml").write_text(f'base = "models/{bases().name}"\nmax_steps = 2\n', encoding="utf-8")
    monkeypatch.chdir("/")
    out = ["--out", str(tmp_path / "r")]
    first = _call("run", str(dataset), "--recipe", str(tmp_path / "recipe.toml"), *FAST, *out)
    assert first.exception is None, first.exception
    again = _call("run", str(dataset), *out, "--resume")
    assert again.exception is None, again.exception
    assert "resuming from checkpoint-2" in again.stderr
