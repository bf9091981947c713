# SPDX-License-Identifier: Apache-2.0
"""Make the pictures of the documentation from a workspace with a run: `make pictures`, or by hand

    python docs/pictures.py DEMO [NAME ...]

Screens are driven without a terminal and drawn as SVG; the report is drawn by chromium, where it is installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from textual.pilot import Pilot

from curate.project.project import open_project
from curate.tui.app import CurateApp

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
TALK = {
    "messages": [
        {"role": "user", "content": "What is the weather in Oslo?"},
        {
            "role": "assistant",
            "reasoning": "Look it up.",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}],
        },
        {"role": "tool", "name": "get_weather", "content": "4 degrees, rain"},
        {"role": "assistant", "content": "It is 4 degrees in Oslo, and it rains."},
    ]
}


class Picture(NamedTuple):
    """What is shown: a screen of a workspace, what it is handed, and the keys that are pressed then."""

    workspace: str
    screen: str
    what: Mapping[str, Any] = MappingProxyType({})
    keys: tuple[str, ...] = ()


def pictures(run: str) -> dict[str, Picture]:
    """Return the pictures by name; ``run`` is the run that the trained model is of."""
    return {
        "home": Picture("demo", "home"),
        "browse": Picture("demo", "browse"),
        "edit": Picture("demo", "edit", {"record": "sd-0003"}),
        "label": Picture("demo", "label", {"is_all": True}, tuple("12121")),
        "split": Picture("demo", "split"),
        "train": Picture("demo", "train"),
        "recipe": Picture("demo", "train", {}, ("e",)),
        "compare": Picture("demo", "compare"),
        "queue": Picture("demo", "queue", {"of": "wrong", "run": run}),
        "ask": Picture("demo", "ask", {"record": "sd-0003", "models": ("base", run)}),
        "palette": Picture("demo", "home", {}, ("colon",)),
        "dedupe": Picture("messy", "dedupe"),
        "validate": Picture("messy", "validate"),
        "chat": Picture("talk", "edit"),
    }


async def draw(root: Path, picture: Picture) -> str:
    """Return one screen as SVG."""
    app = CurateApp(root, project=open_project(root, "ana"), poll=None)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        what = dict(picture.what)
        if picture.screen == "edit" and not what:
            what = {"record": next(iter(app.project.catalog.frame(["id"])["id"]))}
        if picture.screen != "home":
            app.go(picture.screen, **what)
        await settle(pilot)
        for key in picture.keys:
            await pilot.press(key)
            await settle(pilot)
        return app.export_screenshot(title=f"curate: {picture.screen}")


async def settle(pilot: Pilot[Any]) -> None:
    """Wait until nothing is at work: what a screen shows comes in threads, and one often begins the next."""
    quiet = 0
    while quiet < 5:
        await pilot.pause(0.1)
        quiet = 0 if any(worker.is_running for worker in pilot.app.workers) else quiet + 1


def make_workspaces(demo: Path, folder: Path) -> dict[str, Path]:
    """Return workspaces by name: a copy of ``demo``, and small ones for what it does not have."""
    talk = folder / "talk.jsonl"
    talk.write_text(json.dumps(TALK) + "\n", encoding="utf-8")
    for name, source in (("messy", ROOT / "samples" / "messy.jsonl"), ("weather", talk)):
        # It exits with 1 where rows are left out, as they are of the messy file.
        command = [sys.executable, "-P", "-m", "curate", "init", str(folder / name), str(source)]
        assert subprocess.run(command, capture_output=True, check=False).returncode in (0, 1), command
    shutil.copytree(demo, folder / "support-desk", symlinks=True)
    return {"demo": folder / "support-desk", "messy": folder / "messy", "talk": folder / "weather"}


def draw_report(page: Path) -> None:
    """Draw the report of a run, as a browser shows it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("report.png: needs chromium, and stays as it is", file=sys.stderr)
        return
    target = FOLDER / "report.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,900"]
    command = [browser, *options, f"--screenshot={target}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    print(target.relative_to(ROOT))


def main() -> None:
    """Make all pictures, or those that are named."""
    demo, names = Path(sys.argv[1]), sys.argv[2:]
    runs = sorted((path.parent for path in demo.glob("runs/*/report.json")), key=lambda path: path.stat().st_mtime)
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    with tempfile.TemporaryDirectory() as folder:
        workspaces = make_workspaces(demo, Path(folder))
        for name, picture in pictures(f"runs/{runs[-1].name}").items():
            if not names or name in names:
                text = asyncio.run(draw(workspaces[picture.workspace], picture))
                (FOLDER / f"{name}.svg").write_text(text, encoding="utf-8")
                print(f"docs/pictures/{name}.svg")
    if not names or "report" in names:
        draw_report(runs[-1] / "report.html")


if __name__ == "__main__":
    main()
