"""The fold: any order of reading gives the same state, nothing a person decided is lost, undo gives back what was."""

import itertools
import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.events import EVENTS
from curate.base.record import Source, text_digest
from curate.project.fold import RecordState, content_digest, steps
from curate.schema import load_shape
from tests.curate.deciding import changed
from tests.curate.folding import fold
from tests.effort import draws

SHAPE = load_shape("instruction")
LINE = {"id": "a", "instruction": "Add 2 and 3.", "output": "5", "category": "sum"}
RECORD = SHAPE.record(LINE, Source("data/a.jsonl", 1))
ROOT = text_digest(LINE)
HEX = {name: name * 32 for name in "0123456789abcdef"}


class Author:
    """Someone who decides on what they have seen."""

    def __init__(self, name: str, session: str) -> None:
        self.name, self.session, self.seq = name, HEX[session], 0

    def decide(self, op: str, parents=None, **fields):
        self.seq += 1
        number = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.session}{self.seq}").hex
        known = [one.event for one in parents or ()]
        about = {"text": ROOT} if parents is None else {}
        return EVENTS.validate_json(json.dumps({
            "event": number, "act": number, "by": self.name, "session": self.session, "seq": self.seq,
            "decision": {"op": op, "id": "a", "parents": known, **about, **fields},
        }))  # fmt: skip


def state(*events):
    return fold([RECORD], events, SHAPE).states["a"]


def test_the_same_field_from_the_same_parent_keeps_both():
    ana, bo = Author("ana", "1"), Author("bo", "2")
    first, second = ana.decide("edit", changes={"output": "five"}), bo.decide("edit", changes={"output": "5.0"})
    for order in itertools.permutations([first, second]):
        found = fold([RECORD], order, SHAPE)
        assert found.states["a"].record.completion == "five"
        assert [(one.code, one.severity, one.record, one.pointer) for one in found.findings] == [
            ("L403", "error", "a", "/output")
        ]
        (conflict,) = found.conflicts
        assert [(event.by, value) for event, value in conflict.sides] == [("ana", "five"), ("bo", "5.0")]
        assert set(found.states["a"].heads) == {first.event, second.event}


def test_whoever_has_seen_both_settles_it():
    ana, bo = Author("ana", "1"), Author("bo", "2")
    first, second = ana.decide("edit", changes={"output": "five"}), bo.decide("edit", changes={"output": "5.0"})
    settled = ana.decide("edit", parents=[first, second], changes={"output": "5.0"})
    found = fold([RECORD], [settled, second, first], SHAPE)
    assert (found.states["a"].record.completion, found.conflicts, found.findings) == ("5.0", [], [])


def test_whoever_has_seen_one_side_leaves_the_other():
    ana, bo, cem = Author("ana", "1"), Author("bo", "2"), Author("cem", "3")
    first, second = ana.decide("edit", changes={"output": "five"}), bo.decide("edit", changes={"output": "5.0"})
    later = cem.decide("edit", parents=[first], changes={"output": "V"})
    found = fold([RECORD], [later, second, first], SHAPE)
    assert {value for _, value in found.conflicts[0].sides} == {"5.0", "V"}


def test_different_fields_and_equal_values_are_no_conflict():
    ana, bo = Author("ana", "1"), Author("bo", "2")
    edits = [ana.decide("edit", changes={"output": "five"}), bo.decide("edit", changes={"category": "maths"})]
    events = [
        *edits, ana.decide("drop", parents=edits, reason="x"), bo.decide("drop", parents=edits, reason="y"),
        ana.decide("assign", split="test"), bo.decide("assign", split="test"),
    ]  # fmt: skip
    found = fold([RECORD], events, SHAPE)
    assert found.conflicts == []
    now = found.states["a"]
    assert (now.record.completion, now.record.category, now.record.split) == ("five", "maths", "test")


