"""Files of a workspace that are no files: pipes, devices, folders, links and floods end no command in a wait.

Each command runs in a process of its own with a limit on time and memory, so that a hang is a failure of one test.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import commands

_SECONDS = 60
_BYTES = 8 << 30
SETTINGS = """[split]
seed = 1
[checks]
baseline = "baseline.json"
[label]
gold = "gold.jsonl"
guide = "guide.md"
"""


def curate(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command within a workspace, bounded in time and memory."""
    environment = {**os.environ, "CURATE_ANNOTATOR": "ana", "COLUMNS": "300"}
    return commands.run("curate", *words, cwd=root, env=environment, timeout=_SECONDS, memory=_BYTES)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with every kind of file: frozen test set, dataset, open journal, and a run."""
    root = tmp_path_factory.mktemp("template") / "ws"
    (root / "data").mkdir(parents=True)
    lines = [
        {"id": f"r{n:02}", "instruction": f"Tell item{n} from thing{n * 7} and part{n * 13} today.",
         "output": f"answer{n} says that stuff{n * 3} differs{n} a lot{n * 5}.", "category": "ab"[n % 2]}
        for n in range(40)
    ]  # fmt: skip
    (root / "data/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (root / "curate.toml").write_text(SETTINGS, encoding="utf-8")
    (root / "baseline.json").write_text('{"version": 1, "entries": []}', encoding="utf-8")
    (root / "guide.md").write_text("# Guide\n", encoding="utf-8")
    (root / "gold.jsonl").write_text('{"id": "r01", "question": "category", "value": "a"}\n', encoding="utf-8")
    for words in (("split", ".", "--freeze", "--apply"), ("export", ".")):
        done = curate(root, *words)
        assert done.returncode == 0, done.stderr
    run = root / "runs/a"
    (run / "checkpoint-1").mkdir(parents=True)
    digest = hashlib.sha256((root / "dataset/v1/manifest.json").read_bytes()).hexdigest()
    about = {"version": 1, "status": "finished", "dataset": {"name": "v1", "sha256": digest, "path": "dataset/v1"}}
    (run / "run.json").write_text(json.dumps(about), encoding="utf-8")
    for name in ("feedback.jsonl", "metrics.jsonl"):
        (run / name).write_bytes(b"")
    (run / "checkpoint-1/MANIFEST.json").write_text("{}", encoding="utf-8")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path, make_report: Callable[[str], dict[str, Any]]) -> Path:
    """A workspace of the test's own."""
    root = Path(shutil.copytree(template, tmp_path / "ws"))
    digest = json.loads((root / "runs/a/run.json").read_bytes())["dataset"]["sha256"]
    (root / "runs/a/report.json").write_text(json.dumps(make_report(digest)), encoding="utf-8")
    return root


def spoil(path: Path, kind: str, elsewhere: Path) -> None:
    """Put something else in the place of a file; ``elsewhere`` is a folder outside of the workspace."""
    content = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "outside":
        (elsewhere / path.name).write_bytes(content)
        path.symlink_to(elsewhere / path.name)
    else:
        assert kind == "flood"
        with path.open("wb") as file:
            file.truncate(40 << 30)


# What each verb reads that one would not think of, and what it says of a pipe there.
PIPES = [
    (("export", "."), "golden.json", "E975"),
    (("split", "."), "golden.json", "E975"),
    (("export", "."), "dataset/v1/manifest.json", "E915"),
    (("split", "."), "dataset/v1/manifest.json", "E915"),
    (("export", "."), "dataset/v1/train.jsonl", "E911"),
    (("report", "--workspace", "."), "dataset/v1/manifest.json", "E946"),
    (("report", "--workspace", "."), "runs/a/report.json", "E918"),
    (("validate", "."), "baseline.json", "E904"),
    (("agreement", "."), "gold.jsonl", "E902"),
]


