"""An open project in several threads and sittings: listeners, waiting, and nothing lost between two looks."""

import contextlib
import getpass
import threading
import uuid

import pytest

from curate.project.project import open_project
from tests.curate.attacking import LINES, code_of, drop, edit, forged, fresh, label, made, newer, opened, plant, write
from tests.curate.deciding import changed


@pytest.fixture
def root(tmp_path):
    return made(tmp_path / "ws")


# Who listens.


def test_a_listener_that_raises_keeps_nobody_from_hearing(root):
    heard = []

    def broken(*_):
        raise LookupError("a screen is broken")

    with opened(root) as project:
        project.subscribe(lambda ids: heard.append(ids))
        project.subscribe(broken)
        project.subscribe(lambda ids: heard.append(ids))
        for call in (lambda: project.apply([drop("a")]), project.undo, project.redo):
            with pytest.raises(LookupError):
                call()
        assert heard == [{"a"}] * 6
        assert project.state("a").dropped == "x"
    assert fresh(root)["a"][1] == "x"


def test_who_has_stopped_listening_may_stop_again(root):
    with opened(root) as project:
        heard = []
        ends = []
        ends.append(project.subscribe(lambda *_: ends[0]()))
        project.subscribe(lambda ids: heard.append(ids))
        project.apply([drop("a")])
        ends[0]()
        project.apply([])
        assert heard == [{"a"}]


def test_a_listener_may_wait_for_another_thread(root):
    with opened(root) as project:
        answers = []

        def ask(*_):
            thread = threading.Thread(target=lambda: answers.append(project.state("b").dropped))
            thread.start()
            thread.join(5)

        project.subscribe(ask)
        project.apply([drop("a")])
        project.undo()
        project.redo()
        plant(root, forged("b"))
        project.refresh()
        write(root, LINES[1:])
        project.reload()
        assert answers == [None, None, None, "forged", "forged"]


# Several threads.


