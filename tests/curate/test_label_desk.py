"""A desk in a real workspace: what is asked, answered, taken back and hidden."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from curate.base.events import Drop, Label, Resolve
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.sessions.labelling import LabelSession

Sit = Callable[..., LabelSession]


def names(desk: LabelSession) -> list[str]:
    """Return the records that a desk asks about, in order."""
    assert desk.queue is not None
    return [desk.project.catalog.name(int(row)) for row in desk.queue.rows]


def given(desk: LabelSession, question: str = "topic") -> dict[str, Any]:
    """Return the annotator's answers as somebody else finds them on the disk."""
    states = load_data(desk.project.root).states()
    return {
        state.record.id: state.answers[question][desk.by]
        for state in states
        if desk.by in state.answers.get(question, {})
    }


def test_answers_are_saved_one_by_one_and_the_next_record_is_there(sit: Sit) -> None:
    desk = sit()
    assert (desk.current, desk.progress()) == ("r000", (60, 60))
    desk.answer("billing")
    assert given(desk) == {"r000": "billing"}
    assert (desk.current, desk.progress()) == ("r001", (59, 60))
    desk.skip()
    desk.answer(["billing", "other"])
    assert given(desk) == {"r000": "billing", "r002": ["billing", "other"]}
    assert [(one.record, one.value) for one in desk.done] == [
        ("r000", "billing"), ("r001", None), ("r002", ["billing", "other"]),
    ]  # fmt: skip
    assert (desk.done.count("answered"), desk.done.count("skipped")) == (2, 1)


def test_what_was_skipped_comes_again_when_nothing_else_is_left(sit: Sit) -> None:
    desk = sit()
    for number in range(60):
        if number in (3, 7):
            desk.skip()
        else:
            desk.answer("billing")
    assert desk.current == "r003"
    assert desk.progress() == (2, 60)
    desk.answer("other")
    desk.answer("other")
    assert (desk.current, desk.progress()) == ("", (0, 60))
    assert desk.why_nothing("--all") == "nothing is left to label: every record assigned to you has an answer to topic"


def test_undo_goes_back_to_the_record_and_redo_on_from_it(sit: Sit) -> None:
    desk = sit()
    for _ in range(3):
        desk.answer("billing")
    assert desk.undo() is not None
    assert (desk.current, desk.progress()) == ("r002", (58, 60))
    assert given(desk) == {"r000": "billing", "r001": "billing"}
    assert [one.record for one in desk.done] == ["r000", "r001"]
    desk.answer("returns")
    assert desk.current == "r003"
    assert given(desk)["r002"] == "returns"
    desk.undo()
    desk.project.redo()
    desk.follow({"r002"})
    assert (desk.current, given(desk)["r002"]) == ("r003", "returns")
    # Also what was answered in an earlier sitting.
    again = sit()
    assert (again.current, again.progress()) == ("r003", (57, 60))
    again.undo()
    assert (again.current, again.progress()) == ("r002", (58, 60))
    assert "r002" not in given(again)
    again.answer("other")
    assert again.current == "r003"


def test_moving_decides_nothing_and_answers_can_be_changed(sit: Sit) -> None:
    desk = sit()
    desk.answer("billing")
    assert desk.move(-1)
    assert desk.current == "r000"
    assert desk.answers() == {"ana": "billing"}
    assert not desk.move(-1)
    desk.answer("other")
    assert (desk.current, given(desk)) == ("r001", {"r000": "other"})
    assert desk.move(1)
    assert desk.current == "r002"


def test_flags_notes_and_quality_stay_with_the_record(sit: Sit) -> None:
    desk = sit()
    assert desk.flag()
    desk.note("look again")
    desk.answer_other("quality", "poor")
    assert desk.current == "r000"
    assert (given(desk, "flag"), given(desk, "note"), given(desk, "quality")) == (
        {"r000": True}, {"r000": "look again"}, {"r000": "poor"},
    )  # fmt: skip
    assert not desk.flag()
    desk.note("")
    assert (given(desk, "flag"), given(desk, "note")) == ({}, {})
    assert desk.progress() == (60, 60)
    # Another's note is not mine.
    desk.note("mine")
    other = sit("bo")
    assert other.aside("note") is None
    assert other.aside("flag") is None


def test_others_answers_are_seen_after_ones_own(sit: Sit) -> None:
    sit("bo").answer("returns")
    desk = sit("ana")
    assert (desk.current, desk.answers()) == ("r000", {})
    desk.answer("billing")
    desk.move(-1)
    assert desk.answers() == {"ana": "billing", "bo": "returns"}
    desk.undo()
    assert (desk.current, desk.answers()) == ("r000", {})
    assert desk.glance().num_shared == 0


def test_agreement_follows_every_answer(sit: Sit) -> None:
    bo = sit("bo")
    for _ in range(4):
        bo.answer("billing")
    desk = sit("ana")
    for value in ("billing", "billing", "returns"):
        desk.answer(value)
    glance = desk.glance()
    assert (glance.num_shared, glance.peers[0].name, glance.peers[0].num_agreed) == (3, "bo", 2)
    desk.undo()
    assert desk.glance().peers[0].num_records == 2


def test_what_others_answer_meanwhile_is_asked_no_more(sit: Sit) -> None:
    desk = sit("ana", overlap=0.0)
    other = sit("bo")
    for _ in range(5):
        other.answer("other")
    changed = desk.project.refresh()
    desk.follow(changed)
    assert desk.progress() == (55, 60)
    # The record at hand stays at hand.
    assert desk.current == "r000"
    desk.answer("billing")
    assert desk.current == "r005"


