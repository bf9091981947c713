"""What one more record passes on its way: the files and functions of ours that are called more often, and how deep.

    python benchmarks/walks.py [--list]

A command runs twice in this process under a profiler, with n and with n + 1 records; whatever is called more often the
second time is the way of the one more. Depth counts our own frames alone. A label is one call, so all of it counts.
Children that a command starts are not seen (the process that renders a chat template is one). What works on a batch is
called more often only where one more record makes one more batch.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The packages beside this script are measured, installed or not.
sys.path.insert(0, str(ROOT))
OURS = tuple(f"{ROOT / package}{os.sep}" for package in ("curate", "train"))


class Calls:
    """Counts the calls of our functions, and how many of our frames each stands under, while it is entered."""

    def __init__(self) -> None:
        self.counts: Counter[CodeType] = Counter()
        self.depths: dict[CodeType, int] = {}

    def _profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(OURS):
            return
        self.counts[code] += 1
        if code not in self.depths or self.counts[code] < 4:
            self.depths[code] = max(self.depths.get(code, 0), self._depth(frame))

    @staticmethod
    def _depth(frame: FrameType | None) -> int:
        depth = 0
        while frame is not None:
            depth += frame.f_code.co_filename.startswith(OURS)
            frame = frame.f_back
        return depth

    @contextlib.contextmanager
    def counting(self) -> Iterator[Calls]:
        """Count what is called within."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield self
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]


def _line(number: int, split: str = "") -> dict[str, str]:
    words = f"{number} {number * 7} {number * 13}"
    line = {
        "id": f"r{number}",
        "instruction": f"What is said of case {words}?",
        "output": f"It says {words}.",
        "category": "a",
    }
    return line | ({"split": split} if split else {})


def _workspace(folder: Path, num_records: int, num_test: int = 0) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "curate.toml").write_text('schema = "instruction"\n[split]\nseed = 1\n', encoding="utf-8")
    lines = [_line(number, "train") for number in range(num_records)]
    lines += [_line(1000 + number, "test") for number in range(num_test)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "data/a.jsonl").write_text(text, encoding="utf-8")
    return folder


def _call(program: Any, *arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        program.main([str(one) for one in arguments], standalone_mode=False)


def raw_line(folder: Path, number: int) -> Calls:
    """Validate a file of ``number`` lines."""
    from curate.cli import cli

    with Calls().counting() as calls:
        _call(
            cli, "validate", str(_workspace(folder, number) / "data/a.jsonl"), "--schema", "instruction", "--jobs", "1"
        )
    return calls


def exported_record(folder: Path, number: int) -> Calls:
    """Export a workspace of ``number`` records for training."""
    from curate.cli import cli

    with Calls().counting() as calls:
        _call(cli, "export", str(_workspace(folder, number, 4)))
    return calls


def label(folder: Path, number: int) -> Calls:
    """Answer a question, where ``number`` is 2; else nothing."""
    from curate.base.events import Label
    from curate.project.project import open_project

    calls = Calls()
    with open_project(_workspace(folder, 8), "ana") as project:
        project.load()
        if number > 1:
            with calls.counting():
                project.apply([Label("r3", "quality", "good")])
    return calls


def prediction(folder: Path, number: int) -> Calls:
    """Train one step, and measure base and tuned on ``number`` test records."""
    from curate.cli import cli as curate_cli
    from train.cli import cli as train_cli

    workspace = _workspace(folder, 12, number)
    # Rows that an earlier run has cached would skip the way that only the new one then takes.
    os.environ["XDG_CACHE_HOME"] = os.environ["TRAIN_CACHE"] = str(folder / "cache")
    _call(curate_cli, "export", str(workspace))
    sets = ("max_steps=1", "threads=1", "device=cpu", "eval.max_new_tokens=4")
    options = [part for one in sets for part in ("--set", one)]
    with Calls().counting() as calls:
        _call(train_cli, "run", str(workspace / "dataset/v1"), "--base", str(ROOT / "samples/tiny-base"), "--out",
              str(workspace / "runs/a"), *options)  # fmt: skip
    return calls


WALKS: dict[str, tuple[Callable[[Path, int], Calls], int]] = {
    "raw line": (raw_line, 6),
    "label": (label, 1),
    "exported record": (exported_record, 12),
    "prediction": (prediction, 6),
}


def walk(name: str) -> list[tuple[int, str, str]]:
    """Return depth, file and function of each step of one more record, the outermost first."""
    conduct, number = WALKS[name]
    with tempfile.TemporaryDirectory() as folder:
        # What is compiled, cached or imported once is not the record's.
        conduct(Path(folder) / "warm", number)
        fewer, more = conduct(Path(folder) / "fewer", number), conduct(Path(folder) / "more", number + 1)
    added = [code for code, count in more.counts.items() if count > fewer.counts[code]]
    steps = [(more.depths[code], str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname) for code in added]
    return sorted(steps)


def main() -> int:
    """Print a table; with ``--list`` the steps as well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print each step")
    parser.add_argument("walks", nargs="*", default=list(WALKS), help="which walks")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    print("| walk | files | functions | deepest call |\n|---|---:|---:|---:|")
    for name in options.walks:
        steps = walk(name)
        # Checks lie side by side in families, and each is called from the same place: they count once.
        shelf = Path("curate/checks")
        files = {shelf if Path(file).parent == shelf else Path(file) for _, file, _ in steps}
        least = min((depth for depth, _, _ in steps), default=0)
        print(
            f"| {name} | {len(files)} | {len(steps)} | {max((depth for depth, _, _ in steps), default=0) - least + 1} |"
        )
        for depth, file, function in steps if options.list else ():
            print(f"{'  ' * (depth - least)}{file} {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
