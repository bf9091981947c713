"""The merge driver where it works: in real repositories, with `curate` at hand, missing and broken."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from curate.merge import COMMAND, unmerged_findings, with_attributes
from curate.record import CurateError
from curate.workspace import open_workspace

BADINPUTS = Path(__file__).resolve().parents[2].parent / "shared" / "badinputs"
MANIFEST = BADINPUTS / "MANIFEST.jsonl"
ALL = [json.loads(text) for text in MANIFEST.read_text(encoding="utf-8").splitlines()] if MANIFEST.is_file() else []
CASES = [case for case in ALL if case["stage"] == "merge" and "dir" in case]

Lines = list[dict[str, Any]]
SIX: Lines = [{"id": f"r{n}", "instruction": f"Q{n}?", "output": f"A{n}.", "category": "general"} for n in range(1, 7)]


def changed(lines: Lines, name: str, **fields: Any) -> Lines:
    return [{**one, **fields} if one["id"] == name else one for one in lines]


def without(lines: Lines, name: str) -> Lines:
    return [one for one in lines if one["id"] != name]


def spelled(lines: Lines) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


class Repository:
    """A repository with one file of records, set up for the driver; `path` says which programs it finds."""

    def __init__(self, folder: Path, path: Path, file: str = "data/a.jsonl") -> None:
        self.folder = folder
        self.file = folder / file
        self.file.parent.mkdir(parents=True)
        home = {"HOME": str(folder.parent), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        self.environment = {"PATH": str(path), "LC_ALL": "C.UTF-8", **home}
        self.git("init", "-q", "-b", "main")
        for key, value in (("user.name", "t"), ("user.email", "t@example.org"), ("gc.auto", "0")):
            self.git("config", key, value)
        self.git("config", "merge.curate-records.driver", COMMAND)
        (folder / ".gitattributes").write_text(with_attributes("", ["data/*.jsonl"]), encoding="utf-8")

    def git(self, *words: str, is_refused: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode != 0) == is_refused, done.stdout + done.stderr
        return done

    def commit(self, content: bytes, *, on: str = "") -> None:
        if on:
            self.git("checkout", "-q", *(["-B", on, "start"] if on != "main" else [on]))
        self.file.write_bytes(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")

    def diverge(self, base: bytes, ours: bytes, theirs: bytes) -> None:
        """Commit ``base``, then ``theirs`` on a branch and ``ours`` on main."""
        self.commit(base)
        self.git("branch", "-f", "start")
        self.commit(theirs, on="theirs")
        self.commit(ours, on="main")

    def merge(self) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", "merge", "-q", "--no-edit", "theirs"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done

    def records(self) -> Lines:
        return [json.loads(text) for text in self.file.read_bytes().splitlines()]

    def is_unmerged(self) -> bool:
        return bool(self.git("ls-files", "-u").stdout)


@pytest.fixture
def tools(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a folder of programs: those that git needs, and ``curate`` as it is told."""

    def make(curate: str | None) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("git", "sh", "grep", "env", "cat"):
            found = shutil.which(name)
            assert found, f"the tests need {name}"
            (folder / name).symlink_to(found)
        if curate is not None:
            (folder / "curate").write_text(f"#!/bin/sh\n{curate}\n", encoding="utf-8")
            (folder / "curate").chmod(0o755)
        return folder

    return make


WHOLE = f'exec {sys.executable} -m curate "$@"'


@pytest.fixture
def repository(tmp_path: Path, tools: Callable[..., Path]) -> Repository:
    return Repository(tmp_path / "repo", tools(WHOLE))


@pytest.mark.skipif(not CASES, reason="needs ../shared/badinputs, which is not here")
def test_all_cases_are_here() -> None:
    assert len(CASES) == len(MEANT) == 9


# Seven of the published cases are three equal files: their edits name a record r2, and the files have r0002. They must
# come out as they are; what they mean is made here, under the names that the files have.
NINE = {**SIX[0], "id": "r9"}
MEANT: dict[str, tuple[Lines, Lines, Lines | None]] = {
    "adjacent_records": (
        changed(SIX, "r2", output="x"),
        changed(SIX, "r3", output="y"),
        changed(changed(SIX, "r2", output="x"), "r3", output="y"),
    ),
    "same_record_two_fields": (
        changed(SIX, "r2", output="x"),
        changed(SIX, "r2", instruction="y"),
        changed(SIX, "r2", output="x", instruction="y"),
    ),
    "same_field": (changed(SIX, "r2", output="x"), changed(SIX, "r2", output="y"), None),
    "same_field_same_value": (
        changed(SIX, "r2", output="x"),
        changed(SIX, "r2", output="x"),
        changed(SIX, "r2", output="x"),
    ),
    "delete_vs_edit": (without(SIX, "r2"), changed(SIX, "r2", output="y"), None),
    "delete_both": (without(SIX, "r2"), without(SIX, "r2"), without(SIX, "r2")),
    "add_both_same_id": ([*SIX, {**NINE, "output": "A"}], [*SIX, {**NINE, "output": "B"}], None),
    "add_both_different": ([*SIX, {**NINE, "id": "r8"}], [*SIX, NINE], [*SIX, {**NINE, "id": "r8"}, NINE]),
    "reorder_vs_edit": (SIX[::-1], changed(SIX, "r2", output="y"), changed(SIX[::-1], "r2", output="y")),
}


