"""Where the commands of a workspace spend their time: the share of each room, beside what the command takes unwatched.

    python benchmarks/stages.py [--records 100000]

The commands of `COMMANDS` run one after the other on two workspaces: on one unwatched, for the CPU seconds, and on one
under Python's own profiler, which says who called whom. What a library or a builtin takes counts for the function of
this project that called it. A profiler makes a call of Python dearer than one of numpy, so that a share is good for "a
third" and not for "31 %". Of more records than that `validate` shares the work among processes, which nobody watches.
"""

from __future__ import annotations

import argparse
import pstats
import shutil
import sys
import tempfile
from collections import defaultdict
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import data  # noqa: E402  found beside this file
import repeats  # noqa: E402
import validate  # noqa: E402

SEED = 5
COMMANDS = ("validate", "dedupe", "split", "export", "stats")
ROOT = f"{HERE.parent}/"
# Rooms by the beginning of a file's path; the longest counts.
ROOMS = {
    "curate/jsonl": "reading and parsing lines",
    "curate/schema": "schema",
    "curate/similarity/dedupe/blocks": "columns: texts, words, keys",
    "curate/similarity/dedupe/shingles": "columns: texts, words, keys",
    "curate/similarity/dedupe/words": "columns: texts, words, keys",
    "curate/similarity/dedupe/columns": "the record cache",
    "curate/checks/runner/column_cache": "the record cache",
    "curate/checks/runner/table": "the record cache",
    "curate/checks/runner/parts": "the record cache",
    "curate/project/records": "the record cache",
    "curate/similarity/dedupe": "comparing records",
    "curate/similarity/leaks": "comparing splits",
    "curate/similarity/split": "dividing",
    "curate/checks": "checks",
    "curate/checks/quality": "measures",
    "curate/formats": "writing the dataset",
}  # fmt: skip
OTHER = "all else: start, report, library code"
# Smaller shares are not shown.
LEAST = 0.03

Function = tuple[str, int, str]


def room_of(function: Function) -> str | None:
    """Return the room of a function of this project, None for one of a library."""
    path = function[0]
    if not path.startswith(ROOT) or "/.venv/" in path:
        return None
    local = path.removeprefix(ROOT)
    begins = [begin for begin in ROOMS if local.startswith(begin)]
    return ROOMS[max(begins, key=len)] if begins else OTHER


def shares(profile: Path) -> dict[str, float]:
    """Return each room's share of the time of a profile."""
    entries = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]

    @cache
    def mix(function: Function, depth: int = 0) -> tuple[tuple[str, float], ...]:
        """Return which rooms a function works for, by what it took for each of its callers."""
        if room := room_of(function):
            return ((room, 1.0),)
        callers = {caller: took[2] or took[3] for caller, took in entries.get(function, (0, 0, 0, 0, {}))[4].items()}
        total = sum(callers.values())
        if not total or depth > 20:
            return ((OTHER, 1.0),)
        parts: dict[str, float] = defaultdict(float)
        for caller, took in callers.items():
            for room, share in mix(caller, depth + 1):
                parts[room] += share * took / total
        return tuple(parts.items())

    times: dict[str, float] = defaultdict(float)
    for function, (_, _, own, _, _) in entries.items():
        for room, share in mix(function):
            times[room] += own * share
    total = sum(times.values())
    return {room: took / total for room, took in sorted(times.items(), key=lambda pair: -pair[1])}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    print(f"{validate.machine()}\n\n{options.records:,} records\n", flush=True)
    print("| command | where | share | core-s | µs a record |\n|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="stages-") as name:
        records, profile = Path(name) / "made.jsonl", Path(name) / "profile"
        repeats.write(records, options.records, SEED)
        # The first run on a machine compiles the inner loops, which is nobody's stage.
        runs = [workspace(Path(name) / each, records) for each in ("first", "unwatched", "watched")]
        for command in COMMANDS:
            data.run([sys.executable, "-P", "-m", "curate", command, str(runs[0])], HERE.parent)
        for command in COMMANDS:
            seconds, _ = data.run([sys.executable, "-P", "-m", "curate", command, str(runs[1])], HERE.parent)
            watching = ["-m", "cProfile", "-o", str(profile), "-m", "curate"]
            data.run([sys.executable, "-P", *watching, command, str(runs[2])], HERE.parent)
            rows = [("**all**", 1.0), *((room, share) for room, share in shares(profile).items() if share >= LEAST)]
            for room, share in rows:
                each = f"{share * seconds:.2f} | {share * seconds / options.records * 1e6:.1f}"
                print(f"| `{command}` | {room} | {share:.0%} | {each} |", flush=True)


def workspace(root: Path, records: Path) -> Path:
    """Make a workspace of ``records``, and return it."""
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text(data.SETTINGS, encoding="utf-8")
    shutil.copyfile(records, root / "data" / "made.jsonl")
    return root


if __name__ == "__main__":
    main()
