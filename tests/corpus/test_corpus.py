"""A workspace that an earlier version made is read, and means the same: what each command says of it is in `expected/`.

The texts were printed by the version that made the workspace. `python tests/corpus/test_corpus.py` prints them anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "expected"
COMMANDS = {
    "validate": "curate validate . --format concise",
    "list": "curate list . --limit 100 --show-values",
    "dropped": "curate list . --where status:dropped --show-values",
    "labels": "curate list . --where label.quality:good --format jsonl --show-values",
    "log": "curate log . --limit 200 --show-values",
    "history": "curate log sd-0010 . --show-values",
    "stats": "curate stats .",
    "agreement": "curate agreement .",
    "dedupe": "curate dedupe .",
    "split": "curate split .",
    "leaks": "curate leaks .",
    "fsck": "curate fsck .",
    "fold": "curate fold . --dry-run",
    "export": "curate export .",
    "undo": "curate undo . --by ana --steps 3 --dry-run",
    "redo": "curate undo . --by ana --redo --dry-run",
    "runs": "curate runs .",
    "report": "curate report --worst 2",
    "scores": "train eval runs/2026-11-27-a",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_says_what_the_version_said_that_made_it(name: str, tmp_path: Path) -> None:
    assert _said(name, tmp_path) == (EXPECTED / f"{name}.txt").read_text(encoding="utf-8")


def test_what_is_settled_is_exported_as_it_was_exported_then(tmp_path: Path) -> None:
    """The same records in the same splits, and the same ones left out for the same reasons, to the byte."""
    root = _copied(tmp_path)
    _call("curate review . --plain --by ana", root, typed="1\nq\n")
    done = _call("curate export .", root)
    assert done.returncode == 0, done.stderr
    for path in sorted((root / "dataset" / "v2").glob("*.jsonl")):
        assert path.read_bytes() == (EXPECTED / "v2" / path.name).read_bytes(), path.name


def test_a_draft_is_taken_up_again(tmp_path: Path) -> None:
    root = _copied(tmp_path)
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import json,sys;p=sys.argv[-1];d=json.load(open(p));d['output']=str(d['output']);json.dump(d,open(p,'w'))"
    )
    done = _call("curate edit sd-0014 . --by ana --json", root, editor=f"{sys.executable} {editor}")
    assert "going on with your draft" in done.stderr
    shown = _call("curate list . --where id:sd-0014 --format jsonl", root).stdout
    assert json.loads(shown)["data"]["output"] == "7"


def _said(name: str, folder: Path) -> str:
    done = _call(COMMANDS[name], _copied(folder))
    text = f"exit {done.returncode}\n{done.stdout}{'-' * 20}\n{done.stderr}"
    # The line where a test set's age is told, and the clock of the machine, are not of the workspace.
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", text)


def _copied(folder: Path) -> Path:
    return Path(shutil.copytree(HERE / "workspace", folder / "workspace"))


def _call(words: str, root: Path, *, typed: str = "", editor: str = "") -> subprocess.CompletedProcess[str]:
    program, *arguments = words.split()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "120", "CURATE_ANNOTATOR": "ana", "VISUAL": editor}
    assert program in ("curate", "train")
    return commands.run(program, *arguments, cwd=root, env=environment, input=typed)


if __name__ == "__main__":
    import tempfile

    EXPECTED.mkdir(exist_ok=True)
    for _name in COMMANDS:
        with tempfile.TemporaryDirectory() as _folder:
            (EXPECTED / f"{_name}.txt").write_text(_said(_name, Path(_folder)), encoding="utf-8")
    with tempfile.TemporaryDirectory() as _folder:
        _root = _copied(Path(_folder))
        _call("curate review . --plain --by ana", _root, typed="1\nq\n")
        _call("curate export .", _root)
        (EXPECTED / "v2").mkdir(exist_ok=True)
        for _path in (_root / "dataset" / "v2").glob("*.jsonl"):
            shutil.copy(_path, EXPECTED / "v2" / _path.name)
