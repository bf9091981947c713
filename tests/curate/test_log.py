"""The journal told: the last decisions, and the history of one record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from curate.base.events import EVENTS, Add, Assign, Drop, Edit, Label, Restore
from curate.base.record import CurateError
from curate.cli import cli
from curate.project.data import ProjectData, load_data
from curate.project.journal import JournalWriter, read_journal
from tests.curate.deciding import decide


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["log", *arguments], standalone_mode=False)


@pytest.fixture
def decided(make_workspace: Any, monkeypatch: pytest.MonkeyPatch) -> ProjectData:
    """A workspace in which two people have decided, mostly on r001; it is the current folder."""
    workspace: ProjectData = make_workspace()
    for by, decision in (
        ("ana", Edit("r001", {"output": "answer1 says that stuff3 is it."})),
        ("ben", Label("r001", "tone", "rude")),
        ("ben", Drop("r001", reason="off topic, and quoting \x1b[31m a letter " * 6)),
        ("ana", Restore("r001")),
        ("ana", Assign("r001", "test")),
        ("ana", Drop("r002", reason="twice")),
    ):
        workspace = decide(workspace, [decision], by=by)
    monkeypatch.chdir(workspace.root)
    return workspace


def test_the_history_of_a_record_is_in_the_order_in_which_it_counts(decided: ProjectData) -> None:
    done = run("r001")
    assert done.return_value == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "r001: data/a.jsonl:2"
    steps = [line.split()[2:4] for line in lines if re.match(r"  \d{4}-", line)]
    assert steps == [["ana", "edit:"], ["ben", "label:"], ["ben", "drop:"], ["ana", "restore"], ["ana", "assign:"]]
    assert any("[-differs1 a lot5-]{+is it+}" in line for line in lines)
    assert lines[-1] == 'now: in, restored by hand, category billing, split test, labels {"tone": "rude"}'
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    assert done.stdout.count("quoting") == 6, "a reason was cut"


def test_the_last_decisions_come_last_and_the_others_are_counted(decided: ProjectData) -> None:
    lines = run("--limit", "3").stdout.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert "not shown: 3 earlier decisions" in run("--limit", "3").stderr
    everything = run(str(decided.root)).stdout
    assert len(everything.splitlines()) == 6
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ana drop r002: twice$", everything, re.MULTILINE)
    assert len(run("--by", "ben").stdout.splitlines()) == 2


def test_jsonl_is_the_journal_and_ends_with_the_state(decided: ProjectData) -> None:
    lines = run("--format", "jsonl").stdout.splitlines()
    assert {EVENTS.validate_json(line).event for line in lines} == {e.event for e in read_journal(decided.root)[0]}
    *events, state = (
        json.loads(line) for line in run(str(decided.root), "r001", "--format", "jsonl").stdout.splitlines()
    )
    assert [event["decision"]["op"] for event in events] == ["edit", "label", "drop", "restore", "assign"]
    assert (state["op"], state["is_there"], state["split"], state["dropped"]) == ("state", True, "test", None)
    assert (state["file"], state["line"], state["labels"]) == ("data/a.jsonl", 2, {"tone": "rude"})
    assert state["data"]["output"] == "answer1 says that stuff3 is it."


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_values_are_hidden_when_asked_for(form: str, decided: ProjectData) -> None:
    for words in ([], ["r001"]):
        done = run(*words, "--no-values", "--format", form)
        assert done.exception is None
        assert not re.search(r"rude|stuff3|lot5", done.stdout)
        assert "tone" in done.stdout


def test_people_who_worked_apart_are_told(decided: ProjectData) -> None:
    # Made on the state that the line has, as someone does who has not yet pulled.
    with JournalWriter(decided.root, "cleo") as sitting:
        sitting.append([Assign("r001", "train", parents=["1" * 32])])
    # Wherever its session's number has put it, neither it nor what follows it was made on what stands before.
    assert run("r001").stdout.count("(made on another state of the record than the one before)") in (1, 2)
    together = [Assign("r009", "test"), Drop("r009", reason="x")]
    decide(decided, together, by="ana")
    assert "(made on another state" not in run("r009").stdout


def test_an_edit_that_the_schema_refuses_is_told(decided: ProjectData) -> None:
    with JournalWriter(decided.root, "ana") as sitting:
        # The schema was another one when it was saved.
        sitting.append([Edit("r003", {"output": 7})])
    told = run("r003").stdout
    assert "(not applied: it changes nothing, or the schema refuses the line that it makes)" in told


def test_records_that_are_gone_and_records_that_never_were(decided: ProjectData) -> None:
    path = decided.root / "data/a.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"r002"' not in line), encoding="utf-8")
    told = run("r002").stdout.splitlines()
    assert told[0] == "r002: in no record file"
    assert "drop: twice" in told[1]
    assert told[-1].startswith("now: not in the data")
    added = {"id": "n1", "instruction": "New?", "output": "Yes, it is."}
    decide(load_data(decided.root), [Add("n1", added)], by="ana")
    assert run("n1").stdout.splitlines()[-1] == "now: in"
    unknown = run("r0001")
    assert isinstance(unknown.exception, CurateError)
    assert unknown.exception.code == "E916 unknown-record"
    assert "Did you mean" in unknown.exception.hint
    assert run("r010").stdout.splitlines()[1:] == ["  no decision", "now: in, category returns"]
    assert isinstance(run("a", "b", "c").exception, click.UsageError)


def test_damage_is_reported_and_the_rest_is_told(decided: ProjectData) -> None:
    path = next(path for path in sorted((decided.root / "journal").glob("ben/*.log")) if b'"drop"' in path.read_bytes())
    path.write_bytes(path.read_bytes()[:-5])
    for words in ([], ["r001"]):
        done = run(*words)
        assert done.return_value == 0
        assert re.search(r"warning: .*\.log:1: the torn end of a journal segment", done.stderr)
        assert "off topic" not in done.stdout
        assert "rude" in done.stdout


def test_a_workspace_without_decisions(make_workspace: Any) -> None:
    root: Path = make_workspace().root
    done = run(str(root))
    assert (done.return_value, done.stdout) == (0, "")
    assert "nothing has been decided yet" in done.stderr
