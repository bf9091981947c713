"""A program on a pseudo-terminal, typed at like a person, and the CPU seconds that it spends; Linux only."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

REPEAT = 1 / 30
"""Seconds between two keys of a key that is held down."""


class Typist:
    """Start a program on a terminal, press its keys, and end it."""

    def __init__(self, command: list[str], size: tuple[int, int] = (100, 30)) -> None:
        self._command, self._size = command, size

    def __enter__(self) -> Typist:
        self._master, terminal = pty.openpty()
        columns, lines = self._size
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        self._program = subprocess.Popen(
            self._command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
        )
        os.close(terminal)
        self._ticks = os.sysconf("SC_CLK_TCK")
        return self

    def __exit__(self, *_: object) -> None:
        self._program.send_signal(signal.SIGTERM)
        self._read(0.5)
        self._program.wait(30)
        os.close(self._master)

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._program.pid

    def cpu(self) -> float:
        """Return the CPU seconds of the program so far, and of its children that have ended; in steps of 0.01 s."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / self._ticks

    def rest(self, seconds: float = 1.0, limit: float = 4.0) -> int:
        """Read until nothing has come for ``seconds``, or a cursor blinks for ``limit``; return how many bytes came."""
        ends, total = time.monotonic() + limit, 0
        while (more := self._read(seconds)) and time.monotonic() < ends:
            total += more
        return total

    def press(self, *keys: str) -> tuple[float, int]:
        """Press ``keys`` one after the other; return the CPU seconds until all is drawn, and the bytes drawn."""
        before, drawn = self.cpu(), 0
        for one in keys:
            os.write(self._master, one.encode())
            drawn += self.rest()
        return self.cpu() - before, drawn

    def hold(self, key: str, times: int, *, every: float = REPEAT, then: str = "") -> tuple[float, int]:
        """Hold ``key``, and ``then`` after each; return the mean CPU seconds and bytes a time."""
        before, drawn = self.cpu(), 0
        for _ in range(times):
            os.write(self._master, (key + then).encode())
            drawn += self._read(every)
        drawn += self.rest()
        return (self.cpu() - before) / times, drawn // times

    def _read(self, seconds: float) -> int:
        """Read for ``seconds``; return how many bytes came."""
        ends, total = time.monotonic() + seconds, 0
        while (left := ends - time.monotonic()) > 0 and select.select([self._master], [], [], left)[0]:
            try:
                total += len(os.read(self._master, 1 << 16))
            except OSError:
                # The program has closed its side.
                break
        return total
