"""The one way to open a file of a workspace, dataset or run for reading: regular, inside, and not too large."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from curate.base.console import one_line
from curate.base.record import CurateError, Exit

# Bytes of what a person types, such as curate.toml.
MOST_SETTINGS = 1 << 20
# Bytes of a document about one run, checkpoint or process.
MOST_STATE = 64 << 20
# Bytes of a document that grows with the records: a manifest, the frozen test set, a baseline, what folds keep.
MOST_DOCUMENT = 1 << 30
# Bytes of a journal segment: ten million decisions of one act take 3.3 GB.
MOST_SEGMENT = 4 << 30
# Name, size, times of the last change of content and of anything, and inode of a file: what tells that it changed.
FileStamp = tuple[str, int, int, int, int]
# Nanoseconds: a file written less than this before it is read could be written again within one tick of its clock.
SETTLED = 100_000_000
_COPY_INSIDE = "Copy the files into the workspace, or import them with `curate import`."


# A file of a workspace, dataset or run comes from a colleague, from git or from a download. As a pipe it would make us
# wait for ever, as a device give bytes without end, and as a link bring what lies elsewhere. What is refused is an
# OSError, like what the system refuses, so that a reader of files has one case for both.


class FileGuardError(OSError):
    """A file that is not opened: ``strerror`` says what it is, ``hint`` what to do about it."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))
        self.hint = hint

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[type[FileGuardError], tuple[Path, str, str]]:
        return type(self), (Path(self.filename), str(self.strerror), self.hint)


def hint_of(error: OSError, otherwise: str) -> str:
    """Return what to do about a file that cannot be read: what the guard says, where it was the guard."""
    return error.hint if isinstance(error, FileGuardError) else otherwise


# Of these the machine has too little: another call may work, so they have an exit code of their own.
_LACKING = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def system_refused(error: OSError) -> CurateError:
    """Return E946 for what the system has refused: which file, and why; exit code 3 where it lacks something."""
    name = f"{one_line(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
    message = f"{name}{error.strerror or one_line(str(error))}"
    exit_code = Exit.MISSING if error.errno in _LACKING else Exit.USAGE
    return CurateError("E946 system-refused", message, hint_of(error, ""), exit_code=exit_code)


def open_descriptor(path: Path, root: Path | None = None, *, most: int | None = None) -> int:
    """Open ``path`` for reading and return its descriptor.

    A link is followed only where it stays inside ``root``, by default the file's own folder. The file that is opened is
    the file that was looked at. ``most`` bounds its size in bytes; None is for what is read as a stream.

    Raises:
        FileGuardError: it is no regular file, lies outside of ``root``, or is too large.
        OSError: it is missing, or the system refuses.
    """
    try:
        target = path.resolve(strict=True)
        folder = (path.parent if root is None else root).resolve()
    except FileNotFoundError:
        if path.is_symlink():
            raise FileGuardError(path, "a link that leads to nothing", "Remove it, or restore what it names.") from None
        raise
    except PermissionError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links, a name that is too long or has a NUL in it.
        raise FileGuardError(path, "the path cannot be followed", "Put the file itself there.") from error
    if not target.is_relative_to(folder):
        hint = "Name the file itself, or copy it into the project."
        raise FileGuardError(path, "a link that leads out of the project", hint)
    _require_regular(path, target.lstat())
    # A pipe in its place by now does not make us wait, and a link is not followed.
    handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        _require_regular(path, status)
        _require_size(path, status.st_size, most)
    except FileGuardError:
        os.close(handle)
        raise
    return handle


def open_file(path: Path, root: Path | None = None, *, most: int | None = None) -> BufferedReader:
    """Open ``path`` as `open_descriptor` does, and return it as a file of bytes."""
    return os.fdopen(open_descriptor(path, root, most=most), "rb")


def read_file(path: Path, root: Path | None = None, *, most: int) -> bytes:
    """Return the bytes of ``path``, at most ``most`` of them; raises as `open_descriptor`."""
    with open_file(path, root, most=most) as file:
        content = file.read()
    # It may have grown meanwhile.
    _require_size(path, len(content), most)
    return content


def stamp_of(path: Path, name: str) -> FileStamp:
    """Return what tells whether the file ``path``, called ``name``, changed; one that is missing has only its name."""
    try:
        stat = path.stat()
    except OSError:
        return name, 0, 0, 0, 0
    return name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def files_changed(file: str) -> CurateError:
    """Return the error for a file that is not what it was when it was read."""
    hint = "Run the command again. In the screens r reads the records again; in a form press esc first."
    return CurateError("E974 files-changed", f"{file} was changed by another program", hint)


def inside(root: Path, path: Path, hint: str = _COPY_INSIDE) -> Path:
    """Return ``path`` after making sure that it, with every link followed, lies inside ``root``.

    Raises:
        CurateError: E914 when it does not.
    """
    # What is no path at all, with a NUL or a loop of links in it, leads nowhere.
    try:
        target = path.resolve()
    except (ValueError, RuntimeError, OSError) as error:
        raise CurateError("E914 outside-workspace", f"{path} is no path: {error}", "Name what is there.") from error
    if not target.is_relative_to(root.resolve()):
        raise CurateError("E914 outside-workspace", f"{path} leads to {target}, outside the workspace {root}", hint)
    return path


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        hint = "Put a regular file in its place, or remove it."
        raise FileGuardError(path, f"{_kind_of(status.st_mode)}, not a regular file", hint)


def _require_size(path: Path, size: int, most: int | None) -> None:
    if most is not None and size > most:
        reason = f"{size:,} bytes, more than the {most:,} that are read"
        raise FileGuardError(path, reason, "Is it the file that belongs there? Restore it from git or another copy.")


def _kind_of(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
             stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "a special file")
