"""Candidates by MinHash and banding, each verified by exact Jaccard.

64 minima in 16 bands of 4: two texts at similarity J share a bucket with probability 1 - (1 - J**4)**16, which is .988
at 0.7 and .9998 at 0.8. Banding is loose on purpose, because every candidate is compared exactly afterwards. MinHash:
Broder 1997; banding: Indyk and Motwani 1998.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.boilerplate import Cut, cut_texts
from curate.dedupe.clean import Cleaned, clean
from curate.dedupe.shingles import Ragged, Sets, Spans, distinct, jaccard
from curate.hashing import Hashes, Indices, mix

NUM_HASHES = 64
NUM_BANDS = 16
ROWS = NUM_HASHES // NUM_BANDS
PAIRWISE_BUCKET = 128
"""In buckets up to this size every pair is compared."""
MAX_LEADERS = 128
"""In larger buckets each text is compared with at most this many texts that head a group of their own."""
LOWEST = 0.4
"""Candidates below this similarity are not counted in the histogram."""
NUM_BARS = 12
_BLOCK = 256
_ROWS = 2048
_PAIRS = 1 << 20
_TOKENS = 1 << 22

Signatures = NDArray[np.uint32]
Scores = NDArray[np.float64]


class Bands(NamedTuple):
    """The bucket of each text in each band, [16, N], and its number of shingles; no bucket counts where that is 0."""

    keys: Hashes
    lengths: Indices


class Kernels(NamedTuple):
    """The inner loops, in numpy or compiled; both find the same."""

    clean: Callable[[Sequence[str]], Cleaned]
    bands: Callable[[Spans, Cut], Bands]
    sets: Callable[[Spans, Cut], Sets]
    jaccard: Callable[[Sets, Indices, Indices], Scores]


@dataclass(frozen=True, slots=True)
class Links:
    """Verified pairs of texts (``left`` < ``right``), their similarity, and what else the comparison has seen."""

    left: Indices
    right: Indices
    scores: Scores
    num_skipped: int
    """Texts of crowded buckets that were not compared to the end."""
    bars: Indices
    """Candidates compared, by similarity: twelve bars from 0.4 to 1."""

    def take(self, rows: Indices) -> Links:
        """Return the links ``rows``."""
        return replace(self, left=self.left[rows], right=self.right[rows], scores=self.scores[rows])


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
        mixed, shifted = np.empty_like(upper), np.empty_like(upper)
        for place in range(NUM_HASHES):
            np.bitwise_xor(upper, masks[place], out=mixed)
            mixed *= multipliers[place]
            mixed += lower
            np.right_shift(mixed, np.uint32(15), out=shifted)
            mixed ^= shifted
            found[low:high, place] = np.minimum.reduceat(mixed, starts)
    return found


def bands(spans: Spans, cut: Cut) -> Bands:
    """Return the bucket of each text in each band, and its number of shingles."""
    keys = np.zeros((NUM_BANDS, len(spans)), np.uint64)
    lengths = np.zeros(len(spans), np.int64)
    for low in range(0, len(spans), _ROWS):
        rows = np.arange(low, min(low + _ROWS, len(spans)))
        table = cut_texts(spans.take(rows).hashed(), cut)
        lengths[rows] = table.lengths
        filled = np.flatnonzero(table.lengths > 0)
        if not len(filled):
            continue
        found = signatures(Ragged(table.hashes, np.append(table.offsets[filled], table.offsets[-1])))
        for band in range(NUM_BANDS):
            key = np.full(len(filled), band + 1, np.uint64)
            for place in range(band * ROWS, (band + 1) * ROWS):
                key = mix(key ^ found[:, place])
            keys[band, rows[filled]] = key
    return Bands(keys, lengths)


def sets(spans: Spans, cut: Cut) -> Sets:
    """Return the shingles of each text as a set."""
    return Sets.of(cut_texts(spans.hashed(), cut))


NUMPY = Kernels(clean, bands, sets, jaccard)


def batches(sizes: Indices) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of neighbouring rows that together have a bounded number of tokens."""
    ends = np.cumsum(sizes)
    low = 0
    while low < len(sizes):
        limit = _TOKENS + (ends[low - 1] if low else 0)
        high = max(low + 1, min(low + _PAIRS, int(np.searchsorted(ends, limit, side="right"))))
        yield low, high
        low = high


def compare(spans: Spans, cut: Cut, left: Indices, right: Indices, kernels: Kernels) -> Scores:
    """Return the exact similarity of the texts ``left[i]`` and ``right[i]``, a bounded number of them at a time."""
    scores = np.zeros(len(left))
    for low, high in batches(spans.ends[left] - spans.starts[left] + spans.ends[right] - spans.starts[right]):
        rows = distinct(np.concatenate([left[low:high], right[low:high]]))
        found = kernels.sets(spans.take(rows), cut)
        one, two = np.searchsorted(rows, left[low:high]), np.searchsorted(rows, right[low:high])
        scores[low:high] = kernels.jaccard(found, one, two)
    return scores


