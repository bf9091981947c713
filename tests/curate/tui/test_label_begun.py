"""What is begun at the record at hand, and what comes between: queues made anew, others at work, saving that fails."""

import json
import threading
from threading import Event

import numpy as np
import pytest
from textual.widgets import Input

from curate.base.events import Add, Label
from curate.base.record import CurateError
from curate.project.labels import Suggestions
from curate.project.project import Project, open_project
from curate.sessions.labelling import LabelSession
from curate.sessions.labelling import queue as prepared
from curate.sessions.labelling.queue import AGAIN_AFTER
from tests.curate.tui.asking import FREE, MANY

pytestmark = pytest.mark.ci


def asides(app, question, by="ana"):
    """Return what was answered to a question, by record."""
    states = app.project.decided()
    return {one.record.id: one.answers[question][by] for one in states if by in one.answers.get(question, {})}


def line(app):
    return app.screen.query_one("#line", Input)


def at_hand(app):
    """Return the id of the record at hand, empty where there is none."""
    record = app.present().record_json()
    return json.loads(record)["id"] if record else ""


def head(app):
    """Return what the line over the record says: what is asked, and how far it is."""
    return str(app.present().query_one("#head").content)


def answer_elsewhere(app, name, value="other"):
    """Answer in another sitting of the same annotator, and have the app see it."""
    with open_project(app.root, app.by) as project:
        project.load()
        project.apply([Label(name, "topic", value)])
    app.following.check_for_changes()


def add_first_line(app):
    path = app.root / "data" / "a.jsonl"
    first = json.dumps({"id": "first", "instruction": "Say.", "output": "Yes."})
    path.write_text(f"{first}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")


@pytest.fixture
def gate(monkeypatch):
    """Return an event without which no queue is made while it is unset."""
    is_open = threading.Event()
    is_open.set()
    make = prepared.queue_of

    def made(*given):
        found = make(*given)
        assert is_open.wait(20)
        return found

    monkeypatch.setattr(prepared, "queue_of", made)
    return is_open


@pytest.fixture
def full_disk(monkeypatch):
    """Return a function that makes the disk full, or gives it room again."""
    apply = Project.apply
    state = {"full": False}

    def refuse(*args):
        if state["full"]:
            raise CurateError("E906 not-saved", "no space left on device", "Make room.")
        return apply(*args)

    monkeypatch.setattr(Project, "apply", refuse)
    return lambda is_full: state.update(full=is_full)


class Learner:
    """A model that is least certain of what comes last, and once it has learned again of what comes first."""

    made = []  # noqa: RUF012  one list for all
    may_end = Event()

    def __init__(self, texts, _):
        self.num_texts, self.is_closed, self.num_times = len(texts), False, 0
        self.made.append(self)

    def learn(self, _labels):
        assert self.may_end.wait(30)
        self.num_times += 1
        scores = np.linspace(0.9, 0.1, self.num_texts)[:: 1 if self.num_times == 1 else -1]
        return Suggestions(["billing"], np.zeros(self.num_texts, np.int64), scores, 9, 0.9)

    def close(self):
        self.is_closed = True


@pytest.fixture
def learner(monkeypatch):
    Learner.made.clear()
    Learner.may_end.set()
    monkeypatch.setattr("curate.sessions.labelling.queue.Trainer", Learner)
    return Learner


def test_a_learning_that_ends_takes_no_note_from_under_the_fingers(label_story, learner, settled, monkeypatch):
    queues, begin = [], LabelSession.begin
    monkeypatch.setattr(LabelSession, "begin", lambda *what: (queues.append(what), begin(*what)))

    async def script(app, pilot):
        await pilot.press("o", "o")
        await settled(pilot)
        assert at_hand(app) == "r029"
        learner.may_end.clear()
        # So many answers have a model learned again.
        await pilot.press(*["1"] * AGAIN_AFTER, "c", *"hi")
        name, topics, num_queues = at_hand(app), asides(app, "topic"), len(queues)
        learner.may_end.set()
        await settled(pilot)
        await pilot.press("1")
        assert (line(app).display, line(app).value) == (True, "hi1")
        assert (asides(app, "topic"), at_hand(app), len(queues)) == (topics, name, num_queues)
        await pilot.press("enter")
        await settled(pilot)
        assert asides(app, "note") == {name: "hi1"}
        # What had to wait came then: the next record is the one that the new model is least certain of.
        assert (at_hand(app), len(queues)) == (name, num_queues + 1)
        await pilot.press("1")
        assert at_hand(app) == "r000"

    label_story(script)


@pytest.mark.usefixtures("no_model")
def test_a_queue_made_anew_leaves_marks_alone(label_story, settled):
    async def script(app, pilot):
        await pilot.press("m", "1")
        app.present().reread()
        await settled(pilot)
        await pilot.press("2", "enter")
        await settled(pilot)
        assert asides(app, "topic") == {"r000": ["billing", "returns"]}

    label_story(script)


@pytest.mark.usefixtures("no_model")
def test_a_queue_made_anew_leaves_the_keys_of_found_values_alone(label_story, settled):
    async def script(app, pilot):
        await pilot.press("slash", *"intent 2", "enter")
        app.present().reread()
        await settled(pilot)
        await pilot.press("3")
        assert asides(app, "intent") == {"r000": "intent 22"}

    label_story(script, settings=MANY)


