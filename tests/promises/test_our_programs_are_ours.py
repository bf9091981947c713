"""A file of the user that is called train.py or curate.py never stands in for ours.

`curate` and `train` are found by their names on the PATH; what they start is "a child (`python -P`): no file of the
workspace can stand in for a module".
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from curate.cli import cli as curate_cli
from tests.promises import outside
from train.cli import cli as train_cli

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(sys.executable).parent
THEIRS = "print('hijacked')\nraise SystemExit('hijacked')\n"
TORCHRUN = "torchrun --nproc-per-node 8 --no-python train run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of somebody who has both files, and some records."""
    for name in ("train.py", "curate.py"):
        (tmp_path / name).write_text(THEIRS, encoding="utf-8")
    outside.write_rows(tmp_path / "records.jsonl", outside.rows_on("cats", 400))
    return tmp_path


def helps(command: click.Command, name: str) -> list[str]:
    context = click.Context(command, info_name=name)
    own = [command.get_help(context)]
    subs = [command.get_command(context, sub) for sub in command.list_commands(context)] if isinstance(
        command, click.Group
    ) else []  # fmt: skip
    return own + [text for sub in subs if sub is not None for text in helps(sub, sub.name or "")]


def told() -> str:
    """Return all that tells people what to type: help, documents, printed texts and what runs in CI."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in tracked.splitlines() if re.search(r"\.(md|ya?ml|toml|j2|html|ipynb)$|Dockerfile", name)]
    files += [name for name in tracked.splitlines() if re.match(r"(curate|train)/.*(?<!__main__)\.py$", name)]
    # Whoever works on the product runs it from its checkout, by intent.
    files = [name for name in files if name not in ("CONTRIBUTING.md", "CHANGELOG.md") and (ROOT / name).is_file()]
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in files]
    return "\n".join([*texts, *helps(curate_cli, "curate"), *helps(train_cli, "train")])


@pytest.mark.ci
def test_nobody_is_told_to_start_them_as_modules() -> None:
    text = told()
    assert TORCHRUN in text
    assert re.findall(r"\w.* -m (?:train|curate)\b.*", text) == []


@pytest.mark.ci
def test_children_are_started_in_one_way() -> None:
    files = [path for room in ("curate", "train") for path in (ROOT / room).rglob("*.py")]
    named = {str(path.relative_to(ROOT)) for path in files if "sys.executable" in path.read_text(encoding="utf-8")}
    assert named == {"curate/base/resources.py", "curate/pairsmith.py", "train/base/worker.py"}


WAYS = ["curate --help", "curate validate records.jsonl --jobs 2", "train --help", "train run --help", "train doctor",
        "pairsmith curate --help", "pairsmith train run --help",
        TORCHRUN.replace("8", "1") + " --help"]  # fmt: skip


@pytest.mark.ci
@pytest.mark.parametrize("way", WAYS)
def test_what_people_type_starts_ours(folder: Path, way: str) -> None:
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    program, *words = way.split()
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [PROGRAMS / program, *words], cwd=folder, env=env | {"PATH": path}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "hijacked" not in done.stdout + done.stderr


@pytest.mark.ci
def test_what_they_start_is_ours(folder: Path) -> None:
    """`curate` asks a model through a child that is `train`; here nobody listens, which it says."""
    pytest.importorskip("httpx", reason="the extra [endpoint] is not installed")
    (folder / "curate.toml").write_text('data = ["records.jsonl"]\n', encoding="utf-8")
    done = subprocess.run(
        [PROGRAMS / "curate", "ask", ".", "--with", "http://127.0.0.1:9/v1#m", "--prompt", "Where?"], cwd=folder,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "no connection" in done.stdout + done.stderr
    assert "hijacked" not in done.stdout + done.stderr
