"""How far a long comparison has come: one line on stderr, with its rate and the time that is left."""

from __future__ import annotations

import sys
import time

from curate.base import console

_PAUSE_TERMINAL = 0.2
_PAUSE_LINES = 5.0


class Progress:
    """Called with a stage, what is done and of how much; says nothing unless wanted."""

    def __init__(self, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self._stage = ""
        self._began = self._said = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far ``stage`` is, not more often than one can read; ``total`` 0 is not known."""
        if not self.is_wanted:
            return
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._said = stage, now, 0.0
        pause = _PAUSE_TERMINAL if sys.stderr.isatty() else _PAUSE_LINES
        if now - self._said >= pause:
            self._said = now
            console.progress(render_progress(stage, done, total, now - self._began))

    def close(self) -> None:
        """Take the line away."""
        if self.is_wanted and self._stage:
            console.progress("")
            self._stage = ""


def render_progress(stage: str, done: int, total: int, seconds: float) -> str:
    """Return a line such as "hashing prompts: 12,000 of 90,000, 4,000/s, 20 s left"."""
    rate = done / seconds if seconds > 0 else 0.0
    line = f"{stage}: {done:,} of {total:,}" if total else f"{stage}: {done:,}"
    if rate >= 1:
        line += f", {rate:,.0f}/s"
    if total and rate > 0 and done < total:
        left = (total - done) / rate
        line += f", {left / 60:.0f} min left" if left >= 90 else f", {left:.0f} s left"
    return line
