"""Packed files: gzip, Zstandard and zip, unpacked into a temporary folder as far as bounds allow, and read there."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import mkdtemp
from typing import IO, NamedTuple
from weakref import finalize

from curate.base.record import CurateError, missing_extra
from curate.base.tables import listed
from curate.formats.importers import (
    WORD_PROCESSORS,
    Container,
    Rejected,
    SourceRow,
    cannot_import,
    container,
    container_of,
    head_of,
)
from curate.formats.importers._reading import split_of
from curate.formats.importers.documents import ABOUT, SUFFIXES

# How many bytes a packed byte may become, and so many any file may hold: sentences pack four to one, one letter over
# and over a thousand to one.
MAX_RATIO = 200
ALWAYS_ALLOWED = 16 * 1024 * 1024
# The disk with the temporary folder holds no more, either.
MOST_BYTES = 8 * 1024 * 1024 * 1024
MAX_MEMBERS = 1000
_CHUNK = 1024 * 1024
# Of a packed file at once: what it unpacks to is in memory, and may be 30,000 times as much.
_PIECE = 1024
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", (b"PK\x03\x04", b"PK\x05\x06")
_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")
_MEMBERS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".parquet", ".arrow", ".md", ".txt")


class UnpackFolder:
    """A temporary folder that goes with this object, or when the process ends."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="curate-"))
        finalize(self, rmtree, self.path, ignore_errors=True)


class _Member(NamedTuple):
    """A file that was packed: its name, for people, where it lies now, and what reads it."""

    name: str
    path: Path
    container: Container


class _Unpacked(NamedTuple):
    """What is in a packed file, and the names of what is left out; the folder goes with it."""

    members: list[_Member]
    others: list[str]
    folder: UnpackFolder


def _fits(path: Path, head: bytes) -> bool:
    # Tables and documents of office programs are zip files, too.
    no_archives = (".xlsx", ".xlsm", *WORD_PROCESSORS)
    return head.startswith((_GZIP, _ZSTD)) or (head.startswith(_ZIP) and path.suffix.lower() not in no_archives)


def _notices(path: Path) -> Sequence[str]:
    members, others, _ = _unpacked(path)
    said = [f"{member.name}: {notice}" for member in members for notice in member.container.notices(member.path)]
    if len(members) > 1:
        splits = [(member.name, _split_of(member)) for member in members]
        said = [f"split {split}, by the name of {name}" for name, split in splits if split] + said
        said.insert(0, f"{len(members):,} files in it: {', '.join(name for name, _ in splits)}")
    return [*said, *(f"{name} is left out: such files are not read in a zip" for name in others)]


def _layout(path: Path) -> str:
    unpacked = _unpacked(path)
    layouts = (member.container.layout(member.path) for member in unpacked.members)
    # A file more that is laid out as the others changes nothing.
    return "; ".join(filter(None, dict.fromkeys(layouts)))


