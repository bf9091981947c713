"""The cache of record files: the columns of each lie in one Parquet file, which is made again whenever it is not what
was written for the record file as it is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl
from polars.exceptions import PanicException, PolarsError

from curate.base.file_guard import SETTLED, FileStamp, open_file
from curate.base.hashing import Hashes
from curate.base.record import CurateError, canonical
from curate.base.storage import WRITE_FAILED, make_folder
from curate.schema import Shape
from curate.similarity.dedupe.columns import SCHEMA, VERSION, flat

_ROWS = 1 << 16
# Of files that nobody has asked for in so long nothing is kept.
_OLD_S = 30 * 24 * 3600
_ABOUT = "pairsmith"


class FileSummary(NamedTuple):
    """What is known of a file, or of a span of it, beside its records."""

    num_lines: int = 0
    is_clean: bool = True
    """Whether there is nothing to be said of its lines, before any check."""

    def then(self, later: FileSummary) -> FileSummary:
        """Return the same of both, one behind the other."""
        return FileSummary(self.num_lines + later.num_lines, self.is_clean and later.is_clean)


@dataclass(frozen=True)
class FileColumns:
    """The records of a file, a row each, in the order of their lines; the tokens may be in the cache."""

    frame: pl.DataFrame
    about: FileSummary
    stamp: FileStamp

    @staticmethod
    def joined(parts: Sequence[tuple[pl.DataFrame, FileSummary]], stamp: FileStamp) -> FileColumns:
        """Return the columns of a file from those of its spans."""
        frames, readings = zip(*parts, strict=True)
        return FileColumns(pl.concat(frames), reduce(FileSummary.then, readings, FileSummary()), stamp)


class CacheDamageError(Exception):
    """What the cache holds is not what was written for the file."""


@dataclass(frozen=True, slots=True)
class ColumnCache:
    """A folder with the columns of record files of one schema, a Parquet file each. It can be sent to workers."""

    folder: Path
    schema: str
    """A digest of the schema, and of how columns are made."""

    def path(self, stamp: FileStamp) -> Path:
        """Return where the columns of a file are; those of the file as it was before have the same place."""
        return self.folder / f"{_digest([stamp[0]])}.parquet"

    def get(self, stamp: FileStamp) -> FileColumns | None:
        """Return what is kept of a file, but the tokens; None where nothing is, or of the file as it was."""
        with suppress(CacheDamageError):
            about, sums = self._about(stamp)
            frame = _read(self.path(stamp), [name for name in SCHEMA if name != "tokens"])
            if _sums(frame) == {name: total for name, total in sums.items() if name != "tokens"}:
                return FileColumns(frame, about, stamp)
        return None

    def tokens(self, stamp: FileStamp, num_rows: int) -> Iterator[Hashes]:
        """Yield the tokens of all records of a file, some at a time.

        Raises:
            CacheDamageError: they are not what was written; what came before was not either.
        """
        total, (_, sums) = 0, self._about(stamp)
        for low in range(0, num_rows, _ROWS):
            tokens = flat(_read(self.path(stamp), ["tokens"], low))
            total += _sum(tokens)
            yield tokens
        if total % (1 << 64) != sums["tokens"]:
            raise CacheDamageError

    def keep(self, columns: FileColumns) -> bool:
        """Keep what was read of a file, and return whether it is kept: not what may change within the tick of a clock.

        Raises:
            CurateError: E906 when it cannot be written.
        """
        _, _, *times, _ = columns.stamp
        if any(time.time_ns() - changed < SETTLED for changed in times):
            return False
        path, sums = self.path(columns.stamp), _sums(columns.frame)
        text = orjson.dumps([self._key(columns.stamp), [*columns.about], sums]).decode()
        temporary = path.with_suffix(f".{os.getpid()}.{get_ident()}.tmp")
        make_folder(self.folder)
        try:
            metadata = {_ABOUT: text, "seal": _digest([text])}
            columns.frame.write_parquet(temporary, compression="lz4", row_group_size=_ROWS, metadata=metadata)
            temporary.replace(path)
            for other in [*self.folder.glob("*.parquet"), *self.folder.glob("*.tmp")]:
                if other.stat().st_mtime < time.time() - _OLD_S:
                    other.unlink()
        except (OSError, PolarsError) as error:
            with suppress(OSError):
                temporary.unlink()
            raise CurateError(WRITE_FAILED, f"{self.folder}: {getattr(error, 'strerror', None) or error}") from error
        return True

    def _key(self, stamp: FileStamp) -> str:
        # No one but us has made what is found by this: nobody can set when a file was changed, or its number.
        return _digest([*stamp, self.schema])

    def _about(self, stamp: FileStamp) -> tuple[FileSummary, dict[str, int]]:
        """Return what stands beside the columns of a file, and their sums."""
        path = self.path(stamp)
        try:
            # It may be a pipe, or a link to somewhere else.
            open_file(path).close()
            metadata = pl.read_parquet_metadata(path)
            text = metadata[_ABOUT]
            if metadata["seal"] == _digest([text]):
                key, about, sums = orjson.loads(text)
                if key == self._key(stamp):
                    return FileSummary(*about), sums
        except (OSError, PolarsError, PanicException, LookupError, ValueError) as error:
            raise CacheDamageError from error
        raise CacheDamageError


def _read(path: Path, names: Sequence[str], low: int = 0) -> pl.DataFrame:
    try:
        frame = pl.scan_parquet(path).select(names)
        return (frame if "tokens" not in names else frame.slice(low, _ROWS)).collect()
    except (OSError, PolarsError, PanicException) as error:
        raise CacheDamageError from error


def _sums(frame: pl.DataFrame) -> dict[str, int]:
    """Return a sum of each column by which a page that never reached the disk is found out."""
    return {
        name: _sum(flat(frame) if name == "tokens" else frame[name].hash().to_numpy()) for name in frame.columns
    } | {"": len(frame)}


def _sum(words: Hashes) -> int:
    return int(np.add.reduce(words, dtype=np.uint64)) if len(words) else 0


def _digest(about: Sequence[Any]) -> str:
    return blake2b(canonical(list(about)), digest_size=16).hexdigest()


def cache_in(folder: Path, shape: Shape) -> ColumnCache:
    """Return the cache in ``folder`` for lines of a schema."""
    about = [VERSION, version("pairsmith"), pl.__version__, str(shape.path), shape.schema_set.documents]
    return ColumnCache(folder, _digest(about))
