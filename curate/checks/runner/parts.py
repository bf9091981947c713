"""Record files read once, block by block, into a pack: what it holds already is not read again."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from curate.base.console import spelled
from curate.base.file_guard import SETTLED, FileStamp
from curate.base.packs import MemoryPack, Pack
from curate.base.record import CurateError, Finding, Json, Record, Source, canonical
from curate.base.storage import WRITE_FAILED
from curate.checks.runner.blocks import MOST_INVALID
from curate.checks.runner.parallel import default_jobs, num_bytes, tasks_of
from curate.checks.runner.pool import shared_out
from curate.jsonl import RawBlock, Reader, Span, strict_loads_all
from curate.schema import Shape
from curate.similarity.dedupe.blocks import block_of, read_block
from curate.similarity.dedupe.columns import BlockColumns, ColumnCache, Part, columns_of, stored
from curate.similarity.dedupe.kernels import Kernels, kernels_for

# Hears how many bytes are read, and how many there are.
Progress = Callable[[int, int], object]
Task = tuple[Path, Span | None]


@dataclass
class FileParts:
    """The blocks of a file, and findings about it that are of none of them."""

    stamp: FileStamp
    parts: list[Part] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_lines: int = 0

    def spans(self, size: int) -> list[Span]:
        """Return spans of some blocks each, of ``size`` bytes or more but the last."""
        spans: list[Span] = []
        for part in self.parts:
            if spans and spans[-1].end - spans[-1].start < size:
                spans[-1] = replace(spans[-1], end=part.offset + part.size)
            else:
                spans.append(Span(part.offset, part.offset + part.size, part.number))
        return spans

    def within(self, span: Span | None) -> tuple[list[Part], int]:
        """Return the blocks of one of these spans, or of the file, and how many lines they have."""
        if span is None:
            return self.parts, self.num_lines
        parts = [part for part in self.parts if span.start <= part.offset < span.end]
        behind = [part.number for part in self.parts if part.offset >= span.end]
        return parts, min(behind, default=self.num_lines + 1) - span.first_line

    def extend(self, later: FileParts) -> None:
        """Add what was found in lines that follow."""
        self.parts += later.parts
        self.findings += later.findings
        self.num_lines += later.num_lines


def read_parts(
    path: Path, span: Span | None, shape: Shape, root: Path | None, pack: Pack | MemoryPack, kernels: Kernels, /
) -> FileParts:
    """Read one span of a file, or all of it, and keep in ``pack`` what it does not have.

    Raises:
        CurateError: E904 when the file is missing or may not be read; E905 when the schema has no ``x-record`` view;
            E906 when the pack cannot be written to.
    """
    reader = Reader(path, name=file_name(path, root), span=span, root=root)
    result = FileParts(("", 0, 0, 0, 0))
    for item in reader.blocks():
        if isinstance(item, Finding):
            result.findings.append(item)
            continue
        key = item.key
        if key not in pack:
            try:
                columns, values = _columns(item, reader, shape, kernels)
                stored(pack, key, columns)
                if isinstance(pack, MemoryPack) and pack.values is not None:
                    pack.values[key] = values
            except OSError as error:
                raise CurateError(WRITE_FAILED, f"the cache of records: {error.strerror or error}") from error
        result.parts.append(Part(key, item.number, item.offset, item.size))
    result.num_lines = reader.num_lines
    return result


def _columns(
    raw: RawBlock, reader: Reader, shape: Shape, kernels: Kernels
) -> tuple[BlockColumns, Sequence[Mapping[str, Json]]]:
    """Read the lines of a block, at once if they are plain, else one by one; return also the objects of its records."""
    view = shape.view
    assert view is not None
    values = strict_loads_all(raw.whole, raw.lines) if raw.is_plain else None
    are_valid = np.array(list(map(shape.is_valid, values or ())), np.bool_)
    if values is not None and (~are_valid).sum() <= MOST_INVALID * len(values):
        rows = np.flatnonzero(are_valid)
        values = values if are_valid.all() else [values[row] for row in rows.tolist()]
        block = read_block(view, values, kernels)
        lengths = np.array(list(map(len, raw.lines)), np.int64)
        offsets = np.cumsum(lengths + 1) - lengths - 1
        return columns_of(block, rows, offsets[rows], lengths[rows], raw.num_lines), values
    # The counts of the reader are of the whole file; what it finds here is told again by `_findings_in`.
    before = reader.num_crlf, reader.first_crlf
    reader.num_crlf = reader.first_crlf = 0
    records: list[Record] = []
    line_spans: list[tuple[int, int, int]] = []
    has_findings = False
    for line in reader.lines_in(raw):
        value = line if isinstance(line, Finding) else reader.value(line)
        if isinstance(line, Finding) or isinstance(value, Finding) or not shape.is_valid(value):
            has_findings = True
            continue
        records.append(shape.record(value, Source(reader.name, line[0])))
        line_spans.append((line[0] - raw.number, line[1] - raw.offset, len(line[2])))
    block = replace(
        block_of(records, kernels), ignored=[sorted(shape.ignored(record.data)) or None for record in records]
    )
    rows, offsets, lengths = np.array(line_spans, np.int64).reshape(-1, 3).T
    crlf = reader.num_crlf, reader.first_crlf - raw.number if reader.num_crlf else 0
    reader.num_crlf, reader.first_crlf = before
    columns = columns_of(block, rows, offsets, lengths, raw.num_lines)
    return replace(columns, crlf=crlf, is_plain=False, has_findings=has_findings), [record.data for record in records]


def read_all(
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


def file_key(stamp: FileStamp) -> bytes:
    """Return the key of where the blocks of a file are."""
    return blake2b(canonical(list(stamp)), digest_size=16, person=b"file").digest()


def known_parts(pack: Pack | MemoryPack, stamp: FileStamp, *, has_columns: bool = True) -> FileParts | None:
    """Return the blocks of a file that is as it was when it was read before.

    None also where the pack lacks the columns of some, unless those need not be there.
    """
    entry = pack.get(file_key(stamp))
    if entry is None:
        return None
    about = entry.about
    parts = [Part(bytes.fromhex(key), *place) for key, *place in about["parts"]]
    is_whole = sum(part.size for part in parts) == stamp[1]
    is_whole = is_whole and (not has_columns or all(part.key in pack for part in parts))
    return FileParts(stamp, parts, num_lines=about["num_lines"]) if is_whole else None


def keep_parts(pack: Pack, of_file: FileParts) -> None:
    """Keep where the blocks of a file are, unless it could change within the tick of a clock, or is no lines."""
    _, _, *times, _ = of_file.stamp
    known = known_parts(pack, of_file.stamp, has_columns=False)
    is_known = known is not None and known.parts == of_file.parts
    if is_known or of_file.findings or any(time.time_ns() - changed < SETTLED for changed in times):
        return
    about = {"parts": [(part.key.hex(), *part[1:]) for part in of_file.parts], "num_lines": of_file.num_lines}
    with suppress(OSError):
        pack.append(file_key(of_file.stamp), about, {}, np.zeros(0, np.uint64))


def file_name(path: Path, root: Path | None) -> str:
    """Return a file as its records call it."""
    return spelled(str(path.relative_to(root) if root and path.is_relative_to(root) else path))
