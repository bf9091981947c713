"""What share of planted faults the checks of preferences find, and how often they are right.

Usage: python benchmarks/preferences.py [--data FOLDER] [--seeds N]

Pairs are made of Dolly: its answer is chosen, that of another record of the same category is rejected. In 3 % of them
each a fault is planted: the rejected answer is the chosen one in other letter case and spacing (Q216); another record
prefers the opposite (D304); another record chooses what one rejects (D305). What is found and was not planted counts as
a false alarm, also where Dolly itself repeats a question. Then the longer answer is chosen in a growing share of the
pairs, which B804 is to report from 65 % on. No preference set that people made is at hand.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from curate.base.record import Source  # noqa: E402  the repository is put on the path above
from curate.checks import Sketches, discover  # noqa: E402
from curate.schema import load_shape  # noqa: E402
from curate.schema.settings import Settings  # noqa: E402

RATE = 0.03
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    print("| check | seed | pairs | planted | found | precision | recall |\n|---|---:|---:|---:|---:|---:|---:|")
    for seed in range(asked.seeds):
        rows = pairs_of(asked.data, random.Random(seed))
        for code, plant in {"Q216": equal, "D304": opposite, "D305": chosen_elsewhere}.items():
            made, wrong = plant(list(rows), random.Random(seed))
            found = fired(code, made)
            right = len(found & wrong)
            figures = f"{right / max(1, len(found)):.3f} | {right / len(wrong):.3f}"
            print(f"| {code} | {seed} | {len(made):,} | {len(wrong)} | {len(found)} | {figures} |")
    rows = pairs_of(asked.data, random.Random(0))
    print("\n| the longer answer is chosen in | B804 |\n|---:|---|")
    for share in (0.5, 0.6, 0.65, 0.7, 0.9):
        print(f"| {share:.0%} | {length_bias([leaned(row, share, index) for index, row in enumerate(rows)])} |")


def pairs_of(data: Path, chance: random.Random) -> list[Row]:
    """Return pairs of Dolly's answers, each with one of another record of its category."""
    files = sorted((data / "dolly-15k-v0").glob("*.jsonl"))
    records = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").split("\n") if line]
    answers = defaultdict(list)
    for record in records:
        answers[record["category"]].append(record["response"])
    return [
        {
            "prompt": "\n\n".join(filter(None, (record["instruction"], record["context"]))),
            "chosen": record["response"],
            "rejected": chance.choice(answers[record["category"]]),
        }
        for record in records
        if record["instruction"] and record["response"].strip()
    ]


def equal(rows: list[Row], chance: random.Random) -> tuple[list[Row], set[int]]:
    """Plant rejected answers that are the chosen ones in another spelling."""
    wrong = set(chance.sample(range(len(rows)), int(RATE * len(rows))))
    for index in wrong:
        rows[index] = rows[index] | {"rejected": "  ".join(rows[index]["chosen"].upper().split(" "))}
    return rows, wrong


def opposite(rows: list[Row], chance: random.Random) -> tuple[list[Row], set[int]]:
    """Plant records that prefer the opposite of an earlier one."""
    num = len(rows)
    turned = [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in chance.sample(rows, int(RATE * num))
    ]
    return rows + turned, set(range(num, num + len(turned)))


def chosen_elsewhere(rows: list[Row], chance: random.Random) -> tuple[list[Row], set[int]]:
    """Plant records that choose what an earlier one rejects, over a third answer; of the two D305 names the later."""
    num = len(rows)
    others = [
        row | {"chosen": row["rejected"], "rejected": chance.choice(rows)["chosen"]}
        for row in chance.sample(rows, int(RATE * num))
    ]
    return rows + others, set(range(num, num + len(others)))


def leaned(row: Row, share: float, index: int) -> Row:
    """Return a row with its longer answer chosen in such a share of the rows."""
    short, long = sorted((row["chosen"], row["rejected"]), key=len)
    is_long = random.Random(index).random() < share
    return row | {"chosen": long if is_long else short, "rejected": short if is_long else long}


def fired(code: str, rows: Sequence[Row]) -> set[int]:
    """Return the indices of the rows at which a check fires."""
    shape, check = load_shape("preference"), discover()[code]
    records = [shape.record(row, Source("pairs", index)) for index, row in enumerate(rows)]
    if check.kind == "record":
        return {index for index, record in enumerate(records) if any(check.run(record, Settings()))}
    return {place.line for place in check.run(Sketches.of(records), Settings())}


def length_bias(rows: Sequence[Row]) -> str:
    """Return what B804 says of rows."""
    shape, check = load_shape("preference"), discover()["B804"]
    sketches = Sketches.of(shape.record(row, Source("pairs", index)) for index, row in enumerate(rows))
    return next((place.problem.message for place in check.run(sketches, Settings())), "nothing")


if __name__ == "__main__":
    main()
