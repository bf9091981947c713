"""Training as a child process: the workspace's side of the border. What crosses it are files and signals."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from curate.base.console import one_line
from curate.base.file_guard import MOST_STATE, inside, read_file
from curate.base.record import CurateError
from curate.base.trainer import trainer_command
from curate.project.data import RUNS, ProjectData
from curate.sessions.detached import Process, berth_of, note, settle, start

RUN_FILE = "run.json"
DRY_RUN = "--dry-run"
"""The trainer's option for a run that writes nothing."""
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_folder(data: ProjectData, options: Sequence[str]) -> Path:
    """Return the folder of the run: the newest where ``options`` resume one, else today's date and free letters.

    It is not made here. An ``--out`` among the options wins.
    """
    runs = inside(data.root, data.root / RUNS)
    if "--out" in options[:-1]:
        return Path(options[options.index("--out") + 1])
    if "--resume" in options and (folders := run_folders(data)):
        return folders[0]
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    number = 0
    while (folder := runs / f"{today}-{_letters(number)}").exists() or berth_of(folder).exists():
        number += 1
    return folder


def run_folders(data: ProjectData) -> list[Path]:
    """Return the folders of all runs, the newest first, after having put each one's own files into it.

    Raises:
        CurateError: E914 when ``runs`` lies outside of the workspace.
    """
    runs = inside(data.root, data.root / RUNS)
    folders = {path for path in runs.glob("*") if path.is_dir() and not path.name.startswith(".")}
    for berth in runs.glob(".*"):
        folder = berth.with_name(berth.name.removeprefix("."))
        if berth.is_dir() and berth == berth_of(folder):
            settle(folder)
            if folder.is_dir() or berth.is_dir():
                folders.add(folder)
    return sorted(folders, key=lambda folder: (_changed_at(folder), folder.name), reverse=True)


def resumed_dataset(folder: Path) -> Path:
    """Return the dataset that the run in ``folder`` was begun on: it goes on with that one, whatever was decided since.

    Raises:
        CurateError: E978 when the run does not say, or the dataset is gone.
    """
    try:
        path = Path(json.loads(read_file(folder / RUN_FILE, most=MOST_STATE))["dataset"]["path"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        message = f"{one_line(str(folder / RUN_FILE))} does not say what the run was begun on"
        raise CurateError("E978 cannot-resume", message, "Begin a new run.") from error
    if not path.is_dir():
        raise CurateError("E978 cannot-resume", f"the dataset {one_line(str(path))} is gone", "Begin a new run.")
    return path


def train(data: ProjectData, dataset: Path, folder: Path, options: Sequence[str]) -> int:
    """Run ``train run`` on ``dataset`` into ``folder``, and return its exit code; 128 + n where signal n killed it.

    Its stdin is closed; its data goes to our stdout and its talk to our stderr. SIGINT, SIGTERM and SIGHUP are passed
    on, and it is waited for. Others see it by the folder meanwhile; of a dry run there is none.

    Raises:
        CurateError: E906 when the folder cannot be written; E914 for a recipe outside of the workspace.
    """
    # In a group of its own the child gets a signal once, from us, and not a second time from the terminal.
    child = subprocess.Popen(_command(data, dataset, folder, options), stdin=subprocess.DEVNULL, process_group=0)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    is_dry = DRY_RUN in options
    try:
        if not is_dry:
            note(child.pid, folder)
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if not is_dry:
            settle(folder)
    return code if code >= 0 else 128 - code


def train_detached(data: ProjectData, dataset: Path, folder: Path, options: Sequence[str]) -> Process:
    """Start what `train` runs as a process of its own, which outlives us and our terminal, and return it.

    What it says goes to the file ``log`` of the run.

    Raises:
        CurateError: E906 when the folder cannot be written; E914 for a recipe outside of the workspace; E977 when a
            process is at work on the run already.
    """
    return start(_command(data, dataset, folder, options), folder)


def _command(data: ProjectData, dataset: Path, folder: Path, options: Sequence[str]) -> list[str]:
    recipe = data.settings.recipe
    # A run that is resumed has its own recipe.
    is_chosen = bool(recipe) and "--resume" not in options
    chosen = ["--recipe", str(inside(data.root, data.root / recipe))] if is_chosen else []
    return trainer_command("run", str(dataset), "--out", str(folder), *chosen, *options)


def _changed_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        # It is still in its berth: nothing is newer.
        return 2**63


def _letters(number: int) -> str:
    """Return a, b, ... z, ba, bb, ... for 0, 1, 2, ..."""
    digits = ""
    while True:
        number, rest = divmod(number, 26)
        digits = chr(ord("a") + rest) + digits
        if not number:
            return digits
