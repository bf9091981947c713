"""Files that are written whole or not at all, digests of what they hold, and the one way to open a file for reading.

A file is written under another name, synced and then renamed, so that a killed process leaves the old one.

A file that is read comes from a colleague, from git or from a download: a pipe would make us wait for ever, a device
gives bytes without end, and a link may lead to any file of this machine. So it must be a regular file, inside its
folder, of a sane size. A refusal is an OSError, like those of the system, so that callers handle one kind of error.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from io import BufferedReader
from pathlib import Path
from typing import Any

from train.base.errors import Exit, TrainError

WRITE_FAILED = "E936 write-failed"
MOST_STATE = 64 << 20
"""Bytes of a document about one run, checkpoint or process."""
MOST_DOCUMENT = 1 << 30
"""Bytes of a document that grows with the records or the steps: a manifest, a report, a metrics file."""
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, an error of the disk is raised as TrainError "E936 write-failed" (exit 3), which names ``path``."""
    try:
        yield
    except TrainError:
        raise
    except Exception as error:
        # safetensors and tokenizers report errors of the disk as exceptions of their own, whose text ends in Rust's
        # "(os error N)".
        if not isinstance(error, OSError) and "(os error " not in str(error):
            raise
        raise TrainError(
            WRITE_FAILED, f"{path}: {error}", "Make room on the disk, or name a folder that may be written to.",
            exit_code=Exit.MISSING,
        ) from error  # fmt: skip


def write_whole(path: Path, chunks: Iterable[str]) -> Path:
    """Replace ``path`` in one step by the concatenation of ``chunks`` in UTF-8, synced, and return it.

    Raises TrainError "E936 write-failed" as `writing` does; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Left behind by a killed process that had the same number; a link in its place is not followed.
            temporary.unlink(missing_ok=True)
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


@contextmanager
def appending(path: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that appends lines to ``path``, each of which outlives a kill of this process.

    It raises TrainError "E936 write-failed" as `writing` does.
    """
    with writing(path):
        # Without a buffer: what a full disk did not take must not be tried again when the file is closed.
        file = path.open("ab", buffering=0)

    def append(line: str) -> None:
        left = line.encode()
        with writing(path):
            while left:
                left = left[file.write(left) :]

    with file:
        yield append


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``final`` when the block ends well, and is gone when it does not.

    Raises TrainError "E936 write-failed" as `writing` does; what was there is then as it was.
    """
    work, old = (final.with_name(f".{final.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        with writing(final):
            # Left behind by a killed process that had the same number.
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            yield work
            # Everything is on the disk before the rename, or a power cut could leave a folder of empty files.
            for path in work.rglob("*"):
                sync(path)
            sync(work)
            # Of two folders none can replace the other in one step, so the old one steps aside.
            if final.exists():
                final.rename(old)
            work.rename(final)
            sync(final.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def canonical_json(value: Any) -> str:
    """Return a JSON value as the one text that stands for it: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    # Weights may lie in a cache of links.
    with open_file(path.resolve()) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installed_version(name: str) -> str:
    """Return the version of a package, "" where it is not installed as one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def sources_digest(folder: Path) -> str:
    """Return a SHA-256 over the names and digests of all Python files under ``folder``."""
    hashed = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        hashed.update(f"{file.relative_to(folder)} {sha256_of(file)}\n".encode())
    return hashed.hexdigest()


class FileGuardError(OSError):
    """A file is refused: ``strerror`` says what it is."""

    def __str__(self) -> str:
        return str(self.strerror)


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
            raise _refusal(path, "a link that leads to nothing") from None
        raise
    except PermissionError:
        # The system's own words say enough.
        raise
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links, a name that is too long or has a NUL in it.
        raise _refusal(path, "the path cannot be followed") from error
    if not target.is_relative_to(folder):
        raise _refusal(path, "a link that leads out of the project")
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
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        raise _refusal(path, f"{kind}, not a regular file")


def _require_size(path: Path, size: int, most: int | None) -> None:
    if most is not None and size > most:
        raise _refusal(path, f"{size:,} bytes, more than the {most:,} that are read")


def _refusal(path: Path, reason: str) -> FileGuardError:
    return FileGuardError(errno.EINVAL, reason, str(path))
