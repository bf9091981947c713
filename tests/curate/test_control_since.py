"""`--since`: line findings for lines that git says have changed, cross-record findings that touch one of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from curate.base.record import CurateError, Exit
from curate.checks.runner import CheckPlan, Verdict, changed_lines, validate
from curate.checks.runner.changes import ALL_LINES, LineSet
from curate.schema import load_shape
from curate.schema.settings import CheckSettings, Settings

INSTRUCTION = load_shape("instruction")
pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs the program git")


def git(folder: Path, *question: str) -> None:
    options = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *options, *question], check=True, capture_output=True)


def pair(number: int, **more: Any) -> str:
    return json.dumps({"id": f"r{number}", "instruction": f"What is {number}?", "output": f"It is {number}.", **more})


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit of twenty records, of which every fifth is bad."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "repo"
    write(folder / "data" / "a.jsonl", [pair(n, **({} if n % 5 else {"output": ""})) for n in range(20)])
    git(tmp_path, "init", "-q", "-b", "main", str(folder))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def numbers(path: Path, since: str = "HEAD") -> list[int]:
    changed = changed_lines([path], since)[str(path)]
    return [number for number in range(60) if number in changed]


def check(path: Path, since: str = "HEAD", **options: Any) -> Verdict:
    settings = Settings(checks=CheckSettings(ignore=["P502", "D303"]))
    jobs = options.pop("jobs", 1)
    return validate(
        [path], CheckPlan(INSTRUCTION, settings, changes=changed_lines([path], since), **options), jobs=jobs
    )


def found(verdict: Verdict) -> list[tuple[str, int]]:
    return [(finding.code, finding.line) for finding in verdict.findings]


def test_an_untouched_file_has_no_findings_and_all_its_records(repo: Path) -> None:
    verdict = check(repo / "data" / "a.jsonl")
    assert (verdict.num_records, verdict.num_findings, verdict.num_changed) == (20, 0, 0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_changed_is_checked_committed_or_not(repo: Path, jobs: int) -> None:
    path = repo / "data" / "a.jsonl"
    lines = lines_of(path)
    lines[3] = pair(3, output="")
    lines.insert(8, "{")
    write(path, lines)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "second")
    del lines[0]
    lines[9] = pair(8, output=" ")
    lines.append("")
    write(path, lines)
    assert numbers(path) == [10, 21]
    assert numbers(path, "HEAD~1") == [3, 8, 10, 21]
    # Line 10 was a record of another id, and its new id repeats one.
    assert found(check(path, jobs=jobs)) == [("S104", 10), ("Q201", 10), ("S120", 21)]
    assert found(check(path, "HEAD~1", jobs=jobs)) == [
        ("Q201", 3),
        ("S111", 8),
        ("S104", 10),
        ("Q201", 10),
        ("S120", 21),
    ]


def test_a_cross_record_finding_is_shown_when_either_record_changed(repo: Path) -> None:
    path = repo / "data" / "a.jsonl"
    lines = lines_of(path)
    write(path, [pair(7), *lines[:7], *lines[8:], pair(7), pair(4)])
    git(repo, "commit", "-q", "-a", "-m", "repeats")
    assert found(check(path)) == []
    # The first line stands before what it now repeats, so the finding is shown at a line that has not changed.
    write(path, [pair(3), *lines_of(path)[1:]])
    assert numbers(path) == [1]
    assert found(check(path)) == [("D301", 5), ("S104", 5)]


def test_findings_of_the_whole_set_are_shown(repo: Path) -> None:
    path = repo / "data" / "a.jsonl"
    settings = Settings(checks=CheckSettings(select=["P502"], min_category=100))
    write(path, [pair(n, category="billing") for n in range(3)])
    git(repo, "commit", "-q", "-a", "-m", "few")
    verdict = validate([path], CheckPlan(INSTRUCTION, settings, changes=changed_lines([path], "HEAD")))
    assert [finding.code for finding in verdict.findings] == ["P502"]


def test_untracked_ignored_and_unstaged_files_are_all_new(repo: Path) -> None:
    new = write(repo / "data" / "new.jsonl", [pair(90), pair(91)])
    staged = write(repo / "data" / "staged.jsonl", [pair(92)])
    ignored = write(repo / "data" / "ignored.jsonl", [pair(93)])
    (repo / ".gitignore").write_text("ignored.jsonl\n")
    git(repo, "add", "data/staged.jsonl")
    assert numbers(new)[:3] == [0, 1, 2]
    assert numbers(staged) == [1]
    assert numbers(ignored)[:2] == [0, 1]


def test_a_moved_file_is_not_new(repo: Path) -> None:
    path = repo / "data" / "b.jsonl"
    git(repo, "mv", "data/a.jsonl", "data/b.jsonl")
    assert numbers(path) == []
    write(path, [*lines_of(path), pair(50)])
    assert numbers(path) == [21]


@pytest.mark.parametrize("name", ["ü ö.jsonl", "-x.jsonl", "a\nb.jsonl", 'a"b\\.jsonl', "*.jsonl", ":(top)a.jsonl"])
def test_any_name_of_a_file(repo: Path, name: str) -> None:
    path = write(repo / "data" / name, [pair(30), pair(31)])
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "odd")
    write(path, [pair(30), pair(32), "@@ -1 +40,9 @@", "+@@ -1 +50,9 @@"])
    assert numbers(path) == [2, 3, 4]


def test_attributes_and_configuration_change_nothing(repo: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = repo / "data" / "a.jsonl"
    (repo / ".gitattributes").write_text("*.jsonl binary diff=own\n")
    for key, value in {
        "diff.own.textconv": f"touch {marker}; cat", "diff.own.command": f"touch {marker}",
        "diff.external": f"touch {marker}; cat", "core.fsmonitor": f"touch {marker}", "diff.noprefix": "true",
        "diff.context": "9", "diff.interHunkContext": "9", "color.ui": "always", "diff.relative": "true",
        "diff.renames": "false", "core.pager": f"touch {marker}; cat",
    }.items():  # fmt: skip
        git(repo, "config", key, value)
    marker.unlink(missing_ok=True)
    lines = lines_of(path)
    lines[1], lines[4] = pair(40), pair(41)
    write(path, lines)
    assert numbers(path) == [2, 5]
    assert not marker.exists()


def test_lines_that_git_keeps_in_another_form_are_all_checked(repo: Path, tmp_path: Path) -> None:
    path, marker = repo / "data" / "a.jsonl", tmp_path / "ran"
    (repo / ".gitattributes").write_text("*.jsonl filter=far\n")
    git(repo, "config", "filter.far.clean", f"touch {marker}; sha256sum")
    git(repo, "config", "filter.far.smudge", "cat")
    git(repo, "commit", "-q", "-a", "--allow-empty", "-m", "filtered")
    write(path, [*lines_of(path), pair(50)])
    marker.unlink(missing_ok=True)
    assert changed_lines([path], "HEAD")[str(path)] is ALL_LINES
    # Nor is the program run for it that the repository names.
    assert not marker.exists()


def test_a_link_follows_its_file(repo: Path) -> None:
    link = repo / "link.jsonl"
    link.symlink_to("data/a.jsonl")
    assert changed_lines([link], "HEAD")[str(link)] is ALL_LINES
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "link")
    assert numbers(link) == []
    write(repo / "data" / "a.jsonl", [*lines_of(link), pair(50)])
    assert numbers(link) == [21]


def test_a_hook_sets_variables_that_lead_away(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = repo / "data" / "a.jsonl"
    write(path, [*lines_of(path), pair(50)])
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    assert numbers(path) == [21]


@pytest.mark.parametrize("since", ["-x", "--output=x", "nope", "", "HEAD~9", "HEAD:data", "a\0b", "HEAD\n"])
def test_what_is_no_commit_is_refused(repo: Path, since: str) -> None:
    with pytest.raises(CurateError) as caught:
        changed_lines([repo / "data" / "a.jsonl"], since)
    assert (caught.value.code, caught.value.exit_code) == ("E957 bad-revision", Exit.USAGE)
    assert sorted(path.name for path in repo.iterdir()) == [".git", "data"]


def test_outside_a_repository_and_without_git(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(CurateError) as caught:
        changed_lines([write(tmp_path / "c.jsonl", [pair(1)])], "HEAD")
    assert caught.value.code == "E957 bad-revision"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CurateError) as caught:
        changed_lines([repo / "data" / "a.jsonl"], "HEAD")
    assert (caught.value.code, caught.value.exit_code) == ("E957 bad-revision", Exit.MISSING)


def test_a_set_of_lines_agrees_with_a_plain_one() -> None:
    chance = random.Random(3)
    for _ in range(200):
        plain: set[int] = set()
        ranges, start = [], 1
        for _ in range(chance.randrange(5)):
            start += chance.randrange(1, 4)
            number = chance.randrange(4)
            ranges.append((start, number))
            plain |= set(range(start, start + number))
            start += number
        lines = LineSet(ranges)
        assert {number for number in range(40) if number in lines} == plain
        assert bool(lines) == bool(plain)
