"""The workshop under attack: files that change under it, disks that fill, two at the same keys, forged journals."""

import contextlib
import errno
import getpass
import json
import os
import random
import shutil
import threading
import time
import tracemalloc
import uuid
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.journal import EVENTS, Decision, frame
from curate.record import CurateError, Source
from curate.shape import load_shape
from curate.workshop import open_workshop
from curate.workspace import open_workspace
from curate.workspace.compact import fold_journal
from curate.workspace.fold import fold

LINES = [
    {"id": "a", "instruction": "Add 2 and 3.", "output": "5", "category": "sum"},
    {"id": "b", "instruction": "Name a colour.", "output": "Blue.", "category": "name"},
    {"instruction": "Say hello.", "output": "Hello."},
    {"instruction": "Say hello.", "output": "Hello."},
]


def made(root, lines=LINES):
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    write(root, lines)
    return root


def write(root, lines, name="a"):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / f"data/{name}.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path):
    return made(tmp_path / "ws")


def opened(root, by="ana"):
    workshop = open_workshop(root, by)
    workshop.load()
    return workshop


def edit(name, **changes):
    return Decision("edit", name, fields={"changes": changes})


def drop(name, reason="x"):
    return Decision("drop", name, fields={"reason": reason})


def label(name, value, question="q"):
    return Decision("label", name, fields={"question": question, "value": value})


def add(name, **line):
    return Decision("add", name, fields={"record": {"instruction": "Say bye.", "output": "Bye."} | line})


def code_of(call, *args):
    with pytest.raises(CurateError) as caught:
        call(*args)
    return caught.value.code


def done(call, *args, but=()):
    """Whether it worked; it may also fail with one of the codes in ``but``."""
    try:
        call(*args)
    except CurateError as error:
        if error.code not in but:
            raise
        return False
    return True


def fresh(root):
    """What whoever opens the folder now sees of each record."""
    return {state.record.id: facts(state) for state in open_workspace(root).states()}


def facts(state):
    return dict(state.record.data), state.dropped, state.record.split, dict(state.record.labels), state.record.category


def events_of(root):
    return [line for path in sorted(root.glob("journal/*/*.log")) for line in path.read_bytes().splitlines()]


def forged(name, parents=(), *, session=None, seq=1, by="eve", event=None, op="drop", **fields):
    number = event or uuid.uuid4().hex
    return EVENTS.validate_python(
        {"v": 1, "event": number, "act": number, "at": "2026-01-01T00:00:00Z", "by": by, "seq": seq, "op": op,
         "session": session or uuid.uuid4().hex, "id": name, "parents": list(parents),
         **(fields or ({"reason": "forged"} if op == "drop" else {}))}
    )  # fmt: skip


def plant(root, *events, name="eve/forged.log"):
    path = root / "journal" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(frame(event) for event in events))
    return path


# A file that changes under an open workshop.


def test_a_decision_is_saved_or_refused_when_its_line_has_changed(root):
    with opened(root) as workshop:
        workshop.apply([label("a", 1)])
        write(root, [LINES[0] | {"output": "five"}, *LINES[1:]])
        before = workshop.num_decisions, len(events_of(root))
        for decision in (drop("b"), label("a", 2), edit("a", category="maths")):
            if not done(workshop.apply, [decision], but="E974 files-changed"):
                assert (workshop.num_decisions, len(events_of(root))) == before, "refused, and saved all the same"
            else:
                before = before[0] + 1, before[1] + 1
                assert (workshop.num_decisions, len(events_of(root))) == before
                assert workshop.state(decision.id).heads == (workshop.recent(1)[0].event,)


def test_what_others_decide_is_not_lost_when_files_change(root):
    with opened(root) as ana, opened(root, "bo") as bo:
        bo.apply([drop("a"), drop("b")])
        write(root, [*LINES, {"id": "c", "instruction": "Say no.", "output": "No."}])
        with contextlib.suppress(CurateError):
            ana.refresh()
        write(root, LINES)
        ana.reload()
        assert (ana.state("a").dropped, ana.state("b").dropped) == ("x", "x")


def test_one_is_told_and_reads_again(root):
    with opened(root) as workshop:
        heard = []
        workshop.subscribe(lambda ids, _: heard.append(ids))
        workshop.apply([edit("a", output="five")])
        assert workshop.is_current()
        write(root, [LINES[0] | {"category": "maths"}, LINES[1] | {"output": "Red."}, *LINES[2:]])
        assert not workshop.is_current()
        assert code_of(workshop.state, "b") == "E974 files-changed"
        catalog = workshop.catalog
        assert workshop.reload() == {"a"}
        assert heard[-1] == {"a"}
        assert workshop.is_current()
        assert workshop.catalog is not catalog
        assert workshop.state("b").record.completion == "Red."
        assert (workshop.state("a").record.completion, workshop.state("a").record.category) == ("five", "maths")
        assert workshop.undo().kept == []
        assert workshop.state("a").record.completion == "5"
        assert fresh(root)["a"] == facts(workshop.state("a"))


