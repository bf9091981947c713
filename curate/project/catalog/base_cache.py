"""The base of a catalogue kept in ``.curate/cache/catalog``, so that opening a million records again costs nothing.

A base lies in a folder named by a digest of all that it was made from: names, sizes, times and inodes of the record
files, the schema, and this code. Its texts are Arrow IPC files, a span of a record file each, which polars reads
column by column when a filter asks; all else is mapped into memory.

What is read back is not held against a digest, which would take a second a gigabyte. Instead the size, inode, and times
of each file are written down as it was made: no later writing leaves them as they are, nor does unpacking a folder
that somebody else has made. What does not fit is removed and made again.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from curate.base.file_guard import inside, open_descriptor, open_file
from curate.base.record import CurateError, Finding, canonical
from curate.base.storage import WRITE_FAILED, Scratch, make_cache, remove_folder
from curate.project.catalog.base import Base, BaseHeader, FileStamp, Keeper, files_as_they_are, read_base
from curate.project.catalog.columns import SCHEMA
from curate.project.catalog.pieces import Progress
from curate.project.data import ProjectData
from curate.schema import Shape
from curate.schema.schema_set import read_schema_set

VERSION = 2
"""Raised whenever the same record files would give another base, or one that is written otherwise."""
CACHE_FROM = 4_000_000
"""Bytes of record files from which a base is kept; below, reading them again takes a fraction of a second."""
_FOLDER = Path(".curate")
_CATALOGS = _FOLDER / "cache" / "catalog"
_ABOUT, _IDS, _ROWS = "about.json", "ids.arrow", "rows.bin"
_ARRAYS: dict[str, np.dtype[Any]] = {
    "offsets": np.dtype(np.int64),
    "hashes": np.dtype(np.uint64),
    "order": np.dtype(np.uint32),
}
_NAMED = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}\.[0-9]+\.tmp")
_NUM_RETAINED = 2
_SETTLED = 100_000_000
"""Nanoseconds: a file written less than this before it is read could be written again within one tick of its clock."""


def cached_base(
    data: ProjectData, on_progress: Progress | None = None, *, cache_from: int = CACHE_FROM
) -> tuple[Base, list[str]]:
    """Return the base of a workspace: the one that is kept, if it is of the same files, else read anew and kept.

    Also returned are remarks for people: why it could not be kept.

    Raises:
        CurateError: E914 when the folder of caches lies elsewhere; and as `read_base` does.
    """
    files, root = data.matching_files(), data.root
    present = files_as_they_are(files, root)
    if sum(size for _, size, *_ in present) < cache_from:
        return read_base(files, data.shape, root, Keeper(), on_progress), []
    inside(root, root / _CATALOGS)
    if any(time.time_ns() - changed < _SETTLED for _, _, changed, _, _ in present):
        time.sleep(_SETTLED / 1e9)
        present = files_as_they_are(files, root)
    folder = root / _CATALOGS / _key(present, data.shape)
    if (base := _read(folder)) is not None:
        return base, []
    remarks: list[str] = []
    try:
        make_cache(root / _FOLDER)
        keeper = _Folder(folder)
        try:
            base = read_base(files, data.shape, root, keeper, on_progress)
        finally:
            keeper.scratch.discard()
    except CurateError as error:
        # The disk may be full: then what was read is read again, into memory.
        if error.code != WRITE_FAILED:
            raise
        remarks.append(f"the catalogue is not kept: {error.message}")
        base = read_base(files, data.shape, root, Keeper(), on_progress)
    _sweep(folder)
    return base, remarks


class _Folder(Keeper):
    """Takes the pieces of a base into files."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.scratch = Scratch(folder)
        self._names: list[str] = []

    def take(self, texts: bytes, rows: bytes) -> None:
        """Keep the next piece."""
        self._names.append(f"texts-{len(self._names):05}.arrow")
        self.scratch.append(self._names[-1], texts)
        self.scratch.append(_ROWS, rows)

    def finish(
        self, about: BaseHeader, ids: pl.Series, offsets: NDArray[np.int64], hashes: NDArray[np.uint64],
        order: NDArray[np.uint32],
    ) -> Base:  # fmt: skip
        """Give the folder its name and return what is in it as a base."""
        buffer = BytesIO()
        ids.to_frame().write_ipc(buffer)
        self.scratch.append(_IDS, buffer.getbuffer())
        self.scratch.append(_ROWS, b"")
        for name, array in (("offsets", offsets), ("hashes", hashes), ("order", order)):
            self.scratch.append(f"{name}.bin", np.ascontiguousarray(array).view(np.uint8).data)
        names = [*self._names, _IDS, _ROWS, *(f"{name}.bin" for name in _ARRAYS)]
        parts = {name: _print_of(self.scratch.path(name)) for name in names}
        content = orjson.dumps({**asdict(about), "parts": parts, "texts": self._names})
        self.scratch.append(_ABOUT, _digest(content) + b"\n" + content)
        self.scratch.publish()
        base = _read(self.scratch.folder)
        if base is None:
            raise CurateError(WRITE_FAILED, f"{self.scratch.folder} was changed as soon as it was written")
        return base


