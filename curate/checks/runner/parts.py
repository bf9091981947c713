"""Record files read once, block by block, into a pack: what it holds already is not read again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from curate.base.console import spelled
from curate.base.packs import MemoryPack, Pack
from curate.base.record import CurateError, Finding, Json
from curate.base.storage import WRITE_FAILED
from curate.checks.runner.file_parts import FileParts
from curate.checks.runner.parallel import default_jobs, num_bytes, tasks_of
from curate.checks.runner.pool import shared_out
from curate.jsonl import RawBlock, Reader, Span
from curate.schema import Shape
from curate.similarity.dedupe.blocks import read_block
from curate.similarity.dedupe.columns import BlockColumns, ColumnCache, Part, columns_of, stored

# Hears how many bytes are read, and how many there are.
Progress = Callable[[int, int], object]
Task = tuple[Path, Span | None]


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
    """Read the lines of a block; return also the objects of its records."""
    assert shape.view is not None
    # The counts of the reader are of the whole file; what it finds here is told again by `_findings_in`.
    before = reader.num_crlf, reader.first_crlf
    reader.num_crlf = reader.first_crlf = 0
    values: list[Mapping[str, Json]] = []
    places: list[tuple[int, int, int]] = []
    has_findings = False
    for line in reader.lines_in(raw):
        value = line if isinstance(line, Finding) else reader.value(line)
        if isinstance(line, Finding) or isinstance(value, Finding) or not shape.is_valid(value):
            has_findings = True
            continue
        values.append(value)
        places.append((line[0] - raw.number, line[1] - raw.offset, len(line[2])))
    rows, offsets, lengths = np.array(places, np.int64).reshape(-1, 3).T
    crlf = reader.num_crlf, reader.first_crlf - raw.number if reader.num_crlf else 0
    reader.num_crlf, reader.first_crlf = before
    columns = columns_of(read_block(shape.view, values), rows, offsets, lengths, raw.num_lines)
    return replace(columns, crlf=crlf, has_findings=has_findings), values


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
