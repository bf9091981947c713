"""Who is asked what, in which order, who may see what, and what a model proposes; without a workspace."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from curate.base.record import CurateError  # noqa: E402
from curate.project.blind import Blind  # noqa: E402
from curate.project.journal import ASIDES  # noqa: E402
from curate.project.labels import (  # noqa: E402  it needs numpy
    ORDERS,
    WORDS,
    AnnotatorAssignment,
    Facts,
    Suggestions,
    Trainer,
    ordered,
    question_of,
    questions_of,
)
from curate.schema.settings import Category, LabelSettings, Question, Settings  # noqa: E402

TEAM = ("ana", "bo", "cem")
IDS = [f"r{number}" for number in range(3000)]


def asked(assignment: AnnotatorAssignment, name: str) -> list[str]:
    return [one for one in TEAM if assignment.is_assigned(name, one)]


@pytest.mark.ci
def test_each_record_asks_one_and_a_share_of_them_asks_two() -> None:
    assignment = AnnotatorAssignment(TEAM, 0.3, seed=5)
    numbers = [len(asked(assignment, name)) for name in IDS]
    assert set(numbers) == {1, 2}
    assert numbers.count(2) / len(IDS) == pytest.approx(0.3, abs=0.03)
    for who in TEAM:
        share = sum(assignment.is_assigned(name, who) for name in IDS) / sum(numbers)
        assert share == pytest.approx(1 / 3, abs=0.03)
    assert sum(asked(AnnotatorAssignment(TEAM, 0.3, seed=6), name) != asked(assignment, name) for name in IDS) > 1000


@pytest.mark.ci
def test_a_larger_share_and_a_change_of_the_team_move_as_little_as_they_can() -> None:
    before = AnnotatorAssignment(TEAM, 0.2)
    more = AnnotatorAssignment(TEAM, 0.6)
    without = AnnotatorAssignment(("ana", "bo"), 0.2)
    for name in IDS[:800]:
        assert set(asked(before, name)) <= set(asked(more, name))
        # Whoever stays and was asked is still asked.
        assert set(asked(before, name)) - {"cem"} <= set(asked(without, name))
    order = AnnotatorAssignment(("cem", "bo", "ana"), 0.2)
    assert all(asked(order, name) == asked(before, name) for name in IDS[:200])


@pytest.mark.ci
@given(st.lists(st.text(max_size=6), max_size=30), st.floats(0, 1), st.integers(0, 9))
def test_one_by_one_and_all_at_once_are_the_same(names: list[str], overlap: float, seed: int) -> None:
    assignment = AnnotatorAssignment(TEAM, overlap, seed=seed)
    hashes = assignment.hashes(names)
    for who in TEAM:
        at_once = assignment.rank(hashes, who) < assignment.num_wanted(hashes)
        assert at_once.tolist() == [assignment.is_assigned(name, who) for name in names]


def test_without_a_team_whoever_comes_gives_what_is_lacking() -> None:
    assignment = AnnotatorAssignment(overlap=1.0)
    assert assignment.is_assigned("r1", "ana")
    assert assignment.is_assigned("r1", "bo", ["ana"])
    assert not assignment.is_assigned("r1", "cem", ["ana", "bo"])
    assert not assignment.is_assigned("r1", "ana", ["ana"])
    assert not AnnotatorAssignment().is_assigned("r1", "bo", ["ana"])


def test_answers_of_people_who_left_count() -> None:
    assignment = AnnotatorAssignment(TEAM, 1.0)
    two = asked(assignment, "r7")
    assert len(two) == 2
    assert len([one for one in TEAM if assignment.is_assigned("r7", one, ["dan"])]) == 1
    assert not any(assignment.is_assigned("r7", one, ["dan", "eve"]) for one in TEAM)
    assert not assignment.is_assigned("r7", "dan")


def test_what_is_known_asks_everybody_of_the_team() -> None:
    assignment = AnnotatorAssignment(TEAM, 0.0, frozenset({"r3"}))
    assert asked(assignment, "r3") == list(TEAM)
    assert assignment.is_assigned("r3", "ana", ["bo", "cem"])
    assert not assignment.is_assigned("r3", "dan")


def facts(**given: Any) -> Facts:
    size = 6
    base: dict[str, Any] = {
        "hashes": AnnotatorAssignment().hashes([f"r{number}" for number in range(size)]),
        "certainty": np.full(size, np.nan), "num_opinions": np.zeros(size, np.int64),
        "last_decided": np.full(size, -np.inf),
    }  # fmt: skip
    return Facts(**{**base, **given})


def test_every_order_is_of_all_records_and_has_a_name() -> None:
    assert set(WORDS) == set(ORDERS)
    for order in ORDERS:
        assert sorted(ordered(order, facts(), "ana").tolist()) == list(range(6))
    assert ordered("file", facts(), "ana").tolist() == list(range(6))


def test_random_is_the_same_tomorrow_and_other_for_others() -> None:
    many = Facts(
        AnnotatorAssignment().hashes(IDS), np.zeros(len(IDS)), np.zeros(len(IDS), np.int64), np.zeros(len(IDS))
    )
    mine = ordered("random", many, "ana").tolist()
    assert mine == ordered("random", many, "ana").tolist()
    assert mine != ordered("random", many, "bo").tolist()
    assert mine != list(range(len(IDS)))


def test_least_certain_disagreed_on_and_longest_unseen_come_first() -> None:
    unsure = facts(certainty=np.array([0.9, np.nan, 0.4, 0.6, np.nan, 0.5]))
    assert ordered("uncertain", unsure, "ana").tolist()[:4] == [2, 5, 3, 0]
    # One opinion is no disagreement, and must not come before none: it would say that somebody has answered.
    disputed = facts(num_opinions=np.array([0, 1, 2, 0, 3, 1]))
    assert ordered("disagreement", disputed, "ana").tolist() == [4, 2, 0, 1, 3, 5]
    seen = facts(last_decided=np.array([3.0, -np.inf, 1.0, 2.0, -np.inf, 9.0]))
    assert ordered("oldest", seen, "ana").tolist() == [1, 4, 2, 3, 0, 5]


NAMES = st.sampled_from(["ana", "bo", "cem"])


@given(st.dictionaries(NAMES, st.text(min_size=1), max_size=3), NAMES, st.booleans(), st.booleans())
def test_nobody_sees_anothers_answer_before_giving_their_own(
    answers: dict[str, str], by: str, is_resolved: bool, is_asked: bool
) -> None:
    state: Any = SimpleNamespace(
        record=SimpleNamespace(id="r1"),
        answers={"q": answers, "note": answers} if answers else {},
        resolved={"q": "x"} if is_resolved else {},
    )
    # What is known asks everybody of the team, and no stranger.
    blind = Blind(by, {"q": AnnotatorAssignment((by,) if is_asked else ("dan",), gold={"r1"})})
    has_to_answer = by not in answers and not is_resolved
    assert blind.still_asks(state, "q") == (has_to_answer and is_asked)
    assert blind.hides(state, "q") == (bool(answers) and has_to_answer and is_asked)
    assert blind.hidden(state) == ({"q"} if blind.hides(state, "q") else set())
    # Who has a record at hand is about to answer, asked or not.
    assert blind.answers(state, "q") == ({} if has_to_answer else answers)
    assert Blind(by, None).hides(state, "q") == (bool(answers) and has_to_answer)
    assert not Blind(by, None).hides(state, "note")
    assert blind.answers(state, "other") == {}


def test_questions_have_the_values_to_choose_from() -> None:
    (only,) = questions_of(Settings(categories={"b": Category(), "a": Category()}), ["z"])
    assert (only.name, only.values) == ("category", ["b", "a"])
    assert questions_of(Settings(), ["z", "y"])[0].values == ["y", "z"]
    own = [Question(name="quality", values=["good"]), Question(name="why")]
    found = questions_of(Settings(label=LabelSettings(questions=own)))
    assert [one.values for one in found] == [["good"], []]
    assert question_of(found, "").name == "quality"
    assert question_of(found, "why").name == "why"
    with pytest.raises(CurateError, match="no question 'what'"):
        question_of(found, "what")
    for name in ASIDES:
        with pytest.raises(CurateError, match="is no name for one"):
            questions_of(Settings(label=LabelSettings(questions=[Question(name=name)])))


@pytest.mark.ci
def test_a_model_in_another_process_proposes_and_ends_with_its_trainer() -> None:
    pytest.importorskip("sklearn", reason="suggestions need the extra [quality]")
    texts = [f"invoice refund {n % 5}" if n % 2 else f"parcel courier {n % 5}" for n in range(40)]
    trainer = Trainer(texts, [str(number) for number in range(40)])
    try:
        few = trainer.learn(["billing"] + [""] * 39)
        assert few.of(3) is None
        assert few.lacks == "suggestions start after 5 agreed answers for each of two labels"
        labels = ["billing" if n % 2 else "delivery" for n in range(30)] + [""] * 10
        found = trainer.learn(labels)
        assert (found.num_learned, found.lacks) == (30, "")
        for number in range(40):
            suggestion = found.of(number)
            assert suggestion is not None
            assert suggestion.value == ("billing" if number % 2 else "delivery")
            assert 0.5 < suggestion.score <= 1
        child = trainer._child
        assert child is not None
    finally:
        trainer.close()
    assert child.poll() is not None
    with pytest.raises(CurateError, match="was stopped"):
        trainer.learn(labels)


@pytest.mark.ci
def test_a_process_that_is_killed_is_told_as_an_error() -> None:
    pytest.importorskip("sklearn", reason="suggestions need the extra [quality]")
    # As the terminal UI has it; the command line lets a closed pipe end it.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    trainer = Trainer(["a b", "c d"], ["0", "1"])
    trainer.learn(["", ""])
    assert trainer._child is not None
    trainer._child.kill()
    trainer._child.wait()
    with pytest.raises(CurateError) as error:
        trainer.learn(["", ""])
    assert error.value.code == "E970 worker-lost"


def test_nothing_is_proposed_for_a_text_without_content() -> None:
    found = Suggestions(["a", "b"], np.array([1, 0]), np.array([0.7, 0.0]), 9, 0.8)
    assert found.of(0) is not None
    assert found.of(1) is None
