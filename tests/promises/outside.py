"""The two commands as a user types them, and workspaces and datasets made of plain rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests import commands

TINY_BASE = Path(__file__).resolve().parent.parent.parent / "samples" / "tiny-base"
"""A model of two million parameters that answers in a fraction of a second."""

Row = dict[str, Any]


def curate(*words: object, **options: Any) -> CompletedProcess[str]:
    """Run `curate` in a process of its own; ``cwd``, ``env``, ``input`` and ``timeout`` are those of `subprocess`."""
    return commands.run("curate", *words, **options)


def train(*words: object, **options: Any) -> CompletedProcess[str]:
    """Run `train` in a process of its own, as `curate` does."""
    return commands.run("train", *words, **options)


def succeed(done: CompletedProcess[str]) -> str:
    """Return what a command printed; it must have ended with 0."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def make_workspace(folder: Path, rows: Iterable[Row], settings: str = "") -> Path:
    """Make a workspace whose records are ``rows``, with a seed for its split and ``settings`` in its curate.toml."""
    write_rows(folder / "data" / "records.jsonl", rows)
    (folder / "curate.toml").write_text(settings or "[split]\nseed = 1\n", encoding="utf-8")
    return folder


def set_seed(workspace: Path) -> None:
    """Have a workspace divided by the seed 1, where `curate init` drew one."""
    settings = workspace / "curate.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(re.sub(r"(?m)^seed = \d+$", "seed = 1", text), encoding="utf-8")


def plant_programs(folder: Path) -> None:
    """Put files of a user into ``folder`` that are called as we are, and as what a worker imports first."""
    for name in ("train.py", "curate.py", "multiprocessing.py"):
        theirs = "open(__file__ + '.ran', 'w').close()\nraise SystemExit('hijacked')\n"
        (folder / name).write_text(theirs, encoding="utf-8")


def hijacked(folder: Path) -> list[str]:
    """Return those of the planted files that were run."""
    return [path.stem for path in folder.glob("*.ran")]


def rows_on(topic: str, count: int) -> list[Row]:
    """Return records of one category that differ from one another in most of their words."""
    return [
        {
            "id": f"{topic}-{number:03}",
            "instruction": f"Tell {topic}{number} apart from thing{number * 7} and from part{number * 13} today.",
            "output": f"Answer{number} on {topic} says that stuff{number * 3} differs{number} a lot{number * 5}.",
            "category": topic,
        }
        for number in range(count)
    ]


def read_export(workspace: Path, version: str = "v1") -> dict[str, list[Row]]:
    """Return the rows of an exported dataset by split."""
    folder = workspace / "dataset" / version
    return {split: read_rows(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
