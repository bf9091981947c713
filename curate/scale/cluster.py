"""Where the work is done: processes of this machine under daft's own runner, or a Ray cluster that runs already."""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import pickle
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from curate import say
from curate.garbage import collect_rarely
from curate.record import CurateError, Exit, missing_extra

NATIVE = "native"
RAY = "ray"
AUTO = "auto"
"""The address by which Ray looks for a cluster that this machine belongs to."""
_PATIENCE_S = 5.0
_RUNNER = "DAFT_RUNNER"
# Both libraries report their use to their makers unless told not to, and neither is to open a page of its own.
_SILENT = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "RAY_DISABLE_DASHBOARD": "1",
}
_PARTS_PER_WORKER = 4
_CALLS = itertools.count()
_FAULT = b"\0pairsmith-fault\0"


class Job(NamedTuple):
    """What workers do: ``make``, the dotted name of a class, is called with ``arguments`` once in each worker, and what
    it returns is called with each task. Tasks and answers are whatever can be pickled."""

    make: str
    arguments: tuple[Any, ...]
    is_split: bool = False
    """Whether answers are `Parts`."""


@dataclass(frozen=True)
class Cluster:
    """A place where ``num_workers`` tasks run at a time."""

    runner: str
    num_workers: int

    def answers(self, job: Job, tasks: Sequence[Any], *, is_apart: bool = False) -> Iterator[Any]:
        """Do every task and yield the answers in the order of the tasks.

        Tasks share the threads of a process; with ``is_apart`` each worker is a process, which costs a second to start
        and pays for work that holds Python's lock.

        Raises:
            CurateError: what a task raised; E969 when a worker is lost or is not set up like this machine.
        """
        if not tasks:
            return
        frame = self._frame(tasks)
        count = min(self.num_workers, len(tasks))
        is_apart = is_apart and (self.runner == RAY or count > 1)
        column = self._apart(job, count) if is_apart else self._within(job)
        yield from _in_order(self._read(_answered(frame, column)))

    def shuffled(self, split: Job, tasks: Sequence[Any], meet: Job) -> Iterator[Any]:
        """Let ``split`` answer each task with `Parts`, bring the parts of each bucket together by a shuffle, and yield
        what ``meet`` answers to the list of each bucket's parts, in no order.

        Raises:
            CurateError: as `answers` does.
        """
        import daft

        answer, task = daft.col("answer"), daft.col("task")
        parts = _answered(self._frame(tasks), self._within(split)).select(answer.explode()).where(answer.not_null())
        rows = parts.select(answer.get("bucket").alias("number"), answer.get("part").alias("task"))
        gathered = rows.groupby("number").agg(task.list_agg())
        for _, found in self._read(_answered(gathered, self._within(meet))):
            yield found

    def _frame(self, tasks: Sequence[Any]) -> Any:
        import daft

        packed = [pickle.dumps(task, protocol=5) for task in tasks]
        frame = daft.from_pydict({"number": list(range(len(tasks))), "task": packed})
        if self.runner == RAY and tasks:
            frame = frame.into_partitions(min(len(tasks), _PARTS_PER_WORKER * self.num_workers))
        return frame

    def _within(self, job: Job) -> Any:
        """Return the column of answers to the column of tasks, made by threads of daft's own processes."""
        import daft

        place = _Place(str(Path.cwd()), version("pairsmith")) if self.runner == RAY else None
        # The number makes the worker one of this call: what it read, such as a schema, may have changed since another.
        packed = pickle.dumps((job, place, next(_CALLS)))

        def answer(tasks: Any) -> Any:
            return _worker(packed).answer(tasks)

        function = daft.func.batch(return_dtype=_kind(job), batch_size=1, use_process=False)(answer)
        return function(daft.col("task"))

    def _apart(self, job: Job, count: int) -> Any:
        """Return the column of answers to the column of tasks, made by ``count`` processes."""
        import daft

        daft.method.batch(return_dtype=_kind(job), batch_size=1)(_Worker.answer)
        is_process = None if self.runner == RAY else True
        kind_of_worker = daft.cls(_Worker, max_concurrency=count, use_process=is_process)
        return kind_of_worker(job, _Place(str(Path.cwd()), version("pairsmith"))).answer(daft.col("task"))

    def _read(self, frame: Any) -> Iterator[tuple[int, Any]]:
        from daft.exceptions import DaftCoreException

        try:
            for batch in frame.to_arrow_iter(results_buffer_size=2 * self.num_workers):
                for number, packed in zip(*(batch.column(name) for name in ("number", "answer")), strict=True):
                    answer = pickle.loads(packed.as_buffer())  # noqa: S301  of a worker of our own
                    if isinstance(answer, CurateError):
                        raise answer
                    yield number.as_py(), answer
        except (DaftCoreException, RuntimeError, ConnectionError) as error:
            raise _lost(error) from error


