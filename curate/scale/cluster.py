"""Where the work is done: processes of this machine under daft's own runner, or a Ray cluster that runs already."""

from __future__ import annotations

import io
import itertools
import logging
import os
import pickle
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from mmap import mmap
from pathlib import Path
from threading import Thread, get_ident
from typing import Any, NamedTuple, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from curate.base import collect_rarely, console
from curate.base.file_guard import open_file
from curate.base.record import CurateError, Exit, missing_extra

NATIVE = "native"
RAY = "ray"
# The address by which Ray looks for a cluster that this machine belongs to.
AUTO = "auto"
_PATIENCE_S = 5.0
_MOST_WAIT_S = 60.0
_RUNNER = "DAFT_RUNNER"
# Both libraries report their use to their makers unless told not to, and neither is to open a page of its own.
_SILENT = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "RAY_DISABLE_DASHBOARD": "1",
}
_PARTS_PER_WORKER = 4
_CALLS = itertools.count()


@dataclass(frozen=True)
class WorkerCluster:
    """A place where ``num_workers`` tasks run at a time."""

    runner: str
    num_workers: int

    def starmap(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], *, is_apart: bool = False
    ) -> Iterator[Any]:
        """Call ``function`` with each of ``tasks`` where there is room, and yield what it returns, in their order.

        It is `itertools.starmap` for what can be pickled. Arrays in files travel as the names of their files. Tasks
        share the threads of a process; with ``is_apart`` each worker is a process, which costs a second to start and
        pays for work that holds Python's lock.

        Raises:
            CurateError: what a task raised; E969 when a worker is lost or is not set up like this machine.
        """
        import daft

        packed = [_packed(task) for task in tasks]
        if not packed:
            return
        frame = daft.from_pydict({"number": list(range(len(packed))), "task": packed})
        if self.runner == RAY:
            frame = frame.into_partitions(min(len(packed), _PARTS_PER_WORKER * self.num_workers))
        count = min(self.num_workers, len(packed))
        is_apart = is_apart and (self.runner == RAY or count > 1)
        setup = _WorkerSetup(str(Path.cwd()), version("pairsmith")) if is_apart or self.runner == RAY else None
        # The number makes the worker one of this call: what it read, such as a schema, may have changed since another.
        job = _packed((setup, next(_CALLS), _packed(function)))
        if is_apart:
            is_process = None if self.runner == RAY else True
            daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)(_Worker.answers)
            workers = daft.cls(_Worker, max_concurrency=count, use_process=is_process)
            answer = workers(job).answers(daft.col("task"))
        else:

            def answers(tasks: Any) -> Any:
                return _worker(job).answers(tasks)

            batched = daft.func.batch(return_dtype=daft.DataType.binary(), batch_size=1, use_process=False)
            answer = batched(answers)(daft.col("task"))
        yield from _in_order(self._read(frame.select(daft.col("number"), answer.alias("answer"))))

    def _read(self, frame: Any) -> Iterator[tuple[int, Any]]:
        from daft.exceptions import DaftCoreException

        try:
            for batch in frame.to_arrow_iter(results_buffer_size=2 * self.num_workers):
                for number, packed in zip(*(batch.column(name) for name in ("number", "answer")), strict=True):
                    answer = _unpacked(packed.as_buffer())
                    if isinstance(answer, CurateError):
                        raise answer
                    yield number.as_py(), answer
        except (DaftCoreException, RuntimeError, OSError, *_ray_errors()) as error:
            raise _lost(error) from error


class _WorkerSetup(NamedTuple):
    """What a process elsewhere must have like the driver: the folder that paths are relative to, and the version."""

    folder: str
    version: str


class _Worker:
    """Calls one function, in each process that takes part; threads may share it."""

    def __init__(self, job: bytes) -> None:
        self._fault: CurateError | None = None
        try:
            setup, _, function = _unpacked(job)
            if setup is not None:
                _settle(setup)
            # Of another version it could not even be read.
            self._function = _unpacked(function)
        except CurateError as error:
            self._fault = error

    def answers(self, tasks: Any) -> Any:
        """Answer a column of tasks, both as bytes."""
        # daft is built on it. Its arrays pass bytes on as they are; lists of Python objects take ten times as long.
        import pyarrow

        results = [self._answer(task.as_buffer()) for task in tasks.to_arrow()]
        return pyarrow.array(results, pyarrow.large_binary())

    def _answer(self, task: Any) -> bytes:
        # An error that leaves a worker would arrive as text.
        try:
            if self._fault is not None:
                raise self._fault
            return _packed(self._function(*_unpacked(task)))
        except CurateError as error:
            return _packed(error)


@lru_cache(maxsize=1)
def _worker(job: bytes) -> _Worker:
    """Return the worker of this process for a call."""
    return _Worker(job)


class _Pickler(pickle.Pickler):
    """Writes of an array that is a whole file on the disk where it lies: every worker sees the same files."""

    def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
        """Return what is known of such an array; None for all else."""
        # A part of one has another base, and travels with its content.
        if isinstance(value, np.memmap) and value.filename and isinstance(cast("object", value.base), mmap):
            return str(value.filename), value.dtype.str, value.shape
        return None


