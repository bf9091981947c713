"""`mixing.share` and `eval.splits`: a part of the records that repeats nothing of the rest, and splits left alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.tiny import some_rows, write_dataset
from train.base.errors import TrainError
from train.data.overlap import nested_subset
from train.pipeline.execute import start_run
from train.pipeline.prepare import prepare
from train.recipe import Recipe, load_recipe

_RECORDS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=80)
FAST: Mapping[str, Any] = {
    "eval.max_new_tokens": 4, "eval.resamples": 100, "eval.during_training": 0, "global_batch_size": 4, "max_steps": 2,
    "warmup_steps": 0, "threads": 1,
}  # fmt: skip


def _names(records: list[tuple[str, int]]) -> list[tuple[str, str, str]]:
    return [(str(n), category, f"c{cluster}") for n, (category, cluster) in enumerate(records)]


@given(_RECORDS, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5))
def test_a_smaller_share_is_inside_a_larger_one_and_cuts_no_cluster(
    records: list[tuple[str, int]], first: float, second: float, seed: int
) -> None:
    names = _names(records)
    small, large = (nested_subset(names, share, seed) for share in sorted((first, second)))
    assert set(small) <= set(large)
    for indices in (small, large):
        clusters = {names[index][2] for index in indices}
        assert indices == [n for n, name in enumerate(names) if name[2] in clusters], "whole clusters, in their order"
        assert {names[index][1] for index in indices} == {name[1] for name in names}, "no category vanishes"
    assert nested_subset(names, 1.0, seed) == list(range(len(names)))


def test_each_category_gets_its_share_and_the_seed_chooses() -> None:
    names = _names([("a", n) for n in range(400)] + [("b", 1000 + n) for n in range(40)])
    chosen = nested_subset(names, 0.25, 0)
    assert Counter(names[index][1] for index in chosen) == {"a": 100, "b": 10}
    assert chosen != nested_subset(names, 0.25, 1)
    assert chosen == nested_subset(names, 0.25, 0)


@pytest.mark.ci
def test_a_run_trains_on_the_share_and_says_which(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = start_run(dataset, None, settings={**FAST, "mixing.share": 0.25}, base=str(bases()), out=tmp_path / "r")
    record = json.loads((run / "run.json").read_text())
    assert (record["examples"], record["examples_by_category"]) == (6, {"cats": 3, "dogs": 3})
    assert "mixing.share 0.25: 6 of 24 training records are taken" in capsys.readouterr().err
    assert json.loads((run / "report.json").read_text())["run"]["settings"]["share of the training records"] == 0.25
    whole = prepare(dataset, Recipe(base=str(bases())))
    parts = [prepare(dataset, load_recipe(None, {"mixing.share": share}, str(bases()))) for share in (0.25, 0.5)]
    ids = [{example.id for example in each.steps.examples} for each in (*parts, whole)]
    assert ids[0] < ids[1] < ids[2]
    assert len({each.facts["order"] for each in (*parts, whole)}) == 3, "another share is another run"


@pytest.mark.ci
def test_a_split_that_is_left_out_is_never_answered_and_costs_no_second_measurement(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = {**FAST, "eval.splits": ["validation"]}
    first, _ = start_run(dataset, None, settings=alone, base=str(bases()), out=tmp_path / "a")
    splits = {json.loads(line)["split"] for line in (first / "predictions.jsonl").read_text().splitlines()}
    assert splits == {"validation", "general"}
    report = json.loads((first / "report.json").read_text())
    assert report["headline"] == "validation"
    assert "The test split was not measured: eval.splits leaves it out." in report["remarks"]
    capsys.readouterr()
    second, _ = start_run(dataset, None, settings=FAST, base=str(bases()), out=tmp_path / "b")
    talk = capsys.readouterr().err
    num_general = sum(json.loads(line)["split"] == "general" for line in
                      (second / "predictions.jsonl").read_text().splitlines())  # fmt: skip
    assert f"the base was measured before: {6 + num_general} results are taken" in talk
    assert "run b: measuring the base" in talk, "test and train alone are new"
    third, _ = start_run(dataset, None, settings=FAST, base=str(bases()), out=tmp_path / "c")
    assert "measuring the base" not in capsys.readouterr().err
    assert (third / "predictions.jsonl").read_bytes() == (second / "predictions.jsonl").read_bytes()


@pytest.mark.parametrize("splits", [["test"], ["validation", "validation"], ["validation", "exam"]])
def test_splits_that_mean_nothing_are_refused(splits: list[str]) -> None:
    with pytest.raises(TrainError, match=r"eval\.splits|eval: splits always"):
        load_recipe(None, {"eval.splits": splits})


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_is_a_part(share: float) -> None:
    with pytest.raises(TrainError, match=r"mixing\.share"):
        load_recipe(None, {"mixing.share": share})


def test_weights_of_nothing_are_no_part_of_the_share(tmp_path: Path, bases: Callable[..., Path]) -> None:
    rows = some_rows(8, prefix="t")
    splits = {"train": rows, "validation": some_rows(2, prefix="v")}
    folder = write_dataset(tmp_path / "d", splits)
    prepared = prepare(folder, load_recipe(None, {"mixing.share": 0.5}, str(bases())))
    assert len(prepared.steps.examples) == 4