def test_reading_again_reads_settings_too(root):
    with opened(root) as workshop:
        (root / "curate.toml").write_text("[split]\nseed = 2\n", encoding="utf-8")
        workshop.reload()
        assert workshop.workspace.settings.split.seed == 2


def test_a_reading_that_fails_leaves_everything_as_it_was(root):
    with opened(root) as workshop:
        workshop.apply([drop("a")])
        (root / "data/a.jsonl").unlink()
        assert not workshop.is_current()
        assert code_of(workshop.reload) == "E904 no-such-file"
        assert workshop.state("a").dropped == "x"
        assert workshop.refresh() == set()
        write(root, LINES)
        workshop.reload()
        assert workshop.is_current()
        workshop.undo()
    assert fresh(root)["a"][1] is None


def test_a_first_reading_that_fails_is_none(root):
    path = root / "journal/eve/newer.log"
    path.parent.mkdir(parents=True)
    payload = b'{"v":99}'
    path.write_bytes(b"%08x %b\n" % (zlib.crc32(payload), payload))
    with open_workshop(root, "ana") as workshop:
        assert code_of(workshop.load) == "E913 unknown-event"
        assert not workshop.is_loaded
        assert code_of(workshop.undo) == "E916 unknown-record"
        assert code_of(workshop.refresh) == "E916 unknown-record"
        path.unlink()
        workshop.load()
        assert workshop.is_loaded


def test_records_that_are_gone_keep_their_decisions(root):
    with opened(root) as workshop:
        workshop.apply([drop("a"), drop("b")])
        write(root, LINES[1:])
        workshop.reload()
        assert code_of(workshop.state, "a") == "E916 unknown-record"
        assert workshop.state("b").dropped == "x"
        assert any("no longer in the data" in remark for remark in workshop.remarks())
        undone = workshop.undo()
        assert (sorted(event.id for event in undone.events), undone.kept) == (["a", "b"], ["a"])
        workshop.redo()
        write(root, LINES)
        workshop.reload()
        assert (workshop.state("a").dropped, workshop.remarks()) == ("x", [])


# Another process folds the journal.


def test_a_fold_by_another_process_loses_nothing(root):
    with opened(root) as earlier:
        earlier.apply([edit("a", output="five")])
        earlier.apply([drop("b")])
    with opened(root) as workshop, opened(root, "bo") as other:
        workshop.apply([label("a", 1)])
        fold_journal(open_workspace(root))
        assert not list(root.glob("journal/ana/*.log"))[1:], "only the segment that is open stays"
        for one in (workshop, other):
            one.refresh()
            assert not one.is_current()
            assert one.state("a").record.completion == "five"
        done(other.apply, [label("b", 2)], but="E974 files-changed")
        workshop.apply([label("a", 3)])
        for one in (workshop, other):
            one.reload()
            assert one.is_current()
            assert one.state("a").record.completion == "five"
            assert one.state("a").answers == {"q": {"ana": 3}}
            assert one.state("b").dropped == "x"
            assert one.conflicts() == []
        assert workshop.state("a") == other.state("a")


def test_what_was_folded_meanwhile_is_not_taken_back_unseen(root):
    with opened(root) as earlier:
        earlier.apply([edit("a", output="five")])
    with opened(root) as workshop:
        fold_journal(open_workspace(root))
        assert code_of(workshop.undo) == "E974 files-changed"
        workshop.reload()
        assert workshop.undo() is None
    assert fresh(root)["a"][0]["output"] == "five"
    assert open_workspace(root).verdict().counts.get("L403", 0) == 0


def test_what_is_decided_and_folded_between_two_looks_is_noticed(root):
    with opened(root) as workshop:
        with opened(root, "bo") as bo:
            bo.apply([drop("a")])
        fold_journal(open_workspace(root))
        assert workshop.refresh() == set()
        assert not workshop.is_current()
        assert workshop.reload() == {"a"}
        assert workshop.state("a").dropped == "x"


def test_a_segment_that_vanishes_between_two_looks_is_no_crash(root, monkeypatch):
    with opened(root) as ana, opened(root, "bo") as bo:
        bo.apply([drop("a")])
        (path,) = root.glob("journal/*/*.log")
        found = Path.stat

        def stat(self, **more):
            if self == path:
                raise FileNotFoundError(errno.ENOENT, "gone", str(self))
            return found(self, **more)

        monkeypatch.setattr(Path, "stat", stat)
        assert ana.refresh() == set()
        monkeypatch.undo()
        assert ana.refresh() == {"a"}


