"""Exact and near duplicates, side by side with peers: CPU seconds, ratio, and how many planted copies each sees.

    python benchmarks/dedupe.py [--records 20000]

The data is made here from a seed: records of random words with a skewed (Zipf-like) vocabulary, 3 % exact copies and 3
% copies with 4 % of their words changed. datasketch is a peer where it is installed. A peer's "seen" counts copies for
which it names the original or another copy; peers that verify nothing may name more than is true.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from curate.dedupe import find_duplicates
from curate.record import Record, Source, normalised
from curate.settings import DedupeSettings

VOCABULARY = 20_000
Outcome = tuple[int, int, int]
"""Exact copies seen, edited copies seen, pairs named in all."""


def record(name: str, prompt: str, completion: str) -> Record:
    """Return an instruction record of the two texts."""
    messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": completion})
    return Record(name, "instruction", Source("made", 1), {}, prompt, completion, messages=messages)


def made(count: int, seed: int) -> list[Record]:
    """Return ``count`` records: originals "r...", exact copies "e<original>", edited copies "n<original>"."""
    rng = random.Random(seed)
    words = [
        f"{rng.choice('bcdfghjklmnprstvw')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{n}" for n in range(VOCABULARY)
    ]
    weights = list(accumulate(1 / (rank + 3) for rank in range(VOCABULARY)))
    num_copies = count * 3 // 100
    records = []
    for number in range(count - 2 * num_copies):
        prompt, completion = (rng.choices(words, cum_weights=weights, k=rng.randint(20, 80)) for _ in range(2))
        records.append(record(f"r{number}", " ".join(prompt), " ".join(completion)))
    picked = rng.sample(records, 2 * num_copies)
    copies = [record(f"e{one.id}", one.prompt.upper(), one.completion + " ") for one in picked[:num_copies]]
    copies += [edited(one, rng) for one in picked[num_copies:]]
    together = records + copies
    rng.shuffle(together)
    return together


def edited(one: Record, rng: random.Random) -> Record:
    """Return a copy with 4 % of its words changed."""
    prompt = one.prompt.split()
    words = prompt + one.completion.split()
    for place in rng.sample(range(len(words)), round(0.04 * len(words))):
        words[place] = f"x{rng.randrange(10**9)}"
    return record(f"n{one.id}", " ".join(words[: len(prompt)]), " ".join(words[len(prompt) :]))


def outcome(named: set[str], records: Sequence[Record]) -> Outcome:
    """Count the planted copies among the records that share a name with another."""
    ids = {one.id for one in records}
    copies = {kind: [name for name in ids if name.startswith(kind)] for kind in "en"}
    seen = {kind: sum(name in named or name[1:] in named for name in names) for kind, names in copies.items()}
    return seen["e"], seen["n"], len(named)


def ours(records: Sequence[Record], *, is_compiled: bool) -> Outcome:
    """Everything: exact, three fields near, verified, clusters and conflicts."""
    found = find_duplicates(records, DedupeSettings(), is_compiled=is_compiled)
    sizes: dict[str, int] = {}
    for cluster in found.clusters.values():
        sizes[cluster] = sizes.get(cluster, 0) + 1
    return outcome({name for name, cluster in found.clusters.items() if sizes[cluster] > 1}, records)


def python_set(records: Sequence[Record]) -> Outcome:
    """Exact only: a dict of normalised texts."""
    first: dict[str, str] = {}
    named = set()
    for one in records:
        other = first.setdefault(normalised(f"{one.prompt}\n{one.completion}"), one.id)
        if other != one.id:
            named |= {one.id, other}
    return outcome(named, records)


def datasketch(records: Sequence[Record]) -> Outcome:
    """Near on the whole record only, unverified: word 3-grams, threshold .7, its own choice of bands."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.7, num_perm=128)
    sets = []
    for one in records:
        words = normalised(f"{one.prompt}\n{one.completion}").split()
        sets.append([" ".join(words[at : at + 3]).encode() for at in range(max(1, len(words) - 2))])
    named: set[str] = set()
    for one, sketch in zip(records, MinHash.bulk(sets, num_perm=128), strict=True):
        near = index.query(sketch)
        named.update([*near, one.id] if near else [])
        index.insert(one.id, sketch)
    return outcome(named, records)


def main() -> None:
    """Run every way once on the same records and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    records = made(options.records, options.seed)
    ways: dict[str, Callable[[], Outcome]] = {"curate, numpy": lambda: ours(records, is_compiled=False)}
    if find_spec("numba"):
        ours(records[:50], is_compiled=True)  # compile outside the clock
        ways["curate, compiled"] = lambda: ours(records, is_compiled=True)
    ways["python dict (exact only)"] = lambda: python_set(records)
    if find_spec("datasketch"):
        ways["datasketch (1 field, unverified)"] = lambda: datasketch(records)
    else:
        print("datasketch is not installed, so it is left out")
    num_copies = options.records * 3 // 100
    print(f"{options.records:,} records, {num_copies:,} exact and {num_copies:,} edited copies planted")
    print(f"{'way':34} {'CPU s':>8} {'ratio':>7} {'exact':>7} {'edited':>7} {'named':>7}")
    base = 0.0
    for name, way in ways.items():
        start = time.process_time()
        exact, near, named = way()
        seconds = time.process_time() - start
        base = base or seconds
        print(f"{name:34} {seconds:8.2f} {seconds / base:7.2f} {exact:7,} {near:7,} {named:7,}")


if __name__ == "__main__":
    main()
