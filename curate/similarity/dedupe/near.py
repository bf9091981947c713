"""The distinct texts of one field, the buckets of their signatures, and the pairs that an exact check finds alike.

36 minima in 12 bands of 3: two texts at similarity J share a bucket with probability 1 - (1 - J**3)**12, which is .993
at 0.7 and .9998 at 0.8. Banding is loose on purpose, because every candidate is compared exactly afterwards. MinHash:
Broder 1997; banding: Indyk and Motwani 1998.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, Indices, mix
from curate.similarity.dedupe.results import Method, Scores
from curate.similarity.dedupe.shingles import (
    Cut,
    Flags,
    HashIndex,
    Ragged,
    Spans,
    blocks_of,
    distinct,
    is_head,
    popular_passages,
    ranges,
)

NUM_HASHES, NUM_BANDS = 36, 12
# What makes so many hash functions of one: its upper half by a fixed odd number, and its lower half, which is
# independent of it, added.
_MULTIPLIERS = mix(np.arange(1, NUM_HASHES + 1, dtype=np.uint64)).astype(np.uint32) | np.uint32(1)
# Texts whose minima are taken at once: few enough for the processor's cache.
_TEXTS = 256
# In buckets up to this size every pair is compared.
PAIRWISE_BUCKET = 128
# In larger buckets each text is compared with at most this many texts that head a group of their own.
MAX_LEADERS = 128
_MOST_PAIRS = 1 << 20
# Bits of a member's key that tell its row or pair, of which fewer are compared at once.
_MEMBER = 24


class Links(NamedTuple):
    """Verified pairs of texts (``left`` < ``right``) and their similarity."""

    left: Indices
    right: Indices
    scores: Scores

    def take(self, rows: Indices | Flags) -> Links:
        """Return the links ``rows``."""
        return Links(self.left[rows], self.right[rows], self.scores[rows])


NO_LINKS = Links(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class Alike(NamedTuple):
    """What is alike in one field of N records."""

    links: Links
    """Pairs of records that are the first with their texts."""
    heads: Indices
    """[N] The first record with the same text, itself where the text is too short to tell; -1 where it is empty."""
    cut: Cut
    num_skipped: int
    """Texts of crowded buckets that were not compared to the end."""


def compare_texts(spans: Spans, keys: Hashes, is_wanted: Flags, method: Method, fewest: int = 0) -> Alike:
    """Compare one text of each wanted record, known by its key; texts of less than ``fewest`` shingles tell nothing."""
    head = firsts(keys)
    is_said = is_wanted & (spans.lengths > 0)
    is_first = is_said & (head == np.arange(len(head)))
    first, of_record = np.flatnonzero(is_first), np.cumsum(is_first)[head] - 1
    texts, weights = spans.take(first), np.bincount(of_record[is_said], minlength=len(first))
    # Boilerplate is looked for in each field by itself.
    cut = Cut(method.ngram, popular_passages(texts, method.ngram, weights, keys[first, 0]))
    buckets, lengths = banded(texts, cut)
    links, num_skipped = linked(texts, cut, method.threshold, buckets, lengths >= max(1, fewest))
    is_short = np.append(lengths < fewest, False)[of_record]
    heads = np.where(is_said, np.where(is_short, np.arange(len(head)), head), -1)
    return Alike(Links(first[links.left], first[links.right], links.scores), heads, cut, num_skipped)


def banded(spans: Spans, cut: Cut) -> tuple[Hashes, Indices]:
    """Return the bucket of each text in each band, [12, N], and its number of shingles; none counts where that is 0."""
    parts = [_bands(cut, spans.take(block)) for block in spans.blocks()]
    buckets = [np.zeros((NUM_BANDS, 0), np.uint64), *(part for part, _ in parts)]
    return np.concatenate(buckets, axis=1), np.concatenate([np.zeros(0, np.int64), *(part for _, part in parts)])


def _bands(cut: Cut, spans: Spans) -> tuple[Hashes, Indices]:
    table = cut.shingles(spans)
    filled = np.flatnonzero(table.lengths > 0)
    lowest = _signatures(Ragged(table.hashes, np.append(table.offsets[filled], table.offsets[-1])))
    buckets = np.zeros((NUM_BANDS, len(spans)), np.uint64)
    for band, three in enumerate(np.split(lowest, NUM_BANDS, axis=1), start=1):
        key = np.full(len(filled), band, np.uint64)
        for minimum in three.T:
            key = mix(key ^ minimum)
        buckets[band - 1, filled] = key
    return buckets, table.lengths


def _signatures(of: Ragged) -> NDArray[np.uint32]:
    """Return the MinHash signature of each row, [N, 36]; every row must have at least one shingle."""
    lowest = np.empty((len(of.offsets) - 1, NUM_HASHES), np.uint32)
    for low in range(0, len(lowest), _TEXTS):
        high = min(low + _TEXTS, len(lowest))
        block = of.hashes[of.offsets[low] : of.offsets[high]]
        starts = of.offsets[low:high] - of.offsets[low]
        upper, lower = (block >> np.uint64(32)).astype(np.uint32), block.astype(np.uint32)
        mixed = np.empty_like(upper)
        for number, multiplier in enumerate(_MULTIPLIERS):
            np.multiply(upper, multiplier, out=mixed)
            mixed += lower
            lowest[low:high, number] = np.minimum.reduceat(mixed, starts)
    return lowest


def linked(spans: Spans, cut: Cut, threshold: float, buckets: Hashes, is_telling: Flags) -> tuple[Links, int]:
    """Return the pairs of texts whose similarity is at least ``threshold``, and how many were not compared to the end.

    Texts that are not telling match nothing.
    """
    rows, crowds = np.flatnonzero(is_telling), dict[bytes, Indices]()
    parts = [NO_LINKS]
    for left, right in _candidates(buckets[:, rows], crowds):
        pairs = Links(rows[left], rows[right], compare(spans, cut, rows[left], rows[right]))
        parts.append(pairs.take(pairs.scores >= threshold))
    num_skipped = 0
    for crowd in (rows[some] for some in crowds.values()):
        links, num_left = by_leaders(cut, threshold, spans.take(crowd))
        parts.append(Links(crowd[links.left], crowd[links.right], links.scores))
        num_skipped += num_left
    links = Links(*(np.concatenate(side) for side in zip(*parts, strict=True)))
    # Pairs from crowds may have met before.
    return links.take(np.unique(links.left * len(spans) + links.right, return_index=True)[1]), num_skipped


def _candidates(buckets: Hashes, crowds: dict[bytes, Indices]) -> Iterator[tuple[Indices, Indices]]:
    """Yield the pairs of rows that meet in a small bucket, each pair once, some at a time."""
    # The rows of large buckets go to ``crowds``: the same ones often crowd together in several bands, once is enough.
    for band, keys in enumerate(buckets):
        order, starts, sizes = _together(keys)
        for at in np.flatnonzero(sizes > PAIRWISE_BUCKET).tolist():
            crowd = order[starts[at] : starts[at] + sizes[at]]
            crowds[crowd.tobytes()] = crowd
            # No two of them have met in this band.
            keys[crowd] = crowd
        for size in distinct(sizes[sizes <= PAIRWISE_BUCKET]).tolist():
            heads = starts[sizes == size]
            one, other = np.triu_indices(size, 1)
            step = max(1, _MOST_PAIRS // len(one))
            for low in range(0, len(heads), step):
                grid = order[heads[low : low + step][:, None] + np.arange(size)]
                left, right = grid[:, one].ravel(), grid[:, other].ravel()
                has_met = np.zeros(len(left), np.bool_)
                for earlier in buckets[:band]:
                    has_met |= earlier[left] == earlier[right]
                yield left[~has_met], right[~has_met]


def _together(keys: Hashes) -> tuple[Indices, Indices, Indices]:
    """Return the rows that share their key with another, bucket after bucket, and where each begins and its size."""
    ordered = np.sort(keys)
    rows, numbers = HashIndex(distinct(ordered[1:][ordered[1:] == ordered[:-1]])).find(keys)
    rows = rows[np.argsort(numbers, kind="stable")]
    starts = np.flatnonzero(is_head(keys[rows]))
    return rows, starts, np.diff(np.append(starts, len(rows)))


def firsts(keys: Hashes) -> Indices:
    """Return for each of the keys, [N, 2], the number of the first one that equals it."""
    first = np.arange(len(keys))
    # The other half nearly never has a say.
    rows, _, _ = _together(keys[:, 0])
    rows = rows[np.lexsort((keys[rows, 1], keys[rows, 0]))]
    starts = np.flatnonzero(is_head(keys[rows]))
    first[rows] = np.repeat(rows[starts], np.diff(np.append(starts, len(rows))))
    return first


def by_leaders(cut: Cut, threshold: float, crowd: Spans) -> tuple[Links, int]:
    """Compare each text of a large bucket with the bucket's earlier texts that repeat none before them."""
    # That is linear in the bucket for each distinct group in it. After 128 groups the rest is left out and counted.
    sets = as_sets(cut.shingles(crowd))
    parts, waiting = [NO_LINKS], np.arange(len(crowd))
    for _ in range(MAX_LEADERS):
        if len(waiting) < 2:
            break
        leaders, others = np.full(len(waiting) - 1, waiting[0]), waiting[1:]
        pairs = Links(leaders, others, jaccard(sets, leaders, others))
        is_near = pairs.scores >= threshold
        parts.append(pairs.take(is_near))
        waiting = others[~is_near]
    return Links(*(np.concatenate(side) for side in zip(*parts, strict=True))), max(0, len(waiting) - 1)


