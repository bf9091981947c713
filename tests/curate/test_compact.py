"""`curate fold` moves decisions into the record files: the records stay what they were, and so do all other bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.journal import FOLDER, Decision, Sitting, read_frames, read_journal, segments
from curate.record import CurateError
from curate.store import write_atomic
from curate.workspace import Workspace, open_workspace
from curate.workspace.compact import ADDED, fold_journal
from curate.workspace.fold import State, fold
from curate.workspace.foldable import plan_fold
from curate.workspace.kept import parse_folded, read_folded
from curate.workspace.retired import retired_events

LINES = [
    b'{"id": "a", "instruction":"Add 2 and 3.",   "output":"5", "category":"sum"}\r\n',
    b'{"category":"name","id":"b","output":"Blue.","instruction":"Name a colour."}\n',
    b'{"instruction": "Say hello.", "output": "Hello."}\n',
    b'{"instruction": "Say hello.", "output": "Hello."}\n',
    b'{"instruction": "Say caf\\u00e9.", "output": "Caf\\u00e9.", "meta": {"n": 1.50, "big": 12345678901234567}}',
]
KEYS = ("output", "category")


def make(root: Path, lines: list[bytes] = LINES, more: str = "") -> Workspace:
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text("[split]\nseed = 1\n" + more, encoding="utf-8")
    (root / "data" / "a.jsonl").write_bytes(b"".join(lines))
    return open_workspace(root)


def states_of(workspace: Workspace) -> dict[str, State]:
    return {state.record.id: state for state in workspace.states()}


def everything(root: Path) -> list:
    """Return every decision that was ever made, retired ones too."""
    return list({event.event: event for event in [*read_journal(root)[0], *retired_events(root)]}.values())


def plain(state: State) -> State:
    """Return a state without what a fold is free to change: where its line is, and an id that a line did not say."""
    data = {key: value for key, value in state.record.data.items() if key != "id"}
    record = replace(state.record, source=replace(state.record.source, file="", line=0), data=data, has_own_id=True)
    dropped = state.dropped
    if len(state.heads) > 1:
        # Of two reasons for leaving a record out, given apart, either one will do; and so will either category where
        # one person has written it into the line and another has answered the question.
        dropped = "some reason" if state.dropped else None
        record = replace(record, category="some category" if "category" in state.answers else record.category)
    return replace(state, record=record, dropped=dropped, heads=tuple(sorted(state.heads)))


def edit(name: str, **changes) -> Decision:
    return Decision("edit", name, fields={"changes": changes})


def test_only_edited_lines_change_and_of_those_only_what_was_edited(tmp_path):
    workspace = make(tmp_path)
    last = workspace.records()[4].id
    workspace.apply([edit("a", output="five"), edit(last, output="Thé.", category="words")], by="ana")
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


def test_a_hundred_thousand_lines_stay_as_they_are(tmp_path):
    lines = [b'{"id":"r%d", "instruction":"Q%d?","output": "A"}\n' % (number, number) for number in range(100_000)]
    make(tmp_path, lines).apply([edit("r5000", output="B")])
    fold_journal(open_workspace(tmp_path))
    after = (tmp_path / "data/a.jsonl").read_bytes().splitlines(keepends=True)
    assert [number for number in range(100_000) if after[number] != lines[number]] == [5000]
    assert after[5000] == b'{"id":"r5000", "instruction":"Q5000?","output": "B"}\n'


def test_what_has_no_place_in_a_line_is_kept_beside_it(tmp_path):
    workspace = make(tmp_path)
    for by, decisions in (
        ("ana", [Decision("label", "a", fields={"question": "category", "value": "maths"})]),
        ("bo", [Decision("label", "a", fields={"question": "category", "value": "sums"})]),
        ("cem", [Decision("resolve", "a", fields={"question": "category", "value": "sums"})]),
        ("ana", [Decision("drop", "b", fields={"reason": "wrong"}), Decision("assign", "a", fields={"split": "test"})]),
        ("bo", [Decision("restore", "b")]),
    ):
        workspace = workspace.apply(decisions, by=by)
    before, data = states_of(workspace), (tmp_path / "data/a.jsonl").read_bytes()
    fold_journal(workspace)
    assert (tmp_path / "data/a.jsonl").read_bytes() == data
    assert segments(tmp_path) == []
    after = states_of(open_workspace(tmp_path))
    assert after == before
    assert (after["a"].answers, after["a"].resolved) == (
        {"category": {"ana": "maths", "bo": "sums"}},
        {"category": "sums"},
    )
    assert (after["a"].record.category, after["a"].record.split, after["b"].is_wanted) == ("sums", "test", True)


def test_the_category_is_still_what_was_decided_last(tmp_path):
    workspace = make(tmp_path)
    workspace = workspace.apply([Decision("label", "a", fields={"question": "category", "value": "maths"})])
    workspace = workspace.apply([edit("a", category="algebra")])
    workspace = workspace.apply([edit("b", category="colour")])
    workspace = workspace.apply([Decision("label", "b", fields={"question": "category", "value": "hue"})])
    fold_journal(workspace)
    after = states_of(open_workspace(tmp_path))
    assert (after["a"].record.category, after["b"].record.category) == ("algebra", "hue")
    after = states_of(open_workspace(tmp_path).apply([edit("b", category="tint")]))
    assert after["b"].record.category == "tint"


def test_added_records_get_a_line_with_their_id(tmp_path):
    line = {"instruction": "Say bye.", "output": "Bye."}
    workspace = make(tmp_path).apply([Decision("add", "new", fields={"record": line})])
    workspace = workspace.apply([edit("new", output="Bye!"), Decision("drop", "new", fields={"reason": "draft"})])
    before = states_of(workspace)["new"]
    fold_journal(workspace)
    assert (tmp_path / ADDED).read_bytes() == b'{"id": "new", "instruction": "Say bye.", "output": "Bye!"}\n'
    assert plain(states_of(open_workspace(tmp_path))["new"]) == plain(before)
    workspace = open_workspace(tmp_path).apply([Decision("add", "newer", fields={"record": line})])
    (tmp_path / ADDED).write_bytes((tmp_path / ADDED).read_bytes().removesuffix(b"\n"))
    fold_journal(workspace)
    assert [json.loads(text)["id"] for text in (tmp_path / ADDED).read_bytes().splitlines()] == ["new", "newer"]


def test_added_records_need_a_file_that_is_read(tmp_path):
    workspace = make(tmp_path, more="")
    (tmp_path / "curate.toml").write_text('data = ["data/a.jsonl"]\n[split]\nseed = 1\n', encoding="utf-8")
    workspace = open_workspace(tmp_path).apply(
        [Decision("add", "n", fields={"record": {"instruction": "x", "output": "y"}})]
    )
    with pytest.raises(CurateError, match=r"data/added\.jsonl") as caught:
        fold_journal(workspace)
    assert caught.value.code == "E982 cannot-fold"
    assert not (tmp_path / FOLDER / "folded").exists()
    assert "n" in states_of(open_workspace(tmp_path))


OWN = {
    "type": "object", "required": ["instruction", "output"], "additionalProperties": False,
    "properties": {"instruction": {"type": "string"}, "output": {"type": "string"}, "category": {"type": "string"}},
    "x-record": {"prompt": "/instruction", "completion": "/output", "category": "/category"},
}  # fmt: skip


def test_what_cannot_be_folded_stays_in_the_journal(tmp_path):
    make(tmp_path, LINES[2:4])
    (tmp_path / "own.json").write_text(json.dumps(OWN), encoding="utf-8")
    (tmp_path / "curate.toml").write_text('schema = "own.json"\n[split]\nseed = 1\n', encoding="utf-8")
    workspace = open_workspace(tmp_path)
    first, second = (record.id for record in workspace.records())
    workspace = workspace.apply(
        [edit(first, output="Hi."), Decision("drop", second, fields={"reason": "repeats"})], by="ana"
    )
    workspace = workspace.apply([Decision("add", "n", fields={"record": {"instruction": "x", "output": "y"}})], by="bo")
    workspace = workspace.apply([edit(second, category="greeting")], by="bo")
    before, known = states_of(workspace), {event.event for event in everything(tmp_path)}
    for _ in range(3):
        plan = fold_journal(open_workspace(tmp_path))
        assert set(plan.left) == {first, "n"}
        after = states_of(open_workspace(tmp_path))
        assert {name: plain(state) for name, state in after.items()} == {name: plain(s) for name, s in before.items()}
        (carried,) = segments(tmp_path)
        assert [event.id for event in read_frames(carried.read_bytes(), carried)] == [first, "n"]
        assert {event.event for event in everything(tmp_path)} == known
    assert b'"category": "greeting"' in (tmp_path / "data/a.jsonl").read_bytes()
    assert read_folded(tmp_path).number == 1


def test_a_decision_that_would_mean_something_else_on_the_new_line_stays(tmp_path):
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
    for changes in ({"output": None}, {"note": "n"}):
        open_workspace(tmp_path).apply([edit("a", **changes)])
    before = states_of(open_workspace(tmp_path))
    assert dict(before["a"].record.data) == {"id": "a", "instruction": "x", "output": "y", "note": "n"}
    plan = fold_journal(open_workspace(tmp_path))
    assert plan.left == {"a": "on the line that they make they would mean something else"}
    assert states_of(open_workspace(tmp_path)) == before


def test_open_segments_and_what_was_decided_on_top_of_them_stay(tmp_path):
    workspace = make(tmp_path)
    with Sitting(tmp_path, "ana") as sitting:
        (first,) = sitting.append([replace(edit("a", output="five"), parents=states_of(workspace)["a"].parents())])
        workspace = open_workspace(tmp_path).apply([edit("a", category="maths"), edit("b", output="Red.")], by="bo")
        plan = fold_journal(workspace)
        assert [path.parent.name for path in plan.opened] == ["ana"]
        assert set(plan.left) == {"a"}
        assert b"Red." in (tmp_path / "data/a.jsonl").read_bytes()
        sitting.append([replace(edit("b", category="hue"), parents=states_of(open_workspace(tmp_path))["b"].parents())])
        now = states_of(open_workspace(tmp_path))
        assert (now["a"].record.completion, now["a"].record.category) == ("five", "maths")
        assert (now["b"].record.completion, now["b"].record.category) == ("Red.", "hue")
    assert fold_journal(open_workspace(tmp_path)).left == {}
    assert states_of(open_workspace(tmp_path)) == now
    assert first.event in read_folded(tmp_path).records["a"].events


def test_conflicts_and_damage_and_unfinished_merges_are_in_the_way(tmp_path):
    workspace = make(tmp_path)
    parents = states_of(workspace)["a"].parents()
    for by, value in (("ana", "five"), ("bo", "V")):
        with Sitting(tmp_path, by) as sitting:
            sitting.append([replace(edit("a", output=value), parents=parents)])
    with pytest.raises(CurateError, match=r"contradict one another \(L403\): a") as caught:
        fold_journal(workspace)
    assert (caught.value.code, caught.value.exit_code) == ("E982 cannot-fold", 1)
    open_workspace(tmp_path).apply([edit("a", output="V")], by="cem")
    path = segments(tmp_path)[0]
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole.replace(b"five", b"nine"), whole.replace(b"\n", b"\r\n")):
        path.write_bytes(damaged)
        with pytest.raises(CurateError, match="is damaged: journal/ana/"):
            fold_journal(open_workspace(tmp_path))
    path.write_bytes(whole)
    assert fold_journal(open_workspace(tmp_path)).num_folded == 3


def test_links_are_not_replaced(tmp_path):
    workspace = make(tmp_path)
    (tmp_path / "real.jsonl").write_bytes((tmp_path / "data/a.jsonl").read_bytes())
    (tmp_path / "data/a.jsonl").unlink()
    (tmp_path / "data/a.jsonl").symlink_to(tmp_path / "real.jsonl")
    workspace = workspace.apply([edit("a", output="five")])
    with pytest.raises(CurateError, match="is a link"):
        fold_journal(workspace)
    assert states_of(open_workspace(tmp_path))["a"].record.completion == "five"


def test_late_decisions_know_what_was_folded(tmp_path):
    workspace = make(tmp_path)
    stale = states_of(workspace)["a"].parents()
    workspace = workspace.apply([edit("a", output="five")], by="ana")
    between = states_of(workspace)["a"].parents()
    workspace = workspace.apply([edit("a", category="maths")], by="bo")
    fold_journal(workspace)
    with Sitting(tmp_path, "cem") as sitting:
        # Made on what ana had decided, and without what bo had: no contradiction, though it was folded meanwhile.
        sitting.append([replace(edit("a", output="V"), parents=between)])
    workspace = open_workspace(tmp_path)
    assert workspace.findings()[-1].code == "S119"
    assert states_of(workspace)["a"].record.completion == "V"
    with Sitting(tmp_path, "dan") as sitting:
        sitting.append([replace(edit("a", category="algebra"), parents=stale)])
    (finding,) = [finding for finding in open_workspace(tmp_path).findings() if finding.code == "L403"]
    assert (finding.record, finding.pointer) == ("a", "/category")
    with pytest.raises(CurateError, match="L403"):
        fold_journal(open_workspace(tmp_path))


def test_the_undo_of_a_folded_decision_is_shown_and_not_lost(tmp_path):
    workspace = make(tmp_path).apply([edit("a", output="five")], by="ana")
    workspace = workspace.apply(
        [Decision("add", "new", fields={"record": {"instruction": "x", "output": "y"}})], by="ana"
    )
    told = {event.id: event for event in read_journal(tmp_path)[0]}
    fold_journal(workspace)
    for name in ("a", "new"):
        with Sitting(tmp_path, "ana") as sitting:
            sitting.append([Decision("undo", name, [told[name].event], {"of": told[name].event})])
    workspace = open_workspace(tmp_path)
    assert [finding.code for finding in workspace.findings() if finding.severity == "error"] == ["L403"]
    assert workspace.dropped() == {"new": "its addition was taken back"}
    workspace = workspace.apply([edit("a", output="5")], by="ana")
    assert not [finding for finding in workspace.findings() if finding.severity == "error"]
    fold_journal(workspace)
    assert states_of(open_workspace(tmp_path))["a"].record.completion == "5"


def test_segments_that_a_merge_brings_back_count_once(tmp_path):
    workspace = make(tmp_path).apply([edit("a", output="five"), Decision("drop", "b", fields={"reason": "x"})])
    (path,) = segments(tmp_path)
    content = path.read_bytes()
    fold_journal(workspace)
    open_workspace(tmp_path).apply([edit("a", output="V"), Decision("restore", "b")])
    fold_journal(open_workspace(tmp_path))
    before = states_of(open_workspace(tmp_path))
    path.write_bytes(content)
    assert states_of(open_workspace(tmp_path)) == before
    assert not open_workspace(tmp_path).findings()[1:]
    fold_journal(open_workspace(tmp_path))
    assert segments(tmp_path) == []
    assert states_of(open_workspace(tmp_path)) == before


def test_records_that_are_known_by_their_content_keep_it(tmp_path):
    from curate.workspace.in_use import names_in_use

    workspace = make(tmp_path)
    name = workspace.records()[2].id
    workspace.apply([Decision("drop", name, fields={"reason": "x"})])
    assert names_in_use(tmp_path) == {name}
    fold_journal(open_workspace(tmp_path))
    assert names_in_use(tmp_path) == {name}


def test_every_file_is_sealed_and_changes_are_told(tmp_path):
    make(tmp_path)
    assert not fold_journal(open_workspace(tmp_path)).is_empty
    assert fold_journal(open_workspace(tmp_path)).is_empty
    data = tmp_path / "data/a.jsonl"
    (sealed,) = read_folded(tmp_path).files
    assert sealed.sha256 == hashlib.sha256(data.read_bytes()).hexdigest()
    data.write_bytes(data.read_bytes().replace(b"Blue", b"Glue"))
    plan = fold_journal(open_workspace(tmp_path))
    assert (plan.changed, plan.number) == ({"data/a.jsonl": "lines 2"}, 2)
    assert fold_journal(open_workspace(tmp_path)).is_empty
    write_atomic(tmp_path / "data/b.jsonl", [b'{"id": "z", "instruction": "x", "output": "y"}\n'])
    assert fold_journal(open_workspace(tmp_path)).changed == {"data/b.jsonl": "the whole file"}
    (tmp_path / "data/b.jsonl").unlink()
    assert fold_journal(open_workspace(tmp_path)).changed == {"data/b.jsonl": "the file is gone"}
    assert sorted(path.name for path in (tmp_path / FOLDER / "folded").iterdir()) == ["3.json", "4.json"]


def test_retired_segments_have_sums_that_any_tool_checks(tmp_path):
    make(tmp_path).apply([edit("a", output="five")])
    fold_journal(open_workspace(tmp_path))
    folder = tmp_path / FOLDER / "retired/1"
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_no_flipped_bit_of_what_was_kept_goes_unseen(tmp_path):
    make(tmp_path).apply([edit("a", output="five"), Decision("drop", "b", fields={"reason": "x"})])
    fold_journal(open_workspace(tmp_path))
    path = tmp_path / FOLDER / "folded/1.json"
    whole = path.read_bytes()
    assert parse_folded(whole, path).number == 1
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(CurateError, match="not as it was written"):
            parse_folded(bytes(flipped), path)


def test_somebody_who_writes_meanwhile_is_not_written_over(tmp_path, monkeypatch):
    from curate.workspace import compact

    workspace = make(tmp_path).apply([edit("a", output="five")])
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
    fold_journal(open_workspace(tmp_path))
    assert data.read_bytes().startswith(b'{"id": "a", "instruction":"Add 4 and 3.",   "output":"five"')


def test_one_fold_at_a_time(tmp_path, monkeypatch):
    from curate.workspace import compact
    from curate.workspace.claim import claimed

    workspace = make(tmp_path).apply([edit("a", output="five")])
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


@st.composite
def turns(draw):
    """Return what happens: who, on which record by number, what, and how much of the others' work they had seen."""
    ops = ["edit", "edit", "drop", "restore", "assign", "label", "resolve", "add", "undo", "fold", "fold"]
    return [
        (
            draw(st.sampled_from(["ana", "bo"])), draw(st.integers(0, 6)), draw(st.sampled_from(ops)),
            draw(st.sampled_from(KEYS)), draw(VALUES), draw(st.sampled_from([0, 0, 0, 1, 2])),
        )
        for _ in range(draw(st.integers(1, 12)))
    ]  # fmt: skip