@pytest.mark.parametrize("name", sorted(MEANT))
def test_what_the_cases_mean(name: str, repository: Repository) -> None:
    ours, theirs, expected = MEANT[name]
    repository.diverge(spelled(SIX), spelled(ours), spelled(theirs))
    done = repository.merge()
    if expected is not None:
        assert done.returncode == 0, done.stderr
        assert repository.file.read_bytes() == spelled(expected)
        return
    assert done.returncode == 1
    assert repository.is_unmerged()
    content = repository.file.read_bytes()
    assert content.count(b"<<<<<<< ours: ") == content.count(b"\n>>>>>>> theirs\n") == 1
    for side in (ours, theirs):
        for one in side:
            assert json.dumps(one).encode() in content, "a side was lost"


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
def test_the_cases_as_they_lie(case: dict[str, Any], repository: Repository) -> None:
    folder = BADINPUTS / case["dir"]
    base, ours, theirs = ((folder / f"{side}.jsonl").read_bytes() for side in ("base", "ours", "theirs"))
    repository.diverge(base, ours, theirs)
    done = repository.merge()
    if case["expect"] == "conflict" and not base == ours == theirs:
        assert done.returncode == 1
        marked = repository.file.read_text(encoding="utf-8")
        for name, field in case["conflicts"]:
            assert f"<<<<<<< ours: {name} ({'deleted' if field == '*' else '/' + field}" in marked
        return
    assert done.returncode == 0
    expected = folder / "expected.jsonl"
    wanted = (expected if expected.is_file() else folder / "base.jsonl").read_bytes()
    if case["id"] == "merge.reorder_vs_edit":
        # Order carries no meaning; it is ours.
        assert sorted(repository.file.read_bytes().splitlines()) == sorted(wanted.splitlines())
    else:
        assert repository.file.read_bytes() == wanted


def test_a_thousand_edits_on_each_side(repository: Repository) -> None:
    rng = random.Random(1)
    base = [{"id": f"r{n:05}", "instruction": f"Q{n}?", "output": f"A{n}.", "category": "a"} for n in range(2000)]
    pairs = rng.sample([(n, field) for n in range(2000) for field in ("instruction", "output", "category")], 2000)
    sides = [[dict(one) for one in base] for _ in range(3)]
    for place, (number, field) in enumerate(pairs):
        for side in (sides[place % 2], sides[2]):
            side[number][field] = f"edit {place}"
    repository.diverge(spelled(base), spelled(sides[0]), spelled(sides[1]))
    done = repository.merge()
    assert done.returncode == 0, done.stderr
    assert repository.records() == sides[2]


BROKEN: Mapping[str, str | None] = {
    "missing": None,
    "a traceback": 'echo "Traceback" >/dev/null; exit 1',
    "a refusal": "exit 2",
    "not runnable": "exit 126",
    "killed": "kill -9 $$",
}


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_without_a_curate_that_works_the_text_is_merged(how: str, tmp_path: Path, tools: Callable[..., Path]) -> None:
    far = changed(changed(SIX, "r1", output="x"), "r6", output="y")
    repository = Repository(tmp_path / "repo", tools(BROKEN[how]))
    repository.diverge(spelled(SIX), spelled(changed(SIX, "r1", output="x")), spelled(changed(SIX, "r6", output="y")))
    assert repository.merge().returncode == 0
    assert repository.records() == far
    near = Repository(tmp_path / "near", tmp_path / "bin")
    sides = spelled(changed(SIX, "r2", output="x")), spelled(changed(SIX, "r2", instruction="y"))
    near.diverge(spelled(SIX), *sides)
    assert near.merge().returncode == 1
    assert near.is_unmerged()
    content = near.file.read_bytes()
    assert b"<<<<<<< " in content
    assert all(side.splitlines()[1] in content for side in sides), "a side was lost without a word"


