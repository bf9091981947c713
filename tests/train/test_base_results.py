"""A base is measured once: never again for the same, and always again for anything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import train
from tests.train.tiny import make_model, make_tokenizer, some_rows, write_dataset
from train.base.cache import cache_home
from train.base.errors import TrainError
from train.base.storage import digest_of
from train.cli import cli
from train.data.dataset import Row, open_dataset
from train.evaluate.predictions import Scored
from train.pipeline import execute, measuring
from train.pipeline.prepare import Prepared, prepare
from train.recipe import Recipe

SCORED = [Scored("a", "test", "cats", "a", "yes", 1.5, 2, 3, "no", True, "exact", {"exact": 0.0}),
          Scored("b", "general", "", "b", "\ud800", 0.1 + 0.2, 2, 3)]  # fmt: skip
FAST = (
    "eval.max_new_tokens=4",
    "eval.resamples=100",
    "eval.during_training=4",
    "global_batch_size=8",
    "max_steps=2",
    "warmup_steps=0",
)
Change = Callable[[Path, Path], Mapping[str, Any]]


@pytest.fixture
def base(bases: Callable[..., Path], tmp_path: Path) -> Path:
    """A base of this test's own, to be changed."""
    return Path(shutil.copytree(bases(), tmp_path / "base"))


def _edit(path: Path, **values: Any) -> dict[str, Any]:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return {}


def _read(dataset: Path) -> dict[str, Sequence[Row]]:
    # Rows of training are read from their file when they are asked for.
    return {split: list(rows) for split, rows in open_dataset(dataset).splits.items()}


def _rewritten(dataset: Path, **manifest: Any) -> dict[str, Any]:
    splits = _read(dataset)
    shutil.rmtree(dataset)
    write_dataset(dataset, splits, **manifest)
    return {}


def _other_rows(_base: Path, dataset: Path) -> dict[str, Any]:
    splits = _read(dataset) | {"test": some_rows(6, prefix="y")}
    shutil.rmtree(dataset)
    write_dataset(dataset, splits)
    return {}


def _other_general(_base: Path, dataset: Path) -> dict[str, Any]:
    (dataset.parent / "general.txt").write_text("the small dog ran far away\n")
    return {"eval": {"general": str(dataset.parent / "general.txt")}}


def _key(prepared: Prepared) -> dict[str, Any]:
    return measuring.base_key(prepared)


# What is changed, and the part of the key that must tell it.
CHANGES: list[tuple[str, Change]] = [
    ("base", lambda base, _: make_model(seed=1).save_pretrained(base) or {}),
    ("config", lambda base, _: _edit(base / "config.json", rms_norm_eps=1e-3)),
    ("stop tokens", lambda base, _: _edit(base / "generation_config.json", eos_token_id=[2, 9])),
    ("tokenizer and template", lambda base, _: make_tokenizer("unmarked").save_pretrained(base) and {}),
    ("dataset", _other_rows),
    ("dataset", lambda _, data: _rewritten(data, categories={"cats": {"scorer": "token_f1"}})),
    ("general", _other_general),
    ("objective", lambda _, data: _rewritten(data, objective_hint="chat")),
    ("objective", lambda _base, _data: {"objective": "chat"}),
    ("recipe", lambda _base, _data: {"eval": {"max_new_tokens": 5}}),
    ("recipe", lambda _base, _data: {"eval": {"batch_tokens": 77}}),
    ("recipe", lambda _base, _data: {"max_length": 200}),
    ("recipe", lambda _base, _data: {"on_too_long": "cut"}),
    ("recipe", lambda _base, _data: {"allow_special_tokens": True}),
    ("recipe", lambda _base, _data: {"bf16": True}),
    ("recipe", lambda _base, _data: {"threads": 2}),
]


@pytest.mark.ci
@pytest.mark.parametrize(("part", "change"), CHANGES, ids=[f"{n}-{part}" for n, (part, _) in enumerate(CHANGES)])
def test_each_part_of_what_was_measured_makes_another_key(part: str, change: Change, base: Path, dataset: Path) -> None:
    def key(settings: Mapping[str, Any]) -> dict[str, Any]:
        recipe = Recipe.model_validate({"base": str(base), "bf16": False, "threads": 1, **settings})
        return _key(prepare(dataset, recipe))

    before = key({})
    assert key({}) == before
    after = key(change(base, dataset))
    assert after[part] != before[part]
    assert digest_of(after) != digest_of(before)


