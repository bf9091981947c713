"""How what people answered differently, or decided apart, is settled at a desk of a real workspace."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from curate.base.events import Add, Assign, Decision, Drop, Edit, Label, Resolve, Restore
from curate.project.data import load_data
from curate.sessions.labelling import LabelSession, Review, ReviewItem
from tests.curate.called import call

Sit = Callable[..., LabelSession]


def review(desk: LabelSession) -> Review:
    desk.project.refresh()
    return Review(desk)


def test_a_disagreement_is_settled_by_whoever_is_not_asked_any_more(sit: Sit) -> None:
    sit("ana").answer("billing")
    sit("bo").answer("returns")
    desk = sit("cem")
    found = review(desk)
    assert [(item.record, item.question, item.conflict) for item in found.items] == [("r000", "topic", None)]
    sides = [(side.value, list(side.people)) for side in found.items[0].sides]
    assert sides == [("billing", ["ana"]), ("returns", ["bo"]), ("other", [])]
    found.settle(found.items[0], found.items[0].sides[2])
    assert not review(desk).items
    state = load_data(desk.project.root).states()[0]
    assert (state.resolved, state.record.labels["topic"]) == ({"topic": "other"}, "other")
    assert state.answers["topic"] == {"ana": "billing", "bo": "returns"}
    desk.project.undo()
    assert len(review(desk).items) == 1


def test_whoever_is_still_asked_does_not_see_the_disagreement(sit: Sit) -> None:
    team = ["ana", "bo", "cem"]
    gold = json.dumps({"id": "r000", "question": "topic", "value": "other"}) + "\n"
    sit("ana", team=team, gold="gold.jsonl", files={"gold.jsonl": gold})
    for who, value in (("ana", "billing"), ("bo", "returns")):
        project = sit(who).project
        project.apply([Label("r000", "topic", value)])
    desk = sit("cem")
    found = review(desk)
    assert (list(found.items), found.num_unanswered) == ([], 1)
    desk.project.apply([Label("r000", "topic", "other")])
    assert len(review(desk).items) == 1


def test_notes_and_flags_are_no_disagreement(sit: Sit) -> None:
    sit("ana").note("good one")
    desk = sit("bo")
    desk.note("bad one")
    assert not review(desk).items


def apart(sit: Sit, first: Decision, second: Decision) -> ReviewItem:
    """Let two people decide on the same record without having seen one another's decision."""
    ana, bo = sit("ana"), sit("bo")
    ana.project.apply([first])
    bo.project.apply([second])
    found = review(sit("cem"))
    assert len(found.items) == 1
    return found.items[0]


def test_long_values_are_told_apart_by_where_they_differ(sit: Sit) -> None:
    same = "It has left our house and is on its way to you, "
    item = apart(sit, Edit("r005", {"output": same + "by road"}), Edit("r005", {"output": same + "by sea"}))
    assert {side.value: side.name for side in item.sides} == {
        f"{same}by road": "... its way to you, by road", f"{same}by sea": "... its way to you, by sea"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "facet"),
    [
        (
            Edit("r005", {"output": "left"}), Edit("r005", {"output": "right"}), ("data", "output"),
        ),
        (Assign("r005", "train"), Assign("r005", "test"), ("split",)),
        (Drop("r005", "spam"), Restore("r005"), ("status",)),
        (
            Resolve("r005", "topic", "other"),
            Resolve("r005", "topic", "billing"),
            ("resolved", "topic"),
        ),
    ],
)  # fmt: skip
def test_what_was_decided_apart_is_settled_by_deciding_once_more(
    sit: Sit, one: Decision, other: Decision, facet: tuple[str, ...]
) -> None:
    item = apart(sit, one, other)
    assert item.conflict is not None
    assert item.conflict.facet == facet
    assert sorted(people for side in item.sides for people in side.people) == ["ana", "bo"]
    desk = sit("cem")
    for number in (0, 1):
        desk.project.refresh()
        Review(desk).settle(item, item.sides[number])
        workspace = load_data(desk.project.root)
        state = next(state for state in workspace.states() if state.record.id == "r005")
        holds = {
            "data": lambda state=state: state.record.data["output"],
            "split": lambda state=state: state.record.split,
            "status": lambda state=state: state.exclusion.fields if state.exclusion else {},
            "resolved": lambda state=state: state.resolved["topic"],
        }[facet[0]]()  # type: ignore[no-untyped-call]
        assert holds == item.sides[number].value
        assert not review(desk).items


def test_added_apart_is_settled_by_taking_the_others_back(sit: Sit) -> None:
    left, right = (Add("new", {"id": "new", "instruction": "Say.", "output": text}) for text in ("left", "right"))
    item = apart(sit, left, right)
    desk = sit("cem")
    wanted = next(side for side in item.sides if side.people == ("bo",))
    Review(desk).settle(item, wanted)
    assert not review(desk).items
    state = load_data(desk.project.root).states()[-1]
    assert (state.record.id, state.record.completion) == ("new", "right")


