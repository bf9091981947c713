"""One process at a time: a file that says who is at work on something."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import open_descriptor
from curate.base.record import CurateError, Json
from curate.base.storage import write_atomic
from curate.project.journal import FOLDER

# Made by a process that changes what lies in the journal, other than by appending to it.
CLAIM = f"{FOLDER}/.recover.lock"
_MOST_BYTES = 65536


@contextmanager
def claimed(path: Path, what: str) -> Iterator[None]:
    """Be the only one who does ``what``, a gerund: ``path`` is made and says who we are, and is removed at the end.

    Raises:
        CurateError: E981 while somebody else holds the claim; E906 when the system refuses.
    """
    ours = json.dumps({"host": socket.gethostname(), "what": what, **_identity(os.getpid())})
    # A claim that was taken from a dead process may be made by another one first.
    while not _create_claim(path, ours.encode()):
        _take_from_the_dead(path, what)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def _create_claim(path: Path, content: bytes) -> bool:
    try:
        write_atomic(path, [content, b"\n"], is_new=True)
    except CurateError as error:
        if error.number == "E919":
            return False
        raise
    return True


# A claim is taken from a process of this machine that is gone. One that another machine has left on a shared disk
# stands until a person removes it, because from here nobody can tell whether it is still at work.


def _take_from_the_dead(path: Path, what: str) -> None:
    """Remove the claim ``path`` if its process is gone.

    Raises:
        CurateError: E981 when it is not, or nobody can tell.
    """
    try:
        handle = open_descriptor(path)
    except FileNotFoundError:
        return
    try:
        # This lock is held to remove a claim. The next claim is another file, so it is never removed by mistake.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if not _is_same(handle, path):
            return
        is_gone, holder = _holder(os.read(handle, _MOST_BYTES))
        if not is_gone:
            raise CurateError(
                "E981 in-use",
                f"{one_line(str(path), 500)}: {one_line(holder)}; {what} has to wait",
                "Run it again when that is done. If you are sure that it is not running any more, remove that file.",
            )
        path.unlink()
    finally:
        os.close(handle)


def _holder(claim: bytes) -> tuple[bool, str]:
    """Return whether the process that made ``claim`` is gone for sure, and who it is in words."""
    try:
        holder: Json = json.loads(claim)
        is_here = holder["host"] == socket.gethostname()
        is_gone = is_here and any(holder[key] != value for key, value in _identity(holder["pid"]).items())
        return is_gone, f"process {holder['pid']} on {holder['host']} is {holder['what']}"
    except (ValueError, KeyError, TypeError):
        return False, "somebody is at work"


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _identity(pid: int) -> dict[str, Json]:
    """Return what tells a process from all others that ever had or will have its number on this machine."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # The name in parentheses may hold anything; the start time is the 20th field behind it.
        started = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return {"pid": pid, "boot": boot, "started": started.split()[19]}
    except FileNotFoundError:
        return {"pid": pid, "boot": None, "started": None}