class Parts(list[tuple[int, bytes]]):
    """What a job that splits answers: buckets and what goes into each."""


class _Place(NamedTuple):
    """What a process elsewhere must have like the driver: the folder that paths are relative to, and the version."""

    folder: str
    version: str


class _Worker:
    """Does one job, in each process that takes part; threads may share it."""

    def __init__(self, job: Job, place: _Place | None) -> None:
        self._is_split = job.is_split
        self._fault: CurateError | None = None
        try:
            if place is not None:
                _settle(place)
            module, _, name = job.make.rpartition(".")
            self._work: Callable[[Any], Any] = getattr(importlib.import_module(module), name)(*job.arguments)
        except CurateError as error:
            self._fault = error

    def answer(self, tasks: Any) -> Any:
        """Answer a column of tasks: with bytes, or with (bucket, part) pairs where the work gives such."""
        # daft is built on it. Its arrays pass bytes on as they are; lists of Python objects take ten times as long.
        import pyarrow

        found = [self._one(task) for task in _unpacked(tasks.to_arrow())]
        if not self._is_split:
            return pyarrow.array(found, pyarrow.large_binary())
        split = [parts for parts in found if isinstance(parts, Parts)]
        buckets, contents = ([pair[place] for parts in split for pair in parts] for place in (0, 1))
        columns = [pyarrow.array(buckets, pyarrow.int64()), pyarrow.array(contents, pyarrow.large_binary())]
        pairs = pyarrow.StructArray.from_arrays(columns, ["bucket", "part"])
        return pyarrow.LargeListArray.from_arrays(list(itertools.accumulate(map(len, split), initial=0)), pairs)

    def _one(self, task: Any) -> bytes | Parts:
        # An error that leaves a worker would arrive as text. One of a job that splits goes on as a part.
        try:
            if isinstance(task, list):
                faults = [part for part in task if part[: len(_FAULT)] == _FAULT]
                if faults:
                    raise pickle.loads(faults[0][len(_FAULT) :])  # noqa: S301  of a worker of our own
            if self._fault is not None:
                raise self._fault
            # What goes to a worker comes from our own driver.
            answer = self._work(task if isinstance(task, list) else pickle.loads(task))  # noqa: S301
        except CurateError as error:
            packed = pickle.dumps(error)
            return Parts([(-1, _FAULT + packed)]) if self._is_split else packed
        return answer if isinstance(answer, Parts) else pickle.dumps(answer, protocol=5)


def _unpacked(column: Any) -> Iterator[Any]:
    """Yield a memoryview for each value of an Arrow column of bytes, or a list of them where it is one of lists."""
    import pyarrow

    for value in column:
        if pyarrow.types.is_binary(value.type) or pyarrow.types.is_large_binary(value.type):
            yield memoryview(value.as_buffer())
        else:
            yield [memoryview(part.as_buffer()) for part in value.values]


@lru_cache(maxsize=4)
def _worker(packed: bytes) -> _Worker:
    """Return the worker of this process for a job, which serves until other jobs have come."""
    job, place, _ = pickle.loads(packed)  # noqa: S301  of our own driver
    return _Worker(job, place)


def _kind(job: Job) -> Any:
    """Return daft's name for what the answers to a job are."""
    import daft

    binary = daft.DataType.binary()
    part = daft.DataType.struct({"bucket": daft.DataType.int64(), "part": binary})
    return daft.DataType.list(part) if job.is_split else binary


def _answered(frame: Any, column: Any) -> Any:
    import daft

    return frame.select(daft.col("number"), column.alias("answer"))


