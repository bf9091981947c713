"""The order of a run: every example once an epoch, any step without the ones before, and budgets that hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from train.data.rendering import Example
from train.model.batch import BatchSampler, batch_by_length, collate
from train.recipe import Recipe, build_recipe


def _examples(lengths: list[int]) -> list[Example]:
    return [
        Example(str(n), "c", "k", list(range(1, size + 1)), [False] + [True] * (size - 1), size)
        for n, size in enumerate(lengths)
    ]


LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=80)


@given(LENGTHS, st.integers(0, 9), st.one_of(st.just({}),
       st.fixed_dictionaries({"global_batch_size": st.integers(1, 20)})))  # fmt: skip
def test_every_example_is_seen_once_an_epoch(lengths: list[int], seed: int, size: dict[str, int]) -> None:
    steps = BatchSampler(_examples(lengths), build_recipe({"num_train_epochs": 3, "seed": seed, **size}))
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for number in range(len(steps)):
        step = steps[number]
        places = [place for group in step.micro_batches for place in group]
        assert step.num_supervised == sum(lengths[place] - 1 for place in places)
        seen[step.epoch] += places
    assert all(sorted(places) == list(range(len(lengths))) for places in seen.values())


def test_a_step_is_found_without_the_ones_before() -> None:
    recipe = build_recipe({"global_batch_size": 4, "num_train_epochs": 5})
    examples = _examples(list(range(2, 40)))
    forward = [BatchSampler(examples, recipe)[number] for number in range(20)]
    fresh = BatchSampler(examples, recipe)
    assert [fresh[number] for number in reversed(range(20))] == forward[::-1]
    assert (
        fresh.digest()
        == BatchSampler(examples, recipe).digest()
        != BatchSampler(examples, build_recipe({"global_batch_size": 4, "seed": 1})).digest()
    )
    assert forward[0] != forward[10], "epochs have orders of their own"


def test_max_steps_asks_for_as_many_epochs_as_it_needs() -> None:
    steps = BatchSampler(
        _examples([5] * 10), build_recipe({"global_batch_size": 4, "max_steps": 100, "num_train_epochs": 1})
    )
    assert len(steps) == 100
    assert steps[99].epoch == 33
    # Ten records are three steps, so that 33 epochs end with step 99.


def test_small_data_gets_enough_steps() -> None:
    assert len(BatchSampler(_examples([10] * 1000), Recipe())) >= 100
    assert BatchSampler(_examples([10] * 10), Recipe()).global_batch_size == 4


@given(LENGTHS, st.integers(1, 300), st.integers(1, 10))
def test_micro_batches_keep_to_the_budget(lengths: list[int], most: int, at_least: int) -> None:
    groups = batch_by_length(lengths, most, at_least=at_least)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(lengths[p] for p in group) <= most for group in groups)
    assert len(groups) >= min(at_least, len(lengths)) or -(-len(lengths) // at_least) * (len(groups)) >= len(lengths)


def test_accumulation_splits_a_step() -> None:
    steps = BatchSampler(
        _examples([8] * 32), build_recipe({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4})
    )
    assert [len(group) for group in steps[0].micro_batches] == [8, 8, 8, 8]


def test_a_batch_points_from_each_target_to_its_predictor() -> None:
    batch = collate(
        [Example("a", "", "", [5, 6, 7], [False, True, True], 2), Example("b", "", "", [8, 9], [False, True], 1)]
    )
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.logit_indices.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [6, 7, 9]
    assert batch.example_indices.tolist() == [0, 0, 1]
