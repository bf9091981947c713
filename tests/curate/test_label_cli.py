"""`curate label --plain` and `curate review --plain`: scripted, interrupted, and with data that means harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.project.data import ProjectData, load_data
from tests import commands

SETTINGS = """
[split]
seed = 1
[label]
overlap = 1.0
guide = "guide.md"
[[label.questions]]
name = "topic"
ask = "What is it about?"
values = ["billing", "returns", "other"]
guide = {returns = "they send it back"}
[[label.questions]]
name = "why"
"""
HOSTILE = "\x1b[2J\x1b]0;owned\x07 [/red] \u202e\u200b\x9b31m ::error::x"


def call(*arguments: str, lines: str | bytes = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return commands.run("curate", *arguments, input=lines, env=os.environ | {"TERM": "xterm"} | environment)


@pytest.fixture
def workspace(make_workspace: Callable[..., ProjectData]) -> Path:
    lines: list[dict[str, Any]] = [
        {"id": f"r{n}", "instruction": f"Question {n}? {HOSTILE}", "output": "An answer."} for n in range(6)
    ]
    root = make_workspace(lines, SETTINGS).root
    (root / "guide.md").write_text(f"# Be fair\n{HOSTILE}\n", encoding="utf-8")
    return root


def answers(root: Path, question: str = "topic") -> dict[str, dict[str, Any]]:
    return {
        state.record.id: dict(state.answers[question])
        for state in load_data(root).states()
        if question in state.answers
    }


def test_a_script_answers_and_every_command_does_what_it_says(workspace: Path) -> None:
    script = "1\n= returns\n3\nu\n1,3\ns\nf\nc see below\ni\nnonsense\n9\np\nn\na\n?\nq\n"
    done = call("label", str(workspace), "--plain", "--by", "ana", lines=script)
    assert done.returncode == 0, done.stderr
    assert answers(workspace) == {
        "r0": {"ana": "billing"}, "r1": {"ana": "returns"}, "r2": {"ana": ["billing", "other"]},
    }  # fmt: skip
    assert answers(workspace, "flag") == {"r4": {"ana": True}}
    assert answers(workspace, "note") == {"r4": {"ana": "see below"}}
    assert "What is it about?\n  1 billing\n  2 returns\n  3 other\n" in done.stdout
    assert "label [1-3, s skip, u undo, ? help, q quit] >\n" in done.stdout
    for told in (
        "r0 -> billing (saved)", "taken back: label of r2", "r2 -> billing, other (saved)", "r3: skipped",
        "returns: they send it back", "# Be fair", "nonsense: no command; ? lists them", "there are values 1 to 3",
        "nothing is suggested here", "number      answer with", "3 answers saved; 3 records left",
    ):  # fmt: skip
        assert told in done.stderr


def test_nothing_of_the_data_reaches_the_terminal_raw(workspace: Path) -> None:
    done = call("label", str(workspace), "--plain", "--by", "an\x1b[31ma", lines=f"c {HOSTILE}\n1\np\ni\n= {HOSTILE}\n")
    for stream in (done.stdout, done.stderr):
        assert not {*stream} & {"\x1b", "\x07", "\u202e", "\u200b", "\x9b"}
        assert not [line for line in stream.split("\n") if line.lstrip().startswith("::")]
    assert "␛[2J" in done.stdout
    assert "[/red]" in done.stdout


def test_the_end_of_the_input_and_strange_bytes_lose_nothing(workspace: Path) -> None:
    done = call("label", str(workspace), "--plain", "--by", "ana", lines=b"\xff\xfe\x00\n2\nc \xff\n1")
    assert done.returncode == 0, done.stderr
    assert answers(workspace) == {"r0": {"ana": "returns"}, "r1": {"ana": "billing"}}
    assert "no command" in done.stderr


@pytest.mark.ci
def test_an_interrupt_loses_nothing(workspace: Path) -> None:
    command = [sys.executable, "-P", "-m", "curate", "label", str(workspace), "--plain", "--by", "ana"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin
        child.stdin.write(b"1\n2\n")
        child.stdin.flush()
        ends = time.monotonic() + 60
        while len(answers(workspace)) < 2:
            assert time.monotonic() < ends
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"interrupted" in told
    assert answers(workspace) == {"r0": {"ana": "billing"}, "r1": {"ana": "returns"}}


def test_a_question_without_values_takes_any_text(workspace: Path) -> None:
    script = "s tells\n= because it is so\n= 1\nq\n"
    done = call("label", str(workspace), "--plain", "--by", "ana", "--question", "why", lines=script)
    assert answers(workspace, "why") == {"r0": {"ana": "because it is so"}, "r1": {"ana": "1"}}
    assert "label [= text, s skip" in done.stdout
    assert "s tells: no command; ? lists them, = TEXT answers" in done.stderr


@pytest.mark.ci
def test_when_all_is_answered_the_last_one_can_still_be_taken_back(workspace: Path) -> None:
    done = call("label", str(workspace), "--plain", "--by", "ana", lines="1\n" * 6 + "u\n2\n")
    assert "nothing left [u undo, q quit] >" in done.stdout
    assert answers(workspace)["r5"] == {"ana": "returns"}
    again = call("label", str(workspace), "--plain", "--by", "ana", lines="1\n")
    assert (again.stdout, again.returncode) == ("", 0)
    assert "all 6 have an answer to topic. --all asks about them anyway" in again.stderr


def test_a_dumb_terminal_and_a_pipe_get_lines_without_being_asked(workspace: Path) -> None:
    for environment in ({"TERM": "dumb"}, {}):
        done = call("label", str(workspace), "--by", "ana", lines="q\n", **environment)
        assert done.returncode == 0
        assert "What is it about?" in done.stdout


@pytest.mark.ci
def test_orders_and_suggestions(workspace: Path) -> None:
    pytest.importorskip("sklearn", reason="suggestions need the extra [quality]")
    done = call("label", str(workspace), "--plain", "--by", "ana", "--order", "uncertain", lines="1\n2\nq\n")
    assert done.returncode == 0, done.stderr
    assert len(answers(workspace)) == 2
    done = call("label", str(workspace), "--plain", "--by", "bo", "--order", "disagreement", "--suggest", lines="q\n")
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_asked_is_an_error_with_a_hint(workspace: Path, tmp_path: Path) -> None:
    done = call("label", str(workspace), "--plain", "--question", "wy", lines="1\n")
    assert done.returncode == 2
    assert "E902 bad-settings" in done.stderr
    assert "There are: topic, why." in done.stderr
    assert call("label", str(tmp_path / "nowhere"), "--plain").returncode == 2


@pytest.mark.ci
def test_review_settles_and_says_by_its_exit_code_what_is_left(workspace: Path) -> None:
    call("label", str(workspace), "--plain", "--by", "ana", lines="1\n1\n1\n")
    call("label", str(workspace), "--plain", "--by", "bo", lines="1\n2\n3\n")
    done = call("review", str(workspace), "--plain", "--by", "cem", lines="what\n2\ns\n")
    assert done.returncode == 1
    assert "r1   annotators disagree on topic (L402)   2 left" in done.stdout
    assert "  1 billing   ana\n  2 returns   bo\n  3 other\n" in done.stdout
    assert "r1 -> returns (saved)" in done.stderr
    assert "what: no command" in done.stderr
    done = call("review", str(workspace), "--plain", "--by", "cem", lines="u\n1\n1\n")
    assert done.returncode == 0
    assert "taken back: resolve of r1" in done.stderr
    resolved = {state.record.id: state.resolved.get("topic") for state in load_data(workspace).states()}
    assert {name: value for name, value in resolved.items() if value} == {"r1": "billing", "r2": "billing"}
    nothing = call("review", str(workspace), "--plain", "--by", "cem")
    assert (nothing.returncode, nothing.stdout) == (0, "")


@pytest.mark.ci
def test_whoever_is_still_asked_is_told_to_answer_first(workspace: Path) -> None:
    known = json.dumps({"id": "r0", "question": "topic", "value": "other"}) + "\n"
    (workspace / "gold.jsonl").write_text(known, encoding="utf-8")
    settings = (workspace / "curate.toml").read_text().replace("[label]", '[label]\ngold = "gold.jsonl"')
    (workspace / "curate.toml").write_text(settings, encoding="utf-8")
    call("label", str(workspace), "--plain", "--by", "ana", lines="1\n")
    call("label", str(workspace), "--plain", "--by", "bo", lines="2\n")
    done = call("review", str(workspace), "--plain", "--by", "cem")
    assert (done.stdout, done.returncode) == ("", 1)
    assert "questions that still ask you, to be answered first: 1" in done.stderr