def test_answers_of_two_annotators_stand_side_by_side():
    ana, bo, cem = Author("ana", "1"), Author("bo", "2"), Author("cem", "3")
    one = ana.decide("label", question="category", value="sum")
    two = bo.decide("label", question="category", value="maths")
    found = fold([RECORD], [one, two], SHAPE)
    assert found.states["a"].answers == {"category": {"ana": "sum", "bo": "maths"}}
    assert [(finding.code, finding.severity) for finding in found.findings] == [("L402", "warning")]
    assert "category" not in found.states["a"].record.labels
    three = cem.decide("label", question="category", value="maths")
    assert state(one, two, three).record.category == "maths"
    settled = cem.decide("resolve", parents=[one, two, three], question="category", value="sum")
    found = fold([RECORD], [settled, one, two, three], SHAPE)
    assert (found.findings, found.states["a"].record.category) == ([], "sum")
    again = cem.decide("resolve", parents=[settled], question="category", value=None)
    assert state(one, two, three, settled, again).record.category == "maths"


def test_the_category_is_what_was_decided_last():
    ana = Author("ana", "1")
    labelled = ana.decide("label", question="category", value="maths")
    edited = ana.decide("edit", parents=[labelled], changes={"category": "sums"})
    assert state(labelled, edited).record.category == "sums"
    again = ana.decide("label", parents=[edited], question="category", value="algebra")
    assert state(labelled, edited, again).record.category == "algebra"


def test_an_answer_taken_back_and_an_undone_one():
    record = SHAPE.record({**LINE, "labels": {"tone": "kind"}}, Source("data/a.jsonl", 1))
    ana = Author("ana", "1")
    root = text_digest(record.data)
    given_ = changed(ana.decide("label", question="tone", value="rude"), text=root)
    back = ana.decide("label", parents=[given_], question="tone", value=None)
    undone = ana.decide("undo", parents=[back], of=back.event)
    undone_both = ana.decide("undo", parents=[undone], of=given_.event)

    def tone(*events):
        return fold([record], events, SHAPE).states["a"].record.labels.get("tone")

    assert [tone(), tone(given_), tone(given_, back), tone(given_, back, undone)] == ["kind", "rude", None, "rude"]
    assert tone(given_, back, undone, undone_both) == "kind"


def test_undo_leaves_what_another_has_changed_since():
    ana, bo = Author("ana", "1"), Author("bo", "2")
    first = ana.decide("edit", changes={"output": "five", "category": "x"})
    second = bo.decide("edit", parents=[first], changes={"output": "V"})
    undo = ana.decide("undo", parents=[second], of=first.event)
    now = state(first, second, undo)
    assert (now.record.completion, now.record.category) == ("V", "sum")


def test_undoing_one_side_leaves_the_other_side():
    ana, bo = Author("ana", "1"), Author("bo", "2")
    first, second = ana.decide("edit", changes={"output": "five"}), bo.decide("edit", changes={"output": "V"})
    for parents in ([first], [first, second]):
        undo = Author("ana", "3").decide("undo", parents=parents, of=first.event)
        found = fold([RECORD], [first, second, undo], SHAPE)
        assert (found.states["a"].record.completion, found.conflicts) == ("V", [])
        held = Author("bo", "4").decide("undo", parents=[second], of=second.event)
        found = fold([RECORD], [first, second, held], SHAPE)
        assert (found.states["a"].record.completion, found.conflicts) == ("five", [])


def test_an_added_record_and_its_undo():
    ana = Author("ana", "1")
    line = {"instruction": "Say bye.", "output": "Bye."}
    add = changed(ana.decide("add", parents=[], record=line), id="new")
    undo = changed(ana.decide("undo", parents=[add], of=add.event), id="new")
    redo = changed(ana.decide("undo", parents=[undo], of=undo.event), id="new")
    assert fold([], [add], SHAPE).states["new"].record.completion == "Bye."
    assert fold([], [add, undo], SHAPE).states == {}
    assert fold([], [add, undo, redo], SHAPE).states == fold([], [add], SHAPE).states | {
        "new": fold([], [add, undo, redo], SHAPE).states["new"]
    }
    assert fold([], [redo, undo, add], SHAPE).states["new"].record.completion == "Bye."


def test_events_that_claim_to_have_seen_each_other_still_end():
    ana, bo = Author("ana", "1"), Author("bo", "2")
    one, two = ana.decide("drop", reason="x"), bo.decide("restore")
    forged = [changed(one, parents=(two.event,)), changed(two, parents=(one.event,))]
    assert fold([RECORD], forged, SHAPE) == fold([RECORD], forged[::-1], SHAPE)