@pytest.mark.usefixtures("no_model")
def test_keys_go_on_while_a_queue_is_made(label_story, gate, settled):
    async def script(app, pilot):
        gate.clear()
        await pilot.press("r", "1")
        assert at_hand(app) == "r001"
        gate.set()
        await settled(pilot)
        assert (at_hand(app), "1 of 30  3%  29 left" in head(app)) == ("r001", True)
        await pilot.press("2")
        assert asides(app, "topic") == {"r000": "billing", "r001": "returns"}

    label_story(script)


@pytest.mark.usefixtures("no_model")
def test_notes_and_marks_that_are_not_saved_stay(label_story, full_disk, settled):
    async def script(app, pilot):
        full_disk(True)
        await pilot.press("c", *"see 1", "enter")
        await settled(pilot)
        assert "E906" in app.message.plain
        assert (line(app).display, line(app).value, app.present().has_unsaved()) == (True, "see 1", True)
        full_disk(False)
        await pilot.press("enter")
        await settled(pilot)
        assert (asides(app, "note"), line(app).display) == ({"r000": "see 1"}, False)
        full_disk(True)
        await pilot.press("m", "3", "1", "enter")
        assert "E906" in app.message.plain
        full_disk(False)
        await pilot.press("enter")
        assert asides(app, "topic") == {"r000": ["billing", "shipping"]}

    label_story(script)


@pytest.mark.usefixtures("no_model")
def test_a_typed_answer_that_is_not_saved_stays(label_story, full_disk, settled):
    async def script(app, pilot):
        full_disk(True)
        await pilot.press("slash", *"so it is", "enter")
        await settled(pilot)
        assert (line(app).value, app.present().has_unsaved()) == ("so it is", True)
        full_disk(False)
        await pilot.press("enter")
        await settled(pilot)
        assert (asides(app, "why"), app.present().has_unsaved()) == ({"r000": "so it is"}, False)

    label_story(script, settings=FREE)


@pytest.mark.usefixtures("no_model")
def test_a_note_is_saved_on_the_record_that_it_was_begun_at_or_not_at_all(label_story, settled):
    async def script(app, pilot):
        await pilot.press("c", *"about r000")
        answer_elsewhere(app, "r000")
        await settled(pilot)
        assert at_hand(app) == "r001"
        await pilot.press("enter")
        await settled(pilot)
        assert "r000 is not at hand any more" in app.message.plain
        assert (asides(app, "note"), line(app).value) == ({}, "about r000")
        await pilot.press("escape", "m", "1", "2")
        answer_elsewhere(app, "r001")
        await settled(pilot)
        assert "r001 is not at hand any more" in app.message.plain
        await pilot.press("enter")
        assert asides(app, "topic") == {"r000": "other", "r001": "other"}
        await pilot.press("3", "enter")
        assert asides(app, "topic")["r002"] == ["shipping"]

    label_story(script)


@pytest.mark.usefixtures("no_model")
def test_the_addition_of_the_record_at_hand_is_taken_back(label_story, settled):
    async def script(app, pilot):
        added = {"id": "new", "instruction": "Say.", "output": "x"}
        app.project.apply([Add("new", added)])
        app.go("label", record="new")
        await settled(pilot)
        assert at_hand(app) == "new"
        await pilot.press("u")
        assert (at_hand(app), "add of new" in app.message.plain) == ("r000", True)
        await pilot.press("1")
        assert asides(app, "topic") == {"r000": "billing"}

    label_story(script)


def test_records_that_were_read_again_are_asked_about_at_one_new_desk(label_story, learner, gate, settled):
    async def script(app, pilot):
        screen = app.present()
        await pilot.press("w", "n", "n", "c", *"about r002")
        await settled(pilot)
        add_first_line(app)
        gate.clear()
        app.action_reread()
        for _ in range(1000):
            if not screen.equal_command():
                break
            await pilot.pause(0.01)
        # Nothing is asked until the new rows are there, and nothing that was typed is lost or saved elsewhere.
        await pilot.press("enter")
        assert (asides(app, "note"), line(app).value) == ({}, "about r002")
        assert [one.is_closed for one in learner.made] == [True] * len(learner.made)
        gate.set()
        await settled(pilot)
        assert (at_hand(app), "asked: quality" in head(app)) == ("r002", True)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("3")
        assert (asides(app, "note"), asides(app, "quality")) == ({"r002": "about r002"}, {"r002": "poor"})
        assert [one.is_closed for one in learner.made].count(False) == 1

    label_story(script)


@pytest.mark.usefixtures("no_model")
def test_the_review_is_shown_again_after_the_records_were_read_again(label_story, settled):
    async def script(app, pilot):
        for by, value in (("bo", "returns"), ("cem", "billing")):
            with open_project(app.root, by) as project:
                project.load()
                project.apply([Label("r003", "topic", value)])
        app.following.check_for_changes()
        await settled(pilot)
        await pilot.press("v")
        add_first_line(app)
        await pilot.press("r")
        await settled(pilot)
        assert ("REVIEW" in head(app), at_hand(app)) == (True, "r003")
        await pilot.press("1")
        assert "r003 -> " in app.message.plain

    label_story(script)
