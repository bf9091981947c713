"""A small workspace with known repeats, for tests of what is built on workspaces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.workspace import Workspace, open_workspace

MakeWorkspace = Callable[..., Workspace]


def support_lines(count: int = 60) -> list[dict[str, Any]]:
    """Return records of two categories that all differ in most of their words."""
    return [
        {
            "id": f"r{number:03}",
            "instruction": f"Please tell item{number} apart from thing{number * 7} and from part{number * 13} today.",
            "output": f"answer{number} says that stuff{number * 3} differs{number} a lot{number * 5}.",
            "category": "billing" if number % 2 else "returns",
        }
        for number in range(count)
    ]


@pytest.fixture
def make_workspace(tmp_path: Path) -> MakeWorkspace:
    """Return a function that makes and opens a workspace below ``tmp_path``."""

    def make(
        lines: list[dict[str, Any]] | None = None, settings: str = "[split]\nseed = 1\n", name: str = "ws"
    ) -> Workspace:
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True)
        (folder / "curate.toml").write_text(settings, encoding="utf-8")
        text = "".join(json.dumps(line) + "\n" for line in (support_lines() if lines is None else lines))
        (folder / "data" / "a.jsonl").write_text(text, encoding="utf-8")
        return open_workspace(folder)

    return make
