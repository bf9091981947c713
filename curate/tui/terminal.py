"""The terminal lent to the app, and given back as it was, however the app ends."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread, Timer
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import Exit
from curate.tui.pasted import keep_pastes_apart

if TYPE_CHECKING:
    from curate.tui.app import CurateApp

SIGNALS = {
    signal.SIGTERM: Exit.TERMINATED,
    signal.SIGHUP: Exit.HUNG_UP,
    signal.SIGINT: Exit.INTERRUPTED,
}
PATIENCE = 3.0  # Seconds from a signal until the app is ended without its help.
# Mouse in all its modes, focus, paste, resize reports, Kitty keys, the other screen; then line wrap and the cursor on.
_RESTORE = (
    b"\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?1004l\x1b[?2004l\x1b[?2048l\x1b[<u\x1b[?1049l"
    b"\x1b[?7h\x1b[?25h\x1b[0m"
)


def run(app: CurateApp, *, has_mouse: bool = True) -> int:
    """Run ``app`` until it ends and return the exit code: 0; 143, 129 or 130 after a signal; 2 after a mistake of ours.

    The terminal is given back in every case. Threads that still work are not waited for: whatever they write is
    written whole or not at all, and what was decided is saved.
    """
    # Not `asyncio.run`: it would take SIGINT for itself, and wait at the end for every thread.
    # A child that dies, such as the one that learns from labels, is an error to be told and not our end.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    keep_pastes_apart()
    with _given_back():
        for number, code in SIGNALS.items():
            loop.add_signal_handler(number, _end, app, code)
        watch = Thread(target=_until_gone, args=(loop, app), daemon=True, name="hang-up")
        watch.start()
        app.run(mouse=has_mouse, loop=loop)
    if app.crash:
        console.talk(console.visible(app.crash))
        hint = "What was decided before it is in the journal: `curate log` shows it, and `curate` goes on from there."
        console.trouble("E991 internal-error", "a mistake of ours ended the terminal UI", hint)
        return Exit.USAGE
    return app.return_code or Exit.OK


def leave(code: int) -> None:
    """End the process now; threads that still work are not waited for."""
    console.flush()
    os._exit(code)


def _until_gone(loop: asyncio.AbstractEventLoop, app: CurateApp) -> None:
    """End ``app`` once its terminal is gone, also where no SIGHUP tells of it.

    Only the leader of the terminal's session is sure to get one, and Textual, which takes the end of its input for a
    pipe, would read that end again and again for ever.
    """
    hang_up = select.poll()
    # Nothing is asked for: a hang-up is reported in any case, and input does not wake this thread.
    hang_up.register(sys.__stdin__ or 0, 0)
    if any(event & select.POLLHUP for _, event in hang_up.poll()):
        # The loop may have ended in the same moment.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_end, app, Exit.HUNG_UP)


# End ``app`` after a signal; where it does not end by itself, end it.
def _end(app: CurateApp, code: Exit) -> None:
    timer = Timer(PATIENCE, _force, (code,))
    timer.daemon = True
    timer.start()
    app.exit(return_code=code)


def _force(code: Exit) -> None:
    _restore()
    os._exit(code)


@contextmanager
def _given_back() -> Iterator[None]:
    """Whatever happens within, the terminal is afterwards as it was before."""
    descriptor = sys.__stdin__.fileno() if sys.__stdin__ else -1
    before = termios.tcgetattr(descriptor)
    try:
        yield
    except BaseException:
        _restore()
        raise
    finally:
        # Where the terminal is gone there is nothing to give back.
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _restore() -> None:
    """Write what undoes every mode that Textual switches on."""
    with suppress(OSError):
        os.write(2, _RESTORE)
