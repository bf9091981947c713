"""Spans of files shared out to processes; the schema engine holds Python's lock, so threads would not help."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path

from curate.door import DoorFault, Span, spans
from curate.garbage import collect_rarely
from curate.record import CurateError, Exit
from curate.settings import Settings
from curate.shape import load_shape
from curate.validate.baseline import Baseline
from curate.validate.changes import LineSet
from curate.validate.examine import Examiner, SpanResult
from curate.validate.select import select_checks

_SPAN_BYTES = 8 * 1024 * 1024
_SMALL_BYTES = 32 * 1024 * 1024
_AHEAD = 3
"""Spans handed out for each process."""
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
    # The helper process of multiprocessing has to outlive a hang-up that reaches all of us, or it complains.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    # A fresh interpreter each: forking a process whose libraries have threads can deadlock.
    context = multiprocessing.get_context("spawn")
    count, recipe = min(jobs, len(tasks)) or 1, recipe_of(examiner)
    with _deaf_to_pipes(), ProcessPoolExecutor(count, context, initializer=_start, initargs=recipe) as pool:
        waiting: deque[tuple[Path, Future[SpanResult]]] = deque()
        is_done = False
        try:
            for path, span in tasks:
                waiting.append((path, pool.submit(_examine, (path, span))))
                # Results wait here until their turn, and each is large: there are never more than this.
                if len(waiting) > _AHEAD * count:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for path, future in waiting:
                yield path, future.result()
            is_done = True
        except BrokenProcessPool as error:
            raise CurateError(
                "E970 worker-lost",
                "a worker process was killed from outside, perhaps because memory ran out",
                "Run it again with fewer --jobs; one process needs the least memory.",
                exit_code=Exit.MISSING,
            ) from error
        finally:
            # Whoever interrupts us does not want to wait until every worker has finished its span. Nothing is cancelled
            # first: the pool itself gives up what its ended workers owe, and stumbles over what was cancelled.
            if not is_done:
                for worker in multiprocessing.active_children():
                    worker.terminate()


@contextmanager
def _deaf_to_pipes() -> Iterator[None]:
    """Let the pipe of a worker that is gone be an error in the pool, where SIGPIPE would end us before it is told.

    Threads that the pool starts meanwhile inherit it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    # Ctrl-C reaches every process of the terminal; the parent alone answers it, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collect_rarely()
    _examiner = examiner_of(*recipe)


def _examine(task: tuple[Path, Span | None]) -> SpanResult:
    assert _examiner is not None
    return _examiner.examine(*task)
