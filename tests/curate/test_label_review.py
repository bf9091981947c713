"""How what people answered differently, or decided apart, is settled at a desk of a real workspace."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from curate.base.events import Add, Assign, Decision, Drop, Edit, Label, Resolve, Restore
from curate.project.data import load_data
from curate.sessions.labelling import LabelSession, ReviewItem, Waiting, settle, waiting

Sit = Callable[..., LabelSession]


def review(desk: LabelSession) -> Waiting:
    desk.project.refresh()
    return waiting(desk.project, desk)


def test_a_disagreement_is_settled_by_whoever_is_not_asked_any_more(sit: Sit) -> None:
    sit("ana").answer("billing")
    sit("bo").answer("returns")
    desk = sit("cem")
    found = review(desk)
    assert [(item.record, item.question, item.conflict) for item in found.items] == [("r000", "topic", None)]
    sides = [(side.value, side.people) for side in found.items[0].sides]
    assert sides == [("billing", ("ana",)), ("returns", ("bo",)), ("other", ())]
    settle(desk.project, found.items[0], found.items[0].sides[2])
    assert review(desk).items == []
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
    assert (found.items, found.num_unanswered) == ([], 1)
    desk.project.apply([Label("r000", "topic", "other")])
    assert len(review(desk).items) == 1


def test_notes_and_flags_are_no_disagreement(sit: Sit) -> None:
    sit("ana").note("good one")
    desk = sit("bo")
    desk.note("bad one")
    assert review(desk).items == []


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
    assert {side.value: side.text for side in item.sides} == {
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
        settle(desk.project, item, item.sides[number])
        workspace = load_data(desk.project.root)
        state = next(state for state in workspace.states() if state.record.id == "r005")
        holds = {
            "data": lambda state=state: state.record.data["output"],
            "split": lambda state=state: state.record.split,
            "status": lambda state=state: state.exclusion.status() if state.exclusion else [None, state.is_wanted],
            "resolved": lambda state=state: state.resolved["topic"],
        }[facet[0]]()  # type: ignore[no-untyped-call]
        assert holds == item.sides[number].value
        assert review(desk).items == []


def test_added_apart_is_settled_by_taking_the_others_back(sit: Sit) -> None:
    left, right = (Add("new", {"id": "new", "instruction": "Say.", "output": text}) for text in ("left", "right"))
    item = apart(sit, left, right)
    desk = sit("cem")
    wanted = next(side for side in item.sides if side.people == ("bo",))
    settle(desk.project, item, wanted)
    assert review(desk).items == []
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
    assert (found.items, len(found.others_own)) == ([], 1)
    ana = sit("ana")
    (item,) = review(ana).items
    settle(ana.project, item, next(side for side in item.sides if side.value == "other"))
    assert review(ana).items == []
    assert load_data(ana.project.root).states()[1].answers["topic"] == {"ana": "other"}
