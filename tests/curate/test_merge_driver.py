"""`curate merge-driver` as a command: the set-up, and what it says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from curate.cli import cli
from curate.merge import COMMAND, merge_text, with_attributes
from curate.record import CurateError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["merge-driver", *arguments], standalone_mode=False)


def config(folder: Path) -> str:
    done = subprocess.run(
        ["git", "config", "--local", "--list"], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def test_install_sets_git_up_once(repository: Path) -> None:
    attributes = repository / ".gitattributes"
    attributes.write_bytes(b"*.png binary\n\xff odd\n*.jsonl -text")
    (repository / "curate.toml").write_text('data = ["data/*.jsonl", "more data/*.jsonl"]\n', encoding="utf-8")
    before = config(repository)
    planned = run("--install", str(repository), "--dry-run")
    assert "git config merge.curate-records.driver 'curate merge-driver" in planned.stdout
    assert config(repository) == before
    assert b"curate" not in attributes.read_bytes()
    for _ in range(2):
        assert run("--install", str(repository)).return_value == 0
        assert f"merge.curate-records.driver={COMMAND}\n" in config(repository)
        assert attributes.read_bytes() == (
            b"*.png binary\n\xff odd\n*.jsonl -text\n"
            b'data/*.jsonl merge=curate-records\n"more data/*.jsonl" merge=curate-records\n'
        )
    asked = ["git", "check-attr", "merge", "--", "data/a.jsonl", "more data/a.jsonl", "other/a.jsonl"]
    told = subprocess.run(asked, cwd=repository, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.rpartition(" ")[2] for line in told] == ["curate-records", "curate-records", "unspecified"]


def test_install_tells_what_git_will_do(repository: Path) -> None:
    attributes = repository / ".gitattributes"
    attributes.write_bytes(b"*.jsonl merge=curate-records\r\nold/*.jsonl merge=union\r\nnew.jsonl -merge\r\n")
    before = attributes.read_bytes()
    for name in ("old/a.jsonl", "b.jsonl", "new.jsonl"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(b"{}\n")
    done = run("--install", str(repository))
    assert done.return_value == 1
    assert "but git merges some files in another way: new.jsonl (merge: unset), old/a.jsonl (merge: union)\n" in (
        done.stdout
    )
    assert attributes.read_bytes() == before
    attributes.write_bytes(b"*.jsonl merge=curate-records\n*.jsonl merge=union\n")
    assert "any.jsonl (merge: union)" in run("--install", str(repository)).stdout


def test_install_keeps_line_ends(repository: Path) -> None:
    attributes = repository / ".gitattributes"
    attributes.write_bytes(b"*.png binary\r\n*.txt text")
    done = run("--install", str(repository))
    assert done.return_value == 0
    assert "from now on" in done.stdout
    assert attributes.read_bytes() == b"*.png binary\r\n*.txt text\r\n*.jsonl merge=curate-records\r\n"


def test_the_line_that_dry_run_prints_is_the_one_that_install_writes(repository: Path) -> None:
    for line in run("--install", str(repository), "--dry-run").stdout.splitlines():
        if line.startswith("git config "):
            subprocess.run(["sh", "-c", line], cwd=repository, check=True)
    assert f"merge.curate-records.driver={COMMAND}\n" in config(repository)


def test_install_needs_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    refused = run("--install", str(tmp_path))
    assert isinstance(refused.exception, CurateError)
    assert refused.exception.code == "E966 git-refused"
    assert not (tmp_path / ".gitattributes").exists()
    gone = run("--install", str(tmp_path / "gone"))
    assert isinstance(gone.exception, CurateError)
    assert gone.exception.code == "E904 no-such-file"


def test_init_writes_the_attributes_and_prints_the_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["init", str(tmp_path / "ws")], standalone_mode=False)
    assert "git config merge.curate-records.driver 'curate merge-driver" in done.stderr
    assert "data/*.jsonl merge=curate-records\n" in (tmp_path / "ws/.gitattributes").read_text(encoding="utf-8")


def test_attributes_that_are_there_stay() -> None:
    text = "a\ndata/*.jsonl   merge=curate-records\n"
    assert with_attributes(text, ["data/*.jsonl"]) == text
    assert with_attributes("a", ["b"]) == "a\nb merge=curate-records\n"
    assert with_attributes("", ["b"]) == "b merge=curate-records\n"


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("a", "b", "c", "0"), ("a", "b", "c", "x"), ("a",) * 6])
def test_calls_that_make_no_sense(arguments: tuple[str, ...]) -> None:
    assert isinstance(run(*arguments).exception, click.UsageError)


def versions(folder: Path, *outputs: str) -> list[str]:
    paths = []
    for name, output in zip(("base", "ours", "theirs"), outputs, strict=True):
        path = folder / name
        path.write_text(json.dumps({"id": "r\x1b1", "output": output}) + "\n", encoding="utf-8")
        paths.append(str(path))
    return paths


def test_conflicts_are_told_without_values(tmp_path: Path) -> None:
    paths = versions(tmp_path, "a", "secret one", "secret two")
    done = run(*paths, "3", "data/::x.jsonl")
    assert done.return_value == 1
    assert done.stderr == "data/::x.jsonl: 1 record in conflict: r␛1 (/output)\n"
    # Markers shorter than seven would be none to `curate validate`.
    assert (tmp_path / "ours").read_text(encoding="utf-8").startswith("<<<<<<< ours: r␛1 (/output)\n")


def test_settings_that_cannot_be_read_do_not_stop_a_merge(tmp_path: Path) -> None:
    (tmp_path / "curate.toml").write_text("<<<<<<< ours\n", encoding="utf-8")
    done = run(*versions(tmp_path, "a", "a", "b"), "7", str(tmp_path / "data/a.jsonl"))
    assert done.return_value == 0
    assert "records are told apart by /id" in done.stderr
    assert '"b"' in (tmp_path / "ours").read_text(encoding="utf-8")


def test_a_file_that_is_not_there_leaves_ours_alone(tmp_path: Path) -> None:
    base, ours, _ = versions(tmp_path, "a", "b", "c")
    before = Path(ours).read_bytes()
    assert isinstance(run(base, ours, str(tmp_path / "gone")).exception, FileNotFoundError)
    assert Path(ours).read_bytes() == before


def test_what_cannot_be_merged_as_text_is_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("base", "ours", "theirs")]
    for path in paths:
        path.write_bytes(b"\0" + path.name.encode())
    for _ in range(2):
        with pytest.raises(CurateError) as refused:
            merge_text(*paths)
        assert (refused.value.code, refused.value.exit_code) == ("E965 cannot-merge", 1)
        # And without git at all.
        monkeypatch.setenv("PATH", str(tmp_path))
