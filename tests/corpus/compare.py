"""Run every command with two versions of the program on the same workspaces, and show where they differ.

`python tests/corpus/compare.py OLD NEW`: OLD and NEW are the Python interpreters of two environments, each of which has
one version installed. For each command the text on both streams, the exit code and the files afterwards are compared;
times, numbers of events and folders of this machine are taken out first. Exits 1 where anything differs.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[1] / "samples"
_HEX = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?= \{)|(?<=Z-)[0-9a-f]{12}\b")
_TIMES = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?|\b\d{8}T\d{6}Z\b|\b\d+(\.\d+)? (CPU-)?seconds?\b|\b\d+\.\d+ ?s\b"
)
# A record comes as Markdown or, from older versions, as JSON.
_VISUAL = """
import json, re, sys
path = sys.argv[-1]
text = open(path).read()
if text.startswith("{"):
    text = json.dumps({**json.loads(text), "output": "Another."})
else:
    text = re.sub(r"(?s)(\\n# output\\n\\n).*?(?=\\n# |$)", r"\\1Another.\\n", text)
open(path, "w").write(text)
"""


@dataclass(frozen=True)
class Case:
    """One call: what is typed after `curate`, and on standard input."""

    words: str
    typed: str = ""
    program: str = "curate"

    def __str__(self) -> str:
        return f"{self.program} {self.words}" + (f" < {self.typed!r}" if self.typed else "")


# W is the corpus, V the same with its conflict settled and nothing forgiven, S the workspace of the sample, M a file of
# planted defects, A and B two files of records.
CASES = [
    *(
        Case(f"validate W --format {name}")
        for name in ("text", "concise", "json", "jsonl", "github", "gitlab", "sarif", "junit", "markdown")
    ),
    Case("validate W --statistics"),
    Case("validate W --update-baseline"),
    Case("validate W --limit 2 --show-values"),
    Case("validate W --target trl --statistics"),
    Case("validate W/data/one.jsonl"),
    Case("validate S"),
    Case("validate S --jobs 2 --statistics"),
    Case("validate M --format json"),
    Case("validate M --fix"),
    Case("validate M --unsafe-fixes --diff"),
    Case("validate M --explain"),
    Case("dedupe W"),
    Case("dedupe W --explain"),
    Case("dedupe W --format jsonl --threshold 0.5"),
    Case("dedupe W --apply keep-longest"),
    Case("dedupe A B"),
    Case("split W"),
    Case("split W --ratios 50/25/25 --dry-run --apply"),
    Case("split W --unfreeze why"),
    Case("split S --apply"),
    Case("leaks W"),
    Case("leaks A --against B"),
    Case("leaks A --against B --fail-on warning --explain"),
    Case("export W"),
    Case("export V"),
    Case("export V --to parquet"),
    Case("export S"),
    *(
        Case(f"export S --to {name}")
        for name in ("trl", "openai", "alpaca", "sharegpt", "llama-factory", "parquet", "hf", "csv")
    ),
    Case("list W"),
    Case("list W --where status:dropped"),
    Case("list W --where category:answer"),
    Case("list W --split test --format jsonl"),
    Case("stats W"),
    Case("stats S --format json"),
    Case("quality W --sort long"),
    Case("quality S --sort repetition"),
    Case("log W --limit 200"),
    Case("log W sd-0010"),
    Case("log W --format jsonl"),
    Case("agreement W"),
    Case("agreement W --format json"),
    Case("diff A B"),
    Case("diff A B --format json"),
    Case("undo W --by ana"),
    Case("undo W --by ben --steps 3"),
    Case("undo W --by ana --redo"),
    Case("drop sd-0030 sd-0031 W --reason why --by ana"),
    Case("drop nobody W --reason why"),
    Case("restore sd-0007 W --by ben"),
    Case("edit sd-0030 W --by ana"),
    Case("edit sd-0014 W --by ana"),
    Case("label W --plain --by ana", "1\n2\ns\nu\n?\nq\n"),
    Case("label W --plain --by ben --order disagreement", "1\nq\n"),
    Case("review W --plain --by ana", "1\nq\n"),
    Case("fold W"),
    Case("fold V"),
    Case("validate V"),
    Case("stats V"),
    Case("list V --limit 100"),
    Case("log V --limit 200"),
    Case("fold W --dry-run"),
    Case("fsck W"),
    Case("doctor W"),
    Case("config show W"),
    Case("config show W --origin"),
    Case("config validate W"),
    Case("config schema"),
    Case("rule"),
    Case("rule D301"),
    Case("schema infer A"),
    Case("report --workspace W"),
    Case("runs W"),
    Case("redact A --dry-run"),
    Case("redact M --output OUT/clean.jsonl"),
    Case("import A --into S"),
    Case("import A --into S --dry-run"),
    Case("init NEW --from A --from B"),
    Case("init NEW --sample"),
    Case("train S --dry-run"),
    Case("train W --dry-run"),
    Case("train V"),
    Case("plan W/dataset/v1 --set base=tiny-base --set on_unrenderable=skip", program="train"),
    Case("preview W/dataset/v1 --set base=tiny-base --id sd-0002", program="train"),
    Case("eval W/runs/2026-11-27-a", program="train"),
    Case("compare W/runs/2026-11-27-a W/runs/2026-11-27-a", program="train"),
    Case("new", program="train"),
]


@dataclass
class Outcome:
    """What a call left: its text, and its files by their names as they are compared."""

    text: list[str]
    files: dict[str, list[str]]


def main() -> int:
    """Compare, print the differences, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", default="", help="run the calls that have this text in them")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    # The calls run in folders of their own.
    old, new = options.old.absolute(), options.new.absolute()
    cases = [case for case in CASES if options.only in str(case)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        pristine = Path(folder) / "pristine"
        _prepare(pristine, old)
        pairs = list(pool.map(lambda case: _compared(case, pristine, old, new), cases))
    num_differing = 0
    for case, lines in zip(cases, pairs, strict=True):
        if lines:
            num_differing += 1
            print(f"=== {case}")
            print("\n".join(lines))
    print(f"{len(cases)} calls, {num_differing} differ")
    return 1 if num_differing else 0


def _prepare(folder: Path, python: Path) -> None:
    """Make what the calls work on: the corpus, the sample's workspace, and files of records."""
    folder.mkdir()
    shutil.copytree(HERE / "workspace", folder / "W")
    shutil.copytree(SAMPLES / "tiny-base", folder / "tiny-base")
    shutil.copytree(SAMPLES / "tiny-base", folder / "W" / "tiny-base")
    shutil.copy(SAMPLES / "messy.jsonl", folder / "M.jsonl")
    lines = (SAMPLES / "support_desk.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "A.jsonl").write_bytes(b"".join(lines[:200]))
    (folder / "B.jsonl").write_bytes(b"".join([*lines[150:300], lines[3].replace(b"sd-0004", b"sd-x")]))
    (folder / "OUT").mkdir()
    _call(python, Case("init S --sample"), folder)
    shutil.copytree(folder / "W", folder / "V")
    (folder / "V" / "baseline.jsonl").unlink()
    settings = (folder / "V" / "curate.toml").read_text(encoding="utf-8")
    settings = settings.replace('baseline = "baseline.jsonl"', 'baseline = ""')
    (folder / "V" / "curate.toml").write_text(settings, encoding="utf-8")
    for case in (
        Case("review V --plain --by ana", "1\nq\n"),
        Case("drop sd-0022 V --reason empty --by ana"),
    ):
        done = _call(python, case, folder)
        assert done.returncode == 0, f"{case}: {done.stderr}"


def _compared(case: Case, pristine: Path, old: Path, new: Path) -> list[str]:
    before, after = (_outcome(case, pristine, python) for python in (old, new))
    lines = list(difflib.unified_diff(before.text, after.text, "old", "new", lineterm="", n=0))
    for name in sorted(before.files.keys() | after.files.keys()):
        one, two = before.files.get(name, ["(not there)"]), after.files.get(name, ["(not there)"])
        lines += list(difflib.unified_diff(one, two, f"old {name}", f"new {name}", lineterm="", n=0))[:40]
    return [line[:300] for line in lines]


def _outcome(case: Case, pristine: Path, python: Path) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "here"
        shutil.copytree(pristine, root)
        done = _call(python, case, root)
        numbers: dict[str, str] = {}
        said = f"exit {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        text = _plain(said, root, numbers)
        files = {}
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            original = pristine / name
            if not path.is_file() or "/cache/" in name or "__pycache__" in name:
                continue
            data = path.read_bytes()
            if original.is_file() and original.read_bytes() == data:
                continue
            files[_plain(name, root, {})] = _lines_of(data, root)
        gone = [str(path.relative_to(pristine)) for path in pristine.rglob("*") if path.is_file()]
        files.update({f"gone {name}": [] for name in gone if not (root / name).exists()})
        return Outcome(text.splitlines(), files)


def _lines_of(data: bytes, root: Path) -> list[str]:
    try:
        return _plain(data.decode(), root, {}).splitlines()
    except UnicodeDecodeError:
        return [hashlib.sha256(data).hexdigest()]


def _plain(text: str, root: Path, numbers: dict[str, str]) -> str:
    """Return ``text`` without folders of this machine and times, and with numbers of events in their order."""
    text = text.replace(str(root), ".").replace(str(root.parent), "..")
    text = _HEX.sub(lambda match: numbers.setdefault(match[0], f"#{len(numbers)}"), text)
    return _TIMES.sub("TIME", text)


def _call(python: Path, case: Case, root: Path) -> subprocess.CompletedProcess[str]:
    words = [f"{word}.jsonl" if word in ("M", "A", "B") else word for word in case.words.split()]
    helper = root.parent / "editor.py"
    helper.write_text(_VISUAL)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
        "CURATE_ANNOTATOR": "ana",
        "VISUAL": f"{sys.executable} {helper}",
    }
    return subprocess.run(
        [str(python), "-m", case.program, *words],
        cwd=root,
        env=environment,
        input=case.typed,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main())
