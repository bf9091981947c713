"""`curate doctor` on the damage of a workspace, and the files beyond the journal that it looks at."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from curate import cli
from curate.base.events import Decision, Drop
from curate.project.data import load_data
from curate.project.integrity import check
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


def names(root: Path) -> list[tuple[str, str]]:
    return [(fault.name, fault.file) for fault in check(root)]


def drop(name: str) -> Decision:
    return Drop(name, reason="wrong")


def test_a_sound_workspace(make_workspace, call):
    workspace = decide(make_workspace(), [drop("r002")])
    export_dataset(workspace)
    code, out, err = call("doctor", workspace.root)
    assert (code, err) == (0, "")
    assert "no damage" in out


def test_damage_is_told_with_place_and_remedy_until_it_is_recovered(make_workspace, call):
    root = decide(make_workspace(), [drop("r001"), drop("r002")]).root
    (path,) = segments(root)
    path.write_bytes(path.read_bytes() + b"torn")
    place = path.stat().st_size - 4
    code, out, _ = call("doctor", root, "--json")
    assert code == 1
    (sign,) = [sign for sign in json.loads(out) if sign["state"] == "damage"]
    assert sign["found"].startswith(f"journal/{path.parent.name}/{path.name}:3 (byte {place:,}): torn-end: ")
    assert f"{path.name}.torn" in sign["advice"]
    assert f"{path.name}:3" in call("doctor", root)[1]
    code, out, _ = call("doctor", root, "--recover")
    assert (code, "no damage" in out) == (0, True)
    assert path.with_name(f"{path.name}.torn").read_bytes() == b"torn"
    assert call("doctor", root)[0] == 0


def test_datasets(make_workspace):
    root = make_workspace().root
    folder = export_dataset(load_data(root))[0].path
    train, manifest = folder / "train.jsonl", folder / "manifest.json"
    whole, text = train.read_bytes(), manifest.read_bytes()
    assert names(root) == []
    train.write_bytes(whole.replace(b"apart", b"apert", 1))
    assert names(root) == [("changed-file", "dataset/v1/train.jsonl")]
    train.unlink()
    assert names(root) == [("changed-file", "dataset/v1/train.jsonl")]
    train.write_bytes(whole)
    for changed in (b"", b"{}", text[:-9]):
        manifest.write_bytes(changed)
        assert names(root) == [("bad-manifest", "dataset/v1/manifest.json")]


def test_reports_of_runs(make_workspace):
    root = make_workspace().root
    folder = root / "runs" / "2026-11-24-a"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"version": 1', encoding="utf-8")
    assert names(root) == [("bad-report", "runs/2026-11-24-a/run.json")]


def test_nothing_of_the_data_reaches_the_terminal_raw(make_workspace, call):
    root = make_workspace().root
    folder = root / FOLDER / "a\x1b]52;c;aGk=\x07na"
    folder.mkdir(parents=True)
    (folder / "x\u202e.log").write_bytes(b"\x1b[2J torn")
    with JournalWriter(root, "e\x1bve") as sitting:
        sitting.append([Drop("\x1b[31mred", reason="x", parents=["1" * 12 + "4" + "1" * 19])])
    for words in ((), ("--json",), ("--recover",)):
        code, out, err = call("doctor", root, *words)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out + err)
        assert code == (0 if "--recover" in words else 1)
