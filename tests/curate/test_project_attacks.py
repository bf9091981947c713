"""An open project under attack: files that change under it, disks that fill, two at the same keys, forged journals."""

import contextlib
import errno
import json
import zlib
from pathlib import Path

import pytest

from curate.base.record import CurateError
from curate.project.journal import frame
from curate.project.project import open_project
from tests.curate.attacking import (
    LINES,
    add,
    code_of,
    done,
    drop,
    edit,
    events_of,
    facts,
    forged,
    fresh,
    label,
    made,
    opened,
    plant,
    write,
)


@pytest.fixture
def root(tmp_path):
    return made(tmp_path / "ws")


# A file that changes under an open workshop.


def test_a_decision_is_saved_or_refused_when_its_line_has_changed(root):
    with opened(root) as project:
        project.apply([label("a", 1)])
        write(root, [LINES[0] | {"output": "five"}, *LINES[1:]])
        before = project.num_decisions, len(events_of(root))
        for decision in (drop("b"), label("a", 2), edit("a", category="maths")):
            if not done(project.apply, [decision], but="E974 files-changed"):
                assert (project.num_decisions, len(events_of(root))) == before, "refused, and saved all the same"
            else:
                before = before[0] + 1, before[1] + 1
                assert (project.num_decisions, len(events_of(root))) == before
                assert project.state(decision.id).heads == (project.recent(1)[0].event,)


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
    with opened(root) as project:
        heard = []
        project.subscribe(lambda ids: heard.append(ids))
        project.apply([edit("a", output="five")])
        assert project.is_current()
        write(root, [LINES[0] | {"category": "maths"}, LINES[1] | {"output": "Red."}, *LINES[2:]])
        assert not project.is_current()
        assert code_of(project.state, "b") == "E974 files-changed"
        catalog = project.catalog
        assert project.reload() == {"a"}
        assert heard[-1] == {"a"}
        assert project.is_current()
        assert project.catalog is not catalog
        assert project.state("b").record.completion == "Red."
        assert (project.state("a").record.completion, project.state("a").record.category) == ("five", "maths")
        assert project.undo().unchanged == []
        assert project.state("a").record.completion == "5"
        assert fresh(root)["a"] == facts(project.state("a"))


def test_reading_again_reads_settings_too(root):
    with opened(root) as project:
        (root / "curate.toml").write_text("[split]\nseed = 2\n", encoding="utf-8")
        project.reload()
        assert project.settings.split.seed == 2


def test_a_reading_that_fails_leaves_everything_as_it_was(root):
    with opened(root) as project:
        project.apply([drop("a")])
        (root / "data/a.jsonl").unlink()
        assert not project.is_current()
        assert code_of(project.reload) == "E904 no-such-file"
        assert project.state("a").dropped == "x"
        assert project.refresh() == set()
        write(root, LINES)
        project.reload()
        assert project.is_current()
        project.undo()
    assert fresh(root)["a"][1] is None


def test_a_first_reading_that_fails_is_none(root):
    path = root / "journal/eve/forged.log"
    path.parent.mkdir(parents=True)
    payload = b'{"v":1,"op":"drop"}'
    path.write_bytes(b"%08x %b\n" % (zlib.crc32(payload), payload))
    with open_project(root, "ana") as project:
        assert code_of(project.load) == "E913 unknown-event"
        assert not project.is_loaded
        # Whoever asks for more has it read once more.
        assert code_of(project.undo) == "E913 unknown-event"
        assert code_of(project.refresh) == "E913 unknown-event"
        assert not project.is_loaded
        path.unlink()
        project.load()
        assert project.is_loaded


# Segments that come and go.


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
    with opened(root) as project:
        path.unlink()
        path.write_bytes(frame(forged("a", op="restore")))
        project.refresh()
        assert project.num_decisions == 3


# What is saved together.


def test_decisions_of_one_act_are_checked_one_after_the_other(root):
    with opened(root) as project:
        project.apply([edit("a", system="s"), edit("a", category=None)])
        assert {"system", "category"} & set(project.state("a").record.data) == {"system"}
        project.apply([add("new"), edit("new", output="Ciao."), drop("new", "late")])
        assert (project.state("new").record.completion, project.state("new").dropped) == ("Ciao.", "late")
        assert code_of(project.apply, [add("twice"), add("twice", output="Else.")]) == "E916 unknown-record"
        assert code_of(project.apply, [edit("later", output="x"), add("later")]) == "E916 unknown-record"
        assert project.findings() == []
        project.undo()
        assert code_of(project.state, "new") == "E916 unknown-record"
        project.redo()
        seen = {name: facts(project.state(name)) for name in ("a", "b", "new")}
    assert {name: fresh(root)[name] for name in seen} == seen


def test_two_edits_that_only_together_are_unfit_are_refused(tmp_path):
    root = made(tmp_path / "ws", [LINES[0]])
    schema = json.loads((Path(__file__).parents[2] / "schemas/instruction.schema.json").read_text(encoding="utf-8"))
    schema["not"] = {"required": ["system", "input"]}
    (root / "own.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    (root / "curate.toml").write_text('schema = "own.schema.json"\n[split]\nseed = 1\n', encoding="utf-8")
    with opened(root) as project:
        assert code_of(project.apply, [edit("a", system="x"), edit("a", input="y")]) == "E972 unfit-line"
        project.apply([edit("a", system="x"), edit("a", system=None, input="y")])
        assert project.findings() == []


def test_an_id_is_free_again_once_its_record_was_taken_back(root):
    with opened(root) as project, opened(root, "bo") as other:
        project.apply([add("new")])
        project.undo()
        project.apply([add("new", output="Ciao.")])
        assert (project.state("new").record.completion, project.conflicts()) == ("Ciao.", [])
        other.refresh()
        assert other.state("new") == project.state("new")
        project.undo()
        assert code_of(project.state, "new") == "E916 unknown-record"
    assert "new" not in fresh(root)


def test_an_id_that_only_strays_decisions_name_is_free(root):
    plant(root, forged("new"), forged("new", op="restore"))
    with opened(root) as project:
        project.apply([add("new")])
        assert (project.state("new").dropped, project.state("new").record.completion) == (None, "Bye.")
        assert fresh(root)["new"] == facts(project.state("new"))


def test_an_id_names_its_record_for_good(root):
    with opened(root) as project:
        for decision in (edit("a", id="b"), edit("a", id=None), add("new", id="other"), add("new", id="a")):
            assert code_of(project.apply, [decision]) == "E972 unfit-line"
        project.apply([edit("a", id="a", output="five"), add("new", id="new")])
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
    with opened(root) as project:
        project.apply([add("new", output="Ciao.")])
        write(root, [{"id": "new", "instruction": "Say bye.", "output": "Tschau."}], name="pulled")
        project.reload()
        assert [(found.severity, found.record) for found in project.findings()] == [("error", "new")]
        project.undo()
        assert (project.findings(), project.state("new").record.completion) == ([], "Tschau.")


@pytest.mark.ci
def test_an_act_on_everything_is_taken_back_whole(tmp_path):
    lines = [{"id": f"r{n}", "instruction": f"Say {n}.", "output": str(n)} for n in range(300)]
    root = made(tmp_path / "ws", lines)
    before = fresh(root)
    with opened(root) as project:
        project.apply([drop(line["id"]) for line in lines] + [edit(line["id"], output="x") for line in lines])
        assert len(project.undo().events) == 600
        assert fresh(root) == before
        assert len(project.redo().events) == 600
    assert {(found[0]["output"], found[1]) for found in fresh(root).values()} == {("x", "x")}
