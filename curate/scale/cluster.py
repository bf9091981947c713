"""A Ray cluster that runs already, and functions of ours called there by daft."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import chain, count, repeat
from pathlib import Path
from threading import Thread, get_ident
from typing import Any, TextIO, cast
from urllib.parse import urlsplit

from curate.base import collect_rarely, console
from curate.base.record import CurateError, Exit, missing_extra

# Both libraries report their use to their makers unless told not to, and neither is to open a page of its own.
_SILENT = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "RAY_DISABLE_DASHBOARD": "1",
}
os.environ.update({name: os.environ.get(name) or value for name, value in _SILENT.items()} | {"DO_NOT_TRACK": "1"})
try:
    import daft
    import ray
    from daft.exceptions import DaftCoreException
    from ray.exceptions import RayError
except ImportError as error:
    raise missing_extra("--ray", "scale", otherwise="leave it out") from error

# The address by which Ray looks for a cluster that this machine belongs to.
AUTO = "auto"
_PATIENCE_S = 5.0
_MOST_WAIT_S = 60.0
# Tasks of each worker that are begun before the first is done.
_AHEAD = 4
_CALLS = count()


@dataclass(frozen=True)
class WorkerCluster:
    """A place where ``num_workers`` tasks run at a time."""

    num_workers: int

    def starmap(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call ``function`` with each of ``tasks`` where there is room, and yield what it returns, in their order:
        `itertools.starmap` for what can be pickled, a few tasks ahead. A task whose worker dies is begun again.

        Raises:
            CurateError: what a task raised; E969 when a worker is lost or is not set up like this machine.
        """
        # The number makes the function one of this call: what it read, such as a schema, may have changed since.
        job = ray.put((str(Path.cwd()), version("pairsmith"), pickle.dumps((next(_CALLS), function))))
        call, begun = ray.remote(_call), deque[Any]()
        for task in chain(tasks, repeat(None, _AHEAD * self.num_workers)):
            if task is not None:
                begun.append(call.remote(job, task))
            if begun and (task is None or len(begun) > _AHEAD * self.num_workers):
                with told_as_lost():
                    answer = ray.get(begun.popleft())
                if isinstance(answer, CurateError):
                    raise answer
                yield answer


@contextmanager
def told_as_lost() -> Iterator[None]:
    """Tell what goes wrong in the engine within as a `CurateError`, E969."""
    try:
        yield
    except (DaftCoreException, RuntimeError, OSError, RayError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        what = console.one_line(lines[-1] if lines else type(error).__name__, 200)
        hint = "Run it again, or without --ray."
        raise CurateError("E969 no-cluster", f"daft did not finish: {what}", hint, exit_code=Exit.MISSING) from error


def _call(job: tuple[str, str, bytes], task: tuple[Any, ...]) -> Any:
    """Do a task in a process that sees what its driver sees: the same relative paths, by the same version.

    An error of ours is returned: one that leaves a worker would arrive as text.
    """
    folder, made_by, function = job
    os.environ.update(_SILENT)
    collect_rarely()
    try:
        os.chdir(folder)
        if version("pairsmith") != made_by:
            raise OSError(f"it has pairsmith {version('pairsmith')}, and the machine that asks {made_by}")
    except OSError as error:
        hint = "Every machine needs the same installation, and a shared file system with the same paths."
        return CurateError("E969 no-cluster", f"a worker cannot work: {error}", hint, exit_code=Exit.MISSING)
    try:
        # Of another version it could not even be read.
        return _loaded(function)(*task)
    except CurateError as error:
        return error


@lru_cache(maxsize=1)
def _loaded(function: bytes) -> Callable[..., Any]:
    loaded: Callable[..., Any] = pickle.loads(function)[1]  # noqa: S301  it comes from our own driver
    return loaded


@contextmanager
def joined(address: str) -> Iterator[WorkerCluster]:
    """Yield the Ray cluster at ``address``, HOST:PORT, or the one that Ray finds by itself where that is "auto".

    Nothing but the cluster is talked to.

    Raises:
        CurateError: E969 when no Ray cluster answers.
    """
    is_ours = not ray.is_initialized()
    with redirect_stdout(cast("TextIO", _OwnStdout())):
        if is_ours:
            _connect(address)
        try:
            daft.set_runner_ray(noop_if_initialized=True)
            yield WorkerCluster(max(1, int(ray.cluster_resources().get("CPU", 1))))
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


def _connect(address: str) -> None:
    """Connect to a running Ray cluster, and never start one."""
    try:
        if address != AUTO:
            # Ray itself tries for minutes, and says so on stderr.
            place = urlsplit(address if "://" in address else f"//{address}")
            if not place.port:
                raise ValueError("an address is HOST:PORT or ray://HOST:PORT")
            socket.create_connection((place.hostname, place.port), _PATIENCE_S).close()
        # Ray has workers import from the folder that it is called in, where a file of the user may be named as we are.
        with warnings.catch_warnings(), chdir(Path(__file__).parents[2]):
            warnings.simplefilter("ignore")
            _init_in_time(partial(ray.init, address=address, log_to_driver=False, logging_level=logging.CRITICAL))
    except (OSError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        where = "is found on this machine" if address == AUTO else f"answers at {console.one_line(address)}"
        raise CurateError(
            "E969 no-cluster", f"no Ray cluster {where}: {console.one_line(lines[0], 200)}",
            "Start one with `ray start --head`, name its HOST:PORT with --ray, or leave that out.",
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
