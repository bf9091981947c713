"""`curate rule --test`: a user's own checks are proved as ours are, and counted on records that are fine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from curate.checks import Check
from curate.checks.runner.proof import firing, trials
from tests import commands

CHECK = '''
from curate.base.record import Problem
from curate.checks import check


@check("U001", "no-greeting", severity="error", good={good}, bad={bad})
def greeting(record, settings):
    """An answer does not greet."""
    if "ello" not in record.completion:
        yield Problem("no greeting", "{pointer}")
'''
GOOD = [{"instruction": "Say hello.", "output": "Hello."}]
BAD = [{"instruction": "Say hello.", "output": "Bye."}]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return commands.run("curate", "rule", *words)


def written(folder: Path, good: Any = GOOD, bad: Any = BAD, pointer: str = "/output") -> Path:
    path = folder / "tone.py"
    text = CHECK.replace("{good}", repr(good)).replace("{bad}", repr(bad)).replace("{pointer}", pointer)
    path.write_text(text, encoding="utf-8")
    return path


def test_each_example_passes(tmp_path: Path) -> None:
    done = run("--test", written(tmp_path))
    assert done.stdout == "U001 no-greeting (error)\n  good 1 passes\n  bad 1 passes\n"
    assert (done.returncode, done.stderr) == (0, "1 check, 2 examples, 0 faults\n")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"good": BAD}, "good 1 fails: it is reported: no greeting"),
        ({"bad": [*BAD, *GOOD]}, "bad 2 fails: it is not reported"),
        ({"bad": []}, "check 1 fails: it has no bad example"),
        ({"good": [{"instruction": "Say hello."}]}, "good 1 fails: the schema instruction refuses it: "),
        ({"pointer": "/answer"}, "bad 1 fails: nothing is at the pointer '/answer' of its problem"),
        ({"pointer": '/output" + 1 + "'}, "bad 1 fails: the check ends with TypeError: "),
    ],
)
def test_an_example_that_fails_is_named(tmp_path: Path, given: dict[str, Any], line: str) -> None:
    done = run("--test", written(tmp_path, **given))
    assert done.returncode == 1
    assert f"  {line}" in done.stdout
    objects = json.loads(run("--test", tmp_path / "tone.py", "--format", "json").stdout)
    assert [one["passes"] for one in objects[0]["examples"]].count(False) == 1


def test_how_often_it_fires_on_fine_records_is_counted(tmp_path: Path) -> None:
    clean = tmp_path / "clean.jsonl"
    lines = [{"instruction": f"Greet number {n}.", "output": "Hello." if n % 4 else "Good day."} for n in range(100)]
    clean.write_text("".join(json.dumps(line) + "\n" for line in lines) + "no JSON\n", encoding="utf-8")
    done = run("--test", written(tmp_path), "--on", clean)
    assert done.returncode == 0
    assert "  fires on 25 of 100 records: 250.0 per 1,000\n" in done.stdout
    assert f"    {clean}:1: no greeting\n" in done.stdout
    assert "    and 20 more\n" in done.stdout
    assert "  not looked at: 1 fault of lines that are no records\n" in done.stdout
    (one,) = json.loads(run("--test", tmp_path / "tone.py", "--on", clean, "--format", "json").stdout)
    assert one["clean"] == {"records": 100, "unreadable": 1, "fired": 25, "per_1000": 250.0}
    assert run("--test", tmp_path / "tone.py", "--on", tmp_path / "none.jsonl").returncode == 2


def test_a_file_without_checks_or_a_call_without_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("", encoding="utf-8")
    assert "E984 bad-plugin" in run("--test", tmp_path / "empty.py").stderr
    assert "E904 no-such-file" in run("--test", tmp_path / "none.py").stderr
    for words in (["--on", "x.jsonl"], ["--test", tmp_path / "empty.py", "Q201"]):
        assert run(*words).returncode == 2


def test_a_check_of_the_whole_set_is_counted_by_its_problems() -> None:
    from curate.checks import discover
    from curate.checks.runner.proof import record_of
    from curate.schema.settings import Settings

    check: Check = discover()["D301"]
    records = [record_of(GOOD[0], 1), record_of(BAD[0], 2), record_of(GOOD[0], 3)]
    fired = firing(check, records, Settings())
    assert (fired.num_records, [line for _, line, _ in fired.firings]) == (3, [3])
    assert all(not trial.fault for trial in trials(check))
