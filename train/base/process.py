"""This process, whose memory a command keeps, and a child for work that may never end.

Such work is what someone else's pattern, schema or template decides. A thread cannot be stopped from outside, and a
process can. It sees no environment, so what runs in it finds no secret there.
"""

from __future__ import annotations

import ctypes
import json
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

# From malloc.h of glibc; the numbers are part of its interface.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _AT_ONCE = 2**31 - 1, 64 << 20
_START_TIMEOUT = 60.0
# Commands end quietly by SIGPIPE when `head` closes their output; a child that died must not end them so.
_QUIET = getattr(socket, "MSG_NOSIGNAL", 0)


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    line: socket.socket
    answers: IO[bytes]


class Worker:
    """Answers one JSON value with one JSON value, each on a line; started when first asked, and again after it died.

    ``arguments`` are those of a Python that sees no environment and no working directory. ``handshake`` is sent first,
    with ``start_timeout`` seconds to import, so that the ``timeout`` of a question, in seconds, counts its work alone.
    """

    def __init__(
        self, arguments: Sequence[str], *, handshake: Any, timeout: float, start_timeout: float = _START_TIMEOUT
    ) -> None:
        self._arguments, self._handshake = list(arguments), handshake
        self._timeout, self._start_timeout = timeout, start_timeout
        self._running: list[_Child] = []
        self._lock = threading.Lock()
        # Also at the end of the interpreter; it must not keep the worker alive, hence the list.
        weakref.finalize(self, _end, self._running)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and has not been ended since."""
        return bool(self._running)

    def end(self) -> None:
        """End the child, where there is one."""
        _end(self._running)

    def ask(self, question: Any) -> Any:
        """Return the answer, or None when there was none in time or the child died of the question."""
        with self._lock:
            # The first call pays for the start; a run that never asks starts nothing.
            if not self.is_running:
                greeted = self._start()
                if greeted is None or (isinstance(greeted, Mapping) and "fault" in greeted):
                    _end(self._running)
                    return greeted
            return self._exchange(question, self._timeout)

    def _start(self) -> Any:
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C asks a run to finish its step, for which the child is needed.
            process = subprocess.Popen(
                [sys.executable, "-I", "-W", "ignore", *self._arguments], stdin=theirs.fileno(), stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL, env={}, start_new_session=True,
            )  # fmt: skip
        self._running.append(_Child(process, ours, ours.makefile("rb")))
        return self._exchange(self._handshake, self._start_timeout)

    def _exchange(self, value: Any, timeout: float) -> Any:
        child = self._running[0]
        try:
            # In ASCII: a text may hold a lone surrogate, and a newline ends the question.
            child.line.settimeout(timeout)
            child.line.sendall(json.dumps(value).encode("ascii") + b"\n", _QUIET)
            answer = child.answers.readline()
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            answer = b""
        # Without its end it is torn: the child died of it.
        if not answer.endswith(b"\n"):
            _end(self._running)
            return None
        return json.loads(answer)


def _end(running: list[_Child]) -> None:
    while running:
        child = running.pop()
        child.process.kill()
        child.process.wait()
        child.answers.close()
        child.line.close()


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed; the process then stays at its largest size until it ends.

    A command calls it, and a library must not. Nothing happens with another C library.
    """
    # Tensors over 32 MB are else mapped anew each time, and the kernel fills every page with zeros first: at a
    # vocabulary of 152,000 that costs more than the matrix products.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for setting in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AT_ONCE)):
            mallopt(*setting)
