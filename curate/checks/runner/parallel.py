"""Spans of files examined by several processes; the schema engine holds Python's lock, so threads would not help."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, redirect_stderr
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

from curate.base import collect_rarely
from curate.base.record import CurateError, Exit
from curate.checks.runner.examine import Examiner, ExaminerSpec, SpanResult
from curate.jsonl import JsonFault, Span, spans

Task = TypeVar("Task")
Result = TypeVar("Result")
# Tasks handed out for each process.
_AHEAD = 3

_SPAN_BYTES = 8 * 1024 * 1024
# A process reads this much in the time that it takes another to start.
_SMALL_BYTES = 128 * 1024 * 1024
_examiner: Examiner | None = None


class _Own(SpawnContext):
    """A fresh interpreter for each process, as forking one with threads can deadlock; it knows those that it made."""

    # Another thread may have processes of its own, which are not ours to end.

    def __init__(self) -> None:
        super().__init__()
        self.made: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Make a process and remember it."""
        process = SpawnProcess(*args, **options)
        self.made.append(process)
        return process


def shared_out(
    tasks: Sequence[Task],
    work: Callable[[Task], Result],
    start: Callable[..., None],
    recipe: tuple[Any, ...],
    jobs: int,
) -> Generator[Result]:
    """Yield ``work(task)`` of each task in turn, done by ``jobs`` processes that have called ``start(*recipe)`` first.

    Closing the generator ends the processes at once.

    Raises:
        CurateError: E970 when a process is killed.
    """
    # The helper process of multiprocessing has to outlive a hang-up that reaches all of us, or it complains.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        # It hands on the number of our stderr, and the terminal UI has put something in its place that has none.
        with redirect_stderr(sys.__stderr__):
            resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    context = _Own()
    # The pipe of a process that is gone shall be an error in the pool, where SIGPIPE would end us first.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        with ProcessPoolExecutor(min(jobs, len(tasks)) or 1, context, _begin, (start, recipe)) as pool:
            yield from _in_order(tasks, work, pool, context, jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_order(
    tasks: Sequence[Task], work: Callable[[Task], Result], pool: ProcessPoolExecutor, context: _Own, jobs: int
) -> Generator[Result]:
    waiting: deque[Future[Result]] = deque()
    is_done = False
    try:
        for task in tasks:
            # A process may start here; until `_begin` ignores Ctrl-C there, it waits, or an import would end on it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                waiting.append(pool.submit(work, task))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            # Results wait here until their turn, and each is large: there are never more than this.
            if len(waiting) > _AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        is_done = True
    except BrokenProcessPool as error:
        raise CurateError(
            "E970 worker-lost",
            "a worker process was killed from outside, perhaps because memory ran out",
            "Run it again with fewer --jobs; one process needs the least memory.",
            exit_code=Exit.MISSING,
        ) from error
    finally:
        if not is_done:
            for process in context.made:
                process.terminate()


def _begin(start: Callable[..., None], recipe: tuple[Any, ...]) -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone answers it, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collect_rarely()
    start(*recipe)


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
    tasks = tasks_of(files, examiner.spec.root, is_counted=jobs > 1)
    if jobs == 1:
        yield from _in_turn(examiner, tasks)
        return
    results = shared_out(tasks, _examine, _start, (examiner.spec,), jobs)
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
    except (JsonFault, OSError):
        # The reader itself reports what is wrong with the path.
        return [None]


def _start(spec: ExaminerSpec) -> None:
    global _examiner  # noqa: PLW0603  a worker has one, for all its tasks
    _examiner = Examiner(spec)


def _examine(task: tuple[Path, Span | None]) -> SpanResult:
    assert _examiner is not None
    return _examiner.examine(*task)