def test_what_was_decided_apart_on_a_record_that_is_no_more_waits_for_nobody(sit: Sit) -> None:
    ana = sit("ana")
    line = {"id": "new", "instruction": "Say.", "output": "x"}
    ana.project.apply([Add("new", line)])
    people = [sit("bo"), sit("cem")]
    for desk in people:
        desk.project.apply([Edit("new", {"output": desk.by})])
    assert [item.record for item in review(ana).items] == ["new"]
    ana.project.undo()
    assert review(ana).items == []
    ana.project.redo()
    assert [item.record for item in review(ana).items] == ["new"]


def test_ones_own_answers_in_two_sittings_are_settled_by_oneself(sit: Sit) -> None:
    first, second = sit("ana"), sit("ana")
    first.project.apply([Label("r001", "topic", "billing")])
    second.project.apply([Label("r001", "topic", "other")])
    found = review(sit("bo"))
    assert (list(found.items), found.num_others_own) == ([], 1)
    ana = sit("ana")
    (item,) = review(ana).items
    Review(ana).settle(item, next(side for side in item.sides if side.value == "other"))
    assert review(ana).items == []
    assert load_data(ana.project.root).states()[1].answers["topic"] == {"ana": "other"}


KINDS = """
schema = "preference"
[split]
seed = 1
[label]
overlap = 1.0
[[label.questions]]
name = "tags"
kind = "several"
values = ["polite", "short"]
[[label.questions]]
name = "better"
kind = "pair"
"""
PAIRS = [{"id": f"p{n}", "prompt": f"Greet {n}.", "chosen": "Hello.", "rejected": "Go away."} for n in range(4)]


def test_a_pair_is_settled_as_it_is_labelled_with_no_word_of_what_is_known(sit: Sit) -> None:
    for who, value in (("ana", "chosen"), ("bo", "rejected")):
        desk = sit(who, settings=KINDS, lines=PAIRS)
        desk.project.apply([Label(f"p{n}", "better", value) for n in range(4)])
    desk = sit("cem", question="better")
    found, orders = review(desk), set()
    for item in found.items:
        desk.visit(item.record)
        state = desk.state()
        assert state is not None
        assert list(found.turns(item)) == list(desk.turns(state, "better"))
        assert [side.value for side in item.sides] == list(desk.values)
        assert [side.name for side in item.sides] == ["A is better", "B is better", "tie", "both bad"]
        orders.add(item.sides[0].value)
    assert orders == {"chosen", "rejected"}
    found.settle(found.items[0], found.items[0].sides[0])
    assert desk.project.state("p0").resolved == {"better": desk.values_of(desk.question, "p0")[0]}
    assert (len(found.items), found.num_settled) == (3, 1)


def test_sets_of_values_that_the_settings_name_are_called_by_them(sit: Sit) -> None:
    for who, value in (("ana", ["polite"]), ("bo", ["polite", "short"])):
        desk = sit(who, settings=KINDS, lines=PAIRS)
        desk.project.apply([Label("p0", "tags", value)])
    printed = call("agreement", desk.project.root, "--question", "tags").stdout
    assert '["polite"]' in printed
    assert "#1" not in printed


def test_several_values_are_settled_as_such_and_offered_once(sit: Sit) -> None:
    for who, value in (("ana", ["polite"]), ("bo", ["polite", "short"])):
        sit(who, settings=KINDS, lines=PAIRS).project.apply([Label("p0", "tags", value), Label("p0", "better", who)])
    desk = sit("cem")
    found = review(desk)
    # In the order of the questions.
    assert [item.question for item in found.items] == ["tags", "better"]
    item = found.items[0]
    assert [(side.name, list(side.people)) for side in item.sides] == [
        ("polite", ["ana"]), ("short", []), ("polite, short", ["bo"]),
    ]  # fmt: skip
    found.settle(item, item.sides[1])
    assert desk.project.state("p0").resolved == {"tags": ["short"]}


def test_answers_that_both_say_nothing_any_more_leave_one_choice(sit: Sit) -> None:
    first, second = sit("ana", settings=KINDS, lines=PAIRS), sit("ana")
    first.project.apply([Label("p1", "better", "chosen")])
    second.project.apply([Label("p1", "better", "rejected")])
    sit("bo").project.apply([Edit("p1", {"chosen": "Good day."})])
    ana = sit("ana")
    found = review(ana)
    (item,) = found.items
    assert [(side.name, list(side.people)) for side in item.sides] == [("(as if nobody had)", ["ana", "ana"])]
    found.settle(item, item.sides[0])
    assert not review(ana).items