def test_files_that_are_no_records_are_merged_as_text(repository: Repository) -> None:
    broken = spelled(SIX).replace(b'{"id": "r6"', b'{"id": "r6')
    repository.diverge(broken, spelled(changed(SIX, "r1", output="x")).replace(b'{"id": "r6"', b'{"id": "r6'), broken)
    repository.git("checkout", "-q", "theirs")
    repository.commit(broken.replace(b"A5.", b"new"))
    repository.git("checkout", "-q", "main")
    done = repository.merge()
    assert done.returncode == 0
    assert "merged as text" in done.stderr
    assert "line 6: S101" in done.stderr
    assert repository.file.read_bytes().count(b"new") == repository.file.read_bytes().count(b'"x"') == 1


def test_rebase_and_cherry_pick_and_stash_use_it_too(repository: Repository) -> None:
    ours, theirs = changed(SIX, "r2", output="x"), changed(SIX, "r2", instruction="y")
    both = changed(SIX, "r2", output="x", instruction="y")
    repository.diverge(spelled(SIX), spelled(ours), spelled(theirs))
    repository.git("cherry-pick", "theirs")
    assert repository.records() == both
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.git("checkout", "-q", "theirs")
    repository.git("rebase", "-q", "main")
    assert repository.records() == both
    repository.git("checkout", "-q", "main")
    repository.file.write_bytes(spelled(changed(ours, "r2", category="z")))
    repository.git("stash", "-q")
    repository.git("merge", "-q", "theirs")
    repository.git("stash", "pop", "-q")
    assert repository.records() == changed(both, "r2", category="z")


def test_histories_that_have_crossed(repository: Repository) -> None:
    ours, theirs = changed(SIX, "r2", output="x"), changed(SIX, "r2", output="y")
    repository.diverge(spelled(SIX), spelled(ours), spelled(theirs))
    repository.git("tag", "main1", "main")
    repository.git("tag", "theirs1", "theirs")
    for branch, other in (("main", "theirs1"), ("theirs", "main1")):
        repository.git("checkout", "-q", branch)
        repository.git("merge", "-q", "--no-edit", other, is_refused=True)
        resolved = changed(SIX, "r2", output="both")
        repository.commit(spelled(changed(resolved, "r5" if branch == "main" else "r6", output=branch)))
    repository.git("checkout", "-q", "main")
    done = repository.merge()
    assert done.returncode == 0, done.stderr
    assert repository.records() == changed(
        changed(changed(SIX, "r2", output="both"), "r5", output="main"), "r6", output="theirs"
    )


def test_a_file_with_an_odd_name(tmp_path: Path, tools: Callable[..., Path]) -> None:
    name = "data/it's; touch pwned $(touch pwned) `x` ü.jsonl"
    repository = Repository(tmp_path / "repo", tools(WHOLE), name)
    repository.diverge(
        spelled(SIX), spelled(changed(SIX, "r2", output="x")), spelled(changed(SIX, "r2", instruction="y"))
    )
    assert repository.merge().returncode == 0
    assert repository.records() == changed(SIX, "r2", output="x", instruction="y")
    assert not (repository.folder / "pwned").exists()


def test_an_unfinished_merge_is_found_and_not_exported(repository: Repository) -> None:
    from curate.workspace.publish import require_clean

    # What is left where the configured command cannot be run: our side alone, and not a marker.
    repository.git("config", "merge.curate-records.driver", "no-such-program %O %A %B")
    (repository.folder / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    ours = changed(SIX, "r2", output="x")
    repository.diverge(spelled(SIX), spelled(ours), spelled(changed(SIX, "r3", output="y")))
    assert repository.merge().returncode == 1
    assert repository.file.read_bytes() == spelled(ours)
    link = repository.folder.parent / "link"
    link.symlink_to(repository.folder)
    for root in (repository.folder, link):
        found = unmerged_findings([root / "data/a.jsonl"], root)
        assert [(one.code, one.name, one.severity) for one in found] == [("S129", "unmerged-path", "error")]
        assert [one.file for one in found] == [str(root / "data/a.jsonl")]
        assert unmerged_findings([root / "data/a.jsonl"], None)
    with pytest.raises(CurateError) as refused:
        require_clean(open_workspace(repository.folder).verdict())
    assert refused.value.code == "E907 dirty-data"
    assert "S129 unmerged-path x1" in refused.value.message
    repository.git("add", "-A")
    assert not unmerged_findings([repository.file], repository.folder)
    assert not open_workspace(repository.folder).verdict().num_errors


def test_without_git_nothing_is_unmerged(tmp_path: Path, repository: Repository, monkeypatch: Any) -> None:
    loose = tmp_path / "loose.jsonl"
    loose.write_bytes(spelled(SIX))
    assert unmerged_findings([loose], None) == []
    repository.diverge(spelled(SIX), spelled(without(SIX, "r2")), spelled(changed(SIX, "r2", output="x")))
    assert repository.merge().returncode == 1
    assert len(unmerged_findings([repository.file], None)) == 1
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert unmerged_findings([repository.file], None) == []