def links(
    spans: Spans,
    cut: Cut,
    threshold: float,
    found: Bands,
    kernels: Kernels,
    seen: Callable[[int], None] = lambda _: None,
) -> Links:
    """Find the pairs of texts whose similarity is at least ``threshold``. Texts without shingles match nothing.

    ``seen`` is told how many of the bands are done.
    """
    rows = np.flatnonzero(found.lengths > 0)
    parts: list[tuple[Indices, Indices, Scores]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    bars = np.zeros(NUM_BARS, np.int64)
    keys = found.keys if len(rows) == len(found.lengths) else found.keys[:, rows]
    crowds: dict[bytes, Indices] = {}
    for left, right in _gathered(_meeting(keys, crowds, seen)):
        scores = compare(spans, cut, rows[left], rows[right], kernels)
        bars += np.histogram(scores, NUM_BARS, (LOWEST, 1.0))[0]
        is_near = scores >= threshold
        parts.append((rows[left[is_near]], rows[right[is_near]], scores[is_near]))
    skipped = 0
    for crowd in crowds.values():
        left, right, scores, num_left_out = by_leaders(spans, cut, rows[crowd], threshold, kernels)
        parts.append((left, right, scores))
        skipped += num_left_out
    left, right, scores = (np.concatenate(side) for side in zip(*parts, strict=True))
    # Pairs from crowds may have met before.
    _, first = np.unique(left * len(spans) + right, return_index=True)
    return Links(left[first], right[first], scores[first], skipped, bars)


def _gathered(pairs: Iterator[tuple[Indices, Indices]]) -> Iterator[tuple[Indices, Indices]]:
    """Join small parts until there is enough to compare at once, so that the set of a text is made seldom."""
    held: list[tuple[Indices, Indices]] = []
    for part in pairs:
        held.append(part)
        if sum(len(left) for left, _ in held) >= _PAIRS:
            yield np.concatenate([left for left, _ in held]), np.concatenate([right for _, right in held])
            held = []
    if held:
        yield np.concatenate([left for left, _ in held]), np.concatenate([right for _, right in held])


def _meeting(
    keys: Hashes, crowds: dict[bytes, Indices], seen: Callable[[int], None]
) -> Iterator[tuple[Indices, Indices]]:
    """Yield the pairs of rows that meet in a small bucket, each pair once, some at a time.

    The rows of large buckets go to ``crowds``: the same ones often crowd together in several bands, once is enough.
    """
    is_crowded = np.zeros(keys.shape, bool)
    for band in range(len(keys)):
        order, starts, sizes = buckets(keys[band])
        for at in np.flatnonzero(sizes > PAIRWISE_BUCKET).tolist():
            crowd = order[starts[at] : starts[at] + sizes[at]]
            crowds[crowd.tobytes()] = crowd
            is_crowded[band, crowd] = True
        for left, right in grids(order, starts, sizes):
            is_new = np.ones(len(left), bool)
            for earlier in range(band):
                row = keys[earlier]
                is_new &= (row[left] != row[right]) | is_crowded[earlier, left]
            yield left[is_new], right[is_new]
        seen(band + 1)


def grids(order: Indices, starts: Indices, sizes: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield all pairs within each small bucket, buckets of one size together."""
    for size in np.flatnonzero(np.bincount(sizes[sizes <= PAIRWISE_BUCKET], minlength=2)).tolist():
        firsts = starts[sizes == size]
        one, two = np.triu_indices(size, 1)
        step = max(1, _PAIRS // len(one))
        for low in range(0, len(firsts), step):
            grid = order[firsts[low : low + step][:, None] + np.arange(size)]
            yield grid[:, one].ravel(), grid[:, two].ravel()


def buckets(keys: Hashes) -> tuple[Indices, Indices, Indices]:
    """Return the rows that share their key with another, bucket after bucket, and where each begins and its size."""
    ordered = np.sort(keys)
    shared = distinct(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(shared):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.flatnonzero(_may_share(keys, shared))
    near = np.minimum(np.searchsorted(shared, keys[rows]), len(shared) - 1)
    is_shared = shared[near] == keys[rows]
    rows, near = rows[is_shared], near[is_shared]
    order = np.argsort(near, kind="stable")
    sizes = np.bincount(near, minlength=len(shared)).astype(np.int64)
    return rows[order], np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64), sizes


def _may_share(keys: Hashes, shared: Hashes) -> NDArray[np.bool_]:
    """Whether each key may be one of ``shared``, by a table of their last bits (Bloom 1970, with one hash)."""
    bits = np.uint64((1 << min(24, max(16, len(shared).bit_length() + 4))) - 1)
    table = np.zeros(int(bits) + 1, bool)
    table[shared & bits] = True
    found: NDArray[np.bool_] = table[keys & bits]
    return found


def by_leaders(
    spans: Spans, cut: Cut, bucket: Indices, threshold: float, kernels: Kernels
) -> tuple[Indices, Indices, Scores, int]:
    """Compare each row of a large bucket with the bucket's earlier rows that repeat none before them.

    That is linear in the bucket for each distinct group in it. After 128 groups the rest is left out and counted.
    """
    found = kernels.sets(spans.take(bucket), cut)
    left, right, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    waiting = np.arange(len(bucket))
    for _ in range(MAX_LEADERS):
        if len(waiting) < 2:
            break
        leaders, rest = np.full(len(waiting) - 1, waiting[0]), waiting[1:]
        alike = kernels.jaccard(found, leaders, rest)
        is_near = alike >= threshold
        left.append(bucket[leaders[is_near]])
        right.append(bucket[rest[is_near]])
        scores.append(alike[is_near])
        waiting = rest[~is_near]
    return np.concatenate(left), np.concatenate(right), np.concatenate(scores), max(0, len(waiting) - 1)
