"""What several seeds and several shares of the records say, where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.train.simulated import alone, curve_gain, pooled, seed_runs
from train.base.errors import TrainError
from train.evaluate.predictions import Scored
from train.report.learning_curve import ShareResult, fit_laws, learning_curve
from train.report.stats import student_p, student_quantile
from train.report.two_way import cluster_parts, fit_two_way
from train.report.write import html


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 29, 480])
def test_students_t_is_scipys(freedom: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is the oracle of this test")
    assert student_quantile(freedom) == pytest.approx(scipy_stats.t.ppf(0.975, freedom), rel=1e-9)
    for t in (-3.0, 0.0, 0.4, 2.1, 12.0):
        assert student_p(t, freedom) == pytest.approx(2 * scipy_stats.t.sf(abs(t), freedom), rel=1e-8, abs=1e-14)


def test_clusters_and_seeds_add_up() -> None:
    # By hand: cluster means 1, 3, 5, seed means 2 and 4, and nothing is left.
    components = fit_two_way(np.array([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]]))
    assert components.by_seed == (2.0, 4.0)
    assert (components.of_records, components.of_seeds) == pytest.approx((4 / 3, 2 / 2))
    assert components.seed_share == pytest.approx(1 / (1 + 4 / 3))
    half = (4.302653**2 * 4 / 3 + 12.706205**2) ** 0.5
    assert tuple(components.interval()) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert components._replace(mean=half).p() == pytest.approx(0.05, rel=1e-3)
    # What is left over explains the distance of these seeds, so that they add nothing.
    mixed = fit_two_way(np.array([[3.0, 0.0], [0.0, 2.9], [1.0, 0.0], [0.0, 1.0]]))
    assert mixed.of_seeds == 0
    assert mixed.of_records == pytest.approx(np.array([1.5, 1.45, 0.5, 0.5]).var(ddof=1) / 4)
    even = fit_two_way(np.full((4, 2), 0.5))
    assert (even.p(), even.seed_share) == (pytest.approx(1e-9, rel=1e-3), 0)
    assert fit_two_way(np.zeros((4, 2))).p() == 1


def test_a_cluster_of_many_records_weighs_more() -> None:
    parts = cluster_parts([[1.0, 1.0, 1.0, 0.0]], [1.0] * 4, ["a", "a", "a", "b"])
    assert parts.mean() == pytest.approx(0.75)


def test_a_lucky_seed_is_no_improvement() -> None:
    rng, ours, theirs, covered, num = np.random.default_rng(3), 0, 0, 0, 40
    for _ in range(num):
        base, sides = seed_runs(rng, 60, 2, between=0.12, is_graded=True)
        (row,) = pooled(base, sides).main().categories
        ours += row.verdict == "improved"
        covered += row.difference.low <= 0 <= row.difference.high
        theirs += alone(base, sides[0]).main().categories[0].verdict == "improved"
    assert ours <= 0.05 * num
    assert covered >= 0.9 * num
    assert theirs >= 0.25 * num, "records alone cannot know of seeds"


def test_a_gain_that_all_seeds_show_is_found_and_its_share_is_said() -> None:
    base, sides = seed_runs(np.random.default_rng(1), 150, 3, between=0.0, effect=0.3)
    report = pooled(base, sides)
    (row,) = report.main().categories
    assert row.verdict == "improved"
    assert report.seeds is not None
    (spread, mean) = report.seeds.spreads
    assert len(spread.changes) == 3
    assert np.mean(spread.changes) == pytest.approx(row.difference.value)
    assert mean.category == ""
    assert "Of their variance seeds make up, as far as 3 of them can tell: c " in report.seeds.sentence
    assert report.remarks[-1].startswith("Answers, confusions and the loss curve are those of ")


def test_an_interval_over_seeds_is_never_narrower_than_that_of_the_records() -> None:
    rng = np.random.default_rng(2)
    for between in (0.0, 0.1):
        base, sides = seed_runs(rng, 50, 2, between=between)
        mean = [
            replace(first, scores={"exact": ((first.score or 0) + (second.score or 0)) / 2})
            for first, second in zip(*sides, strict=True)
        ]
        narrow, wide = (report.main().categories[0].difference for report in (alone(base, mean), pooled(base, sides)))
        assert wide.low <= narrow.low <= narrow.high <= wide.high


def test_seeds_that_were_measured_on_other_records_are_refused() -> None:
    base, sides = seed_runs(np.random.default_rng(1), 20, 2, between=0.0)
    with pytest.raises(TrainError, match="other records"):
        pooled(base, [sides[0], sides[1][:-1]])


def test_a_law_without_noise_is_found() -> None:
    sizes = np.array([100.0, 200.0, 400.0, 800.0])
    scores = 0.9 - 0.2 * (sizes / 800) ** -0.5
    best, slow, fast = fit_laws(sizes, scores[None], np.ones(4), 1.0, 1e-12)
    assert best.exponent[0] == pytest.approx(0.5, rel=0.1)
    assert best.at(2.0)[0] == pytest.approx(0.9 - 0.2 * 2**-0.5, abs=5e-3)
    assert slow.exponent[0] <= best.exponent[0] <= fast.exponent[0]
    (falling, _, _) = fit_laws(sizes, scores[None, ::-1], np.ones(4), 1.0, 1e-12)
    assert falling.fall[0] == 0, "more records are not said to do harm"
    (high, _, _) = fit_laws(sizes, np.array([[0.5, 0.8, 0.97, 1.0]]), np.ones(4), 1.0, 1e-12)
    assert high.level[0] <= 1


@pytest.mark.parametrize(("law", "is_graded"), [((0.9, 0.2, 0.5), False), ((0.6, 0.0, 0.5), True)])
def test_what_doubling_brings_lies_in_its_interval(law: tuple[float, float, float], is_graded: bool) -> None:
    rng, hits, num = np.random.default_rng(5), 0, 60
    for _ in range(num):
        truth, gain = curve_gain(rng, law, 60, 2, between=0.02, is_graded=is_graded, draws=300)
        hits += gain.low - 1e-9 <= truth <= gain.high + 1e-9
    assert hits >= 0.9 * num


def _side(means: dict[str, float], num: int, spread: float, seed: int) -> list[Scored]:
    rng = np.random.default_rng(seed)
    records = []
    for category, mean in means.items():
        values = np.clip(mean + spread * rng.normal(size=num), 0, 1)
        records += [
            Scored(f"{category}{n}", "validation", category, f"{category}{n}", "y", 1.0 - mean, 1, 2, "x", True, "m",
                   {} if category == "bits" else {"m": float(value)})
            for n, value in enumerate(values)
        ]  # fmt: skip
    return records


def test_a_curve_says_what_to_do_category_by_category() -> None:
    shares = {0.25: (0.3, 0.5, 0.3), 0.5: (0.45, 0.5, 0.45), 1.0: (0.55, 0.5, 0.55)}
    base = _side({"rises": 0.1, "flat": 0.4, "few": 0.1, "bits": 0.1}, 60, 0.01, 0)
    results = []
    for share, (rises, flat, few) in shares.items():
        means = {"rises": rises, "flat": flat, "few": few, "bits": few}
        sides = [_side(means, 60, 0.01, seed) for seed in (1, 2)]
        results.append(ShareResult(share, {name: int(400 * share) for name in means}, sides))
    few = [record for record in base if record.category != "few" or int(record.id[3:]) < 20]
    curve = learning_curve(few, results, [0, 1], split="validation", margin=0.02, fewest=30)
    by_name = {each.category: each for each in curve.categories}
    assert {name: each.word for name, each in by_name.items()} == {
        "rises": "gain", "flat": "flat", "few": "unclear", "bits": "gain", "": "gain",
    }  # fmt: skip
    rises = by_name["rises"]
    assert rises.gain is not None
    assert rises.gain.low < 0.08
    assert rises.gain.high > 0.04
    assert rises.sentence.startswith("rises: doubling is expected to bring +.0")
    assert by_name["few"].sentence == "few: cannot tell, 20 of 30 independent records"
    assert "bits per byte less" in by_name["bits"].sentence
    assert by_name["bits"].points[0].score.value > by_name["bits"].points[-1].score.value
    assert "; flat: flat" in curve.sentence
    none = [result._replace(sizes={**result.sizes, "flat": 0}) for result in results]
    empty = learning_curve(few, none, [0, 1], split="validation", margin=0.02, fewest=30)
    assert "; flat: cannot tell, no training record;" in empty.sentence
    base, sides = seed_runs(np.random.default_rng(1), 40, 2, between=0.0)
    page = html(pooled(base, sides).model_copy(update={"learning_curve": empty}))
    assert page.count('viewBox="0 0 320 200"') == len(empty.categories)
    lone = [result._replace(sides=result.sides[:1]) for result in results]
    assert "One seed was trained" in learning_curve(few, lone, [0], split="validation", margin=0.02, fewest=30).sentence
