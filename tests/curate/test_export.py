import hashlib
import json
import os
import stat

import pytest

from curate.base.events import Drop, Restore
from curate.base.record import SPLITS, CurateError, Exit
from curate.formats.dataset import read_manifest, read_pins
from curate.project.data import load_data
from curate.project.plan import plan
from curate.project.publish import export_dataset
from curate.project.validation import validate_data
from tests.curate.deciding import decide

SCORED = '[split]\nseed = 1\n[categories.billing]\nscorer = "exact"\noptions = {trim = true}\n[categories.returns]\n'
REPEAT = {
    "id": "x1",
    "instruction": "  please tell ITEM1 apart from thing7 and from part13 today.",
    "output": "answer1 says that stuff3 differs1 a lot5.",
    "category": "billing",
}


def rows_of(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def add_lines(workspace, lines, name="b.jsonl"):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workspace.root / "data" / name).write_text(text, encoding="utf-8")
    return load_data(workspace.root)


def test_dataset_has_rows_manifest_and_digests(make_workspace):
    made, _ = export_dataset(make_workspace(settings=SCORED))
    assert made.path.name == "v1"
    assert made.is_new
    manifest = json.loads((made.path / "manifest.json").read_bytes())
    assert manifest["counts"] == {name: len(rows_of(made.path, name)) for name in SPLITS}
    assert sum(manifest["counts"].values()) == 60
    for name, entry in manifest["files"].items():
        content = (made.path / name).read_bytes()
        assert entry == {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "records": content.count(b"\n"),
        }
    billing = manifest["categories"]["billing"]
    assert (billing["scorer"], billing["options"]) == ("exact", {"trim": True})
    assert sum(billing[name] for name in SPLITS) == 30
    test_ids = sorted(row["id"] for row in rows_of(made.path, "test"))
    assert manifest["frozen_test"] == hashlib.sha256("".join(f"{name}\n" for name in test_ids).encode()).hexdigest()
    assert (manifest["seed"], manifest["objective_hint"], manifest["schema"]["name"]) == (1, "sft", "instruction")


def test_a_row_has_all_keys(make_workspace):
    made, _ = export_dataset(make_workspace())
    row = next(row for name in SPLITS for row in rows_of(made.path, name) if row["id"] == "r000")
    assert row == {
        "id": "r000",
        "kind": "instruction",
        "category": "returns",
        "cluster": "r000",
        "messages": [
            {"role": "user", "content": "Please tell item0 apart from thing0 and from part0 today."},
            {"role": "assistant", "content": "answer0 says that stuff0 differs0 a lot0."},
        ],
        "tools": None,
        "text": None,
        "source": "data/a.jsonl:1",
        "license": None,
        "weight": None,
    }


def test_chat_keeps_tools_and_calls(make_workspace):
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    lines = [
        {
            "id": "a",
            "tools": [tool],
            "messages": [
                {"role": "user", "content": "Is item 5 here?"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "yes", "tool_call_id": "c1"},
                {"role": "assistant", "content": "Yes, it is."},
            ],
        }
    ]
    made, _ = export_dataset(make_workspace(lines, 'schema = "chat"\n[split]\nseed = 1\nratios = [1.0, 0.0, 0.0]\n'))
    (row,) = rows_of(made.path, "train")
    assert row["tools"] == [tool]
    assert row["messages"] == lines[0]["messages"]
    assert (row["kind"], row["category"]) == ("chat", "uncategorised")
    assert read_manifest(made.path).objective_hint == "chat"


def test_raw_text_is_text(make_workspace):
    lines = [{"id": "a", "text": "Returns are free for thirty days after delivery."}]
    made, _ = export_dataset(make_workspace(lines, 'schema = "domain"\n[split]\nseed = 1\nratios = [1.0, 0.0, 0.0]\n'))
    (row,) = rows_of(made.path, "train")
    assert (row["text"], row["messages"]) == (lines[0]["text"], None)
    assert read_manifest(made.path).objective_hint == "domain"


def test_same_data_is_the_same_dataset(make_workspace):
    workspace = make_workspace()
    first, _ = export_dataset(workspace)
    again, _ = export_dataset(load_data(workspace.root))
    assert (again.path, again.is_new) == (first.path, False)
    assert [path.name for path in (workspace.root / "dataset").iterdir()] == ["v1"]
    changed = decide(workspace, [Drop("r001", reason="wrong")])
    third, _ = export_dataset(changed)
    assert (third.path.name, third.is_new) == ("v2", True)
    assert third.manifest.drops == {"decision": 1}


