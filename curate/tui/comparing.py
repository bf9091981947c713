"""Comparing records from a screen: in a thread, telling how far it is, and ended by whoever does not want to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from textual.worker import get_current_worker

if TYPE_CHECKING:
    from curate.tui.screen import ProjectScreen

T = TypeVar("T")
Watch = Callable[[str, int, int], None]
_EVERY = 0.2
"""Seconds between two words about how far it is: a slow line gets few of them."""


class _Stopped(Exception):  # noqa: N818  it is no error
    """Somebody does not want to wait any longer."""


class Comparing:
    """One long job of a screen. `start` begins it anew; `stop` ends it where it stands."""

    def __init__(self, screen: ProjectScreen, group: str, show: Callable[[str], object]) -> None:
        """Work for ``screen``; ``show`` gets, on the app's thread, a line that says how far it is."""
        self._screen = screen
        self._group = group
        self._show = show
        self._stop = Event()
        self.is_running = False

    def start(self, job: Callable[[Watch], T], then: Callable[[T], object], stopped: Callable[[], object]) -> None:
        """Run ``job`` in a thread and hand what it returns to ``then``; where it was stopped, call ``stopped``."""
        self._stop.set()
        self._stop = stop = Event()
        self.is_running = True

        def run() -> tuple[T] | None:
            try:
                return (job(self._watch(stop)),)
            except _Stopped:
                return None
            finally:
                if stop is self._stop:
                    self.is_running = False

        def done(result: tuple[T] | None) -> None:
            if result is None:
                stopped()
            else:
                then(result[0])

        self._screen.app.background(run, done, group=self._group)

    def stop(self) -> bool:
        """End the job if there is one, and say whether there was."""
        was_running, self.is_running = self.is_running, False
        self._stop.set()
        return was_running

    def _watch(self, stop: Event) -> Watch:
        app, worker = self._screen.app, get_current_worker()
        last = 0.0

        def watch(stage: str, done: int, total: int) -> None:
            nonlocal last
            if stop.is_set() or worker.is_cancelled:
                raise _Stopped
            if time.monotonic() - last >= _EVERY:
                last = time.monotonic()
                share = f" {done / total:.0%}" if total else f" {done:,}"
                app.call_from_thread(self._show, f"{stage}{share}  (esc stops)")

        return watch
