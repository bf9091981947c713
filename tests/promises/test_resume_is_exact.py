"""A killed run ends with the same bits: it goes on from its newest whole checkpoint, or is refused by name.

"A run that is killed at any moment goes on from the newest whole one and ends with the same bits. What changed or was
damaged is refused by name. A run is one process's at a time: a second one is refused."
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.promises import bases, outside

STEPS = 16
# Adapters draw random numbers at each step, so that a resumed run must go on with the same draws.
METHODS = {
    "full": ["method=full", "gradient_accumulation_steps=2", "eval_steps=4"],
    "lora": ["method=lora", "lora_dropout=0.2", "gradient_accumulation_steps=2", "eval_steps=2"],
}
QUICK = [
    f"max_steps={STEPS}", "per_device_train_batch_size=3", "eval.fit_records=0", "eval.max_new_tokens=3",
    "eval.resamples=100", 'eval.splits=["validation","test"]', "save_steps=1", "save_total_limit=99",
]  # fmt: skip
_TELL_PID = "import os\ntry: print(os.getpid(), file=open(os.environ['PID_FILE'], 'x'))\nexcept OSError: pass\n"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = outside.make_workspace(
        tmp_path_factory.mktemp("resume") / "desk", outside.rows_on("cats", 20) + outside.rows_on("dogs", 20)
    )
    outside.succeed(outside.curate("export", workspace))
    bases.make_base(workspace / "dataset" / "base")
    return workspace / "dataset" / "v1"


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    for method in METHODS:
        outside.succeed(outside.train(*words_of_run(dataset, folder / method, method)))
        assert [step for step, *_ in losses(folder / method)] == list(range(1, STEPS + 1))
    return {method: folder / method for method in METHODS}


@pytest.fixture(scope="module")
def interrupted(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA run that was told to stop half-way: copy it before you go on with it."""
    run = tmp_path_factory.mktemp("interrupted") / "run"
    with running(dataset, run, "lora") as (pid, ended):
        wait_for_step(run, 3, ended)
        os.kill(pid, signal.SIGTERM)
        ended.result(120)
    assert len(checkpoints(run)) >= 3
    return run


def words_of_run(dataset: Path, run: Path, method: str, *more: str) -> list[object]:
    changes = [word for change in METHODS[method] + QUICK + list(more) for word in ("--set", change)]
    return ["run", dataset, "--out", run, "--base", dataset.parent / "base", *changes]


@contextmanager
def running(dataset: Path, run: Path, method: str) -> Iterator[tuple[int, Future[CompletedProcess[str]]]]:
    """Start a run that goes on beside the test; give its process id, and what becomes of it."""
    site = run.parent / f"site-of-{run.name}"
    outside.write_rows(site / "nothing.jsonl", [])
    (site / "sitecustomize.py").write_text(_TELL_PID, encoding="utf-8")
    pid_file = site / "pid"
    environment = os.environ | {"PYTHONPATH": str(site), "PID_FILE": str(pid_file)}
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(outside.train, *words_of_run(dataset, run, method), env=environment)
        wait_until(lambda: pid_file.is_file() and pid_file.read_text().strip(), ended)
        yield int(pid_file.read_text()), ended


def wait_until(happened: Any, ended: Future[Any]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert not ended.done(), ended.result().stderr
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_step(run: Path, step: int, ended: Future[Any]) -> None:
    wait_until(lambda: (run / f"checkpoint-{step}").is_dir(), ended)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in outside.read_rows(run / "metrics.jsonl") if event["event"] == kind]


def losses(run: Path) -> list[tuple[int, float, float, float]]:
    return [(e["step"], e["loss"], e["grad_norm"], e["lr"]) for e in events(run, "step")]


