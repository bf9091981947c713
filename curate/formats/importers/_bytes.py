"""Reading a foreign file whole or by its first bytes, with the refusals that all containers share."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from curate.base.record import CurateError
from curate.jsonl import packed_as

_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
MAX_WHOLE = 512 * 1024 * 1024
"""The largest document, in bytes, that is read as one piece; JSON lines and CSV stream and have no such limit."""


_SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods")


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
        hint = "A small archive can hold a huge file or one with a hostile name. Unpack it and import what is inside."
        if path.suffix.lower() in _SPREADSHEETS:
            hint = "Save the table as CSV and import that."
        raise CurateError("E908 cannot-import", f"{path}: {name}; such files are never unpacked here", hint)
    if head.startswith(b"version https://git-lfs.github.com/"):
        raise CurateError("E908 cannot-import", f"{path}: a Git LFS pointer, not the data", "Run `git lfs pull`.")
    return head


def conversion_hint(path: Path) -> str:
    """Return the command that makes UTF-8 of a text file in another encoding, as far as its first bytes tell which."""
    with path.open("rb") as handle:
        head = handle.read(4096)
    known = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")
    if not known and head.count(0) > len(head) // 4:
        known = "UTF-16LE" if head[1:2] == b"\0" else "UTF-16BE"
    clean = path.with_name(f"utf8-{path.name}")
    command = f"iconv -f {known or 'WINDOWS-1252'} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(clean))}"
    if known:
        return f"The file is {known}. Convert it: {command}"
    return f"The file is not UTF-8. Where it is from Western Europe or Excel, convert it: {command}"


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
