"""Each byte of a record file is parsed at most once in a command's process and its children, decisions or none.

A `sitecustomize` that every Python process of a call imports writes down each text that a JSON parser is given, where
that text is a line of a record file. Hashing a file is no parsing, and neither is looking a line up to show it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from curate.base.events import Add, Assign, Drop, Edit, Label, Restore
from curate.project.data import load_data
from tests import commands
from tests.curate.deciding import decide

HOOK = """
import json, os, orjson

_FOLDER = os.environ["RECORD_FILES"]
_LINES = {}
for _folder, _, _names in os.walk(_FOLDER):
    for _name in _names:
        if _name.endswith(".jsonl"):
            with open(os.path.join(_folder, _name), "rb") as _file:
                _LINES.update((_raw.strip(), None) for _raw in _file)
_LOG = os.open(os.environ["PARSES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _noting(parse, index):
    def noted(*args, **options):
        text = args[index]
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
        if raw.strip() in _LINES:
            os.write(_LOG, raw.strip() + b"\\n")
        return parse(*args, **options)

    return noted


orjson.loads = _noting(orjson.loads, 0)
json.JSONDecoder.raw_decode = _noting(json.JSONDecoder.raw_decode, 1)
"""
SCREENS = """
import asyncio, sys
from curate.project.project import open_project
from curate.tui.app import CurateApp
from pathlib import Path


async def settle(pilot):
    num_idle = 0
    while num_idle < 5:
        await pilot.pause(0.02)
        num_idle = 0 if any(not worker.is_finished for worker in pilot.app.workers) else num_idle + 1


async def main():
    root = Path(sys.argv[1])
    app = CurateApp(root, project=open_project(root, "eve"), poll=None)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        for step in sys.argv[2:]:
            app.go(step) if step.isalpha() else await pilot.press(step[1:])
            await settle(pilot)


asyncio.run(main())
"""
SETTINGS = "[split]\nseed = 1\n[categories.billing]\n[categories.returns]\n[leaks]\n"
Ask = Callable[..., "Counter[bytes]"]


@pytest.fixture
def parses(tmp_path: Path) -> Ask:
    """Return a function that runs Python with the hook and returns how often each line of ``folder`` was parsed."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(HOOK, encoding="utf-8")

    def run(
        folder: Path, words: Sequence[object], *, stdin: Path | None = None, code: int | None = None
    ) -> Counter[bytes]:
        log = tmp_path / "parses.log"
        log.unlink(missing_ok=True)
        paths = [str(tmp_path / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RECORD_FILES": str(folder), "PARSES": str(log)}
        env["CURATE_ANNOTATOR"] = "eve"
        typed = stdin.read_bytes() if stdin else b""
        if words[:2] == ["-m", "curate"]:
            done = commands.run("curate", *words[2:], env=env, input=typed)
            said, exit_code = done.stderr, done.returncode
        else:
            raw = subprocess.run([sys.executable, *map(str, words)], env=env, input=typed, capture_output=True)
            said, exit_code = raw.stderr.decode(), raw.returncode
        assert "Traceback" not in said, said
        assert code is None or exit_code == code, said
        return Counter(log.read_bytes().splitlines())

    return run


def line(number: int, **more: object) -> dict[str, object]:
    return {
        "id": f"r{number:03}",
        "instruction": f"Please tell item{number} apart from thing{number * 7} and from part{number * 13} today.",
        "output": f"answer{number} says that stuff{number * 3} differs{number} a lot{number * 5}.",
        "category": "billing" if number % 2 else "returns",
    } | more


@pytest.fixture(params=["undecided", "decided"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A workspace of two files, some of whose lines are faulty; with decisions of every kind on some of its records."""
    folder = tmp_path / "ws"
    (folder / "data").mkdir(parents=True)
    (folder / "curate.toml").write_text(SETTINGS, encoding="utf-8")
    for name, numbers in (("a", range(40)), ("b", range(40, 60))):
        lines = [
            line(number, **({"output": ""} if number == 3 and request.param == "decided" else {})) for number in numbers
        ]
        (folder / f"data/{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    if request.param == "decided":
        workspace = decide(
            load_data(folder),
            [
                Drop("r003", reason="empty"),
                Edit("r005", {"output": "Another answer altogether."}),
                Add("new-1", line(99, id="new-1")),
                Assign("r041", "test"),
                *(Label(f"r{n:03}", "category", "billing") for n in (6, 7)),
            ],
            by="ana",
        )
        decide(workspace, [Drop("r009", reason="no"), Restore("r009")], by="bo")
    return folder


def record_lines(folder: Path) -> set[bytes]:
    return {raw.strip() for path in folder.rglob("*.jsonl") for raw in path.read_bytes().splitlines()}


def is_once(folder: Path, counts: Counter[bytes]) -> bool:
    """Whether each line was parsed once; that none was passed over shows that the hook has seen the parser at work."""
    lines = record_lines(folder / "data")
    assert len(lines) >= 60
    assert lines <= counts.keys(), f"{len(lines - counts.keys())} lines were never parsed"
    return {counts[one] for one in lines} == {1}


def test_the_hook_counts_each_parse_of_whatever_process(parses, root):
    program = (
        "import json, subprocess, sys\nfrom curate.checks.runner import read_records\n"
        "from curate.schema import load_shape\n"
        "from pathlib import Path\npath = Path(sys.argv[1])\nlist(read_records([path], load_shape('instruction')))\n"
        "[json.loads(one) for one in path.read_text().splitlines()[:2]]\n"
        "again = 'import sys, orjson; [orjson.loads(one) for one in open(sys.argv[1], \\'rb\\')]'\n"
        "subprocess.run([sys.executable, '-P', '-c', again, sys.argv[1]], check=True)\n"
    )
    counts = parses(root, ["-c", program, root / "data/a.jsonl"], code=0)
    lines = (root / "data/a.jsonl").read_bytes().splitlines()
    assert [counts[one] for one in lines] == [3, 3] + [2] * 38
    assert not is_once(root, counts + Counter((root / "data/b.jsonl").read_bytes().splitlines()))


VALIDATE = {
    "plain": [],
    "json": ["--format", "json"],
    "statistics": ["--statistics"],
    "values": ["--show-values"],
    "processes": ["--jobs", "2"],
    "doubts": ["--select", "L405,S,Q,P,B"],
    "only ids": ["--select", "S104"],
    "one check": ["--select", "Q201"],
}


@pytest.mark.ci
@pytest.mark.parametrize("options", VALIDATE.values(), ids=VALIDATE)
def test_validate_parses_each_line_once(parses, root, options):
    assert is_once(root, parses(root, ["-m", "curate", "validate", root, *options]))


def test_validate_of_a_workspace_with_a_dataset_parses_each_line_once(parses, root):
    parses(root / "data", ["-m", "curate", "export", root], code=0)
    assert is_once(root, parses(root, ["-m", "curate", "validate", root], code=0))


def test_validate_with_an_exam_in_the_lines_parses_each_line_once(parses, root):
    with (root / "data/b.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line(77, split="test")) + "\n" + json.dumps(line(78, split="validation")) + "\n")
    assert is_once(root, parses(root, ["-m", "curate", "validate", root]))
    files = sorted((root / "data").iterdir())
    (root / "curate.toml").unlink()
    assert is_once(root, parses(root, ["-m", "curate", "validate", *files, "--schema", "instruction"]))


def test_validate_with_a_baseline_parses_each_line_once(parses, root):
    words = ["-m", "curate", "validate", root, "--baseline", root / "base.json"]
    assert is_once(root, parses(root, [*words, "--update-baseline"], code=0))
    assert is_once(root, parses(root, words, code=0))


def test_validate_of_lines_since_a_commit_parses_each_line_once(parses, root):
    git = ["git", "-C", root, "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    with (root / "data/b.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line(79)) + "\n")
    assert is_once(root, parses(root, ["-m", "curate", "validate", root, "--since", "HEAD"]))


def test_validate_of_some_files_parses_no_line_twice(parses, root):
    counts = parses(root, ["-m", "curate", "validate", root / "data/b.jsonl"])
    assert {counts[one] for one in (root / "data/b.jsonl").read_bytes().splitlines()} == {1}
    assert max(counts.values()) == 1
    backwards = [root / "data/b.jsonl", root / "data/a.jsonl"]
    assert is_once(root, parses(root, ["-m", "curate", "validate", *backwards]))


def test_validate_of_standard_input_parses_no_line_twice(parses, root, tmp_path):
    typed = tmp_path / "data.jsonl"
    typed.write_bytes((root / "data/b.jsonl").read_bytes().replace(b"Please tell", b"Kindly tell"))
    words = ["-m", "curate", "validate", "-", "--stdin-filename", root / "data/b.jsonl"]
    counts = parses(tmp_path, words, stdin=typed)
    assert {counts[one] for one in typed.read_bytes().splitlines()} == {1}
    assert max(counts.values()) == 1


OTHERS = {
    "dedupe": ["dedupe", "{root}"],
    "dedupe apply": ["dedupe", "{root}", "--apply", "keep-first"],
    "split": ["split", "{root}"],
    "export": ["export", "{root}"],
    "export trl": ["export", "{root}", "--to", "trl"],
    "stats": ["stats", "{root}"],
    "list": ["list", "{root}"],
    "list status": ["list", "{root}", "--where", "status:ok"],
    "leaks": ["leaks", "{root}"],
    "quality": ["quality", "{root}"],
    "diff": ["diff", "{root}", "{copy}"],
    "log record": ["log", "{root}", "r005"],
}


@pytest.mark.parametrize("words", OTHERS.values(), ids=OTHERS)
def test_other_commands_parse_each_line_once(parses, root, tmp_path, words):
    copy = tmp_path / "copy"
    (copy / "data").mkdir(parents=True)
    (copy / "curate.toml").write_text(SETTINGS, encoding="utf-8")
    (copy / "data/a.jsonl").write_text(json.dumps(line(1000)) + "\n", encoding="utf-8")
    counts = parses(root / "data", ["-m", "curate", *(word.format(root=root, copy=copy) for word in words)])
    assert is_once(root, counts)


def test_the_last_decisions_are_told_without_the_records(parses, root):
    assert not parses(root, ["-m", "curate", "log", root], code=0)


WALKS = [["home", "split", "dedupe"], ["browse", "_d", "_u", "dedupe", "split"]]


@pytest.mark.ci
@pytest.mark.parametrize("steps", WALKS, ids=" ".join)
def test_screens_parse_each_line_once_beside_the_search_for_problems(parses, root, steps):
    counts = parses(root / "data", ["-c", SCREENS, root, *steps], code=0)
    lines = record_lines(root / "data")
    assert len(lines) >= 60
    # The screens read a line, and so does the search for problems, which is a process of its own so that keys stay
    # quick. The line of a record that is decided on or shown is read again alone, by its place.
    again = {one for one in lines if counts[one] > 2}
    assert {json.loads(one)["id"] for one in again} <= {"r000", "r003", "r005", "r006", "r007", "r009", "r041"}
    assert {counts[one] for one in lines - again} == {2}
