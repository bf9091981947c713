"""The records as their lines have them, a row each, in memory or mapped from files; decisions do not touch them."""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from curate.base.console import one_line, spelled
from curate.base.file_guard import FileGuardError, FileStamp, open_descriptor, stamp_of
from curate.base.record import CurateError, Finding, Line, Record, Source
from curate.checks.runner.examine import violations
from curate.checks.runner.names import UniqueNames
from curate.checks.runner.parallel import default_jobs, tasks_of
from curate.checks.runner.pool import shared_out
from curate.checks.runner.verdict import FindingTally
from curate.jsonl import Entry, JsonFault, Reader, Span, crlf_finding, strict_loads
from curate.project.catalog.columns import Values, frame_of, head, values_of
from curate.project.data import ProjectData, files_as_they_are
from curate.schema import Shape, load_shape

# Findings of each severity about lines that are no records; further ones are counted.
MOST_FINDINGS = 1000

Task = tuple[Path, Span | None]
# Hears how many bytes are read, and how many there are.
Progress = Callable[[int, int], object]
# Record files that are held open.
_MAX_OPEN = 64


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


@dataclass(slots=True)
class BaseIndex:
    """What finds rows: ``ids`` in their order, the sorted ``hashes`` of them, and the row of each hash in ``order``.

    ``offsets`` says where the bytes of each row begin in the heap, and where the last ends.
    """

    ids: pl.Series
    hashes: NDArray[np.uint64]
    order: NDArray[np.uint32]
    offsets: NDArray[np.int64]


