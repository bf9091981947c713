"""What a paste of 100 KB into a text of Edit costs: CPU until it stands on the screen, and until all is done about it.

    python benchmarks/paste.py [--size 80x24] [--times 5]

Once as one line of 100,000 characters, once as lines of 300. The app runs headless in a workspace of one record; CPU is
the process's user and system time, never wall time. The first figure ends with the paint that shows the text, the
second with checks, preview, neighbours and draft.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from textual.events import Paste
from textual.pilot import Pilot

from curate.project.project import open_project
from curate.tui.app import CurateApp
from curate.tui.screens.edit.inputs import AreaField

WORDS = ("a text that somebody has copied from a page and pastes into the answer " * 1500)[:100_000]
TEXTS = {
    "one line": WORDS,
    "lines of 300": "\n".join(WORDS[start : start + 300] for start in range(0, len(WORDS), 300)),
}
REST = 1.6  # Seconds after which drafts are written and nothing is waited for any more.


async def paste(pilot: Pilot[None], text: str) -> tuple[float, float]:
    """Paste ``text`` into the answer of the open record; return the CPU seconds until it is shown, and until rest."""
    area = pilot.app.screen.focused
    assert isinstance(area, AreaField)
    before = time.process_time()
    area.post_message(Paste(text))
    while len(area.text) < len(text):
        await asyncio.sleep(0)
    is_painted = asyncio.Event()
    area.call_after_refresh(is_painted.set)
    await is_painted.wait()
    shown = time.process_time() - before
    await pilot.pause(REST)
    return shown, time.process_time() - before


async def measure(root: Path, size: tuple[int, int], times: int) -> None:
    """Print a row of the table for each text."""
    print("| text | ms until shown, median | least | ms until rest, median |\n|---|---:|---:|---:|")
    for name, text in TEXTS.items():
        rows = []
        for number in range(times):
            app = CurateApp(root, project=open_project(root, f"user{number}"), poll=None)
            async with app.run_test(size=size) as pilot:
                await pilot.pause(REST)
                app.go("edit", record="a", pointer="/output")
                await pilot.pause(REST)
                rows.append(await paste(pilot, text))
        shown, rest = (sorted(1000 * seconds for seconds in column) for column in zip(*rows, strict=True))
        print(f"| {name} | {shown[times // 2]:.0f} | {shown[0]:.0f} | {rest[times // 2]:.0f} |", flush=True)


def main() -> None:
    """Make the workspace and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="80x24")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "data").mkdir()
        (root / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
        (root / "data" / "a.jsonl").write_text('{"id": "a", "instruction": "Ask.", "output": ""}\n', encoding="utf-8")
        asyncio.run(measure(root, (width, height), options.times))


if __name__ == "__main__":
    main()