KEYS = st.sampled_from(["output", "category", "note"])
VALUES = st.sampled_from(["x", "y", None])
# What the line says before any edit, after some, and never.
CONTENTS = st.sampled_from(
    [content_digest(line, SHAPE) for line in (LINE, LINE | {"output": "x"}, LINE | {"output": "x", "note": "y"}, {})]
)


@st.composite
def journals(draw):
    """Three people deciding on the one record, each seeing whatever they happen to have read, with undos among it."""
    authors = [Author(name, session) for name, session in (("ana", "1"), ("bo", "2"), ("ana", "3"))]
    events = []
    for _ in range(draw(st.integers(1, 9))):
        author = draw(st.sampled_from(authors))
        own = [event for event in events if event.session == author.session]
        read = draw(st.lists(st.sampled_from(events), unique_by=lambda event: event.event)) if events else []
        parents = list({event.event: event for event in [*read, *own[-1:]]}.values()) or None
        op = draw(st.sampled_from(["edit", "drop", "restore", "assign", "label", "resolve", "approve", "undo"]))
        fields = {
            "edit": lambda: {"changes": {draw(KEYS): draw(VALUES)}},
            "drop": lambda: {"reason": draw(st.sampled_from(["r1", "r2"]))},
            "restore": dict,
            "assign": lambda: {"split": draw(st.sampled_from(["train", "test"]))},
            "label": lambda: {"question": draw(st.sampled_from(["category", "q"])), "value": draw(VALUES)},
            "resolve": lambda: {"question": "q", "value": draw(VALUES)},
            "approve": lambda: {"content": draw(CONTENTS)},
            "undo": lambda: {"of": draw(st.sampled_from(events)).event if events else "0" * 32},
        }[op]()
        events.append(author.decide(op, parents=parents, **fields))
    return events


@settings(max_examples=draws(200), deadline=None)
@given(journals(), st.randoms(use_true_random=False))
def test_the_order_of_reading_means_nothing(events, random):
    shuffled = events[:]
    random.shuffle(shuffled)
    assert fold([RECORD], events, SHAPE) == fold([RECORD], shuffled, SHAPE)
    assert json.dumps([one.code for one in fold([RECORD], events, SHAPE).findings])


@settings(max_examples=draws(200), deadline=None)
@given(journals(), KEYS, VALUES)
def test_undo_after_apply_is_identity_and_redo_does_it_again(events, key, value):
    before = state(*events)
    author = Author("cem", "e")
    parents = [event for event in events if event.event in before.heads] or None
    acts = {
        "edit": {"changes": {key: value}}, "drop": {"reason": "r"}, "restore": {}, "assign": {"split": "validation"},
        "label": {"question": "category", "value": value}, "approve": {"content": content_digest(LINE, SHAPE)},
    }  # fmt: skip
    for op, fields in acts.items():
        act = author.decide(op, parents=parents, **fields)
        if parents is not None:
            act = changed(act, parents=before.heads)
        undo = author.decide("undo", parents=[act], of=act.event)
        redo = author.decide("undo", parents=[undo], of=undo.event)
        again = fold([RECORD], [*events, act, undo], SHAPE)
        assert facts(again.states["a"]) == facts(before)
        # Also a conflict that the act had settled is back.
        assert {one.facet for one in again.conflicts} == {one.facet for one in fold([RECORD], events, SHAPE).conflicts}
        assert facts(state(*events, act, undo, redo)) == facts(state(*events, act))


def facts(one: RecordState):
    return one.record, one.dropped, one.is_wanted, one.answers, one.resolved, one.approvals, one.authors


@settings(max_examples=draws(100), deadline=None)
@given(journals())
def test_steps_end_where_the_fold_does(events):
    *_, (_, last) = steps(RECORD, events, SHAPE)
    assert last == state(*events)


@pytest.mark.parametrize("number", [2_000])
def test_a_long_history_is_quick(number):
    ana = Author("ana", "1")
    events = [ana.decide("label", question="q", value=str(n)) for n in range(number)]
    assert state(*events).answers == {"q": {"ana": str(number - 1)}}