def _read(folder: Path) -> Base | None:
    """Return the base that is kept in ``folder``, None where none is, or not a whole one, which is removed."""
    try:
        # Whoever sweeps leaves what is locked; the lock is gone with the last who holds this file open.
        handle = open_descriptor(folder / _ABOUT)
    except OSError:
        remove_folder(folder)
        return None
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        digest, _, content = os.pread(handle, os.fstat(handle).st_size, 0).partition(b"\n")
        if digest != _digest(content):
            raise ValueError(f"{folder} was changed")
        known = orjson.loads(content)
        parts: dict[str, list[int]] = known.pop("parts")
        names: list[str] = known.pop("texts")
        if not _is_whole(folder, parts):
            raise ValueError(f"{folder} was changed")
        about = BaseHeader(
            [tuple(entry) for entry in known.pop("files")],
            findings=[Finding(**entry) for entry in known.pop("findings")],
            **known,
        )
        arrays = {name: _mapped(folder / f"{name}.bin", kind) for name, kind in _ARRAYS.items()}
        heap = _mapped(folder / _ROWS, np.dtype(np.uint8))
        ids = pl.read_ipc(folder / _IDS)["id"]
    except (OSError, ValueError):
        os.close(handle)
        remove_folder(folder)
        return None
    with suppress(OSError):
        os.utime(folder)
    texts = pl.scan_ipc([folder / name for name in names]) if names else SCHEMA.to_frame().lazy()
    base = Base(about, texts, ids, heap, **arrays, is_whole=lambda: _is_whole(folder, parts))
    weakref.finalize(base, os.close, handle)
    return base


def _key(present: Sequence[FileStamp], shape: Shape) -> str:
    """Return the name of the folder for what is made of these files with this shape."""
    _, _, project = read_schema_set(shape.path, shape.root)
    about: list[Any] = [VERSION, version("pairsmith"), pl.__version__, str(shape.path), project.documents, present]
    return blake2b(canonical(about), digest_size=16).hexdigest()


def _is_whole(folder: Path, parts: dict[str, list[int]]) -> bool:
    """Whether every file is there as it was written."""
    try:
        return all(_print_of(folder / name) == print_ for name, print_ in parts.items())
    except OSError:
        return False


def _print_of(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _mapped(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    with open_file(path) as file:
        # A file without bytes cannot be mapped.
        return np.memmap(file, kind, "r") if os.fstat(file.fileno()).st_size else np.zeros(0, kind)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).hexdigest().encode()


def _sweep(used: Path) -> None:
    """Remove all but the bases used last, unless somebody has one open, and what processes left that ended badly.

    Whatever is not called like a base is somebody else's, and stays.
    """
    folders = [folder for folder in used.parent.glob("*") if _NAMED.fullmatch(folder.name) and folder != used]
    bases = sorted((folder for folder in folders if not folder.name.startswith(".")), key=_used, reverse=True)
    for folder in bases[_NUM_RETAINED - 1 :]:
        if not _is_open(folder):
            remove_folder(folder)
    for folder in folders:
        if folder.name.startswith(".") and time.time() - _used(folder) > 86400:
            remove_folder(folder)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _is_open(folder: Path) -> bool:
    """Whether some process has the base in ``folder`` open, or may have."""
    try:
        handle = open_descriptor(folder / _ABOUT)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
