"""An open project after long, forged and random histories, by several people at one record."""

import contextlib
import random
import shutil
import tracemalloc
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.base.events import Assign, Restore
from curate.base.record import Source
from curate.project.data import load_data
from curate.schema import load_shape
from tests.curate.attacking import (
    LINES,
    add,
    code_of,
    done,
    drop,
    edit,
    facts,
    forged,
    label,
    made,
    opened,
    plant,
    states,
)
from tests.curate.folding import fold
from tests.curate.journal.people import apply_edits
from tests.effort import draws


@pytest.fixture
def root(tmp_path):
    return made(tmp_path / "ws")


# Several people at one record, one after the other and at once: what each takes back is taken back.


class Person:
    """Decides on record a at the fold itself, in sittings whose order among those that do not know another is known."""

    def __init__(self, name, session):
        self.name, self.session, self.seq = name, session * 32, 0

    def decide(self, op, *parents, **fields):
        self.seq += 1
        seen = [parent.event for parent in parents]
        return forged("a", seen, session=self.session, seq=self.seq, by=self.name, op=op, **fields)

    def says(self, value, *parents):
        return self.decide("edit", *parents, changes={"output": value})

    def undoes(self, event, *parents):
        return self.decide("undo", event, *parents, of=event.event)


def outcome(*events):
    """What any order of reading makes of record a: its answer, whether it is out, and whose sides are left."""
    shape = load_shape("instruction")
    record = shape.record(LINES[0], Source("data/a.jsonl", 1))
    found = [fold([record], order, shape) for order in (events, events[::-1])]
    assert found[0] == found[1]
    state = found[0].states["a"]
    sides = sorted(value for conflict in found[0].conflicts for _, value in conflict.sides)
    return state.record.completion, state.dropped, sides


def test_a_side_that_was_taken_back_is_no_side():
    ana, bo, late = Person("ana", "2"), Person("bo", "1"), Person("bo", "3")
    first, mine = bo.says("x"), ana.says("m")
    second = late.says("s", first)
    assert outcome(first, mine, second)[2] == ["m", "s"]
    assert outcome(first, mine, second, ana.undoes(mine, second)) == ("s", None, [])


def test_what_was_taken_back_stays_so_when_what_came_after_it_is_taken_back_too():
    ana, bo = Person("ana", "1"), Person("bo", "2")
    mine = ana.says("m")
    theirs = bo.says("t", mine)
    back = ana.undoes(mine, theirs)
    assert outcome(mine, theirs, back) == ("t", None, [])
    assert outcome(mine, theirs, back, bo.undoes(theirs, back)) == ("5", None, [])
    ana, bo = Person("ana", "1"), Person("bo", "2")
    out = ana.decide("drop", reason="r")
    in_again = bo.decide("restore", out)
    back = ana.undoes(out, in_again)
    again = ana.undoes(back)
    assert outcome(out, in_again, back, bo.undoes(in_again, back))[1] is None
    assert outcome(out, in_again, back, again, bo.undoes(in_again, again))[1] == "r"


def test_a_settled_conflict_comes_back_without_what_was_taken_back_since():
    ana, bo, cem, dia = (
        Person(name, session) for name, session in (("ana", "1"), ("bo", "2"), ("cem", "3"), ("dia", "4"))
    )
    sides = [ana.says("a"), bo.says("b"), cem.says("c")]
    settled = dia.says("d", *sides)
    back = bo.undoes(sides[1], settled)
    assert outcome(*sides, settled, back) == ("d", None, [])
    assert outcome(*sides, settled, back, dia.undoes(settled, back)) == ("a", None, ["a", "c"])


def test_two_people_on_one_field_and_any_of_them_may_give_way():
    ana, bo, cem = Person("ana", "1"), Person("bo", "2"), Person("cem", "3")
    sides = [ana.says("a"), bo.says("b"), cem.says("c")]
    assert outcome(*sides) == ("a", None, ["a", "b", "c"])
    for person, side, left in ((ana, 0, ["b", "c"]), (bo, 1, ["a", "c"]), (cem, 2, ["a", "b"])):
        back = person.undoes(sides[side], *sides)
        assert outcome(*sides, back) == (left[0], None, left)
        assert outcome(*sides, back, person.undoes(back)) == ("a", None, ["a", "b", "c"])


