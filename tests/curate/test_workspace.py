import itertools
import json

import pytest

from curate.base.events import Add, Assign, Drop, Edit, Label, Restore
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.project.journal import JournalWriter, read_journal
from curate.project.validation import validate_data
from tests.curate.deciding import decide
from tests.curate.folding import fold

LINES = [
    {"id": "a", "instruction": "Add 2 and 3.", "output": "5", "category": "sum"},
    {"id": "b", "instruction": "Name a colour.", "output": "Blue.", "category": "name"},
    {"instruction": "Say hello.", "output": "Hello."},
    {"instruction": "Say hello.", "output": "Hello."},
]


def make(folder, lines=LINES, settings="[split]\nseed = 1\n"):
    (folder / "data").mkdir(parents=True)
    (folder / "curate.toml").write_text(settings, encoding="utf-8")
    (folder / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return load_data(folder)


def test_records_are_read_in_order_with_sources(tmp_path):
    workspace = make(tmp_path)
    records = workspace.records()
    assert [record.id for record in records[:2]] == ["a", "b"]
    assert [(record.source.file, record.source.line) for record in records] == [
        ("data/a.jsonl", n) for n in (1, 2, 3, 4)
    ]
    assert records[3].id == f"{records[2].id}-2"


def test_suffix_never_meets_an_own_id(tmp_path):
    first = make(tmp_path / "one", LINES[2:]).records()[0].id
    lines = [{**LINES[0], "id": f"{first}-2"}, *LINES[2:], LINES[2]]
    records = make(tmp_path / "two", lines).records()
    assert [record.id for record in records] == [f"{first}-2", first, f"{first}-3", f"{first}-4"]


def test_not_a_workspace(tmp_path):
    with pytest.raises(CurateError) as caught:
        load_data(tmp_path)
    assert caught.value.code == "E901 no-workspace"


def test_no_data(tmp_path):
    workspace = make(tmp_path, settings='data = ["nothing/*.jsonl"]')
    with pytest.raises(CurateError) as caught:
        workspace.records()
    assert caught.value.code == "E904 no-such-file"


@pytest.mark.parametrize("pattern", ["../*.jsonl", "/etc/*", "data/../../x"])
def test_globs_stay_inside(tmp_path, pattern):
    workspace = make(tmp_path, settings=f'data = ["{pattern}"]')
    with pytest.raises(CurateError) as caught:
        workspace.files()
    assert caught.value.code == "E914 outside-workspace"


def test_links_out_are_refused(tmp_path):
    outside = tmp_path / "secret.jsonl"
    outside.write_text("{}\n", encoding="utf-8")
    workspace = make(tmp_path / "ws")
    (tmp_path / "ws/data/link.jsonl").symlink_to(outside)
    with pytest.raises(CurateError) as caught:
        workspace.files()
    assert caught.value.code == "E914 outside-workspace"
    (tmp_path / "ws/data/link.jsonl").unlink()
    (tmp_path / "ws/data/inner.jsonl").symlink_to(tmp_path / "ws/data/a.jsonl")
    assert len(workspace.files()) == 2


def test_journal_and_datasets_may_not_lead_out(tmp_path):
    workspace = make(tmp_path / "ws")
    (tmp_path / "elsewhere").mkdir()
    for name in ("journal", "dataset"):
        (tmp_path / "ws" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CurateError, match="outside the workspace"):
        decide(workspace, [Drop("a", reason="x")])
    with pytest.raises(CurateError, match="outside the workspace"):
        workspace.pins()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_drop_restore_assign(tmp_path):
    workspace = make(tmp_path)
    before = (tmp_path / "data/a.jsonl").read_bytes()
    dropped = decide(
        workspace,
        [
            Drop("a", reason="wrong"),
            Assign("b", "test"),
        ],
    )
    assert dropped.dropped() == {"a": "wrong"}
    assert [(record.id, record.split) for record in dropped.records()][:1] == [("b", "test")]
    restored = decide(dropped, [Restore("a")])
    assert restored.dropped() == {}
    assert restored.wanted() == {"a"}
    assert len(restored.records()) == 4
    assert (tmp_path / "data/a.jsonl").read_bytes() == before


def test_label_edit_add_are_folded(tmp_path):
    workspace = decide(
        make(tmp_path),
        [
            Label("a", "quality", 3),
            Edit("b", {"output": "Red.", "category": None}),
            Add("new", {"instruction": "Say bye.", "output": "Bye."}),
        ],
    )
    by_id = {record.id: record for record in workspace.records()}
    assert by_id["a"].labels == {"quality": 3}
    assert (by_id["b"].completion, by_id["b"].category) == ("Red.", "")
    assert by_id["new"].completion == "Bye."


def test_edit_keeps_a_made_up_id_and_refuses_what_the_schema_does(tmp_path):
    workspace = make(tmp_path)
    name = workspace.records()[2].id
    edited = decide(workspace, [Edit(name, {"output": "Hi."})])
    assert [record.completion for record in edited.records() if record.id == name] == ["Hi."]
    with pytest.raises(CurateError) as caught:
        decide(edited, [Edit(name, {"output": 5})])
    assert caught.value.code == "E972 unfit-line"
    (state,) = [state for state in edited.states() if state.record.id == name]
    with JournalWriter(tmp_path, "ana") as sitting:
        # An earlier version saved it, or the schema was another one then.
        sitting.append([Edit(name, {"output": 5}, parents=state.heads, text=state.text)])
    broken = load_data(tmp_path)
    assert [record.completion for record in broken.records() if record.id == name] == ["Hi."]
    assert [(finding.code, finding.record, finding.line) for finding in broken.findings()] == [("S102", name, 3)]
    assert validate_data(broken).num_errors == 1


def test_fold_does_not_depend_on_the_order_of_segments(tmp_path):
    workspace = make(tmp_path)
    for decision in (
        Drop("a", reason="x"),
        Restore("a"),
        Assign("a", "test"),
        Edit("a", {"output": "five"}),
    ):
        workspace = decide(workspace, [decision])
    events, _ = read_journal(tmp_path)
    base = make(tmp_path / "again").records()
    results = {repr(fold(base, order, workspace.shape).states["a"]) for order in itertools.permutations(events)}
    assert len(results) == 1
    state = fold(base, events, workspace.shape).states["a"]
    assert (state.dropped, state.is_wanted, state.record.split, state.record.completion) == (None, True, "test", "five")


def test_unknown_record_is_refused_before_writing(tmp_path):
    with pytest.raises(CurateError) as caught:
        decide(make(tmp_path), [Drop("zzz", reason="x")])
    assert caught.value.code == "E916 unknown-record"
    assert not (tmp_path / "journal").exists()


def test_damage_is_told(tmp_path):
    workspace = decide(make(tmp_path), [Drop("a", reason="x")])
    (path,) = tmp_path.glob("journal/*/*.log")
    path.write_bytes(path.read_bytes() + b"1234")
    (remark,) = load_data(tmp_path).remarks()
    assert "torn end" in remark
    assert load_data(tmp_path).dropped() == workspace.dropped() == {"a": "x"}
