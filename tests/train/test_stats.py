"""The statistics against published worked examples, against scipy where it is installed, and against brute force."""

from __future__ import annotations

import itertools
import math
import random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.report import stats

# Efron and Tibshirani 1993, table 2.1: survival days of the seven treated mice.
MICE = [94.0, 197.0, 16.0, 38.0, 99.0, 141.0, 23.0]
# Darwin's maize as in Fisher 1935, The Design of Experiments, section 17: crossed minus selfed, eighths of an inch.
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def _names(num: int) -> list[str]:
    return [f"c{number:04d}" for number in range(num)]


@pytest.mark.parametrize(
    ("successes", "num", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, num: int, low: float, high: float) -> None:
    assert stats.wilson(successes, num) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_contains_the_share_and_is_never_empty(num: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, num))
    low, high = stats.wilson(successes, num)
    assert 0 <= low <= successes / num + 1e-12
    assert successes / num - 1e-12 <= high <= 1
    assert high - low > 0.001
    mirrored = stats.wilson(num - successes, num)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(("successes", "num"), [(1, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_share(successes: int, num: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        stats.wilson(successes, num)


def test_bca_agrees_with_scipy() -> None:
    scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is the oracle of this test")
    values = np.random.default_rng(5).beta(0.5, 2, 80)
    ours = stats.bootstrap(list(values), [1.0] * 80, _names(80), seed=[3], replicates=20_000)
    theirs = scipy_stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=3).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_without_a_correction_the_percentiles_stay() -> None:
    assert stats.bootstrap([1.0, 2.0], [1.0, 1.0], ["a", "a"], seed=[1]) == (1.5, 1.5)


def test_a_bootstrap_is_the_same_each_time_and_needs_records() -> None:
    first, second, other = (stats.bootstrap(MICE, [1.0] * 7, _names(7), seed=[seed]) for seed in (1, 1, 2))
    assert first == second != other
    with pytest.raises(ValueError, match="at least one record"):
        stats.bootstrap([], [], [], seed=[1])


@pytest.mark.parametrize("copies", [2, 5])
def test_copies_of_a_record_are_no_evidence(copies: int) -> None:
    scores = [0.0, 1.0, 0.3, 0.8, 0.1, 0.9, 0.4, 0.4, 0.7, 0.2]
    names = _names(10)
    many, clusters = scores * copies, names * copies
    assert stats.mean_interval(many, clusters) == pytest.approx(stats.mean_interval(scores, names))
    binary = [float(score > 0.5) for score in scores]
    one = stats.mean_interval(binary, names)
    same = stats.mean_interval(binary * copies, clusters)
    assert same.high - same.low == pytest.approx(one.high - one.low)
    changed = [1 - score for score in scores]
    assert stats.paired_test(many, changed * copies, clusters, seed=[1])[1] == pytest.approx(
        stats.paired_test(scores, changed, names, seed=[1])[1], abs=0.02
    )


@pytest.mark.parametrize(
    ("num", "better", "worse", "low", "high"),
    # By hand: of n + 3 records the mean m = (b - w) / (n + 3), and t = 2.0181, 2.0369 and 1.9718 times the root of
    # ((b + w + 3) / (n + 3) - m^2) / (n + 3) to both sides.
    [
        (40, 0, 0, -0.0813, 0.0813),
        (40, 1, 0, -0.0703, 0.1168),
        (30, 6, 0, 0.0082, 0.3554),
        (200, 40, 40, -0.0885, 0.0885),
    ],
)
def test_intervals_of_changed_records_are_those_worked_out_by_hand(
    num: int, better: int, worse: int, low: float, high: float
) -> None:
    tuned = [1.0] * better + [0.0] * worse + [0.5] * (num - better - worse)
    base = [0.0] * better + [1.0] * worse + [0.5] * (num - better - worse)
    assert stats.difference_interval(base, tuned, _names(num)) == pytest.approx((low, high), abs=5e-5)


def test_one_record_is_no_proof() -> None:
    """A large gain of one of forty records leaves a loss of the others as possible as it was."""
    for value in (0.0, 0.05, 0.5, 1.0):
        low, high = stats.difference_interval([0.0] * 40, [value] + [0.0] * 39, _names(40))
        assert low < -0.02 * 3
        assert high > 0.02 * 3
        twins = [f"c{n // 2}" for n in range(80)]
        assert stats.difference_interval([0.0] * 80, [value] + [0.0] * 79, twins).low < -0.02 * 3


@pytest.mark.parametrize("num", [10, 20, 30, 60])
@pytest.mark.parametrize(
    ("scores", "chances"),
    [([1, 0.99, 0], [0.6, 0.35, 0.05]), ([1, 0.95, 0], [0.6, 0.37, 0.03]), ([0, 0.05, 1], [0.55, 0.4, 0.05])],
)
def test_the_interval_of_a_mean_allows_for_a_rare_score_that_was_not_seen(
    scores: list[float], chances: list[float], num: int
) -> None:
    mean = float(np.dot(scores, chances))
    draws = np.random.default_rng(num).choice(scores, p=chances, size=(300, num))
    intervals = [stats.mean_interval(draw, _names(num)) for draw in draws]
    assert sum(low <= mean <= high for low, high in intervals) >= 0.93 * 300


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_equal_scores_still_have_an_interval_of_some_width(value: float) -> None:
    low, high = stats.mean_interval([value] * 20, _names(20))
    assert low <= value <= high
    assert high - low > 0.1
    low, high = stats.difference_interval([0.0] * 20, [value] * 20, _names(20))
    assert low < value or value == 1.0
    assert -1 <= low <= value <= high <= 1
    assert high - low > 0.1


@pytest.mark.ci
def test_the_intervals_of_means_hold_what_they_promise() -> None:
    """95 % intervals of a known mean must contain it in about 95 % of samples; n = 40, clusters of two."""
    rng = random.Random(7)
    hits = {"binary": 0, "graded": 0, "difference": 0}
    for _ in range(200):
        clusters = [f"c{number // 2}" for number in range(40)]
        coin = {name: rng.random() < 0.3 for name in clusters}
        binary = [float(coin[name]) for name in clusters]
        graded = [rng.random() ** 2 for _ in clusters]
        moved = [min(1.0, score + rng.random() * 0.2) for score in graded]
        low, high = stats.mean_interval(binary, clusters)
        hits["binary"] += low <= 0.3 <= high
        low, high = stats.mean_interval(graded, clusters)
        hits["graded"] += low <= 1 / 3 <= high
        low, high = stats.difference_interval(graded, moved, clusters)
        hits["difference"] += low <= _mean_of_moved() <= high
    assert all(hit >= 180 for hit in hits.values()), hits


def _mean_of_moved() -> float:
    rng = np.random.default_rng(1)
    graded = rng.random(400_000) ** 2
    return float((np.minimum(1.0, graded + rng.random(400_000) * 0.2) - graded).mean())


@pytest.mark.parametrize("num", [2, 3, 5, 8])
def test_the_interval_of_a_few_graded_scores_does_not_claim_too_much(num: int) -> None:
    """A bootstrap of two holds the mean in half of all cases."""
    rng, names = np.random.default_rng(3), [f"c{n}" for n in range(num)]
    hits = 0
    for _ in range(300):
        values, before = rng.beta(2, 5, num).tolist(), rng.beta(2, 5, num).tolist()
        low, high = stats.mean_interval(values, names)
        hits += low <= 2 / 7 <= high
        low, high = stats.difference_interval(before, values, names)
        hits += low <= 0 <= high
    assert hits >= 0.95 * 600


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    # 1 and 7: the airway example that Fagerland et al. 2013, BMC Medical Research Methodology 13:91, work out.
    [(1, 7, 0.0703), (7, 1, 0.0703), (0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625)],
)
def test_mcnemar_gives_the_published_p(better: int, worse: int, p: float) -> None:
    assert stats.mcnemar_p(better, worse) == pytest.approx(p, abs=5e-5)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(better: int, worse: int) -> None:
    num = better + worse
    tail = sum(math.comb(num, k) for k in range(min(better, worse) + 1)) / 2**num
    assert stats.mcnemar_p(better, worse) == pytest.approx(min(1.0, 2 * tail))


def test_sign_flips_of_darwins_maize_are_those_that_fisher_counted() -> None:
    # 863 of 32,768 sign patterns reach 314 on one side.
    assert stats.sign_flip_p(MAIZE, seed=[1]) == 2 * 863 / 2**15


@given(st.lists(st.integers(-5, 5), max_size=8))
def test_sign_flips_are_those_of_brute_force(values: list[int]) -> None:
    patterns = list(itertools.product((1, -1), repeat=len(values)))
    hits = sum(abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= abs(sum(values)) for signs in patterns)
    assert stats.sign_flip_p([float(value) for value in values], seed=[1]) == pytest.approx(hits / len(patterns))


def test_many_sign_flips_are_drawn_and_never_give_zero() -> None:
    assert stats.sign_flip_p([1.0] * 400, seed=[1]) == 1 / 10_000
    drawn = stats.sign_flip_p([float(value) for value in [*MAIZE, 1, -1]], seed=[1])
    assert drawn == pytest.approx(0.0527, abs=0.01)


def test_the_paired_test_fits_the_scores() -> None:
    names = _names(4)
    assert stats.paired_test([0, 0, 1, 0], [1, 1, 1, 1], names, seed=[1]) == ("mcnemar", stats.mcnemar_p(3, 0))
    assert stats.paired_test([0, 0, 1, 0], [1, 1, 1, 1], ["a", "a", "b", "c"], seed=[1])[0] == "sign-flip"
    assert stats.paired_test([0, 0.5], [1, 1], names[:2], seed=[1]) == ("sign-flip", 0.5)


def test_holm_gives_the_worked_example_in_any_order() -> None:
    # By hand: .01 x 4, .02 x 3, .03 x 2, then .04 x 1 raised to the one before.
    assert stats.holm_adjust([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert stats.holm_adjust([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm_adjust([0.9, 0.8]) == [1.0, 1.0]
    assert stats.holm_adjust([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_closed_testing_rejects(p_values: list[float]) -> None:
    everyone = range(len(p_values))
    for one, adjusted in zip(everyone, stats.holm_adjust(p_values), strict=True):
        groups = [g for size in everyone for g in itertools.combinations(everyone, size + 1) if one in g]
        assert adjusted == pytest.approx(max(min(1.0, len(g) * min(p_values[i] for i in g)) for g in groups))


def _power(num: int, share: float, effect: float, alpha: float) -> float:
    """Of the exact test, summed over all that can be: so many better, so many worse, the rest unchanged."""
    up, down = (share + effect) / 2, (share - effect) / 2
    return math.fsum(
        math.comb(num, b) * math.comb(num - b, w) * up**b * down**w * (1 - share) ** (num - b - w)
        for b in range(num + 1)
        for w in range(num + 1 - b)
        if stats.mcnemar_p(b, w) < alpha
    )


@pytest.mark.parametrize(("num", "changed", "tests"), [(40, 12, 1), (40, 12, 6), (40, 40, 3), (60, 9, 1)])
def test_the_detectable_effect_has_the_power_of_the_exact_test(num: int, changed: int, tests: int) -> None:
    effect = stats.minimum_detectable_effect([1.0] * changed + [0.0] * (num - changed), tests)
    assert effect is not None
    assert _power(num, changed / num, effect, 0.05 / tests) == pytest.approx(0.8, abs=1e-4)
    # Of the direction of each nothing is told.
    parts = [1.0, -1.0] * (changed // 2) + [1.0] * (changed % 2) + [0.0] * (num - changed)
    assert stats.minimum_detectable_effect(parts, tests) == effect


@pytest.mark.parametrize(
    ("parts", "tests"),
    [
        ([0.0] * 40, 1),
        ([1.0] * 4 + [0.0] * 36, 1),
        ([1.0] * 10 + [0.0] * 90, 6),
        ([0.4] * 5 + [0.0] * 35, 1),
        ([30.0] + [0.3] * 30, 1),
    ],
)
def test_where_no_change_could_have_been_shown_there_is_no_smallest_one(parts: list[float], tests: int) -> None:
    assert stats.minimum_detectable_effect(parts, tests) is None


def test_the_detectable_effect_of_graded_scores_is_found_in_four_of_five_runs() -> None:
    rng, found = np.random.default_rng(2), 0

    def changes(shift: float, num: int = 40) -> np.ndarray:
        level = rng.normal(size=num)
        sides = [np.tanh(level + rng.normal(size=num) + moved) / 2 for moved in (0.0, shift)]
        return np.asarray(sides[1] - sides[0])

    # Parts of 40 records that stand for all that there are.
    effect = stats.minimum_detectable_effect(np.quantile(changes(0.0, 40_000), (np.arange(40) + 0.5) / 40).tolist())
    assert effect is not None
    shift = min(np.linspace(0, 2, 101), key=lambda moved: abs(changes(moved, 40_000).mean() - effect))
    flips = rng.choice([-1, 1], size=(40, 999))
    for values in (changes(shift) for _ in range(1000)):
        found += np.mean(np.abs(values @ flips) >= abs(values.sum())) < 0.05
    assert found / 1000 == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    ("num", "difference", "interval", "p", "word", "reason", "said", "is_no_worse"),
    [
        (40, 0.3, (0.1, 0.5), 0.001, "improved", "better", "better beyond chance", True),
        (40, -0.3, (-0.5, -0.1), 0.001, "regressed", "worse", "worse beyond chance", False),
        (40, -0.01, (-0.015, -0.005), 0.001, "inconclusive", "within-margin", "less than the margin", True),
        (40, 0.0, (-0.01, 0.01), 1.0, "inconclusive", "within-noise", "is ruled out", True),
        (40, 0.0, (-0.1, 0.1), 1.0, "inconclusive", "within-noise", "not ruled out", False),
        (40, 0.3, (0.1, 0.5), 0.2, "inconclusive", "within-noise", "no change shown", True),
        (29, 0.9, (0.8, 1.0), 0.0001, "inconclusive", "too-few", "too few to judge (29 of 30)", True),
    ],
)
def test_verdicts(
    num: int, difference: float, interval: tuple[float, float], p: float, word: str, reason: str, said: str,
    is_no_worse: bool,
) -> None:  # fmt: skip
    verdict = stats.decide_verdict(num, difference, stats.Interval(*interval), p, num_clusters=num)
    assert (verdict.verdict, verdict.reason) == (word, reason)
    assert said in verdict.note
    assert verdict.is_no_worse == is_no_worse


@pytest.mark.parametrize(("num", "up", "down"), [(200, 3, 4), (200, 0, 0), (300, 0, 1), (1000, 25, 25), (40, 30, 1)])
def test_the_margin_is_tested_as_tango_does(num: int, up: int, down: int) -> None:
    """Tango 1998, equations 5 and 6, in closed form for records of 0 and 1."""
    tuned = [1.0] * up + [-1.0] * down + [0.0] * (num - up - down)
    parts, size = stats.change_parts([0.0] * num, tuned, list(map(str, range(num))))
    b = -up - down - (2 * num - up + down) * 0.02
    q = (math.sqrt(b * b - 8 * num * down * 0.02 * 1.02) - b) / (4 * num)
    z = (up - down + 0.02 * num) / math.sqrt(num * (2 * q - 0.02 * 1.02))
    assert stats.margin_p(parts, math.sqrt(size), 0.02) == pytest.approx(1 - NormalDist().cdf(z), abs=1e-6)


def test_a_loss_is_ruled_out_only_where_interval_and_test_say_so() -> None:
    def reason(low: float, margin_p: float) -> str:
        interval = stats.Interval(low, 0.01)
        return stats.decide_verdict(
            40, 0.0, interval, 1.0, num_clusters=40, margin_p=margin_p, is_non_inferiority=True
        ).reason

    assert reason(-0.01, 0.02) == "not-worse"
    assert reason(-0.01, 0.03) == "cannot-tell"
    assert reason(-0.03, 0.02) == "cannot-tell"


def test_records_that_repeat_one_another_are_counted_once_before_judging() -> None:
    verdict = stats.decide_verdict(60, 0.5, stats.Interval(0.3, 0.7), 0.0001, num_clusters=12)
    assert (verdict.verdict, verdict.reason) == ("inconclusive", "too-few")
    assert verdict.note == "too few to judge (12 of 30): its 60 records are 12 clusters"


def test_clusters_that_are_all_alike_still_leave_doubt() -> None:
    """Each pair of records has one right before and both after: the records differ, what is drawn does not."""
    base, tuned, clusters = [0.0, 1.0] * 30, [1.0] * 60, [f"k{n // 2}" for n in range(60)]
    low, high = stats.difference_interval(base, tuned, clusters)
    assert low < 0.45 < 0.5 < high
    low, high = stats.mean_interval([0.2, 0.4] * 30, clusters)
    assert low < 0.27 < 0.33 < high