@pytest.mark.ci
@pytest.mark.parametrize(("words", "name", "code"), PIPES, ids=[f"{words[0]} {name}" for words, name, _ in PIPES])
def test_a_pipe_makes_no_verb_wait(root: Path, tmp_path: Path, words: tuple[str, ...], name: str, code: str) -> None:
    spoil(root / name, "pipe", tmp_path)
    done = curate(root, *words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"error[{code} " in done.stderr
    assert "a pipe, not a regular file" in done.stderr
    assert "Put a regular file in its place" in done.stderr
    assert Path(name).name in done.stderr


def test_doctor_tells_of_every_pipe_and_goes_on(root: Path, tmp_path: Path) -> None:
    names = [
        "dataset/v1/manifest.json", "runs/a/run.json", "runs/a/report.json", "curate.toml",
    ]  # fmt: skip
    for name in names:
        spoil(root / name, "pipe", tmp_path)
    done = curate(root, "doctor", ".")
    assert done.returncode == 1, done.stderr
    for name in names:
        assert name in done.stdout, name


def test_doctor_holds_a_pipe_of_a_dataset_for_no_file(root: Path, tmp_path: Path) -> None:
    spoil(root / "dataset/v1/test.jsonl", "pipe", tmp_path)
    done = curate(root, "doctor", ".")
    assert done.returncode == 1
    assert "dataset/v1/test.jsonl: changed-file: " in " ".join(done.stdout.split())


def test_runs_are_listed_beside_a_pipe(root: Path, tmp_path: Path) -> None:
    for name in ("run.json", "metrics.jsonl", "report.json"):
        spoil(root / "runs/a" / name, "pipe", tmp_path)
    done = curate(root, "runs", ".")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a ")


KINDS = {
    "pipe": "a pipe, not a regular file",
    "folder": "a folder, not a regular file",
    "device": "a link that leads out of the project",
    "loop": "the path cannot be followed",
    "outside": "a link that leads out of the project",
    "flood": "more than the 1,073,741,824 that are read",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_manifest_is_instead_is_said(root: Path, tmp_path: Path, kind: str) -> None:
    spoil(root / "dataset/v1/manifest.json", kind, tmp_path)
    done = curate(root, "export", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[E915 bad-manifest]: " in done.stderr
    assert KINDS[kind] in done.stderr
    assert "\n  help: " in done.stderr


def test_a_flood_of_settings_is_refused_unread(root: Path, tmp_path: Path) -> None:
    spoil(root / "curate.toml", "flood", tmp_path)
    done = curate(root, "validate", ".")
    assert done.returncode == 2
    assert "error[E902 bad-settings]" in done.stderr
    assert "42,949,672,960 bytes, more than the 1,048,576 that are read" in done.stderr


# One rule for the journal: what leads out of the workspace is refused alike by all.
READERS = [(verb, ".") for verb in ("validate", "list", "log", "export", "undo", "apply-edits")]


@pytest.mark.ci
@pytest.mark.parametrize("words", READERS, ids=[words[0] for words in READERS])
@pytest.mark.parametrize("target", ["journal", "/dev/full", "loop"])
def test_a_journal_that_leads_out_is_refused_alike(
    root: Path, tmp_path: Path, words: tuple[str, ...], target: str
) -> None:
    shutil.move(root / "journal", tmp_path / "journal")
    (root / "journal").symlink_to({"journal": tmp_path / "journal", "loop": "journal"}.get(target, target))
    done = curate(root, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[E914 outside-workspace]" in done.stderr


def test_an_annotator_who_leads_out_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "journal").mkdir(exist_ok=True)
    (tmp_path / "eve").mkdir()
    (tmp_path / "eve/0.log").write_bytes(b"")
    (root / "journal/eve").symlink_to(tmp_path / "eve")
    done = curate(root, "list", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[E980 bad-segment]" in done.stderr
    assert "a link that leads out of the project" in done.stderr


def test_a_journal_that_is_a_file_is_refused(root: Path) -> None:
    shutil.rmtree(root / "journal")
    (root / "journal").write_bytes(b"")
    done = curate(root, "list", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[E980 bad-segment]" in done.stderr


@pytest.mark.parametrize("kind", ["loop", "missing"])
def test_doctor_finds_where_the_data_leads_nowhere(root: Path, kind: str) -> None:
    shutil.rmtree(root / "data")
    (root / "data").symlink_to("data" if kind == "loop" else "nothing")
    done = curate(root, "doctor", ".")
    assert done.returncode == 3
    assert "PROBLEM workspace" in done.stdout


@pytest.mark.ci
def test_an_arrow_folder_with_a_pipe_is_refused(root: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra [hub] is not installed")
    saved = tmp_path / "saved"
    datasets.Dataset.from_list([{"instruction": "Say it.", "output": "It."}]).save_to_disk(str(saved))
    (arrow,) = saved.glob("*.arrow")
    spoil(arrow, "pipe", tmp_path)
    done = curate(root, "import", str(saved))
    assert done.returncode == 2
    assert "error[E908 cannot-import]" in done.stderr
    assert "not a regular file" in done.stderr
    assert not (root / "data/saved.jsonl").exists()


def test_a_socket_is_named(root: Path) -> None:
    path = root / "golden.json"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        parent = os.open(root, os.O_RDONLY)
        try:
            # The path of a socket has at most 107 bytes.
            listener.bind(f"/proc/self/fd/{parent}/golden.json")
        finally:
            os.close(parent)
        done = curate(root, "split", ".")
    assert done.returncode == 2
    assert "a socket, not a regular file" in done.stderr
