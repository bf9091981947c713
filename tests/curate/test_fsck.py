"""`curate fsck` on the command line, and the files beyond the journal that fsck looks at."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from curate import cli
from curate.base.events import Decision, Drop
from curate.base.record import canonical
from curate.project.applied import plan_edits
from curate.project.claim import CLAIM
from curate.project.data import load_data
from curate.project.fsck import check
from curate.project.journal import FOLDER, JournalWriter, segments
from curate.project.publish import export_dataset
from tests.curate.deciding import decide


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process and return (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.cli.main([str(one) for one in arguments], standalone_mode=False)
        except cli.CurateError as error:
            return error.exit_code, *capsys.readouterr()[:1], f"{error.code}: {error.message} {error.hint}"
        return code, *capsys.readouterr()

    return run


def names(root: Path) -> list[tuple[str, str, bool]]:
    return [(fault.name, fault.file, fault.is_damage) for fault in check(root).faults]


def drop(name: str) -> Decision:
    return Drop(name, reason="wrong")


def test_a_sound_workspace(make_workspace, call):
    workspace = decide(make_workspace(), [drop("r002")])
    export_dataset(workspace)
    code, out, err = call("fsck", workspace.root)
    assert (code, err) == (0, "")
    assert out == "1 segment, 1 decision, 1 record file, 1 dataset: no damage\n"
    code, out, _ = call("fsck", workspace.root, "--format", "json")
    told = json.loads(out)
    assert (code, told["faults"], told["num_damaged"], told["recovered"]) == (0, [], 0, [])
    assert told["looked_at"]["record files"] == 1


def test_what_is_no_workspace(tmp_path, call):
    code, _, err = call("fsck", tmp_path)
    assert code == 2
    assert "E901 no-workspace" in err


def test_damage_is_told_with_place_and_remedy_until_it_is_recovered(make_workspace, call):
    root = decide(make_workspace(), [drop("r001"), drop("r002")]).root
    (path,) = segments(root)
    path.write_bytes(path.read_bytes() + b"torn")
    code, out, _ = call("fsck", root)
    place = path.stat().st_size - 4
    assert code == 1
    first, fix, last = out.splitlines()
    assert first == (
        f"journal/{path.parent.name}/{path.name}:3 (byte {place:,}): torn-end: the end of the segment is torn: 4 bytes "
        "of a line that was not saved whole"
    )
    assert fix == f"  `curate fsck --recover` moves them to {path.name}.torn."
    assert last.endswith(": 1 fault")
    (told,) = json.loads(call("fsck", root, "--format", "json")[1])["faults"]
    assert (told["name"], told["line"], told["offset"], told["is_damage"]) == ("torn-end", 3, place, True)
    code, out, _ = call("fsck", root, "--recover")
    assert code == 0
    assert out.splitlines()[0] == f"moved 4 torn bytes of journal/{path.parent.name}/{path.name} to {path.name}.torn"
    assert call("fsck", root)[0] == 0


def test_datasets(make_workspace):
    root = make_workspace().root
    folder = export_dataset(load_data(root))[0].path
    train, manifest = folder / "train.jsonl", folder / "manifest.json"
    whole, text = train.read_bytes(), manifest.read_bytes()
    train.write_bytes(whole.replace(b"apart", b"apert", 1))
    assert names(root) == [("changed-file", "dataset/v1/train.jsonl", True)]
    train.unlink()
    assert names(root) == [("changed-file", "dataset/v1/train.jsonl", True)]
    train.write_bytes(whole)
    counts = json.loads(text)["counts"]
    for changed in (
        b"", b"{}", text[:-9], text.replace(b'"v1"', b'"v2"'),
        text.replace(b'"train": %d' % counts["train"], b'"train": %d' % (counts["train"] + 1)),
        re.sub(rb'"frozen_test": ".', b'"frozen_test": "z', text),
        re.sub(rb'"frozen_test": "[0-9a-f]{4}', b'"frozen_test": "abcd', text),
    ):  # fmt: skip
        assert changed != text
        manifest.write_bytes(changed)
        assert names(root) == [("bad-manifest", "dataset/v1/manifest.json", True)]
    manifest.write_bytes(text)
    sums = [f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (train, manifest)]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    assert names(root) == []
    manifest.write_bytes(text.replace(b'"seed": 1', b'"seed": 3'))
    assert names(root) == [("changed-file", "dataset/v1/manifest.json", True)]
    (folder / "SHA256SUMS").write_text("no digest\n", encoding="utf-8")
    assert names(root) == [("bad-digests", "dataset/v1/SHA256SUMS", True)]


def test_checkpoints_and_reports_of_runs(make_workspace):
    root = make_workspace().root
    folder = root / "runs" / "2026-11-24-a" / "checkpoint-5"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    entry = {"sha256": sha256(b"weights").hexdigest(), "bytes": 7}
    manifest = {"version": 1, "step": 5, "files": {"weights.safetensors": entry}, "facts": {"seed": 1}}
    sealed = manifest | {"sha256": sha256(canonical(manifest)).hexdigest()}
    (folder / "MANIFEST.json").write_text(json.dumps(sealed, indent=1), encoding="utf-8")
    (folder.parent / "run.json").write_text('{"version": 1}', encoding="utf-8")
    assert names(root) == []
    (folder / "weights.safetensors").write_bytes(b"weighty")
    assert names(root) == [("changed-file", "runs/2026-11-24-a/checkpoint-5/weights.safetensors", True)]
    (folder / "weights.safetensors").write_bytes(b"weights")
    for changed in (json.dumps(sealed).replace('"seed": 1', '"seed": 2'), "", "[]", '{"sha256": 1}'):
        (folder / "MANIFEST.json").write_text(changed, encoding="utf-8")
        assert ("bad-manifest", "runs/2026-11-24-a/checkpoint-5/MANIFEST.json", True) in names(root)
    (folder / "MANIFEST.json").unlink()
    (folder.parent / "run.json").write_text('{"version": 1', encoding="utf-8")
    assert names(root) == [("bad-report", "runs/2026-11-24-a/run.json", True)]


def test_the_manifest_of_a_checkpoint_is_what_the_trainer_writes():
    """Both sides have their own code for it, because neither may load the other."""
    from curate.project.fsck import CHECKPOINT_FILE
    from train.base.storage import digest_of
    from train.loop import checkpoint

    value = {"b": [1, 2.5, "é"], "a": {"x": None}}
    assert digest_of(value) == sha256(canonical(value)).hexdigest()
    assert checkpoint.MANIFEST == CHECKPOINT_FILE


def test_drafts_remains_and_claims(make_workspace):
    root = make_workspace().root
    drafts = root / ".curate" / "drafts" / "ana"
    drafts.mkdir(parents=True)
    (drafts / "r001.json").write_text('{"id": "r001"}', encoding="utf-8")
    assert names(root) == []
    (drafts / "r002.json").write_bytes(b'{"id": "r0')
    (root / "data" / ".a.jsonl.abcd1234.tmp").write_bytes(b"half")
    (root / FOLDER).mkdir()
    (root / CLAIM).write_text("{}", encoding="utf-8")
    assert names(root) == [
        ("bad-draft", ".curate/drafts/ana/r002.json", True),
        ("remains", "data/.a.jsonl.abcd1234.tmp", False),
        ("claim", CLAIM, False),
    ]


def test_settings_and_record_files(make_workspace):
    root = make_workspace().root
    data = root / "data/a.jsonl"
    whole = data.read_bytes()
    data.write_bytes(whole.replace(b'"r003"', b'"r003', 1))
    (fault,) = check(root).faults
    assert (fault.name, fault.line, fault.is_damage) == ("not-json", 4, True)
    assert whole[: fault.offset].count(b"\n") == 3
    data.write_bytes(whole + b"<<<<<<< HEAD\n")
    assert [(fault.name, fault.line, fault.offset) for fault in check(root).faults] == [
        ("conflict-marker", 61, len(whole))
    ]
    data.write_bytes(whole)
    data.rename(root / "data/b.json")
    assert names(root) == [("missing-file", "curate.toml", True)]
    (root / "curate.toml").write_text("schema = 5\n", encoding="utf-8")
    assert ("bad-settings", "curate.toml", True) in names(root)
    (root / "curate.toml").write_text('data = ["../*"]\n', encoding="utf-8")
    assert ("bad-settings", "curate.toml", True) in names(root)


def test_a_merge_that_is_not_finished(make_workspace):
    root = make_workspace().root

    def git(*words: str, is_refused: bool = False) -> None:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
        assert (done.returncode != 0) == is_refused, done.stderr

    git("init", "-q", "-b", "main")
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        git("config", key, value)
    git("add", ".")
    git("commit", "-qm", "first")
    for branch, word in (("other", b"one"), ("main", b"two")):
        git("checkout", "-q", *(["-b"] if branch == "other" else []), branch)
        data = root / "data/a.jsonl"
        data.write_bytes(data.read_bytes().replace(b"item7 ", b"item" + word + b" ", 1))
        git("commit", "-qam", branch)
    git("merge", "other", is_refused=True)
    assert ("unmerged", "data/a.jsonl", True) in names(root)
    with pytest.raises(cli.CurateError, match="git has a merge to finish"):
        plan_edits(load_data(root))


def test_nothing_of_the_data_reaches_the_terminal_raw(make_workspace, call):
    root = make_workspace().root
    folder = root / FOLDER / "a\x1b]52;c;aGk=\x07na"
    folder.mkdir(parents=True)
    (folder / "x\u202e.log").write_bytes(b"\x1b[2J torn")
    with JournalWriter(root, "e\x1bve") as sitting:
        sitting.append([Drop("\x1b[31mred", reason="x", parents=["1" * 12 + "4" + "1" * 19])])
    for words in ((), ("--format", "json"), ("--recover",)):
        code, out, err = call("fsck", root, *words)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out + err)
        assert code == (0 if "--recover" in words else 1)


@pytest.mark.ci
def test_fsck_loads_nothing_heavy(make_workspace):
    root = decide(make_workspace(), [drop("r001")]).root
    program = (
        "import sys; from curate.cli import cli\n"
        "cli.main(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted({'polars', 'textual', 'numpy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "fsck", str(root)], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "[]"
