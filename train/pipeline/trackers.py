"""Trackers: each event of metrics.jsonl is also sent to the libraries that a run names.

None of them is a dependency: `accelerate` imports a library when it is named. metrics.jsonl stays the record; a tracker
that fails is reported once and dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import Exit, TrainError, first_line

PROJECT = "pairsmith"
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
_NAMES = {"step": "train", "lr": "learning_rate"}


def _begin(name: str, run: Path, settings: dict[str, Any]) -> Any:
    # The tracker of a run, begun under the name of its folder. Loaded late: it imports torch.
    from accelerate import PartialState, tracking

    # Its loggers raise where there is no state, also those that print nothing.
    PartialState()
    # A resumed run is the same one there by this key: some characters of a folder's name are refused in an id.
    key = hashlib.sha256(str(run.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    tracker: Any
    if name == "tensorboard":
        tracker = tracking.TensorBoardTracker(name, run)
    elif name == "wandb":
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        tracker = tracking.WandBTracker(project, name=run.name, id=key, dir=str(run), config=settings, resume="allow")
    elif name == "trackio":
        # Found again by its name, which other workspaces, whose runs are called after days too, must not have.
        tracker = tracking.TrackioTracker(PROJECT, name=f"{run.name}-{key}", config=settings, resume="allow")
    else:
        # It takes no id of ours for a run, so the run is found again by a tag; a list needs no pandas.
        earlier = importlib.import_module(name).search_runs(
            search_all_experiments=True, filter_string=f"tags.pairsmith = '{key}'", max_results=1, output_format="list"
        )
        tracker = tracking.MLflowTracker(
            PROJECT, run_id=earlier[0].info.run_id if earlier else None, run_name=run.name, tags={"pairsmith": key}
        )
        # It refuses to change what a run was begun with.
        settings = {} if earlier else settings
    tracker.start()
    if name == "mlflow":
        tracker.store_init_configuration(settings)
    return tracker


class Trackers:
    """The trackers that a run reports to; without names it does nothing.

        with Trackers(["wandb"]) as trackers:     # the library is there, or E940
            trackers.begin(run, settings)
            trackers.on_event("step", {"step": 1, "loss": 2.5})

    Raises TrainError "E940 missing-extra" (exit 3) for a library that is not installed, with the line that installs it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._live, self._is_finished = names, dict[str, Any](), False
        for name in names:
            if find_spec(name) is None:
                message = f"--report-to {name} needs the package {name}, which is not installed"
                raise TrainError("E940 missing-extra", message, f"pip install {name}", exit_code=Exit.MISSING)

    def begin(self, run: Path, settings: Mapping[str, Any]) -> None:
        """Begin a run in each library, by the name of its folder and its ``settings``."""
        for name in self._names:
            with self._guarded(name):
                self._live[name] = _begin(name, run, dict(settings))

    def on_event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Give the numbers of an event that has a step to each tracker that still lives."""
        self._is_finished = event == "end" and fields.get("stopped") is None
        if numbers := numbers_of(event, fields):
            for name, tracker in list(self._live.items()):
                with self._guarded(name):
                    tracker.log(numbers, step=int(fields["step"]))

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_failed = kind is not None or not self._is_finished
        for name, tracker in list(self._live.items()):
            with self._guarded(name):
                # `finish` of accelerate knows no run that failed, and leaves a run of trackio open until the exit.
                if name == "wandb":
                    importlib.import_module(name).finish(exit_code=int(is_failed))
                elif name == "mlflow":
                    importlib.import_module(name).end_run("FAILED" if is_failed else "FINISHED")
                elif name == "trackio":
                    importlib.import_module(name).finish()
                else:
                    tracker.finish()

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
    if event not in ("step", "eval"):
        return {}
    return dict(_flat(_NAMES.get(event, event), {key: fields[key] for key in fields.keys() - {"step", "of"}}))


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        path = f"{prefix}/{_NAMES.get(name, name)}"
        if isinstance(value, Mapping):
            yield from _flat(path, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path, float(value)
