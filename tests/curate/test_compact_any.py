"""Folding whatever comes: others at work, random histories, lines spelled in odd ways."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from curate.base.events import Add, Approve, Assign, Decision, Drop, Edit, Label, Resolve, Restore, Undo
from curate.base.record import CurateError
from curate.project.claim import CLAIM
from curate.project.compact import fold_journal, plan_fold
from curate.project.data import ProjectData, load_data
from curate.project.fold import content_digest, fold
from curate.project.fsck import check
from curate.project.journal import JournalWriter
from curate.project.project import open_project
from curate.schema import load_shape
from tests.curate.deciding import decide
from tests.curate.folding import KEYS, LINES, edit, everything, make, seen_by_people, unfolded
from tests.effort import draws


def test_somebody_who_writes_meanwhile_is_not_written_over(tmp_path, monkeypatch):
    from curate.project import compact

    workspace = decide(make(tmp_path), [edit("a", output="five")])
    data = tmp_path / "data/a.jsonl"
    changed = data.read_bytes().replace(b"Add 2", b"Add 4")
    real = compact.plan_fold

    def planned(workspace):
        plan = real(workspace)
        data.write_bytes(changed)
        return plan

    monkeypatch.setattr(compact, "plan_fold", planned)
    with pytest.raises(CurateError, match="changed by somebody"):
        fold_journal(workspace)
    assert data.read_bytes() == changed
    monkeypatch.undo()
    fold_journal(load_data(tmp_path))
    assert data.read_bytes().startswith(b'{"id": "a", "instruction":"Add 4 and 3.",   "output":"five"')


WRITING = ("replace", "rename", "link", "unlink", "mkdir", "fsync")
"""The functions of `os` by which a disk changes for good."""


def fold_until(root: Path, number: int) -> bool:
    """Fold in a process that dies before it changes the disk for the ``number``-th time; return whether it did."""
    child = os.fork()
    if child == 0:
        left = count(number, -1)

        def dying(change: Callable[..., Any]) -> Callable[..., Any]:
            def changed(*args: Any, **more: Any) -> Any:
                return change(*args, **more) if next(left) > 1 else os._exit(9)

            return changed

        for name in WRITING:
            setattr(os, name, dying(getattr(os, name)))
        try:
            fold_journal(load_data(root))
        except BaseException:  # noqa: BLE001  whatever it is, it must not go on in the tests
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), "the fold has failed"
    return status == 9


@pytest.mark.ci
@pytest.mark.parametrize("is_second", [False, True], ids=["first", "second"])
def test_a_fold_that_dies_anywhere_changes_nothing(tmp_path, is_second):
    root, line = tmp_path / "ws", {"instruction": "Say bye.", "output": "Bye."}
    unknown = make(root).records()[4].id
    first = [edit("a", output="five"), Drop("b", reason="x"), edit(unknown, output="The.")]
    workspace = decide(load_data(root), [Label("a", "q", 1)], by="bo")
    decide(workspace, [*first, Add("n1", line)], by="ana")
    if is_second:
        fold_journal(load_data(root))
        with open_project(root, "ana") as project:
            project.load()
            project.apply([edit("a", output="V", category="maths"), edit("b", output="Red."), edit("n1", output="!")])
            project.apply([Assign("b", "test")])
    wanted = seen_by_people(unfolded(root, tmp_path / "unfolded"))
    taken_back = seen_after_undo(tmp_path / "unfolded")
    num_died = 0
    for number in count(1):
        dead = tmp_path / f"dead{number}"
        shutil.copytree(root, dead)
        is_dead = fold_until(dead, number)
        assert seen_by_people(load_data(dead)) == wanted
        assert not check(dead).damage
        again = tmp_path / f"again{number}"
        shutil.copytree(dead, again)
        # All can be taken back as it is, and after the next fold.
        assert seen_after_undo(dead) == taken_back
        fold_journal(load_data(again))
        assert seen_by_people(load_data(again)) == wanted
        assert not (again / CLAIM).exists()
        assert fold_journal(load_data(again)).is_empty
        assert seen_after_undo(again) == taken_back
        if not is_dead:
            break
        num_died += 1
    assert num_died > 30


def seen_after_undo(root: Path) -> dict[str, Any]:
    """Take back all that ana has done, and return what the records are then."""
    with open_project(root, "ana") as project:
        project.load()
        while undone := project.undo():
            assert undone.unchanged == []
    return {name: replace(state, heads=()) for name, state in seen_by_people(load_data(root))["states"].items()}


def test_one_fold_at_a_time(tmp_path, monkeypatch):
    from curate.project import compact
    from curate.project.claim import claimed

    workspace = decide(make(tmp_path), [edit("a", output="five")])
    with (
        claimed(tmp_path / compact.CLAIM, "folding the journal"),
        pytest.raises(CurateError, match="has to wait") as caught,
    ):
        fold_journal(workspace)
    assert caught.value.code == "E981 in-use"
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(compact, "plan_fold", lambda workspace: os._exit(0))
        fold_journal(workspace)
    os.waitpid(child, 0)
    assert (tmp_path / compact.CLAIM).exists()
    assert fold_journal(workspace).num_folded == 1
    for claim in (b"", b"{}", b'{"host": "elsewhere", "pid": 1, "what": "x"}'):
        (tmp_path / compact.CLAIM).write_bytes(claim)
        with pytest.raises(CurateError, match=r"process 1 on elsewhere|somebody"):
            fold_journal(workspace)
    (tmp_path / compact.CLAIM).unlink()


# Worlds: people decide, each on what they happen to have seen, and now and then somebody folds.

ADDS = {"n1": {"id": "n1", "instruction": "x", "output": "y"}, "n2": {"instruction": "p", "output": "q"}}
VALUES = st.sampled_from(["x", "y", "é"])
# What the first line says, and an added one.
CONTENTS = [content_digest(json.loads(line), load_shape("instruction")) for line in (LINES[0], json.dumps(ADDS["n1"]))]


@st.composite
def turns(draw):
    """Return what happens: who, on which record by number, what, and how much of the others' work they had seen."""
    ops = ["edit", "edit", "drop", "restore", "assign", "label", "resolve", "approve", "add", "undo", "fold", "fold"]
    return [
        (
            draw(st.sampled_from(["ana", "bo"])), draw(st.integers(0, 6)), draw(st.sampled_from(ops)),
            draw(st.sampled_from(KEYS)), draw(VALUES), draw(st.sampled_from([0, 0, 0, 1, 2])),
        )
        for _ in range(draw(st.integers(1, 12)))
    ]  # fmt: skip


