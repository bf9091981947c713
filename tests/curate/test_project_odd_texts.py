"""An open project and what it is given: odd texts, journals that cannot be read, disks that take no more."""

import errno
import os
import shutil

import pytest

from curate.base.events import Resolve
from curate.project.data import load_data
from curate.project.journal import frame
from curate.project.project import open_project
from tests.curate.attacking import (
    LINES,
    add,
    code_of,
    drop,
    edit,
    events_of,
    facts,
    forged,
    fresh,
    label,
    made,
    newer,
    opened,
    plant,
)


@pytest.fixture
def root(tmp_path):
    return made(tmp_path / "ws")


# What people type.


@pytest.mark.parametrize(
    "value",
    [
        0,
        1,
        1.0,
        1.5,
        True,
        False,
        "",
        "two words",
        [],
        {},
        [1, "b", None],
        {"a": {"b": [None]}},
        2**63 - 1,
        "é\u202e\x1b",
    ],
)
def test_an_answer_may_be_any_json(root, value):
    with opened(root) as project:
        project.apply([label("a", value)])
        project.apply([Resolve("b", "q", value)])
        found = project.state("a").answers["q"]["ana"]
        assert (found, type(found)) == (value, type(value))
        assert project.state("b").resolved["q"] == value
        shown = project.catalog.row(project.catalog.find("a")).labels
        assert ("ana", "q") in {one[:2] for one in shown} or value == []
        state = project.state("a")
    with opened(root, "bo") as other:
        assert other.state("a") == state
    assert fresh(root)["a"] == facts(state)


def test_an_answer_of_null_is_none(root):
    with opened(root) as project:
        project.apply([label("a", "x")])
        project.apply([label("a", None)])
        assert project.state("a").answers == {}
        project.undo()
        assert project.state("a").answers == {"q": {"ana": "x"}}


NESTED = []
for _ in range(100):
    NESTED = [NESTED]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\ud800": 1}, 2**64, NESTED], ids=str)
def test_what_is_no_json_is_refused_and_not_saved(root, value):
    with opened(root) as project:
        for decision in (label("a", value), edit("a", meta={"x": value}), add("new", meta={"x": value})):
            assert code_of(project.apply, [drop("b"), decision]) == "E972 unfit-line"
        assert code_of(project.apply, [label("a", "x", question="\ud800")]) == "E972 unfit-line"
        assert code_of(project.apply, [drop("a", "\ud800")]) == "E972 unfit-line"
        assert project.num_decisions == 0
        project.apply([drop("b")])
    assert fresh(root)["b"][1] == "x"


ODD = [
    "a b",
    "../up",
    "/abs",
    "-2",
    "a\nb",
    "\x1b[31m",
    "é",
    "e\u0301",
    "\u202egnp",
    "x" * 300,
    "日本",
    ".",
    "a-2",
    "null",
    "/",
]


@pytest.mark.parametrize("name", ODD)
def test_ids_with_odd_characters(tmp_path, name):
    root = made(tmp_path / "ws", [{"id": name, "instruction": "Say hi.", "output": "Hi."}, LINES[0]])
    with opened(root) as project:
        project.apply([edit(name, output="Hello."), label(name, "x")])
        project.apply([add(f"{name}+")])
        assert (project.state(name).record.completion, project.state(f"{name}+").record.id) == ("Hello.", f"{name}+")
        seen = {one: facts(project.state(one)) for one in (name, f"{name}+", "a")}
    assert fresh(root) == seen


@pytest.mark.parametrize("by", [*ODD, "Ana", "ANA", "ana.log", " ", "con"])
def test_annotators_with_odd_names(root, by):
    with opened(root, by) as project, opened(root) as ana:
        project.apply([label("a", "x")])
        ana.apply([label("a", "y")])
        project.refresh()
        assert project.state("a").answers == {"q": {by: "x", "ana": "y"}}
        assert all(path.is_relative_to(root / "journal") for path in root.rglob("*.log"))


def test_an_annotator_whose_name_is_no_text_is_refused(root):
    assert code_of(open_project, root, "\udcff") == "E902 bad-settings"


def test_records_without_an_id_and_repeated_ones(tmp_path):
    lines = [
        {"instruction": "Say hi.", "output": "Hi."},
        *[{"id": "r", "instruction": str(n), "output": "x"} for n in range(3)],
    ]
    root = made(tmp_path / "ws", lines)
    own = load_data(root).states()[0].record.id
    with opened(root) as project:
        project.apply([edit(own, output="Hello."), drop("r"), label("r-3", "x")])
        assert code_of(project.apply, [add("r-2")]) == "E916 unknown-record"
        assert project.state(own).record.id == own
        seen = {name: facts(project.state(name)) for name in (own, "r", "r-2", "r-3")}
        project.reload()
        assert {name: facts(project.state(name)) for name in seen} == seen
    assert fresh(root) == seen


# A journal that cannot be read, or not all of it.


