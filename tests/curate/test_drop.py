"""`curate drop` and `curate drop --undo`: records leave and come back by their ids, and nothing else happens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.curate.called import call


def listed(root: Path, status: str) -> set[str]:
    said = call("list", root, "--status", status, "--format", "jsonl")
    return {json.loads(line)["id"] for line in said.stdout.splitlines()}


def test_a_dropped_record_is_out_of_the_dataset_with_its_reason(make_workspace):
    root = make_workspace().root
    said = call("drop", "r001", "r002", "r001", root, "--reason", "off topic", "--by", "ana")
    assert (said.exit_code, said.stdout) == (0, "dropped: 2 records (r001, r002)\n")
    assert listed(root, "dropped") == {"r001", "r002"}
    assert call("export", root).exit_code == 0
    lines = (root / "dataset/v1/dropped.jsonl").read_text().splitlines()
    assert {(entry["id"], entry["reason"]) for entry in map(json.loads, lines)} == {
        ("r001", "off topic"), ("r002", "off topic"),
    }  # fmt: skip
    kept = "".join((root / f"dataset/v1/{name}.jsonl").read_text() for name in ("train", "validation", "test"))
    assert '"r001"' not in kept
    assert '"r003"' in kept


def test_one_undo_takes_all_of_it_back(make_workspace):
    root = make_workspace().root
    call("drop", "r001", "r002", root, "--reason", "x", "--by", "ana")
    assert call("undo", root, "--by", "ana").exit_code == 0
    assert listed(root, "dropped") == set()


def test_restore_takes_back_in(make_workspace):
    root = make_workspace().root
    call("drop", "r001", "r002", root, "--reason", "x")
    said = call("drop", "--undo", "r001", root)
    assert (said.exit_code, said.stdout) == (0, "restored: 1 record (r001)\n")
    assert listed(root, "dropped") == {"r002"}
    again = call("drop", "--undo", "r001", root)
    assert (again.exit_code, again.stdout) == (0, "")
    assert "restored already: 1 record (r001)" in again.stderr


def test_a_restored_repeat_stays_in(make_workspace):
    lines = [
        {"id": name, "instruction": "Name the capital of France.", "output": "Paris is.", "category": "c"}
        for name in ("a", "b")
    ]
    root = make_workspace(lines).root
    call("export", root)
    assert [json.loads(line)["id"] for line in (root / "dataset/v1/dropped.jsonl").read_text().splitlines()] == ["b"]
    assert call("drop", "--undo", "b", root).exit_code == 0
    call("export", root)
    assert (root / "dataset/v2/dropped.jsonl").read_text() == ""


def test_an_unknown_id_stops_all_of_it(make_workspace):
    root = make_workspace().root
    said = call("drop", "r001", "nobody", root, "--reason", "x")
    assert said.exit_code == 2
    assert "E916 unknown-record" in said.stderr
    assert "'nobody'" in said.stderr
    assert listed(root, "dropped") == set()


def test_a_dry_run_writes_nothing(make_workspace):
    root = make_workspace().root
    before = sorted(str(path) for path in root.rglob("*"))
    said = call("drop", "r001", root, "--reason", "x", "--dry-run")
    assert "would be dropped: 1 record (r001)" in said.stdout
    assert listed(root, "dropped") == set()
    assert not (root / "journal").exists()
    assert {path for path in before if "journal" in path} == set()


def test_dropped_twice_says_so(make_workspace):
    root = make_workspace().root
    call("drop", "r001", root, "--reason", "first")
    said = call("drop", "r001", "r002", root, "--reason", "second")
    assert said.stdout == "dropped: 1 record (r002)\n"
    assert "dropped already: 1 record (r001)" in said.stderr
    assert "[dropped: first]" in call("list", root, "--status", "dropped").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--reason", "x"], "name at least one record"),
        (["r001", "--reason", "  "], "say in a few words why"),
        (["r001", "--undo", "--reason", "x"], "it is for what is dropped"),
    ],
)
def test_a_call_that_lacks_something_says_what(make_workspace, monkeypatch, words, says):
    monkeypatch.chdir(make_workspace().root)
    said = call("drop", *words)
    assert said.exit_code == 2
    assert says in said.stderr
