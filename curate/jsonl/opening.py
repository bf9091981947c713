"""Opens files of records: regular ones inside the project, whose first bytes are no archive, pointer or web page."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import FileGuardError, open_descriptor
from curate.base.record import CurateError
from curate.jsonl.faults import JsonFault

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"\x1f\x9d", "compressed by compress"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x78\x01", "zlib"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\xda", "zlib"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\xff\x06\x00\x00sNaPpY", "Snappy"),
    (b"\x89LZO", "lzop"),
    (b"MSCF\x00", "a cabinet"),
    (b"MSWIM\x00", "a Windows image"),
    (b"!<arch>\n", "an ar archive"),
    (b"xar!", "a xar archive"),
    (b"zPQ", "zpaq"),
    (b"\xed\xab\xee\xdb", "an RPM package"),
    (b"PK\x07\x08", "zip"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"FEA1", "Feather"),
    (b"ORC\n", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"GGUF", "a GGUF model"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\xd0\xcf\x11\xe0", "a document of old Office"),
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
_POINTERS = (b"version https://git-lfs", b"version https://hawser.github.com/", b"# xet version")
_PAGES = (b"<!doctype", b"<html", b"<head", b"<!--", b"<?xml")
HEAD_BYTES = 512
_BLOCK = 1024 * 1024
# Digits alone could be a number in a table, so that the whole header is looked at.
_CPIO = re.compile(rb"07070[12][0-9A-Fa-f]{104}")


def open_regular(path: Path, root: Path | None = None) -> int:
    """Open ``path`` for reading and return its descriptor.

    A link is followed only when it stays inside ``root`` (by default the file's own folder).

    Raises:
        JsonFault: S127, it is not a regular file of the project.
        CurateError: E904, there is no such file or it may not be read.
    """
    try:
        return open_descriptor(path, root)
    except FileGuardError as error:
        raise JsonFault("S127", str(error), 0, error.hint) from error
    except FileNotFoundError as error:
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} does not exist") from error
    except OSError as error:
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} cannot be read: {error.strerror}") from error


def holds_any(path: Path, texts: Sequence[bytes], root: Path | None = None) -> bool:
    """Whether a file holds one of ``texts`` anywhere; not one that cannot be read, which its reader tells of."""
    try:
        handle = open_regular(path, root)
    except (JsonFault, CurateError):
        return False
    longest = max(map(len, texts))
    try:
        rest, offset = b"", 0
        while block := os.pread(handle, _BLOCK, offset):
            offset += len(block)
            block = rest + block
            if any(text in block for text in texts):
                return True
            rest = block[-longest:]
        return False
    finally:
        os.close(handle)


def packed_as(head: bytes) -> str:
    """Return what kind of archive or binary file begins with these bytes, "" where it is none that is known."""
    if head[257:262] == b"ustar":
        return "a tar archive"
    if _CPIO.match(head):
        return "a cpio archive"
    return next((name for magic, name in _PACKED if head.startswith(magic)), "")


def refuse_disguise(head: bytes) -> None:
    """Refuse a file whose first bytes say that it is not lines of text at all.

    Raises:
        JsonFault: S114 for a pointer, S115 for packed and binary files, S103 for UTF-16 and UTF-32, S124 for web pages.
    """
    if name := packed_as(head):
        raise JsonFault("S115", f"the file is {name}, not JSON Lines", 1, "Unpack or convert it first.")
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text.startswith(_POINTERS) or b"/annex/objects/" in head[:64]:
        raise JsonFault("S114", "the file is a pointer to data that was not fetched", 1, "Run `git lfs pull`.")
    for mark in (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"):
        if head.startswith(mark):
            raise JsonFault("S103", "the file is UTF-16 or UTF-32", 1, "Convert it with `iconv -t UTF-8`.")
    # Without a mark, wide encodings of JSON show by a NUL in every pair of bytes at the start.
    pairs = [head[start : start + 2] for start in range(0, min(8, len(head) - 1), 2)]
    is_json = head[:4].strip(b"\x00")[:1] in (b"{", b"[")
    if is_json and len(pairs) > 1 and all(0 in pair for pair in pairs):
        column = head.index(0) + 1
        raise JsonFault("S103", "the file is UTF-16 or UTF-32", column, "Convert it with `iconv -t UTF-8`.")
    if text.lstrip().lower().startswith(_PAGES):
        raise JsonFault("S124", "the file is a web page or XML", 1, "Fetch the data file itself.")
