"""Write docs/walk.md: a first-time user's walk, from an empty folder to a trained model and back to the worst records.

Call it as `python samples/make_walk.py`. It drives the app itself, headless, trains on the samples (a minute or two),
and keeps what is seen at each stop as text.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from curate.tui.app import CurateApp

PAGE = Path(__file__).resolve().parent.parent / "docs" / "walk.md"
SIZE = (100, 30)
_PATIENCE = 1200.0
_HEAD = """# A first walk

From an empty folder to a trained model, and back to the records that it gets wrong: each stop with the keys that lead
there. The app itself wrote this page (`python samples/make_walk.py`).
"""
# What is said of a stop, and the keys that lead there. A dash types what follows it.
STOPS = (
    ("An empty folder. What can be pressed stands on the screen.", ""),
    ("`t` takes the tour: it makes a workspace of samples, and two lines above the keys say what to do.", "t y"),
    ("Browse shows the records, each beside all that is known of it.", "g b j j"),
    ("A filter finds a few among thousands; what it looked for is marked.", "/ -refund enter"),
    ("Validate lists what is wrong.", "escape g v n n"),
    ("`enter` opens the record at its field, with the finding above it. Type what is missing.", "enter -Ten_days."),
    ("Saved. The finding is gone.", "ctrl+s"),
    ("Dedupe shows what comes twice.", "escape escape g d"),
    ("`a` keeps one, `W` writes, and `u` would take it back.", "a W"),
    ("Label asks one question a record.", "g l"),
    ("One key, and the next one is there. Here it was the only one.", "1"),
    ("Split divides, and looks for what gives the exam away: `F` plans the way out, `W` writes.", "g s F W"),
    ("Train says what a run will take before it begins.", "g t d"),
    ("`enter` starts it, in a process of its own. Three validation records are answered as it learns.", "enter y"),
    ("Compare says in which categories the model got better, with intervals.", "g c"),
    ("`o` opens the records that are still wrong as a queue: what was wanted, what came, what is near.", "o"),
    ("`e` edits one; `f7` saves and goes on to the next.", "e"),
)


async def settle(pilot: Pilot[Any]) -> None:
    """Wait until nothing is under way and all of it is drawn."""
    for _ in range(3):
        await pilot.pause(0.4)
        await asyncio.wait_for(pilot.app.workers.wait_for_complete(), _PATIENCE)


async def until(pilot: Pilot[Any], condition: Callable[[str], bool]) -> None:
    """Wait until what is seen is as ``condition`` wants it.

    Raises:
        TimeoutError: it does not come to that.
    """
    end = time.monotonic() + _PATIENCE
    while not condition(seen(pilot.app)):
        if time.monotonic() > end:
            raise TimeoutError(seen(pilot.app))
        await pilot.pause(0.5)
    await settle(pilot)


def seen(app: CurateApp | Any) -> str:
    """Return what is seen, line by line."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


async def walk(root: Path) -> str:
    """Walk in the empty folder ``root``, and return the page."""
    app, parts = CurateApp(root, opener=lambda: None, by="ana", poll=1.0), [_HEAD]
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        for number, (text, keys) in enumerate(STOPS, 1):
            for key in keys.split():
                typed = list(key[1:].replace("_", " ")) if key.startswith("-") else [key]
                await pilot.press(*("space" if letter == " " else letter for letter in typed))
                await settle(pilot)
            if keys == "enter y":
                await until(pilot, lambda screen: "SAMPLES" in screen)
            shown = " ".join(f"`{key.removeprefix('-').replace('_', ' ')}`" for key in keys.split())
            parts.append(f"## {number}. {text}\n\n{f'Keys: {shown}' if shown else 'Type: `curate`'}\n")
            parts.append(f"```text\n{seen(app)}\n```\n")
            print(f"{number}. {text}", flush=True)
            if keys == "enter y":
                await until(pilot, lambda screen: "finished" in screen)
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "my-work"
        root.mkdir()
        os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")
        page = asyncio.run(walk(root))
    PAGE.write_text(page.replace(str(Path(folder)), "/home/ana"), encoding="utf-8")


if __name__ == "__main__":
    main()
