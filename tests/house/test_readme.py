"""The commands of the README, of the documentation and of CONTRIBUTING.md are run, and must end as the page says.

A block is run when the line above its fence is ``<!-- run -->`` (exit 0) or ``<!-- run: exits N -->``; of such a block,
the lines that begin with "$ " are the commands, and every other line must be found in what the command printed. A block
below ``<!-- file: PATH -->`` is written to that path, below ``<!-- file+: PATH -->`` behind what it holds. The blocks
of a page are taken in order, in one folder, where the user has a train.py and a curate.py of their own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import commands
from tests.promises import outside
from tests.promises.endpoints import endpoint, said

_BLOCK = re.compile(r"<!-- (run|file\+?)(?:: (?:exits )?(\S+))? -->\n```\w+\n(.*?)```", re.DOTALL)
_FOR_A_SHELL = re.compile(r"[|<>&;$`*?=~#\n]")
_MAKES_A_TOUR = "$ curate init tour --sample"
_ROOT = Path(__file__).resolve().parent.parent.parent
_LEAVE = _ROOT / "docs" / "leave-a-hosted-fine-tune.md"


class Block(NamedTuple):
    """A block of a page: commands with the exit code that they end with, or a file with its path."""

    kind: str
    argument: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def _commands(block: str) -> list[tuple[str, list[str]]]:
    commands: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        elif line.strip() and line.strip() != "...":
            commands[-1][1].append(line)
    return commands


def _run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    program, *words = shlex.split(command) if not _FOR_A_SHELL.search(command) else ("bash", "-c", command)
    if program in ("curate", "train"):
        return commands.run(program, *words, cwd=folder, env=environment, timeout=300)
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def run_page(page: Path, folder: Path) -> None:
    """Write the files of a page and run its commands in ``folder``, each of which must end and print as is said."""
    for kind, argument, text in blocks(page):
        if kind != "run":
            with (folder / argument).open("a" if kind == "file+" else "w", encoding="utf-8") as file:
                file.write(text)
            continue
        for command, expected in _commands(text):
            done = _run(command, folder)
            printed = done.stdout + done.stderr
            assert done.returncode == int(argument or 0), f"$ {command}\n{printed}"
            missing = [line for line in expected if line.rstrip() not in printed]
            assert not missing, f"$ {command}\ndid not print {missing}, but\n{printed}"


PAGES = [
    page
    for page in [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
    if any(kind == "run" for kind, _, _ in blocks(page)) and page != _LEAVE
]


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the workspace that a page finds, unless it makes one: the samples, divided and exported."""
    folder = tmp_path_factory.mktemp("pages")
    done = _run("curate init tour --sample && curate split tour && curate export tour", folder)
    assert done.returncode == 0, done.stderr
    return folder / "tour"


@pytest.mark.ci
def test_a_hosted_model_is_left_as_its_page_says(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local server stands in for the hosted model, the tiny base for the open one."""
    rows = [json.loads(line) for line in (root / "samples/support_desk.jsonl").read_text().splitlines()]
    asked = {row["id"]: f"{row['instruction']}\n\n{row['input']}".strip() for row in rows}
    answers = {asked[row["id"]]: row["output"] for row in rows}
    lines = [
        json.dumps({"messages": [
            {"role": "system", "content": "You are the support desk."}, {"role": "user", "content": asked[row["id"]]},
            {"role": "assistant", "content": row["output"]},
        ]}) + "\n" for row in rows
    ]  # fmt: skip
    (tmp_path / "train.jsonl").write_text("".join(lines[::2]), encoding="utf-8")
    (tmp_path / "validation.jsonl").write_text("".join(lines[1::2]), encoding="utf-8")
    monkeypatch.setenv("PAIRSMITH_KEY", "a-key-of-the-test")
    (tmp_path / "samples").symlink_to(root / "samples")
    with endpoint() as hosted:
        hosted.reply = lambda body: said(answers[body["messages"][-1]["content"]])
        changes = {
            "https://models.example/v1": hosted.url, "HuggingFaceTB/SmolLM2-360M-Instruct": "samples/tiny-base",
            "--out move/runs/own": "--out move/runs/own --set max_steps=2 --set eval.fit_records=0",
        }  # fmt: skip
        text = _LEAVE.read_text(encoding="utf-8")
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        run_page(tmp_path / "page.md", tmp_path)
        assert 0 < len(hosted.asked) <= len(lines)


@pytest.mark.ci
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_the_commands_of_a_page_do_what_it_says(page: Path, root: Path, tour: Path, tmp_path: Path) -> None:
    if _MAKES_A_TOUR not in page.read_text(encoding="utf-8"):
        shutil.copytree(tour, tmp_path / "tour")
    (tmp_path / "samples").symlink_to(root / "samples")
    outside.plant_programs(tmp_path)
    run_page(page, tmp_path)
    assert outside.hijacked(tmp_path) == []


@pytest.mark.ci
def test_the_check_of_contributing_works_in_a_checkout(root: Path, tmp_path: Path) -> None:
    page = root / "CONTRIBUTING.md"
    assert {kind for kind, _, _ in blocks(page)} == {"file", "run"}
    for name in ("curate", "schemas", "samples", "tests/curate"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py", "tests/effort.py"):
        shutil.copy(root / name, tmp_path / name)
    run_page(page, tmp_path)


def test_a_line_that_was_not_printed_is_found_missing(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- run -->\n```console\n$ echo red\nred\n$ echo blue\ngreen\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="did not print"):
        run_page(page, tmp_path)


def test_another_exit_code_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- run: exits 1 -->\n```console\n$ exit 3\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="exit 3"):
        run_page(page, tmp_path)