def test_a_segment_that_git_has_exchanged_is_read_anew(root):
    path = plant(root, forged("a"), forged("b"))
    with opened(root) as workshop:
        path.unlink()
        path.write_bytes(frame(forged("a", op="restore")))
        workshop.refresh()
        assert workshop.num_decisions == 3


# What is saved together.


def test_decisions_of_one_act_are_checked_one_after_the_other(root):
    with opened(root) as workshop:
        workshop.apply([edit("a", system="s"), edit("a", category=None)])
        assert {"system", "category"} & set(workshop.state("a").record.data) == {"system"}
        workshop.apply([add("new"), edit("new", output="Ciao."), drop("new", "late")])
        assert (workshop.state("new").record.completion, workshop.state("new").dropped) == ("Ciao.", "late")
        assert code_of(workshop.apply, [add("twice"), add("twice", output="Else.")]) == "E916 unknown-record"
        assert code_of(workshop.apply, [edit("later", output="x"), add("later")]) == "E916 unknown-record"
        assert workshop.findings() == []
        workshop.undo()
        assert code_of(workshop.state, "new") == "E916 unknown-record"
        workshop.redo()
        seen = {name: facts(workshop.state(name)) for name in ("a", "b", "new")}
    assert {name: fresh(root)[name] for name in seen} == seen


