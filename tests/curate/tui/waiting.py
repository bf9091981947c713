"""Waiting until a screen has come to something."""

from __future__ import annotations

import time


async def until(pilot, condition, seconds=60):
    """Return what ``condition`` gives as soon as that is true, and fail when it is not after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await pilot.pause(0.02)
        if result := condition():
            return result
    seen = "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())
    raise AssertionError(f"it did not come to that in time: {pilot.app.message.plain}\n{seen}")
