"""The statistics beside scipy's: the same shares, tails, permutations and bootstraps, on drawn data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from train.report import stats

scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is the oracle of these tests")


def _names(num: int) -> list[str]:
    return [f"c{number:04d}" for number in range(num)]


@pytest.mark.parametrize(("successes", "num"), [(0, 1), (0, 30), (7, 35), (31, 35), (200, 200), (81, 263)])
def test_wilson_is_scipys(successes: int, num: int) -> None:
    theirs = scipy_stats.binomtest(successes, num).proportion_ci(0.95, method="wilson")
    assert stats.wilson(successes, num) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("better", "worse"), [(1, 7), (31, 0), (12, 5), (60, 41), (300, 260), (4, 4)])
def test_mcnemar_is_scipys_binomial_test(better: int, worse: int) -> None:
    theirs = scipy_stats.binomtest(better, better + worse, 0.5).pvalue
    assert stats.mcnemar_p(better, worse) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("num", [5, 12])
def test_exact_sign_flips_are_scipys(num: int) -> None:
    differences = np.random.default_rng(num).normal(0.3, 1, num)
    theirs = scipy_stats.permutation_test(
        (differences, np.zeros(num)), _difference, permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert stats.sign_flip_p(list(differences), seed=[1]) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_drawn_sign_flips_are_near_scipys() -> None:
    differences = np.random.default_rng(4).normal(0.2, 1, 60)
    theirs = scipy_stats.permutation_test(
        (differences, np.zeros(60)), _difference, permutation_type="samples", vectorized=True, n_resamples=9999, rng=2
    )
    assert stats.sign_flip_p(list(differences), seed=[1]) == pytest.approx(theirs.pvalue, abs=0.02)


def _difference(x: NDArray[np.float64], y: NDArray[np.float64], axis: int) -> Any:
    return np.sum(x, axis=axis) - np.sum(y, axis=axis)


def test_the_cluster_bootstrap_is_scipys_over_sums_of_clusters() -> None:
    """Drawing clusters of several records is drawing pairs of (sum, size), which scipy can do too."""
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 6, 40)
    names = np.repeat(_names(40), sizes)
    values = 0.8 * np.repeat(rng.beta(0.5, 1.5, 40), sizes) + 0.2 * rng.random(len(names))
    sums = np.array([values[names == name].sum() for name in _names(40)])

    def ratio(x: NDArray[np.float64], n: NDArray[np.float64], axis: int) -> Any:
        return x.sum(axis=axis) / n.sum(axis=axis)

    theirs = scipy_stats.bootstrap(
        (sums, sizes.astype(float)), ratio, paired=True, vectorized=True, n_resamples=20_000, method="BCa", rng=5,
    ).confidence_interval  # fmt: skip
    ours = stats.bootstrap(list(values), [1.0] * len(values), list(names), seed=[3], replicates=20_000)
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.06 * width)
    alone = stats.bootstrap(list(values), [1.0] * len(values), _names(len(values)), seed=[3], replicates=20_000)
    # Records that hang together say less than as many that do not.
    assert ours.high - ours.low > 1.2 * (alone.high - alone.low)


@pytest.mark.parametrize(("num", "near"), [(200, 0.008), (5000, 2e-4)])
def test_intervals_of_many_graded_scores_are_nearly_scipys_of_students_t(num: int, near: float) -> None:
    values = np.random.default_rng(6).beta(2, 3, num)
    theirs = scipy_stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert stats.mean_interval(list(values), _names(num)) == pytest.approx((theirs.low, theirs.high), abs=near)


def test_holm_lies_between_the_false_discovery_rate_and_bonferroni() -> None:
    p_values = [0.0001, 0.0058, 0.0132, 0.0289, 0.0498, 0.0911, 0.2012, 0.5718, 0.8912, 0.9011]
    ours, discovery = stats.holm_adjust(p_values), scipy_stats.false_discovery_control(p_values)
    assert all(h >= d - 1e-12 for h, d in zip(ours, discovery, strict=True))
    assert all(h <= min(1.0, 10 * p) + 1e-12 for h, p in zip(ours, p_values, strict=True))
