"""Decisions are only ever added: record files stay as they are, and whatever was decided can be taken back tomorrow.

The journal of each person is files of their own, so that in git decisions never conflict.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.promises import outside
from tests.promises.outside import Row


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return outside.make_workspace(tmp_path / "ws", outside.rows_on("a", 20) + outside.rows_on("b", 20))


def answers_to(count: int) -> str:
    """Return what somebody types who answers so many questions, each in a way that can be told from its neighbours'."""
    chance = random.Random(7)
    return "".join(chance.choice("12") + "\n" for _ in range(count))


def events_of(workspace: Path, by: str) -> list[Row]:
    words = ["log", workspace, "--by", by, "--format", "jsonl", "--show-values", "--limit", 100_000]
    return [json.loads(line)["decision"] for line in outside.succeed(outside.curate(*words)).splitlines()]


def state_of(workspace: Path) -> str:
    return outside.succeed(outside.curate("list", workspace, "--status", "all", "--format", "jsonl"))


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


ACTS = [
    (["label", "--plain", "--all"], "2\nq\n"),
    (["drop", "--where", "category:b", "--reason", "dull"], ""),
    (["edit", "--where", "id:a-003|a-004", "--set", "category=b"], ""),
    (["label", "--where", "id:a-003|a-005", "--set", "category=a"], ""),
]
"""What somebody decides in a morning, each in a process of its own, and what they type there."""


def test_undo_in_a_later_process_takes_back_the_last_act_and_no_other(workspace: Path) -> None:
    before = []
    for words, typed in ACTS:
        before.append(state_of(workspace))
        outside.succeed(outside.curate(*words, "--by", "ana", cwd=workspace, input=typed))
    assert len({*before, state_of(workspace)}) == 5, "each act did something"
    outside.succeed(outside.curate("drop", "a-019", workspace, "--reason", "odd", "--by", "bo"))
    (by_bo,) = [line for line in state_of(workspace).splitlines() if '"a-019"' in line]
    assert by_bo not in before[0]
    for wanted in reversed(before[1:]):
        outside.succeed(outside.curate("undo", workspace, "--by", "ana"))
        others = [line for line in wanted.splitlines() if '"a-019"' not in line]
        assert sorted(state_of(workspace).splitlines()) == sorted([*others, by_bo])
    outside.succeed(outside.curate("undo", workspace, "--by", "bo"))
    outside.curate("label", workspace, "--plain", "--all", "--by", "ana", input="u\nq\n")
    assert state_of(workspace) == before[0]


def test_repeats_are_dropped_in_the_name_of_whoever_says_so(tmp_path: Path) -> None:
    rows = outside.rows_on("a", 8)
    twin = outside.make_workspace(tmp_path / "twins", [*rows, {**rows[3], "id": "twin"}])
    outside.succeed(outside.curate("dedupe", twin, "--apply", "keep-first", "--by", "ana"))
    assert [(event["op"], event["id"]) for event in events_of(twin, "ana")] == [("drop", "twin")]


def test_decisions_only_add_lines_to_the_journal_and_leave_all_other_files_as_they_are(workspace: Path) -> None:
    files = bytes_below(workspace)
    journal: dict[str, bytes] = {}
    for words, typed in [*ACTS, (["undo"], ""), (["undo"], ""), (["undo", "--redo"], "")]:
        outside.succeed(outside.curate(*words, "--by", "ana", cwd=workspace, input=typed))
        now = bytes_below(workspace / "journal")
        assert all(now[name].startswith(lines) for name, lines in journal.items()), "what was there stays as it was"
        assert sum(map(len, now.values())) > sum(map(len, journal.values()))
        journal = now
    assert sum(lines.count(b"\n") for lines in journal.values()) == len(events_of(workspace, "ana")) > 20
    shutil.rmtree(workspace / "journal")
    assert bytes_below(workspace) == files


@pytest.mark.skipif(not shutil.which("git"), reason="needs the program git")
def test_branches_with_decisions_of_two_people_merge_without_a_conflict(workspace: Path) -> None:
    def git(*words: str) -> None:
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *name, *words], cwd=workspace, env=os.environ | quiet, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "records")
    for name in ("ana", "bo"):
        git("checkout", "-q", "-b", name, "main")
        outside.curate("label", workspace, "--plain", "--all", "--by", name, input=answers_to(30))
        outside.succeed(outside.curate("drop", f"b-01{len(name)}", workspace, "--reason", "odd", "--by", name))
        git("add", "-A")
        git("commit", "-q", "-m", name)
    decided = {"bo": events_of(workspace, "bo")}
    git("checkout", "-q", "ana")
    decided["ana"] = events_of(workspace, "ana")
    git("merge", "-q", "--no-edit", "bo")
    assert {name: events_of(workspace, name) for name in decided} == decided
    assert [len(events) for events in decided.values()] == [31, 31]
    outside.succeed(outside.curate("validate", workspace))
