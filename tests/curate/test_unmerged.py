"""Paths that git has not merged: `validate` refuses them, whatever the file holds; and what an old set-up leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.record import CurateError
from curate.checks.runner.changes import unmerged_findings
from curate.cli import cli
from curate.project.data import load_data
from curate.project.publish import require_clean
from curate.project.validation import validate_data

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs the program git")
LINES = [{"id": f"r{n}", "instruction": f"Q{n}?", "output": f"A{n}.", "category": "general"} for n in range(1, 7)]
# What versions with a merge driver wrote into .gitattributes, and into the configuration of a clone.
ATTRIBUTES = "data/*.jsonl merge=curate-records\n"
DRIVER = (
    "curate merge-driver -- %O %A %B %L %P || "
    'if grep -q "^<<<<<<<" %A; then false; else git merge-file --marker-size=%L %A %O %B; fi'
)


def changed(name: str, **fields: str) -> bytes:
    return b"".join(json.dumps({**one, **fields} if one["id"] == name else one).encode() + b"\n" for one in LINES)


class Repository:
    """A workspace in git whose one file of records two branches change."""

    def __init__(self, folder: Path, path: str) -> None:
        self.folder, self.file = folder, folder / "data/a.jsonl"
        self.file.parent.mkdir(parents=True)
        (folder / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
        self._environment = {"PATH": path, "HOME": str(folder.parent), "LC_ALL": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1"}
        self.git("init", "-q", "-b", "main")
        for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
            self.git("config", key, value)

    def git(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", *words], cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    def merge(self, ours: bytes | None, theirs: bytes, *, code: int) -> subprocess.CompletedProcess[str]:
        """Commit what both sides make of the file, None where it is deleted, and merge theirs into ours."""
        self.commit(changed(""))
        self.git("checkout", "-q", "-b", "theirs")
        self.commit(theirs)
        self.git("checkout", "-q", "main")
        self.commit(ours)
        return self.git("merge", "-q", "--no-edit", "theirs", code=code)

    def commit(self, content: bytes | None) -> None:
        if content is None:
            self.file.unlink()
        else:
            self.file.write_bytes(content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo", os.environ["PATH"])


def validated(folder: Path) -> Result:
    return CliRunner().invoke(cli, ["validate", str(folder)], standalone_mode=False)


def test_an_unmerged_path_without_a_marker_is_refused_and_not_exported(repository: Repository) -> None:
    # Deleted here and changed there: git leaves their side alone, and not a marker.
    repository.merge(None, changed("r3", output="y"), code=1)
    assert repository.file.read_bytes() == changed("r3", output="y")
    link = repository.folder.parent / "link"
    link.symlink_to(repository.folder)
    for root in (repository.folder, link):
        found = unmerged_findings([root / "data/a.jsonl"], root)
        assert [(one.code, one.name, one.severity) for one in found] == [("S129", "unmerged-path", "error")]
        assert [one.file for one in found] == [str(root / "data/a.jsonl")]
        assert unmerged_findings([root / "data/a.jsonl"], None)
    done = validated(repository.folder)
    assert done.return_value == 1
    assert "S129" in done.stdout
    with pytest.raises(CurateError) as refused:
        require_clean(validate_data(load_data(repository.folder)))
    assert refused.value.code == "E907 dirty-data"
    assert "S129 unmerged-path x1" in refused.value.message
    repository.git("add", "-A")
    assert not unmerged_findings([repository.file], repository.folder)
    assert validated(repository.folder).return_value == 0


def test_markers_between_two_sides_are_refused_also_once_they_are_added(repository: Repository) -> None:
    repository.merge(changed("r2", output="x"), changed("r2", output="y"), code=1)
    done = validated(repository.folder)
    assert done.return_value == 1
    assert "S113" in done.stdout
    assert "S129" in done.stdout
    repository.git("add", "-A")
    done = validated(repository.folder)
    assert done.return_value == 1
    assert "S113" in done.stdout
    assert "S129" not in done.stdout


def test_without_git_nothing_is_unmerged(tmp_path: Path, repository: Repository, monkeypatch: Any) -> None:
    loose = tmp_path / "loose.jsonl"
    loose.write_bytes(changed(""))
    assert unmerged_findings([loose], None) == []
    repository.merge(None, changed("r2", output="x"), code=1)
    assert len(unmerged_findings([repository.file], None)) == 1
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert unmerged_findings([repository.file], None) == []


@pytest.fixture
def set_up_once(tmp_path: Path) -> Repository:
    """A clone that an earlier version set up for its merge driver, with the `curate` of today."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "curate").write_text(f'#!/bin/sh\nexec {sys.executable} -m curate "$@"\n', encoding="utf-8")
    (programs / "curate").chmod(0o755)
    repository = Repository(tmp_path / "repo", f"{programs}:{os.environ['PATH']}")
    repository.git("config", "merge.curate-records.driver", DRIVER)
    (repository.folder / ".gitattributes").write_text(ATTRIBUTES, encoding="utf-8")
    return repository


def test_a_conflict_under_an_old_set_up_keeps_both_sides(set_up_once: Repository) -> None:
    set_up_once.merge(changed("r2", output="x"), changed("r2", output="y"), code=1)
    content = set_up_once.file.read_bytes()
    for side in (b'"output": "x"', b'"output": "y"', b"<<<<<<<", b">>>>>>>"):
        assert content.count(side) == 1
    assert validated(set_up_once.folder).return_value == 1
