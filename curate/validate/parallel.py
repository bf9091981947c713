"""Spans of files shared out to processes; the schema engine holds Python's lock, so threads would not help."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path

from curate.door import DoorFault, Span, spans
from curate.settings import Settings
from curate.shape import load_shape
from curate.validate.baseline import Baseline
from curate.validate.changes import LineSet
from curate.validate.examine import Examiner, SpanResult
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
        CurateError: E904 when a file is missing or may not be read.
    """
    # Spans also bound what one process holds: the sketches of a span are seen and forgotten before the next.
    tasks = tasks_of(files, examiner.root)
    if jobs == 1:
        for path, span in tasks:
            yield path, examiner.examine(path, span)
        return
    # The helper process of multiprocessing has to outlive a hang-up that reaches all of us, or it complains.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    # A fresh interpreter each: forking a process whose libraries have threads can deadlock.
    context = multiprocessing.get_context("spawn")
    count, recipe = min(jobs, len(tasks)) or 1, recipe_of(examiner)
    with ProcessPoolExecutor(count, context, initializer=_start, initargs=recipe) as pool:
        is_done = False
        try:
            for (path, _), result in zip(tasks, pool.map(_examine, tasks), strict=True):
                yield path, result
            is_done = True
        finally:
            # Whoever interrupts us does not want to wait until every worker has finished its span.
            if not is_done:
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in multiprocessing.active_children():
                    worker.terminate()


def tasks_of(files: Sequence[Path], root: Path | None) -> list[tuple[Path, Span | None]]:
    """Return what can be examined apart, in reading order: each file, or the spans of a large one."""
    return [(path, span) for path in files for span in _spans(path, root)]


def _spans(path: Path, root: Path | None) -> Sequence[Span | None]:
    try:
        return spans(path, max(1, path.stat().st_size // _SPAN_BYTES), root=root) or [None]
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
    # Ctrl-C reaches every process of the terminal; the parent alone answers it, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _examiner = examiner_of(*recipe)


def _examine(task: tuple[Path, Span | None]) -> SpanResult:
    assert _examiner is not None
    return _examiner.examine(*task)
