"""Training as a child process: the workspace's side of the border. What crosses it are files and signals."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from curate.trainer import trainer_command
from curate.workspace import RUNS, Workspace, inside

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_folder(workspace: Workspace, options: Sequence[str]) -> Path:
    """Return the folder of the run: the newest where ``options`` resume one, else today's date and free letters.

    It is not made here. An ``--out`` among the options wins.
    """
    runs = inside(workspace.root, workspace.root / RUNS)
    if "--out" in options[:-1]:
        return Path(options[options.index("--out") + 1])
    if "--resume" in options and (found := [path for path in runs.glob("*") if path.is_dir()]):
        return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    number = 0
    while (folder := runs / f"{today}-{_letters(number)}").exists():
        number += 1
    return folder


def train(workspace: Workspace, dataset: Path, folder: Path, options: Sequence[str]) -> int:
    """Run ``train run`` on ``dataset`` into ``folder``, and return its exit code; 128 + n where signal n killed it.

    Its stdin is closed; its data goes to our stdout and its talk to our stderr. SIGINT, SIGTERM and SIGHUP are passed
    on, and it is waited for.
    """
    recipe = workspace.settings.recipe
    chosen = ["--recipe", str(inside(workspace.root, workspace.root / recipe))] if recipe else []
    command = trainer_command("run", str(dataset), "--out", str(folder), *chosen, *options)
    # In a group of its own the child gets a signal once, from us, and not a second time from the terminal.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _letters(number: int) -> str:
    """Return a, b, ... z, ba, bb, ... for 0, 1, 2, ..."""
    digits = ""
    while True:
        number, rest = divmod(number, 26)
        digits = chr(ord("a") + rest) + digits
        if not number:
            return digits
