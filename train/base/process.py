"""The process that works on the folder of a run: there is one at a time, and others find it by a file.

`curate` reads that process.json. For what it starts it writes one itself, with a log beside it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from train.base.errors import TrainError
from train.base.run_folder import now
from train.base.storage import write_whole, writing

PROCESS = "process.json"
_LOG = "log"
_PROC = Path("/proc")


def is_free(folder: Path) -> bool:
    """Whether a run can begin in ``folder``: nothing is there but what tells of a process, and hidden files."""
    return not folder.exists() or all(
        path.name in (PROCESS, _LOG) or path.name.startswith(".") for path in folder.iterdir()
    )


@contextmanager
def at_work(folder: Path, *, is_first: bool = True) -> Iterator[None]:
    """Within, ``folder``, which is made where it is missing, is this process's alone, and its process.json says so.

    Of several ranks only the first does that. Raises TrainError "E977 run-busy" where another process has it.
    """
    if not is_first:
        yield
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        with suppress(OSError, IndexError):
            # The start in clock ticks tells it from a later process of the same number: proc_pid_stat(5), field 22.
            started = int((_PROC / "self/stat").read_bytes().rsplit(b")", 1)[-1].split()[19])
            boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            about = {"pid": os.getpid(), "started": started, "boot": boot, "at": now(), "stop_asked": ""}
            write_whole(folder / PROCESS, [json.dumps(about, indent=1) + "\n"])
        yield


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within, no other process can claim ``folder``, which is there; raises TrainError "E977 run-busy"."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # The system gives it back when the process ends, however it ends. Some network disks lock no folders.
        with suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"another process is at work on {folder}"
                hint = "Wait for it, or stop it: Ctrl-C where it runs, or `curate runs --stop`."
                raise TrainError("E977 run-busy", message, hint) from None
        yield
    finally:
        os.close(handle)
