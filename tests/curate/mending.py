"""Lines that are fixed, for tests of fixes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curate import cli
from curate.checks.fixes import FixedFile
from curate.schema import load_shape

INSTRUCTION = load_shape("instruction")


def fixed(tmp_path: Path, content: bytes, shape: Any = INSTRUCTION, **options: Any) -> bytes:
    """Return what fixing makes of a file."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    FixedFile(path, shape, **options).write()
    return path.read_bytes()


def line(output: str, instruction: str = "Do it.", **more: Any) -> bytes:
    return json.dumps({"id": "r1", "instruction": instruction, "output": output, **more}).encode() + b"\n"


def run_validate(*arguments: str) -> int:
    return int(cli.cli.main(["validate", *arguments], standalone_mode=False) or 0)