def fields_of(op: str, key: str, value: str, name: str, own: list) -> dict:
    return {
        "edit": lambda: {"changes": {key: value if key == "output" or value != "y" else None}},
        "drop": lambda: {"reason": value}, "restore": dict,
        "assign": lambda: {"split": "train" if value == "x" else "test"},
        "label": lambda: {"question": "category", "value": value}, "resolve": lambda: {"question": "q", "value": value},
        "add": lambda: {"record": ADDS[name]}, "undo": lambda: {"of": own[-1].event},
    }[op]()  # fmt: skip


@settings(max_examples=int(os.environ.get("CURATE_FOLD_EXAMPLES", "150")), deadline=None,
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(turns())
def test_a_world_that_folds_is_the_world_that_does_not(world):
    root = Path(tempfile.mkdtemp(prefix="curate-fold-"))
    try:
        base = make(root / "ws")
        run_world(root / "ws", base, world)
    finally:
        shutil.rmtree(root)


def run_world(root: Path, base: Workspace, world: list) -> None:
    shape, records = base.shape, base.records()
    names = [*(record.id for record in records), "n1", "n2"]
    seen = [fold(records, [], shape)]
    undone_folded, folded = False, set()
    for by, number, op, key, value, behind in world:
        if op == "fold":
            if open_workspace(root)._fold.conflicts:
                with pytest.raises(CurateError, match="L403"):
                    fold_journal(open_workspace(root))
            else:
                fold_journal(open_workspace(root))
                folded = {event.event for event in everything(root)}
        else:
            name = names[number]
            state = seen[-1 - min(behind, len(seen) - 1)].states.get(name)
            own = [event for event in everything(root) if event.id == name and event.by == by]
            is_add = op == "add" and name in ADDS and name not in seen[-1].states
            if not is_add and (op == "add" or state is None or (op == "undo" and not own)):
                continue
            fields = fields_of(op, key, value, name, own)
            undone_folded = undone_folded or (op == "undo" and fields["of"] in folded)
            with Sitting(root, by) as sitting:
                sitting.append([Decision(op, name, () if is_add else state.parents(), fields)])
            seen.append(fold(records, everything(root), shape))
        assert_same(open_workspace(root), seen[-1], undone_folded)


def assert_same(workspace: Workspace, wanted, undone_folded: bool) -> None:
    found = states_of(workspace)
    if undone_folded:
        # What was folded is not taken back but shown as a contradiction; nothing more can be said.
        assert found.keys() >= wanted.states.keys()
        return
    assert {(one.record, one.facet) for one in workspace._fold.conflicts} == {
        (one.record, one.facet) for one in wanted.conflicts
    }
    odd = {one.record for one in wanted.conflicts}
    # Of two that contradict one another what was folded holds; else the order decides. All else is the same.
    assert {name: plain(state) for name, state in found.items() if name not in odd} == {
        name: plain(state) for name, state in wanted.states.items() if name not in odd
    }


def test_a_plan_writes_nothing(tmp_path):
    workspace = make(tmp_path).apply([edit("a", output="five")])
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


@settings(max_examples=300, deadline=None)
@given(
    OBJECT, OBJECT, st.lists(st.integers(0, 3), max_size=3), st.sampled_from([None, 0, 2]), st.booleans(), st.booleans()
)
def test_a_line_spelled_anew_says_what_it_should_and_keeps_the_rest(old, changes, removed, indent, is_ascii, is_tight):
    from curate.workspace.respelled import respelled

    text = json.dumps(old, ensure_ascii=is_ascii, separators=(",", ":") if is_tight else (" , ", " :  "), indent=indent)
    raw = b"  " + text.replace("\n", "").encode() + b" "
    line = {**old, **changes}
    for place in removed:
        line.pop(next(iter(list(old)[place : place + 1]), None), None)
    made = respelled(raw, line, is_ascii=is_ascii)
    assert json.loads(made) == line
    assert list(json.loads(made)) == list(line)
    assert respelled(raw, old, is_ascii=is_ascii) == raw
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
    workspace = open_workspace(tmp_path).apply([edit("other", output="z")])
    fold_journal(workspace)
    data = tmp_path / "data/a.jsonl"
    assert data.read_bytes() == raw
    # And where such a line is edited, all of it but the edited value stays, and so do the other lines.
    first = workspace.records()[0]
    open_workspace(tmp_path).apply([edit(first.id, output="edited")])
    fold_journal(open_workspace(tmp_path))
    spellings = [json.dumps(first.data["output"], ensure_ascii=is_ascii).encode() for is_ascii in (True, False)]
    old = next(spelling for spelling in spellings if spelling in raw)
    edited = data.read_bytes()
    if not first.has_own_id:
        edited = edited.replace(b'"id": "%b", ' % first.id.encode(), b"").replace(
            b'"id":"%b",' % first.id.encode(), b""
        )
    assert edited in {raw.replace(old, b'"edited"', number) for number in range(1, 4)}
