"""Who stays, what repeats what, and who belongs together are found on arrays, and held here against what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import SPLITS, Record, Source
from curate.project.records import Records
from curate.similarity.dedupe import Duplicates, Method, preference_of
from curate.similarity.dedupe.near import firsts
from curate.similarity.dedupe.results import Edges, Repetition
from tests.effort import draws


@settings(max_examples=draws(200), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 2)), max_size=30))
def test_the_first_of_equal_keys_whichever_bits_differ(parts: list[tuple[int, int, int]]) -> None:
    # The last bits of a half are where the rows are while keys are sorted.
    keys = np.array([(high << 60 | low, other) for high, low, other in parts], np.uint64).reshape(-1, 2)
    rows = list(map(tuple, keys.tolist()))
    assert firsts(keys).tolist() == [rows.index(key) for key in rows]


@st.composite
def repeating(draw: st.DrawFn) -> tuple[Repetition, np.ndarray, set[str]]:
    """Return records of few contents, some of which are alike, an order of preference, and who is wanted."""
    contents = draw(st.lists(st.integers(0, 5), min_size=1, max_size=14))
    first_of = [contents.index(content) for content in contents]
    heads = sorted(set(first_of))
    pairs = [(left, right) for left in heads for right in heads if left < right]
    linked = sorted(draw(st.sets(st.sampled_from(pairs)))) if pairs else []
    scores = [draw(st.sampled_from([0.7, 0.8, 1.0])) for _ in linked]
    ids = draw(st.permutations([f"r{number}" for number in range(len(contents))]))
    left, right = np.array(linked, np.int64).reshape(-1, 2).T
    order = np.array(draw(st.permutations(range(len(ids)))), np.int64)
    wanted = draw(st.sets(st.sampled_from(ids)))
    return Repetition(ids, np.array(first_of), left, right, np.array(scores, float)), order, wanted


def ties_of(repetition: Repetition, row: int) -> Mapping[int, tuple[str, float]]:
    """Return what each other record is to a record that it repeats: how, and how much alike."""
    first_of = repetition.first_of.tolist()
    scores = {
        frozenset(pair): score
        for *pair, score in zip(
            repetition.left.tolist(), repetition.right.tolist(), repetition.scores.tolist(), strict=True
        )
    }
    ties = {}
    for other in range(len(first_of)):
        if other != row and first_of[other] == first_of[row]:
            ties[other] = ("exact", 1.0)
        elif (score := scores.get(frozenset((first_of[other], first_of[row])))) is not None:
            ties[other] = ("near", score)
    return ties


def nearest(
    repetition: Repetition, row: int, is_candidate: Callable[[int], bool]
) -> tuple[str, str, str, float] | None:
    ties = {other: tie for other, tie in ties_of(repetition, row).items() if is_candidate(other)}
    if not ties:
        return None
    other = min(ties, key=lambda other: (ties[other][0] == "near", -ties[other][1], repetition.ids[other]))
    return repetition.ids[row], repetition.ids[other], *ties[other]


@settings(max_examples=draws(300), deadline=None)
@given(repeating())
def test_who_stays_and_what_the_others_repeat(case: tuple[Repetition, np.ndarray, set[str]]) -> None:
    repetition, order, wanted = case
    position = {row: number for number, row in enumerate(order.tolist())}
    staying: list[int] = []
    for row in order.tolist():
        if repetition.ids[row] in wanted or not any(other in staying for other in ties_of(repetition, row)):
            staying.append(row)
    is_retained = repetition.retained(order, wanted)
    assert set(np.flatnonzero(is_retained).tolist()) == set(staying)
    expected = []
    for row in order.tolist():
        if row not in staying:
            expected.append(nearest(repetition, row, lambda other: other in staying))
        elif repetition.ids[row] in wanted:
            expected.append(
                nearest(repetition, row, lambda other, row=row: other in staying and position[other] < position[row])
            )
    pairs = repetition.duplicates(order, is_retained, wanted)
    assert [(pair.record, pair.keeper, pair.kind, pair.score) for pair in pairs] == [each for each in expected if each]


@settings(max_examples=draws(200), deadline=None)
@given(repeating(), st.data())
def test_the_nearest_among_some(case: tuple[Repetition, np.ndarray, set[str]], data: st.DataObject) -> None:
    repetition, _, names = case
    among = data.draw(st.sets(st.sampled_from(repetition.ids)))
    expected = {
        name: nearest(repetition, row, lambda other: repetition.ids[other] in among)
        for row, name in enumerate(repetition.ids)
        if name in names
    }
    found = repetition.nearest(names, among)
    assert {name: (pair.record, pair.keeper, pair.kind, pair.score) for name, pair in found.items()} == {
        name: pair for name, pair in expected.items() if pair
    }


def test_many_copies_of_one_content_take_no_square_of_time() -> None:
    num = 30_000
    none = np.zeros(0, np.int64)
    repetition = Repetition([f"r{n}" for n in range(num)], np.zeros(num, np.int64), none, none, np.zeros(0))
    order = np.arange(num)
    is_retained = repetition.retained(order)
    # 900 million pairs, were each copy held against all the others.
    assert {pair.keeper for pair in repetition.duplicates(order, is_retained)} == {"r0"}


@settings(max_examples=draws(100), deadline=None)
@given(st.integers(1, 12), st.data())
def test_a_cluster_is_called_by_its_smallest_id(count: int, data: st.DataObject) -> None:
    number = st.integers(0, count - 1)
    joined = data.draw(st.lists(st.tuples(number, number), max_size=8))
    ids = data.draw(st.permutations([f"r{n}" for n in range(count)]))
    order = np.array(data.draw(st.permutations(range(count))))
    left, right = np.array(joined, np.int64).reshape(-1, 2).T
    none, edges = np.zeros(0, np.int64), Edges(left, right, np.ones(len(left)), np.zeros(len(left), np.int64))
    repetition = Repetition(ids, np.arange(count), none, none, np.zeros(0))
    found = Duplicates([], [], Method(3, 0.7), 0, 0, edges, repetition, order)
    clusters = found.clusters
    assert list(clusters) == [ids[row] for row in order]
    members = [{name for name in ids if clusters[name] == cluster} for cluster in set(clusters.values())]
    assert all(clusters[name] == min(part) for part in members for name in part)
    assert found.sizes == sorted((len(some) for some in members if len(some) > 1), reverse=True)
    assert all(clusters[ids[one]] == clusters[ids[other]] for one, other in joined)
    # No more is joined than the pairs ask for: each can make one cluster less at most.
    assert len(members) >= count - len(joined)
    grouped = found.members()
    assert {frozenset(one.name for one in some) for some in grouped} == {
        frozenset(part) for part in members if len(part) > 1
    }
    ties = {frozenset((ids[one], ids[other])) for one, other in joined}
    position = {ids[row]: place for place, row in enumerate(order)}
    for first, *others in grouped:
        assert (first.above, position[first.name]) == ("", min(position[one.name] for one in (first, *others)))
        assert all(frozenset((one.name, one.above)) in ties for one in others)


RECORDS = st.lists(
    st.tuples(st.sampled_from([None, *SPLITS]), st.integers(0, 3), st.booleans(), st.booleans()), max_size=9
)


@given(RECORDS)
def test_preference_is_by_rank_and_then_by_length_or_place(cases: list[tuple[str, int, bool, bool]]) -> None:
    records = [
        Record(f"r{row}", "instruction", Source("a", row), {}, prompt="x" * size, split=split)
        for row, (split, size, _, _) in enumerate(cases)
    ]
    pinned = {f"r{row}": case[0] or "train" for row, case in enumerate(cases) if case[2]}
    wanted = {f"r{row}" for row, case in enumerate(cases) if case[3]}

    def rank(row: int) -> int:
        split, _, is_pinned, is_wanted = cases[row]
        is_held_out = split in SPLITS[1:]
        if is_wanted and (is_pinned or split):
            return 2
        return (1 - is_held_out) if is_pinned else 3 if is_held_out else 5

    rows = range(len(cases))
    first = sorted(rows, key=rank)
    longest = sorted(rows, key=lambda row: (rank(row), -cases[row][1]))
    some = Records(records)
    for keep, expected in (("first", first), ("longest", longest)):
        assert preference_of(some.ids, some.splits, some.sizes, keep, pinned, wanted).tolist() == expected
