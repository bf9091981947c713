"""Errands: what a screen asks for a run is done by the verbs of both command lines, so that nothing can differ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import inside
from curate.base.record import CurateError, Exit, Json
from curate.base.resources import require_trainer, trainer_command
from curate.project.data import RUNS, ProjectData


@dataclass(frozen=True, slots=True)
class Said:
    """What a command answered: its exit code, its data, and its talk line by line."""

    code: int
    data: str
    talk: tuple[str, ...]

    @property
    def trouble(self) -> str:
        """The error that it ended with, on one line; "" where it told of none."""
        return next((line for line in reversed(self.talk) if line.startswith("error[")), "")


class Errand:
    """One command at a time in a process of its own; `stop` may be called from another thread."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def run(self, command: Sequence[str]) -> Said:
        """Run a command to its end and return what it said; E970 when it was stopped by `stop`."""
        # In a group of its own it is ended with all that it has started; what is detached has a session of its own.
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(
            command, stdin=null, stdout=pipe, stderr=pipe, text=True, errors="replace", process_group=0
        ) as child:
            self._child = child
            if self._is_stopped:
                self.stop()
            data, talk = child.communicate()
        self._child = None
        if self._is_stopped:
            raise CurateError("E970 worker-lost", f"{one_line(command[-1], 60)}: stopped", exit_code=Exit.INTERRUPTED)
        return Said(child.returncode, data, tuple(line for line in talk.split("\n") if line))

    def stop(self) -> None:
        """End the command, if one is at work, and every later one at once."""
        self._is_stopped = True
        child = self._child
        if child and child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)


def _curate(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "curate", *words]


def gate(errand: Errand, data: ProjectData) -> Said:
    """Return what `curate export --dry-run` says: code 0 where an export would be made, else why it is refused."""
    return errand.run(_curate("export", str(data.root), "--dry-run"))


def plan(errand: Errand, data: ProjectData, *, is_measured: bool = False) -> Mapping[str, Json]:
    """Return what `train plan` says of a run on the newest dataset; with ``is_measured`` a few steps are timed here.

    Raises:
        CurateError: E940 without the extra; E917 before the first export; E961 when it cannot plan, with what it says.
    """
    require_trainer("planning a run", "take the dataset to a machine that has it")
    dataset = data.latest_dataset()
    if dataset is None:
        raise CurateError("E917 nothing-to-export", "there is no dataset yet", "A start makes one, or `curate export`.")
    recipe = data.settings.recipe
    chosen = ["--recipe", str(inside(data.root, data.root / recipe))] if recipe else []
    measure = "--measure" if is_measured else "--no-measure"
    said = errand.run(trainer_command("plan", str(dataset), *chosen, measure, "--json"))
    try:
        value = json.loads(said.data) if said.code == 0 else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        message = said.trouble or (said.talk[-1] if said.talk else f"exit code {said.code}")
        raise CurateError("E961 cannot-measure", f"`train plan` says: {one_line(message, 300)}", "See the recipe.")
    return value


def begin(errand: Errand, data: ProjectData, options: Sequence[str] = ()) -> Path:
    """Validate, export and start a run that outlives us, by `curate train --detach`; return its folder.

    Raises:
        CurateError: E979 with what the command said, when it refused.
    """
    words = ["train", str(data.root), "--detach", *(["--", *options] if options else [])]
    said = errand.run(_curate(*words))
    name = said.data.strip().rsplit("/", 1)[-1]
    if said.code != Exit.OK or not name:
        message = "\n".join(said.talk[-8:]) or f"exit code {said.code}"
        raise CurateError("E979 not-started", message, "Nothing was started.")
    return inside(data.root, data.root / RUNS) / name


def resume(errand: Errand, data: ProjectData, folder: Path) -> Path:
    """Go on with a run that was stopped, as `begin` starts one."""
    return begin(errand, data, ["--resume", "--out", str(folder)])
