"""Draw the pictures in docs/pictures/: the app itself, headless, on workspaces made from the samples, and the report.

`make pictures` calls it after `make run`, which makes the workspace `demo`; that is copied and stays as it is. The page
of the report is drawn by chromium, where there is one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from curate.project.init import make_workspace
from curate.project.project import open_project
from curate.tui.app import CurateApp
from curate.tui.screens.ask import AskScreen

SAMPLES = Path(__file__).resolve().parent
PICTURES = SAMPLES.parent / "docs" / "pictures"
SIZE = (100, 30)

Story = Callable[[Pilot[Any]], Awaitable[None]]
_PATIENCE = 120
_QUESTION = """questions = [
    { name = "quality", ask = "How good is the answer?", values = ["good", "ok", "poor"], guide = { good = "It could \
be sent as it stands.", ok = "One word would have to be changed.", poor = "It is wrong, or misses the point." } },
]"""
_CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
_CHAT = {
    "messages": [
        {"role": "user", "content": "What is the weather in Oslo?"},
        {"role": "assistant", "content": None, "reasoning_content": "The tool knows.", "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": '{"temp_c": 4}'},
        {"role": "assistant", "content": "It is 4 degrees in Oslo."},
    ],
    "tools": [
        {"type": "function", "function": {"name": "get_weather", "description": "The weather now.", "parameters": {
            "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}}},
    ],
}  # fmt: skip
_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until nothing is under way and all of it is drawn."""
    for _ in range(3):
        await pilot.pause(0.5)
        await asyncio.wait_for(pilot.app.workers.wait_for_complete(), _PATIENCE)
    await pilot.pause(0.5)


def draw(root: Path, name: str, keys: str) -> None:
    """Open the workspace ``root``, press ``keys`` (parted by blanks), and keep what is seen then."""

    async def main() -> None:
        app = CurateApp(root, project=open_project(root, "ana"), by="ana", poll=None)
        async with app.run_test(size=SIZE) as pilot:
            await settled(pilot)
            for key in keys.split():
                await pilot.press(key)
                await settled(pilot)
            # Models answer in processes of their own, which no worker waits for.
            if isinstance(app.screen, AskScreen) and app.screen.session is not None:
                await asyncio.to_thread(app.screen.session.wait)
                await settled(pilot)
            picture = app.export_screenshot(title=f"curate: {name}")
            # The picture asks a server for its font; a page that shows it shall ask nobody.
            (PICTURES / f"{name}.svg").write_text(_FONT.sub("", picture), encoding="utf-8")

    asyncio.run(main())
    print(f"{name}.svg")


def draw_report(page: Path) -> None:
    """Keep what a browser shows of the report ``page``."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("report.png stays as it is: it needs chromium")
        return
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,900")
    target = f"--screenshot={PICTURES / 'report.png'}"
    subprocess.run([browser, *options, target, page.resolve().as_uri()], check=True, capture_output=True)
    print("report.png")


def main(demo: Path) -> None:
    """Draw every screen, and the report of the newest run."""
    draw_report(max(demo.glob("runs/*/report.html"), key=lambda page: page.stat().st_mtime))
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    with tempfile.TemporaryDirectory() as folder:
        desk = Path(folder) / "support-desk"
        shutil.copytree(demo, desk)
        messy = Path(folder) / "messy"
        make_workspace(messy, files=[SAMPLES / "messy.jsonl"])
        chat = Path(folder) / "weather"
        (Path(folder) / "weather.jsonl").write_text(json.dumps(_CHAT) + "\n", encoding="utf-8")
        make_workspace(chat, files=[Path(folder) / "weather.jsonl"])
        asked = Path(folder) / "asked" / "support-desk"
        shutil.copytree(desk, asked)
        settings = asked / "curate.toml"
        settings.write_text(settings.read_text(encoding="utf-8").replace("questions = []", _QUESTION), encoding="utf-8")
        for name, root, keys in (
            ("home", desk, "r"),
            ("browse", desk, "g b j j"),
            ("edit", desk, "g b j j e"),
            ("label", asked, "g l 1 1 2 1 3"),
            ("dedupe", messy, "g d"),
            ("split", desk, "g s"),
            ("validate", messy, "g v"),
            ("train", desk, "g t"),
            ("compare", desk, "g c w"),
            ("queue", desk, "g c o"),
            ("palette", desk, "colon"),
            ("chat", chat, "g b e"),
            ("recipe", desk, "g t e"),
            ("ask", desk, "g b j j M"),
        ):
            draw(root, name, keys)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