@pytest.mark.ci
def test_threads_lose_nothing_and_wait_for_nobody_for_good(root):
    names = ("a", "b")
    faults = []
    with opened(root) as ana, opened(root, "bo") as bo:

        def decide(project, question):
            for number in range(40):
                project.apply([label(name, number, question) for name in names])

        def look(project):
            for _ in range(40):
                project.refresh()
                project.state("a")
                project.findings()
                project.catalog.frame(["status"])

        def read(project):
            for _ in range(5):
                project.reload()
                project.is_current()

        def guarded(call, *what):
            with contextlib.ExitStack() as stack:
                stack.push(lambda kind, fault, trace: faults.append(fault) if fault else None)
                call(*what)

        work = [
            (decide, ana, "one"),
            (decide, ana, "two"),
            (decide, bo, "one"),
            (look, ana),
            (look, bo),
            (read, ana),
            (read, bo),
        ]
        threads = [threading.Thread(target=guarded, args=one, daemon=True) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert faults == []
        ana.refresh()
        bo.refresh()
        wanted = {"one": {"ana": 39, "bo": 39}, "two": {"ana": 39}}
        for project in (ana, bo):
            assert project.num_decisions == 240
            assert {
                name: {q: dict(by) for q, by in project.state(name).answers.items()} for name in names
            } == dict.fromkeys(names, wanted)
            assert project.conflicts() == []
        for _ in range(80):
            assert ana.undo().unchanged == []
        assert ana.undo() is None
        assert dict(ana.state("a").answers) == {"one": {"bo": 39}}


def test_what_is_decided_while_everything_is_read_again_counts(root, monkeypatch):
    from curate.project import catalog as catalog_module

    found = catalog_module.open_catalog
    with opened(root) as project, opened(root, "bo") as bo:

        def slow(*args, **kwargs):
            catalog = found(*args, **kwargs)
            project.apply([drop("a")])
            bo.apply([drop("b")])
            return catalog

        monkeypatch.setattr(catalog_module, "open_catalog", slow)
        project.reload()
        assert (project.state("a").dropped, project.state("b").dropped) == ("x", "x")
        assert [event.id for act in project.standing() for event in act] == ["a"]


def test_rows_are_exchanged_in_the_thread_that_shows_them(root):
    with opened(root) as project:
        asked, heard = [], []
        project.subscribe(lambda ids: heard.append((ids, project.catalog is catalog)))
        write(root, LINES[1:])
        catalog = project.catalog

        def within(exchange):
            plant(root, forged("b"))
            newer(plant(root, name="eve/newer.log"))
            assert project.catalog is catalog
            asked.append(exchange())
            assert project.catalog is not catalog
            return asked[0]

        assert project.reload(within=within) == {"b"}
        assert (asked, heard) == ([{"b"}], [({"b"}, False)])
        assert code_of(project.refresh) == "E913 unknown-event"
        assert project.refresh() == set()


@pytest.mark.ci
def test_what_was_found_in_old_lines_is_not_told_of_new_ones(root):
    from curate.sessions.problems import problems_of

    with opened(root) as project:
        book = problems_of(project)
        write(root, [LINES[0] | {"output": ""}, *LINES[1:]])
        project.reload()
        assert book.search().statuses()
        write(root, LINES)
        project.reload()
        assert book.problems is None
        book.search()
        assert book.problems is not None
        project.apply([edit("a", output="five")])
        assert book.problems is not None


def test_the_nearest_records_are_those_that_are_there_now(tmp_path):
    from curate.sessions.nearest import Nearest

    lines = [{"id": f"r{n}", "instruction": f"Say the number {n} aloud.", "output": f"Number {n}."} for n in range(50)]
    root = made(tmp_path / "ws", lines)
    with opened(root) as project:
        nearest = Nearest(project)
        assert nearest.find(lines[49], 1)[0].id == "r49"
        project.apply([edit("r3", output="Three.")])
        write(root, lines[45:])
        project.reload()
        found = nearest.find(lines[49], 5)
        assert found[0].id == "r49"
        assert {one.id for one in found} <= {line["id"] for line in lines[45:]}


def test_no_decision_falls_between_two_looks_of_the_nearest(root, monkeypatch):
    from curate.project.project import Project
    from curate.sessions.nearest import Nearest

    found = Project.num_decisions
    with opened(root) as project, opened(root, "bo") as bo:
        nearest = Nearest(project)
        nearest.prepare()
        text = "Purple elephants walk slowly over the green hill at noon and sleep by the river at night."
        project.apply([edit("a", output=text)])
        bo.apply([drop("b")])

        def late(self):
            number = found.fget(self)
            self.refresh()
            return number

        monkeypatch.setattr(Project, "num_decisions", property(late))
        line = {"instruction": "Tell me of animals.", "output": text}
        assert [one.id for one in nearest.find(line, 1)] == ["a"]


def test_who_has_no_name_is_told_how_to_give_one(root, monkeypatch):
    monkeypatch.delenv("CURATE_ANNOTATOR", raising=False)

    def nobody():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert code_of(open_project, root, "") == "E902 bad-settings"
    # Who only reads needs none.
    with open_project(root) as project:
        assert len(list(project.records())) > 0
        assert code_of(project.apply, [drop("a")]) == "E902 bad-settings"
    with open_project(root, "ana") as project:
        assert project.by == "ana"


# The same annotator twice.


def test_two_sittings_of_one_annotator_share_their_acts(root):
    with opened(root) as one, opened(root) as two:
        one.apply([drop("a")])
        assert two.undo() is None
        two.refresh()
        assert two.undo().unchanged == []
        one.refresh()
        assert one.state("a").dropped is None
        assert one.undo() is None
        assert one.redo().unchanged == []
        two.refresh()
        assert (two.state("a").dropped, two.redo()) == ("x", None)


@pytest.mark.ci
def test_an_act_taken_back_twice_at_once_is_done_again_once(root):
    for _ in range(8):
        # Which of the two has an effect is decided by their numbers, which are random.
        with opened(root) as one, opened(root) as two:
            one.apply([drop("a"), drop("b")])
            two.refresh()
            one.undo()
            two.undo()
            one.refresh()
            two.refresh()
            assert one.state("a").dropped is None
            assert (two.redo().unchanged, two.redo()) == ([], None)
            one.refresh()
            assert one.redo() is None
            assert {found.state(name).dropped for found in (one, two) for name in "ab"} == {"x"}
            assert one.undo().unchanged == []
            assert one.undo() is None
        assert (fresh(root)["a"][1], fresh(root)["b"][1]) == (None, None)


def test_an_act_that_is_seen_in_two_looks_is_one_act(root):
    numbers = [uuid.uuid4().hex for _ in range(4)]
    session, act = uuid.uuid4().hex, uuid.uuid4().hex
    events = [
        changed(forged("ab"[n % 2], session=session, seq=n + 1, by="ana", event=number), act=act)
        for n, number in enumerate(numbers)
    ]
    with opened(root) as project:
        plant(root, *events[:3])
        project.refresh()
        plant(root, *events[3:])
        project.refresh()
        assert [len(one) for one in project.standing()] == [4]
        project.undo()
        assert (project.state("a").dropped, project.state("b").dropped, project.undo()) == (None, None, None)