def test_other_fields_do_not_matter():
    ana, bo = Person("ana", "1"), Person("bo", "2")
    events = [ana.says("a"), bo.decide("restore"), bo.decide("assign", split="test")]
    assert outcome(*events) == ("a", None, [])
    assert outcome(*events, ana.undoes(events[0])) == ("5", None, [])


# Long histories.


def long_history(kind, number):
    """One record's decisions by one person, each after the one before, or by two that always lag behind one another."""
    ana, bo = Person("ana", "1"), Person("bo", "2")
    events = [ana.says("x")]
    while len(events) < number:
        if kind == "undo":
            events.append(ana.undoes(events[-1]))
        elif kind == "edit":
            events.append(ana.says(str(len(events)), events[-1]))
        else:
            events.append((bo, ana)[len(events) % 2].decide("label", *events[-2:-1], question="q", value=len(events)))
    return events


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["undo", "edit", "two people"])
def test_a_long_history_takes_memory_and_time_in_proportion(kind):
    events = long_history(kind, 3000)
    tracemalloc.start()
    try:
        outcome(*events)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # With a set of what each had seen it was 170 MB.
    assert peak < 20e6


@pytest.mark.ci
def test_decisions_on_records_that_are_not_there_are_counted_and_cost_little(root):
    plant(root, *(forged(f"nobody {n}", op="restore") for n in range(3000)))
    with opened(root) as project:
        (remark,) = project.remarks()
        assert "3,000 (nobody 0, nobody 1, nobody 10 and 2,997 more)" in remark
        assert len(project.decided()) == 0
        assert code_of(project.state, "nobody 7") == "E916 unknown-record"


# Forged journals.


def check_forged(root, events, seed=0):
    """The forged journal is read to its end, the same in any order and by all who look."""
    mixed = events[:]
    random.Random(seed).shuffle(mixed)
    seen = []
    for number, order in enumerate((events, mixed)):
        other = made(root / f"of{number}")
        plant(other, *order)
        with opened(other, "zoe") as project:
            found = {state.record.id: state for state in load_data(other).states()}
            assert states(project) == {name: found[name] for name in states(project)}
            seen.append(states(project))
            project.apply([label("a", "still here")])
            assert project.undo().unchanged == []
            assert [facts(state) for state in states(project).values()] == [facts(state) for state in seen[-1].values()]
    assert seen[0] == seen[1]
    return seen[0]


def test_events_that_take_back_themselves_or_one_another(tmp_path):
    one, two, three = (uuid.uuid4().hex for _ in range(3))
    events = [
        forged("a", event=one, op="undo", of=one),
        forged("a", event=two, op="undo", of=three),
        forged("a", event=three, op="undo", of=two, parents=[two]),
        forged("a", op="undo", of=uuid.uuid4().hex),
        forged("a", op="drop", reason="r"),
    ]
    assert check_forged(tmp_path, events)["a"].dropped == "r"
    for event in events[:3]:
        with opened(made(tmp_path / event.event), event.by) as project:
            plant(project.root, *events)
            project.refresh()
            while project.undo():
                assert project.num_decisions < 60, "undo never ends"


def test_events_that_claim_to_have_seen_one_another(tmp_path):
    numbers = [uuid.uuid4().hex for _ in range(30)]
    events = [forged("a", numbers[n:] + numbers[: n - 1], event=one, reason=str(n)) for n, one in enumerate(numbers)]
    check_forged(tmp_path, [*events, forged("b", [numbers[0]] * 1000)])


def test_events_at_the_end_of_all_numbers(tmp_path):
    session = uuid.uuid4().hex
    events = [
        forged("a", session=session, seq=seq, op="assign", split=split)
        for seq, split in ((2**53, "test"), (1, "train"))
    ]
    assert check_forged(tmp_path, events)["a"].record.split == "test"


