"""Tables and texts that are not UTF-8: UTF-16 and UTF-32 by their first bytes, all others in the encoding asked for.

No other encoding is guessed: short texts are words in several, and a wrong guess would spoil them in silence.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from curate.formats.importers import (
    Container,
    Rejected,
    SourceRow,
    cannot_import,
    container,
    container_of,
    head_of,
    wide_encoding,
)
from curate.formats.importers.documents import SUFFIXES
from curate.formats.importers.packed import UnpackFolder, rows_inside
from curate.formats.importers.tabular import TABLES

_CHUNK = 1024 * 1024


def _fits(path: Path, head: bytes) -> bool:
    return path.suffix.lower() in (*TABLES, *SUFFIXES) and path.is_file() and bool(wide_encoding(head))


def _notices(path: Path) -> Sequence[str]:
    encoding = wide_encoding(head_of(path))
    return [f"its encoding is {encoding}, by its first bytes", *container_for(path, encoding).notices(path)]


def _layout(path: Path) -> str:
    return container_for(path, wide_encoding(head_of(path))).layout(path)


@container("encoded", fits=_fits, priority=2, notices=_notices, layout=_layout)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Tables and texts in UTF-16 or UTF-32; for any other encoding than UTF-8, `--encoding` names it."""
    yield from container_for(path, wide_encoding(head_of(path))).rows(path)


def container_for(path: Path, encoding: str) -> Container:
    """Return what reads a file of text in ``encoding``, a name that Python knows, such as cp1252 or utf-16.

    Raises:
        CurateError: E908 for an encoding that nobody knows, or a file that is not in it.
    """
    try:
        codecs.getincrementaldecoder(encoding)
        if not isinstance("a".encode(encoding), bytes):
            raise LookupError(encoding)
    except (LookupError, TypeError, ValueError) as error:
        hint = "Known are for example utf-8, utf-16, cp1252, cp1251, gb18030 and cp932."
        raise cannot_import(f"there is no encoding of texts called {encoding!r}", hint) from error
    head_of(path)
    copy, folder = _copy(path, encoding)
    inner = container_of(copy)

    def rows(path: Path, _folder: UnpackFolder = folder) -> Iterator[SourceRow | Rejected]:
        # Whoever reads the copy holds its folder.
        yield from rows_inside(path, "", copy, inner.rows(copy))

    return replace(
        inner, rows=rows, unpacks=(), notices=lambda _path: inner.notices(copy), layout=lambda _path: inner.layout(copy)
    )


def _copy(path: Path, encoding: str) -> tuple[Path, UnpackFolder]:
    status = path.stat()
    return _copied_once(path, encoding, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _copied_once(path: Path, encoding: str, _size: int, _changed: int) -> tuple[Path, UnpackFolder]:
    """Return the file in UTF-8, under its own name in a temporary folder.

    Raises:
        CurateError: E908 when it is not in ``encoding``.
    """
    folder = UnpackFolder()
    copy = folder.path / path.name
    try:
        with path.open(encoding=encoding, newline="") as source, copy.open("w", encoding="utf-8", newline="") as target:
            while text := source.read(_CHUNK):
                target.write(text)
    except UnicodeError as error:
        raise cannot_import(f"{path}: it is not {encoding}: {error}", "Name another --encoding.") from error
    except OSError as error:
        raise cannot_import(f"{path}: no copy of it can be made: {error}", "Make room, or convert it.") from error
    # The "Unicode text" of Excel is a table.
    lines = head_of(copy).split(b"\n")
    if copy.suffix.lower() == ".txt" and len(lines) > 1 and 0 < lines[0].count(b"\t") == lines[1].count(b"\t"):
        copy = copy.rename(copy.with_suffix(".tsv"))
    return copy, folder
