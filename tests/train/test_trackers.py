"""--report-to: events are handed on, libraries are imported only when named, and none of them can stop a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from train.base.errors import Exit, TrainError
from train.cli import cli
from train.pipeline.trackers import TRACKERS, Trackers, numbers_of

_LIBRARIES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
_STEP = {"step": 3, "of": 9, "loss": 2.5, "lr": 0.1}


class _Calls(list[tuple[Any, ...]]):
    """What a stub library was asked to do; ``fails`` names the call that raises."""

    def __init__(self) -> None:
        self.fails = ""

    def of(self, name: str) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            # Libraries greet people on stdout, which is for data.
            sys.stdout.write("a greeting\n")
            if name == self.fails:
                raise RuntimeError("no network\nTraceback")
            self.append((name, given, named))
            parts = ("log", "finish", "add_scalar", "flush", "close")
            return SimpleNamespace(**{part: self.of(part) for part in parts})

        return called


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> _Calls:
    """All four libraries as stubs that write down what they are asked."""
    found = _Calls()
    names = (
        "SummaryWriter",
        "init",
        "finish",
        "create_experiment",
        "start_run",
        "log_params",
        "log_metrics",
        "end_run",
    )
    for library in _LIBRARIES.values():
        module = ModuleType(library)
        module.__spec__ = ModuleSpec(library, None)
        for name in (*names, "end_run"):
            setattr(module, name, found.of(name))
        module.search_runs = module.search_experiments = lambda **_: []  # type: ignore[attr-defined]
        limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
        module.utils = SimpleNamespace(validation=limits)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, library, module)
    return found


@pytest.mark.parametrize("name", TRACKERS)
def test_each_tracker_gets_the_numbers_and_the_end(
    name: str, calls: _Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Trackers([name]) as trackers:
        trackers.begin(tmp_path / "r", {"learning_rate": 0.1, "base": "x"})
        trackers.on_event("start", {"step": 0, "of": 9, "examples": 4})
        trackers.on_event("step", _STEP)
        trackers.on_event("eval", {"step": 3, "score": None, "loss": 2.0, "by_category": {"cats": 0.5}, "best": True})
        trackers.on_event("end", {"step": 9, "stopped": None})
    told = json.dumps(calls, default=str)
    for text in ("train/loss", "2.5", "train/learning_rate", "eval/loss", "eval/by_category/cats"):
        assert text in told
    assert "start/" not in told
    assert capsys.readouterr().out == ""
    assert calls[-1] in [
        ("close", (), {}), ("finish", (), {}), ("finish", (), {"exit_code": 0}), ("end_run", ("FINISHED",), {})
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "variable", "call"),
    [("wandb", "WANDB_PROJECT", "init"), ("mlflow", "MLFLOW_EXPERIMENT_NAME", "create_experiment")],
)
def test_a_project_of_the_environment_goes_before_ours(
    name: str, variable: str, call: str, calls: _Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for told in ("pairsmith", "of the team"):
        Trackers([name]).begin(tmp_path, {})
        assert told in json.dumps([one for one in calls if one[0] == call][-1], default=str)
        monkeypatch.setenv(variable, "of the team")


_TWICE = """
import sys
from pathlib import Path
from train.pipeline.trackers import Trackers
run = Path(sys.argv[2])
for step, loss in ((1, 2.5), (2, 1.5)):
    with Trackers([sys.argv[1]]) as trackers:
        # A resumed run may have other settings.
        trackers.begin(run, {"lr": 0.1, "threads": step})
        trackers.on_event("step", {"step": step, "of": 2, "loss": loss, "lr": 0.1})
        if step == 2:
            trackers.on_event("end", {"step": 2, "stopped": None})
