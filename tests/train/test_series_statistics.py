"""What several seeds and several shares of the records say, where the truth is known."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.train.simulated import alone, equal_choices, measured_curve, pooled, scored_side, seed_runs
from train.base.errors import TrainError
from train.evaluate.predictions import Scored
from train.report import Report, Run, build_report, table
from train.report.learning_curve import ShareResult, learning_curve
from train.report.series import Exam, StageFacts, stages_table, without_selection_verdicts
from train.report.stats import cluster_parts
from train.report.tables import ReportTable
from train.report.two_way import Parts, fit_two_way, mean_parts, measure


def test_clusters_and_seeds_add_up() -> None:
    # By hand: cluster means 1, 3, 5, seed means 2 and 4, and nothing is left.
    components = fit_two_way(np.array([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]]))
    assert components.by_seed == (2.0, 4.0)
    assert (components.of_records, components.of_seeds()) == pytest.approx((4 / 3, 2 / 2))
    assert components.seed_share == pytest.approx(1 / (1 + 4 / 3))
    half = (4.302653**2 * 4 / 3 + 12.706205**2) ** 0.5
    assert tuple(components.interval()) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert components._replace(mean=half).p() == pytest.approx(0.05, rel=1e-3)
    # What is left over explains the distance of these seeds, so that they add nothing.
    mixed = fit_two_way(np.array([[3.0, 0.0], [0.0, 2.9], [1.0, 0.0], [0.0, 1.0]]))
    assert mixed.of_seeds() == 0
    assert mixed.of_records == pytest.approx(np.array([1.5, 1.45, 0.5, 0.5]).var(ddof=1) / 4)
    even = fit_two_way(np.full((4, 2), 0.5))
    assert (even.p(), even.seed_share) == (pytest.approx(1e-9, rel=1e-3), 0)
    assert fit_two_way(np.zeros((4, 2))).p() == 1


def test_a_cluster_of_many_records_weighs_more() -> None:
    parts = cluster_parts([[1.0, 1.0, 1.0, 0.0]], [1.0] * 4, ["a", "a", "a", "b"])
    assert parts.mean() == pytest.approx(0.75)


def _documents(num: int, spread: float, seed: int, split: str = "test", *, crossed: bool = True) -> list[Scored]:
    """Records of four categories; where they are crossed, one document is asked in each, with one answer to all."""
    rng = np.random.default_rng(seed)
    values = {name: np.clip(0.5 + spread * rng.normal(size=num), 0, 1) for name in "abcd"}
    return [
        Scored(f"{name}{n}", split, name, f"{'' if crossed else name}{n}", "y", 1.0, 1, 2, "x", True, "m",
               {"m": float(values["a" if crossed else name][n])})
        for name in "abcd" for n in range(num)
    ]  # fmt: skip


def test_a_document_in_several_categories_is_one() -> None:
    base = _documents(60, 0.0, 0)
    part = pooled(base, [_documents(60, 0.2, seed) for seed in (1, 1)]).main()
    assert part.macro is not None
    (category, *_), mean = part.categories, part.macro
    half, whole = ((row.difference.high - row.difference.low) / 2 for row in (mean, category))
    assert half == pytest.approx(whole, rel=0.1), "of four equal categories the mean is no surer than one"
    results = [ShareResult(share, dict.fromkeys("abcd", int(400 * share)), [_documents(60, 0.2, 2)] * 2)
               for share in (0.25, 0.5, 1.0)]  # fmt: skip
    first, *_, last = learning_curve(base, results, [0, 1], split="test", margin=0.02).rows
    assert last[0] == "MEAN"
    assert last[-3:] == first[-3:]
    two = [[_documents(60, 0.2, seed, "validation")] * 2 for seed in (3, 4)]
    one = [[[row for row in side if row.category == "a"] for side in choice] for choice in two]
    lag, alone_ = (Exam(choices).behind(1 - Exam(choices).best) for choices in (two, one))
    assert lag is not None
    assert alone_ is not None
    assert lag.high - lag.low == pytest.approx(alone_.high - alone_.low)


def test_where_no_cluster_crosses_the_mean_is_of_independent_categories() -> None:
    rng = np.random.default_rng(0)
    parts = [Parts(rng.normal(size=(num, 3)), [f"{num}-{n}" for n in range(num)]) for num in (5, 7, 9)]
    centred = [(each.values - each.values.mean(axis=0)) * (21 / 3 / len(each.values)) for each in parts]
    expected = np.concatenate(centred) + np.mean([each.values.mean(axis=0) for each in parts], axis=0)
    assert mean_parts(parts) == pytest.approx(expected, abs=1e-15)


def test_the_interval_of_a_mean_over_crossed_categories_covers_the_truth() -> None:
    num, covered = 200, 0
    for seed in range(num):
        sides = [[replace(row, scores={"m": round(row.score or 0)}) for row in _documents(60, 0.2, seed)]] * 2
        low, high = fit_two_way(mean_parts([each.scores for each in measure(sides, "test")])).interval()
        covered += low <= 0.5 <= high
    assert 0.92 * num <= covered <= 0.98 * num, "63 % where the categories are taken for independent"


def test_an_answer_that_nobody_liked_counts_nowhere() -> None:
    def side(score: float, disliked: float, spread: float = 0.0) -> list[Scored]:
        return [
            Scored(f"r{n}", "test", "help", f"r{n}", "" if n % 3 == 0 else "y", 1.0, 1, 2, "x", True, "m",
                   {} if n % 3 == 0 else {"m": score + spread * (n % 5)}, is_liked=n % 3 != 0,
                   slices={"s": ["ab"[n % 2]]}, rejected=None)
            for n in range(120)
        ]  # fmt: skip

    base, tuned = side(0.1, 0.0), [side(0.3, 0.9, 0.01), side(0.3, 0.0, 0.02)]
    results = [ShareResult(share, {"help": int(400 * share)}, tuned) for share in (0.25, 0.5, 1.0)]
    curve = learning_curve(base, results, [0, 1], split="test", margin=0.02)
    assert "no figure" not in " ".join(curve.sentences)
    assert len(measure([base, *tuned], "test")[0].scores.names) == 80
    assert [row[0] for row in curve.rows] == ["help"]


def test_of_raw_text_an_answer_that_nobody_liked_counts_nowhere() -> None:
    def side(nll: float) -> list[Scored]:
        return [
            Scored(f"r{n}", "test", "help", f"r{n}", "y", nll + n % 3 + (50 if n % 3 == 0 and nll > 3 else 0), 2, 9,
                   is_liked=n % 3 != 0, slices={"s": ["ab"[n % 2]]})
            for n in range(120)
        ]  # fmt: skip

    report = pooled(side(3), [side(4), side(4.1)])
    (row,) = report.main().categories
    assert row.n == 80
    changes = [float(change) for change in _seeds(report)[0][1:3]]
    assert np.mean(changes) == pytest.approx(row.difference.value, abs=0.01)


def _seeds(report: Report) -> list[list[str]]:
    return [list(row) for table in report.tables if table.part == "seeds" for row in table.rows]


@pytest.mark.ci
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
    (spread, mean) = _seeds(report)
    assert np.mean([float(change) for change in spread[1:4]]) == pytest.approx(row.difference.value, abs=0.01)
    assert (spread[0], mean[0]) == ("c", "MEAN")
    assert report.remarks[-1].startswith("Answers, ")


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
    with pytest.raises(TrainError, match="not the same"):
        pooled(base, [sides[0], sides[1][:-1]])


@pytest.mark.parametrize(
    ("means", "is_graded", "word"),
    [
        ((0.5, 0.617, 0.7), False, "+ better"), ((0.6, 0.6, 0.6), True, "? cannot tell"),
        ((0.3, 0.35, 0.4), True, "+ better"), ((0.9, 0.8, 0.7), True, "- worse"),
    ],
)  # fmt: skip
def test_what_a_doubling_brought_lies_in_its_interval_and_the_word_is_right(
    means: tuple[float, ...], is_graded: bool, word: str
) -> None:
    rng, hits, said, num = np.random.default_rng(5), 0, [], 40
    for _ in range(num):
        (low, high), found = measured_curve(rng, means, 100, 3, between=0.02, is_graded=is_graded)
        hits += low - 1e-9 <= (means[2] - means[0]) / 2 <= high + 1e-9
        said.append(found)
    assert hits >= 0.9 * num
    assert max(set(said), key=said.count) == word
    others = {"+ better", "- worse", "~ flat"} - ({word} if means[0] != means[2] else {"~ flat"})
    assert sum(found in others for found in said) <= 3, "5 % of 40 is 2"


def _side(means: dict[str, float], num: int, spread: float, seed: int) -> list[Scored]:
    rng = np.random.default_rng(seed)
    records = []
    for category, mean in means.items():
        values = np.clip(mean + spread * rng.normal(size=num), 0, 1)
        records += [
            Scored(f"{category}{n}", "validation", category, f"{category}{n}", "y", 1.0 - mean, 1, 2, "x", True,
                   "" if category == "bits" else "m", {} if category == "bits" else {"m": float(value)})
            for n, value in enumerate(values)
        ]  # fmt: skip
    return records


@pytest.mark.ci
def test_a_curve_says_what_to_do_category_by_category() -> None:
    shares = {0.25: (0.3, 0.5, 0.3), 0.5: (0.45, 0.5, 0.45), 1.0: (0.55, 0.5, 0.55)}
    base = _side({"rises": 0.1, "flat": 0.4, "few": 0.1, "bits": 0.1, "falls": 0.4}, 60, 0.01, 0)
    results = []
    for share, (rises, flat, few) in shares.items():
        means = {"rises": rises, "flat": flat, "few": few, "bits": few, "falls": 0.9 - rises}
        sides = [_side(means, 60, 0.01, seed + int(100 * share)) for seed in (1, 2)]
        results.append(ShareResult(share, {name: int(400 * share) for name in means}, sides))

    def fewer(side: Sequence[Scored]) -> list[Scored]:
        return [record for record in side if record.category != "few" or int(record.id[3:]) < 20]

    few = fewer(base)
    results = [result._replace(sides=list(map(fewer, result.sides))) for result in results]
    curve = learning_curve(few, results, [0, 1], split="validation", margin=0.02)
    assert _words(curve) == {
        "rises": "+ better", "flat": "~ flat", "few": "? 20 of 30 independent records", "bits (bits)": "+ better",
        "falls": "- worse", "MEAN": "+ better",
    }  # fmt: skip
    by_name = {row[0]: row for row in curve.rows}
    assert by_name["rises"][6].startswith("+.12 (+.1")
    assert by_name["falls"][6].startswith("\u2212.13 (\u2212.1")
    assert float(by_name["bits (bits)"][3]) > float(by_name["bits (bits)"][5])
    none = [result._replace(sizes={**result.sizes, "flat": 0}) for result in results]
    empty = learning_curve(few, none, [0, 1], split="validation", margin=0.02)
    assert _words(empty)["flat"] == "? no training record"
    lone = [result._replace(sides=result.sides[:1]) for result in results]
    told = learning_curve(few, lone, [0], split="validation", margin=0.02).sentences
    assert "One seed was trained" in told[0]


def _words(curve: ReportTable) -> dict[str, str]:
    return {row[0]: row[curve.heads.index("verdict")] for row in curve.rows}


@pytest.mark.parametrize(("trivial", "is_said"), [(0.62, True), (0.5, True), (0.4, False), (None, False)])
def test_a_curve_is_held_against_the_trivial_answer_and_its_interval_is_shown(
    trivial: float | None, is_said: bool
) -> None:
    base = [replace(row, trivial_score=trivial) for row in _side({"a": 0.1, "b": 0.1}, 400, 0.0, 0)]
    side = [replace(row, scores={"m": 0.5}, trivial_score=trivial) for row in base]
    results = [ShareResult(share, dict.fromkeys("ab", int(400 * share)), [side] * 2) for share in (0.25, 0.5, 1.0)]
    words = _words(learning_curve(base, results, [0, 1], split="validation", margin=0.02)).values()
    assert len(words) == 3
    assert all(word.startswith("~ flat") for word in words)
    assert all(("no better than the trivial answer (" in word) == is_said for word in words)


@pytest.mark.ci
def test_what_seeds_move_by_chance_is_no_verdict_where_several_are_asked() -> None:
    # Records hardly vary, seeds move each category and each source by a number of their own.
    rng, found, shown, num = np.random.default_rng(4), 0, 0, 30
    for _ in range(num):
        cells = [(category, source) for category in "abc" for source in "xy"]

        def run(spread: float, cells: list[tuple[str, str]] = cells) -> list[Scored]:
            moves = {cell: spread * rng.normal() for cell in cells}
            return [
                Scored(f"{c}{s}{n}", "test", c, f"{c}{s}{n}", "y", 1.0, 1, 2, "x", True, "m",
                       {"m": float(np.clip(0.5 + moves[c, s] + 0.1 * rng.normal(), 0, 1))}, slices={"source": [s]})
                for c, s in cells for n in range(30)
            ]  # fmt: skip

        report = pooled(run(0.0), [run(0.1), run(0.1)])
        found += any(row.verdict != "inconclusive" for row in report.main().categories)
        shown += "By field: source = " in table(report)
    assert max(found, shown) <= 4, "5 % of 30 are 1.5; without seeds it is nearly all"


def test_a_gap_that_all_seeds_show_is_found() -> None:
    rng = np.random.default_rng(5)

    def side(gain: float) -> list[Scored]:
        return [
            Scored(f"r{n}", "test", "c", f"r{n}", "y", 1.0, 1, 2, "x", True, "m",
                   {"m": float(np.clip(0.4 + gain * (n % 2) + 0.1 * rng.normal(), 0, 1))}, slices={"s": ["ab"[n % 2]]})
            for n in range(120)
        ]  # fmt: skip

    assert "By field: s = a gained \u2212.3" in table(pooled(side(0.0), [side(0.3), side(0.3), side(0.3)]))


def test_pairs_are_compared_seed_by_seed_and_bits_have_their_own_name() -> None:
    def side(*both: tuple[float, float]) -> list[Scored]:
        return [
            Scored(f"{c}{n}", "test", c, f"{c}{n}", "", nll + n % 3, 4, 16,
                   rejected={"nll": worse * (1 + n % 5 / 100), "num_tokens": 4})
            for c, (nll, worse) in zip("ab", both, strict=True) for n in range(40)
        ]  # fmt: skip

    # One seed gains in all of them, the other, whose answers lie far higher, in none.
    report = pooled(side((10, 20), (10, 20)), [side((5, 40), (5, 40)), side((95, 100), (95, 100))])
    (shown,) = [each for each in report.tables if each.part == "preferences"]
    assert shown.rows[-1][2:5] == (".50", ".00 to 1.00", "+11.00")
    assert [(row[0], row[-1]) for row in _seeds(report)] == [("a", "100.0 %"), ("b", "100.0 %")]


@pytest.mark.ci
def test_a_flat_curve_is_no_gain_and_equal_scores_rule_out_little() -> None:
    rng, gains, num = np.random.default_rng(0), 0, 30
    for _ in range(num):
        difficulty = rng.normal(size=60)
        results = [
            ShareResult(share, dict.fromkeys("ab", int(400 * share)), [
                [replace(row, scores={"m": float(difficulty[int(row.id[1:])] + rng.normal() < 0.4)})
                 for row in _side(dict.fromkeys("ab", 0.5), 60, 0.0, 0)] for _ in range(2)
            ]) for share in (0.25, 0.5, 1.0)
        ]  # fmt: skip
        base = _side(dict.fromkeys("ab", 0.5), 60, 0.0, 0)
        curve = learning_curve(base, results, [0, 1], split="validation", margin=0.02)
        gains += "+ better" in _words(curve).values()
    assert gains <= 3, "5 % of 30 are 1.5; nearly half of them where the interval alone had to begin at zero"

    def equal(value: float, records: int, sizes: Mapping[float, int], passes: float = 1.0) -> str:
        side = _side({"a": value}, records, 0.0, 0)
        results = [ShareResult(share, {"a": size}, [side, side]) for share, size in sizes.items()]
        rules: Any = {"split": "validation", "margin": 0.02, "passes": passes}
        return _words(learning_curve(side, results, [0, 1], **rules))["a"]

    shares = {0.25: 100, 0.5: 200, 1.0: 400}
    assert equal(0.0, 30, shares) == "? cannot tell"
    assert equal(0.0, 400, shares) == "~ flat"
    # What the steps never read is no part of the larger shares.
    assert equal(0.0, 400, shares, passes=0.54) == "? the steps are 54 % of an epoch"
    assert equal(0.5, 30, dict.fromkeys(shares, 12)) == "? the shares have the same records"


def test_marks_of_stages_are_adjusted_over_all_of_them() -> None:
    # Each stage makes eight records right and one wrong, p = .039.
    values, sides = [0.0] * 30 + [1.0] * 10, []
    for stage in range(4):
        sides.append(scored_side(np.array(values), 1))
        values = [
            1.0 if 8 * stage <= n < 8 * stage + 8 else 0.0 if n == 39 - stage else v for n, v in enumerate(values)
        ]
    reports = [alone(*pair) for pair in itertools.pairwise(sides)]
    assert [report.main().categories[0].verdict for report in reports] == ["improved"] * 3
    facts = [StageFacts(f"s{n}", 0, 0) for n in range(3)]
    assert not any("+" in cell for row in stages_table(facts, [40] * 3, reports).rows for cell in row)
    assert stages_table(facts[:1], [40], reports[:1]).rows[0][-1].endswith(" +")


def test_equal_choices_are_not_told_apart_and_another_one_is() -> None:
    rng, told, num = np.random.default_rng(0), 0, 12
    for _ in range(num):
        exam = Exam(equal_choices(rng, 8, 60, 2, between=0.1))
        told += any(found is not None and found.low > 0 for found in map(exam.behind, range(8)))
    assert told <= 1, "2.5 % of 12 are 0.3; nearly all where seeds do not count"
    best, *others = equal_choices(rng, 3, 60, 2, between=0.0)
    side = best[0]
    poor = [replace(row, scores={"exact": 0.0}) for row in side]
    exam = Exam([best, *others, [poor, poor]])
    first, last = exam.behind(1), exam.behind(3)
    assert first is not None
    assert last is not None
    assert first.low <= 0 < last.low
    assert Exam([best[:1], [poor]]).behind(1) is None, "what another seed would change nobody knows"
    # Of raw text nothing is scored, and bits per byte are held against one another.
    text = [replace(row, scores={}, nll=1.0 + n % 3) for n, row in enumerate(side)]
    worse = [replace(row, nll=(row.nll or 0) + 0.1 + n % 2 / 100) for n, row in enumerate(text)]
    more = Exam([[text, text], [worse, worse]]).behind(1)
    assert more is not None
    assert 0 < more.low < 0.105 / (3 * np.log(2)) < more.high


def test_the_records_that_chose_give_no_verdict() -> None:
    base, sides = seed_runs(np.random.default_rng(1), 150, 2, between=0.0, effect=0.3)
    both = [*base, *(replace(row, split="validation") for row in base)]
    tuned = [[*side, *(replace(row, split="validation") for row in side)] for side in sides]
    judged = without_selection_verdicts(pooled(both, tuned))
    assert {part.split: part.categories[0].verdict for part in judged.splits} == {
        "test": "improved", "validation": "inconclusive",
    }  # fmt: skip
    (alone_,) = without_selection_verdicts(pooled(both[150:], [side[150:] for side in tuned])).splits
    assert alone_.macro is not None
    assert {row.reason for row in (*alone_.categories, alone_.macro)} == {"chose"}
    assert "these records chose the settings, so there is no verdict" in alone_.categories[0].note
    report = without_selection_verdicts(pooled(both[150:], [side[150:] for side in tuned]))
    assert "? no verdict" in table(report)
    assert "improved" not in table(report)
    assert "the validation split (n = 150) chose the settings" in report.notes[0]


def test_one_run_says_that_it_knows_one_seed() -> None:
    base, sides = seed_runs(np.random.default_rng(1), 40, 2, between=0.0)
    trained = build_report(base, sides[0], run=Run(id="s", seed=0)).notes
    assert sum("One seed was trained" in note for note in trained) == 1
    # Nothing was trained, or several were.
    for report in (alone(base, sides[0]), pooled(base, sides)):
        assert not any("One seed was trained" in note for note in report.notes)
