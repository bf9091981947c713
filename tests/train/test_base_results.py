"""A base is measured once: never again for the same, and always again for anything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny import make_model, make_tokenizer, some_rows, write_dataset

from train.cli import cli
from train.data import open_dataset
from train.errors import TrainError
from train.predictions import Scored
from train.recipe import Recipe
from train.run import act, base_results
from train.run.base_results import cache_folder, entry_of, key_of, read_entry, write_entry
from train.run.prepare import prepare

SCORED = [Scored("a", "test", "cats", "a", "yes", 1.5, 2, 3, "no", True, "exact", {"exact": 0.0}),
          Scored("b", "general", "", "b", "\ud800", 0.1 + 0.2, 2, 3)]  # fmt: skip
FAST = (
    "eval.max_new_tokens=4",
    "eval.resamples=100",
    "eval.during_training=4",
    "batch_size=8",
    "max_steps=2",
    "warmup=0",
)
Change = Callable[[Path, Path], Mapping[str, Any]]


@pytest.fixture
def base(bases: Callable[..., Path], tmp_path: Path) -> Path:
    """A base of this test's own, to be changed."""
    return Path(shutil.copytree(bases(), tmp_path / "base"))


def _edit(path: Path, **values: Any) -> dict[str, Any]:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return {}


def _rewritten(dataset: Path, **manifest: Any) -> dict[str, Any]:
    splits = open_dataset(dataset).splits
    shutil.rmtree(dataset)
    write_dataset(dataset, splits, **manifest)
    return {}


def _other_rows(_base: Path, dataset: Path) -> dict[str, Any]:
    splits = {**open_dataset(dataset).splits, "test": some_rows(6, prefix="y")}
    shutil.rmtree(dataset)
    write_dataset(dataset, splits)
    return {}


def _other_general(_base: Path, dataset: Path) -> dict[str, Any]:
    (dataset.parent / "general.txt").write_text("the small dog ran far away\n")
    return {"eval": {"general": str(dataset.parent / "general.txt")}}


# What is changed, and the part of the key that must tell it.
CHANGES: list[tuple[str, Change]] = [
    ("weights", lambda base, _: make_model(seed=1).save_pretrained(base) or {}),
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
    ("dtype", lambda _base, _data: {"dtype": "bfloat16"}),
    ("threads", lambda _base, _data: {"threads": 2}),
]


@pytest.mark.parametrize(("part", "change"), CHANGES, ids=[f"{n}-{part}" for n, (part, _) in enumerate(CHANGES)])
def test_each_part_of_what_was_measured_makes_another_key(part: str, change: Change, base: Path, dataset: Path) -> None:
    def key(settings: Mapping[str, Any]) -> dict[str, Any]:
        recipe = Recipe.model_validate({"base": str(base), "dtype": "float32", "threads": 1, **settings})
        general = recipe.eval.general
        return key_of(prepare(dataset, recipe), Path(general) if general else None)

    before = key({})
    assert key({}) == before
    after = key(change(base, dataset))
    assert after[part] != before[part]
    assert entry_of(after) != entry_of(before)


