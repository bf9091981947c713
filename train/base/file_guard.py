"""Open a file of a workspace, dataset or run for reading: a regular file, inside its folder, of a sane size.

Such a file comes from a colleague, from git or from a download. A pipe would make us wait for ever, a device gives
bytes without end, and a link may lead to any file of this machine. A refusal is an OSError, like those of the system,
so that callers handle one kind of error.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MOST_STATE = 64 << 20
"""Bytes of a document about one run, checkpoint or process."""
MOST_DOCUMENT = 1 << 30
"""Bytes of a document that grows with the records or the steps: a manifest, a report, a metrics file."""
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


class FileGuardError(OSError):
    """A file is refused: ``strerror`` says what it is, ``hint`` what to do about it."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))
        self.hint = hint

    def __str__(self) -> str:
        return str(self.strerror)

    # An OSError is pickled by its errno and text alone, and the hint would be lost.
    def __reduce__(self) -> tuple[type[FileGuardError], tuple[Path, str, str]]:
        return type(self), (Path(self.filename), str(self.strerror), self.hint)


def hint_of(error: OSError, otherwise: str) -> str:
    """Return what to do about a file that cannot be read: the guard's own hint, or ``otherwise``."""
    return error.hint if isinstance(error, FileGuardError) else otherwise


def open_file(path: Path, root: Path | None = None, *, most: int | None = None) -> BufferedReader:
    """Open ``path`` for reading and return it as a file of bytes.

    A link is followed only where it stays inside ``root``, by default the file's own folder. ``most`` bounds its size
    in bytes; None is for streams.

    Raises FileGuardError where it is no regular file, lies outside of ``root`` or is too large, and OSError where it is
    missing or the system refuses.
    """
    try:
        target = path.resolve(strict=True)
        folder = (path.parent if root is None else root).resolve()
    except FileNotFoundError:
        if path.is_symlink():
            raise FileGuardError(path, "a link that leads to nothing", "Remove it, or restore what it names.") from None
        raise
    except PermissionError:
        # The system's own words say enough.
        raise
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links, a name that is too long or has a NUL in it.
        raise FileGuardError(path, "the path cannot be followed", "Put the file itself there.") from error
    if not target.is_relative_to(folder):
        hint = "Name the file itself, or copy it into the project."
        raise FileGuardError(path, "a link that leads out of the project", hint)
    # Opening a pipe or a device may already do something, so the kind is looked at first.
    _require_regular(path, target.lstat())
    # Should the path be a pipe or a link by now: do not wait for the one, do not follow the other.
    handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Once more on what was opened: another process may have exchanged the file meanwhile.
        status = os.fstat(handle)
        _require_regular(path, status)
        _require_size(path, status.st_size, most)
    except FileGuardError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_file(path: Path, root: Path | None = None, *, most: int) -> bytes:
    """Return the bytes of ``path``, at most ``most`` of them. Raises as `open_file` does."""
    with open_file(path, root, most=most) as file:
        content = file.read()
    # It may have grown meanwhile.
    _require_size(path, len(content), most)
    return content


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        hint = "Put a regular file in its place, or remove it."
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        raise FileGuardError(path, f"{kind}, not a regular file", hint)


def _require_size(path: Path, size: int, most: int | None) -> None:
    if most is not None and size > most:
        reason = f"{size:,} bytes, more than the {most:,} that are read"
        raise FileGuardError(path, reason, "Is it the file that belongs there? Restore it from git or another copy.")