def test_two_edits_that_only_together_are_unfit_are_refused(tmp_path):
    root = made(tmp_path / "ws", [LINES[0]])
    schema = json.loads((Path(__file__).parents[2] / "schemas/instruction.schema.json").read_text(encoding="utf-8"))
    schema["not"] = {"required": ["system", "input"]}
    (root / "own.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    (root / "curate.toml").write_text('schema = "own.schema.json"\n[split]\nseed = 1\n', encoding="utf-8")
    with opened(root) as workshop:
        assert code_of(workshop.apply, [edit("a", system="x"), edit("a", input="y")]) == "E972 unfit-line"
        workshop.apply([edit("a", system="x"), edit("a", system=None, input="y")])
        assert workshop.findings() == []


def test_an_id_is_free_again_once_its_record_was_taken_back(root):
    with opened(root) as workshop, opened(root, "bo") as other:
        workshop.apply([add("new")])
        workshop.undo()
        workshop.apply([add("new", output="Ciao.")])
        assert (workshop.state("new").record.completion, workshop.conflicts()) == ("Ciao.", [])
        other.refresh()
        assert other.state("new") == workshop.state("new")
        workshop.undo()
        assert code_of(workshop.state, "new") == "E916 unknown-record"
    assert "new" not in fresh(root)


def test_an_id_that_only_strays_decisions_name_is_free(root):
    plant(root, forged("new"), forged("new", op="restore"))
    with opened(root) as workshop:
        workshop.apply([add("new")])
        assert (workshop.state("new").dropped, workshop.state("new").record.completion) == (None, "Bye.")
        assert fresh(root)["new"] == facts(workshop.state("new"))


def test_an_id_names_its_record_for_good(root):
    with opened(root) as workshop:
        for decision in (edit("a", id="b"), edit("a", id=None), add("new", id="other"), add("new", id="a")):
            assert code_of(workshop.apply, [decision]) == "E972 unfit-line"
        workshop.apply([edit("a", id="a", output="five"), add("new", id="new")])
    assert fresh(root)["a"][0]["output"] == "five"


def test_two_people_add_a_record_with_the_same_id(root):
    with opened(root) as ana, opened(root, "bo") as bo:
        ana.apply([add("new", output="Ciao.")])
        bo.apply([add("new", output="Tschau.")])
        for one in (ana, bo):
            one.refresh()
            (conflict,) = one.conflicts()
            assert {value["output"] for _, value in conflict.sides} == {"Ciao.", "Tschau."}
        assert ana.state("new") == bo.state("new")
        assert fresh(root)["new"] == facts(ana.state("new"))
        bo.undo()
        ana.refresh()
        assert (ana.conflicts(), ana.state("new").record.completion) == ([], "Ciao.")


def test_a_line_with_the_id_of_an_added_record_hides_nothing(root):
    with opened(root) as workshop:
        workshop.apply([add("new", output="Ciao.")])
        write(root, [{"id": "new", "instruction": "Say bye.", "output": "Tschau."}], name="pulled")
        workshop.reload()
        assert [(found.severity, found.record) for found in workshop.findings()] == [("error", "new")]
        workshop.undo()
        assert (workshop.findings(), workshop.state("new").record.completion) == ([], "Tschau.")


def test_an_act_on_everything_is_taken_back_whole(tmp_path):
    lines = [{"id": f"r{n}", "instruction": f"Say {n}.", "output": str(n)} for n in range(300)]
    root = made(tmp_path / "ws", lines)
    before = fresh(root)
    with opened(root) as workshop:
        workshop.apply([drop(line["id"]) for line in lines] + [edit(line["id"], output="x") for line in lines])
        assert len(workshop.undo().events) == 600
        assert fresh(root) == before
        assert len(workshop.redo().events) == 600
    assert {(found[0]["output"], found[1]) for found in fresh(root).values()} == {("x", "x")}


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
    with opened(root) as workshop:
        workshop.apply([label("a", value)])
        workshop.apply([Decision("resolve", "b", fields={"question": "q", "value": value})])
        found = workshop.state("a").answers["q"]["ana"]
        assert (found, type(found)) == (value, type(value))
        assert workshop.state("b").resolved["q"] == value
        shown = workshop.catalog.row(workshop.catalog.find("a")).labels
        assert ("ana", "q") in {one[:2] for one in shown} or value == []
        state = workshop.state("a")
    with opened(root, "bo") as other:
        assert other.state("a") == state
    assert fresh(root)["a"] == facts(state)


def test_an_answer_of_null_is_none(root):
    with opened(root) as workshop:
        workshop.apply([label("a", "x")])
        workshop.apply([label("a", None)])
        assert workshop.state("a").answers == {}
        workshop.undo()
        assert workshop.state("a").answers == {"q": {"ana": "x"}}


NESTED = []
for _ in range(100):
    NESTED = [NESTED]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\ud800": 1}, 2**64, NESTED], ids=str)
def test_what_is_no_json_is_refused_and_not_saved(root, value):
    with opened(root) as workshop:
        for decision in (label("a", value), edit("a", meta={"x": value}), add("new", meta={"x": value})):
            assert code_of(workshop.apply, [drop("b"), decision]) == "E972 unfit-line"
        assert code_of(workshop.apply, [label("a", "x", question="\ud800")]) == "E972 unfit-line"
        assert code_of(workshop.apply, [drop("a", "\ud800")]) == "E972 unfit-line"
        assert workshop.num_decisions == 0
        workshop.apply([drop("b")])
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
    with opened(root) as workshop:
        workshop.apply([edit(name, output="Hello."), label(name, "x")])
        workshop.apply([add(f"{name}+")])
        assert (workshop.state(name).record.completion, workshop.state(f"{name}+").record.id) == ("Hello.", f"{name}+")
        seen = {one: facts(workshop.state(one)) for one in (name, f"{name}+", "a")}
    assert fresh(root) == seen


@pytest.mark.parametrize("by", [*ODD, "folded", "retired", "Ana", "ANA", "ana.log", " ", "con"])
def test_annotators_with_odd_names(root, by):
    with opened(root, by) as workshop, opened(root) as ana:
        workshop.apply([label("a", "x")])
        ana.apply([label("a", "y")])
        workshop.refresh()
        assert workshop.state("a").answers == {"q": {by: "x", "ana": "y"}}
        assert all(path.is_relative_to(root / "journal") for path in root.rglob("*.log"))
    fold_journal(open_workspace(root))
    with opened(root, by) as workshop:
        assert workshop.state("a").answers == {"q": {by: "x", "ana": "y"}}


def test_an_annotator_whose_name_is_no_text_is_refused(root):
    assert code_of(open_workshop, root, "\udcff") == "E902 bad-settings"


def test_records_without_an_id_and_repeated_ones(tmp_path):
    lines = [
        {"instruction": "Say hi.", "output": "Hi."},
        *[{"id": "r", "instruction": str(n), "output": "x"} for n in range(3)],
    ]
    root = made(tmp_path / "ws", lines)
    own = open_workspace(root).states()[0].record.id
    with opened(root) as workshop:
        workshop.apply([edit(own, output="Hello."), drop("r"), label("r-3", "x")])
        assert code_of(workshop.apply, [add("r-2")]) == "E916 unknown-record"
        assert workshop.state(own).record.id == own
        seen = {name: facts(workshop.state(name)) for name in (own, "r", "r-2", "r-3")}
        workshop.reload()
        assert {name: facts(workshop.state(name)) for name in seen} == seen
    assert fresh(root) == seen


# A journal that cannot be read, or not all of it.


def newer(path):
    payload = b'{"v":99}'
    with path.open("ab") as file:
        file.write(b"%08x %b\n" % (zlib.crc32(payload), payload))


def test_a_newer_event_hides_nothing_else_and_is_told_once(root):
    with opened(root) as workshop, opened(root, "bo") as bo, opened(root, "zoe") as zoe:
        heard = []
        workshop.subscribe(lambda ids, _: heard.append(ids))
        path = plant(root, forged("a"))
        newer(path)
        bo.apply([label("b", 1)])
        zoe.apply([label("b", 2)])
        assert code_of(workshop.refresh) == "E913 unknown-event"
        assert heard == [{"a", "b"}]
        assert (workshop.state("a").dropped, workshop.state("b").answers) == ("forged", {"q": {"bo": 1, "zoe": 2}})
        assert workshop.refresh() == set()
        (remark,) = workshop.remarks()
        assert "forged.log" in remark
        zoe.apply([label("b", 3)])
        assert workshop.refresh() == {"b"}
        assert code_of(workshop.reload) == "E913 unknown-event"
        assert workshop.state("b").answers == {"q": {"bo": 1, "zoe": 3}}


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_segment_is_told_and_waits_for_nobody(root, kind):
    with opened(root) as workshop, opened(root, "bo") as bo:
        bo.apply([drop("a")])
        path = root / "journal/bo/0.log"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(plant(root, forged("b"), name="../outside.txt"))
        else:
            path.mkdir()
        assert code_of(workshop.refresh) == "E980 bad-segment"
        assert (workshop.state("a").dropped, workshop.state("b").dropped) == ("x", None)
        assert workshop.refresh() == set()
        assert code_of(open_workshop(root, "cem").load) == "E980 bad-segment"


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
    assert code_of(open_workshop(root, "ana").load) == "E980 bad-segment"
    assert code_of(open_workspace(root).remarks) == "E980 bad-segment"


def test_a_line_that_is_being_written_waits_and_a_torn_one_is_told(root):
    line = frame(forged("a"))
    path = plant(root, forged("b"))
    with opened(root) as workshop:
        with path.open("ab") as file:
            file.write(line[:30])
        assert workshop.refresh() == set()
        (remark,) = workshop.remarks()
        assert "torn end" in remark
        with path.open("ab") as file:
            file.write(line[30:])
        assert workshop.refresh() == {"a"}
        assert workshop.remarks() == []


def test_damage_that_comes_later_is_told_with_its_place(root):
    path = plant(root, forged("a"), forged("b"))
    size = path.stat().st_size
    with opened(root) as workshop:
        with path.open("ab") as file:
            file.write(b"rot\n" + frame(forged("a", op="restore")))
        assert workshop.refresh() == {"a"}
        assert workshop.remarks() == open_workspace(root).remarks()
        (remark,) = workshop.remarks()
        assert f"forged.log:3: a damaged line in a journal segment (3 bytes at {size})" in remark


def test_an_emptied_journal_folder_is_noticed(root):
    with opened(root) as workshop:
        workshop.apply([drop("a")])
        workshop.refresh()
        shutil.rmtree(root / "journal")
        assert workshop.refresh() == set()
        assert not workshop.is_current()
        assert code_of(workshop.undo) == "E974 files-changed"
        workshop.apply([drop("b")])
        assert (workshop.state("a").dropped, workshop.state("b").dropped) == ("x", "x")
        assert workshop.reload() == {"a"}
        assert (workshop.state("a").dropped, workshop.state("b").dropped) == (None, "x")
        assert fresh(root)["b"][1] == "x"


def test_the_caches_may_be_deleted_at_any_time(root, monkeypatch):
    from functools import partial

    from curate.workshop import tail

    monkeypatch.setattr(tail, "open_catalog", partial(tail.open_catalog, kept_from=0))
    with opened(root) as workshop:
        assert (root / ".curate/cache/catalog").is_dir()
        shutil.rmtree(root / ".curate")
        workshop.apply([drop("a"), edit("b", output="Red.")])
        workshop.undo()
        workshop.redo()
        assert len(workshop.catalog.frame(["status", "completion"])) == 4
        shutil.rmtree(root / ".curate", ignore_errors=True)
        workshop.reload()
        assert workshop.is_current()
        assert workshop.state("b").record.completion == "Red."


def test_a_journal_that_leads_elsewhere_is_written_to_by_nobody(root, tmp_path):
    with opened(root) as workshop:
        workshop.apply([drop("a")])
        (root / "journal").rename(tmp_path / "elsewhere")
        (root / "journal").symlink_to(tmp_path / "elsewhere")
        for call in (workshop.undo, lambda: workshop.apply([drop("b")])):
            assert code_of(call) == "E914 outside-workspace"
        assert len(events_of(root)) == 1


# A disk that takes no more.


@pytest.mark.parametrize("name", ["write", "fsync"])
def test_what_was_not_saved_did_not_happen(root, monkeypatch, name):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(root) as workshop:
        heard = []
        workshop.subscribe(lambda ids, _: heard.append(ids))
        workshop.apply([drop("a")])
        workshop.apply([drop("b")])
        workshop.undo()
        seen = {one: workshop.state(one) for one in ("a", "b")}
        counts = workshop.num_decisions, len(events_of(root)), len(heard)
        acts = [call() for call in (workshop.standing, lambda: workshop.standing(is_redo=True))]
        monkeypatch.setattr(os, name, full)
        for call in (
            lambda: workshop.apply([drop("b")]),
            lambda: workshop.apply([add("new")]),
            workshop.undo,
            workshop.redo,
        ):
            assert code_of(call) == "E906 write-failed"
        monkeypatch.undo()
        assert {one: workshop.state(one) for one in seen} == seen
        assert code_of(workshop.state, "new") == "E916 unknown-record"
        assert (workshop.num_decisions, len(events_of(root)), len(heard)) == counts
        assert [call() for call in (workshop.standing, lambda: workshop.standing(is_redo=True))] == acts
        workshop.redo()
        workshop.apply([add("new")])
        workshop.undo()
        workshop.undo()
        assert (workshop.state("a").dropped, workshop.state("b").dropped) == ("x", None)
        seen = {one: facts(workshop.state(one)) for one in ("a", "b")}
    assert {one: fresh(root)[one] for one in seen} == seen


# Who listens.


def test_a_listener_that_raises_keeps_nobody_from_hearing(root):
    heard = []

    def broken(*_):
        raise LookupError("a screen is broken")

    with opened(root) as workshop:
        workshop.subscribe(lambda ids, _: heard.append(ids))
        workshop.subscribe(broken)
        workshop.subscribe(lambda ids, _: heard.append(ids))
        for call in (lambda: workshop.apply([drop("a")]), workshop.undo, workshop.redo):
            with pytest.raises(LookupError):
                call()
        assert heard == [{"a"}] * 6
        assert workshop.state("a").dropped == "x"
    assert fresh(root)["a"][1] == "x"


def test_who_has_stopped_listening_may_stop_again(root):
    with opened(root) as workshop:
        heard = []
        ends = []
        ends.append(workshop.subscribe(lambda *_: ends[0]()))
        workshop.subscribe(lambda ids, _: heard.append(ids))
        workshop.apply([drop("a")])
        ends[0]()
        workshop.apply([])
        assert heard == [{"a"}]


def test_a_listener_may_wait_for_another_thread(root):
    with opened(root) as workshop:
        answers = []

        def ask(*_):
            thread = threading.Thread(target=lambda: answers.append(workshop.state("b").dropped))
            thread.start()
            thread.join(5)

        workshop.subscribe(ask)
        workshop.apply([drop("a")])
        workshop.undo()
        workshop.redo()
        plant(root, forged("b"))
        workshop.refresh()
        write(root, LINES[1:])
        workshop.reload()
        assert answers == [None, None, None, "forged", "forged"]


# Several threads.


def test_threads_lose_nothing_and_wait_for_nobody_for_good(root):
    names = ("a", "b")
    faults = []
    with opened(root) as ana, opened(root, "bo") as bo:

        def decide(workshop, question):
            for number in range(40):
                workshop.apply([label(name, number, question) for name in names])

        def look(workshop):
            for _ in range(40):
                workshop.refresh()
                workshop.state("a")
                workshop.findings()
                workshop.catalog.frame(["status"])

        def read(workshop):
            for _ in range(5):
                workshop.reload()
                workshop.is_current()

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
        for workshop in (ana, bo):
            assert workshop.num_decisions == 240
            assert {
                name: {q: dict(by) for q, by in workshop.state(name).answers.items()} for name in names
            } == dict.fromkeys(names, wanted)
            assert workshop.conflicts() == []
        for _ in range(80):
            assert ana.undo().kept == []
        assert ana.undo() is None
        assert dict(ana.state("a").answers) == {"one": {"bo": 39}}


def test_what_is_decided_while_everything_is_read_again_counts(root, monkeypatch):
    from curate.workshop import tail

    found = tail.open_catalog
    with opened(root) as workshop, opened(root, "bo") as bo:

        def slow(*args, **kwargs):
            catalog = found(*args, **kwargs)
            workshop.apply([drop("a")])
            bo.apply([drop("b")])
            return catalog

        monkeypatch.setattr(tail, "open_catalog", slow)
        workshop.reload()
        assert (workshop.state("a").dropped, workshop.state("b").dropped) == ("x", "x")
        assert [event.id for act in workshop.standing() for event in act] == ["a"]


def test_rows_are_exchanged_in_the_thread_that_shows_them(root):
    with opened(root) as workshop:
        asked, heard = [], []
        workshop.subscribe(lambda ids, _: heard.append((ids, workshop.catalog is catalog)))
        write(root, LINES[1:])
        catalog = workshop.catalog

        def within(exchange):
            plant(root, forged("b"))
            newer(plant(root, name="eve/newer.log"))
            assert workshop.catalog is catalog
            asked.append(exchange())
            assert workshop.catalog is not catalog
            return asked[0]

        assert workshop.reload(within=within) == {"b"}
        assert (asked, heard) == ([{"b"}], [({"b"}, False)])
        assert code_of(workshop.refresh) == "E913 unknown-event"
        assert workshop.refresh() == set()


def test_what_was_found_in_old_lines_is_not_told_of_new_ones(root):
    from curate.workshop.problems import book_of

    with opened(root) as workshop:
        book = book_of(workshop)
        write(root, [LINES[0] | {"output": ""}, *LINES[1:]])
        workshop.reload()
        assert book.search().statuses()
        write(root, LINES)
        workshop.reload()
        assert book.found is None
        book.search()
        assert book.found is not None
        workshop.apply([edit("a", output="five")])
        assert book.found is not None


def test_the_nearest_records_are_those_that_are_there_now(tmp_path):
    from curate.workshop.nearest import Nearest

    lines = [{"id": f"r{n}", "instruction": f"Say the number {n} aloud.", "output": f"Number {n}."} for n in range(50)]
    root = made(tmp_path / "ws", lines)
    with opened(root) as workshop:
        nearest = Nearest(workshop)
        assert nearest.find(lines[49], 1)[0].id == "r49"
        workshop.apply([edit("r3", output="Three.")])
        write(root, lines[45:])
        workshop.reload()
        found = nearest.find(lines[49], 5)
        assert found[0].id == "r49"
        assert {one.id for one in found} <= {line["id"] for line in lines[45:]}


def test_no_decision_falls_between_two_looks_of_the_nearest(root, monkeypatch):
    from curate.workshop import Workshop
    from curate.workshop.nearest import Nearest

    found = Workshop.num_decisions
    with opened(root) as workshop, opened(root, "bo") as bo:
        nearest = Nearest(workshop)
        nearest.prepare()
        text = "Purple elephants walk slowly over the green hill at noon and sleep by the river at night."
        workshop.apply([edit("a", output=text)])
        bo.apply([drop("b")])

        def late(self):
            number = found.fget(self)
            self.refresh()
            return number

        monkeypatch.setattr(Workshop, "num_decisions", property(late))
        line = {"instruction": "Tell me of animals.", "output": text}
        assert [one.id for one in nearest.find(line, 1)] == ["a"]


def test_who_has_no_name_is_told_how_to_give_one(root, monkeypatch):
    monkeypatch.delenv("CURATE_ANNOTATOR", raising=False)

    def nobody():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert code_of(open_workshop, root) == "E902 bad-settings"
    with open_workshop(root, "ana") as workshop:
        assert workshop.by == "ana"


# The same annotator twice.


def test_two_sittings_of_one_annotator_share_their_acts(root):
    with opened(root) as one, opened(root) as two:
        one.apply([drop("a")])
        assert two.undo() is None
        two.refresh()
        assert two.undo().kept == []
        one.refresh()
        assert one.state("a").dropped is None
        assert one.undo() is None
        assert one.redo().kept == []
        two.refresh()
        assert (two.state("a").dropped, two.redo()) == ("x", None)


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
            assert (two.redo().kept, two.redo()) == ([], None)
            one.refresh()
            assert one.redo() is None
            assert {found.state(name).dropped for found in (one, two) for name in "ab"} == {"x"}
            assert one.undo().kept == []
            assert one.undo() is None
        assert (fresh(root)["a"][1], fresh(root)["b"][1]) == (None, None)


def test_an_act_that_is_seen_in_two_looks_is_one_act(root):
    numbers = [uuid.uuid4().hex for _ in range(4)]
    session, act = uuid.uuid4().hex, uuid.uuid4().hex
    events = [
        forged("ab"[n % 2], session=session, seq=n + 1, by="ana", event=number).model_copy(update={"act": act})
        for n, number in enumerate(numbers)
    ]
    with opened(root) as workshop:
        plant(root, *events[:3])
        workshop.refresh()
        plant(root, *events[3:])
        workshop.refresh()
        assert [len(one) for one in workshop.standing()] == [4]
        workshop.undo()
        assert (workshop.state("a").dropped, workshop.state("b").dropped, workshop.undo()) == (None, None, None)


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
    events = [ana.says("a"), bo.decide("drop", reason="r"), bo.decide("assign", split="test")]
    assert outcome(*events) == ("a", "r", [])
    assert outcome(*events, ana.undoes(events[0])) == ("5", "r", [])


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


@pytest.mark.slow
def test_ten_thousand_events_on_one_record_are_read_in_a_moment():
    shape = load_shape("instruction")
    record = shape.record(LINES[0], Source("data/a.jsonl", 1))
    events = long_history("undo", 10_000)
    began = time.process_time()
    fold([record], events, shape)
    # It was 3 s, and 2.4 GB; it is 0.2 s.
    assert time.process_time() - began < 1.5


@pytest.mark.slow
def test_an_act_on_many_records_takes_time_in_proportion(tmp_path):
    lines = [{"id": f"r{n}", "instruction": f"Say {n}.", "output": str(n)} for n in range(5000)]
    with opened(made(tmp_path / "ws", lines)) as workshop:
        began = time.process_time()
        workshop.apply([drop(line["id"]) for line in lines])
        workshop.undo()
        workshop.redo()
        # 0.5 ms a record and act, three times what was measured.
        assert time.process_time() - began < 7.5
    began = time.process_time()
    with opened(workshop.root) as workshop:
        assert workshop.num_decisions == 15_000
    assert time.process_time() - began < 6


def test_decisions_on_records_that_are_not_there_are_counted_and_cost_little(root):
    plant(root, *(forged(f"nobody {n}") for n in range(3000)))
    began = time.process_time()
    with opened(root) as workshop:
        (remark,) = workshop.remarks()
        assert "3,000 (nobody 0, nobody 1, nobody 10, …)" in remark
        assert len(workshop.decided()) == 0
        assert code_of(workshop.state, "nobody 7") == "E916 unknown-record"
    assert time.process_time() - began < 4


# Forged journals.


def states(workshop):
    return {state.record.id: state for state in workshop.decided()}


def check_forged(root, events, seed=0):
    """The forged journal is read to its end, the same in any order and by all who look."""
    mixed = events[:]
    random.Random(seed).shuffle(mixed)
    seen = []
    for number, order in enumerate((events, mixed)):
        other = made(root / f"of{number}")
        plant(other, *order)
        with opened(other, "zoe") as workshop:
            found = {state.record.id: state for state in open_workspace(other).states()}
            assert states(workshop) == {name: found[name] for name in states(workshop)}
            seen.append(states(workshop))
            workshop.apply([label("a", "still here")])
            assert workshop.undo().kept == []
            assert [facts(state) for state in states(workshop).values()] == [
                facts(state) for state in seen[-1].values()
            ]
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
        with opened(made(tmp_path / event.event), event.by) as workshop:
            plant(workshop.root, *events)
            workshop.refresh()
            while workshop.undo():
                assert workshop.num_decisions < 60, "undo never ends"


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

OPS = ["edit", "drop", "restore", "label", "assign", "add", "undo", "redo", "refresh", "reload", "reopen", "fold"]
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
        "restore": Decision("restore", name),
        "label": label(name, value, "category"),
        "assign": Decision("assign", name, fields={"split": "test" if value == "x" else "train"}),
        "add": add(name, output=value or "z"),
    }.get(op)