def test_the_machine_and_the_code_are_parts_too(base: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(dataset, Recipe(base=str(base)))
    before = key_of(prepared, None)
    for name in ("_code", "_device", "version", "versions"):
        with monkeypatch.context() as changed:
            changed.setattr(base_results, name, lambda *_: "another")
            assert entry_of(key_of(prepared, None)) != entry_of(before), name
    prepared.tokenizer.add_special_tokens({"cls_token": "<|sep|>"})
    assert entry_of(key_of(prepared, None)) != entry_of(before)


def test_what_only_training_sees_is_no_part(base: Path, dataset: Path) -> None:
    first = prepare(dataset, Recipe(base=str(base)))
    other = Recipe.model_validate({
        "base": str(base), "method": "full", "lr": 0.1, "epochs": 3, "seed": 4, "batch_size": 3, "clip": 0.5,
        "lora": {"rank": 3}, "eval": {"margin": 0.1, "resamples": 100}, "checkpoint": {"keep": 5},
    })  # fmt: skip
    assert key_of(prepare(dataset, other), None) == key_of(first, None)


def test_a_field_of_the_recipe_that_nobody_thought_of_is_a_part() -> None:
    fields = base_results._of_evaluation(Recipe())
    assert fields.keys() == {
        "max_length", "on_too_long", "allow_special_tokens", "new_tokens", "dtype", "device", "threads", "lora", "eval"
    }  # fmt: skip
    assert fields["lora"].keys() == {"quantize"}
    assert fields["eval"].keys() == {"max_new_tokens", "batch_tokens"}


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    key = {"weights": "1", "recipe": {"a": [1, None]}}
    write_entry(tmp_path / "entry", key, SCORED)
    assert read_entry(tmp_path / "entry", key) == SCORED
    assert read_entry(tmp_path / "none", key) is None
    assert [path.name for path in tmp_path.iterdir()] == ["entry"], "and no leftover beside it"


@pytest.mark.parametrize("damage", ["byte", "cut", "empty", "key", "format", "folder"])
def test_an_entry_that_is_not_what_it_says_is_passed_over_and_said(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, key = tmp_path / "entry", {"weights": "1"}
    write_entry(path, key, SCORED)
    raw = path.read_bytes()
    if damage == "byte":
        path.write_bytes(raw.replace(b"1.5", b"1.6"))
    elif damage in ("cut", "empty"):
        path.write_bytes(raw[:-20] if damage == "cut" else b"")
    elif damage == "key":
        write_entry(path, {"weights": "2"}, SCORED)
    elif damage == "format":
        path.write_bytes(raw.replace(b'"format": 1', b'"format": 2'))
    else:
        path.unlink()
        path.mkdir()
    assert read_entry(path, key) is None
    assert f"warning: kept results of the base in {path} are passed over" in capsys.readouterr().err


def test_a_broken_model_is_not_remembered(tmp_path: Path) -> None:
    write_entry(tmp_path / "entry", {}, [replace(SCORED[0], nll=float("nan"))])
    assert not list(tmp_path.iterdir())


def test_the_cache_keeps_what_was_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_results, "MOST_ENTRIES", 2)
    keys = [{"weights": str(n)} for n in range(3)]
    for number, key in enumerate(keys):
        base_results.remember(tmp_path / f"run{number}", key, SCORED, is_cached=True)
        if number == 1:
            assert base_results.recall(tmp_path / "other", keys[0], is_cached=True) == SCORED
    assert {path.name for path in cache_folder().iterdir()} == {entry_of(keys[0]).name, entry_of(keys[2]).name}


def _run(dataset: Path, base: Path, out: Path, *more: str) -> Any:
    settings = [part for setting in FAST for part in ("--set", setting)]
    return CliRunner().invoke(
        cli, ["run", str(dataset), "--base", str(base), "--out", str(out), *settings, *more], standalone_mode=False
    )


def _sides(run: Path, side: str) -> list[Any]:
    return [json.loads(line)[side] for line in (run / "predictions.jsonl").read_text().splitlines()]


# peft reads a property that transformers renamed.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_second_run_measures_the_tuned_model_alone(dataset: Path, base: Path, tmp_path: Path) -> None:
    told = "the base was measured before"
    first = _run(dataset, base, tmp_path / "a")
    assert first.exception is None, first.exception
    assert told not in first.stderr
    second = _run(dataset, base, tmp_path / "b", "--set", "lr=0.003")
    assert told in second.stderr
    assert "measuring the base" not in second.stderr
    assert _sides(tmp_path / "a", "base") == _sides(tmp_path / "b", "base")
    assert _sides(tmp_path / "a", "tuned") != _sides(tmp_path / "b", "tuned")
    assert not (tmp_path / "b" / base_results.IN_RUN).exists(), "a finished run has its predictions"
    third = _run(dataset, base, tmp_path / "c", "--no-cache")
    assert told not in third.stderr
    assert _sides(tmp_path / "c", "base") == _sides(tmp_path / "a", "base")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_going_on_with_a_run_never_measures_the_base_again(
    dataset: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TrainError("E930 diverged", "as if")

    with monkeypatch.context() as broken:
        broken.setattr(act, "fit", fail)
        assert isinstance(_run(dataset, base, tmp_path / "r", "--no-cache").exception, TrainError)
    assert not cache_folder().exists()
    done = _run(dataset, base, tmp_path / "r", "--no-cache", "--resume")
    assert done.exception is None, done.exception
    assert f"are taken from {tmp_path / 'r' / base_results.IN_RUN}" in done.stderr
    assert "measuring the base" not in done.stderr


def test_a_cache_that_cannot_be_written_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    base_results.remember(tmp_path / "run", {}, SCORED, is_cached=True)
    assert "warning: the results of the base are not kept" in capsys.readouterr().err
    assert base_results.recall(tmp_path / "run", {}, is_cached=True) == SCORED
    # A relative folder is none, says the specification.
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert cache_folder() == Path.home() / ".cache/pairsmith/base-results"
