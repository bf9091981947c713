"""Record files read once, span by span, as columns."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from curate.base.console import spelled
from curate.base.record import Finding, Json
from curate.checks.runner.column_cache import FileSummary
from curate.checks.runner.parallel import default_jobs, num_bytes, tasks_of
from curate.checks.runner.pool import shared_out
from curate.jsonl import Reader, Span
from curate.schema import Shape
from curate.schema.shape import said_digest
from curate.similarity.dedupe.blocks import read_block
from curate.similarity.dedupe.columns import SCHEMA, columns_of

# Hears how many bytes are read, and how many there are.
Progress = Callable[[int, int], object]
Task = tuple[Path, Span | None]
# The objects of the lines that are records.
LineValues = list[Mapping[str, Json]]


def read_parts(
    shape: Shape, root: Path | None, path: Path, span: Span | None, values: LineValues | None = None, /
) -> tuple[pl.DataFrame, FileSummary]:
    """Return the columns of the records in one span of a file, or in all of it; ``values`` takes their objects.

    Raises:
        CurateError: E904 when the file is missing or may not be read; E905 when the schema has no ``x-record`` view.
    """
    assert shape.view is not None
    reader = Reader(path, name=file_name(path, root), span=span, root=root)
    frames, is_clean = [pl.DataFrame(schema=SCHEMA)], True
    for item in reader.blocks():
        if isinstance(item, Finding):
            is_clean = False
            continue
        records: LineValues = []
        places: list[tuple[int, int, int]] = []
        for line in reader.lines_in(item):
            value = line if isinstance(line, Finding) else reader.value(line)
            if isinstance(line, Finding) or isinstance(value, Finding) or not shape.is_valid(value):
                is_clean = False
                continue
            records.append(value)
            places.append((line[0], line[1], len(line[2])))
        if records:
            said = [said_digest(content.messages, content.text) for content in map(shape.view.content, records)]
            frames.append(columns_of(read_block(shape.view, records), said, *np.array(places, np.int64).T))
        if values is not None:
            values += records
    about = FileSummary(reader.num_lines, is_clean and not reader.num_crlf)
    return pl.concat(frames), about


def read_all(
    files: Sequence[Path],
    shape: Shape,
    root: Path | None,
    values: Mapping[Path, LineValues] | None,
    on_progress: Progress | None,
) -> Iterator[tuple[Path, tuple[pl.DataFrame, FileSummary]]]:
    """Read ``files``, by several processes where that pays, and yield what is in each span of each, in order.

    ``values`` takes the objects of the lines of each.
    """
    jobs = default_jobs(files) if values is None else 1
    tasks = tasks_of(files, root, is_counted=jobs > 1)
    total, num_done = num_bytes(files), 0
    results = (
        shared_out(tasks, _read, _start, (shape, root), jobs) if jobs > 1 else _in_turn(tasks, shape, root, values)
    )
    with closing(results):
        for (path, span), part in zip(tasks, results, strict=True):
            yield path, part
            num_done += span.end - span.start if span else num_bytes([path])
            if on_progress:
                on_progress(min(num_done, total), total)


_reading: tuple[Shape, Path | None]


def _start(shape: Shape, root: Path | None) -> None:
    global _reading  # noqa: PLW0603  a worker has one of each, for all its tasks
    _reading = shape, root


def _read(task: Task) -> tuple[pl.DataFrame, FileSummary]:
    return read_parts(*_reading, *task)


def _in_turn(
    tasks: Sequence[Task], shape: Shape, root: Path | None, values: Mapping[Path, LineValues] | None
) -> Generator[tuple[pl.DataFrame, FileSummary]]:
    """Read spans one after the other, counting lines along."""
    line = 1
    for path, span in tasks:
        line = line if span and span.start else 1
        part = read_parts(
            shape, root, path, span and replace(span, first_line=line), None if values is None else values[path]
        )
        line += part[1].num_lines
        yield part


def file_name(path: Path, root: Path | None) -> str:
    """Return a file as its records call it."""
    return spelled(str(path.relative_to(root) if root and path.is_relative_to(root) else path))
