"""The README's commands are run as they stand there, in one folder and in order, and must end as the README says.

A block is run when the line above its fence is ``<!-- run -->`` (exit 0) or ``<!-- run: exits N -->``; of such a block,
the lines that begin with "$ " are the commands, and every other line must be found in what the command printed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_BLOCK = re.compile(r"<!-- run(?:: exits (\d+))? -->\n```console\n(.*?)```", re.DOTALL)


def _blocks(readme: str) -> list[tuple[int, str]]:
    return [(int(code or 0), block) for code, block in _BLOCK.findall(readme)]


def _commands(block: str) -> list[tuple[str, list[str]]]:
    commands: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        elif line.strip() and line.strip() != "...":
            commands[-1][1].append(line)
    return commands


@pytest.mark.slow
def test_the_commands_of_the_readme_do_what_it_says(root: Path, tmp_path: Path) -> None:
    blocks = _blocks((root / "README.md").read_text(encoding="utf-8"))
    assert blocks, "the README has no block marked <!-- run -->"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    (tmp_path / "samples").symlink_to(root / "samples")
    for code, block in blocks:
        for command, expected in _commands(block):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            printed = done.stdout + done.stderr
            assert done.returncode == code, f"$ {command}\n{printed}"
            missing = [line for line in expected if line.rstrip() not in printed]
            assert not missing, f"$ {command}\ndid not print {missing}, but\n{printed}"


def test_the_tree_of_the_readme_names_every_file(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    files = {path.name for room in ("curate", "train") for path in (root / room).glob("[!_]*.py")}
    folders = {f"{path.name}/" for room in ("curate", "train") for path in (root / room).iterdir() if path.is_dir()}
    folders.discard("__pycache__/")
    assert not [name for name in sorted(files | folders) if name not in readme]