def _settle(place: _Place) -> None:
    """Make a process elsewhere see what its driver sees: the same relative paths, by the same version."""
    os.environ.update(_SILENT)
    collect_rarely()
    try:
        os.chdir(place.folder)
    except OSError as error:
        raise _unlike(f"a worker cannot enter {say.one_line(place.folder)}: {error.strerror}") from error
    if version("pairsmith") != place.version:
        raise _unlike(f"a worker has pairsmith {version('pairsmith')}, and this machine {place.version}")


def _unlike(what: str) -> CurateError:
    hint = "Every machine needs the same installation, and a shared file system with the same paths."
    return CurateError("E969 no-cluster", what, hint, exit_code=Exit.MISSING)


def _lost(error: Exception) -> CurateError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    what = say.one_line(lines[-1] if lines else type(error).__name__, 200)
    return CurateError(
        "E969 no-cluster",
        f"daft did not finish: {what}",
        "Run it again, or with --engine local.",
        exit_code=Exit.MISSING,
    )


def _in_order(found: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    """Yield the answers by their numbers from 0 on; those that come early wait."""
    early: dict[int, Any] = {}
    place = 0
    for number, answer in found:
        early[number] = answer
        while place in early:
            yield early.pop(place)
            place += 1


@contextmanager
def joined(ray_address: str = "", num_workers: int = 0) -> Iterator[Cluster]:
    """Yield the cluster to work on: the Ray cluster at ``ray_address``; without one the running cluster that Ray finds
    by itself where the variable DAFT_RUNNER is "ray"; else this machine, where ``num_workers`` tasks run at a time, by
    default one for each CPU. A Ray cluster runs as many as it has CPUs.

    Nothing but the cluster is talked to. A process can use one kind of runner in its life, which is daft's rule.

    Raises:
        CurateError: E940 without the extra [scale]; E969 when no Ray cluster answers.
    """
    os.environ.update({name: os.environ.get(name) or value for name, value in _SILENT.items()} | {"DO_NOT_TRACK": "1"})
    is_ray = bool(ray_address) or os.environ.get(_RUNNER, "").lower() == RAY
    try:
        import daft
        import pyarrow  # noqa: F401  looked for before any work is done

        if is_ray:
            import ray
    except ImportError as error:
        raise missing_extra("--engine daft", "scale", otherwise="leave it out: --engine local") from error
    if not is_ray:
        _choose(daft.set_runner_native, NATIVE)
        yield Cluster(NATIVE, num_workers or len(os.sched_getaffinity(0)))
        return
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray_address)
    try:
        _choose(partial(daft.set_runner_ray, noop_if_initialized=True), RAY)
        yield Cluster(RAY, max(1, int(ray.cluster_resources().get("CPU", 1))))
    finally:
        if is_ours:
            ray.shutdown()


def _choose(choose: Callable[[], Any], runner: str) -> None:
    """Choose daft's runner, which it lets a process do once.

    Raises:
        CurateError: E969 when this process has another one.
    """
    from daft.exceptions import DaftCoreException
    from daft.runners import get_or_infer_runner_type

    with suppress(DaftCoreException):
        choose()
    if (chosen := get_or_infer_runner_type()) != runner:
        raise CurateError(
            "E969 no-cluster",
            f"this process works with daft's {chosen} runner already, and cannot change to {runner}",
            exit_code=Exit.MISSING,
        )


def _connect(address: str) -> None:
    """Connect to a running Ray cluster, and never start one.

    Raises:
        CurateError: E969 when none answers.
    """
    import ray

    place = address or os.environ.get("RAY_ADDRESS", "") or AUTO
    try:
        if place != AUTO:
            # Ray itself tries for two minutes, and says so on stderr.
            socket.create_connection(_endpoint(place), _PATIENCE_S).close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=place, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        where = "is found on this machine" if place == AUTO else f"answers at {say.one_line(place)}"
        raise CurateError(
            "E969 no-cluster", f"no Ray cluster {where}: {say.one_line(lines[0], 200)}",
            "Start one with `ray start --head`, name its HOST:PORT with --ray-address, or leave Ray out.",
            exit_code=Exit.MISSING,
        ) from error  # fmt: skip


def _endpoint(address: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT" or "ray://HOST:PORT".

    Raises:
        ValueError: it is neither.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("an address is HOST:PORT or ray://HOST:PORT")
    return host.strip("[]"), int(port)
