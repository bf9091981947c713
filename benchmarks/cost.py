"""What a run on many machines costs, from what was measured on one: CPU time, the driver, disk, network, memory.

    python benchmarks/cost.py [--records 1000000000] [--hours 4] [--price 0.04] [--cpus 16]

The figures per record are those that `python benchmarks/scale.py --records 1000000` printed (records of 758 bytes, 12 %
of them made as copies); nothing above a million records was run, so all else is arithmetic: work that is shared out
grows with the records and shrinks with the machines, and what the driver does alone grows with the records and does
not shrink. --price is of one vCPU-hour; --cpus are those of one machine.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

BYTES = 758
"""Of a record, as JSON."""


@dataclass(frozen=True)
class Verb:
    """Costs of a record, beyond the start of the command."""

    name: str
    shared_us: float
    """CPU microseconds of all workers."""
    driver_us: float
    """CPU microseconds of the driver, which nobody can take from it."""
    driver_bytes: float
    """Memory of the driver."""
    disk_bytes: float
    """Scratch space that all machines share."""
    shuffled_bytes: float
    """What goes from worker to worker."""


VERBS: tuple[Verb, ...] = ()


def rows(num_records: int, hours: float, price: float, cpus: int) -> list[str]:
    """Return a Markdown table: what each verb takes, and what to rent so that it ends within ``hours``."""
    found = [
        "| verb | vCPU-hours | driver alone, h | vCPUs | machines | hours | price | driver GB | disk TB | network TB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for verb in VERBS:
        shared, alone = (num_records * each / 3.6e9 for each in (verb.shared_us, verb.driver_us))
        left = hours - alone
        cells = [verb.name, f"{shared + alone:,.1f}", f"{alone:.2f}"]
        if left <= 0:
            cells += ["", "", f"over {hours:g}: the driver alone takes longer", ""]
        else:
            needed = max(1, math.ceil(shared / left))
            machines = math.ceil(needed / cpus)
            took = alone + shared / (machines * cpus)
            cells += [f"{needed:,}", f"{machines:,} of {cpus}", f"{took:.2f}", f"{took * machines * cpus * price:,.2f}"]
        sizes = ((verb.driver_bytes, 1e9), (verb.disk_bytes, 1e12), (verb.shuffled_bytes, 1e12))
        cells += [f"{num_records * each / unit:,.2f}" for each, unit in sizes]
        found.append(f"| {' | '.join(cells)} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000_000)
    parser.add_argument("--hours", type=float, default=4.0, help="when each verb is to be done")
    parser.add_argument("--price", type=float, default=0.04, help="of one vCPU-hour")
    parser.add_argument("--cpus", type=int, default=16, help="vCPUs of one machine")
    asked = parser.parse_args()
    print(f"{asked.records:,} records, {asked.records * BYTES / 1e12:,.2f} TB\n")
    print("\n".join(rows(asked.records, asked.hours, asked.price, asked.cpus)))


if __name__ == "__main__":
    main()
