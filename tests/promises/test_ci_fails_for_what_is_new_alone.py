"""A linter that CI trusts: a baseline that forgives old findings, checks of changed lines only, and fixes that touch
one string and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.promises.faults import SCHEMAS, SECRET, codes, faulty_lines, verdict, write_lines
from tests.promises.outside import curate, rows_on, succeed


def test_a_baseline_forgives_the_old_fails_the_new_and_tells_what_is_gone(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", faulty_lines())
    known = tmp_path / "known.json"
    before = verdict(path)
    succeed(curate("validate", path, "--baseline", known, "--update-baseline"))
    jsonschema.validate(json.loads(known.read_text()), json.loads((SCHEMAS / "baseline.schema.json").read_text()))
    assert sum(entry["count"] for entry in json.loads(known.read_text())["entries"]) == len(before["findings"])
    assert SECRET not in known.read_text()

    new = json.dumps({"id": "new", "instruction": "Is it known?", "output": "", "category": "alpha"})
    lines = [line for line in faulty_lines() if line != "{broken"]
    write_lines(path, lines)
    forgiven = curate("validate", path, "--baseline", known, "--format", "json")
    assert forgiven.returncode == 0
    assert json.loads(forgiven.stdout)["forgiven"] == len(before["findings"]) - 1
    assert "1 finding of the baseline is gone" in forgiven.stderr

    write_lines(path, [new, *lines])
    failed = curate("validate", path, "--baseline", known, "--format", "json")
    assert failed.returncode == 1
    assert codes(json.loads(failed.stdout)) == [("Q201", 1)]
    assert json.loads(failed.stdout)["forgiven"] == len(before["findings"]) - 1


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True, env=environment, timeout=120)


@pytest.mark.skipif(not shutil.which("git"), reason="needs the program git")
def test_since_checks_changed_lines_and_compares_them_with_all_others(tmp_path: Path) -> None:
    lines = faulty_lines()
    write_lines(tmp_path / "a.jsonl", lines)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        git(tmp_path, *words)
    untouched = curate("validate", "a.jsonl", "--since", "HEAD", "--format", "json", cwd=tmp_path)
    assert untouched.returncode == 0
    assert codes(json.loads(untouched.stdout)) == []
    assert json.loads(untouched.stdout)["records"] > 40

    repeat = json.dumps({**rows_on("alpha", 1)[0], "id": "new"})
    empty = json.dumps({"id": "void", "instruction": "Is it known?", "output": "", "category": "alpha"})
    write_lines(tmp_path / "a.jsonl", [empty, *lines[:20], repeat, *lines[20:]])
    for commit in (False, True):
        if commit:
            git(tmp_path, "commit", "-q", "-a", "-m", "second")
        changed = curate(
            "validate", "a.jsonl", "--since", "HEAD~1" if commit else "HEAD", "--format", "json", cwd=tmp_path
        )
        assert changed.returncode == 1
        assert codes(json.loads(changed.stdout)) == [("Q201", 1), ("D301", 22)]
    assert curate("validate", "a.jsonl", "--since", "no-such-commit", cwd=tmp_path).returncode == 2


def test_a_fix_touches_one_string_and_nothing_else(tmp_path: Path) -> None:
    odd = '{"id" :"odd",  "instruction" : "Is \\u0041 the \\/ first?", "output":"It is   so.  " ,"category":"alpha"}'
    crooked = '{"id": "wide",\t"instruction": "What else?", "output": "Nothing  else." , "category" : "alpha"}'
    lines = [*map(json.dumps, rows_on("alpha", 40)), odd, crooked]
    path = write_lines(tmp_path / "a.jsonl", lines)
    before = path.read_bytes()
    assert curate("validate", path, "--fix", "--diff").returncode == 1
    assert path.read_bytes() == before

    assert curate("validate", path, "--fix").returncode == 0
    fixed = before.replace(b'"It is   so.  "', b'"It is   so."')
    assert fixed != before
    assert path.read_bytes() == fixed
    assert curate("validate", path, "--fix", "--diff").returncode == 0
    assert curate("validate", path, "--fix").returncode == 0
    assert path.read_bytes() == fixed
