"""The base of a catalogue cached in ``.curate/cache/catalog``, so that opening a million records again costs nothing.

A base lies in a folder named by a digest of all that it was made from: names, sizes, times and inodes of the record
files, the schema, and this code. Its texts are Arrow IPC files, a span of a record file each, which polars reads
column by column when a filter asks; all else is mapped into memory.
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

from curate.base.file_guard import FileStamp, inside, open_descriptor, open_file, stamp_of
from curate.base.record import CurateError, Finding, canonical
from curate.base.storage import WRITE_FAILED, Scratch, make_cache, remove_folder
from curate.project.catalog.base import (
    Base,
    BaseHeader,
    BaseIndex,
    CatalogPiece,
    Progress,
    lines_of,
    read_base,
)
from curate.project.catalog.columns import SCHEMA
from curate.project.data import ProjectData, files_as_they_are
from curate.schema import Shape

# Raised whenever the same record files would give another base, or one that is written otherwise.
VERSION = 3
# Bytes of record files from which a base is cached; below, reading them again takes a fraction of a second.
CACHE_FROM = 4_000_000
_FOLDER = Path(".curate")
_CATALOGS = _FOLDER / "cache" / "catalog"
_ABOUT, _IDS, _ROWS = "about.json", "ids.arrow", "rows.bin"
_ARRAYS: dict[str, np.dtype[Any]] = {
    "hashes": np.dtype(np.uint64),
    "order": np.dtype(np.uint32),
    "offsets": np.dtype(np.int64),
}
_NAMED = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}\.[0-9]+\.tmp")
_NUM_RETAINED = 2
# Nanoseconds: a file written less than this before it is read could be written again within one tick of its clock.
_SETTLED = 100_000_000


def cached_base(
    data: ProjectData, on_progress: Progress | None = None, *, cache_from: int = CACHE_FROM
) -> tuple[Base, list[str]]:
    """Return the base of a workspace: the cached one, if it is of the same files, else read anew and cached.

    Also returned are remarks for people: why it could not be cached.

    Raises:
        CurateError: E914 when the folder of caches lies elsewhere; and as `read_base` does.
    """
    files, root = data.matching_files(), data.root
    present = files_as_they_are(files, root)
    if sum(size for _, size, *_ in present) < cache_from:
        return _in_memory(data, files, on_progress), []
    inside(root, root / _CATALOGS)
    if any(time.time_ns() - changed < _SETTLED for _, _, changed, _, _ in present):
        time.sleep(_SETTLED / 1e9)
        present = files_as_they_are(files, root)
    folder = root / _CATALOGS / _key(present, data.shape)
    if (base := _read(folder)) is not None:
        return base, []
    remarks: list[str] = []
    try:
        base = _written(folder, data, files, on_progress)
    except CurateError as error:
        # The disk may be full: then what was read is read again, into memory.
        if error.code != WRITE_FAILED:
            raise
        remarks.append(f"the catalogue is not kept: {error.message}")
        base = _in_memory(data, files, on_progress)
    _sweep(folder)
    return base, remarks


def _in_memory(data: ProjectData, files: Sequence[Path], on_progress: Progress | None) -> Base:
    pieces: list[CatalogPiece] = []
    about, index = read_base(files, data.shape, data.root, pieces.append, on_progress)
    frames = [pl.read_ipc(piece.texts) for piece in pieces if piece.texts]
    heap = np.frombuffer(b"".join(piece.rows for piece in pieces), np.uint8)
    # What asks for the whole records next need not read the files again.
    data.lines.items, data.lines.stamps = lines_of(pieces), about.files
    return Base(about, index, (pl.concat(frames) if frames else SCHEMA.to_frame()).lazy(), heap)


def _written(folder: Path, data: ProjectData, files: Sequence[Path], on_progress: Progress | None) -> Base:
    """Read the record files into ``folder``, which gets its name when it is whole, and return what is in it."""
    make_cache(data.root / _FOLDER)
    scratch = Scratch(folder)
    names: list[str] = []

    def on_piece(piece: CatalogPiece) -> None:
        if piece.texts:
            names.append(f"texts-{len(names):05}.arrow")
            scratch.append(names[-1], piece.texts)
            scratch.append(_ROWS, piece.rows)

    try:
        about, index = read_base(files, data.shape, data.root, on_piece, on_progress)
        buffer = BytesIO()
        index.ids.to_frame().write_ipc(buffer)
        scratch.append(_IDS, buffer.getbuffer())
        scratch.append(_ROWS, b"")
        for name in _ARRAYS:
            scratch.append(f"{name}.bin", np.ascontiguousarray(getattr(index, name)).view(np.uint8).data)
        parts = {name: _stamp(scratch.path(name)) for name in [*names, _IDS, _ROWS, *(f"{a}.bin" for a in _ARRAYS)]}
        content = orjson.dumps({**asdict(about), "parts": parts, "texts": names})
        scratch.append(_ABOUT, _digest(content) + b"\n" + content)
        scratch.publish()
    finally:
        scratch.discard()
    base = _read(folder)
    if base is None:
        raise CurateError(WRITE_FAILED, f"{folder} was changed as soon as it was written")
    return base


def _read(folder: Path) -> Base | None:
    """Return the base that is cached in ``folder``, None where none is, or not a whole one, which is removed."""
    try:
        # A sweep leaves what is locked; the lock is gone when the last process closes this file.
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
        findings = [Finding(**entry) for entry in known.pop("findings")]
        about = BaseHeader([tuple(entry) for entry in known.pop("files")], findings=findings, **known)
        arrays = {name: _mapped(folder / f"{name}.bin", kind) for name, kind in _ARRAYS.items()}
        index = BaseIndex(pl.read_ipc(folder / _IDS)["id"], **arrays)
        heap = _mapped(folder / _ROWS, np.dtype(np.uint8))
    except (OSError, ValueError):
        os.close(handle)
        remove_folder(folder)
        return None
    with suppress(OSError):
        os.utime(folder)
    texts = pl.scan_ipc([folder / name for name in names]) if names else SCHEMA.to_frame().lazy()
    base = Base(about, index, texts, heap, lambda: _is_whole(folder, parts))
    weakref.finalize(base, os.close, handle)
    return base


# What is read back is not held against a digest, which would take a second a gigabyte. Instead the size, inode, and
# times of each file are written down as it was made: no later writing leaves them as they are, nor does unpacking a
# folder that somebody else has made. What does not fit is removed and made again.


def _is_whole(folder: Path, parts: dict[str, list[int]]) -> bool:
    """Whether every file is there as it was written."""
    return all(_stamp(folder / name) == stamp for name, stamp in parts.items())


def _mapped(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    with open_file(path) as file:
        # A file without bytes cannot be mapped.
        return np.memmap(file, kind, "r") if os.fstat(file.fileno()).st_size else np.zeros(0, kind)


def _key(present: Sequence[FileStamp], shape: Shape) -> str:
    """Return the name of the folder for what is made of these files with this shape."""
    documents = shape.schema_set.documents
    about: list[Any] = [VERSION, version("pairsmith"), pl.__version__, str(shape.path), documents, present]
    return blake2b(canonical(about), digest_size=16).hexdigest()


def _stamp(path: Path) -> list[int]:
    _, *stamp = stamp_of(path, "")
    return stamp


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).hexdigest().encode()


def _sweep(used: Path) -> None:
    """Remove all but the bases used last, unless somebody has one open, and what processes left that ended badly."""
    # Whatever is not called like a base is somebody else's, and stays.
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
