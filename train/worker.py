"""A child process for work that someone else's pattern, schema or template decides, and that may never end."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

_STARTING_SECONDS = 60.0


class Worker:
    """Answers one JSON value with one JSON value, each on a line; started when first asked, and again after it died.

    ``arguments`` are those of a Python that sees no environment and no working directory. ``greeting`` is sent first,
    with time to import, so that the clock of a question counts its work alone.
    """

    def __init__(self, arguments: Sequence[str], *, greeting: Any, seconds: float) -> None:
        self._arguments, self._greeting, self._seconds = list(arguments), greeting, seconds
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        # Also at the end of the interpreter; it must not keep the worker alive, hence the list.
        weakref.finalize(self, _end, self._running)

    def ask(self, question: Any) -> Any:
        """Return the answer, or None when there was none in time or the child died of the question."""
        with self._lock:
            if not self._running:
                greeted = self._start()
                if greeted is None or _is_fault(greeted):
                    _end(self._running)
                    return greeted
            return self._exchange(question, self._seconds)

    def _start(self) -> Any:
        # A session of its own: Ctrl-C asks a run to finish its step, for which the child is needed.
        self._running.append(
            subprocess.Popen(
                [sys.executable, "-I", "-W", "ignore", *self._arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env={}, start_new_session=True,
            )
        )  # fmt: skip
        return self._exchange(self._greeting, _STARTING_SECONDS)

    def _exchange(self, value: Any, seconds: float) -> Any:
        child = self._running[0]
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            # In ASCII: a text may hold a lone surrogate, and a newline ends the question.
            child.stdin.write(json.dumps(value).encode("ascii") + b"\n")
            child.stdin.flush()
            line = child.stdout.readline() if select.select([child.stdout], [], [], seconds)[0] else b""
        except BrokenPipeError:
            line = b""
        if not line:
            _end(self._running)
            return None
        return json.loads(line)


def _is_fault(answer: Any) -> bool:
    return isinstance(answer, Mapping) and "fault" in answer


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    while running:
        child = running.pop()
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                # What the dead child has not read is lost with it.
                continue
