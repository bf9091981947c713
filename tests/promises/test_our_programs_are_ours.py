"""A file of the user that is called train.py or curate.py never stands in for ours.

`curate` and `train` are found by their names on the PATH; what they start is "a child (`python -P`): no file of the
workspace can stand in for a module". The commands of the documentation are run in a folder that holds both files
(tests/house/test_readme.py), and so is its `torchrun` line (tests/train/test_ranks.py).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from curate.cli import cli as curate_cli
from tests.promises import outside
from train.cli import cli as train_cli

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(sys.executable).parent
GROUPS = {"curate": curate_cli, "train": train_cli}
TORCHRUN = "torchrun --nproc-per-node 8 --no-python train run"
# A console script that is called once for each verb: its folder comes first where modules are looked for, as theirs.
EACH = """
import json, runpy, sys
program, verbs = sys.argv[1], json.loads(sys.argv[2])
for verb in verbs:
    sys.argv = [program, *verb, "--help"]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        print("ended with", end.code)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of somebody who has both files, and two files of records."""
    outside.plant_programs(tmp_path)
    for topic in ("cats", "dogs"):
        outside.write_rows(tmp_path / f"{topic}.jsonl", outside.rows_on(topic, 40))
    return tmp_path


def run(folder: Path, program: Path | str, *words: object) -> str:
    """Return what a command printed that was started anew in ``folder``, where it has run no file."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [PROGRAMS / program, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env=env | {"PATH": f"{PROGRAMS}{os.pathsep}{env['PATH']}"},
    )  # fmt: skip
    assert outside.hijacked(folder) == [], done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


def verbs(command: click.Command, *words: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the words and the help of a command and of all below it."""
    context = click.Context(command, info_name=words[-1] if words else "")
    yield words, command.get_help(context)
    for word in command.list_commands(context) if isinstance(command, click.Group) else []:
        below = command.get_command(context, word)
        assert below is not None
        yield from verbs(below, *words, word)


def told() -> str:
    """Return all that tells people what to type: help, documents, printed texts and what runs in CI."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in tracked.splitlines() if re.search(r"\.(md|ya?ml|toml|j2|html|ipynb)$|Dockerfile", name)]
    files += [name for name in tracked.splitlines() if re.match(r"(curate|train)/.*(?<!__main__)\.py$", name)]
    # Whoever works on the product runs it from its checkout, by intent.
    files = [name for name in files if name not in ("CONTRIBUTING.md", "CHANGELOG.md") and (ROOT / name).is_file()]
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in files]
    return "\n".join(texts + [text for group in GROUPS.values() for _, text in verbs(group)])


def test_nobody_is_told_to_start_them_as_modules() -> None:
    text = told()
    assert TORCHRUN in text
    assert re.findall(r"\w.* -m (?:train|curate)\b.*", text) == []


def test_children_are_started_in_one_way() -> None:
    files = [path for room in ("curate", "train") for path in (ROOT / room).rglob("*.py")]
    named = {str(path.relative_to(ROOT)) for path in files if "sys.executable" in path.read_text(encoding="utf-8")}
    assert named == {"curate/base/resources.py", "curate/pairsmith.py", "train/base/process.py"}


@pytest.mark.parametrize("program", GROUPS)
def test_every_verb_is_ours(folder: Path, program: str) -> None:
    known = [words for words, _ in verbs(GROUPS[program])]
    (folder / "bin").mkdir()
    (folder / "bin" / "each").write_text(EACH, encoding="utf-8")
    said = run(folder, "python", folder / "bin" / "each", PROGRAMS / program, json.dumps(known))
    assert re.findall(r"^Usage: (.*?)(?: \[| [A-Z]|$)", said, re.M) == [" ".join([program, *words]) for words in known]
    assert said.count("ended with 0\n") == len(known) > 10


WAYS = ["curate validate cats.jsonl dogs.jsonl --jobs 2",
        "train new",
        "pairsmith curate --help", "pairsmith train run --help",
        TORCHRUN.replace("8", "1") + " --help"]  # fmt: skip


@pytest.mark.ci
@pytest.mark.parametrize("way", WAYS)
def test_what_people_type_starts_ours(folder: Path, way: str) -> None:
    run(folder, *way.split())


def test_an_editor_is_the_users(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started from within it finds what lies beside its script, as in any shell."""
    (folder / "curate.toml").write_text('data = ["cats.jsonl"]\n', encoding="utf-8")
    (folder / "editor.py").write_text("import beside\n", encoding="utf-8")
    (folder / "beside.py").touch()
    monkeypatch.setenv("VISUAL", f"{sys.executable} {folder / 'editor.py'}")
    run(folder, "curate", "edit", "cats-000", ".", "--by", "ana")


@pytest.mark.ci
def test_what_they_start_is_ours(folder: Path) -> None:
    """`curate` asks a model through a child that is `train`; here nobody listens, which it says."""
    pytest.importorskip("httpx2", reason="the extra [endpoint] is not installed")
    (folder / "curate.toml").write_text('data = ["cats.jsonl"]\n', encoding="utf-8")
    done = subprocess.run(
        [PROGRAMS / "curate", "ask", ".", "--with", "http://127.0.0.1:9/v1#m", "--prompt", "Where?"], cwd=folder,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "no connection" in done.stdout + done.stderr
    assert outside.hijacked(folder) == []


def test_a_script_of_the_user_runs_once_whoever_works_for_it(folder: Path) -> None:
    """It may have no guard against being run again, which is where most scripts end that start processes."""
    work = "from curate.checks.runner.pool import shared_out\nprint(*shared_out([-1, -2], abs, int, (), 2))\n"
    (folder / "script.py").write_text(f"print('top')\n{work}", encoding="utf-8")
    done = subprocess.run([sys.executable, "-P", "script.py"], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "top\n1 2\n"
