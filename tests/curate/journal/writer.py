"""One annotator who decides as fast as the disk lets them, in many sittings; prints how long saving took, in ms."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from curate.base.events import Label
from curate.project.data import load_data
from curate.project.fold import line_digest
from curate.project.journal import JournalWriter

SITTING = 500


def main(root: Path, by: str, number: int) -> None:
    records = load_data(root).records()
    parents = {record.id: (line_digest(record),) for record in records}
    times = []
    for start in range(0, number, SITTING):
        with JournalWriter(root, by) as sitting:
            for value in range(start, min(number, start + SITTING)):
                name = records[value % len(records)].id
                decision = Label(name, f"q-{by}", value, parents=parents[name])
                began = time.perf_counter()
                (event,) = sitting.append([decision])
                times.append(time.perf_counter() - began)
                parents[name] = (event.event,)
    times.sort()
    shares = {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "max": times[-1]}
    print(json.dumps({name: round(1000 * one, 3) for name, one in shares.items()}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