@container("packed", fits=_fits, priority=3, notices=_notices, unpacks=("gzip", "zstd", "zip"), layout=_layout)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Data packed by gzip or zstd (.jsonl.gz, .csv.zst), or a zip of such files; of several, names say the split."""
    # Whoever reads a packed file holds its folder.
    unpacked = _unpacked(path)
    is_one = len(unpacked.members) == 1
    number = 0
    for member in unpacked.members:
        name, inner, reader = member
        # One file is read as it would be if it were not packed.
        part, split = ("", "") if is_one else (PurePosixPath(name).stem, _split_of(member))
        for row in rows_inside(path, name, inner, reader.rows(inner)):
            number += 1
            line = row.line if is_one else number
            if isinstance(row, Rejected):
                yield Rejected(line, row.code, row.reason if is_one else f"{name}: {row.reason}", row.raw)
            else:
                yield SourceRow(row.value, line, row.raw, row.split or split, part)


def _split_of(member: _Member) -> str:
    return split_of(PurePosixPath(member.name).stem)


def rows_inside(
    path: Path, name: str, inner: Path, rows: Iterator[SourceRow | Rejected]
) -> Iterator[SourceRow | Rejected]:
    """Yield the rows of ``inner``; an error names ``path`` and what is in it, not the copy that was made of it."""
    try:
        yield from rows
    except CurateError as error:
        message = error.message.replace(str(inner), f"{path}: {name}" if name else str(path))
        raise CurateError(error.code, message, error.hint.replace(str(inner), name or str(path))) from error


def _unpacked(path: Path) -> _Unpacked:
    """Return what is in a packed file.

    Raises:
        CurateError: E908 when it cannot be unpacked, or holds more than the bounds allow; E940 without zstandard.
    """
    status = path.stat()
    return _unpacked_once(path, status.st_size, status.st_mtime_ns)


# A file is read for its first rows, for what is to be said of it, and for all of its rows.
@lru_cache(maxsize=1)
def _unpacked_once(path: Path, size: int, _changed: int) -> _Unpacked:
    head = head_of(path)
    allowed = min(MOST_BYTES, max(ALWAYS_ALLOWED, MAX_RATIO * size))
    folder = UnpackFolder()
    try:
        if head.startswith(_ZIP):
            return _unzipped(path, folder, allowed)
        name = path.stem if path.suffix.lower() in _SUFFIXES else path.name
        # Most packed data are lines.
        target = folder.path / f"0{Path(name).suffix or '.jsonl'}"
        _copy(_unpacked_bytes(path, head), target, allowed, path)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        # zipfile raises the last two for a password and for an unknown method.
        message = f"{path}: it cannot be unpacked: {error}"
        raise cannot_import(message, "Unpack it and import what is inside, or fetch it again.") from error
    return _Unpacked([_Member(name, target, _reader_of(target, path))], [], folder)


def _read(packed: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    return iter(partial(packed.read, _CHUNK), b"")


def _unpacked_bytes(path: Path, head: bytes) -> Iterator[bytes]:
    """Yield what a packed file holds.

    Raises:
        OSError, EOFError, zlib.error: it is damaged, or ends too soon.
        CurateError: E940 without zstandard.
    """
    if head.startswith(_GZIP):
        with gzip.open(path, "rb") as packed:
            yield from _read(packed)
        return
    try:
        import zstandard
    except ImportError as error:
        raise missing_extra(f"{path}: unpacking Zstandard", "files", otherwise="unpack it with `zstd -d`") from error
    # A stream reader takes the end of the file for the end of the data, wherever that is.
    reader = None
    with path.open("rb") as source:
        while part := (reader and reader.unused_data) or source.read(_PIECE):
            if reader is None or reader.eof:
                reader = zstandard.ZstdDecompressor().decompressobj()
            try:
                yield reader.decompress(part)
            except zstandard.ZstdError as error:
                raise OSError(error) from error
    if reader and not reader.eof:
        raise EOFError("it ends too soon")


def _unzipped(path: Path, folder: UnpackFolder, allowed: int) -> _Unpacked:
    members: list[_Member] = []
    others: list[str] = []
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        if len(infos) > MAX_MEMBERS:
            raise cannot_import(f"{path}: {len(infos):,} files in it are more than {MAX_MEMBERS:,}", "Unpack it first.")
        names = [PurePosixPath(info.filename) for info in infos]
        has_rows = any(name.suffix.lower() in _MEMBERS and name.suffix.lower() not in SUFFIXES for name in names)
        for number, (info, name) in enumerate(zip(infos, names, strict=True)):
            suffix = name.suffix.lower()
            is_about = has_rows and suffix in SUFFIXES and name.stem.lower() in ABOUT
            if suffix not in _MEMBERS or info.filename.startswith("__MACOSX/") or is_about:
                others.append(info.filename)
                continue
            # A member's name may lead anywhere, so that it names no file here.
            target = folder.path / f"{number}{suffix}"
            if info.flag_bits & 1:
                raise cannot_import(f"{path}: {info.filename} in it needs a password", "Unpack it and import that.")
            with archive.open(info) as packed:
                allowed -= _copy(_read(packed), target, allowed, path)
            members.append(_Member(info.filename, target, _reader_of(target, path)))
    if not members:
        what = f"no file in it can be imported: {listed(others) or 'it is empty'}"
        raise cannot_import(f"{path}: {what}", f"These can: {', '.join(_MEMBERS)}.")
    return _Unpacked(members, others, folder)


def _reader_of(target: Path, path: Path) -> Container:
    # A packed file within a packed file would multiply what the bounds allow.
    try:
        reader = container_of(target)
    except CurateError as error:
        raise CurateError(error.code, error.message.replace(str(target), str(path)), error.hint) from error
    if reader.unpacks and reader.rows is rows:
        raise cannot_import(f"{path}: it holds a file that is packed itself", "Unpack it and import what is inside.")
    return reader


def _copy(packed: Iterator[bytes], target: Path, allowed: int, path: Path) -> int:
    """Unpack one file, and return how many bytes it has."""
    size = 0
    with target.open("wb") as file:
        for chunk in packed:
            size += len(chunk)
            if size > allowed:
                message = f"{path}: its {path.stat().st_size:,} bytes unpack to more than {allowed:,}"
                raise cannot_import(message, "If it is meant so, unpack it and import what is inside.")
            file.write(chunk)
    return size
