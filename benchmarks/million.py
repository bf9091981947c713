"""A workspace from its records to a dataset, command by command: CPU seconds and memory at growing sizes.

    python benchmarks/million.py [--sizes 10000 100000 1000000] [--rounds 3] [--before VENV/bin]

Each round takes a fresh workspace of made records (see `repeats.py`), a git repository whose commit has the same
records, through the commands of `STEPS` in their order, so that each finds in the workspace's cache what those before
it have left there. The figures are medians of the rounds. CPU seconds are user and system time of a command with all
of its children, git included; peak MB is the most that one of its processes held. "exponent" compares with the size
before: at 1 the cost grows as the data does; below that, starts and what is made once still count. With --before the
same commands of another installation (the folder of its `python`) are measured in turn, on a workspace of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import data  # noqa: E402  found beside this file
import repeats  # noqa: E402
import validate  # noqa: E402

SEED = 5
NUM_CHANGED = 4
# From some 20 MB on compiled loops are used, which the first run on a machine compiles: so many records are taken once
# before, with no figures.
WARM_UP = 40_000
SINCE = f"`validate --since HEAD`, {NUM_CHANGED} lines changed"
# With a dataset validation looks for leaks too.
BARE = "the same, no dataset there"
CATALOGUE = "import curate, sys; assert len(curate.open(sys.argv[1]).frame)"
# What python is called with; {} is the workspace.
STEPS = {
    "`validate`": ["-m", "curate", "validate", "{}"],
    "`dedupe`": ["-m", "curate", "dedupe", "{}"],
    "`split`": ["-m", "curate", "split", "{}"],
    "`export`": ["-m", "curate", "export", "{}"],
    "`stats`": ["-m", "curate", "stats", "{}"],
    "`leaks`": ["-m", "curate", "leaks", "{}"],
    "first catalogue": ["-c", CATALOGUE, "{}"],
    "catalogue again": ["-c", CATALOGUE, "{}"],
    SINCE: ["-m", "curate", "validate", "{}", "--since", "HEAD"],
    BARE: ["-m", "curate", "validate", "{}", "--since", "HEAD"],
}
SUMS = {
    "**chain of the three**": ["`validate`", "`dedupe`", "`split`"],
    "**whole way to a dataset**": ["`validate`", "`dedupe`", "`split`", "`export`"],
}


class Cost(NamedTuple):
    """What a command takes, with its children."""

    seconds: float
    peak_mb: float


Costs = Mapping[str, Cost]
"""By step."""


class Workspace:
    """A workspace of made records in a git repository, and whose commands are run on it."""

    def __init__(self, root: Path, records: Path, python: Path, tree: Path | None) -> None:
        """Make the workspace; ``tree`` is the checkout that python is to import, None where it has its own."""
        self._root, self._records, self._python, self._tree = root, records, python, tree
        self._file = root / "data" / "made.jsonl"
        self._file.parent.mkdir(parents=True)
        (root / "curate.toml").write_text(data.SETTINGS, encoding="utf-8")
        shutil.copyfile(records, self._file)
        who = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org", "-c", "commit.gpgsign=false"]
        for question in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "records"]):
            subprocess.run(["git", "-C", str(root), *who, *question], check=True)

    def take(self) -> Costs:
        """Run all steps, from the records alone."""
        for name in (".curate", "journal", "dataset"):
            shutil.rmtree(self._root / name, ignore_errors=True)
        (self._root / "held_out.json").unlink(missing_ok=True)
        shutil.copyfile(self._records, self._file)
        # Git takes a file that was written anew for changed until it has read it, once.
        subprocess.run(["git", "-C", str(self._root), "status"], check=True, stdout=subprocess.DEVNULL)
        costs = {}
        for step, words in STEPS.items():
            if step == SINCE:
                self._change()
            if step == BARE:
                shutil.rmtree(self._root / "dataset")
            command = [str(self._python), "-P", *(word.format(self._root) for word in words)]
            costs[step] = Cost(*data.run(command, self._tree))
            if "export" in words and not (self._root / "dataset" / "v1").is_dir():
                raise SystemExit(f"{' '.join(command)} has written no dataset")
        return costs

    def _change(self) -> None:
        """Write a longer answer into some lines, far from one another."""
        lines = self._file.read_bytes().splitlines(keepends=True)
        for number in range(NUM_CHANGED):
            index = len(lines) * (2 * number + 1) // (2 * NUM_CHANGED)
            record = json.loads(lines[index])
            record["output"] += f" And {number} more."
            lines[index] = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        self._file.write_bytes(b"".join(lines))


def medians(rounds: Sequence[Costs]) -> dict[str, Cost]:
    """Return the median cost of each step, and the cost of each sum of steps, with the highest of its peaks."""
    costs = {step: Cost(*map(statistics.median, zip(*(one[step] for one in rounds), strict=True))) for step in STEPS}
    for name, steps in SUMS.items():
        parts = [costs[step] for step in steps]
        costs[name] = Cost(sum(part.seconds for part in parts), max(part.peak_mb for part in parts))
    return costs


def table(num_records: int, ours: Costs, before: Costs | None, smaller: tuple[int, Costs] | None) -> list[str]:
    """Return a Markdown table of the medians; ``smaller`` are ours at the size before, with that size."""
    heads = ["command", "core-s", "µs a record", "peak MB", "exponent"]
    heads += ["before, core-s", "before, MB", "before, times"] if before else []
    rows = [heads]
    for name, (seconds, peak_mb) in ours.items():
        row = [name, f"{seconds:.2f}", f"{seconds / num_records * 1e6:.1f}", f"{peak_mb:,.0f}", ""]
        if smaller:
            size, costs = smaller
            row[-1] = f"{math.log(seconds / costs[name].seconds) / math.log(num_records / size):.2f}"
        if before:
            was = before[name]
            row += [f"{was.seconds:.2f}", f"{was.peak_mb:,.0f}", f"{was.seconds / seconds:.2f}"]
        rows.append(row)
    head, *lines = [f"| {' | '.join(row)} |" for row in rows]
    return [head, f"|---{'|---:' * (len(heads) - 1)}|", *lines]


def measure(num_records: int, rounds: int, before: Path | None) -> list[dict[str, Cost]]:
    """Return the medians of this checkout, and those of the installation ``before``, measured in turn."""
    with tempfile.TemporaryDirectory(prefix="million-") as name:
        records = Path(name) / "made.jsonl"
        repeats.write(records, num_records, SEED)
        workspaces = [Workspace(Path(name) / "ours", records, Path(sys.executable), HERE.parent)]
        if before:
            workspaces.append(Workspace(Path(name) / "before", records, before / "python", None))
        costs: list[list[Costs]] = [[] for _ in workspaces]
        for _ in range(rounds):
            for workspace, taken in zip(workspaces, costs, strict=True):
                taken.append(workspace.take())
    return [medians(taken) for taken in costs]


def main() -> None:
    """Measure each size, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="RECORDS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="BIN", help="the folder of an earlier installation's python")
    options = parser.parse_args()
    print(validate.machine(), flush=True)
    if max(options.sizes) >= WARM_UP:
        measure(WARM_UP, 1, options.before)
    smaller: tuple[int, Costs] | None = None
    for num_records in sorted(set(options.sizes)):
        ours, *before = measure(num_records, options.rounds, options.before)
        print(f"\n{num_records:,} records, medians of {options.rounds}:\n")
        print("\n".join(table(num_records, ours, before[0] if before else None, smaller)), flush=True)
        smaller = num_records, ours


if __name__ == "__main__":
    main()