def decision_of(op: str, key: str, value: str, name: str, own: list) -> Decision:
    return {
        "edit": lambda: Edit(name, {key: value if key == "output" or value != "y" else None}),
        "drop": lambda: Drop(name, value), "restore": lambda: Restore(name),
        "assign": lambda: Assign(name, "train" if value == "x" else "test"),
        "label": lambda: Label(name, "category", value), "resolve": lambda: Resolve(name, "q", value),
        "approve": lambda: Approve(name, CONTENTS[len(key + value) % 2]),
        "add": lambda: Add(name, ADDS[name]), "undo": lambda: Undo(name, own[-1].event),
    }[op]()  # fmt: skip


@pytest.mark.ci
@settings(
    max_examples=draws(15),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Each example is a dozen workspaces on the disk: to make one smaller would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(turns())
def test_a_world_that_folds_is_the_world_that_does_not(world):
    root = Path(tempfile.mkdtemp(prefix="curate-fold-"))
    try:
        base = make(root / "ws")
        run_world(root / "ws", base, world)
    finally:
        shutil.rmtree(root)


def run_world(root: Path, base: ProjectData, world: list) -> None:
    shape, records = base.shape, base.records()
    names = [*(record.id for record in records), "n1", "n2"]
    seen = [fold(records, [], shape)]
    for by, number, op, key, value, behind in world:
        if op == "fold":
            if any(one.code == "L403" for one in load_data(root).findings()):
                with pytest.raises(CurateError, match="L403"):
                    fold_journal(load_data(root))
            else:
                fold_journal(load_data(root))
        else:
            name = names[number]
            state = seen[-1 - min(behind, len(seen) - 1)].states.get(name)
            own = [event for event in everything(root) if event.id == name and event.by == by]
            is_add = op == "add" and name in ADDS and name not in seen[-1].states
            if not is_add and (op == "add" or state is None or (op == "undo" and not own)):
                continue
            decision = decision_of(op, key, value, name, own)
            with JournalWriter(root, by) as sitting:
                sitting.append([replace(decision, parents=() if is_add else state.parents())])
            seen.append(fold(records, everything(root), shape))
        if op == "fold":
            assert_same(root)
    assert_same(root)


def assert_same(root: Path) -> None:
    twin = root.with_name("unfolded")
    shutil.rmtree(twin, ignore_errors=True)
    assert seen_by_people(load_data(root)) == seen_by_people(unfolded(root, twin))


def test_a_plan_writes_nothing(tmp_path):
    workspace = decide(make(tmp_path), [edit("a", output="five")])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    plan = plan_fold(workspace)
    assert plan.num_folded == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


PIECE = st.sampled_from(["a", "é", "\n", '"', "\\", "😀", " "])
TEXT = st.text(PIECE, max_size=3)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
OBJECT = st.dictionaries(TEXT, VALUE, max_size=4)


@settings(max_examples=draws(300), deadline=None)
@given(
    OBJECT, OBJECT, st.lists(st.integers(0, 3), max_size=3), st.sampled_from([None, 0, 2]), st.booleans(), st.booleans()
)
def test_a_line_spelled_anew_says_what_it_should_and_keeps_the_rest(old, changes, removed, indent, is_ascii, is_tight):
    from curate.jsonl.walker import with_members

    text = json.dumps(old, ensure_ascii=is_ascii, separators=(",", ":") if is_tight else (" , ", " :  "), indent=indent)
    raw = b"  " + text.replace("\n", "").encode() + b" "
    line = {**old, **changes}
    for place in removed:
        line.pop(next(iter(list(old)[place : place + 1]), None), None)
    made = with_members(raw, line, is_ascii=is_ascii)
    assert json.loads(made) == line
    assert list(json.loads(made)) == list(line)
    assert with_members(raw, old, is_ascii=is_ascii) == raw
    assert not is_ascii or made.isascii()


JSONL = Path(__file__).resolve().parents[2].parent / "shared" / "badinputs" / "jsonl"
FREE = {
    "type": "object",
    "required": ["instruction", "output"],
    "properties": {"instruction": {"type": "string"}, "output": {"type": "string"}},
    "x-record": {"id": "/id", "prompt": "/instruction", "completion": "/output"},
}


@pytest.mark.skipif(not JSONL.is_dir(), reason="needs ../shared/badinputs, which is not here")
@pytest.mark.parametrize(
    "name", ["number_spelling", "key_order_and_space", "crlf", "bom", "no_final_newline", "unicode_line_separators"]
)
def test_lines_spelled_in_odd_ways_stay_so(tmp_path, name):
    path = JSONL / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"the shared material has no {path.name}")
    raw = path.read_bytes()
    make(tmp_path, [raw])
    (tmp_path / "free.json").write_text(json.dumps(FREE), encoding="utf-8")
    (tmp_path / "curate.toml").write_text('schema = "free.json"\n[split]\nseed = 1\n', encoding="utf-8")
    (tmp_path / "data/b.jsonl").write_bytes(b'{"id": "other", "instruction": "x", "output": "y"}\n')
    workspace = decide(load_data(tmp_path), [edit("other", output="z")])
    fold_journal(workspace)
    data = tmp_path / "data/a.jsonl"
    assert data.read_bytes() == raw
    # And where such a line is edited, all of it but the edited value stays, and so do the other lines.
    first = workspace.records()[0]
    decide(load_data(tmp_path), [edit(first.id, output="edited")])
    fold_journal(load_data(tmp_path))
    spellings = [json.dumps(first.data["output"], ensure_ascii=is_ascii).encode() for is_ascii in (True, False)]
    old = next(spelling for spelling in spellings if spelling in raw)
    edited = data.read_bytes()
    if not first.has_own_id:
        edited = edited.replace(b'"id": "%b", ' % first.id.encode(), b"").replace(
            b'"id":"%b",' % first.id.encode(), b""
        )
    assert edited in {raw.replace(old, b'"edited"', number) for number in range(1, 4)}
