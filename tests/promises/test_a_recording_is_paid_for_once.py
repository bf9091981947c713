"""What a hosted model has answered is not asked again, whatever ends the command, and it answers when the host is gone.

"A command that was killed goes on from there." "The recording is a contestant without network, key or model."
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.promises import outside
from tests.promises.endpoints import Endpoint, Reply, endpoint, said

KEPT = 4
"""Answers that there are when the command is killed."""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    workspace = outside.make_workspace(tmp_path / "desk", outside.rows_on("cats", 40) + outside.rows_on("dogs", 40))
    outside.succeed(outside.curate("export", workspace))
    return workspace / "dataset" / "v1"


def prompt(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def answers(folder: Path) -> list[outside.Row]:
    """Return the predictions without the seconds that they took."""
    rows = outside.read_rows(folder / "predictions.jsonl")
    for row in rows:
        row["tuned"].get("usage", {}).pop("seconds", None)
    return rows


def about(folder: Path) -> dict[str, Any]:
    value = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    return {name: value[name] for name in value.keys() - {"created", "ended", "files"}}


def record(dataset: Path, here: Endpoint, out: Path) -> list[object]:
    return ["eval", dataset, "--with", f"{here.url}#hosted", "--out", out]


def killed_at(here: Endpoint, words: list[object], out: Path, env: dict[str, str]) -> list[str]:
    """Begin a recording, kill it when it has `KEPT` answers, and return the prompts that it had answers to."""
    held, lock, replied = threading.Event(), threading.Lock(), list[str]()

    def reply(body: dict[str, Any]) -> Reply:
        with lock:
            is_answered = len(replied) < KEPT
            if is_answered:
                replied.append(prompt(body))
        if not is_answered:
            held.wait(60)
        return said(f"On {prompt(body)}")

    here.reply = reply
    predictions = out / "eval-hosted" / "predictions.jsonl"
    with subprocess.Popen([sys.executable, "-m", "train", *map(str, words)], env=env, stderr=subprocess.PIPE) as child:
        deadline = time.monotonic() + 120
        while not predictions.is_file() or predictions.read_bytes().count(b"\n") < KEPT:
            assert child.poll() is None, child.stderr and child.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.kill()
    held.set()
    return replied


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_recording_that_is_killed_asks_nothing_twice_and_ends_as_one_that_nobody_disturbed(
    dataset: Path, tmp_path: Path, is_cached: bool
) -> None:
    with endpoint() as here:
        env = os.environ | {"TRAIN_CACHE": str(tmp_path / "cache") if is_cached else "off"}
        out = tmp_path / "runs"
        known = killed_at(here, record(dataset, here, out), out, env)
        # A kill may cut a line off.
        with (out / "eval-hosted" / "predictions.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"id": "cats-0')
        here.asked.clear()
        here.reply = lambda body: said(f"On {prompt(body)}")
        planned = outside.train(*record(dataset, here, out), "--dry-run", env=env).stderr
        assert not here.asked
        outside.succeed(outside.train(*record(dataset, here, out), env=env))
        assert set(map(prompt, here.asked)).isdisjoint(known)
        assert f"{len(here.asked)} requests, " in planned
        assert len(here.asked) == len(answers(out / "eval-hosted")) - KEPT

        undisturbed = tmp_path / "undisturbed"
        outside.succeed(outside.train(*record(dataset, here, undisturbed), env=env | {"TRAIN_CACHE": "off"}))
        assert answers(out / "eval-hosted") == answers(undisturbed / "eval-hosted")
        assert about(out / "eval-hosted") == about(undisturbed / "eval-hosted")
    again = tmp_path / "again"
    outside.succeed(outside.train("eval", dataset, "--with", out / "eval-hosted", "--out", again))
    assert answers(again / "eval-hosted") == answers(undisturbed / "eval-hosted"), (
        "the host is gone, its answers are not"
    )
