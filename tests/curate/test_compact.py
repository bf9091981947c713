"""`curate fold` moves decisions into the record files: the records stay what they were, and so do all other bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from curate.base.events import Add, Assign, Drop, Label, Resolve, Restore
from curate.base.record import CurateError
from curate.base.storage import write_atomic
from curate.project.compact import fold_journal, plan_fold
from curate.project.data import load_data
from curate.project.journal import FOLDER, JournalWriter, read_frames, segments
from curate.project.snapshot import parse_folded, read_snapshot
from curate.schema.settings import ADDED
from tests.curate.attacking import opened
from tests.curate.deciding import decide
from tests.curate.folding import LINES, edit, everything, make, plain, states_of


def test_only_edited_lines_change_and_of_those_only_what_was_edited(tmp_path):
    workspace = make(tmp_path)
    last = workspace.records()[4].id
    decide(workspace, [edit("a", output="five"), edit(last, output="Thé.", category="words")], by="ana")
    plan = fold_journal(workspace)
    assert plan.num_folded == 2
    assert (tmp_path / "data/a.jsonl").read_bytes().split(b"\n") == [
        b'{"id": "a", "instruction":"Add 2 and 3.",   "output":"five", "category":"sum"}\r',
        LINES[1][:-1],
        LINES[2][:-1],
        LINES[3][:-1],
        b'{"id": "%b", "instruction": "Say caf\\u00e9.", "output": "Th\\u00e9.", '
        b'"meta": {"n": 1.50, "big": 12345678901234567}, "category": "words"}' % last.encode(),
    ]


@pytest.mark.ci
def test_a_hundred_thousand_lines_stay_as_they_are(tmp_path):
    lines = [b'{"id":"r%d", "instruction":"Q%d?","output": "A"}\n' % (number, number) for number in range(100_000)]
    decide(make(tmp_path, lines), [edit("r5000", output="B")])
    fold_journal(load_data(tmp_path))
    after = (tmp_path / "data/a.jsonl").read_bytes().splitlines(keepends=True)
    assert [number for number in range(100_000) if after[number] != lines[number]] == [5000]
    assert after[5000] == b'{"id":"r5000", "instruction":"Q5000?","output": "B"}\n'


def test_what_has_no_place_in_a_line_is_kept_beside_it(tmp_path):
    workspace = make(tmp_path)
    for by, decisions in (
        ("ana", [Label("a", "category", "maths")]),
        ("bo", [Label("a", "category", "sums")]),
        ("cem", [Resolve("a", "category", "sums")]),
        ("ana", [Drop("b", reason="wrong"), Assign("a", "test")]),
        ("bo", [Restore("b")]),
    ):
        workspace = decide(workspace, decisions, by=by)
    before, data = states_of(workspace), (tmp_path / "data/a.jsonl").read_bytes()
    fold_journal(workspace)
    assert (tmp_path / "data/a.jsonl").read_bytes() == data
    assert segments(tmp_path) == []
    after = states_of(load_data(tmp_path))
    assert after == before
    assert (after["a"].answers, after["a"].resolved) == (
        {"category": {"ana": "maths", "bo": "sums"}},
        {"category": "sums"},
    )
    assert (after["a"].record.category, after["a"].record.split, after["b"].is_wanted) == ("sums", "test", True)


def test_the_category_is_still_what_was_decided_last(tmp_path):
    workspace = make(tmp_path)
    workspace = decide(workspace, [Label("a", "category", "maths")])
    workspace = decide(workspace, [edit("a", category="algebra")])
    workspace = decide(workspace, [edit("b", category="colour")])
    workspace = decide(workspace, [Label("b", "category", "hue")])
    fold_journal(workspace)
    after = states_of(load_data(tmp_path))
    assert (after["a"].record.category, after["b"].record.category) == ("algebra", "hue")
    after = states_of(decide(load_data(tmp_path), [edit("b", category="tint")]))
    assert after["b"].record.category == "tint"


def test_added_records_get_a_line_with_their_id(tmp_path):
    line = {"instruction": "Say bye.", "output": "Bye."}
    workspace = decide(make(tmp_path), [Add("new", line)])
    workspace = decide(workspace, [edit("new", output="Bye!"), Drop("new", reason="draft")])
    before = states_of(workspace)["new"]
    fold_journal(workspace)
    assert (tmp_path / ADDED).read_bytes() == b'{"id": "new", "instruction": "Say bye.", "output": "Bye!"}\n'
    assert plain(states_of(load_data(tmp_path))["new"]) == plain(before)
    workspace = decide(load_data(tmp_path), [Add("newer", line)])
    (tmp_path / ADDED).write_bytes((tmp_path / ADDED).read_bytes().removesuffix(b"\n"))
    fold_journal(workspace)
    assert [json.loads(text)["id"] for text in (tmp_path / ADDED).read_bytes().splitlines()] == ["new", "newer"]


def test_added_records_need_a_file_that_is_read(tmp_path):
    workspace = make(tmp_path, more="")
    (tmp_path / "curate.toml").write_text('data = ["data/a.jsonl"]\n[split]\nseed = 1\n', encoding="utf-8")
    workspace = decide(load_data(tmp_path), [Add("n", {"instruction": "x", "output": "y"})])
    with pytest.raises(CurateError, match=r"data/added\.jsonl") as caught:
        fold_journal(workspace)
    assert caught.value.code == "E982 cannot-fold"
    assert not (tmp_path / FOLDER / "folded").exists()
    assert "n" in states_of(load_data(tmp_path))


OWN = {
    "type": "object", "required": ["instruction", "output"], "additionalProperties": False,
    "properties": {"instruction": {"type": "string"}, "output": {"type": "string"}, "category": {"type": "string"}},
    "x-record": {"prompt": "/instruction", "completion": "/output", "category": "/category"},
}  # fmt: skip


def test_what_cannot_be_folded_stays_in_the_journal(tmp_path):
    make(tmp_path, LINES[2:4])
    (tmp_path / "own.json").write_text(json.dumps(OWN), encoding="utf-8")
    (tmp_path / "curate.toml").write_text('schema = "own.json"\n[split]\nseed = 1\n', encoding="utf-8")
    workspace = load_data(tmp_path)
    first, second = (record.id for record in workspace.records())
    workspace = decide(workspace, [edit(first, output="Hi."), Drop(second, reason="repeats")], by="ana")
    workspace = decide(workspace, [Add("n", {"instruction": "x", "output": "y"})], by="bo")
    workspace = decide(workspace, [edit(second, category="greeting")], by="bo")
    before, known = states_of(workspace), {event.event for event in everything(tmp_path)}
    for _ in range(3):
        plan = fold_journal(load_data(tmp_path))
        assert set(plan.left) == {first, "n"}
        after = states_of(load_data(tmp_path))
        assert {name: plain(state) for name, state in after.items()} == {name: plain(s) for name, s in before.items()}
        (carried,) = segments(tmp_path)
        assert [event.id for event in read_frames(carried.read_bytes(), carried)] == [first, "n"]
        assert {event.event for event in everything(tmp_path)} == known
    assert b'"category": "greeting"' in (tmp_path / "data/a.jsonl").read_bytes()
    assert read_snapshot(tmp_path).number == 1


def test_a_decision_that_was_refused_stays_so_on_the_new_line(tmp_path):
    """The schema lets go of the output only where there is a note: what it had refused would hold on the new line."""
    properties = {key: {"type": "string"} for key in ("id", "instruction", "output", "note")}
    schema = {
        "type": "object", "properties": properties, "required": ["instruction"],
        "anyOf": [{"required": ["output"]}, {"required": ["note"]}],
        "x-record": {"id": "/id", "prompt": "/instruction", "completion": "/output"},
    }  # fmt: skip
    make(tmp_path, [b'{"id": "a", "instruction": "x", "output": "y"}\n'])
    (tmp_path / "own.json").write_text(json.dumps(schema), encoding="utf-8")
    (tmp_path / "curate.toml").write_text('schema = "own.json"\n[split]\nseed = 1\n', encoding="utf-8")
    (state,) = load_data(tmp_path).states()
    with JournalWriter(tmp_path, "ana") as sitting:
        # Nothing of ours writes this, but the schema may have been another one when it was written.
        sitting.append([replace(edit("a", output=None), parents=state.parents())])
    decide(load_data(tmp_path), [edit("a", note="n")])
    before = states_of(load_data(tmp_path))
    assert dict(before["a"].record.data) == {"id": "a", "instruction": "x", "output": "y", "note": "n"}
    plan = fold_journal(load_data(tmp_path))
    assert (plan.left, plan.num_folded, plan.num_refused) == ({}, 2, 1)
    assert states_of(load_data(tmp_path)) == before


@pytest.mark.ci
def test_nobody_else_has_the_workspace_open(tmp_path):
    workspace = make(tmp_path)
    with JournalWriter(tmp_path, "ana") as sitting:
        sitting.append([replace(edit("a", output="five"), parents=states_of(workspace)["a"].parents())])
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for call in (fold_journal, plan_fold):
            with pytest.raises(CurateError, match=rf"^ana is deciding: .* is open in process {os.getpid()};") as caught:
                call(load_data(tmp_path))
            assert caught.value.code == "E981 in-use"
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # Somebody who looks, and has decided nothing yet.
    program = (
        "import sys; from pathlib import Path; from curate.project.project import open_project\n"
        "with open_project(Path(sys.argv[1]), 'bo') as project: project.load(), print(1, flush=True), input()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"1\n"
        with pytest.raises(CurateError, match=rf"is open in process {other.pid};") as caught:
            fold_journal(load_data(tmp_path))
        assert caught.value.code == "E981 in-use"
        other.communicate(b"\n")
    assert fold_journal(load_data(tmp_path)).num_folded == 1


def test_conflicts_and_damage_and_unfinished_merges_are_in_the_way(tmp_path):
    workspace = make(tmp_path)
    parents = states_of(workspace)["a"].parents()
    for by, value in (("ana", "five"), ("bo", "V")):
        with JournalWriter(tmp_path, by) as sitting:
            sitting.append([replace(edit("a", output=value), parents=parents)])
    with pytest.raises(CurateError, match=r"contradict one another \(L403\): a") as caught:
        fold_journal(workspace)
    assert (caught.value.code, caught.value.exit_code) == ("E982 cannot-fold", 1)
    decide(load_data(tmp_path), [edit("a", output="V")], by="cem")
    path = segments(tmp_path)[0]
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole.replace(b"five", b"nine"), whole.replace(b"\n", b"\r\n")):
        path.write_bytes(damaged)
        with pytest.raises(CurateError, match="is damaged: journal/ana/"):
            fold_journal(load_data(tmp_path))
    path.write_bytes(whole)
    assert fold_journal(load_data(tmp_path)).num_folded == 3


def test_links_are_not_replaced(tmp_path):
    workspace = make(tmp_path)
    (tmp_path / "real.jsonl").write_bytes((tmp_path / "data/a.jsonl").read_bytes())
    (tmp_path / "data/a.jsonl").unlink()
    (tmp_path / "data/a.jsonl").symlink_to(tmp_path / "real.jsonl")
    workspace = decide(workspace, [edit("a", output="five")])
    with pytest.raises(CurateError, match="is a link"):
        fold_journal(workspace)
    assert states_of(load_data(tmp_path))["a"].record.completion == "five"


def test_late_decisions_know_what_was_folded(tmp_path):
    workspace = make(tmp_path)
    stale = states_of(workspace)["a"].parents()
    workspace = decide(workspace, [edit("a", output="five")], by="ana")
    between = states_of(workspace)["a"].parents()
    workspace = decide(workspace, [edit("a", category="maths")], by="bo")
    fold_journal(workspace)
    with JournalWriter(tmp_path, "cem") as sitting:
        # Made on what ana had decided, and without what bo had: no contradiction, though it was folded meanwhile.
        sitting.append([replace(edit("a", output="V"), parents=between)])
    workspace = load_data(tmp_path)
    assert workspace.findings()[-1].code == "S119"
    assert states_of(workspace)["a"].record.completion == "V"
    with JournalWriter(tmp_path, "dan") as sitting:
        sitting.append([replace(edit("a", category="algebra"), parents=stale)])
    (finding,) = [finding for finding in load_data(tmp_path).findings() if finding.code == "L403"]
    assert (finding.record, finding.pointer) == ("a", "/category")
    assert finding.message.startswith("bo and dan decided on data category")
    with pytest.raises(CurateError, match="L403"):
        fold_journal(load_data(tmp_path))


def test_what_was_folded_is_taken_back_and_done_again(tmp_path):
    workspace, line = make(tmp_path), {"instruction": "x", "output": "y"}
    before = (tmp_path / "data/a.jsonl").read_bytes()
    last = workspace.records()[4].id
    first = [edit("a", output="five"), edit(last, output="The."), Drop("b", reason="r")]
    with opened(tmp_path) as project:
        project.apply(first)
        project.apply([Add("new", line)])
    fold_journal(load_data(tmp_path))
    after = (tmp_path / "data/a.jsonl").read_bytes()
    with opened(tmp_path) as project:
        assert [len(act) for act in project.standing()] == [1, 3]
        assert project.undo().unchanged == project.undo().unchanged == []
        assert project.undo() is None
    now = states_of(load_data(tmp_path))
    assert (now["a"].record.completion, now["b"].dropped, now[last].record.completion) == ("5", None, "Caf\u00e9.")
    assert now["new"].dropped == "its addition was taken back"
    assert fold_journal(load_data(tmp_path)).left == {"new": "its addition was taken back"}
    assert (tmp_path / "data/a.jsonl").read_bytes() == before
    with opened(tmp_path) as project:
        assert project.redo().unchanged == project.redo().unchanged == []
        assert project.redo() is None
    now = states_of(load_data(tmp_path))
    assert (now["a"].record.completion, now["b"].dropped, now["new"].dropped) == ("five", "r", None)
    fold_journal(load_data(tmp_path))
    assert (tmp_path / "data/a.jsonl").read_bytes() == after
    assert segments(tmp_path) == []


def test_a_line_that_was_changed_by_hand_since_is_not_written_over_by_an_undo(tmp_path):
    decide(make(tmp_path), [edit("a", output="five")], by="ana")
    fold_journal(load_data(tmp_path))
    data = tmp_path / "data/a.jsonl"
    data.write_bytes(data.read_bytes().replace(b"five", b"six"))
    with opened(tmp_path) as project:
        project.undo()
    workspace = load_data(tmp_path)
    assert states_of(workspace)["a"].record.completion == "six"
    assert [one.code for one in workspace.findings() if one.severity == "error"] == ["L403"]
    decide(workspace, [edit("a", output="5")])
    assert fold_journal(load_data(tmp_path)).num_folded == 2
    assert states_of(load_data(tmp_path))["a"].record.completion == "5"


def test_without_the_retired_segments_the_snapshot_stands(tmp_path):
    decide(make(tmp_path), [edit("a", output="five"), Drop("b", reason="r")], by="ana")
    fold_journal(load_data(tmp_path))
    before = states_of(load_data(tmp_path))
    shutil.rmtree(tmp_path / FOLDER / "retired")
    assert states_of(load_data(tmp_path)) == before
    with opened(tmp_path) as project:
        assert project.undo() is None
        project.apply([edit("a", output="V")])
        assert project.undo().unchanged == []
    assert states_of(load_data(tmp_path))["a"].record.completion == "five"
    fold_journal(load_data(tmp_path))
    assert states_of(load_data(tmp_path))["b"].dropped == "r"


def test_segments_that_a_merge_brings_back_count_once(tmp_path):
    workspace = decide(make(tmp_path), [edit("a", output="five"), Drop("b", reason="x")])
    (path,) = segments(tmp_path)
    content = path.read_bytes()
    fold_journal(workspace)
    decide(load_data(tmp_path), [edit("a", output="V"), Restore("b")])
    fold_journal(load_data(tmp_path))
    before = states_of(load_data(tmp_path))
    path.write_bytes(content)
    assert states_of(load_data(tmp_path)) == before
    assert not load_data(tmp_path).findings()[1:]
    fold_journal(load_data(tmp_path))
    assert segments(tmp_path) == []
    assert states_of(load_data(tmp_path)) == before


def test_records_that_are_known_by_their_content_keep_it(tmp_path):
    from curate.project.data import names_in_use

    workspace = make(tmp_path)
    name = workspace.records()[2].id
    decide(workspace, [Drop(name, reason="x")])
    assert names_in_use(tmp_path) == {name}
    fold_journal(load_data(tmp_path))
    assert names_in_use(tmp_path) == {name}


def test_every_file_is_sealed_and_changes_are_told(tmp_path):
    make(tmp_path)
    assert not fold_journal(load_data(tmp_path)).is_empty
    assert fold_journal(load_data(tmp_path)).is_empty
    data = tmp_path / "data/a.jsonl"
    (sealed,) = read_snapshot(tmp_path).files
    assert sealed.sha256 == hashlib.sha256(data.read_bytes()).hexdigest()
    data.write_bytes(data.read_bytes().replace(b"Blue", b"Glue"))
    plan = fold_journal(load_data(tmp_path))
    assert (plan.changed, plan.number) == ({"data/a.jsonl": "lines 2"}, 2)
    assert fold_journal(load_data(tmp_path)).is_empty
    write_atomic(tmp_path / "data/b.jsonl", [b'{"id": "z", "instruction": "x", "output": "y"}\n'])
    assert fold_journal(load_data(tmp_path)).changed == {"data/b.jsonl": "the whole file"}
    (tmp_path / "data/b.jsonl").unlink()
    assert fold_journal(load_data(tmp_path)).changed == {"data/b.jsonl": "the file is gone"}
    assert sorted(path.name for path in (tmp_path / FOLDER / "folded").iterdir()) == ["3.json", "4.json"]


def test_retired_segments_have_sums_that_any_tool_checks(tmp_path):
    decide(make(tmp_path), [edit("a", output="five")])
    fold_journal(load_data(tmp_path))
    folder = tmp_path / FOLDER / "retired/1"
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_no_flipped_bit_of_what_was_kept_goes_unseen(tmp_path):
    decide(make(tmp_path), [edit("a", output="five"), Drop("b", reason="x")])
    fold_journal(load_data(tmp_path))
    path = tmp_path / FOLDER / "folded/1.json"
    whole = path.read_bytes()
    assert parse_folded(whole, path).number == 1
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(CurateError, match="was changed after it was written"):
            parse_folded(bytes(flipped), path)
