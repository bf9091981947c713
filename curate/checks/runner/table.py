"""All records of some files by column, as their lines have them; a line is read again only for what it says itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from curate.base.console import one_line, spelled
from curate.base.file_guard import FileGuardError, FileStamp, open_descriptor, stamp_of
from curate.base.hashing import Hashes, Indices
from curate.base.packs import MemoryPack, Pack
from curate.base.record import CurateError, Finding, Json, Line, Record, Source, canonical
from curate.base.storage import WRITE_FAILED
from curate.checks.runner.blocks import MOST_INVALID
from curate.checks.runner.examine import violations
from curate.checks.runner.names import UniqueNames
from curate.checks.runner.parallel import default_jobs, num_bytes, tasks_of
from curate.checks.runner.pool import shared_out
from curate.jsonl import Entry, JsonFault, RawBlock, Reader, Span, crlf_finding, strict_loads, strict_loads_all
from curate.schema import Shape
from curate.similarity.compiled import is_repaid
from curate.similarity.dedupe.blocks import Flags, block_of, read_block
from curate.similarity.dedupe.columns import (
    BlockColumns,
    Coded,
    ColumnCache,
    columns_of,
    key_of,
    restored,
    stored,
)
from curate.similarity.dedupe.kernels import Kernels, kernels_for

# Hears how many bytes are read, and how many there are.
Progress = Callable[[int, int], object]
Task = tuple[Path, Span | None]
# Record files that are held open.
_MAX_OPEN = 64
# Bytes between two lines that are read with them.
_GAP = 4096
# Nanoseconds: a file written less than this before it is read could be written again within one tick of its clock.
_SETTLED = 100_000_000


class Part(NamedTuple):
    """A block of a file, by its key, and where it begins there."""

    key: bytes
    number: int
    offset: int
    size: int


@dataclass
class FileParts:
    """The blocks of a file, and findings about it that are of none of them."""

    stamp: FileStamp
    parts: list[Part] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_lines: int = 0

    def extend(self, later: FileParts) -> None:
        """Add what was found in lines that follow."""
        self.parts += later.parts
        self.findings += later.findings
        self.num_lines += later.num_lines


class _Rest(NamedTuple):
    """What a block has beside records."""

    others: Indices
    crlf: tuple[int, int]
    num_lines: int
    has_findings: bool


def read_parts(
    path: Path, span: Span | None, shape: Shape, root: Path | None, pack: Pack | MemoryPack, kernels: Kernels, /
) -> FileParts:
    """Read one span of a file, or all of it, and keep in ``pack`` what it does not have.

    Raises:
        CurateError: E904 when the file is missing or may not be read; E905 when the schema has no ``x-record`` view;
            E906 when the pack cannot be written to.
    """
    reader = Reader(path, name=_name(path, root), span=span, root=root)
    result = FileParts(("", 0, 0, 0, 0))
    for item in reader.blocks():
        if isinstance(item, Finding):
            result.findings.append(item)
            continue
        key = key_of(item)
        if key not in pack:
            try:
                stored(pack, key, _columns(item, reader, shape, kernels))
            except OSError as error:
                raise CurateError(WRITE_FAILED, f"the cache of records: {error.strerror or error}") from error
        result.parts.append(Part(key, item.number, item.offset, len(item.whole)))
    result.num_lines = reader.num_lines
    return result


def _columns(raw: RawBlock, reader: Reader, shape: Shape, kernels: Kernels) -> BlockColumns:
    """Read the lines of a block, at once if they are plain, else one by one."""
    view = shape.view
    assert view is not None
    values = strict_loads_all(raw.whole, raw.lines) if raw.is_plain else None
    are_valid = np.array(list(map(shape.is_valid, values or ())), np.bool_)
    if values is not None and (~are_valid).sum() <= MOST_INVALID * len(values):
        rows = np.flatnonzero(are_valid)
        block = read_block(view, values if are_valid.all() else [values[row] for row in rows.tolist()], kernels)
        lengths = np.array(list(map(len, raw.lines)), np.int64)
        offsets = np.cumsum(lengths + 1) - lengths - 1
        return columns_of(block, rows, offsets[rows], lengths[rows], raw.num_lines)
    # The counts of the reader are of the whole file; what it finds here is told again by `_findings_in`.
    before = reader.num_crlf, reader.first_crlf
    reader.num_crlf = reader.first_crlf = 0
    records: list[Record] = []
    places: list[tuple[int, int, int]] = []
    has_findings = False
    for line in reader.lines_in(raw):
        value = line if isinstance(line, Finding) else reader.value(line)
        if isinstance(line, Finding) or isinstance(value, Finding) or not shape.is_valid(value):
            has_findings = True
            continue
        records.append(shape.record(value, Source(reader.name, line[0])))
        places.append((line[0] - raw.number, line[1] - raw.offset, len(line[2])))
    block = replace(
        block_of(records, kernels), ignored=[sorted(shape.ignored(record.data)) or None for record in records]
    )
    rows, offsets, lengths = np.array(places, np.int64).reshape(-1, 3).T
    crlf = reader.num_crlf, reader.first_crlf - raw.number if reader.num_crlf else 0
    reader.num_crlf, reader.first_crlf = before
    columns = columns_of(block, rows, offsets, lengths, raw.num_lines)
    return replace(columns, crlf=crlf, has_findings=has_findings)


class RecordTable:
    """N records of some files, in the order of the files and their lines; all columns have a row for each."""

    def __init__(
        self,
        pack: Pack | MemoryPack,
        shape: Shape,
        root: Path | None,
        files: Mapping[Path, FileParts],
        *,
        is_compiled: bool,
    ) -> None:
        """Take the columns of the blocks of ``files`` from ``pack``.

        Raises:
            CurateError: E906 when one of them is not whole.
        """
        self.shape, self.root, self.is_compiled = shape, root, is_compiled
        self.remarks: list[str] = []
        """What a person should know, such as that nothing could be kept."""
        self.pack, self._files = pack, list(files.items())
        self.file_names = [_name(path, root) for path in files]
        self.stamps = [of_file.stamp for of_file in files.values()]
        parts = [part for of_file in files.values() for part in of_file.parts]
        blocks = [_restored(pack, part.key) for part in parts]
        self._rests = {
            part: _Rest(block.others, block.crlf, block.num_lines, block.has_findings)
            for part, block in zip(parts, blocks, strict=True)
        }
        counts = np.array([len(block) for block in blocks], np.int64)
        self.own_ids = [name for block in blocks for name in block.ids]
        """As the lines have them."""
        is_unique = len(set(self.own_ids)) == len(self.own_ids)
        self.ids = self.own_ids if is_unique else list(map(UniqueNames().name, self.own_ids))
        """Told apart as `UniqueNames` does."""
        self.categories, self.splits, self.sources = (
            Coded.joined([getattr(block, name) for block in blocks]) for name in ("categories", "splits", "sources")
        )
        per_file = [sum(len(blocks[index]) for index in indices) for indices in _numbered(files.values())]
        self.files = np.repeat(np.arange(len(files)), per_file)
        self.lines = _joined(blocks, "lines") + np.repeat(_column(parts, "number"), counts)
        self.offsets = _joined(blocks, "offsets") + np.repeat(_column(parts, "offset"), counts)
        self.lengths, self.num_chars, self.num_bytes = (
            _joined(blocks, name) for name in ("lengths", "num_chars", "num_bytes")
        )
        self.have_own_ids: Flags = _joined(blocks, "have_own_ids", np.bool_)
        self.keys: Hashes = _joined(blocks, "keys", np.uint64).reshape(-1, 10)
        self.bounds: Indices = _joined(blocks, "bounds").reshape(-1, 5)
        """Where the words of each record are among `tokens`, [N, 5]."""
        starts = (np.cumsum(counts) - counts).tolist()
        self._rows_of_blocks = [range(start, start + len(block)) for start, block in zip(starts, blocks, strict=True)]
        self.labels: dict[int, dict[str, Json]] = {
            start + row: some for start, block in zip(starts, blocks, strict=True) for row, some in block.labels.items()
        }
        """Of the rows that have any."""
        self.num_lines = sum(of_file.num_lines for of_file in files.values())
        self._handles: dict[int, int] = {}
        self._lock = Lock()
        finalize(self, _close, self._handles)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def tokens(self) -> Hashes:
        """The words of all records, mapped from the cache.

        Raises:
            CurateError: E906 when what was kept is not what was written.
        """
        words = self.pack.words()
        if not self.pack.are_whole(words, (part.key for part in self._rests)):
            raise _damaged(self.pack)
        return words

    def tokens_with(self, more: Hashes) -> tuple[Hashes, int]:
        """Return `tokens`, ``more`` behind or among them, and where those begin.

        Raises:
            CurateError: as `tokens`.
        """
        tokens = self.tokens
        if not len(more):
            return tokens, 0
        key = blake2b(more.tobytes(), digest_size=16, person=b"words").digest()
        # In the file they take no memory; where they cannot be written, all are copied.
        with suppress(OSError):
            if key not in self.pack:
                self.pack.append(key, {}, {}, more)
            if entry := self.pack.get(key):
                return self.pack.words(), entry.start
        return np.concatenate([tokens, more]), len(tokens)

    @property
    def num_unread(self) -> int:
        """Lines that are no records."""
        return self.num_lines - len(self)

    def blocks(self) -> Iterator[tuple[bytes, range]]:
        """Yield the key of each block, and the rows of its records."""
        yield from zip((part.key for part in self._rests), self._rows_of_blocks, strict=True)

    @staticmethod
    def text_key(key: bytes) -> bytes:
        """Return the key of the texts of a block, which are kept once somebody has asked for them."""
        return blake2b(key, digest_size=16, person=b"texts").digest()

    def source(self, row: int) -> Source:
        """Return where a record stands."""
        return Source(self.file_names[int(self.files[row])], int(self.lines[row]))

    def is_current(self) -> bool:
        """Whether the files are still those that were read."""
        return all(stamp_of(path, stamp[0]) == stamp for (path, _), stamp in zip(self._files, self.stamps, strict=True))

    def find(self, name: str) -> int | None:
        """Return the row of the record called ``name``, None where there is none."""
        hashes, order = self._index
        wanted = _hashes_of([name])[0]
        first, last = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
        return next((row for row in order[first:last].tolist() if self.ids[row] == name), None)

    @cached_property
    def _index(self) -> tuple[Hashes, NDArray[np.uint32]]:
        """The hashes of the ids in order, and the row of each: a tenth of a dictionary."""
        hashes = _hashes_of(self.ids)
        order = np.argsort(hashes, kind="stable").astype(np.uint32)
        return hashes[order], order

    def findings(self) -> Iterator[Finding]:
        """Read the lines that are no records again, and yield what is wrong with them and with the files, in order."""
        for number, (_, of_file) in enumerate(self._files):
            findings = list(of_file.findings)
            num_crlf = first_crlf = 0
            for part in of_file.parts:
                rest = self._rests[part]
                findings += self._findings_in(number, part, rest) if rest.has_findings else ()
                some, first = rest.crlf
                num_crlf, first_crlf = num_crlf + some, first_crlf or (part.number + first if some else 0)
            yield from sorted(findings, key=lambda finding: finding.line)
            if num_crlf:
                yield crlf_finding(self.file_names[number], first_crlf, num_crlf)

    def _findings_in(self, number: int, part: Part, rest: _Rest) -> Iterator[Finding]:
        whole = self._bytes(number, part.offset, part.size)
        reader = Reader(self._files[number][0], name=self.file_names[number], root=self.root)
        others = {part.number + row for row in rest.others.tolist()}
        is_ended = whole.endswith(b"\n")
        for line in reader.lines_in(RawBlock(part.number, part.offset, whole, rest.num_lines, is_ended)):
            if isinstance(line, Finding):
                yield line
            elif line[0] in others:
                value = reader.value(line)
                if isinstance(value, Finding):
                    yield value
                else:
                    number_, offset, raw, _ = line
                    entry = Entry(Line(Source(reader.name, number_), raw, offset), value)
                    yield from violations(self.shape, entry)

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
        if not len(rows):
            return []
        files, offsets = self.files[rows].tolist(), self.offsets[rows].tolist()
        lengths, lines = self.lengths[rows].tolist(), self.lines[rows].tolist()
        raws = self._raw_lines(files, offsets, lengths)
        values = strict_loads_all(b"".join(raw + b"\n" for raw in raws), raws) if len(raws) > 1 else None
        names, read = self.file_names, self.shape.record
        records = []
        for index, (row, file, line) in enumerate(zip(rows.tolist(), files, lines, strict=True)):
            value = values[index] if values else self._value(raws[index], names[file])
            record = read(value, Source(names[file], line))
            name = self.ids[row]
            records.append(record if record.id == name else replace(record, id=name))
        return records

    def _value(self, raw: bytes, file: str) -> dict[str, Any]:
        try:
            value = strict_loads(raw)
        except JsonFault as fault:
            raise files_changed(file) from fault
        if not isinstance(value, dict) or not self.shape.is_valid(value):
            raise files_changed(file)
        return value

    def _raw_lines(self, files: list[int], offsets: list[int], lengths: list[int]) -> list[bytes]:
        raws: list[bytes] = []
        index = 0
        while index < len(files):
            # What lies side by side is read at once.
            last = index
            while (
                last + 1 < len(files)
                and files[last + 1] == files[index]
                and 0 <= offsets[last + 1] - offsets[last] - lengths[last] <= _GAP
            ):
                last += 1
            begin = offsets[index]
            whole = self._bytes(files[index], begin, offsets[last] + lengths[last] - begin)
            raws += [whole[offsets[at] - begin : offsets[at] - begin + lengths[at]] for at in range(index, last + 1)]
            index = last + 1
        return raws

    def _bytes(self, number: int, offset: int, length: int) -> bytes:
        with self._lock:
            content = os.pread(self._handle(number), length, offset)
        if len(content) < length:
            raise files_changed(self.file_names[number])
        return content

    def _handle(self, number: int) -> int:
        path, name = self._files[number][0], self.file_names[number]
        if stamp_of(path, self.stamps[number][0]) != self.stamps[number]:
            raise files_changed(name)
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


def _joined(blocks: Sequence[BlockColumns], name: str, kind: Any = np.int64) -> Any:
    return np.concatenate([np.zeros(0, kind), *(getattr(block, name).reshape(-1) for block in blocks)])


def _column(parts: Sequence[Part], name: str) -> Indices:
    return np.array([getattr(part, name) for part in parts], np.int64)


def _numbered(files: Iterable[FileParts]) -> Iterator[range]:
    """Yield the numbers of the blocks of each file."""
    begin = 0
    for of_file in files:
        yield range(begin, begin := begin + len(of_file.parts))


def _hashes_of(names: Sequence[str]) -> Hashes:
    """Return a hash of each name."""
    # It brings polars with it.
    import polars as pl

    return pl.Series(names, dtype=pl.String).hash(1).to_numpy()


def _restored(pack: Pack | MemoryPack, key: bytes) -> BlockColumns:
    entry = pack.get(key)
    if entry is None:
        raise _damaged(pack)
    return restored(entry)


def _damaged(pack: Pack | MemoryPack) -> CurateError:
    where = pack.folder if isinstance(pack, Pack) else "the memory"
    return CurateError(WRITE_FAILED, f"{where} is damaged", "Run it again: what is damaged is made anew.")


def files_changed(file: str) -> CurateError:
    """Return the error for a file that is not what it was when it was read."""
    return CurateError("E974 files-changed", f"{file} was changed by another program", "Read the records again.")


def _close(handles: dict[int, int]) -> None:
    for handle in handles.values():
        os.close(handle)


def _name(path: Path, root: Path | None) -> str:
    return spelled(str(path.relative_to(root) if root and path.is_relative_to(root) else path))


def read_table(
    files: Sequence[Path],
    shape: Shape,
    cache: ColumnCache | None,
    *,
    root: Path | None = None,
    on_progress: Progress | None = None,
) -> RecordTable:
    """Return the records of ``files``; what ``cache`` holds of their lines is not read again.

    Without a cache, or where it cannot be written to, their columns are in memory.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E905 when the schema has no ``x-record`` view; E970
            when a worker is killed; E974 when files change while they are read.
    """
    try:
        if cache:
            return _table(files, shape, cache, cache.opened(), root, on_progress)
        remark = ""
    except CurateError as error:
        # The disk may be full: then what was read is read again, into memory.
        if error.code != WRITE_FAILED:
            raise
        remark = f"what was read is not kept: {error.message}"
    table = _table(files, shape, cache, MemoryPack(), root, on_progress)
    table.remarks += [remark] if remark else []
    return table


def _table(
    files: Sequence[Path],
    shape: Shape,
    cache: ColumnCache | None,
    pack: Pack | MemoryPack,
    root: Path | None,
    on_progress: Progress | None,
) -> RecordTable:
    stamps = {path: stamp_of(path, _name(path, root)) for path in files}
    read = {path: known for path, stamp in stamps.items() if (known := _known(pack, stamp))}
    unread = [path for path in files if path not in read]
    is_compiled = cache.is_compiled if cache else is_repaid(num_bytes(files))
    if unread:
        for path, part in _read_all(unread, shape, root, pack, cache, is_compiled, on_progress):
            read.setdefault(path, FileParts(stamps[path])).extend(part)
    for path in unread:
        if stamp_of(path, stamps[path][0]) != stamps[path]:
            raise files_changed(stamps[path][0])
    table = RecordTable(pack, shape, root, {path: read[path] for path in files}, is_compiled=is_compiled)
    if cache and isinstance(pack, Pack):
        for path in unread:
            _keep(pack, read[path])
        parts = [part.key for of_file in read.values() for part in of_file.parts]
        cache.sweep(pack, [*map(_file_key, table.stamps), *parts, *map(table.text_key, parts)])
    return table


def _read_all(
    files: Sequence[Path],
    shape: Shape,
    root: Path | None,
    pack: Pack | MemoryPack,
    cache: ColumnCache | None,
    is_compiled: bool,
    on_progress: Progress | None,
) -> Iterator[tuple[Path, FileParts]]:
    """Read ``files``, by several processes where that pays, and yield what is in each span of each, in order."""
    jobs = default_jobs(files, is_by_block=True) if cache and isinstance(pack, Pack) else 1
    tasks = tasks_of(files, root, is_counted=jobs > 1)
    total, num_done = num_bytes(files), 0
    results = (
        shared_out(tasks, _read, _start, (shape, root, cache), jobs)
        if jobs > 1
        else _in_turn(tasks, shape, root, pack, kernels_for(0, is_compiled))
    )
    with closing(results):
        for (path, span), part in zip(tasks, results, strict=True):
            yield path, part
            num_done += span.end - span.start if span else num_bytes([path])
            if on_progress:
                on_progress(min(num_done, total), total)
    if isinstance(pack, Pack):
        pack.refresh()


_reading: tuple[Shape, Path | None, Pack, Kernels]


def _start(shape: Shape, root: Path | None, cache: ColumnCache) -> None:
    global _reading  # noqa: PLW0603  a worker has one of each, for all its tasks
    _reading = shape, root, cache.opened(), kernels_for(0, cache.is_compiled)


def _read(task: Task) -> FileParts:
    path, span = task
    return read_parts(path, span, *_reading)


def _in_turn(
    tasks: Sequence[Task], shape: Shape, root: Path | None, pack: Pack | MemoryPack, kernels: Kernels
) -> Generator[FileParts]:
    """Read spans one after the other, counting lines along."""
    line = 1
    for path, span in tasks:
        line = line if span and span.start else 1
        part = read_parts(path, span and replace(span, first_line=line), shape, root, pack, kernels)
        line += part.num_lines
        yield part


def _file_key(stamp: FileStamp) -> bytes:
    return blake2b(canonical(list(stamp)), digest_size=16, person=b"file").digest()


def _known(pack: Pack | MemoryPack, stamp: FileStamp) -> FileParts | None:
    """Return the blocks of a file that is as it was when it was read before."""
    entry = pack.get(_file_key(stamp))
    if entry is None:
        return None
    about = entry.about
    parts = [Part(bytes.fromhex(key), *place) for key, *place in about["parts"]]
    return FileParts(stamp, parts, num_lines=about["num_lines"]) if all(part.key in pack for part in parts) else None


def _keep(pack: Pack, of_file: FileParts) -> None:
    """Keep where the blocks of a file are, unless it could change within the tick of a clock, or is no lines."""
    _, _, *times, _ = of_file.stamp
    if of_file.findings or any(time.time_ns() - changed < _SETTLED for changed in times):
        return
    about = {"parts": [(part.key.hex(), *part[1:]) for part in of_file.parts], "num_lines": of_file.num_lines}
    with suppress(OSError):
        pack.append(_file_key(of_file.stamp), about, {}, np.zeros(0, np.uint64))
