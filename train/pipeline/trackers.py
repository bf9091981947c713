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
from typing import Any

from train.base import console
from train.base.errors import Exit, TrainError, first_line

PROJECT = "pairsmith"
Settings = Mapping[str, Any]
Tracker = tuple[Callable[[Mapping[str, float], int], object], Callable[[bool], object]]
"""Takes the numbers of a step; and ends the run: it finished, or it failed or was stopped."""


def _tensorboard(library: Any, run: Path, _key: str, _settings: Settings) -> Tracker:
    writer = library.SummaryWriter(str(run / "tensorboard"))
    return (
        lambda numbers, step: [writer.add_scalar(name, number, step) for name, number in numbers.items()],
        lambda _is_finished: writer.close(),
    )


def _wandb(library: Any, run: Path, key: str, settings: Settings) -> Tracker:
    # The id makes a resumed run the same one there; some characters of a folder's name are refused in it.
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    tracked = library.init(project=project, name=run.name, id=key, dir=str(run), config=dict(settings), resume="allow")
    return tracked.log, lambda is_finished: tracked.finish(exit_code=0 if is_finished else 1)


def _mlflow(library: Any, run: Path, key: str, settings: Settings) -> Tracker:
    library.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    # It takes no id of ours for a run, so the run is found again by a tag; a list needs no pandas.
    found = library.search_runs(filter_string=f"tags.pairsmith = '{key}'", max_results=1, output_format="list")
    library.start_run(found[0].info.run_id if found else None, run_name=run.name, tags={"pairsmith": key})
    if not found:
        # It refuses to change what a run was begun with. A value has at most 6,000 characters there.
        library.log_params({name: str(value)[:6000] for name, value in settings.items()})
    return library.log_metrics, lambda is_finished: library.end_run(status="FINISHED" if is_finished else "FAILED")


def _trackio(library: Any, run: Path, key: str, settings: Settings) -> Tracker:
    # Found again by its name, which other workspaces, whose runs are called after days too, must not have.
    library.init(project=PROJECT, name=f"{run.name}-{key}", config=dict(settings), resume="allow")
    return library.log, lambda _is_finished: library.finish()


_KINDS: dict[str, tuple[str, Callable[[Any, Path, str, Settings], Tracker]]] = {
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
        self._libraries, self._live, self._is_finished = dict[str, Any](), dict[str, Tracker](), False
        for name in names:
            try:
                self._libraries[name] = importlib.import_module(_KINDS[name][0])
            except ImportError as error:
                message = f"--report-to {name} needs the package {name}: {error}"
                raise TrainError(
                    "E940 missing-extra", message, f"pip install {name}", exit_code=Exit.MISSING
                ) from error

    def begin(self, run: Path, settings: Settings) -> None:
        """Begin a run in each library, by the name of its folder and its ``settings``."""
        key = hashlib.sha256(str(run.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        for name, library in self._libraries.items():
            with self._guarded(name):
                self._live[name] = _KINDS[name][1](library, run, key, settings)

    def on_event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Give the numbers of an event that has a step to each tracker that still lives."""
        self._is_finished = event == "end" and fields.get("stopped") is None
        if numbers := numbers_of(event, fields):
            for name, (log, _) in list(self._live.items()):
                with self._guarded(name):
                    log(numbers, step=int(fields["step"]))  # type: ignore[call-arg]

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for name, (_log, close) in list(self._live.items()):
            with self._guarded(name):
                close(kind is None and self._is_finished)

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        # A run never ends because of a tracker: what one raises is reported, and the tracker dropped. What it prints
        # goes to stderr, since stdout is for the table of results.
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except Exception as error:  # noqa: BLE001 - the border to libraries that may raise anything, network errors first
            self._live.pop(name, None)
            message = f"{name} failed and gets no more of this run ({first_line(error)}); metrics.jsonl has everything"
            console.info(f"warning: {message}")


def numbers_of(event: str, fields: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an event under the flat names of others: "train/loss", "eval/by_category/billing"."""
    numbers: dict[str, float] = {}

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            path = f"{prefix}/{_NAMES.get(name, name)}"
            if isinstance(value, Mapping):
                add(path, value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                numbers[path] = float(value)

    if event in ("step", "eval"):
        add(_NAMES.get(event, event), {name: value for name, value in fields.items() if name not in ("step", "of")})
    return numbers
