"""Record files read once, block by block, into a pack: what it holds already is not read again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from curate.base.console import spelled
from curate.base.packs import MemoryPack, Pack
from curate.base.record import CurateError, Finding, Json, Record, Source
from curate.base.storage import WRITE_FAILED
from curate.checks.runner.file_parts import FileParts
from curate.checks.runner.parallel import default_jobs, num_bytes, tasks_of
from curate.checks.runner.pool import shared_out
from curate.jsonl import RawBlock, Reader, Span, strict_loads_all
from curate.schema import Shape
from curate.similarity.dedupe.blocks import block_of, read_block
from curate.similarity.dedupe.columns import BlockColumns, ColumnCache, Part, columns_of, stored

# Hears how many bytes are read, and how many there are.
Progress = Callable[[int, int], object]
Task = tuple[Path, Span | None]
# Where more of a block's lines break the schema, its lines go one by one.
MOST_INVALID = 0.1


def read_parts(path: Path, span: Span | None, shape: Shape, root: Path | None, pack: Pack | MemoryPack, /) -> FileParts:
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
                columns, values = _columns(item, reader, shape)
                stored(pack, key, columns)
                if isinstance(pack, MemoryPack) and pack.values is not None:
                    pack.values[key] = values
            except OSError as error:
                raise CurateError(WRITE_FAILED, f"the cache of records: {error.strerror or error}") from error
        result.parts.append(Part(key, item.number, item.offset, item.size))
    result.num_lines = reader.num_lines
    return result


def _columns(raw: RawBlock, reader: Reader, shape: Shape) -> tuple[BlockColumns, Sequence[Mapping[str, Json]]]:
    """Read the lines of a block, at once if they are plain, else one by one; return also the objects of its records."""
    view = shape.view
    assert view is not None
    values = strict_loads_all(raw.lines) if raw.is_plain else None
    are_valid = np.array(list(map(shape.is_valid, values or ())), np.bool_)
    if values is not None and (~are_valid).sum() <= MOST_INVALID * len(values):
        rows = np.flatnonzero(are_valid)
        values = values if are_valid.all() else [values[row] for row in rows.tolist()]
        block = read_block(view, values)
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
    block = replace(block_of(records), ignored=[sorted(shape.ignored(record.data)) or None for record in records])
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
    on_progress: Progress | None,
) -> Iterator[tuple[Path, FileParts]]:
    """Read ``files``, by several processes where that pays, and yield what is in each span of each, in order."""
    jobs = default_jobs(files) if cache and isinstance(pack, Pack) else 1
    tasks = tasks_of(files, root, is_counted=jobs > 1)
    total, num_done = num_bytes(files), 0
    results = (
        shared_out(tasks, _read, _start, (shape, root, cache), jobs) if jobs > 1 else _in_turn(tasks, shape, root, pack)
    )
    with closing(results):
        for (path, span), part in zip(tasks, results, strict=True):
            yield path, part
            num_done += span.end - span.start if span else num_bytes([path])
            if on_progress:
                on_progress(min(num_done, total), total)
    if isinstance(pack, Pack):
        pack.refresh()


_reading: tuple[Shape, Path | None, Pack]


def _start(shape: Shape, root: Path | None, cache: ColumnCache) -> None:
    global _reading  # noqa: PLW0603  a worker has one of each, for all its tasks
    _reading = shape, root, cache.opened()


def _read(task: Task) -> FileParts:
    path, span = task
    return read_parts(path, span, *_reading)


def _in_turn(tasks: Sequence[Task], shape: Shape, root: Path | None, pack: Pack | MemoryPack) -> Generator[FileParts]:
    """Read spans one after the other, counting lines along."""
    line = 1
    for path, span in tasks:
        line = line if span and span.start else 1
        part = read_parts(path, span and replace(span, first_line=line), shape, root, pack)
        line += part.num_lines
        yield part


def file_name(path: Path, root: Path | None) -> str:
    """Return a file as its records call it."""
    return spelled(str(path.relative_to(root) if root and path.is_relative_to(root) else path))
