"""All records of some files by column, as their lines have them; a line is read again only for what it says itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import groupby, pairwise, repeat
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
import polars as pl
from numpy.typing import NDArray
from orjson import JSONDecodeError, loads

from curate.base.console import one_line
from curate.base.file_guard import FileGuardError, files_changed, open_descriptor, stamp_of
from curate.base.hashing import Hashes, Indices
from curate.base.record import CurateError, Finding, Json, Line, Record, Source
from curate.checks.runner.column_cache import CacheDamageError, ColumnCache, FileColumns
from curate.checks.runner.examine import BLOCKS_FROM, violations
from curate.checks.runner.names import UniqueNames
from curate.checks.runner.parallel import num_bytes
from curate.checks.runner.parts import LineValues, Progress, file_name, read_all
from curate.jsonl import Entry, JsonFault, Reader, crlf_finding, strict_loads
from curate.schema import Shape
from curate.schema.view import LineTexts
from curate.similarity.dedupe.blocks import plain_pairs
from curate.similarity.dedupe.columns import BOUNDS, KEYS, SCHEMA, flat
from curate.similarity.dedupe.shingles import ends_of

# Record files that are held open.
_MAX_OPEN = 64
# Bytes between two lines that are read with them, and of lines that are read together.
_GAP, _PIECE = 4096, 1 << 20


class RecordTable:
    """N records of some files, in the order of the files and their lines; all columns have a row for each."""

    def __init__(
        self,
        shape: Shape,
        root: Path | None,
        files: Sequence[tuple[Path, FileColumns]],
        cache: ColumnCache | None = None,
        values: Mapping[Path, LineValues] | None = None,
    ) -> None:
        """Take the columns of ``files``; tokens that they lack are in ``cache``, and objects of lines in ``values``."""
        self.shape, self.root = shape, root
        self.remarks: list[str] = []
        """What a person should know, such as that nothing could be kept."""
        self._files, self._cache = files, cache
        self.file_names = [file_name(path, root) for path, _ in files]
        self.stamps = [of_file.stamp for _, of_file in files]
        self._values = None if values is None else [value for path, _ in files for value in values[path]]
        frames = [pl.DataFrame(schema=SCHEMA), *(of_file.frame for _, of_file in files)]
        frame = pl.concat([some.drop("tokens", strict=False) for some in frames])
        ids = frame["id"].to_list()
        self.ids: list[str] = ids if frame["id"].n_unique() == len(ids) else list(map(UniqueNames().name, ids))
        """Told apart as `UniqueNames` does."""
        names = "category", "split", "source", "said"
        self.categories, self.splits, self.sources, self.said = map(frame.get_column, names)
        self.files: Indices = np.repeat(np.arange(len(files)), [len(of_file.frame) for _, of_file in files])
        self.lines, self.offsets, self.lengths, self.num_chars, self.num_bytes = (
            frame[name].to_numpy() for name in ("line", "offset", "length", "num_chars", "num_bytes")
        )
        self.keys: Hashes = frame.select(KEYS).to_numpy(order="c")
        bounds: Indices = frame.select(BOUNDS).to_numpy(order="c")
        begins = ends_of(bounds[:, -1])
        self._num_tokens = int(begins[-1])
        self.bounds = bounds + begins[:-1, None]
        """Where the words of each record are among `tokens`, [N, 6]."""
        labelled = frame["labels"].is_not_null().arg_true()
        self.labels: dict[int, dict[str, Json]] = dict(
            zip(labelled.to_list(), map(loads, frame["labels"].gather(labelled).to_list()), strict=True)
        )
        """Of the rows that have any."""
        self.num_lines = sum(of_file.about.num_lines for _, of_file in files)
        self._findings: list[Finding] | None = None
        self._handles: dict[int, int] = {}
        self._lock = Lock()
        finalize(self, _close, self._handles)

    def __len__(self) -> int:
        return len(self.ids)

    def tokens(self, more: Hashes | None = None) -> Hashes:
        """Return the words of all records, and ``more`` behind them.

        Raises:
            CurateError: E974 when the cache is gone and a file has changed since.
        """
        more = np.zeros(0, np.uint64) if more is None else more
        tokens = np.empty(self._num_tokens + len(more), np.uint64)
        low = 0
        for number, (_, of_file) in enumerate(self._files):
            begin = low
            try:
                for some in self._tokens_of(of_file):
                    tokens[low : low + len(some)] = some
                    low += len(some)
            except CacheDamageError:
                low = begin
                for some in self._tokens_again(number):
                    tokens[low : low + len(some)] = some
                    low += len(some)
        tokens[low:] = more
        return tokens

    def _tokens_of(self, of_file: FileColumns) -> Iterator[Hashes]:
        if "tokens" in of_file.frame:
            yield flat(of_file.frame)
        else:
            assert self._cache, "what is not held is kept"
            yield from self._cache.tokens(of_file.stamp, len(of_file.frame))

    def _tokens_again(self, number: int) -> Iterator[Hashes]:
        """Read the tokens of a file from its lines."""
        self._require_current(number)
        for _, (frame, _) in read_all([self._files[number][0]], self.shape, self.root, None, None):
            yield flat(frame)
        self._require_current(number)

    @property
    def num_unread(self) -> int:
        """Lines that are no records."""
        return self.num_lines - len(self)

    def source(self, row: int) -> Source:
        """Return where a record stands."""
        return Source(self.file_names[int(self.files[row])], int(self.lines[row]))

    def require_current(self) -> None:
        """Make sure that the files are still those that were read.

        Raises:
            CurateError: E974 when one is not.
        """
        for number in range(len(self._files)):
            self._require_current(number)

    def _require_current(self, number: int) -> None:
        if stamp_of(self._files[number][0], self.file_names[number]) != self.stamps[number]:
            raise files_changed(self.file_names[number])

    def find(self, name: str) -> int | None:
        """Return the row of the record called ``name``, None where there is none."""
        return next(iter(self.rows_of([name])), None)

    def rows_of(self, names: Sequence[str]) -> list[int]:
        """Return the rows of those of ``names`` that there are, in the order of the names."""
        hashes, order = self._index
        wanted = _hashes_of(names)
        firsts, lasts = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
        rows = []
        for name, first, last in zip(names, firsts.tolist(), lasts.tolist(), strict=True):
            rows += [row for row in order[first:last].tolist() if self.ids[row] == name][:1]
        return rows

    @cached_property
    def _index(self) -> tuple[Hashes, NDArray[np.uint32]]:
        """The hashes of the ids in order, and the row of each: a tenth of a dictionary."""
        hashes = _hashes_of(self.ids)
        order = np.argsort(hashes, kind="stable").astype(np.uint32)
        return hashes[order], order

    def findings(self) -> list[Finding]:
        """Return what is wrong with lines that are no records, which are read again once, and with files, in order."""
        if self._findings is None:
            self._findings = list(self._read_findings())
        return self._findings

    def _read_findings(self) -> Iterator[Finding]:
        for number, (path, of_file) in enumerate(self._files):
            if not of_file.about.is_clean:
                self._require_current(number)
                yield from self._findings_in(path, number)
                self._require_current(number)

    def _findings_in(self, path: Path, number: int) -> Iterator[Finding]:
        reader = Reader(path, name=self.file_names[number], root=self.root)
        known = {*self.lines[self.files == number].tolist()}
        for line in reader.lines():
            if isinstance(line, Finding):
                yield line
            elif line[0] not in known:
                value = reader.value(line)
                if isinstance(value, Finding):
                    yield value
                else:
                    source = Source(reader.name, line[0])
                    yield from violations(self.shape, Entry(Line(source, line[2], line[1]), value))
        if reader.num_crlf:
            yield crlf_finding(reader.name, reader.first_crlf, reader.num_crlf)

    def record(self, row: int) -> Record:
        """Return the record in the line of a row.

        Raises:
            CurateError: E974 when the file has changed since; E904 when it may not be read.
        """
        return self.records([row])[0]

    def records(self, rows: Sequence[int] | Indices) -> list[Record]:
        """Return the records in the lines of ``rows``, in that order; neighbours are read together.

        Raises:
            CurateError: as `record`.
        """
        rows = np.asarray(rows, np.int64)
        sources = zip(rows.tolist(), self.files[rows].tolist(), self.lines[rows].tolist(), strict=True)
        names, read, ids = self.file_names, self.shape.record, self.ids
        records = []
        for (row, file, line), value in zip(sources, self.values(rows), strict=True):
            record = read(value, Source(names[file], line))
            records.append(record if record.id == ids[row] else replace(record, id=ids[row]))
        return records

    def texts(self, rows: Sequence[int] | Indices, lines: Sequence[bytes] | None = None) -> list[LineTexts]:
        """Return what the ``lines`` of ``rows`` say, which are read unless they are given; no records are made of them.

        Raises:
            CurateError: as `record`.
        """
        view, values = self.shape.view, self.values(np.asarray(rows, np.int64), lines)
        assert view is not None, "its lines are records"
        if pairs := plain_pairs(view, values):
            return list(zip(*pairs, repeat(""), repeat(""), repeat(()), strict=False))
        return list(map(view.texts, values))

    def values(self, rows: Indices, lines: Sequence[bytes] | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the objects in the ``lines`` of ``rows``, in that order; they are read unless they are given.

        Raises:
            CurateError: as `record`.
        """
        files = self.files[rows].tolist()
        if self._values is not None:
            for number in set(files):
                self._require_current(number)
            return [self._values[row] for row in rows.tolist()]
        raws = lines or [raw for some, whole in self.spans(rows) for raw in self.lines_in(some, whole)]
        # What was read before is valid still. One by one they are held against the schema again, which says more.
        if len(raws) > 1:
            with suppress(JSONDecodeError):
                return list(map(loads, raws))
        return [self._value(raw, self.file_names[file]) for raw, file in zip(raws, files, strict=True)]

    def _value(self, raw: bytes, file: str) -> dict[str, Any]:
        try:
            value = strict_loads(raw)
        except JsonFault as fault:
            raise files_changed(file) from fault
        if not isinstance(value, dict) or not self.shape.is_valid(value):
            raise files_changed(file)
        return value

    def spans(self, rows: Indices, gap: int = _GAP) -> Iterator[tuple[Indices, bytes]]:
        """Yield ``rows`` that lie side by side in a file, with ``gap`` bytes between them at most, and those bytes.

        Raises:
            CurateError: as `record`.
        """
        begins, ends = self.offsets[rows], self.offsets[rows] + self.lengths[rows]
        gaps, is_other = begins[1:] - ends[:-1], np.diff(self.files[rows]) != 0
        is_apart = is_other | (np.diff(begins // _PIECE) != 0) | (gaps < 0) | (gaps > gap)
        cuts = [0, *(np.flatnonzero(is_apart) + 1).tolist(), len(rows)]
        for low, high in pairwise(cuts) if len(rows) else ():
            begin = int(begins[low])
            yield rows[low:high], self._bytes(int(self.files[rows[low]]), begin, int(ends[high - 1]) - begin)

    def lines_in(self, rows: Indices, whole: bytes) -> list[bytes]:
        """Return the lines of ``rows``, which `spans` has read as ``whole``."""
        lines = whole.split(b"\n")
        if len(lines) == len(rows):
            return lines
        return [lines[number] for number in (self.lines[rows] - self.lines[rows[0]]).tolist()]

    def _bytes(self, number: int, offset: int, length: int) -> bytes:
        with self._lock:
            content = os.pread(self._handle(number), length, offset)
        if len(content) < length:
            raise files_changed(self.file_names[number])
        return content

    def _handle(self, number: int) -> int:
        path, name = self._files[number][0], self.file_names[number]
        self._require_current(number)
        if number not in self._handles:
            if len(self._handles) >= _MAX_OPEN:
                os.close(self._handles.pop(next(iter(self._handles))))
            try:
                self._handles[number] = open_descriptor(path, self.root)
            except (FileGuardError, FileNotFoundError) as error:
                raise files_changed(name) from error
            except OSError as error:
                raise CurateError("E904 no-such-file", f"{one_line(name)} cannot be read: {error.strerror}") from error
        return self._handles[number]


def _hashes_of(names: Sequence[str]) -> Hashes:
    """Return a hash of each name."""
    return pl.Series(names, dtype=pl.String).hash(1).to_numpy()


def _close(handles: dict[int, int]) -> None:
    for handle in handles.values():
        os.close(handle)


def read_table(
    files: Sequence[Path],
    shape: Shape,
    cache: ColumnCache | None,
    *,
    root: Path | None = None,
    on_progress: Progress | None = None,
) -> RecordTable:
    """Return the records of ``files``; one whose columns are in ``cache`` is not read again.

    Without a cache, or where it cannot be written to, their columns are in memory.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E905 when the schema has no ``x-record`` view; E970
            when a worker is killed; E974 when files change while they are read.
    """
    stamps = {path: stamp_of(path, file_name(path, root)) for path in files}
    read = {path: known for path, stamp in stamps.items() if cache and (known := cache.get(stamp))}
    unread = [path for path in stamps if path not in read]
    # Of much that cannot be kept only the columns are held.
    is_little = cache is None and num_bytes(files) < BLOCKS_FROM
    values: dict[Path, LineValues] | None = {path: [] for path in unread} if is_little else None
    remarks: list[str] = []
    for path, parts in groupby(read_all(unread, shape, root, values, on_progress), key=itemgetter(0)):
        columns = FileColumns.joined([part for _, part in parts], stamps[path])
        try:
            if cache and stamp_of(path, stamps[path][0]) == stamps[path] and cache.keep(columns):
                columns = replace(columns, frame=columns.frame.drop("tokens"))
        except CurateError as error:
            # The disk may be full.
            remarks = [f"what was read is not kept: {error.message}"]
        read[path] = columns
    table = RecordTable(shape, root, [(path, read[path]) for path in files], cache, values)
    table.require_current()
    table.remarks += remarks
    return table
