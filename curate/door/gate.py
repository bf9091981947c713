"""Which files are let in: regular ones, inside the project, that are not something else under a record file's name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from curate.door.faults import DoorFault
from curate.record import CurateError
from curate.say import one_line

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"LZIP", "lzip"),
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"SQLite format 3\x00", "SQLite"),
    (b"%PDF-", "PDF"),
    (b"\x89HDF", "HDF5"),
)
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
HEAD_BYTES = 512


def open_regular(path: Path, root: Path | None = None) -> int:
    """Open ``path`` for reading and return its descriptor.

    A link is followed only when it stays inside ``root`` (by default the file's own folder). The file that is opened is
    the file that was looked at: the last step never follows a link, and a pipe does not make it wait.

    Raises:
        DoorFault: S127, it is not a regular file of the project.
        CurateError: E904, there is no such file or it may not be read.
    """
    inside = (root or path.parent).resolve()
    try:
        target = path.resolve(strict=True)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DoorFault("S127", "a link that leads to nothing", 0) from error
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} does not exist") from error
    except (OSError, RuntimeError) as error:
        raise DoorFault("S127", "the path cannot be followed", 0) from error
    if not target.is_relative_to(inside):
        raise DoorFault(
            "S127", "a link that leads out of the project", 0, "Name the file itself, or copy it into the project."
        )
    try:
        handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if stat.S_ISSOCK(target.lstat().st_mode):
            raise DoorFault("S127", "a socket, not a regular file", 0) from error
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} cannot be read: {error.strerror}") from error
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise DoorFault("S127", f"{_kind_of(mode)}, not a regular file", 0)
    return handle


def refuse_disguise(head: bytes) -> None:
    """Refuse a file whose first bytes say that it is not lines of text at all.

    Raises:
        DoorFault: S114 for a pointer, S115 for packed and binary files, S103 for UTF-16 and UTF-32, S124 for web pages.
    """
    for magic, name in _PACKED:
        if head.startswith(magic):
            raise DoorFault("S115", f"the file is {name}, not JSON Lines", 1, "Unpack or convert it first.")
    if head[257:262] == b"ustar":
        raise DoorFault("S115", "the file is a tar archive, not JSON Lines", 1, "Unpack it first.")
    if head.startswith(b"version https://git-lfs") or b"/annex/objects/" in head[:64]:
        raise DoorFault("S114", "the file is a pointer to data that was not fetched", 1, "Run `git lfs pull`.")
    for mark in (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"):
        if head.startswith(mark):
            raise DoorFault("S103", "the file is UTF-16 or UTF-32", 1, "Convert it with `iconv -t UTF-8`.")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES):
        raise DoorFault("S124", "the file is a web page or XML", 1, "Fetch the data file itself.")


def _kind_of(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device"
    return "a special file"
