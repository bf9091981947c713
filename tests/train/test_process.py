"""One process at a time works on the folder of a run or a series, and `curate` sees which."""

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
from click.testing import CliRunner, Result

from curate.sessions.runs import read_run
from train.base.errors import TrainError
from train.base.run_folder import locked_run
from train.cli import cli
from train.pipeline import execute

FAST = [
    word for setting in ("eval.max_new_tokens=4", "eval.resamples=100", "global_batch_size=4", "warmup_steps=0",
                         "threads=1")
    for word in ("--set", setting)
]  # fmt: skip


def call(dataset: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["run", str(dataset), *words], standalone_mode=False)


@pytest.mark.ci
def test_nobody_else_resumes_a_series_or_a_run_that_is_at_work(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, refused = execute.fit, list[str]()

    def watched(*args: Any, **more: Any) -> Any:
        for folder in (tmp_path / "s", tmp_path / f"s/seed-{args[1].recipe.seed}"):
            error = call(dataset, "--resume", "--out", str(folder)).exception
            assert isinstance(error, TrainError), error
            refused.append(error.code)
        return fit(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(execute, "fit", watched)
        words = ("--base", str(bases()), "--out", str(tmp_path / "s"), "--seeds", "2", *FAST, "--set", "max_steps=2")
        assert call(dataset, *words).exception is None
    assert set(refused) == {"E977 run-busy"}
    assert call(dataset, "--resume", "--out", str(tmp_path / "s")).exception is None, "it is free again"


@pytest.mark.ci
def test_a_run_of_a_terminal_is_seen_and_stopped_from_another(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    words = [
        "run",
        str(dataset),
        "--base",
        str(bases()),
        "--out",
        str(tmp_path / "r"),
        *FAST,
        "--set",
        "max_steps=5000",
    ]
    with subprocess.Popen([sys.executable, "-m", "train", *words], stderr=subprocess.PIPE) as child:
        try:
            deadline = time.monotonic() + 120
            while not list(tmp_path.glob("r/metrics.jsonl")) and time.monotonic() < deadline and child.poll() is None:
                time.sleep(0.05)
            run = read_run(tmp_path / "r")
            assert (run.standing, run.process and run.process.pid) == ("running", child.pid)
            assert run.process is not None
            assert run.process.send(signal.SIGTERM)
            assert child.wait(60) == 143
        finally:
            child.kill()
    assert read_run(tmp_path / "r").standing == "stopped"


def test_a_process_that_goes_on_after_its_run_is_not_at_work_on_it(tmp_path: Path) -> None:
    with locked_run(tmp_path):
        about = json.loads((tmp_path / "process.json").read_text(encoding="utf-8"))
        assert about["pid"] == os.getpid()
        (tmp_path / "run.json").write_text('{"status": "running"}', encoding="utf-8")
        assert read_run(tmp_path).standing == "running"
    (tmp_path / "run.json").write_text('{"status": "finished", "ended": "9999-01-01T00:00:00Z"}', encoding="utf-8")
    assert read_run(tmp_path).standing == "finished"


@pytest.mark.ci
@pytest.mark.parametrize(("where", "status"), [("measure", "stopped"), ("table", "finished")])
def test_an_interrupt_outside_of_the_steps_is_written_down_and_undoes_nothing(
    where: str, status: str, dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute.start_run(dataset, None, settings=[*FAST[1::2], "max_steps=2"], base=str(bases()), out=tmp_path / "r")
    assert json.loads((tmp_path / "r/run.json").read_text(encoding="utf-8"))["status"] == status
