"""Records over max_length: how many of all, what to type, and which category is lost when they are left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.tiny import chat_row, some_rows, write_dataset
from train.base.errors import TrainError
from train.cli import cli


@pytest.fixture
def plan(dataset: Path, bases: Callable[..., Path]) -> Callable[..., Any]:
    """Return a function that plans a run on 24 short records and two of a category whose answers are too long."""
    long = [chat_row(f"long{n}", "x", "y " * 900, category="essays") for n in range(2)]
    splits = {"train": [*some_rows(24, prefix="t"), *long], "test": some_rows(6, prefix="x")}
    write_dataset(dataset, splits)

    def call(*settings: str) -> Any:
        words = [word for one in settings for word in ("--set", one)]
        arguments = ["run", str(dataset), "--base", str(bases()), "--dry-run", "--set", "max_length=256", *words]
        return CliRunner().invoke(cli, arguments, standalone_mode=False)

    return call


def test_the_refusal_counts_them_and_shows_what_to_type(plan: Callable[..., Any]) -> None:
    error = plan().exception
    assert isinstance(error, TrainError)
    assert error.code == "E925 too-long"
    assert "2 of 26 records: longer than max_length 256: long0, long1" in error.message
    for flag in ("--set on_too_long=skip", "--set on_too_long=cut", "--set max_length=N"):
        assert flag in error.hint


def test_a_category_that_is_left_out_whole_is_named(plan: Callable[..., Any]) -> None:
    done = plan("on_too_long=skip")
    assert done.exception is None, done.exception
    assert "Category essays has no train record left: all 2 are left out" in done.stderr


def test_a_category_of_which_some_are_left_is_not(plan: Callable[..., Any]) -> None:
    done = plan("on_too_long=cut")
    assert done.exception is None, done.exception
    assert "has no train record left" not in done.stderr


def test_what_was_cut_is_in_the_report_and_the_record(dataset: Path, bases: Callable[..., Path]) -> None:
    long = {n: chat_row(f"long{n}", "x", "y " * 900) for n in "abc"}
    rows = {"train": [*some_rows(6, prefix="t"), long["a"], long["b"]], "test": [*some_rows(6, prefix="x"), long["c"]]}
    write_dataset(dataset, rows)
    settings = ["max_length=256", "on_too_long=cut", "max_steps=1", "eval.max_new_tokens=2", "eval.resamples=100"]
    words = [word for one in settings for word in ("--set", one)]
    out = dataset.parent / "run"
    done = CliRunner().invoke(
        cli, ["run", str(dataset), "--base", str(bases()), "--out", str(out), *words], standalone_mode=False
    )
    assert done.exception is None, done.exception
    counts = json.loads((out / "run.json").read_text())["rendered"]
    assert {split: each["cut"] for split, each in counts.items()} == {"train": 2, "validation": 0, "test": 1}
    said = json.loads((out / "report.json").read_text())["remarks"]
    for cut, ids in (("2 train records cut to max_length, ", "longa, longb"), ("1 test record cut to max_", "longc")):
        (remark,) = [each for each in said if each.startswith(cut)]
        assert f"{remark[:-1]}: {ids}\n" in done.stderr, "a report names no record"
