"""Measures of agreement: published worked examples, scikit-learn, definitions written out, and laws that must hold."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.intervals import wilson
from curate.sessions.agreement import Answers, LiveAgreement
from curate.sessions.agreement_figures import ALIKE, NO_OVERLAP, SAME_VALUE, TOO_FEW, Chance
from curate.sessions.agreement_measure import Agreement, measure
from tests.curate.agreeing import QUICK, close, random_answers, written_out_alpha
from tests.effort import draws


def told(*rows: str) -> dict[str, dict[str, str]]:
    """Return answers from a row an annotator (A, B, ...), a column a record; a dot is no answer."""
    answers: dict[str, dict[str, str]] = {}
    for by, row in zip("ABCDEFGH", rows, strict=False):
        for number, value in enumerate(row.split()):
            answers.setdefault(f"u{number}", {})
            if value != ".":
                answers[f"u{number}"][by] = value
    return answers


def tabled(counts: list[list[int]]) -> dict[str, dict[str, str]]:
    """Return answers of two annotators from their table of how often which value met which."""
    cells = [(i, j) for i, row in enumerate(counts) for j, count in enumerate(row) for _ in range(count)]
    return {f"r{n}": {"ana": f"v{i}", "bo": f"v{j}"} for n, (i, j) in enumerate(cells)}


def rated(table: list[list[int]]) -> dict[str, dict[str, str]]:
    """Return answers from a table with a row a record and how many gave each value; who did does not matter."""
    return {
        f"r{n}": {
            f"a{k}": value for k, value in enumerate(f"v{j}" for j, count in enumerate(row) for _ in range(count))
        }
        for n, row in enumerate(table)
    }


KRIPPENDORFF_C = told(
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
HAYES = told(
    "1 1 2 . 0 0 1 1 2 2 . 0 1 3 1 1 2 1 1 0 0 0 2 0 1 0 0 1 1 1 1 2 2 3 2 2 2 2 2 1",
    "1 1 3 0 0 0 0 . 2 1 1 0 2 3 1 1 1 2 1 0 0 0 3 0 2 1 0 2 1 1 1 1 2 2 2 2 2 2 2 1",
    "2 0 3 0 0 0 2 2 2 1 0 0 2 2 1 1 2 3 0 0 1 . 3 0 . 1 0 1 2 2 0 2 . 2 2 3 2 . 2 1",
    ". 1 3 . . . . 0 . 1 0 0 2 2 . . . 3 1 . 1 0 3 0 2 1 1 2 2 . . 1 2 2 . . . 1 2 .",
    "2 . . 0 0 0 1 . 2 . . . . 3 1 1 2 . . 0 . 0 . . 2 . 0 . . 2 0 . 2 . 2 2 2 2 . 1",
)
WIKIPEDIA_FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


FLEISS_1971 = [
    [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0], [2, 0, 4, 0, 0],
    [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6], [1, 0, 0, 5, 0], [1, 1, 0, 4, 0],
    [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1], [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0],
    [0, 2, 0, 4, 0], [1, 0, 2, 0, 3], [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0],
    [1, 0, 0, 4, 1], [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
]  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": A (binary), B (nominal), C (missing data).
        (told("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"), 0.095),
        (told("a a b b d c c c e d d a", "b a b b b c c c e d d d"), 0.692),
        (KRIPPENDORFF_C, 0.743),
        # The example of Wikipedia's article.
        (
            told(
                ". . . . . 3 4 1 2 1 1 3 3 . 3", "1 . 2 1 3 3 4 3 . . . . . . .", ". . 2 1 3 4 4 . 2 1 1 3 3 . 4",
            ),
            0.691,
        ),
        # Hayes and Krippendorff 2007, Table 1, as nominal data.
        (HAYES, 0.477),
    ],
    ids=["2011 A", "2011 B", "2011 C", "Wikipedia", "Hayes 2007"],
)  # fmt: skip
def test_alpha_of_published_examples(answers: Answers, wanted: float) -> None:
    assert close(measure(answers, chance=QUICK).alpha.value, wanted)
    assert close(LiveAgreement(answers).glance("A").alpha, wanted)


def test_fleiss_kappa_of_published_examples() -> None:
    found = measure(rated(WIKIPEDIA_FLEISS), chance=QUICK)
    assert close(found.fleiss.value, 0.210)
    assert close(found.percent.value, 0.378)
    assert (found.fleiss_answers, found.fleiss.num_records) == (14, 10)
    assert close(measure(rated(FLEISS_1971), chance=QUICK).fleiss.value, 0.430)


def test_classes_are_those_of_fleiss_1971() -> None:
    found = measure(rated(FLEISS_1971), chance=QUICK)
    num = found.num_answers
    assert num == 180
    by_value = {one.value: one for one in found.classes}
    # Depression, personality disorder, schizophrenia, neurosis, other: the kappa of each category in his Table 2.
    for value, kappa in zip(["v0", "v1", "v2", "v3", "v4"], [0.245, 0.245, 0.520, 0.471, 0.566], strict=True):
        one = by_value[value]
        share = one.num_answers / num
        assert one.specific.value is not None
        assert close((one.specific.value - share) / (1 - share), kappa)
        # Alpha is that kappa with a correction for few answers.
        assert one.alpha.value is not None
        assert close((one.alpha.value - 1 / num) / (1 - 1 / num), kappa)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], 0.492),  # Cohen 1960, Table 2
        ([[20, 5], [10, 15]], 0.400),
        ([[45, 15], [25, 15]], 0.1304),
        ([[25, 35], [5, 35]], 0.2593),
    ],
)
def test_cohens_kappa_of_published_examples(counts: list[list[int]], wanted: float) -> None:
    (pair,) = measure(tabled(counts), chance=QUICK).pairs
    assert close(pair.kappa.value, wanted)
    assert pair.kappa.num_records == sum(map(sum, counts))
    (peer,) = LiveAgreement(tabled(counts)).glance("bo").peers
    assert peer.name == "ana"
    assert close(peer.kappa, wanted)


def test_specific_agreement_of_two_is_dice() -> None:
    classes = {one.value: one for one in measure(tabled([[20, 5], [10, 15]]), chance=QUICK).classes}
    assert close(classes["v0"].specific.value, 2 * 20 / (2 * 20 + 5 + 10), 9)
    assert close(classes["v1"].specific.value, 2 * 15 / (2 * 15 + 5 + 10), 9)


@pytest.mark.parametrize(
    ("right", "num", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
)
def test_wilson_of_newcombe_1998(right: int, num: int, low: float, high: float) -> None:
    found = wilson(right, num)
    assert close(found[0], low, 4)
    assert close(found[1], high, 4)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_what_scikit_learn_says(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    answers = random_answers(seed, values=2 + seed)
    found = measure(answers, chance=QUICK)
    assert len(found.pairs) == 3
    for pair in found.pairs:
        both = [own for own in answers.values() if pair.left in own and pair.right in own]
        left, right = [own[pair.left] for own in both], [own[pair.right] for own in both]
        assert pair.kappa.value == pytest.approx(metrics.cohen_kappa_score(left, right))
        assert pair.percent.value == pytest.approx(metrics.accuracy_score(left, right))
        assert pair.percent.num_records == len(both)


def test_fleiss_is_what_statsmodels_says() -> None:
    raters = pytest.importorskip("statsmodels.stats.inter_rater", reason="statsmodels is not installed")
    for table in (WIKIPEDIA_FLEISS, FLEISS_1971):
        found = measure(rated(table), chance=QUICK).fleiss.value
        assert found == pytest.approx(raters.fleiss_kappa(numpy.array(table), method="fleiss"))


def written_out_against(answers: Answers, name: str) -> tuple[float, float]:
    """Return percent and kappa of one annotator against the others, by their definitions."""
    agreed = by_chance = num = 0.0
    for other in {by for own in answers.values() for by in own} - {name}:
        both = [(own[name], own[other]) for own in answers.values() if name in own and other in own]
        if both:
            left, right = Counter(one for one, _ in both), Counter(one for _, one in both)
            agreed += sum(one == another for one, another in both)
            by_chance += sum(left[value] * right[value] for value in left) / len(both)
            num += len(both)
    return agreed / num, (agreed - by_chance) / (num - by_chance)


@pytest.mark.parametrize("seed", range(4))
def test_everything_is_what_its_definition_says(seed: int) -> None:
    answers = random_answers(seed, 120, people=4, gap=0.4)
    found = measure(answers, chance=QUICK)
    pairs = [pair for own in answers.values() for pair in combinations(own.values(), 2)]
    assert found.num_pairs == len(pairs)
    assert found.percent.value == pytest.approx(sum(one == other for one, other in pairs) / len(pairs))
    assert found.alpha.value == pytest.approx(written_out_alpha(answers))
    for one in found.annotators:
        assert (one.percent.value, one.kappa.value) == pytest.approx(written_out_against(answers, one.name))
        others = {name: {by: v for by, v in own.items() if by != one.name} for name, own in answers.items()}
        assert one.alpha_without == pytest.approx(written_out_alpha(others))
        assert one.num_answers == sum(one.name in own for own in answers.values())
        assert one.num_shared == sum(one.name in own and len(own) > 1 for own in answers.values())
    for one in found.classes:
        rest = {name: {by: v == one.value for by, v in own.items()} for name, own in answers.items()}
        assert one.alpha.value == pytest.approx(written_out_alpha(rest))
        mixed = [(a, b) for pair in pairs for a, b in (pair, pair[::-1]) if a == one.value]
        assert one.specific.value == pytest.approx(sum(a == b for a, b in mixed) / len(mixed))
    confused = Counter(tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1])
    assert {(one.left, one.right): one.num_pairs for one in found.confusions} == confused
    assert [one.num_pairs for one in found.confusions] == sorted(confused.values(), reverse=True)
    for confusion in found.confusions:
        assert 0 < len(confusion.records) <= 5
        assert all({confusion.left, confusion.right} <= set(answers[name].values()) for name in confusion.records)
    assert found.disagreements == [name for name, own in answers.items() if len(set(own.values())) > 1]


@pytest.mark.parametrize("seed", range(3))
def test_fleiss_takes_the_records_with_the_most_frequent_number_of_answers(seed: int) -> None:
    answers = random_answers(seed, people=4, gap=0.3)
    sizes = Counter(len(own) for own in answers.values() if len(own) > 1)
    most = max(sizes.values())
    found = measure(answers, chance=QUICK)
    assert found.fleiss_answers == max(size for size, count in sizes.items() if count == most)
    assert found.fleiss.num_records == most < found.num_shared
    alone = {name: own for name, own in answers.items() if len(own) == found.fleiss_answers}
    assert measure(alone, chance=QUICK).fleiss.value == pytest.approx(found.fleiss.value)


NAMES = st.sampled_from(["ana", "bo", "cem", "dora"])
VALUES = st.sampled_from(["a", "b", "c"])
ANSWERS = st.dictionaries(st.integers(0, 30).map(str), st.dictionaries(NAMES, VALUES, max_size=4), max_size=25)


def values_of(found: Agreement) -> list[float | None]:
    figures = [found.percent, found.alpha, found.fleiss, *(one.kappa for one in found.pairs)]
    return [one.value for one in figures]


@settings(deadline=None, max_examples=draws(60))
@given(ANSWERS, st.permutations(["ana", "bo", "cem", "dora"]), st.permutations(["a", "b", "c"]), st.randoms())
def test_who_is_who_and_what_is_what_changes_nothing(
    answers: dict[str, dict[str, str]], people: list[str], values: list[str], shuffler: random.Random
) -> None:
    as_who, as_what = (
        dict(zip(["ana", "bo", "cem", "dora"], people, strict=True)),
        dict(zip("abc", values, strict=True)),
    )
    items = list(answers.items())
    shuffler.shuffle(items)
    other = {name: {as_who[by]: as_what[value] for by, value in own.items()} for name, own in items}
    before, after = measure(answers, chance=Chance(resamples=1)), measure(other, chance=Chance(resamples=1))
    assert values_of(after)[:3] == pytest.approx(values_of(before)[:3])
    kappas = {frozenset((as_who[one.left], as_who[one.right])): one.kappa.value for one in before.pairs}
    assert {frozenset((one.left, one.right)): one.kappa.value for one in after.pairs} == pytest.approx(kappas)


@settings(deadline=None, max_examples=draws(40))
@given(ANSWERS)
def test_perfect_agreement_is_one_whatever_is_missing(answers: dict[str, dict[str, str]]) -> None:
    same = {name: dict.fromkeys(own, "abc"[int(name) % 3]) for name, own in answers.items()}
    found = measure(same, chance=Chance(resamples=1))
    assert all(value in (1.0, None) for value in values_of(found))
    assert found.confusions == []
    assert found.disagreements == []
    seen = {value for own in same.values() if len(own) > 1 for value in own.values()}
    assert found.alpha.value == (1.0 if len(seen) > 1 else None)


def test_guessing_is_near_nought() -> None:
    found = measure(random_answers(7, 6000, noise=1.0), chance=QUICK)
    measured = [found.alpha, found.fleiss, *(one.kappa for one in found.pairs), *(one.alpha for one in found.classes)]
    assert all(one.value is not None and abs(one.value) < 0.05 for one in measured)


@settings(deadline=None, max_examples=draws(100))
@given(st.lists(st.tuples(st.integers(0, 6).map(str), st.dictionaries(NAMES, st.none() | VALUES)), max_size=40))
def test_the_live_figures_keep_up(puts: list[tuple[str, dict[str, str | None]]]) -> None:
    live = LiveAgreement()
    answers: dict[str, dict[str, str | None]] = {}
    for name, own in puts:
        live.put(name, own)
        answers[name] = own
    found = measure(answers, chance=Chance(resamples=1))
    for by in ["ana", "bo", "cem", "dora"]:
        glance = live.glance(by, most=100)
        assert (glance.num_shared, glance.num_pairs) == (found.num_shared, found.num_pairs)
        assert glance.alpha == pytest.approx(found.alpha.value)
        own = {(one.left if one.right == by else one.right): one for one in found.pairs if by in (one.left, one.right)}
        assert [peer.name for peer in glance.peers] == sorted(own)
        for peer in glance.peers:
            assert peer.kappa == pytest.approx(own[peer.name].kappa.value)
            assert peer.num_records == own[peer.name].kappa.num_records
            assert peer.num_agreed / peer.num_records == pytest.approx(own[peer.name].percent.value)
        mine: Counter[tuple[Any, ...]] = Counter()
        for given_ in answers.values():
            for other, value in given_.items():
                pair = (given_.get(by), value)
                if other != by and None not in pair and pair[0] != pair[1]:
                    mine[tuple(sorted(pair))] += 1  # type: ignore[type-var]
        assert {(one.left, one.right): one.num_pairs for one in glance.confused} == mine
        assert list(glance.confused) == sorted(glance.confused, key=lambda one: (-one.num_pairs, one.left, one.right))
        assert live.glance(by, most=1).confused == glance.confused[:1]


def undefined(answers: Answers) -> Agreement:
    return measure(answers, chance=QUICK)


def test_what_is_undefined_is_none_with_a_reason() -> None:
    nobody = undefined({})
    assert (nobody.alpha.value, nobody.alpha.reason, nobody.annotators, nobody.classes) == (None, NO_OVERLAP, [], [])
    assert undefined({"r1": {}, "r2": {"ana": None}}).num_records == 0
    alone = undefined({"r1": {"ana": "a"}, "r2": {"ana": "b"}})
    assert values_of(alone) == [None, None, None]
    assert {alone.percent.reason, alone.alpha.reason, alone.fleiss.reason} == {NO_OVERLAP}
    assert (alone.fleiss_answers, alone.num_shared, alone.num_answers) == (0, 0, 2)
    assert alone.annotators[0].kappa.reason == "no record in common"
    assert alone.annotators[0].alpha_without is None
    assert alone.annotators[0].gold.reason == "no record with a known answer was answered"
    assert alone.classes[0].specific.reason == "no record with this value has a second answer"
    apart = undefined({"r1": {"ana": "a"}, "r2": {"bo": "b"}})
    assert (apart.pairs, apart.num_apart) == ([], 1)
    one_value = undefined({f"r{n}": {"ana": "a", "bo": "a"} for n in range(9)})
    assert values_of(one_value) == [1.0, None, None, None]
    assert {one_value.alpha.reason, one_value.fleiss.reason, one_value.pairs[0].kappa.reason} == {SAME_VALUE}
    assert one_value.percent.reason == ALIKE
    assert one_value.percent.low is one_value.percent.high is None
    assert LiveAgreement({"r1": {"ana": "a", "bo": "a"}}).glance("ana").peers[0].kappa is None
    assert LiveAgreement({"r1": {"ana": "a"}}).glance("ana").alpha is None
    # One differs from two of another: a value that one annotator alone uses is no lack of a second value.
    constant = undefined({f"r{n}": {"ana": "a", "bo": "ab"[n % 2]} for n in range(8)})
    assert constant.pairs[0].kappa.value == 0
    few = undefined({"r1": {"ana": "a", "bo": "a"}, "r2": {"ana": "b", "bo": "b"}})
    assert (few.alpha.value, few.alpha.low, few.alpha.reason) == (1.0, None, TOO_FEW)


def test_answers_are_the_same_only_if_their_json_is() -> None:
    assert undefined({"r": {"a": 1, "b": True, "c": "1", "d": "true", "e": [1], "f": {"k": 1}}}).percent.value == 0
    assert undefined({"r": {"a": {"x": 1, "y": [2]}, "b": {"y": [2], "x": 1}}}).percent.value == 1
    assert undefined({"r": {"a": "\ud800", "b": "\ud800"}}).percent.value == 1
