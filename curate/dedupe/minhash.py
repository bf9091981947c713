"""Candidates by MinHash and banding, each verified by exact Jaccard.

64 minima in 16 bands of 4: two texts at similarity J share a bucket with probability 1 - (1 - J**4)**16, which is .988
at 0.7 and .9998 at 0.8. Banding is loose on purpose, because every candidate is compared exactly afterwards. MinHash:
Broder 1997; banding: Indyk and Motwani 1998.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.shingles import Hashes, Indices, Ragged, Sets, jaccard, mix, tokens

NUM_HASHES = 64
NUM_BANDS = 16
ROWS = NUM_HASHES // NUM_BANDS
PAIRWISE_BUCKET = 128
"""In buckets up to this size every pair is compared."""
MAX_LEADERS = 128
"""In larger buckets each text is compared with at most this many texts that head a group of their own."""
_BLOCK = 256

Signatures = NDArray[np.uint32]
Scores = NDArray[np.float64]


class Kernels(NamedTuple):
    """The three inner loops, in numpy or compiled; both give the same numbers."""

    tokens: Callable[..., Ragged]
    signatures: Callable[[Ragged], Signatures]
    jaccard: Callable[[Sets, Indices, Indices], Scores]


@dataclass(frozen=True, slots=True)
class Links:
    """Verified pairs of texts (``left`` < ``right``), their similarity, and how many comparisons were left out."""

    left: Indices
    right: Indices
    scores: Scores
    num_skipped: int


def coefficients() -> tuple[Signatures, Signatures]:
    """Return the fixed odd multipliers and masks of the 64 hash functions."""
    numbers = mix(np.arange(1, 2 * NUM_HASHES + 1, dtype=np.uint64)).astype(np.uint32)
    return numbers[:NUM_HASHES] | np.uint32(1), numbers[NUM_HASHES:]


def signatures(of: Ragged) -> Signatures:
    """Return the MinHash signature of each row, [N, 64]; every row must have at least one shingle."""
    multipliers, masks = coefficients()
    found = np.empty((len(of.offsets) - 1, NUM_HASHES), np.uint32)
    for low in range(0, len(found), _BLOCK):
        high = min(low + _BLOCK, len(found))
        block = of.hashes[of.offsets[low] : of.offsets[high]]
        starts = of.offsets[low:high] - of.offsets[low]
        upper, lower = (block >> np.uint64(32)).astype(np.uint32), block.astype(np.uint32)
        for place in range(NUM_HASHES):
            mixed = (upper ^ masks[place]) * multipliers[place] + lower
            mixed ^= mixed >> np.uint32(15)
            found[low:high, place] = np.minimum.reduceat(mixed, starts)
    return found


NUMPY = Kernels(tokens, signatures, jaccard)


def links(of: Ragged, threshold: float, kernels: Kernels) -> Links:
    """Find the pairs of rows whose similarity is at least ``threshold``. Rows without shingles match nothing."""
    rows = np.flatnonzero(of.lengths > 0)
    filled = Ragged(of.hashes, np.append(of.offsets[rows], of.offsets[-1]))
    small, large = _buckets(kernels.signatures(filled)) if len(rows) > 1 else (np.zeros((0, 2), np.int64), [])
    pairs = rows[small]
    sets = Sets.of(of, np.unique(pairs))
    scores = kernels.jaccard(sets, pairs[:, 0], pairs[:, 1])
    found = [(pairs[:, 0], pairs[:, 1], scores)]
    skipped = 0
    for bucket in large:
        left, right, bucket_scores, num_left_out = _by_leaders(of, rows[bucket], threshold, kernels)
        found.append((left, right, bucket_scores))
        skipped += num_left_out
    left, right, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    is_near = scores >= threshold
    _, first = np.unique(left[is_near] * len(of.offsets) + right[is_near], return_index=True)
    return Links(left[is_near][first], right[is_near][first], scores[is_near][first], skipped)


def _buckets(found: Signatures) -> tuple[Indices, list[Indices]]:
    """Return all pairs of rows that meet in a small bucket, [P, 2], and the rows of each large one."""
    keys = _band_keys(found)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, len(ordered)))
    members = order % len(found)
    pairs = [np.zeros((0, 2), np.int64)]
    for size in np.unique(sizes[(sizes > 1) & (sizes <= PAIRWISE_BUCKET)]).tolist():
        grid = members[starts[sizes == size][:, None] + np.arange(size)]
        one, two = np.triu_indices(size, 1)
        pairs.append(np.stack([grid[:, one].ravel(), grid[:, two].ravel()], axis=1))
    together = np.concatenate(pairs)
    distinct = np.unique(together[:, 0] * len(found) + together[:, 1])
    crowds = [members[starts[at] : starts[at] + sizes[at]] for at in np.flatnonzero(sizes > PAIRWISE_BUCKET)]
    # The same rows often crowd together in several bands; once is enough.
    large = {rows.tobytes(): rows for rows in crowds}
    return np.stack([distinct // len(found), distinct % len(found)], axis=1), list(large.values())


def _band_keys(found: Signatures) -> Hashes:
    """Return the bucket of each row in each band, [16 * N], band after band."""
    bands = []
    for band in range(NUM_BANDS):
        key = np.full(len(found), band + 1, np.uint64)
        for place in range(band * ROWS, (band + 1) * ROWS):
            key = mix(key ^ found[:, place])
        bands.append(key)
    return np.concatenate(bands)


def _by_leaders(
    of: Ragged, bucket: Indices, threshold: float, kernels: Kernels
) -> tuple[Indices, Indices, Scores, int]:
    """Compare each row of a large bucket with the bucket's earlier rows that repeat none before them.

    That is linear in the bucket for each distinct group in it. After 128 groups the rest is left out and counted.
    """
    sets = Sets.of(of, bucket)
    left, right, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    waiting = bucket
    for _ in range(MAX_LEADERS):
        if len(waiting) < 2:
            return np.concatenate(left), np.concatenate(right), np.concatenate(scores), 0
        leaders, rest = np.full(len(waiting) - 1, waiting[0]), waiting[1:]
        found = kernels.jaccard(sets, leaders, rest)
        is_near = found >= threshold
        left.append(leaders[is_near])
        right.append(rest[is_near])
        scores.append(found[is_near])
        waiting = rest[~is_near]
    return np.concatenate(left), np.concatenate(right), np.concatenate(scores), max(0, len(waiting) - 1)
