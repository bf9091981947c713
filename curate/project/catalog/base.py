"""The records as their lines have them, a row each, in arrays of memory or of a file; decisions do not touch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from curate.base.console import spelled
from curate.base.record import CurateError, Finding, Record, Source
from curate.checks.runner.verdict import FindingTally
from curate.project.catalog.columns import SCHEMA, Values
from curate.project.catalog.pieces import MOST_FINDINGS, Progress, crlf_findings, pieces
from curate.project.data import with_unique_ids
from curate.schema import Shape

FileStamp = tuple[str, int, int, int, int]
"""Name, size, times of the last change of content and of anything, and inode of a file: what tells that it changed."""


@dataclass(frozen=True, slots=True)
class LineSpan:
    """Where a record's line is: ``offset`` and ``length`` are bytes in its file."""

    file: str
    line: int
    offset: int
    length: int


@dataclass(slots=True)
class BaseHeader:
    """What is known of the whole, small enough for JSON."""

    files: list[FileStamp]
    num_lines: int = 0
    num_records: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Findings about lines and files, by code."""
    findings: list[Finding] = field(default_factory=list)
    """The first of them, at most `MOST_FINDINGS` of each severity."""


class Base:
    """Rows that do not change. ``texts`` has the columns of `SCHEMA`, ``ids`` the names, in the same order."""

    def __init__(
        self,
        about: BaseHeader,
        texts: pl.LazyFrame,
        ids: pl.Series,
        heap: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        hashes: NDArray[np.uint64],
        order: NDArray[np.uint32],
        is_whole: Callable[[], bool] = lambda: True,
    ) -> None:
        self.about = about
        self.texts = texts
        self.ids = ids
        self.is_whole = is_whole
        """Says whether the files that ``texts`` are read from are still those that were written."""
        self._heap = heap
        self._offsets = offsets
        self._hashes = hashes
        self._order = order

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, name: str) -> int | None:
        """Return the row of the record called ``name``, None where there is none."""
        wanted = hashes_of(pl.Series([name], dtype=pl.String))[0]
        first, last = np.searchsorted(self._hashes, wanted, "left"), np.searchsorted(self._hashes, wanted, "right")
        return next((row for row in self._order[first:last].tolist() if self.ids[row] == name), None)

    def find_all(self, names: Sequence[str]) -> list[int | None]:
        """Return the row of each record in ``names``, None where there is none."""
        if not len(self):
            return [None] * len(names)
        wanted = pl.Series(names, dtype=pl.String)
        hashes = hashes_of(wanted)
        first = np.minimum(np.searchsorted(self._hashes, hashes), len(self) - 1)
        rows = self._order[first]
        is_it = (self.ids.gather(rows) == wanted).to_list()
        # Two names with the same hash are never seen, and yet possible.
        candidates = zip(names, rows.tolist(), is_it, (self._hashes[first] == hashes).tolist(), strict=True)
        return [
            row if is_match else self.find(name) if is_alike else None for name, row, is_match, is_alike in candidates
        ]

    def span(self, row: int) -> LineSpan:
        """Return where the line of a row is."""
        file, line, offset, length, *_ = self._entry(row)
        return LineSpan(file, line, offset, length)

    def values(self, row: int) -> Values:
        """Return what a table shows of a row: its texts are cut to their heads."""
        file, line, _, _, *rest = self._entry(row)
        return Values(file, line, *rest)

    def _entry(self, row: int) -> list[Any]:
        entry: list[Any] = orjson.loads(self._heap[self._offsets[row] : self._offsets[row + 1]].tobytes())
        return entry


class Keeper:
    """Takes the pieces of a base as they come, here into memory."""

    def __init__(self) -> None:
        self._texts: list[bytes] = []
        self._rows: list[bytes] = []

    def take(self, texts: bytes, rows: bytes) -> None:
        """Keep the next piece."""
        self._texts.append(texts)
        self._rows.append(rows)

    def finish(
        self, about: BaseHeader, ids: pl.Series, offsets: NDArray[np.int64], hashes: NDArray[np.uint64],
        order: NDArray[np.uint32],
    ) -> Base:  # fmt: skip
        """Return all that was taken as a base."""
        frames = [pl.read_ipc(texts) for texts in self._texts]
        texts = pl.concat(frames) if frames else SCHEMA.to_frame()
        heap = np.frombuffer(b"".join(self._rows), np.uint8)
        return Base(about, texts.lazy(), ids, heap, offsets, hashes, order)


def read_base(
    files: Sequence[Path], shape: Shape, root: Path, keeper: Keeper, on_progress: Progress | None = None
) -> Base:
    """Read every line of ``files`` through the strict parser and the shape, and return the records as a base.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E905 when the schema has no ``x-record`` view; E970
            when a worker is killed; E974 when the files change while they are read.
    """
    about = BaseHeader(files_as_they_are(files, root))
    tally = FindingTally(MOST_FINDINGS)
    names: list[pl.Series] = []
    lengths: list[NDArray[np.int64]] = []
    crlf: dict[str, tuple[int, int]] = {}
    for piece in pieces(files, shape, root, on_progress):
        if piece.ids:
            keeper.take(piece.texts, piece.rows)
            names.append(pl.Series(piece.ids, dtype=pl.String))
            lengths.append(np.array(piece.lengths, np.int64))
            about.num_records += len(piece.ids)
        about.num_lines += piece.num_lines
        tally.join(piece.tally)
        if piece.num_crlf:
            first, number = crlf.get(piece.name, (piece.first_crlf, 0))
            crlf[piece.name] = first, number + piece.num_crlf
    for finding in crlf_findings(crlf):
        tally.add(finding)
    about.counts = tally.by_code()
    about.findings = tally.worst(name for name, *_ in about.files)
    if files_as_they_are(files, root) != about.files:
        raise CurateError("E974 files-changed", "the record files changed while they were read", "Read them again.")
    ids, hashes, order = named_apart(pl.concat(names) if names else pl.Series([], dtype=pl.String))
    offsets = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
    return keeper.finish(about, ids, offsets, hashes, order)


def files_as_they_are(files: Iterable[Path], root: Path) -> list[FileStamp]:
    """Return what tells whether one of ``files`` changed; a missing one has nothing but its name."""
    stamps: list[FileStamp] = []
    for path in files:
        name = spelled(str(path.relative_to(root) if path.is_relative_to(root) else path))
        try:
            stat = path.stat()
        except OSError:
            stamps.append((name, 0, 0, 0, 0))
        else:
            stamps.append((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    return stamps


def named_apart(ids: pl.Series) -> tuple[pl.Series, NDArray[np.uint64], NDArray[np.uint32]]:
    """Return ``ids`` told apart as `with_unique_ids` does, their hashes in order, and the row of each hash."""
    hashes, order = _sorted_hashes(ids)
    if (hashes[1:] == hashes[:-1]).any():
        # Nearly always all ids differ, and nothing need be compared one by one.
        ids = pl.Series("id", list(_apart(ids)), pl.String)
        hashes, order = _sorted_hashes(ids)
    return ids.alias("id"), hashes, order


def hashes_of(names: pl.Series) -> NDArray[np.uint64]:
    """Return a hash of each name; the same name has the same one in every process with this version of polars."""
    return names.hash(1).to_numpy()


def _sorted_hashes(ids: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    hashes = hashes_of(ids)
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    return hashes[order], order


def _apart(ids: pl.Series) -> Iterator[str]:
    # Only the id of a record counts for its name.
    nowhere = Source("", 0)
    return (record.id for record in with_unique_ids(Record(name, "domain", nowhere, {}) for name in ids))
