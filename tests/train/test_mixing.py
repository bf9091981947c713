"""Mixing: sizes that follow the temperature and its caps, epochs that are fair and found alone, and replay."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.tiny import some_rows, write_dataset
from train.base import console
from train.base.errors import Exit, TrainError
from train.data.rendering import Example
from train.model.batch import BatchSampler, Mixture, epoch_sizes
from train.pipeline.execute import start_run
from train.pipeline.plan import make_plan, plan_facts
from train.pipeline.prepare import add_adapters, prepare
from train.recipe import MixingRecipe, build_recipe, recipe_toml


def _examples(replay: int = 0, **counts: int) -> list[Example]:
    found = [
        Example(f"{c}{n}", c, "", [1, 2, 3 + n], [False, True, True], 2) for c, k in counts.items() for n in range(k)
    ]
    more = [Example(f"x{n}", "", "", [1, 2], [False, True], 1, is_replay=True) for n in range(replay)]
    return found + more


def _recipe(**mixing: Any) -> Any:
    return build_recipe({"global_batch_size": 4, "num_train_epochs": 3, "mixing": mixing})


def test_temperature_flattens_and_keeps_the_size_of_an_epoch() -> None:
    counts = {"big": 900, "small": 100}
    assert epoch_sizes(counts, 1.0, {}) == counts
    assert epoch_sizes(counts, 2.0, {}) == {"big": 750, "small": 250}, "30 to 10"
    assert epoch_sizes(counts, 100.0, {}) == {"big": 505, "small": 495}
    assert epoch_sizes(counts, 1.0, {"big": 300}) == {"big": 300, "small": 100}
    assert epoch_sizes(counts, 2.0, {"small": 120}) == {"big": 880, "small": 120}, (
        "what one may not take the other does"
    )


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=1),
    st.floats(1, 100),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 200)),
)
def test_sizes_keep_their_promises(counts: dict[str, int], temperature: float, caps: dict[str, int]) -> None:
    caps = {name: cap for name, cap in caps.items() if name in counts}
    sizes = epoch_sizes(counts, temperature, caps)
    assert sum(sizes.values()) == sum(min(count, caps.get(name, count)) for name, count in counts.items())
    assert all(1 <= size <= caps.get(name, size) for name, size in sizes.items())
    assert sizes.keys() == counts.keys()
    free = sorted((counts[name], sizes[name]) for name in counts if name not in caps)
    assert all(a[1] <= b[1] + 1 for a, b in pairwise(free)), "more records never count less"


def test_without_mixing_the_order_is_what_it_was() -> None:
    examples = _examples(a=7, b=3)
    steps = BatchSampler(examples, build_recipe({"global_batch_size": 4, "num_train_epochs": 2}))
    assert sorted(p for n in range(3) for g in steps[n].micro_batches for p in g) == list(range(10))
    assert steps.mixture.describe() == ""
    assert steps.epoch_tokens == 30


def test_an_epoch_is_found_alone_and_all_records_come_equally_often() -> None:
    examples = _examples(a=50, b=7, replay=5)
    mixture = Mixture(examples, MixingRecipe(temperature=3.0, caps={"a": 20}, replay="general", replay_share=0.2), 1)
    assert mixture.sizes == {"a": 16, "b": 11}
    assert len(mixture) == len(mixture.epoch(0)) == 27 + mixture.num_replayed
    assert mixture.num_replayed == 7
    seen: Counter[int] = Counter()
    for epoch in range(10):
        places = mixture.epoch(epoch).tolist()
        assert places == Mixture(examples, MixingRecipe(temperature=3.0, caps={"a": 20}, replay="general",
                                                        replay_share=0.2), 1).epoch(epoch).tolist()  # fmt: skip
        assert len({p for p in places if p < 50}) == 16, "no record of a thinned category twice in an epoch"
        seen.update(places)
    for group in (range(50), range(50, 57), range(57, 62)):
        times = [seen[place] for place in group]
        assert max(times) - min(times) <= 1
    other = Mixture(examples, MixingRecipe(temperature=3.0, caps={"a": 20}), 2)
    assert other.epoch(0).tolist() != mixture.epoch(0).tolist()


def test_steps_of_a_mixture_are_a_function_of_their_number() -> None:
    examples = _examples(a=30, b=5, replay=3)
    recipe = _recipe(temperature=2.0, replay="general", replay_share=0.1)
    steps, again = BatchSampler(examples, recipe), BatchSampler(examples, recipe)
    backwards = [steps[n] for n in reversed(range(len(steps)))][::-1]
    assert backwards == [again[n] for n in range(len(again))]
    places = [p for step in backwards if step.epoch == 1 for group in step.micro_batches for p in group]
    assert sorted(places) == sorted(steps.mixture.epoch(1).tolist())
    assert places != sorted(places)
    assert steps.digest() == again.digest()
    assert steps.digest() != BatchSampler(examples, _recipe(temperature=3.0)).digest()
    first = steps.mixture.epoch(0)
    assert steps.epoch_tokens == sum(len(examples[place].ids) for place in first)
    assert len(steps) == -(-len(first) // 4) * 3


def test_a_cap_on_nothing_is_refused_with_the_categories() -> None:
    with pytest.raises(TrainError, match=r"mixing\.caps names cat,") as caught:
        BatchSampler(_examples(cats=3, dogs=2), _recipe(caps={"cat": 2}))
    assert "cats, dogs" in caught.value.hint


@pytest.mark.ci
def test_the_mixture_is_in_plan_toml_facts_and_run(
    tmp_path: Path, bases: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = {name: some_rows(4, prefix=name) for name in ("validation", "test")} | {"train": some_rows(20)}
    dataset = write_dataset(tmp_path / "v1", splits)
    (tmp_path / "text.txt").write_text("The sea is salt.\n\nThe sun is far.\n\n" + "7 1 " * 200, encoding="utf-8")
    (tmp_path / "eval.txt").write_text("The sun  is far.\n", encoding="utf-8")
    values = {
        "base": str(bases()), "device": "cpu", "max_steps": 4, "global_batch_size": 4,
        "mixing": {"caps": {"cats": 4}, "replay": "text.txt", "replay_share": 0.125},
        "eval_steps": 2, "eval": {"general": "eval.txt", "max_new_tokens": 4},
    }  # fmt: skip
    file = tmp_path / "recipe.toml"
    file.write_text(recipe_toml(build_recipe(values)), encoding="utf-8")
    prepared = prepare(dataset, build_recipe(values), folder=tmp_path)
    said = capsys.readouterr().err
    assert "1 of 3 replayed texts are test records or those of eval.general" in said
    assert "1 of 3 replayed texts are over max_length" in said
    assert [example.id for example in prepared.steps.examples if example.is_replay] == ["replay-general-0001-1"]
    plan = make_plan(add_adapters(prepared), prepared.steps, prepared.placement)
    assert plan["records"] == 16
    assert plan["mixture"] == "dogs 10 of 10, cats 4 of 10, replayed text 2 of 1"
    assert plan_facts(plan)["mixture"].startswith("an epoch mixes dogs 10 of 10")
    (tmp_path / "text.txt").write_text("The sea is wide.\n", encoding="utf-8")
    changed = prepare(dataset, build_recipe(values), folder=tmp_path).facts
    assert changed["replayed text"] != prepared.facts["replayed text"]
    assert start_run(dataset, file, out=tmp_path / "run")[1] is Exit.OK
    ids = {json.loads(line)["id"] for line in (tmp_path / "run" / "feedback.jsonl").read_text().splitlines()}
    assert not any("replay" in name for name in ids), "replayed text is nobody's record"


def test_what_is_measured_is_never_replayed(tmp_path: Path, bases: Any) -> None:
    splits = {"test": some_rows(4, prefix="x"), "train": some_rows(8)}
    dataset = write_dataset(tmp_path / "v1", splits)
    recipe = build_recipe({"base": str(bases()), "device": "cpu", "max_steps": 1, "mixing": {"replay": "general"}})
    with pytest.raises(TrainError, match="none is left to replay") as caught:
        prepare(dataset, recipe)
    assert caught.value.code == "E944 bad-general-text"
    absent = build_recipe({"base": str(bases()), "device": "cpu", "max_steps": 1, "mixing": {"replay": "absent.txt"}})
    with pytest.raises(TrainError, match=r"mixing\.replay: .*absent\.txt") as caught:
        prepare(dataset, absent, folder=tmp_path)
    assert "mixing.replay" in caught.value.hint


def test_a_replayed_file_stays_in_its_project(tmp_path: Path) -> None:
    from train.recipe import load_recipe

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "curate.toml").touch()
    file = tmp_path / "a" / "recipe.toml"
    file.write_text('[mixing]\nreplay = "../x.txt"\n', encoding="utf-8")
    with pytest.raises(TrainError, match=r"'\.\./x\.txt' leads out of the project"):
        load_recipe(file)
    file.write_text('[mixing]\nreplay = "general"\ncaps = { "a b" = 3 }\n', encoding="utf-8")
    assert load_recipe(file).mixing.caps == {"a b": 3}
    (tmp_path / "again.toml").write_text(recipe_toml(load_recipe(file)), encoding="utf-8")
    assert load_recipe(tmp_path / "again.toml") == load_recipe(file)


def test_many_names_are_the_first_and_a_number() -> None:
    assert [console.join_names("abcd", most) for most in (3, 4)] == ["a, b, c and 1 more", "a, b, c, d"]
    assert console.join_names(n for n in ()) == ""
