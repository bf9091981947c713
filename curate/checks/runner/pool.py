"""Tasks shared out to several processes, results in order; what it takes is loaded only where that pays."""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any, TypeVar

from curate.base import collect_rarely
from curate.base.record import CurateError, Exit

Task = TypeVar("Task")
Result = TypeVar("Result")
# Tasks handed out for each process.
_AHEAD = 3


class _WorkerProcess(SpawnProcess):
    """A fresh interpreter that does not run the user's script again, which may have no guard against that."""

    def start(self) -> None:
        """Start it; what it is to do stands in modules of ours."""
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main


class _Own(SpawnContext):
    """A fresh interpreter for each process, as forking one with threads can deadlock; it knows those that it made."""

    # Another thread may have processes of its own, which are not ours to end.

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Make a process and remember it."""
        process = _WorkerProcess(*args, **options)
        self.processes.append(process)
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
            for process in context.processes:
                process.terminate()


def _begin(start: Callable[..., None], recipe: tuple[Any, ...]) -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone answers it, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collect_rarely()
    start(*recipe)