class Base:
    """Rows that do not change: ``texts`` has the columns of `SCHEMA`, in the order of ``ids``."""

    def __init__(
        self,
        about: BaseHeader,
        index: BaseIndex,
        texts: pl.LazyFrame,
        heap: NDArray[np.uint8],
        is_whole: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take the rows; ``heap`` has one after the other what `row_of` returns of them.

        ``is_whole`` says whether the files that ``texts`` are read from are still those that were written.
        """
        self.about = about
        self.texts = texts
        self.ids = index.ids
        self.is_whole = is_whole
        self._index = index
        self._heap = heap

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, name: str) -> int | None:
        """Return the row of the record called ``name``, None where there is none."""
        wanted, hashes = hashes_of(pl.Series([name], dtype=pl.String))[0], self._index.hashes
        first, last = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
        return next((row for row in self._index.order[first:last].tolist() if self.ids[row] == name), None)

    def span(self, row: int) -> tuple[str, int, int, int]:
        """Return where the line of a row is: its file, its number, its first byte and how many bytes it has."""
        file, line, offset, length, *_ = self._entry(row)
        return file, line, offset, length

    def values(self, row: int) -> Values:
        """Return what a table shows of a row: its texts are cut to their heads."""
        file, line, _, _, *rest = self._entry(row)
        return Values(file, line, *rest)

    def _entry(self, row: int) -> list[Any]:
        offsets = self._index.offsets
        entry: list[Any] = orjson.loads(self._heap[offsets[row] : offsets[row + 1]].tobytes())
        return entry


def read_base(
    files: Sequence[Path],
    shape: Shape,
    root: Path,
    on_piece: Callable[[CatalogPiece], object],
    on_progress: Progress | None = None,
) -> tuple[BaseHeader, BaseIndex]:
    """Read every line of ``files`` through the strict parser and the shape; ``on_piece`` takes each span.

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
        on_piece(piece)
        if piece.ids:
            names.append(pl.Series(piece.ids, dtype=pl.String))
            lengths.append(np.array(piece.lengths, np.int64))
            about.num_records += len(piece.ids)
        about.num_lines += piece.num_lines
        tally.join(piece.tally)
        if piece.num_crlf:
            first, number = crlf.get(piece.name, (piece.first_crlf, 0))
            crlf[piece.name] = first, number + piece.num_crlf
    for name, (first, number) in crlf.items():
        tally.add(crlf_finding(name, first, number))
    about.counts = tally.by_code()
    about.findings = tally.worst(name for name, *_ in about.files)
    if files_as_they_are(files, root) != about.files:
        raise CurateError("E974 files-changed", "the record files changed while they were read", "Read them again.")
    offsets = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
    named = named_apart(pl.concat(names) if names else pl.Series([], dtype=pl.String))
    return about, BaseIndex(*named, offsets)


def named_apart(ids: pl.Series) -> tuple[pl.Series, NDArray[np.uint64], NDArray[np.uint32]]:
    """Return ``ids`` told apart as `UniqueNames` does, their hashes in order, and the row of each hash."""
    hashes, order = _sorted_hashes(ids)
    if (hashes[1:] == hashes[:-1]).any():
        # Nearly always all ids differ, and nothing need be compared one by one.
        ids = pl.Series("id", list(map(UniqueNames().name, ids)), pl.String)
        hashes, order = _sorted_hashes(ids)
    return ids.alias("id"), hashes, order


def hashes_of(names: pl.Series) -> NDArray[np.uint64]:
    """Return a hash of each name; the same name has the same one in every process with this version of polars."""
    return names.hash(1).to_numpy()


def _sorted_hashes(ids: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    hashes = hashes_of(ids)
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    return hashes[order], order


class LineReader:
    """Reads single lines again through the strict parser and the shape, as all lines were read before."""

    def __init__(self, data: ProjectData, base: Base) -> None:
        self._root, self._shape = data.root, data.shape
        self._base = base
        self._stamps = {stamp[0]: stamp for stamp in base.about.files}
        self._paths = {spelled(str(path.relative_to(data.root))): path for path in data.matching_files()}
        self._handles: dict[str, int] = {}
        self._lock = Lock()
        weakref.finalize(self, _close, self._handles)

    def record(self, row: int) -> Record:
        """Return the record in the line of a row.

        Raises:
            CurateError: E974 when the file has changed since.
        """
        file, line, offset, length = self._base.span(row)
        with self._lock:
            raw = os.pread(self._handle(file), length, offset)
        try:
            value = strict_loads(raw)
        except JsonFault as fault:
            raise files_changed(file) from fault
        if not isinstance(value, dict) or not self._shape.is_valid(value):
            raise files_changed(file)
        return self._shape.record(value, Source(file, line))

    def _handle(self, file: str) -> int:
        path = self._paths.get(file)
        if path is None or stamp_of(path, file) != self._stamps[file]:
            raise files_changed(file)
        if file not in self._handles:
            if len(self._handles) >= _MAX_OPEN:
                os.close(self._handles.pop(next(iter(self._handles))))
            try:
                self._handles[file] = open_descriptor(path, self._root)
            except (FileGuardError, FileNotFoundError) as error:
                raise files_changed(file) from error
            except OSError as error:
                message = f"{one_line(file)} cannot be read: {error.strerror}"
                raise CurateError("E904 no-such-file", message) from error
        return self._handles[file]


def files_changed(file: str) -> CurateError:
    """Return the error for a file that is not what it was when it was catalogued."""
    return CurateError("E974 files-changed", f"{file} was changed by another program", "Read the records again.")


def _close(handles: dict[str, int]) -> None:
    for handle in handles.values():
        os.close(handle)


@dataclass
class CatalogPiece:
    """What one span holds."""

    path: Path
    name: str
    """The file as records call it."""
    ids: list[str] = field(default_factory=list)
    texts: bytes = b""
    """An Arrow IPC file of the columns of `curate.project.catalog.columns.SCHEMA`; empty without records."""
    rows: bytes = b""
    """One JSON list a record, see `row_of`, one after the other."""
    lengths: array[int] = field(default_factory=lambda: array("I"))
    """How many bytes each of them takes."""
    tally: FindingTally = field(default_factory=lambda: FindingTally(MOST_FINDINGS))
    items: list[Record | Finding] | None = None
    """The records and what is wrong with lines, in order; None where another process read them."""
    num_lines: int = 0
    num_crlf: int = 0
    first_crlf: int = 0


def pieces(files: Sequence[Path], shape: Shape, root: Path, on_progress: Progress | None) -> Iterator[CatalogPiece]:
    """Read ``files`` in order and yield their pieces; numbers of lines are right also where a file is in several.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E905 when the schema has no ``x-record`` view; E970
            when a worker is killed.
    """
    jobs = default_jobs(files, is_by_block=False)
    tasks = tasks_of(files, root, is_counted=jobs > 1)
    total = sum(path.stat().st_size for path in files if path.is_file())
    num_bytes = 0
    results = _in_turn(tasks, shape, root) if jobs == 1 else shared_out(
        tasks, _read, _start, (str(shape.path.resolve()), shape.root.resolve(), root), jobs
    )  # fmt: skip
    with closing(results):
        for (path, span), piece in zip(tasks, results, strict=True):
            yield piece
            num_bytes += span.end - span.start if span else path.stat().st_size if path.is_file() else 0
            if on_progress:
                on_progress(min(num_bytes, total), total)


def piece_of(task: Task, shape: Shape, root: Path) -> CatalogPiece:
    """Read one span, or one file."""
    path, span = task
    name = str(path.relative_to(root)) if path.is_relative_to(root) else None
    reader = Reader(path, name=name, span=span, root=root)
    piece = CatalogPiece(path, reader.name)
    items: list[Record | Finding] = []
    values: list[Values] = []
    rows: list[bytes] = []
    for line in reader.lines():
        if isinstance(line, Finding):
            items.append(line)
            continue
        number, offset, raw, _ = line
        value = reader.value(line)
        if isinstance(value, Finding):
            items.append(value)
        elif not shape.is_valid(value):
            items.extend(violations(shape, Entry(Line(Source(reader.name, number), raw, offset), value)))
        else:
            record = shape.record(value, Source(reader.name, number))
            items.append(record)
            piece.ids.append(record.id)
            values.append(values_of(record))
            rows.append(row_of(values[-1], offset, len(raw)))
    for item in items:
        if isinstance(item, Finding):
            piece.tally.add(item)
    piece.items = items
    if values:
        buffer = BytesIO()
        frame_of(values).write_ipc(buffer)
        piece.texts = buffer.getvalue()
    piece.rows = b"".join(rows)
    piece.lengths.extend(map(len, rows))
    piece.num_lines, piece.num_crlf, piece.first_crlf = reader.num_lines, reader.num_crlf, reader.first_crlf
    return piece


def lines_of(pieces: Sequence[CatalogPiece]) -> list[Record | Finding] | None:
    """Return what `read_records` yields of the same files; None where another process read some of them."""
    items: list[Record | Finding] = []
    for _, parts in groupby(pieces, lambda piece: piece.name):
        num_crlf, first_crlf = 0, 0
        for piece in parts:
            if piece.items is None:
                return None
            items.extend(piece.items)
            num_crlf, first_crlf = num_crlf + piece.num_crlf, first_crlf or piece.first_crlf
        if num_crlf:
            items.append(crlf_finding(piece.name, first_crlf, num_crlf))
    return items


def row_of(values: Values, offset: int, length: int) -> bytes:
    """Return what a table shows of a record, and where its line is, as JSON: a tenth of reading the line again."""
    return orjson.dumps(
        (
            values.file,
            values.line,
            offset,
            length,
            values.category,
            values.split,
            values.source,
            values.kind,
            values.tokens,
            head(values.prompt),
            head(values.completion),
            values.labels,
        )
    )


_shape: Shape
_root: Path


def _start(schema: str, schema_root: Path, root: Path) -> None:
    # A worker has one of each, for all its tasks.
    global _shape, _root
    _shape, _root = load_shape(schema, schema_root), root


def _read(task: Task) -> CatalogPiece:
    piece = piece_of(task, _shape, _root)
    piece.items = None  # what goes from process to process is spelled as bytes
    return piece


def _in_turn(tasks: Sequence[Task], shape: Shape, root: Path) -> Generator[CatalogPiece]:
    """Read spans one after the other, counting lines along."""
    line = 1
    for path, span in tasks:
        line = line if span and span.start else 1
        piece = piece_of((path, span and replace(span, first_line=line)), shape, root)
        line += piece.num_lines
        yield piece
