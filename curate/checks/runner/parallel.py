"""Spans of files examined by several processes; the schema engine holds Python's lock, so threads would not help."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from curate.checks.runner.examine import examine
from curate.checks.runner.results import CheckPlan, SpanResult
from curate.jsonl import JsonFault, Span, spans

_SPAN_BYTES = 8 * 1024 * 1024
# A process examines some of this in the time that it takes another to start.
_SMALL_BYTES = 16 * 1024 * 1024
_plan: CheckPlan | None = None


def num_bytes(files: Sequence[Path]) -> int:
    """Return the size of all files; one that cannot be looked at has none, and its reader tells of it."""
    total = 0
    for path in files:
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def default_jobs(files: Sequence[Path]) -> int:
    """Return how many processes pay: one for small data, else one for each CPU that this process may use."""
    return 1 if num_bytes(files) < _SMALL_BYTES else min(8, len(os.sched_getaffinity(0)))


def examine_all(plan: CheckPlan, files: Sequence[Path], jobs: int) -> Iterator[tuple[Path, SpanResult]]:
    """Examine every file with ``jobs`` processes and yield the results in reading order.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E970 when a worker is killed.
    """
    # Spans also bound what one process holds: the sketches of a span are seen and forgotten before the next.
    tasks = tasks_of(files, plan.root, is_counted=jobs > 1)
    if jobs == 1:
        yield from _in_turn(plan, tasks)
        return
    # Most calls are about a small file, and loading this takes as long as checking one.
    from curate.checks.runner.pool import shared_out

    results = shared_out(tasks, _examine, _start, (plan,), jobs)
    with closing(results):
        yield from ((path, result) for (path, _), result in zip(tasks, results, strict=True))


def tasks_of(files: Sequence[Path], root: Path | None, *, is_counted: bool = True) -> list[tuple[Path, Span | None]]:
    """Return what can be examined apart, in reading order: each file, or the spans of a large one.

    Without ``is_counted`` spans do not know the number of their first line.
    """
    return [(path, span) for path in files for span in _spans(path, root, is_counted=is_counted)]


def _in_turn(plan: CheckPlan, tasks: Sequence[tuple[Path, Span | None]]) -> Iterator[tuple[Path, SpanResult]]:
    """Examine spans one after the other, counting lines along."""
    line = 1
    for path, span in tasks:
        line = line if span and span.start else 1
        result = examine(plan, path, span and replace(span, first_line=line))
        line += result.num_lines
        yield path, result


def _spans(path: Path, root: Path | None, *, is_counted: bool) -> Sequence[Span | None]:
    try:
        return spans(path, _SPAN_BYTES, root=root, is_counted=is_counted) or [None]
    except (JsonFault, OSError):
        # The reader itself reports what is wrong with the path.
        return [None]


def _start(plan: CheckPlan) -> None:
    global _plan  # noqa: PLW0603  a worker has one, for all its tasks
    _plan = plan


def _examine(task: tuple[Path, Span | None]) -> SpanResult:
    assert _plan is not None
    return examine(_plan, *task)
