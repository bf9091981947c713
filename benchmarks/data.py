"""The tables of benchmarks/README.md: data verbs beside their peers, the whole chain, and how fast a command starts.

    python benchmarks/data.py [--records 100000] [--rounds 3] [--chain 100000]

Runs `benchmarks/validate.py` and `benchmarks/dedupe.py` as they stand, then takes a workspace of --chain records
through validate, dedupe and split by the commands a user would type, counts and measures as many records with each
output of stats, and starts small commands many times. CPU seconds
are user and system time of a process and its children; walls are not printed, because these machines are shared.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--chain", type=int, default=100_000, help="records for the whole chain")
    asked = parser.parse_args()
    print(validate.machine(), flush=True)
    for name in ("validate", "dedupe"):
        print(f"\n### {name}\n", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), "--records", str(asked.records)]
        subprocess.run([*command, "--rounds", str(asked.rounds)], check=True)
    print(f"\n### the whole chain, {asked.chain:,} records\n")
    for line in chain(asked.chain):
        print(line, flush=True)
    print(f"\n### stats, {asked.chain:,} records\n")
    for line in stats(asked.chain, asked.rounds):
        print(line, flush=True)
    print("\n### start\n")
    for line in starts():
        print(line, flush=True)


def chain(num_records: int) -> list[str]:
    """Take a fresh workspace through the verbs and return a table of CPU seconds and peak memory of each."""
    rows, total = ["| command | CPU seconds | us a record | peak MB |", "|---|---:|---:|---:|"], 0.0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "data").mkdir()
        (root / "curate.toml").write_text(SETTINGS, encoding="utf-8")
        repeats.write(root / "data" / "made.jsonl", num_records, 5)
        for verb in ("validate", "dedupe", "split"):
            seconds, peak = run([sys.executable, "-P", "-m", "curate", verb, name])
            total += seconds
            rows.append(f"| `curate {verb}` | {seconds:.1f} | {seconds / num_records * 1e6:.1f} | {peak:,.0f} |")
    return [*rows, f"| all | {total:.1f} | {total / num_records * 1e6:.1f} | |"]


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


def starts(times: int = 10) -> list[str]:
    """Return a table of the median CPU seconds that small commands take."""
    rows = ["| command | median CPU seconds |", "|---|---:|"]
    with tempfile.TemporaryDirectory() as name:
        small = Path(name) / "ten.jsonl"
        repeats.write(small, 10, 5)
        for arguments in (["--help"], ["rule", "Q203"], ["validate", str(small)]):
            measured = [run([sys.executable, "-P", "-m", "curate", *arguments])[0] for _ in range(times)]
            shown = " ".join(Path(part).name for part in arguments)
            rows.append(f"| `curate {shown}` | {statistics.median(measured):.2f} |")
    return rows


def run(command: list[str]) -> tuple[float, float]:
    """Run ``command`` and return its CPU seconds and its peak memory in MB, children included."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with exit code {child.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
