import json
import time
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.events import EVENTS, Label
from curate.project.project import open_project
from curate.project.transactions import Undone, UndoStacks, render_act
from tests.curate.deciding import changed
from tests.effort import draws


def event(op, act, record="a", **fields):
    number = uuid.uuid4().hex
    line = {"id": record, "op": op, **fields}
    event = {"event": number, "act": act, "by": "ana", "session": "0" * 32, "seq": 1, "decision": line}
    return EVENTS.validate_json(json.dumps(event))


def drop(*records):
    act = uuid.uuid4().hex
    return [event("drop", act, record, reason="x") for record in records]


def reversal(acts, stack):
    act = uuid.uuid4().hex
    return [event("undo", act, one.id, of=one.event) for one in reversed(stack[-1].events)]


def test_an_act_is_what_was_saved_together():
    acts = UndoStacks()
    acts.add(drop("a", "b", "c"))
    acts.add(drop("d"))
    assert [render_act(act.events) for act in acts.done] == ["3 x drop of a, b, c", "drop of d"]
    assert render_act(drop(*"abcdef")) == "6 x drop of a, b, c and 3 more"


def test_what_was_taken_back_is_told_with_what_stays_as_it_is():
    events = drop("a", "b\x1b[2J", "c", "d")
    undone = Undone(events, ["a", "b\x1b[2J"])
    assert undone.message.startswith("taken back: 4 x drop of a, b")
    assert undone.remark.startswith("2 records unchanged (a, b")
    assert "\x1b" not in undone.message + undone.remark
    assert Undone(events, is_redo=True).message.startswith("done again: 4 x drop of a, ")
    assert Undone(events).remark == ""


def test_something_new_ends_what_can_be_done_again():
    acts = UndoStacks()
    acts.add(drop("a"))
    acts.add(reversal(acts, acts.done))
    assert (len(acts.done), len(acts.undone)) == (0, 1)
    acts.add(drop("b"))
    assert (len(acts.done), len(acts.undone)) == (1, 0)


@settings(max_examples=draws(200), deadline=None)
@given(st.lists(st.sampled_from(["do", "undo", "redo"]), max_size=20))
def test_the_stacks_are_those_of_an_editor(steps):
    acts = UndoStacks()
    everything, done, undone = [], [], []
    for number, step in enumerate(steps):
        if step == "do":
            new = drop(f"r{number}")
            done.append(f"r{number}")
            undone.clear()
        elif step == "undo" and done:
            new = reversal(acts, acts.done)
            undone.append(done.pop())
        elif step == "redo" and undone:
            new = reversal(acts, acts.undone)
            done.append(undone.pop())
        else:
            continue
        acts.add(new)
        everything += [changed(one, seq=len(everything) + n) for n, one in enumerate(new, start=1)]
        assert [act.events[0].id for act in acts.done] == done
        assert [acts.original_of(act).events[0].id for act in acts.undone] == undone
    again = UndoStacks(everything)
    assert [act.events[0].id for act in again.done] == done
    assert [again.original_of(act).events[0].id for act in again.undone] == undone


def workspace(root):
    (root / "data").mkdir()
    (root / "curate.toml").write_text('[[label.questions]]\nname = "q"\n')
    lines = [{"id": f"r{n}", "instruction": f"Ask {n}.", "output": "Yes."} for n in range(6)]
    (root / "data" / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("at", ["", "2024-01-01T00:00:00Z"])
def test_the_last_act_is_taken_back_also_where_sessions_began_in_the_same_second(tmp_path, at):
    # Nothing on these records says which came first, and answers that were imported bear the date of their tool.
    workspace(tmp_path)
    for number in range(6):
        with open_project(tmp_path, "ana") as project:
            project.apply([Label(f"r{number}", "q", "yes", at=at if number == 5 else "")])
    for number in range(6):
        with open_project(tmp_path, "ana") as project:
            assert project.undo().ids == [f"r{5 - number}"]


def test_the_last_act_is_taken_back_first_also_where_the_clock_was_put_back(tmp_path, monkeypatch):
    workspace(tmp_path)
    now = time.time_ns()
    for number in range(6):
        monkeypatch.setattr(time, "time_ns", lambda hours=number: now - hours * 3600 * 10**9)
        with open_project(tmp_path, "ana") as project:
            if number % 2:
                project.load()
            project.apply([Label(f"r{number}", "q", "yes")])
    for number in range(6):
        with open_project(tmp_path, "ana") as project:
            assert project.undo().ids == [f"r{5 - number}"]
