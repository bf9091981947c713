"""A workspace held open: decide, take back, reopen, and see what another process decides meanwhile."""

import json
import subprocess
import sys
import threading
import time

import pytest

from curate.base.events import Add, Assign, Drop, Edit, Label, Restore
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.project.project import open_project
from curate.project.validation import validate_data

LINES = [
    {"id": "a", "instruction": "Add 2 and 3.", "output": "5", "category": "sum"},
    {"id": "b", "instruction": "Name a colour.", "output": "Blue.", "category": "name"},
    {"instruction": "Say hello.", "output": "Hello."},
    {"instruction": "Say hello.", "output": "Hello."},
]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    (tmp_path / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
    return tmp_path


def opened(root, by="ana"):
    project = open_project(root, by)
    project.load()
    return project


def facts(root):
    """What a fresh look at the folder says of each record."""
    workspace = load_data(root)
    return {state.record.id: (dict(state.record.data), state.dropped, state.record.split, dict(state.record.labels))
            for state in workspace.states()}  # fmt: skip


def test_what_is_decided_is_there_for_whoever_opens_the_folder(root):
    with opened(root) as project:
        third = [state.record.id for state in load_data(root).states()][2]
        project.apply([Drop("a", reason="wrong"), Assign("b", "test")])
        project.apply([Edit(third, {"output": "Hi."})])
        project.apply([Add("new", {"instruction": "Say bye.", "output": "Bye."})])
        assert project.state("a").dropped == "wrong"
        assert project.state("new").record.completion == "Bye."
        assert [event.op for event in project.recent(2)] == ["add", "edit"]
        assert project.num_decisions == 4
        seen = {name: project.state(name) for name in ("a", "b", third, "new")}
    again = {state.record.id: state for state in load_data(root).states()}
    assert {name: again[name] for name in seen} == seen


def test_undo_and_redo_across_sittings(root):
    before = facts(root)
    with opened(root) as project:
        project.apply([Drop(name, reason="x") for name in ("a", "b")])
        project.apply([Edit("a", {"output": "five", "category": None})])
    after = facts(root)
    with opened(root) as project:
        undone = project.undo()
        assert [(event.op, event.id) for event in undone.events] == [("edit", "a")]
        undone = project.undo()
        assert ([(event.op, event.id) for event in undone.events], undone.unchanged) == (
            [("drop", "a"), ("drop", "b")],
            [],
        )
        assert project.undo() is None
    assert facts(root) == before
    with opened(root) as project:
        assert project.redo() is not None
        assert [event.op for event in project.redo().events] == ["edit"]
        assert project.redo() is None
    assert facts(root) == after
    with opened(root, "bo") as project:
        assert project.undo() is None, "what ana did is ana's to take back"


def test_an_added_record_can_be_taken_back_and_added_again(root):
    with opened(root) as project:
        project.apply([Add("new", {"instruction": "Say bye.", "output": "Bye."})])
        project.undo()
        with pytest.raises(CurateError, match="no record 'new'"):
            project.state("new")
        project.redo()
        assert project.state("new").record.completion == "Bye."
        with pytest.raises(CurateError, match="already"):
            project.apply([Add("new", {"instruction": "x", "output": "y"})])


def test_what_the_schema_refuses_is_not_saved(root):
    with opened(root) as project:
        with pytest.raises(CurateError) as caught:
            project.apply([
                Drop("b", reason="x"), Edit("a", {"output": 5})
            ])  # fmt: skip
        assert caught.value.code == "E972 unfit-line"
        with pytest.raises(CurateError) as caught:
            project.apply([Drop("nobody", reason="x")])
        assert caught.value.code == "E916 unknown-record"
        assert project.num_decisions == 0
    assert not (root / "journal").exists()


def test_listeners_hear_of_every_change_but_their_own(root):
    heard, heard_by_another = [], []
    with opened(root) as project, opened(root, "bo") as other:
        end = project.subscribe(heard.append)
        project.subscribe(heard_by_another.append)
        project.apply([Restore("a")])
        project.undo()
        assert heard == heard_by_another == [{"a"}, {"a"}]
        heard.clear()
        heard_by_another.clear()
        assert project.apply([Restore("a")], heard.append).ids == ["a"]
        assert project.undo(heard.append).ids == ["a"]
        assert project.redo(heard.append).ids == ["a"]
        assert (heard, heard_by_another) == ([], [{"a"}] * 3)
        assert project.refresh() == set()
        other.apply([Drop("b", reason="x")])
        assert project.refresh() == {"b"}
        assert project.state("b").dropped == "x"
        end()
        project.undo()
    assert heard == [{"b"}]


def test_what_the_same_person_decides_elsewhere_is_not_ones_own(root):
    with opened(root) as project, opened(root) as elsewhere, opened(root, "bo") as bo:
        project.apply([Drop("a", reason="x")])
        elsewhere.apply([Drop("b", reason="y")])
        bo.apply([Restore("b")])
        heard = []
        project.subscribe(heard.append)
        project.refresh()
        assert heard == [{"b"}]
        assert [(event.by, event.session in project.writer.sessions) for event in project.since(0)] == [
            ("ana", True), ("ana", False), ("bo", False)
        ]  # fmt: skip


def test_a_failed_save_is_known_until_the_next_one_here_succeeds(root):
    with opened(root) as project, opened(root) as elsewhere:
        blocked = root / "journal/ana"
        blocked.parent.mkdir()
        blocked.write_text("in the way")
        with pytest.raises(CurateError) as caught:
            project.apply([Drop("a", reason="x")])
        assert caught.value.number == "E906"
        assert project.writer.is_unsaved
        blocked.unlink()
        elsewhere.apply([Drop("a", reason="x")])
        project.refresh()
        project.apply([])
        assert project.writer.is_unsaved
        own = project.apply([Drop("b", reason="x")])
        assert not project.writer.is_unsaved
        assert {event.session for event in own} <= project.writer.sessions, "a failure begins another session"


def test_a_first_record_that_no_file_takes_is_known_as_not_saved(tmp_path):
    (tmp_path / "curate.toml").write_text('schema = "instruction"\n[split]\nseed = 1\n', encoding="utf-8")
    (tmp_path / "data").write_text("in the way", encoding="utf-8")
    with open_project(tmp_path, "ana") as project:
        project.load()
        with pytest.raises(CurateError) as caught:
            project.apply([Add("n", {"instruction": "Name a bird.", "output": "Wren."})])
        assert caught.value.number == "E906"
        assert project.writer.is_unsaved


def test_listeners_hear_of_a_change_in_whatever_thread(root):
    heard = []
    with opened(root) as project, opened(root, "bo") as other:
        project.subscribe(heard.append)
        other.apply([Drop("b", reason="x")])
        calls = [
            lambda: project.apply([Drop("a", reason="x")]),
            project.undo,
            project.refresh,
            project.redo,
        ]
        for call in calls:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
    assert heard == [{"a"}, {"a"}, {"b"}, {"a"}]


def test_two_people_on_one_field_get_a_conflict_and_either_settles_it(root):
    with opened(root) as ana, opened(root, "bo") as bo:
        ana.apply([Edit("a", {"output": "five"})])
        bo.apply([Edit("a", {"output": "V"})])
        ana.apply([Edit("b", {"output": "Red."})])
        bo.apply([Edit("b", {"category": "colour"})])
        ana.refresh()
        bo.refresh()
        for one in (ana, bo):
            (conflict,) = one.conflicts()
            assert {value for _, value in conflict.sides} == {"five", "V"}
            assert [finding.code for finding in one.findings()] == ["L403"]
            assert one.state("b").record.data["output"] == "Red."
            assert one.state("b").record.category == "colour"
        assert validate_data(load_data(root)).counts["L403"] == 1
        bo.apply([Edit("a", {"output": "five"})])
        ana.refresh()
        assert (ana.conflicts(), ana.state("a").record.completion) == ([], "five")
        assert ana.state("a") == bo.state("a")


def test_undo_of_what_another_has_changed_since_says_so(root):
    with opened(root) as ana, opened(root, "bo") as bo:
        ana.apply([Edit("a", {"output": "five"})])
        bo.refresh()
        bo.apply([Edit("a", {"output": "V"})])
        ana.refresh()
        assert ana.undo().unchanged == ["a"]
        assert ana.state("a").record.completion == "V"


_OTHER = """
import sys, time
from pathlib import Path
from curate.base.events import Label
from curate.project.project import open_project
with open_project(Path(sys.argv[1]), "bo") as project:
    project.load()
    for number in range(20):
        project.apply([Label("b", "q", number)])
        time.sleep(0.05)
"""


@pytest.mark.ci
def test_two_processes_see_one_another_and_lose_nothing(root):
    with opened(root) as ana:
        other = subprocess.Popen([sys.executable, "-c", _OTHER, str(root)])
        number = 0
        while other.poll() is None:
            ana.apply([Label("a", "q", number)])
            ana.refresh()
            number += 1
            time.sleep(0.05)
        assert other.returncode == 0
        ana.refresh()
        assert ana.state("b").answers == {"q": {"bo": 19}}
        assert ana.state("a").answers == {"q": {"ana": number - 1}}
        assert ana.num_decisions == 20 + number
    assert len(load_data(root).states()) == 4
    assert {state.record.id: dict(state.answers) for state in load_data(root).states() if state.answers} == {
        "a": {"q": {"ana": number - 1}}, "b": {"q": {"bo": 19}},
    }  # fmt: skip


def test_an_export_takes_lines_as_they_are_not_as_they_were_read(root):
    with open_project(root, "ana") as project:
        project.apply([Drop("a", "r")])
        path = root / "data/a.jsonl"
        path.write_bytes(path.read_bytes().replace(b"Blue.", b"Green."))
        rows = [row for split in project.export().rows.values() for row in split]
    assert any("Green." in json.dumps(row) for row in rows)
    assert not any("Blue." in json.dumps(row) or row["id"] == "a" for row in rows)


def test_the_line_of_a_decided_record_is_there_before_anything_else_was_asked(root):
    with open_project(root, "ana") as project:
        project.apply([Edit("b", {"output": "Red."})])
    data = load_data(root)
    assert data.line("b").completion == "Blue."
    assert data.state("b").record.completion == "Red."