def test_repeats_are_left_out_listed_and_counted(make_workspace):
    workspace = add_lines(make_workspace(), [REPEAT])
    made, _ = export_dataset(workspace)
    assert made.manifest.drops == {"D301": 1}
    assert sum(made.manifest.counts.model_dump().values()) == 60
    (dropped,) = rows_of(made.path, "dropped")
    assert dropped == {
        "id": "x1",
        "code": "D301",
        "reason": "repeats r001",
        "kept": "r001",
        "score": 1.0,
        "file": "data/b.jsonl",
        "line": 1,
    }


def test_a_restored_repeat_stays(make_workspace):
    workspace = decide(
        add_lines(make_workspace(), [REPEAT]),
        [Drop("x1", reason="repeats r001", code="D301", of="r001", score=1.0)],
    )
    made, _ = export_dataset(workspace)
    (dropped,) = rows_of(made.path, "dropped")
    assert (dropped["code"], dropped["kept"], dropped["score"]) == ("D301", "r001", 1.0)
    made, _ = export_dataset(decide(workspace, [Restore("x1")]))
    assert made.manifest.drops == {}
    splits = [name for name in SPLITS for row in rows_of(made.path, name) if row["id"] in ("x1", "r001")]
    assert len(splits) == 2
    assert len(set(splits)) == 1


def test_records_keep_their_split_and_exported_ones_win_over_copies(make_workspace):
    workspace = make_workspace()
    first, _ = export_dataset(workspace)
    before = read_pins(first.path)
    more = [{**REPEAT, "id": "a0"}] + [
        {
            "id": f"n{n:03}",
            "instruction": f"new{n} alpha{n} beta{n} gamma{n}?",
            "output": f"delta{n} eta{n}",
            "category": "returns",
        }
        for n in range(40)
    ]
    # The new file is read first, and the seed is another, yet nobody moves.
    (workspace.root / "curate.toml").write_text("[split]\nseed = 99\n", encoding="utf-8")
    second, planned = export_dataset(add_lines(workspace, more, "0.jsonl"))
    after = read_pins(second.path)
    assert {name: after[name] for name in before} == before
    assert len(after) == 100
    assert [one.id for one in planned.dropped] == ["a0"]


def test_a_bridge_between_splits_is_held_back(make_workspace):
    common = [f"w{n}" for n in range(60)]
    # With other numbers they are other questions: they are alike, and neither gives the other away.
    left, right, bridge = (
        " ".join(f"1{place:02}" if place in places else word for place, word in enumerate(common))
        for places in ((5, 15, 25), (35, 45, 55), ())
    )
    lines = [{"id": "a", "instruction": left, "output": "one", "split": "train"},
             {"id": "b", "instruction": right, "output": "two", "split": "test"}]  # fmt: skip
    workspace = make_workspace(lines)
    first, _ = export_dataset(workspace)
    assert read_pins(first.path) == {"a": "train", "b": "test"}
    made, planned = export_dataset(add_lines(workspace, [{"id": "c", "instruction": bridge, "output": "three"}]))
    assert read_pins(made.path) == {"a": "train", "b": "test"}
    assert made.manifest.drops == {"P503": 1}
    assert made.manifest.findings["P503"] == 1
    assert "P501" not in made.manifest.findings
    assert [one.id for one in planned.dropped] == ["c"]


