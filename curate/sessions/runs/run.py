"""The runs of a workspace as their files and processes tell of them; nothing has to be remembered between two looks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.base.file_guard import MOST_STATE, open_file, read_file
from curate.base.record import Json
from curate.project.data import ProjectData
from curate.project.feedback import REPORT_FILE
from curate.sessions.detached import LOG_FILE, Process, berth_of, read_process, settle
from curate.sessions.training import RUN_FILE, run_folders

Standing = Literal["running", "stopping", "stopped", "finished", "failed", "dead", "unknown"]
"""How a run stands.

*stopping* was asked to save and stop and has not ended; *failed* ended by itself with an error; *dead* ended without
having said so, as by a power cut; *unknown* says that it runs, and nobody has written down which process that is.
"""

_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One run at one moment. ``about`` is what its run.json says, empty before there is one."""

    folder: Path
    standing: Standing
    why: str
    """What else there is to say of how it stands."""
    about: Mapping[str, Json]
    process: Process | None
    has_report: bool

    @property
    def id(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def is_alive(self) -> bool:
        """Whether its process is at work."""
        return self.standing in ("running", "stopping")

    @property
    def can_resume(self) -> bool:
        """Whether it can go on from a checkpoint, or begin again where there is none yet."""
        return bool(self.about) and self.standing in ("stopped", "failed", "dead")

    def text_at(self, *path: str) -> str:
        """Return what run.json says at ``path`` as text; "" where it says nothing there."""
        value: Json = self.about
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return "" if value is None or isinstance(value, Mapping | list) else str(value)


def runs_of(data: ProjectData) -> list[Run]:
    """Return the runs of a workspace, the newest first.

    Raises:
        CurateError: E914 when its folder of runs lies elsewhere.
    """
    return [read_run(folder) for folder in run_folders(data)]


def read_run(folder: Path) -> Run:
    """Return how the run in ``folder`` stands now."""
    settle(folder)
    process, about = read_process(folder), _about(folder)
    standing, why = _standing(about, process)
    return Run(folder, standing, why, about, process, (folder / REPORT_FILE).is_file())


def log_tail(run: Run, num_lines: int) -> list[str]:
    """Return the last lines of what the run has said, as they are; empty where it says nothing to a file."""
    for folder in (run.folder, berth_of(run.folder)):
        try:
            with open_file(folder / LOG_FILE) as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            continue
        # A line of progress is written over itself.
        lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
        return [line for line in lines if line][-num_lines:]
    return []


def _about(folder: Path) -> Mapping[str, Json]:
    try:
        value = json.loads(read_file(folder / RUN_FILE, most=MOST_STATE))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _standing(about: Mapping[str, Json], process: Process | None) -> tuple[Standing, str]:
    if process is not None and process.is_alive:
        return ("stopping", f"asked at {process.stop_asked}") if process.stop_asked else ("running", "")
    said = about.get("status")
    if said == "finished":
        return "finished", ""
    if said == "stopped":
        return "stopped", "it can go on from its last checkpoint"
    if said == "failed":
        return "failed", f"{about.get('error', '')}: {about.get('message', '')}"
    if process is None:
        return ("unknown", "no process was written down for it") if about else ("failed", "it holds no run")
    if process.stop_asked:
        return "stopped", "it had not come to a checkpoint of its own"
    return (
        ("dead", "its process ended without a word") if about else ("failed", "it ended before it began; see its log")
    )
