"""A process that outlives the program and the terminal that started it, and is found again by its files alone.

They lie in the folder of the run, which is made first: `train run` begins where nothing else is.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import MOST_STATE, read_file
from curate.base.record import CurateError
from curate.base.storage import write_atomic

PROCESS_FILE = "process.json"
LOG_FILE = "log"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
_children: set[int] = set()  # Processes that were started here and have not been waited for.


@dataclass(frozen=True, slots=True)
class Process:
    """A process, described so that another one with the same number is never mistaken for it.

    ``started`` is when it started, in clock ticks since ``boot``, the number of the machine's start.
    """

    pid: int
    started: int
    boot: str
    at: str  # When it was started, in UTC, for people.
    stop_asked: str = ""  # When it was last asked to stop, in UTC.

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a zombie, whose exit code nobody has read yet, does not."""
        state, started = _stat(self.pid)
        is_it = self.boot == _boot() and started == self.started
        if is_it and state == "Z" and self.pid in _children:
            # Nobody else waits for it.
            _children.discard(self.pid)
            with suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
        return is_it and state not in ("Z", "X")

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; return False where it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The handle holds on to the process: its number cannot go to another one between the look and the signal.
            if not self.is_alive:
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def start(command: Sequence[str], folder: Path) -> Process:
    """Start ``command`` as a process of its own for the run ``folder``, and return it; its output ends the run's log.

    Raises:
        CurateError: E906 and E977 as `reserve`; E979 when it cannot start.
    """
    reserve(folder)
    log = str(folder / LOG_FILE)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        # No Popen: nobody here waits for the child. In a session of its own no terminal can hang it up.
        pid = os.posix_spawn(
            command[0], list(command), os.environ, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_OURS
        )
    except OSError as error:
        message = f"{one_line(command[0])}: {error.strerror}"
        raise CurateError("E979 not-started", message, "Is the installation whole?") from error
    _children.add(pid)
    return note(pid, folder)


def reserve(folder: Path) -> None:
    """Make ``folder`` where it is missing, and write this process down as the one at work there.

    Who looks before a child has been started in its name sees a run that begins, and none that failed.

    Raises:
        CurateError: E906 when it cannot be written; E977 when another process has the run.
    """
    if (known := read_process(folder)) is not None and known.is_alive:
        message = f"process {known.pid} is at work on {one_line(str(folder))}"
        raise CurateError("E977 run-busy", message, "Stop it first: `curate runs --stop`.")
    note(os.getpid(), folder)


def note(pid: int, folder: Path) -> Process:
    """Write down (E906) that the process ``pid``, which nobody has waited for, works on the run ``folder``."""
    process = Process(pid, _stat(pid)[1], _boot(), _now())
    _write(process, folder)
    return process


def release(folder: Path) -> None:
    """Forget the process of ``folder`` once it has ended; an empty folder goes too."""
    (folder / PROCESS_FILE).unlink(missing_ok=True)
    # A folder that holds something else stays.
    with suppress(OSError):
        folder.rmdir()


def read_process(folder: Path) -> Process | None:
    """Return the last process of the run ``folder``, None where none is written down or what is there is damaged."""
    try:
        value = json.loads(read_file(folder / PROCESS_FILE, most=MOST_STATE))
        process = Process(**value)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = (process.boot, process.at, process.stop_asked)
    is_whole = type(process.pid) is int and type(process.started) is int and all(type(text) is str for text in texts)
    return process if is_whole and process.pid > 0 and process.started > 0 else None


def ask_to_stop(folder: Path) -> Process | None:
    """Ask the process of a run to save and stop (SIGTERM), and return it; None where none is alive.

    Raises:
        CurateError: E906 when it cannot be written down; it has been asked then.
    """
    process = read_process(folder)
    if process is None or not process.is_alive:
        return None
    # Asked a second time, it would end without saving.
    if process.stop_asked:
        return process
    if not process.send(signal.SIGTERM):
        return None
    stopping = replace(process, stop_asked=_now())
    _write(stopping, folder)
    return stopping


def _write(process: Process, folder: Path) -> None:
    write_atomic(folder / PROCESS_FILE, [json.dumps(asdict(process), indent=1).encode() + b"\n"])


def _stat(pid: int) -> tuple[str, int]:
    """Return the state of a process and when it started, in clock ticks since the machine's start; ("", 0) without one.

    /proc/PID/stat, fields 3 (state) and 22 (starttime): proc_pid_stat(5). The name in field 2 may hold anything.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[-1].split()
        return fields[0].decode("ascii"), int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
