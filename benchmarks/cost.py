"""What a run on many machines costs, from what was measured on one: CPU time, the driver, memory, disk, network.

    python benchmarks/cost.py [--hours 4] [--price 0.04] [--cpus 16] [--records 100000000]

CPU time and the driver's memory are those that `python benchmarks/scale.py` printed for daft on Ray, beyond the start
of the command; the rest follows from what is written for each record. Nothing above a million records was run, so this
is arithmetic: shared work grows with the records and shrinks with the vCPUs, and what the driver does alone grows with
the records and does not shrink. --price is what one vCPU-hour costs where you rent, --cpus what one machine has.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

RECORD_BYTES = 829
SIZES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)


class Verb(NamedTuple):
    """What one record costs."""

    name: str
    shared_us: float
    """CPU microseconds of all workers."""
    driver_us: float
    """CPU microseconds of the driver, which nobody can take from it."""
    driver_bytes: float
    """Memory of the driver: of `dedupe` columns, ids and buckets of every record, and the file of words as mapped."""
    disk_bytes: float
    """Scratch space that all machines share."""
    network_bytes: float
    """What goes from workers to the driver and back."""


VERBS = (
    Verb("validate", 15.9, 1.8, 520, 0, 0),
    Verb("dedupe", 17.6, 7.9, 2_480, 1_000, 1_200),
)


def row(verb: Verb, num_records: int, hours: float, price: float, cpus: int) -> str:
    """Return a line of the table: what a verb takes, and what to rent so that it ends within ``hours``."""
    shared, alone = (num_records * each / 3.6e9 for each in (verb.shared_us, verb.driver_us))
    machines = math.ceil(shared / (hours - alone) / cpus) if hours > alone else 0
    rented = ["", f"the driver alone takes {alone:.1f} h", ""]
    if machines:
        took = alone + shared / (machines * cpus)
        rented = [f"{machines:,}", f"{took:.2f}", f"{took * machines * cpus * price:,.2f}"]
    sizes = [num_records * each / 1e9 for each in (verb.driver_bytes, verb.disk_bytes, verb.network_bytes)]
    cells = [f"{num_records:,}", verb.name, f"{shared + alone:,.2f}", *rented, *(f"{size:,.1f}" for size in sizes)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="*", default=SIZES)
    parser.add_argument("--hours", type=float, default=4.0, help="when a verb is to be done")
    parser.add_argument("--price", type=float, default=0.04, help="of one vCPU-hour")
    parser.add_argument("--cpus", type=int, default=16, help="vCPUs of one machine")
    asked = parser.parse_args()
    print(f"Records of {RECORD_BYTES} bytes; machines of {asked.cpus} vCPUs at {asked.price:g} a vCPU-hour.\n")
    print("| records | verb | vCPU-hours | machines | hours | price | driver GB | scratch GB | network GB |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for num_records in asked.records:
        for verb in VERBS:
            print(row(verb, num_records, asked.hours, asked.price, asked.cpus))


if __name__ == "__main__":
    main()
