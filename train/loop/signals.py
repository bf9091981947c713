"""Stop a run without losing the step it is in: the first signal asks, the second ends at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from train.base import console
from train.base.errors import Exit

_EXITS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED, signal.SIGHUP: Exit.HUNG_UP}


class GracefulStop:
    """A context in which Ctrl-C, SIGTERM and SIGHUP set ``exit_code`` once, and are themselves again after that; it is
    `Exit.OK` until then.
    """

    def __init__(self) -> None:
        self.exit_code = Exit.OK
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> GracefulStop:
        # Python lets only the main thread set handlers; a caller in another thread has its own way to stop.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _EXITS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.exit_code = _EXITS[signal.Signals(number)]
        self._restore()
        console.talk("\nfinishing this step, then a checkpoint; the same signal again ends at once")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