def test_events_that_share_their_place(tmp_path):
    session = uuid.uuid4().hex
    for seed in range(6):
        events = [forged("a", session=session, seq=1 + n // 3, reason=str(n)) for n in range(9)]
        check_forged(tmp_path / str(seed), events, seed)


def test_events_that_make_no_line(tmp_path):
    events = [
        forged("a", op="edit", changes={"output": 5}), forged("a", op="edit", changes={"instruction": None}),
        forged("c", op="add", record={"output": 5}), forged("d", op="add", record={}),
    ]  # fmt: skip
    assert set(check_forged(tmp_path, events)) == {"a"}


def test_undo_never_reaches_into_what_others_did(tmp_path):
    root = made(tmp_path / "ws")
    with opened(root) as ana, opened(root, "bo") as bo:
        (event,) = bo.apply([drop("a")])
        plant(root, forged("a", [event.event], by="ana", op="undo", of=event.event))
        ana.refresh()
        bo.refresh()
        for _ in range(3):
            ana.undo()
            bo.refresh()
        assert ana.state("a") == bo.state("a")


# Whatever is done in whatever order, by several people and sittings.

OPS = [
    "edit",
    "drop",
    "restore",
    "label",
    "assign",
    "add",
    "undo",
    "redo",
    "refresh",
    "reload",
    "reopen",
]
STEPS = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(OPS), st.sampled_from(["a", "b", "new"]), st.sampled_from(["x", "y", None])
    ),
    max_size=14,
)  # fmt: skip


def deciding(op, name, value):
    return {
        "edit": edit(name, **({"output": value} if value else {"category": None})),
        "drop": drop(name, value or "r"),
        "restore": Restore(name),
        "label": label(name, value, "category"),
        "assign": Assign(name, "test" if value == "x" else "train"),
        "add": add(name, output=value or "z"),
    }.get(op)


def tried(project, call, *args):
    """Whether it worked: it may not where a record is not there, or another program has changed the files."""
    if project.is_current():
        return done(call, *args, but=("E916 unknown-record", "E982 cannot-apply"))
    return done(call, *args, but=("E916 unknown-record", "E982 cannot-apply", "E974 files-changed"))


def seen_by(project):
    """What is decided, less the names of the events."""
    return (
        {
            name: (*facts(state), state.answers, state.resolved, state.is_wanted)
            for name, state in states(project).items()
        },
        sorted(conflict.record + str(conflict.facet) for conflict in project.conflicts()),
    )


def assert_undo_is_identity(project):
    before, contradicted = seen_by(project)
    act = [drop("a", "once"), edit("b", output="once"), label("b", "once")]
    if tried(project, project.apply, act) and project.is_current():
        assert project.undo().unchanged == []
        after = seen_by(project)
        # What nobody had decided on is now decided on, and as it was.
        assert ({name: after[0][name] for name in before}, after[1]) == (before, contradicted)


@pytest.mark.ci
@settings(max_examples=draws(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_all_see_the_same_in_the_end_and_undo_is_identity(tmp_path, steps):
    root = made(tmp_path / uuid.uuid4().hex)
    with contextlib.ExitStack() as stack:
        people = [stack.enter_context(opened(root, by)) for by in ("ana", "ana", "bo")]
        for who, op, name, value in steps:
            decision = deciding(op, name, value)
            if decision:
                tried(people[who], people[who].apply, [decision])
            elif op == "reopen":
                people[who].close()
                people[who] = stack.enter_context(opened(root, people[who].by))
            elif op == "apply":
                tried(people[who], apply_edits, load_data(root))
            else:
                tried(people[who], getattr(people[who], op))
            assert_undo_is_identity(people[who])
        for project in people:
            project.refresh()
            if not project.is_current():
                project.reload()
        found = {state.record.id: state for state in load_data(root).states()}
        for project in people:
            assert states(project) == {name: found[name] for name in states(project)}
            assert project.findings() == people[0].findings()
            assert sorted(one.code for one in project.findings()) == sorted(
                one.code for one in load_data(root).findings()
            )
            seen = states(project)
            assert (project.reload(), states(project)) == (set(), seen)
        for project in people:
            while undone := project.undo():
                assert project.num_decisions < 1000, (undone, "undo never ends")
    shutil.rmtree(root)