def tried(workshop, call, *args):
    """Whether it worked: it may not where a record is not there, or another program has changed the files."""
    if workshop.is_current():
        return done(call, *args, but=("E916 unknown-record", "E982 cannot-fold"))
    return done(call, *args, but=("E916 unknown-record", "E982 cannot-fold", "E974 files-changed"))


def seen_by(workshop):
    """What is decided, less the names of the events."""
    return (
        {
            name: (*facts(state), state.answers, state.resolved, state.is_wanted)
            for name, state in states(workshop).items()
        },
        sorted(conflict.record + str(conflict.facet) for conflict in workshop.conflicts()),
    )


def assert_undo_is_identity(workshop):
    before, contradicted = seen_by(workshop)
    act = [drop("a", "once"), edit("b", output="once"), label("b", "once")]
    if tried(workshop, workshop.apply, act) and workshop.is_current():
        assert workshop.undo().kept == []
        after = seen_by(workshop)
        # What nobody had decided on is now decided on, and as it was.
        assert ({name: after[0][name] for name in before}, after[1]) == (before, contradicted)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
            elif op == "fold":
                (root / "curate.toml").write_text('data = ["data/*.jsonl"]\n', encoding="utf-8")
                tried(people[who], lambda: fold_journal(open_workspace(root)))
            else:
                tried(people[who], getattr(people[who], op))
            assert_undo_is_identity(people[who])
        for workshop in people:
            workshop.refresh()
            if not workshop.is_current():
                workshop.reload()
        found = {state.record.id: state for state in open_workspace(root).states()}
        for workshop in people:
            assert states(workshop) == {name: found[name] for name in states(workshop)}
            assert workshop.findings() == people[0].findings()
            assert sorted(one.code for one in workshop.findings()) == sorted(
                one.code for one in open_workspace(root).findings()
            )
            seen = states(workshop)
            assert (workshop.reload(), states(workshop)) == (set(), seen)
        for workshop in people:
            while undone := workshop.undo():
                assert workshop.num_decisions < 1000, (undone, "undo never ends")
    shutil.rmtree(root)