class _Unpickler(pickle.Unpickler):
    """Reads what a `_Pickler` wrote."""

    def persistent_load(self, known: Any) -> NDArray[Any]:
        """Map an array from its file."""
        name, kind, shape = known
        with open_file(Path(name)) as file:
            return np.memmap(file, kind, "r", shape=shape)


def _packed(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def _unpacked(packed: Any) -> Any:
    # Tasks come from our own driver, and answers from workers of our own.
    return _Unpickler(io.BytesIO(packed)).load()


def _settle(setup: _WorkerSetup) -> None:
    """Make a process elsewhere see what its driver sees: the same relative paths, by the same version."""
    os.environ.update(_SILENT)
    collect_rarely()
    try:
        os.chdir(setup.folder)
    except OSError as error:
        raise _unlike(f"a worker cannot enter {console.one_line(setup.folder)}: {error.strerror}") from error
    if version("pairsmith") != setup.version:
        raise _unlike(f"a worker has pairsmith {version('pairsmith')}, and this machine {setup.version}")


def _unlike(what: str) -> CurateError:
    hint = "Every machine needs the same installation, and a shared file system with the same paths."
    return CurateError("E969 no-cluster", what, hint, exit_code=Exit.MISSING)


def _lost(error: Exception) -> CurateError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    what = console.one_line(lines[-1] if lines else type(error).__name__, 200)
    return CurateError(
        "E969 no-cluster",
        f"daft did not finish: {what}",
        "Run it again, or with --engine local.",
        exit_code=Exit.MISSING,
    )


def _ray_errors() -> tuple[type[Exception], ...]:
    """Return what Ray raises where one of its processes dies, which is no error of any other kind; () without Ray."""
    with suppress(ImportError):
        from ray.exceptions import RayError

        return (RayError,)
    return ()


def _in_order(results: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    """Yield the answers by their numbers from 0 on; those that come early wait."""
    early: dict[int, Any] = {}
    next_index = 0
    for number, answer in results:
        early[number] = answer
        while next_index in early:
            yield early.pop(next_index)
            next_index += 1


@contextmanager
def joined(ray_address: str = "", num_workers: int = 0) -> Iterator[WorkerCluster]:
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
        yield WorkerCluster(NATIVE, num_workers or len(os.sched_getaffinity(0)))
        return
    is_ours = not ray.is_initialized()
    with redirect_stdout(cast("TextIO", _OwnStdout())):
        if is_ours:
            _connect(ray_address)
        try:
            _choose(partial(daft.set_runner_ray, noop_if_initialized=True), RAY)
            yield WorkerCluster(RAY, max(1, int(ray.cluster_resources().get("CPU", 1))))
        finally:
            if is_ours:
                ray.shutdown()


class _OwnStdout:
    """Standard output for the thread that prints what was found; what Ray's threads print goes to standard error."""

    def __init__(self) -> None:
        self._stream, self._owner = sys.stdout, get_ident()

    def write(self, text: str) -> int:
        """Write ``text`` where it belongs."""
        return (self._stream if get_ident() == self._owner else sys.stderr).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _choose(choose: Callable[[], Any], runner: str) -> None:
    """Choose daft's runner, which it lets a process do once."""
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
    """Connect to a running Ray cluster, and never start one."""
    import ray

    target = address or os.environ.get("RAY_ADDRESS", "") or AUTO
    try:
        if target != AUTO:
            # Ray itself tries for two minutes, and says so on stderr.
            socket.create_connection(_endpoint(target), _PATIENCE_S).close()
        # Ray has workers import from the folder that it is called in, where a file of the user may be named as we are.
        with warnings.catch_warnings(), chdir(Path(__file__).parents[2]):
            warnings.simplefilter("ignore")
            _init_in_time(partial(ray.init, address=target, log_to_driver=False, logging_level=logging.CRITICAL))
    except (OSError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        where = "is found on this machine" if target == AUTO else f"answers at {console.one_line(target)}"
        raise CurateError(
            "E969 no-cluster", f"no Ray cluster {where}: {console.one_line(lines[0], 200)}",
            "Start one with `ray start --head`, name its HOST:PORT with --ray-address, or leave Ray out.",
            exit_code=Exit.MISSING,
        ) from error  # fmt: skip


def _init_in_time(init: Callable[[], object]) -> None:
    """Call Ray's ``init``, which waits without end for a cluster that has half died."""
    faults: list[Exception] = []

    def call() -> None:
        try:
            init()
        except Exception as error:  # noqa: BLE001  raised again below, in the thread that waits
            faults.append(error)

    thread = Thread(target=call, daemon=True)
    thread.start()
    thread.join(_MOST_WAIT_S)
    if thread.is_alive():
        raise TimeoutError(f"it did not let us in within {_MOST_WAIT_S:g} seconds")
    for error in faults:
        raise error


def _endpoint(address: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT" or "ray://HOST:PORT"."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("an address is HOST:PORT or ray://HOST:PORT")
    return host.strip("[]"), int(port)