"""
_READ = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(str(run / "tensorboard"))
found.Reload()
print([(event.step, event.value) for event in found.Scalars("train/loss")])
""",
    "mlflow": """
from mlflow import MlflowClient
client = MlflowClient()
ours, = client.search_runs([client.get_experiment_by_name("pairsmith").experiment_id])
print([(one.step, one.value) for one in client.get_metric_history(ours.info.run_id, "train/loss")])
""",
    "trackio": """
from trackio.sqlite_storage import SQLiteStorage
ours, = SQLiteStorage.get_runs("pairsmith")
print([(one["step"], one["train/loss"]) for one in SQLiteStorage.get_logs("pairsmith", ours)])
""",
    "wandb": """
ids = {folder.name.split("-", 3)[3] for folder in (run / "wandb").glob("offline-run-*")}
print([(1, 2.5), (2, 1.5)] if len(ids) == 1 and len(list((run / "wandb").glob("offline-run-*/*.wandb"))) == 2 else ids)
""",
}


@pytest.mark.ci
@pytest.mark.parametrize("name", TRACKERS)
def test_the_real_library_keeps_a_run_and_its_resumption_as_one(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard" if name == "tensorboard" else name)
    places = {
        "TRACKIO_DIR": str(tmp_path / "trackio"), "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "MLFLOW_ALLOW_FILE_STORE": "true",
    }  # fmt: skip
    run = tmp_path / "it's-a"
    run.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _TWICE + _READ[name], name, str(run)], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=120, env=os.environ | places | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert "warning: " + name not in done.stderr
    assert done.stdout.splitlines()[-1:] == ["[(1, 2.5), (2, 1.5)]"], done.stderr


def test_a_run_that_fails_is_ended_as_failed(calls: _Calls, tmp_path: Path) -> None:
    trackers = Trackers(["mlflow"])
    trackers.begin(tmp_path, {})
    trackers.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert calls[-1] == ("end_run", ("FAILED",), {})


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_told_once_and_let_go(
    fails: str, calls: _Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.fails = fails
    with Trackers(["trackio", "mlflow"]) as trackers:
        trackers.begin(tmp_path, {})
        for _ in range(3):
            trackers.on_event("step", _STEP)
    talk = capsys.readouterr().err
    assert talk.count("warning: trackio failed") == 1
    assert "no network" in talk
    assert "Traceback" not in talk
    assert [name for name, *_ in calls].count("log_metrics") == 3


def test_numbers_are_flat_and_only_numbers() -> None:
    fields = _STEP | {"best": True, "note": "x", "by": {"a": {"b": 1}}}
    assert numbers_of("step", fields) == {"train/loss": 2.5, "train/learning_rate": 0.1, "train/by/a/b": 1.0}
    assert numbers_of("checkpoint", {"step": 3, "n": 1}) == {}


def test_a_library_that_is_not_there_is_missed_before_anything_begins(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    arguments = ["run", str(dataset), "--base", str(bases()), "--out", str(tmp_path / "r"), "--report-to", "wandb"]
    error = CliRunner().invoke(cli, arguments, standalone_mode=False).exception
    assert isinstance(error, TrainError)
    assert (error.code, error.hint, error.exit_code) == ("E940 missing-extra", "pip install wandb", Exit.MISSING)
    assert not (tmp_path / "r").exists()


def test_the_command_knows_every_tracker() -> None:
    option = next(one for one in cli.commands["run"].params if one.name == "report_to")
    assert tuple(option.type.choices) == TRACKERS  # type: ignore[attr-defined]


# peft reads a property that transformers renamed.
@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_run_hands_on_what_its_metrics_file_holds(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, calls: _Calls
) -> None:
    fast = ["eval.max_new_tokens=2", "eval.resamples=100", "max_steps=3", "global_batch_size=8"]
    settings = [word for one in fast for word in ("--set", one)]
    out = ["--out", str(tmp_path / "r"), "--report-to", "mlflow"]
    done = CliRunner().invoke(
        cli, ["run", str(dataset), "--base", str(bases()), *settings, *out], standalone_mode=False
    )
    assert done.exception is None, done.exception
    events = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    told = [(given[0], named["step"]) for name, given, named in calls if name == "log_metrics"]
    steps = [event for event in events if event["event"] == "step"]
    assert [(one["train/loss"], step) for one, step in told if "train/loss" in one] == [
        (event["loss"], event["step"]) for event in steps
    ]
    assert calls[-1] == ("end_run", ("FINISHED",), {})


@pytest.mark.ci
def test_no_tracker_is_loaded_without_its_name() -> None:
    program = "import sys, train.loop; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program, *_LIBRARIES.values()], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
