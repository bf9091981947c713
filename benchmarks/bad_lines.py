"""What a bad line costs `validate` by its kind, in core-microseconds a line.

    python benchmarks/bad_lines.py [--lines 1000000] [KIND ...]

Each file holds lines of one kind, each in words of its own. One process; reading is in the clock, writing is not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from curate.checks.runner import CheckPlan, validate
from curate.schema import load_shape
from curate.schema.settings import Settings

KINDS: dict[str, Callable[[int], str]] = {
    "no JSON": lambda n: f"this is line {n} and no JSON",
    "cut": lambda n: f'{{"id": "r{n}", "instruction": "Say it.", "output": "It is {n} of',
    "single quotes": lambda n: f"{{'id': 'r{n}', 'instruction': 'Say it.'}}",
    "last comma": lambda n: f'{{"id": "r{n}", "instruction": "Say it.", "output": "It is {n}.",}}',
    "NaN": lambda n: f'{{"id": "r{n}", "instruction": "Say it.", "output": NaN}}',
    "a key twice": lambda n: f'{{"id": "r{n}", "id": "x", "instruction": "Say it.", "output": "It is {n}."}}',
    "a list": lambda n: f'["r{n}", "Say it."]',
    "a number": lambda n: str(n + 1),
    "blank": lambda _: "",
    "a key is missing": lambda n: f'{{"id": "row {n}", "instruction": "Say it."}}',
    "another type": lambda n: f'{{"id": "row {n}", "instruction": {n}, "output": "It is {n}."}}',
    "an unknown key": lambda n: f'{{"id": "row {n}", "instruction": "Say it.", "output": "It.", "more": "{n:05}"}}',
    "Latin-1": lambda n: f'{{"id": "r{n}", "instruction": "caf\udce9", "output": "It."}}',
}


def main() -> None:
    """Print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    asked = parser.parse_args()
    shape = load_shape("instruction")
    print("| kind | core-µs a line | findings |\n|---|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        for name, make in KINDS.items():
            if asked.kinds and name not in asked.kinds:
                continue
            with path.open("wb") as file:
                file.writelines(make(n).encode("utf-8", "surrogateescape") + b"\n" for n in range(asked.lines))
            begun = time.process_time()
            verdict = validate([path], CheckPlan(shape, Settings(), limit=1000))
            spent = (time.process_time() - begun) / asked.lines * 1e6
            print(f"| {name} | {spent:.2f} | {', '.join(f'{n:,} {code}' for code, n in verdict.counts.items())} |")


if __name__ == "__main__":
    main()
