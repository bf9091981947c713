"""Whatever holds the numbers, list or array of any width, the statistics are the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from train.report import stats

NUMBER_TYPES = ["int8", "uint8", "int32", "int64", "float32", "float64"]
BASE = [0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1]
TUNED = [1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1]
ALONE = [f"c{number:02d}" for number in range(len(BASE))]
PAIRED = [f"c{number // 2:02d}" for number in range(len(BASE))]
Holder = Callable[[list[float]], Any]

# Each is a public function on numbers, given what holds them.
CALLS: dict[str, Callable[[Holder, Any], Any]] = {
    "bootstrap": lambda held, names: stats.bootstrap(
        held(TUNED), held([1] * 24), names(PAIRED), seed=[1], replicates=200
    ),
    "mean_interval": lambda held, names: stats.mean_interval(held(BASE), names(PAIRED)),
    "difference_interval": lambda held, names: stats.difference_interval(held(BASE), held(TUNED), names(PAIRED)),
    "minimum_detectable_effect": lambda held, names: stats.minimum_detectable_effect(held(BASE), num_tests=2),
    "discordant": lambda held, names: stats.count_discordant(held(BASE), held(TUNED)),
    "sign_flip": lambda held, names: stats.sign_flip_p(held(TUNED * 2), seed=[1]),
    "paired_test, mcnemar": lambda held, names: stats.paired_test(held(BASE), held(TUNED), names(ALONE), seed=[1]),
    "paired_test, sign-flip": lambda held, names: stats.paired_test(held(TUNED), held(BASE), names(PAIRED), seed=[1]),
    "holm": lambda held, names: stats.holm_adjust(held([0, 1, 1, 0])),
}


@pytest.mark.parametrize("kind", NUMBER_TYPES)
@pytest.mark.parametrize("name", CALLS)
def test_arrays_give_what_lists_give(name: str, kind: str) -> None:
    call = CALLS[name]
    plain = call(list, list)
    found = call(lambda values: np.array(values, dtype=kind), np.array)
    assert found == plain
    # And are what a report can hold: no number of numpy's is JSON.
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(plain))


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_graded_scores_of_any_width_give_what_lists_give(kind: str) -> None:
    # Eighths are the same number in every width.
    values = [number % 9 / 8 for number in range(240)]
    names = [f"c{number}" for number in range(240)]
    for some in (24, 240):
        found = stats.mean_interval(np.array(values[:some], dtype=kind), np.array(names[:some]))
        assert found == stats.mean_interval(values[:some], names[:some])


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize(("better", "worse"), [(1, 7), (28, 0), (40, 60), (60, 40), (100, 100)])
def test_mcnemar_of_numpys_integers_is_that_of_pythons(better: int, worse: int, kind: str) -> None:
    number = np.dtype(kind).type
    with np.errstate(all="raise"):
        found = stats.mcnemar_p(number(better), number(worse))
    assert found == stats.mcnemar_p(better, worse)
    assert type(found) is float


def test_mcnemar_counts_records_and_takes_no_fractions() -> None:
    with pytest.raises(TypeError):
        stats.mcnemar_p(1.5, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", NUMBER_TYPES)
def test_numpys_single_numbers_give_what_pythons_give(kind: str) -> None:
    number = np.dtype(kind).type
    assert stats.wilson(number(81), number(100)) == stats.wilson(81, 100)
    low, high, p = (np.float32(value) for value in (0.25, 0.75, 0.0))
    found = stats.decide_verdict(number(40), np.float32(0.5), stats.Interval(low, high), p, num_clusters=number(35))
    assert found == stats.decide_verdict(40, 0.5, stats.Interval(0.25, 0.75), 0.0, num_clusters=35)
    assert type(found.is_no_worse) is bool


def test_values_without_records_are_still_refused_as_arrays() -> None:
    nothing = np.array([])
    with pytest.raises(ValueError, match="at least one record"):
        stats.bootstrap(nothing, nothing, np.array([], dtype=str), seed=[1])
