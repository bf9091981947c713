"""Spans of files shared out to processes; the schema engine holds Python's lock, so threads would not help."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from curate.door import DoorFault, Span, spans
from curate.settings import Settings
from curate.shape import load_shape
from curate.validate.baseline import Baseline
from curate.validate.changes import LineSet
from curate.validate.examine import Examiner, SpanResult
from curate.validate.pool import shared_out
from curate.validate.select import select_checks

_SPAN_BYTES = 8 * 1024 * 1024
_SMALL_BYTES = 32 * 1024 * 1024
_examiner: Examiner | None = None

Recipe = tuple[
    str, Path, Settings, int, bool, frozenset[str], Path | None, Baseline | None, Mapping[str, LineSet] | None
]


def default_jobs(files: Sequence[Path]) -> int:
    """Return how many processes pay: one for small data, else one for each CPU that this process may use."""
    size = sum(path.stat().st_size for path in files if path.is_file())
    return 1 if size < _SMALL_BYTES else min(8, len(os.sched_getaffinity(0)))


def examine_all(examiner: Examiner, files: Sequence[Path], jobs: int) -> Iterator[tuple[Path, SpanResult]]:
    """Examine every file with ``jobs`` processes and yield the results in reading order.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E970 when a worker is killed.
    """
    # Spans also bound what one process holds: the sketches of a span are seen and forgotten before the next.
    tasks = tasks_of(files, examiner.root, is_counted=jobs > 1)
    if jobs == 1:
        yield from _in_turn(examiner, tasks)
        return
    results = shared_out(tasks, _examine, _start, recipe_of(examiner), jobs)
    with closing(results):
        yield from ((path, result) for (path, _), result in zip(tasks, results, strict=True))


def tasks_of(files: Sequence[Path], root: Path | None, *, is_counted: bool = True) -> list[tuple[Path, Span | None]]:
    """Return what can be examined apart, in reading order: each file, or the spans of a large one.

    Without ``is_counted`` spans do not know the number of their first line.
    """
    return [(path, span) for path in files for span in _spans(path, root, is_counted=is_counted)]


def _in_turn(examiner: Examiner, tasks: Sequence[tuple[Path, Span | None]]) -> Iterator[tuple[Path, SpanResult]]:
    """Examine spans one after the other, counting lines along."""
    line = 1
    for path, span in tasks:
        line = line if span and span.start else 1
        result = examiner.examine(path, span and replace(span, first_line=line))
        line += result.num_lines
        yield path, result


def _spans(path: Path, root: Path | None, *, is_counted: bool) -> Sequence[Span | None]:
    try:
        num_spans = max(1, path.stat().st_size // _SPAN_BYTES)
        return spans(path, num_spans, root=root, is_counted=is_counted) or [None]
    except (DoorFault, OSError):
        # The reader itself reports what is wrong with the path.
        return [None]


def recipe_of(examiner: Examiner) -> Recipe:
    """Return what another process needs to make the same examiner; it can be pickled."""
    shape = examiner.shape
    return (
        str(shape.path),
        shape.root,
        examiner.settings,
        examiner.limit,
        examiner.show_values,
        examiner.dropped,
        examiner.root,
        examiner.baseline,
        examiner.changes,
    )


def examiner_of(*recipe: *Recipe) -> Examiner:
    """Make an examiner from what `recipe_of` returned."""
    schema, schema_root, settings, limit, show_values, dropped, root, baseline, changes = recipe
    return Examiner(
        load_shape(str(Path(schema).resolve()), schema_root.resolve()),
        settings,
        select_checks(settings.checks, settings.categories),
        limit=limit,
        show_values=show_values,
        dropped=dropped,
        root=root,
        baseline=baseline,
        changes=changes,
    )


def _start(*recipe: *Recipe) -> None:
    global _examiner  # noqa: PLW0603  a worker has one, for all its tasks
    _examiner = examiner_of(*recipe)


def _examine(task: tuple[Path, Span | None]) -> SpanResult:
    assert _examiner is not None
    return _examiner.examine(*task)
