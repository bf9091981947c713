"""One process at a time, by a lock that the system takes back when its process ends, however that happens."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curate.base.console import one_line
from curate.base.record import CurateError
from curate.base.storage import make_folder, refusal


@contextmanager
def claimed(path: Path, what: str) -> Iterator[None]:
    """Be the only process that does ``what``, a gerund: the file ``path`` is locked, and removed at the end.

    Raises:
        CurateError: E981 while another process holds the lock; E906 when the system refuses.
    """
    handle = _lock(path, what)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path, what: str) -> int:
    make_folder(path.parent)
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise refusal(path, error) from error
        try:
            # Where a file system has no locks, nobody can hold one.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            message = f"{one_line(str(path), 500)}: another process is {what}"
            raise CurateError("E981 in-use", message, "Run it again when that is done.") from error
        except OSError:
            return handle
        # Whoever held the lock may just have removed the file: then the lock is of no file that anybody else can find.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.lstat()):
                return handle
        os.close(handle)