def compare(spans: Spans, cut: Cut, left: Indices, right: Indices) -> Scores:
    """Return the exact Jaccard similarity of the shingles of the texts ``left[i]`` and ``right[i]``."""
    batches = by_batch(spans.lengths, left, right)
    scores = (jaccard(as_sets(cut.shingles(spans.take(rows))), first, second) for rows, first, second in batches)
    return np.concatenate([np.zeros(0), *scores])


def by_batch(sizes: Indices, left: Indices, right: Indices) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Yield pairs a bounded number of tokens at a time: the rows that some are about, and the pairs as places there.

    ``sizes`` has the tokens of each row.
    """
    for pairs in blocks_of(sizes[left] + sizes[right]):
        rows = distinct(np.concatenate([left[pairs], right[pairs]]))
        yield rows, np.searchsorted(rows, left[pairs]), np.searchsorted(rows, right[pairs])


def as_sets(of: Ragged) -> Ragged:
    """Return the different hashes of each row by their first 40 bits, sorted.

    Two different ones of a pair of texts with a thousand each have these in common once in a million pairs.
    """
    keys = distinct(_keyed(of.owners, of.hashes >> np.uint64(_MEMBER)))
    rows = np.arange(len(of.offsets)).astype(np.uint64) << np.uint64(64 - _MEMBER)
    return Ragged(keys & np.uint64((1 << 64 - _MEMBER) - 1), np.searchsorted(keys, rows).astype(np.int64))


def _keyed(rows: Indices, members: Hashes) -> Hashes:
    assert not len(rows) or rows.max() < 1 << _MEMBER
    return rows.astype(np.uint64) << np.uint64(64 - _MEMBER) | members


def jaccard(sets: Ragged, left: Indices, right: Indices) -> Scores:
    """Return the similarity of the rows ``left[i]`` and ``right[i]`` of sets; two empty ones have 0."""
    shared, sizes = num_shared(sets, left, right), sets.lengths
    return np.asarray(shared / np.maximum(1, sizes[left] + sizes[right] - shared))


def num_shared(sets: Ragged, left: Indices, right: Indices) -> Indices:
    """Return how many members the rows ``left[i]`` and ``right[i]`` of sets have in common."""
    sides = np.concatenate([left, right])
    counts = sets.lengths[sides]
    pairs = np.repeat(np.tile(np.arange(len(left)), 2), counts)
    keys = np.sort(_keyed(pairs, sets.hashes[ranges(sets.offsets[sides], counts)]))
    shared = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(64 - _MEMBER)
    return np.bincount(shared.astype(np.int64), minlength=len(left))
