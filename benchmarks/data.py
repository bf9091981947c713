"""Tables of benchmarks/README.md: data verbs beside their peers, what stats costs, and how fast a command starts.

    python benchmarks/data.py [--records 100000] [--rounds 3] [--stats 100000] [--starts] [--before CHECKOUT]

Runs `benchmarks/validate.py` and `benchmarks/dedupe.py` as they stand, then counts and measures --stats records with
each output of stats, and starts small commands many times. CPU seconds are user and system time of a process and its
children; walls are not printed, because these machines are shared. `benchmarks/million.py` has the whole chain.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import repeats  # noqa: E402  found beside this file
import validate  # noqa: E402

SETTINGS = "[split]\nseed = 7\n[checks]\nmin_category = 0\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="records for the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stats", type=int, default=100_000, help="records for the outputs of stats")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier state, whose starts are measured in turn")
    parser.add_argument("--starts", action="store_true", help="measure how commands start, and nothing else")
    options = parser.parse_args()
    print(validate.machine(), flush=True)
    if options.starts:
        print("\n".join(starts(options.before)))
        return
    for name in ("validate", "dedupe"):
        print(f"\n### {name}\n", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), "--records", str(options.records)]
        subprocess.run([*command, "--rounds", str(options.rounds)], check=True)
    print(f"\n### stats, {options.stats:,} records\n")
    for line in stats(options.stats, options.rounds):
        print(line, flush=True)
    print("\n### start\n")
    for line in starts(options.before):
        print(line, flush=True)


def stats(num_records: int, rounds: int) -> list[str]:
    """Return a table of what each output of `curate stats` takes beyond that of ten records; medians, in turn."""
    outputs: list[list[str]] = [[], ["--format", "jsonl"], ["--plots"], ["--plots", "--languages", "all"]]
    seconds: dict[tuple[int, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for count in (10, num_records):
            repeats.write(Path(name) / f"{count}.jsonl", count, 5)
        for _ in range(rounds):
            for number, options in enumerate(outputs):
                for count in (10, num_records):
                    command = [sys.executable, "-P", "-m", "curate", "stats", f"{name}/{count}.jsonl", *options]
                    seconds.setdefault((number, count), []).append(run(command)[0])
    rows = ["| command | ten records | CPU seconds | us a record beyond |", "|---|---:|---:|---:|"]
    for number, options in enumerate(outputs):
        start, all_of_it = (statistics.median(seconds[number, count]) for count in (10, num_records))
        beyond = (all_of_it - start) / num_records * 1e6
        rows.append(f"| `{' '.join(['curate stats', *options])}` | {start:.2f} | {all_of_it:.2f} | {beyond:.1f} |")
    return rows


def starts(before: Path | None, rounds: int = 15) -> list[str]:
    """Return a table of the median CPU milliseconds of small commands, here and in the checkout ``before``, in turn."""
    with tempfile.TemporaryDirectory() as name:
        small, root = Path(name) / "ten.jsonl", Path(name) / "hundred"
        repeats.write(small, 10, 5)
        (root / "data").mkdir(parents=True)
        (root / "curate.toml").write_text(SETTINGS, encoding="utf-8")
        repeats.write(root / "data" / "made.jsonl", 100, 5)
        commands = {
            "python -c pass": ["-c", "pass"],
            "curate --help": ["-m", "curate", "--help"],
            "curate rule Q203": ["-m", "curate", "rule", "Q203"],
            "curate validate ten.jsonl": ["-m", "curate", "validate", str(small)],
            "curate validate hundred": ["-m", "curate", "validate", str(root)],
            "curate list hundred": ["-m", "curate", "list", str(root)],
            "train --help": ["-m", "train", "--help"],
        }
        trees = [HERE.parent, *([before.resolve()] if before else [])]
        measured: dict[tuple[str, Path], list[float]] = {}
        # The first round is not counted: it compiles and fills caches.
        for number in range(rounds + 1):
            for what, tree in itertools.product(commands, trees):
                seconds, _ = run([sys.executable, "-P", *commands[what]], tree)
                measured.setdefault((what, tree), []).extend([seconds] if number else [])
    medians = {key: statistics.median(values) for key, values in measured.items()}
    rows = ["| command | CPU ms | times the interpreter | before, ms | of that |", "|---|---:|---:|---:|---:|"]
    for what in commands:
        here = medians[what, trees[0]]
        was = medians[what, trees[-1]] if before else 0.0
        compared = f"{was * 1e3:.0f} | {here / was:.2f}" if before else "|"
        rows.append(f"| `{what}` | {here * 1e3:.0f} | {here / medians['python -c pass', trees[0]]:.1f} | {compared} |")
    return rows


def run(command: list[str], tree: Path | None = HERE.parent) -> tuple[float, float]:
    """Run ``command`` with the checkout ``tree``; return its CPU seconds and its peak memory in MB, with children.

    With ``tree`` None its python imports what is installed for it.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    if tree:
        environment["PYTHONPATH"] = str(tree)
    # With it every start would compile the whole of the package.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with exit code {child.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