def test_the_machine_and_the_code_are_parts_too(base: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(dataset, Recipe(base=str(base)))
    before = _key(prepared)
    room = "train.pipeline.measuring"
    with monkeypatch.context() as changed:
        changed.setattr(f"{room}.sources_digest", lambda folder: str(folder))
        assert _key(prepared)["code"] == str(Path(train.__file__).parent), "all code that measures"
    for target in (f"{room}.sources_digest", f"{room}.installed_version", "platform.machine"):
        with monkeypatch.context() as changed:
            changed.setattr(target, lambda *_: "another")
            assert digest_of(_key(prepared)) != digest_of(before), target
    for name in ("ranks", "versions"):
        assert digest_of(_key(replace(prepared, facts=prepared.facts | {name: "another"}))) != digest_of(before)


def test_what_only_training_sees_is_no_part(base: Path, dataset: Path) -> None:
    first = prepare(dataset, Recipe(base=str(base)))
    other = Recipe.model_validate({
        "base": str(base), "method": "full", "learning_rate": 0.1, "num_train_epochs": 3, "seed": 4,
        "global_batch_size": 3, "max_grad_norm": 0.5,
        "lora_r": 3, "eval": {"margin": 0.1, "resamples": 100}, "save_total_limit": 5,
    })  # fmt: skip
    assert _key(prepare(dataset, other)) == _key(first)


def test_evaluation_is_handed_no_other_setting(base: Path, dataset: Path) -> None:
    recipe = Recipe.model_validate({"base": str(base), "seed": 4, "learning_rate": 0.1, "eval": {"batch_tokens": 77}})
    handed = prepare(dataset, recipe).eval_recipe
    assert (handed.seed, handed.learning_rate, handed.eval.batch_tokens) == (0, "auto", 77)


def _shared() -> Path:
    home = cache_home()
    assert home is not None
    return home / "base-results"


def _run(dataset: Path, base: Path, out: Path, *more: str) -> Any:
    settings = [part for setting in FAST for part in ("--set", setting)]
    return CliRunner().invoke(
        cli, ["run", str(dataset), "--base", str(base), "--out", str(out), *settings, *more], standalone_mode=False
    )


def _sides(run: Path, side: str) -> list[Any]:
    return [json.loads(line)[side] for line in (run / "predictions.jsonl").read_text().splitlines()]


# peft reads a property that transformers renamed.
@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_second_run_measures_the_tuned_model_alone(dataset: Path, base: Path, tmp_path: Path) -> None:
    told = "the base was measured before"
    first = _run(dataset, base, tmp_path / "a")
    assert first.exception is None, first.exception
    assert told not in first.stderr
    second = _run(dataset, base, tmp_path / "b", "--set", "learning_rate=0.003")
    assert told in second.stderr
    assert "measuring the base" not in second.stderr
    assert _sides(tmp_path / "a", "base") == _sides(tmp_path / "b", "base")
    assert _sides(tmp_path / "a", "tuned") != _sides(tmp_path / "b", "tuned")
    assert not (tmp_path / "b" / measuring.BASE_RESULTS).exists(), "a finished run has its predictions"
    third = _run(dataset, base, tmp_path / "c", "--no-cache")
    assert told not in third.stderr
    assert _sides(tmp_path / "c", "base") == _sides(tmp_path / "a", "base")


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_going_on_with_a_run_never_measures_the_base_again(
    dataset: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TrainError("E930 diverged", "as if")

    with monkeypatch.context() as broken:
        broken.setattr(execute, "fit", fail)
        assert isinstance(_run(dataset, base, tmp_path / "r", "--no-cache").exception, TrainError)
    assert not _shared().exists()
    done = _run(dataset, base, tmp_path / "r", "--no-cache", "--resume")
    assert done.exception is None, done.exception
    assert "the base was measured before" in done.stderr, "the run has its own copy"
    assert "measuring the base" not in done.stderr