def test_errors_stand_in_the_way(make_workspace):
    workspace = make_workspace()
    with (workspace.root / "data/a.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"instruction": 5, "output": "x"}\nnot json\n')
    with pytest.raises(CurateError) as caught:
        export_dataset(load_data(workspace.root))
    assert (caught.value.code, caught.value.exit_code) == ("E907 dirty-data", Exit.FINDINGS)
    assert "data/a.jsonl:61" in caught.value.message
    assert "S101" in caught.value.message
    assert not (workspace.root / "dataset").exists()


def test_nothing_to_export(make_workspace):
    workspace = make_workspace()
    gone = decide(workspace, [Drop(record.id, reason="x") for record in workspace.records()])
    with pytest.raises(CurateError, match="no record"):
        export_dataset(gone)


def test_failed_write_leaves_nothing(make_workspace, monkeypatch):
    workspace = make_workspace()
    real = os.write

    def fill(handle, data):
        if b'"version"' in bytes(data):
            raise OSError(28, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(CurateError, match="No space left"):
        export_dataset(workspace)
    monkeypatch.undo()
    assert list((workspace.root / "dataset").iterdir()) == []
    assert export_dataset(workspace)[0].path.name == "v1"


def test_a_changed_dataset_is_noticed(make_workspace):
    workspace = make_workspace()
    made, _ = export_dataset(workspace)
    path = made.path / "test.jsonl"
    path.write_bytes(path.read_bytes().replace(b"r0", b"q0", 1))
    with pytest.raises(CurateError) as caught:
        plan(workspace)
    assert caught.value.code == "E911 dataset-changed"


def test_a_broken_manifest_is_told(make_workspace):
    workspace = make_workspace()
    made, _ = export_dataset(workspace)
    (made.path / "manifest.json").write_text('{"version": 1}', encoding="utf-8")
    with pytest.raises(CurateError) as caught:
        workspace.latest_manifest()
    assert caught.value.code == "E915 bad-manifest"


def test_datasets_are_as_readable_as_the_workspace(make_workspace):
    made, _ = export_dataset(make_workspace())
    assert stat.S_IMODE(made.path.stat().st_mode) == stat.S_IMODE(made.path.parent.stat().st_mode)


def test_git_is_named(make_workspace):
    import subprocess

    workspace = make_workspace()
    assert export_dataset(workspace)[0].manifest.git is None
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(workspace.root), *arguments], check=True)
    workspace = decide(workspace, [Drop("r000", reason="x")])
    made, _ = export_dataset(workspace)
    assert made.manifest.git is not None
    assert len(made.manifest.git.commit) == 40
    assert made.manifest.git.is_dirty


@pytest.mark.parametrize("limit", [1, 1000], ids=["more than is retained", "all retained"])
def test_the_manifest_names_records_with_personal_data(make_workspace, limit):
    """Also those that a validation only counts; not those that are excused, or that are left out."""
    mail = [
        {"id": f"m{n}", "instruction": f"Whose is number {n} of them all?", "category": "c",
         "output": f"Write to person{n}@acme-parts.com at once, thing{n}."}
        for n in range(5)
    ]  # fmt: skip
    mail[3]["x-ignore"] = ["X701"]
    clean = [{"id": f"c{n}", "instruction": f"What is word{n} plus part{n}?", "output": f"It is sum{n} of it{n}."}
             for n in range(9)]  # fmt: skip
    data = make_workspace([*mail, *clean])
    data = decide(data, [Drop("m4", reason="no")])
    made, _ = export_dataset(data, verdict=validate_data(data, limit=limit))
    assert made.manifest.flagged == ["m0", "m1", "m2"]
    again, _ = export_dataset(load_data(data.root))
    assert not again.is_new


def test_a_record_with_personal_data_is_named_as_the_workspace_calls_it(make_workspace):
    """Where an id is there twice, the second record has a number behind it: that one is private, not the first."""
    lines = [
        {"id": "a", "instruction": "Where is my parcel?", "output": "It is on its way to you."},
        {"id": "a", "instruction": "Who writes of it?", "output": "Ask anna.schmidt@acme-parts.com for more."},
        {"id": "b", "instruction": "Does rain fall today?", "output": "Only a little in the evening."},
    ]
    made, _ = export_dataset(make_workspace(lines, '[checks.severity]\nS104 = "warning"\n[split]\nseed = 1\n'))
    assert made.manifest.flagged == ["a-2"]


@pytest.mark.parametrize("settings", ['ignore = ["X701"]', 'select = ["Q2"]', 'per_path."**".ignore = ["X7"]'])
def test_what_the_settings_check_is_no_word_on_what_may_be_sent(make_workspace, settings):
    lines = [{"id": "a", "instruction": "Who writes of it?", "output": "Ask anna.schmidt@acme-parts.com for more."},
             {"id": "b", "instruction": "Which key opens it?", "output": "It is on the hook."}]  # fmt: skip
    made, _ = export_dataset(make_workspace(lines, f"[checks]\n{settings}\n[split]\nseed = 1\n"))
    assert made.manifest.flagged == ["a"]
    clean, _ = export_dataset(make_workspace(lines[1:], f"[checks]\n{settings}\n[split]\nseed = 1\n", name="clean"))
    assert clean.manifest.flagged is None


def test_without_such_records_a_manifest_is_as_ever(make_workspace):
    made, _ = export_dataset(make_workspace())
    assert "flagged" not in json.loads((made.path / "manifest.json").read_bytes())