def test_a_team_shares_the_work_and_strangers_have_none(sit: Sit) -> None:
    team = ["ana", "bo"]
    mine = names(sit("ana", overlap=0.5, team=team))
    theirs = names(sit("bo"))
    assert set(mine) | set(theirs) == {f"r{number:03}" for number in range(60)}
    assert 15 <= len(set(mine) & set(theirs)) <= 45
    stranger = sit("cem")
    assert (stranger.current, names(stranger)) == ("", [])
    assert "cem is not one of label.annotators (ana, bo)" in stranger.why_nothing("--all")


def test_known_answers_are_asked_of_all_and_look_like_any_other(sit: Sit) -> None:
    gold = "".join(json.dumps({"id": f"r{n:03}", "question": "topic", "value": "other"}) + "\n" for n in (4, 9))
    team = ["ana", "bo", "cem"]
    desks = {who: sit(who, overlap=0.0, team=team, gold="gold.jsonl", files={"gold.jsonl": gold}) for who in team}
    for who, desk in desks.items():
        asked = names(desk)
        assert {"r004", "r009"} <= set(asked), who
        # At their place among the others, in the order of the file.
        assert asked == sorted(asked)
    for desk in desks.values():
        while desk.current != "r004":
            desk.answer("billing")
        assert desk.answers() == {}
        desk.answer("billing")
    answered = [names(desk)[: len(given(desk))] for desk in desks.values()]
    assert all("r004" in names_ for names_ in answered)


def test_lines_that_say_it_are_asked_about_when_all_are(sit: Sit) -> None:
    desk = sit(settings="[split]\nseed = 1\n")
    assert (desk.question.name, desk.question.values) == ("category", ["billing", "returns"])
    assert desk.current == ""
    assert desk.why_nothing("t: review them anyway") == "all 60 have a category. t: review them anyway"
    desk.begin(desk.prepare(desk.wish_for(is_all=True)))
    assert desk.progress() == (60, 60)
    desk.answer("billing")
    assert desk.project.state("r000").record.category == "billing"
    # Whoever was asked once has to be able to take it back and be asked again.
    desk.undo()
    assert (desk.current, desk.project.state("r000").record.category) == ("r000", "returns")


def test_dropped_and_settled_records_are_not_asked_about(sit: Sit) -> None:
    desk = sit()
    desk.project.apply(
        [
            Drop("r000", reason="spam"),
            Resolve("r001", "topic", "other"),
        ]
    )
    desk.follow({"r000", "r001"})
    assert desk.progress() == (58, 60)
    assert names(sit())[0] == "r002"


def test_orders_of_a_workspace(sit: Sit) -> None:
    for who, value in (("bo", "billing"), ("cem", "returns")):
        desk = sit(who)
        while desk.current != "r020":
            desk.move(1)
        desk.answer(value)
    disputed = sit("ana", order="disagreement")
    # Two have answered, which is enough, and a third opinion is welcome here all the same.
    assert disputed.current == "r020"
    assert "r020" not in names(sit("ana"))
    mine = sit("dan", order="random")
    assert names(mine) == names(sit("dan", order="random"))
    assert names(mine) != sorted(names(mine))
    mine.flag()
    flagged = mine.current
    assert names(sit("dan", order="oldest"))[-1] == flagged


@pytest.mark.ci
def test_the_least_certain_come_first_and_suggestions_are_out_of_sample(sit: Sit) -> None:
    pytest.importorskip("sklearn", reason="suggestions need the extra [quality]")
    words = {"billing": "invoice refund charge", "returns": "parcel courier label"}
    lines = [
        {"id": f"r{n:03}", "instruction": f"{words['billing' if n % 2 else 'returns']} x{n}", "output": "ok"}
        for n in range(40)
    ] + [{"id": "zz", "instruction": f"{words['billing']} {words['returns']}", "output": "ok"}]
    desk = sit(lines=lines)
    assert desk.is_learning_due()
    desk.learn()
    assert desk.suggestion() is None
    for number in range(20):
        desk.answer("billing" if number % 2 else "returns")
    desk.learn()
    suggestion = desk.suggestion()
    assert suggestion is not None
    assert (desk.current, suggestion.value) == ("r020", "returns")
    desk.reject()
    assert desk.suggestion() is None
    desk.begin(desk.prepare(desk.wish_for(order="uncertain")))
    assert desk.current == "zz"
    # What Ana answers about a record must not become what Bo is told to answer about it.
    other = sit("bo")
    other.learn()
    before = other.suggester.of(other.project.catalog.find("r002") or 0)
    desk.project.apply([Label("r002", "topic", "billing")])
    other.project.refresh()
    other.learn()
    after = other.suggester.of(other.project.catalog.find("r002") or 0)
    assert before is not None
    assert after is not None
    assert (before.value, after.value) == ("returns", "returns")


def test_guidelines_are_read_from_inside_the_workspace_only(sit: Sit) -> None:
    desk = sit(guide="guide.md", files={"guide.md": "# Be fair\n"})
    assert desk.guideline() == "# Be fair\n"
    (desk.project.root / "guide.md").write_bytes(b"\xff\xfe")
    with pytest.raises(CurateError) as error:
        desk.guideline()
    assert error.value.code == "E904 no-such-file"
    (desk.project.root / "guide.md").unlink()
    (desk.project.root / "guide.md").symlink_to("/etc/hostname")
    with pytest.raises(CurateError) as error:
        desk.guideline()
    assert error.value.code == "E914 outside-workspace"
