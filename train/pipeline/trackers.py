"""Trackers: each event of metrics.jsonl is also sent to the libraries that a run names.

None of them is a dependency: a library is imported only when it is named. metrics.jsonl stays the record; a tracker
that fails is reported once and dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from train.base import console
from train.base.errors import Exit, TrainError, first_line

PROJECT = "pairsmith"


Log = Callable[[int, Mapping[str, float]], object]
"""Takes the numbers of a step."""
Close = Callable[[bool], object]
"""Ends the run: it finished, or it failed or was stopped."""
Tracker = tuple[Log, Close]


def _tensorboard(library: Any, run: Path, _settings: Mapping[str, Any]) -> Tracker:
    writer = library.SummaryWriter(str(run / "tensorboard"))

    def log(step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            writer.add_scalar(name, number, step)

    return log, lambda _is_finished: writer.close()


def _wandb(library: Any, run: Path, settings: Mapping[str, Any]) -> Tracker:
    # The id makes a resumed run the same one there; some characters of a folder's name are refused in it.
    tracked = library.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=run.name,
        id=_key(run),
        dir=str(run),
        config=dict(settings),
        resume="allow",
    )
    return (
        lambda step, numbers: tracked.log(dict(numbers), step=step),
        lambda is_finished: tracked.finish(exit_code=0 if is_finished else 1),
    )


def _mlflow(library: Any, run: Path, settings: Mapping[str, Any]) -> Tracker:
    library.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    # It takes no id of ours for a run, so the run is found again by a tag; a list needs no pandas.
    key = _key(run)
    found = library.search_runs(filter_string=f"tags.pairsmith = '{key}'", max_results=1, output_format="list")
    library.start_run(found[0].info.run_id if found else None, run_name=run.name, tags={"pairsmith": key})
    if not found:
        # It refuses to change what a run was begun with. A value has at most 6,000 characters there.
        library.log_params({name: str(value)[:6000] for name, value in settings.items()})
    return (
        lambda step, numbers: library.log_metrics(dict(numbers), step=step),
        lambda is_finished: library.end_run(status="FINISHED" if is_finished else "FAILED"),
    )


def _trackio(library: Any, run: Path, settings: Mapping[str, Any]) -> Tracker:
    # Found again by its name, which other workspaces, whose runs are called after days too, must not have.
    library.init(project=PROJECT, name=f"{run.name}-{_key(run)}", config=dict(settings), resume="allow")
    return lambda step, numbers: library.log(dict(numbers), step=step), lambda _is_finished: library.finish()


_KINDS: dict[str, tuple[str, Callable[[Any, Path, Mapping[str, Any]], Tracker]]] = {
    # Comes with torch and needs the package tensorboard.
    "tensorboard": ("torch.utils.tensorboard", _tensorboard),
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
    "trackio": ("trackio", _trackio),
}
TRACKERS = tuple(_KINDS)
_NAMES = {"step": "train", "lr": "learning_rate"}


class Trackers:
    """The trackers that a run reports to; without names it does nothing.

        with Trackers(["wandb"]) as trackers:     # the library is there, or E940
            trackers.begin(run, settings)
            trackers.on_event("step", {"step": 1, "loss": 2.5})

    Raises TrainError "E940 missing-extra" (exit 3) for a library that is not installed, with the line that installs it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._libraries = {name: _import_tracker(name) for name in dict.fromkeys(names)}
        self._live: dict[str, Tracker] = {}
        self._is_finished = False

    def begin(self, run: Path, settings: Mapping[str, Any]) -> None:
        """Tell each library of a run, by the name of its folder and its ``settings``."""
        for name, library in self._libraries.items():
            with self._guarded(name):
                self._live[name] = _KINDS[name][1](library, run, settings)

    def on_event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Give the numbers of an event that has a step to each tracker that still lives."""
        numbers = numbers_of(event, fields)
        self._is_finished = event == "end" and fields.get("stopped") is None
        if not numbers:
            return
        for name, (log, _) in list(self._live.items()):
            with self._guarded(name):
                log(int(fields["step"]), numbers)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, (_, close) in list(self._live.items()):
            with self._guarded(name):
                close(kind is None and self._is_finished)

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        # A run never ends because of a tracker: what one raises is reported, and the tracker dropped. What it prints is
        # talk, since stdout is for the table of results.
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except Exception as error:  # noqa: BLE001 - the border to libraries that may raise anything, network errors first
            self._live.pop(name, None)
            message = f"{name} failed and gets no more of this run ({first_line(error)}); metrics.jsonl has everything"
            console.talk(f"warning: {message}")


def numbers_of(event: str, fields: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an event under the flat names of others: "train/loss", "eval/by_category/billing"."""
    numbers: dict[str, float] = {}
    kind = _NAMES.get(event, event)
    waiting = [(kind, _NAMES.get(name, name), value) for name, value in fields.items() if name not in ("step", "of")]
    while waiting:
        prefix, name, value = waiting.pop(0)
        if isinstance(value, Mapping):
            waiting += [(f"{prefix}/{name}", str(inner), nested) for inner, nested in value.items()]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}/{name}"] = float(value)
    return numbers if event in ("step", "eval") else {}


def _key(run: Path) -> str:
    return hashlib.sha256(str(run.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _import_tracker(name: str) -> Any:
    try:
        return importlib.import_module(_KINDS[name][0])
    except ImportError as error:
        raise TrainError(
            "E940 missing-extra", f"--report-to {name} needs the package {name}: {error}", f"pip install {name}",
            exit_code=Exit.MISSING,
        ) from error  # fmt: skip
