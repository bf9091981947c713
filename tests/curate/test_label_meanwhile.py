"""What happens to a desk beside its own keys: queues made anew in a thread, others at work, records that vanish."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from curate.base.events import Add, Drop, Label
from curate.base.record import CurateError
from curate.sessions.labelling import FLAG, NOTE, Done, LabelSession
from curate.sessions.labelling.session import DoneList

Sit = Callable[..., LabelSession]


def add(desk: LabelSession, name: str) -> None:
    line = {"id": name, "instruction": "Say something new.", "output": "Something new."}
    desk.project.apply([Add(name, line)])
    desk.follow({name})


def test_what_is_answered_while_a_queue_is_made_counts_in_it(sit: Sit) -> None:
    desk = sit()
    prepared = desk.prepare(desk.wish)
    desk.answer("billing")
    desk.begin(prepared, desk.current)
    assert (desk.current, desk.progress()) == ("r001", (59, 60))
    desk.answer("returns")
    assert desk.project.state("r000").answers["topic"] == {"ana": "billing"}
    assert (desk.current, desk.progress()) == ("r002", (58, 60))
    # From its first record, that is the first that still asks.
    desk.begin(prepared)
    assert (desk.current, desk.progress()) == ("r002", (58, 60))


def test_what_others_do_and_what_is_taken_back_while_a_queue_is_made_counts_too(sit: Sit) -> None:
    desk = sit(overlap=0.0)
    desk.answer("billing")
    desk.answer("billing")
    prepared = desk.prepare(desk.wish)
    desk.undo()
    other = sit("bo")
    while other.current != "r005":
        other.move(1)
    other.answer("other")
    desk.project.refresh()
    desk.begin(prepared, desk.current)
    assert (desk.current, desk.progress()) == ("r001", (58, 60))
    assert desk.queue is not None
    assert not desk.queue.is_open(5)
    desk.answer("returns")
    assert desk.current == "r002"


def test_agreement_of_a_queue_made_meanwhile_has_all_answers(sit: Sit) -> None:
    other = sit("bo")
    other.answer("billing")
    other.answer("billing")
    desk = sit("ana")
    desk.answer("billing")
    prepared = desk.prepare(desk.wish)
    desk.answer("returns")
    desk.begin(prepared, desk.current)
    (peer,) = desk.glance().peers
    assert (peer.num_records, peer.num_agreed) == (2, 1)


def test_what_was_skipped_stays_skipped_in_a_queue_made_anew(sit: Sit) -> None:
    desk = sit()
    desk.skip()
    desk.answer("billing")
    desk.begin(desk.prepare(desk.wish))
    assert (desk.current, desk.queue and len(desk.queue.skipped)) == ("r002", 1)
    # Another question was not skipped.
    desk.begin(desk.prepare(desk.wish_for("quality")))
    assert (desk.current, desk.queue and len(desk.queue.skipped)) == ("r000", 0)


def test_the_record_at_hand_vanishes(sit: Sit) -> None:
    desk = sit()
    add(desk, "new")
    desk.begin(desk.prepare(desk.wish), "new")
    assert (desk.current, desk.progress()) == ("new", (61, 61))
    desk.project.undo()
    desk.follow({"new"})
    assert (desk.current, desk.progress()) == ("r000", (60, 60))
    desk.answer("billing")
    assert desk.current == "r001"


def test_a_record_vanishes_that_comes_later_or_was_before(sit: Sit) -> None:
    desk = sit()
    for name in ("one", "two"):
        add(desk, name)
    desk.begin(desk.prepare(desk.wish), "two")
    desk.answer("billing")
    desk.begin(desk.prepare(desk.wish_for(is_all=True)), "r059")
    assert (desk.current, desk.progress()) == ("r059", (61, 62))
    for _ in range(2):
        desk.undo()
    # The answer to "two" was taken back, and then "two" itself.
    assert desk.current != "two"
    assert desk.progress() == (61, 61)
    assert [one.record for one in desk.done] == []
    while desk.move(1):
        assert desk.state() is not None
    assert desk.current == "one"
    desk.project.redo()
    desk.follow({"two"})
    assert desk.progress() == (62, 62)


def test_an_answer_to_a_record_that_vanished_is_no_agreement(sit: Sit) -> None:
    desk = sit()
    add(desk, "new")
    other = sit("bo")
    other.project.apply([Label("new", "topic", "other")])
    desk.follow(desk.project.refresh())
    desk.begin(desk.prepare(desk.wish), "new")
    desk.answer("other")
    assert desk.glance().num_shared == 1
    desk.undo()
    desk.undo()
    desk.follow({"new"})
    assert desk.glance().num_shared == 0
    assert [one.record for one in desk.done] == []


def test_one_record_only_is_looked_at_whatever_was_done_before() -> None:
    tally = DoneList()
    for number in range(100):
        tally.add(Done(f"r{number}", "topic", "billing"))
    tally.add(Done("r3", FLAG, True))
    tally.add(Done("r3", NOTE, "see 1"))
    tally.add(Done("r4", "topic"))
    asked: list[Done] = []

    def stands(done: Done) -> bool:
        asked.append(done)
        return done.question != "topic"

    tally.keep("r3", stands)
    assert [(one.record, one.question) for one in asked] == [("r3", "topic"), ("r3", FLAG), ("r3", NOTE)]
    assert (tally.count("answered"), tally.count("flag"), tally.count("note"), tally.count("skipped")) == (99, 1, 1, 1)
    assert len(tally) == len(list(tally)) == 102
    assert [(one.record, one.question) for one in tally.last(3)] == [("r4", "topic"), ("r3", NOTE), ("r3", FLAG)]
    tally.keep("r3", lambda _: False)
    assert (len(tally), tally.count("flag"), tally.count("note")) == (100, 0, 0)


def test_answers_a_minute_are_those_of_the_last_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    tally = DoneList()
    for number in range(4):
        tally.add(Done(f"r{number}", "topic", "billing", at=clock[0]))
        assert (tally.pace() is None) == (number == 0)
        clock[0] += 30
    tally.add(Done("r9", NOTE, "no answer", at=clock[0]))
    assert tally.pace() == pytest.approx(2.0)
    clock[0] = 1000 + 600 + 45
    assert tally.pace() == pytest.approx(60 * 2 / 600)


def test_a_flag_taken_away_is_nothing_skipped(sit: Sit) -> None:
    desk = sit()
    desk.flag()
    assert desk.done.count("flag") == 1
    desk.flag()
    assert (desk.done.count("flag"), desk.done.count("skipped"), list(desk.done)) == (0, 0, [])


def test_a_desk_belongs_to_the_rows_that_were_there(sit: Sit) -> None:
    desk = sit()
    assert desk.is_current
    path = desk.project.root / "data" / "a.jsonl"
    first = json.dumps({"id": "first", "instruction": "Say.", "output": "Yes."})
    path.write_text(f"{first}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    desk.project.reload()
    assert not desk.is_current
    again = LabelSession(desk.project)
    again.begin(again.prepare(again.wish), "r000")
    again.answer("billing")
    assert again.current == "r001"
    assert set(again.project.state("r000").answers["topic"]) == {"ana"}


class Learner:
    """Stands for the process that learns."""

    made: list[Learner] = []  # noqa: RUF012  one list for all

    def __init__(self, texts: list[str], _: list[str]) -> None:
        self.texts = texts
        self.labels: list[list[str]] = []
        self.is_closed = False
        self.made.append(self)

    def learn(self, labels: list[str]) -> None:
        if self.is_closed:
            raise CurateError("E970 worker-lost", "suggesting was stopped")
        self.labels.append(list(labels))

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> type[Learner]:
    Learner.made.clear()
    monkeypatch.setattr("curate.sessions.labelling.queue.Trainer", Learner)
    return Learner


def test_a_desk_that_was_left_learns_nothing_any_more(
    sit: Sit, learner: type[Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = sit()
    suggester = desk.suggester
    # Somebody leaves while the texts are still being read: the process is made after that.
    rows = suggester._rows

    def leave(*given: Any) -> Any:
        desk.close()
        return rows(*given)

    monkeypatch.setattr(suggester, "_rows", leave)
    with pytest.raises(CurateError) as error:
        desk.learn()
    assert error.value.code == "E970 worker-lost"
    assert [one.is_closed for one in learner.made] == [True]


def test_learning_again_looks_at_nothing_but_what_was_decided_since(
    sit: Sit, learner: type[Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = sit("ana")
    add(desk, "new")
    desk.begin(desk.prepare(desk.wish))
    desk.answer("billing")
    desk.learn()
    other = sit("bo").project
    monkeypatch.delattr("curate.project.catalog.Catalog.frame")
    desk.answer("other")
    for name, value in (("r007", "returns"), ("r000", "other"), ("new", "billing")):
        other.apply([Label(name, "topic", value)])
    desk.follow(desk.project.refresh())
    desk.project.apply([Drop("r001", reason="spam")])
    desk.learn()
    # Two answers that differ are no agreement, and what is dropped teaches nothing.
    (one,) = learner.made
    assert [labels_of(labels) for labels in one.labels] == [{0: "billing"}, {7: "returns", 60: "billing"}]
    for _ in range(4):
        desk.undo()
    desk.learn()
    assert labels_of(one.labels[-1]) == {0: "other", 7: "returns"}


def labels_of(labels: list[str]) -> dict[int, str]:
    return {number: label for number, label in enumerate(labels) if label}