def checkpoints(run: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*"))


def digests(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    files = [path for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def what_came_of_it(run: Path) -> dict[str, Any]:
    """Everything that a run is done for, without its name and times."""
    report = json.loads((run / "report.json").read_bytes())
    for word in ("id", "created", "seconds"):
        report["run"].pop(word)
    weights = digests(run, "*/*.safetensors")
    assert {name.split("/")[0] for name in weights} & {"model", "adapter"}
    scores = [(e["step"], e["score"], e["loss"]) for e in events(run, "eval")]
    said = {name: (run / name).read_bytes() for name in ("predictions.jsonl", "feedback.jsonl")}
    return {"weights": weights, "losses": losses(run), "scores": scores, "report": report} | said


def resume(run: Path, dataset: Path, method: str = "lora", *more: str) -> CompletedProcess[str]:
    return outside.train(*words_of_run(dataset, run, method, *more), "--resume")


def codes(done: CompletedProcess[str]) -> list[str]:
    return re.findall(r"\b(E\d{3})\b", done.stderr)


@pytest.mark.parametrize(
    ("method", "sign", "step", "code"),
    [
        ("full", signal.SIGKILL, 3, -signal.SIGKILL),
        ("lora", signal.SIGINT, 1, 130),
    ],
)
def test_a_run_that_is_killed_and_resumed_ends_as_one_that_nobody_disturbed(
    method: str, sign: signal.Signals, step: int, code: int, dataset: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with running(dataset, run, method) as (pid, ended):
        wait_for_step(run, step, ended)
        os.kill(pid, sign)
        assert ended.result(120).returncode == code
    assert step <= max(checkpoints(run)) < STEPS
    assert not (run / "report.json").exists()

    outside.succeed(resume(run, dataset, method))
    assert what_came_of_it(run) == what_came_of_it(undisturbed[method])


def test_a_run_that_is_told_to_stop_writes_a_checkpoint_and_goes_on_from_it(
    interrupted: Path, dataset: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(interrupted, tmp_path / "run"))
    newest = max(checkpoints(run))
    assert newest == losses(run)[-1][0] < STEPS
    before = digests(run, "checkpoint-*/weights.safetensors")
    done = resume(run, dataset)
    assert f"checkpoint-{newest}" in done.stderr
    assert digests(run, "checkpoint-*/weights.safetensors").items() >= before.items()
    assert what_came_of_it(run) == what_came_of_it(undisturbed["lora"])


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def _halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [("optimizer.safetensors", _flip), ("weights.safetensors", _halve)],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_word_and_the_one_before_gives_the_same_bits(
    name: str, damage: Any, interrupted: Path, dataset: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(interrupted, tmp_path / "run"))
    *_, before, newest = checkpoints(run)
    damage(run / f"checkpoint-{newest}" / name)
    done = resume(run, dataset)
    outside.succeed(done)
    assert re.search(rf"checkpoint-{newest}\b.*{re.escape(name)}", done.stderr)
    assert f"from checkpoint-{before}" in done.stderr
    assert what_came_of_it(run) == what_came_of_it(undisturbed["lora"])


def test_where_no_checkpoint_is_whole_nothing_is_loaded_and_nothing_begins_anew(
    interrupted: Path, dataset: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(interrupted, tmp_path / "run"))
    for step in checkpoints(run):
        _flip(run / f"checkpoint-{step}" / "weights.safetensors")
    done = resume(run, dataset)
    assert (done.returncode, codes(done)[-1:]) == (2, ["E951"])
    assert [step for step, *_ in losses(run)] == [step for step, *_ in losses(interrupted)]
    assert not (run / "report.json").exists()


def test_the_checkpoint_of_another_run_is_not_taken_for_its_own(
    interrupted: Path, dataset: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(interrupted, tmp_path / "run"))
    foreign = undisturbed["full"] / f"checkpoint-{STEPS}"
    assert (foreign / "weights.safetensors").is_file()
    shutil.copytree(foreign, run / foreign.name)
    done = resume(run, dataset)
    assert (done.returncode, codes(done)) == (2, ["E952"])
    assert not (run / "report.json").exists()


@pytest.mark.parametrize("change", ["learning_rate=1e-3", "seed=1"])
def test_a_run_does_not_go_on_by_another_recipe(change: str, interrupted: Path, dataset: Path) -> None:
    before = digests(interrupted, "checkpoint-*/*") | digests(interrupted, "*.jsonl")
    done = resume(interrupted, dataset, "lora", change)
    assert (done.returncode, codes(done)) == (2, ["E952"])
    assert digests(interrupted, "checkpoint-*/*") | digests(interrupted, "*.jsonl") == before


def test_a_run_does_not_go_on_with_other_records(interrupted: Path, dataset: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(dataset, tmp_path / "v1"))
    shutil.copytree(dataset.parent / "base", tmp_path / "base")
    raw = (other / "train.jsonl").read_bytes()
    # One letter, so that the size stays.
    (other / "train.jsonl").write_bytes(raw.replace(b" differs", b" differz", 1))
    assert (other / "train.jsonl").read_bytes() != raw
    done = resume(interrupted, other)
    assert (done.returncode, codes(done)) == (2, ["E911"]), "a file that is not what its manifest says"

    manifest = json.loads((other / "manifest.json").read_bytes())
    raw = (other / "train.jsonl").read_bytes()
    manifest["files"]["train.jsonl"] |= {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    (other / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = resume(interrupted, other)
    assert (done.returncode, codes(done)) == (2, ["E952"]), "a whole dataset, and another one"


def test_a_run_that_is_finished_is_not_trained_twice(undisturbed: dict[str, Path], dataset: Path) -> None:
    run = undisturbed["lora"]
    before = what_came_of_it(run)
    again = outside.train(*words_of_run(dataset, run, "lora"))
    assert (again.returncode, codes(again)) == (2, ["E950"])
    outside.succeed(resume(run, dataset))
    assert what_came_of_it(run) == before
    assert len(events(run, "step")) == STEPS


def test_two_processes_never_train_into_one_folder(dataset: Path, undisturbed: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(dataset, run, "lora") as (pid, ended):
        wait_for_step(run, 1, ended)
        os.kill(pid, signal.SIGSTOP)
        try:
            held = digests(run)
            command = [sys.executable, "-m", "train", *map(str, words_of_run(dataset, run, "lora")), "--resume"]
            second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            assert (second.returncode, codes(second)) == (2, ["E977"])
            assert digests(run) == held
        finally:
            os.kill(pid, signal.SIGCONT)
        outside.succeed(ended.result(120))
    assert what_came_of_it(run) == what_came_of_it(undisturbed["lora"])