def test_a_newer_event_hides_nothing_else_and_is_told_once(root):
    with opened(root) as project, opened(root, "bo") as bo, opened(root, "zoe") as zoe:
        heard = []
        project.subscribe(lambda ids: heard.append(ids))
        path = plant(root, forged("a"))
        newer(path)
        bo.apply([label("b", 1)])
        zoe.apply([label("b", 2)])
        assert code_of(project.refresh) == "E913 unknown-event"
        assert heard == [{"b"}]
        assert project.state("b").answers == {"q": {"bo": 1, "zoe": 2}}
        assert project.refresh() == set()
        (remark,) = project.remarks()
        assert "forged.log" in remark
        zoe.apply([label("b", 3)])
        assert project.refresh() == {"b"}
        assert code_of(project.apply, [drop("b")]) == "E913 unknown-event"
        assert code_of(project.reload) == "E913 unknown-event"


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_segment_is_told_and_waits_for_nobody(root, kind):
    with opened(root) as project, opened(root, "bo") as bo:
        bo.apply([drop("a")])
        path = root / "journal/bo/0.log"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(plant(root, forged("b"), name="../outside.txt"))
        else:
            path.mkdir()
        assert code_of(project.refresh) == "E980 bad-segment"
        assert (project.state("a").dropped, project.state("b").dropped) == ("x", None)
        assert project.refresh() == set()
        assert code_of(open_project(root, "cem").load) == "E980 bad-segment"


def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(root, monkeypatch):
    plant(root, forged("a"))

    def refuse(found):
        def looked(path):
            if str(path).endswith("journal/eve"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return found(path)

        return looked

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refuse(getattr(os, name)))
    assert code_of(open_project(root, "ana").load) == "E980 bad-segment"
    assert code_of(load_data(root).remarks) == "E980 bad-segment"


def test_a_line_that_is_being_written_waits_and_a_torn_one_is_told(root):
    line = frame(forged("a"))
    path = plant(root, forged("b"))
    with opened(root) as project:
        with path.open("ab") as file:
            file.write(line[:30])
        assert project.refresh() == set()
        (remark,) = project.remarks()
        assert "torn end" in remark
        with path.open("ab") as file:
            file.write(line[30:])
        assert project.refresh() == {"a"}
        assert project.remarks() == []


def test_damage_that_comes_later_is_told_with_its_place(root):
    path = plant(root, forged("a"), forged("b"))
    size = path.stat().st_size
    with opened(root) as project:
        with path.open("ab") as file:
            file.write(b"rot\n" + frame(forged("a", op="restore")))
        assert project.refresh() == {"a"}
        assert project.remarks() == load_data(root).remarks()
        (remark,) = project.remarks()
        assert f"forged.log:3: a damaged line in a journal segment (3 bytes at {size})" in remark


def test_an_emptied_journal_folder_is_noticed(root):
    with opened(root) as project:
        project.apply([drop("a")])
        project.refresh()
        shutil.rmtree(root / "journal")
        assert project.refresh() == set()
        assert not project.is_current()
        assert code_of(project.undo) == "E974 files-changed"
        project.apply([drop("b")])
        assert (project.state("a").dropped, project.state("b").dropped) == ("x", "x")
        assert project.reload() == {"a"}
        assert (project.state("a").dropped, project.state("b").dropped) == (None, "x")
        assert fresh(root)["b"][1] == "x"


def test_the_caches_may_be_deleted_at_any_time(root, monkeypatch):
    monkeypatch.setattr("curate.project.data.BLOCKS_FROM", 0)
    monkeypatch.setattr("curate.checks.runner.column_cache.SETTLED", 0)
    with opened(root) as project:
        assert list((root / ".curate/cache").glob("*.parquet"))
        shutil.rmtree(root / ".curate")
        project.apply([drop("a"), edit("b", output="Red.")])
        project.undo()
        project.redo()
        assert len(project.catalog.frame(["status", "completion"])) == 4
        shutil.rmtree(root / ".curate", ignore_errors=True)
        project.reload()
        assert project.is_current()
        assert project.state("b").record.completion == "Red."


def test_a_journal_that_leads_elsewhere_is_written_to_by_nobody(root, tmp_path):
    with opened(root) as project:
        project.apply([drop("a")])
        (root / "journal").rename(tmp_path / "elsewhere")
        (root / "journal").symlink_to(tmp_path / "elsewhere")
        for call in (project.undo, lambda: project.apply([drop("b")])):
            assert code_of(call) == "E914 outside-workspace"
        assert len(events_of(root)) == 1


# A disk that takes no more.


@pytest.mark.parametrize("name", ["write", "fsync"])
def test_what_was_not_saved_did_not_happen(root, monkeypatch, name):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(root) as project:
        heard = []
        project.subscribe(lambda ids: heard.append(ids))
        project.apply([drop("a")])
        project.apply([drop("b")])
        project.undo()
        seen = {one: project.state(one) for one in ("a", "b")}
        counts = project.num_decisions, len(events_of(root)), len(heard)
        acts = [call() for call in (project.standing, lambda: project.standing(is_redo=True))]
        monkeypatch.setattr(os, name, full)
        for call in (
            lambda: project.apply([drop("b")]),
            lambda: project.apply([add("new")]),
            project.undo,
            project.redo,
        ):
            assert code_of(call) == "E906 write-failed"
        monkeypatch.undo()
        assert {one: project.state(one) for one in seen} == seen
        assert code_of(project.state, "new") == "E916 unknown-record"
        assert (project.num_decisions, len(events_of(root)), len(heard)) == counts
        assert [call() for call in (project.standing, lambda: project.standing(is_redo=True))] == acts
        project.redo()
        project.apply([add("new")])
        project.undo()
        project.undo()
        assert (project.state("a").dropped, project.state("b").dropped) == ("x", None)
        seen = {one: facts(project.state(one)) for one in ("a", "b")}
    assert {one: fresh(root)[one] for one in seen} == seen
