"""Record files read into pieces of the catalogue, a span of a file each, by several processes where there is much."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import orjson

from curate.base.record import Finding, Line, Source
from curate.checks.runner.examine import violations
from curate.checks.runner.parallel import default_jobs, tasks_of
from curate.checks.runner.pool import shared_out
from curate.checks.runner.verdict import FindingTally
from curate.jsonl import Entry, Reader, Span
from curate.project.catalog.columns import Values, frame_of, head, values_of
from curate.schema import Shape, load_shape

MOST_FINDINGS = 1000
"""Findings of each severity about lines that are no records; further ones are counted."""

Task = tuple[Path, Span | None]
Progress = Callable[[int, int], object]
"""Hears how many bytes are read, and how many there are."""


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
    num_lines: int = 0
    num_crlf: int = 0
    first_crlf: int = 0


def pieces(files: Sequence[Path], shape: Shape, root: Path, on_progress: Progress | None) -> Iterator[CatalogPiece]:
    """Read ``files`` in order and yield their pieces; numbers of lines are right also where a file is in several.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E905 when the schema has no ``x-record`` view; E970
            when a worker is killed.
    """
    jobs = default_jobs(files)
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
    values: list[Values] = []
    rows: list[bytes] = []
    for line in reader.lines():
        if isinstance(line, Finding):
            piece.tally.add(line)
            continue
        number, offset, raw, _ = line
        value = reader.value(line)
        if isinstance(value, Finding):
            piece.tally.add(value)
        elif not shape.is_valid(value):
            for finding in violations(shape, Entry(Line(Source(reader.name, number), raw, offset), value)):
                piece.tally.add(finding)
        else:
            record = shape.record(value, Source(reader.name, number))
            piece.ids.append(record.id)
            values.append(values_of(record))
            rows.append(row_of(values[-1], offset, len(raw)))
    if values:
        buffer = BytesIO()
        frame_of(values).write_ipc(buffer)
        piece.texts = buffer.getvalue()
    piece.rows = b"".join(rows)
    piece.lengths.extend(map(len, rows))
    piece.num_lines, piece.num_crlf, piece.first_crlf = reader.num_lines, reader.num_crlf, reader.first_crlf
    return piece


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
    return piece_of(task, _shape, _root)


def _in_turn(tasks: Sequence[Task], shape: Shape, root: Path) -> Generator[CatalogPiece]:
    """Read spans one after the other, counting lines along."""
    line = 1
    for path, span in tasks:
        line = line if span and span.start else 1
        piece = piece_of((path, span and replace(span, first_line=line)), shape, root)
        line += piece.num_lines
        yield piece
