"""Texts that share a bucket: signatures are made where the texts are, and a shuffle brings equal bands together.

The keys of a band take 12 bytes a text, 192 over all bands of a field. Fields are shuffled one after the other, each in
as many rounds as it takes to fit into the memory of the workers; from the second round on its keys come from the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from curate.dedupe.boilerplate import Cut
from curate.dedupe.minhash import NUM_BANDS, PAIRWISE_BUCKET, Bands, buckets, grids
from curate.dedupe.text import Field
from curate.hashing import Indices
from curate.scale.cluster import Cluster, Job, Parts
from curate.scale.equal import Equal, among, packed, together
from curate.scale.sample import inside
from curate.scale.texts import Texts, shelf_of

ROUND_BYTES = 1 << 30
"""Keys that one worker holds in a round, about."""
BUCKET = 1 << 24
"""Keys of one bucket, about; a worker holds 12 bytes of each, and some 40 while it sorts them."""
COMPACT = 1 << 22


class Candidates(NamedTuple):
    """Pairs of texts that share a small bucket, each once, and crowds that share a large one; by number of record."""

    left: Indices
    right: Indices
    crowds: list[Indices]


class Plan(NamedTuple):
    """How the bands of a field are divided: ``num_slices`` buckets a band, shuffled in ``num_rounds``."""

    num_slices: int
    num_rounds: int

    @staticmethod
    def of(num_records: int, num_workers: int) -> Plan:
        """Return the plan for so many records and workers."""
        num_bytes = 12 * NUM_BANDS * num_records
        return Plan(max(1, num_records // BUCKET), max(1, -(-num_bytes // (ROUND_BYTES * num_workers))))


def candidates(
    cluster: Cluster, texts: Texts, field: Field, gone: Indices, equal: Equal, cut: Cut, plan: Plan
) -> Candidates:
    """Return the candidates of one field, those that `curate.dedupe.minhash.links` would compare.

    ``gone`` records are left out, and of those with an ``equal`` text all but the first.
    """
    pairs: list[tuple[Indices, Indices]] = []
    crowds: dict[bytes, Indices] = {}
    tasks = [(number, inside(gone, number), inside(equal.numbers, number)) for number in range(len(texts.shards))]
    for turn in range(plan.num_rounds):
        split = Job("curate.scale.candidates.Banding", (texts, field, cut, plan, turn), is_split=True)
        for left, right, crowded in cluster.shuffled(split, tasks, Job("curate.scale.candidates.Meeting", ())):
            pairs.append((left, right))
            crowds.update((crowd.tobytes(), crowd) for crowd in crowded)
            if sum(len(part) for part, _ in pairs[1:]) > COMPACT:
                pairs = [distinct_pairs(pairs)]
    return Candidates(*distinct_pairs(pairs), list(crowds.values()))


def distinct_pairs(parts: Sequence[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    """Return the different pairs, sorted."""
    left, right = (
        (np.concatenate([np.zeros(0, np.int64), *side]) for side in zip(*parts, strict=True))
        if parts
        else (np.zeros(0, np.int64),) * 2
    )
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    is_new = np.ones(len(left), bool)
    is_new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return left[is_new], right[is_new]


class Banding:
    """Gives the bands of a span's texts to buckets, by band and key."""

    def __init__(self, texts: Texts, field: Field, cut: Cut, plan: Plan, turn: int) -> None:
        self._shelf = shelf_of(texts)
        self._field = field
        self._cut = cut
        self._plan = plan
        self._turn = turn

    def __call__(self, task: tuple[int, Indices, Indices]) -> Parts:
        """Return a part for each bucket."""
        number, gone, repeats = task
        numbers, spans = self._shelf.numbers(number), self._shelf.corpus(number).spans(self._field)
        num_slices, num_rounds = self._plan
        rows = np.flatnonzero((spans.ends > spans.starts) & ~among(gone, numbers) & ~among(repeats, numbers))
        found = self._bands(number, rows)
        filled = np.flatnonzero(found.lengths > 0)
        parts = Parts()
        for band in range(NUM_BANDS if len(filled) else 0):
            keys = found.keys[band, filled]
            slices = keys % np.uint64(num_slices)
            for one in range(num_slices):
                bucket = band * num_slices + one
                if bucket % num_rounds == self._turn:
                    chosen = slices == one
                    parts.append((bucket, packed(0, number, keys[chosen, None], rows[filled[chosen]])))
        return parts

    def _bands(self, number: int, rows: Indices) -> Bands:
        spans, cut = self._shelf.corpus(number).spans(self._field), self._cut
        if self._plan.num_rounds == 1:
            return self._shelf.kernels.bands(spans.take(rows), cut)
        about = (number, self._field, rows, cut.ngram, cut.popular)
        held = self._shelf.stages.arrays(
            "bands", about, lambda: self._shelf.kernels.bands(spans.take(rows), cut)._asdict()
        )
        return Bands(held["keys"], held["lengths"])


class Meeting:
    """Finds the texts of a band that share a bucket."""

    def __call__(self, parts: Sequence[bytes]) -> tuple[Indices, Indices, list[Indices]]:
        """Return the pairs of small buckets, and the members of large ones."""
        _, keys, numbers = together(parts, 1)
        order, starts, sizes = buckets(keys[:, 0])
        crowds = [
            numbers[order[starts[at] : starts[at] + sizes[at]]]
            for at in np.flatnonzero(sizes > PAIRWISE_BUCKET).tolist()
        ]
        left, right = distinct_pairs([(numbers[one], numbers[two]) for one, two in grids(order, starts, sizes)])
        return left, right, crowds
