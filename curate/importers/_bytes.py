"""Reading a foreign file whole or by its first bytes, with the refusals that all containers share."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from curate.door import packed_as
from curate.record import CurateError

MAX_WHOLE = 512 * 1024 * 1024
"""The largest document, in bytes, that is read as one piece; JSON lines and CSV stream and have no such limit."""


def head_of(path: Path, size: int = 4096) -> bytes:
    """Return the first bytes of a regular file.

    Raises:
        CurateError: E908 when there is no such file, or it is a pipe, a device, or an archive (never unpacked here).
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CurateError("E908 cannot-import", f"{path}: {error.strerror}", "Name a file that can be read.") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise CurateError(
                "E908 cannot-import",
                f"{path}: not a regular file",
                "Pipes and devices are not read; save the data to a file.",
            )
        head = os.read(handle, size)
    finally:
        os.close(handle)
    name = packed_as(head)
    if name and name != "Parquet":
        raise CurateError(
            "E908 cannot-import",
            f"{path}: {name}; such files are never unpacked here",
            "A small archive can hold a huge file or one with a hostile name. Unpack it and import what is inside.",
        )
    if head.startswith(b"version https://git-lfs.github.com/"):
        raise CurateError("E908 cannot-import", f"{path}: a Git LFS pointer, not the data", "Run `git lfs pull`.")
    return head


def read_whole(path: Path) -> bytes:
    """Return the bytes of a document without its byte order mark.

    Raises:
        CurateError: E908 when it is larger than `MAX_WHOLE`.
    """
    size = path.stat().st_size
    if size > MAX_WHOLE:
        raise CurateError(
            "E908 cannot-import",
            f"{path}: {size:,} bytes are more than the {MAX_WHOLE:,} that are read as one document",
            "Write it as JSON lines, which are read as a stream.",
        )
    return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
