"""Texts to sets of shingles: a shingle is ``ngram`` neighbouring tokens, known by a 64-bit hash that never changes.

A token's hash is a polynomial of its bytes; a shingle's hash joins the hashes of its tokens through the finaliser of
SplitMix64 (Steele, Lea, Flood 2014), so long repetitive texts cannot make it collide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

STEP = 0x9E3779B97F4A7C15
MIX_A = 0xBF58476D1CE4E5B9
MIX_B = 0x94D049BB133111EB
_CHUNK_UNITS = 1 << 18  # keeps the power tables in the processor's cache

SAMPLE = 5_000
"""Boilerplate is measured on at most this many texts."""
PASSAGE = 8
"""Fewest tokens of a passage that can be boilerplate; shorter ones are just common turns of phrase."""
BOILERPLATE_SHARE = 0.05
BOILERPLATE_COUNT = 20


@dataclass(frozen=True, slots=True)
class Ragged:
    """N rows of hashes of different length: row i is ``hashes[offsets[i]:offsets[i + 1]]``."""

    hashes: Hashes
    offsets: Indices

    @property
    def lengths(self) -> Indices:
        """Number of hashes of each row."""
        return np.diff(self.offsets)


def mix(hashes: Hashes) -> Hashes:
    """Scramble each hash so that every input bit moves every output bit."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(MIX_A)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(MIX_B)
    return hashes ^ (hashes >> np.uint64(31))


def tokens(texts: Sequence[str], *, by_character: bool) -> Ragged:
    """Hash the tokens of each text: what stands between blanks, or every character."""
    parts: list[Hashes] = []
    counts: list[Indices] = []
    for chunk in _chunks(texts):
        found, per_text = _characters(chunk) if by_character else _words(chunk)
        parts.append(found)
        counts.append(per_text)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.concatenate([np.zeros(0, np.int64), *counts]), out=offsets[1:])
    return Ragged(np.concatenate([np.zeros(0, np.uint64), *parts]), offsets)


def shingles(of: Ragged, ngram: int) -> Ragged:
    """Join every ``ngram`` neighbouring tokens; a text with fewer tokens is one shingle, an empty one has none."""
    counts = of.lengths
    joined = _windows(of.hashes, ngram)
    short = np.flatnonzero((counts > 0) & (counts < ngram))
    joined[of.offsets[short]] = _whole(of, short)
    per_text = np.where(counts > 0, np.maximum(1, counts - ngram + 1), 0)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(per_text, out=offsets[1:])
    places = np.arange(int(offsets[-1])) + np.repeat(of.offsets[:-1] - offsets[:-1], per_text)
    return Ragged(joined[places], offsets)


def _windows(hashes: Hashes, ngram: int) -> Hashes:
    """Hash the ``ngram`` tokens from each place on, by windows of 1, 2, 4, ... tokens: log n passes instead of n."""
    total = len(hashes)
    window, width = np.concatenate([hashes, np.zeros(ngram, np.uint64)]), 1
    joined, covered = np.zeros(total, np.uint64), 0
    while covered < ngram:
        if ngram & width:
            joined = mix(joined * np.uint64(STEP) + window[covered : covered + total])
            covered += width
        window = mix(window * np.uint64(STEP) + np.concatenate([window[width:], np.zeros(width, np.uint64)]))
        width *= 2
    return joined


def _whole(of: Ragged, rows: Indices) -> Hashes:
    """Hash all tokens of each of ``rows``, which are shorter than a shingle."""
    starts, counts = of.offsets[:-1][rows], of.lengths[rows]
    joined = counts.astype(np.uint64)
    for place in range(int(counts.max(initial=0))):
        has_one = counts > place
        joined[has_one] = mix(joined[has_one] * np.uint64(STEP) + of.hashes[starts[has_one] + place])
    return joined


def without_boilerplate(of: Ragged, ngram: int, weights: Indices) -> tuple[Ragged, int]:
    """Return the shingles of each text less those within boilerplate, and how many different passages that is.

    Boilerplate is a passage of at least 8 tokens that more than 5 % of the records (and more than 20) have in common,
    such as a fixed instruction. It would make every two records that carry it look alike, although only the rest
    counts. ``of`` holds tokens, and ``weights`` the number of records of each text.
    """
    table, width = shingles(of, ngram), max(PASSAGE, ngram)
    rows = np.flatnonzero(of.lengths >= width)
    starts = np.concatenate([[0], np.cumsum(of.lengths[rows] - width + 1)]).astype(np.int64)
    place = np.arange(int(starts[-1])) + np.repeat(of.offsets[:-1][rows] - starts[:-1], np.diff(starts))
    passages = Ragged(_windows(of.hashes, width)[place], starts)
    popular = _popular(passages, weights[rows], int(weights.sum()))
    if not len(popular):
        return table, 0
    near = np.minimum(np.searchsorted(popular, passages.hashes), len(popular) - 1)
    is_popular = popular[near] == passages.hashes
    # A passage that starts at a place holds the shingles from there to width - ngram places on.
    first = (np.arange(len(place)) + np.repeat(table.offsets[:-1][rows] - starts[:-1], np.diff(starts)))[is_popular]
    edges = np.zeros(len(table.hashes) + 1, np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, first + (width - ngram + 1), -1)
    is_kept = np.cumsum(edges[:-1]) == 0
    running = np.concatenate([[0], np.cumsum(is_kept)]).astype(np.int64)
    return Ragged(table.hashes[is_kept], running[table.offsets]), len(popular)


def _popular(of: Ragged, weights: Indices, num_records: int) -> Hashes:
    """Return the hashes that stand in more than the allowed share of the records, sorted; measured on a sample."""
    rows, total = np.arange(len(weights)), num_records
    if len(rows) > SAMPLE:
        # Picked by content, so that the order of the records has no say.
        rows = np.sort(np.argsort(mix(np.add.reduceat(of.hashes, of.offsets[:-1])), kind="stable")[:SAMPLE])
        total = int(num_records * weights[rows].sum() / weights.sum())
    if num_records <= BOILERPLATE_COUNT:
        return np.zeros(0, np.uint64)
    sets = Sets.of(of, rows)
    owners = weights[rows][np.repeat(np.arange(len(rows)), np.diff(sets.offsets))]
    counts = np.bincount(sets.members, weights=owners, minlength=len(sets.universe))
    return sets.universe[counts > max(BOILERPLATE_COUNT / num_records, BOILERPLATE_SHARE) * total]


@dataclass(frozen=True, slots=True)
class Sets:
    """Some rows as sorted sets of small numbers, for exact comparison: no two different hashes share a number."""

    rows: Indices
    members: Indices
    offsets: Indices
    universe: Hashes

    @staticmethod
    def of(table: Ragged, rows: Indices) -> Sets:
        """Build the sets of ``rows`` (sorted, distinct row numbers)."""
        counts = table.lengths[rows]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.arange(int(starts[-1])) + np.repeat(table.offsets[:-1][rows] - starts[:-1], counts)
        universe, numbers = np.unique(table.hashes[places], return_inverse=True)
        width = max(1, len(universe))
        keys = np.unique(np.repeat(np.arange(len(rows)), counts) * width + numbers)
        offsets = np.searchsorted(keys, np.arange(len(rows) + 1) * width).astype(np.int64)
        return Sets(rows, keys % width, offsets, universe)

    def places(self, rows: Indices) -> Indices:
        """Return where ``rows`` stand among the rows of this table."""
        return np.searchsorted(self.rows, rows).astype(np.int64)


def jaccard(sets: Sets, left: Indices, right: Indices) -> NDArray[np.float64]:
    """Return the exact Jaccard similarity of the rows ``left[i]`` and ``right[i]``; two empty sets have 0."""
    one, two = sets.places(left), sets.places(right)
    sizes = np.diff(sets.offsets)
    scores = np.zeros(len(one))
    for low, high in _pair_chunks(sizes[one] + sizes[two]):
        shared = _shared(sets, one[low:high], two[low:high])
        scores[low:high] = shared / np.maximum(1, sizes[one[low:high]] + sizes[two[low:high]] - shared)
    return scores


def _shared(sets: Sets, one: Indices, two: Indices) -> Indices:
    width = max(1, len(sets.universe))
    sides = np.concatenate([one, two])
    counts = np.diff(sets.offsets)[sides]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.arange(int(starts[-1])) + np.repeat(sets.offsets[:-1][sides] - starts[:-1], counts)
    pair = np.repeat(np.tile(np.arange(len(one)), 2), counts)
    keys = np.sort(pair * width + sets.members[places])
    return np.bincount(keys[1:][keys[1:] == keys[:-1]] // width, minlength=len(one)).astype(np.int64)


def _pair_chunks(sizes: Indices) -> Iterator[tuple[int, int]]:
    limit, low, total = 1 << 22, 0, 0
    for place, size in enumerate(sizes.tolist()):
        if total and total + size > limit:
            yield low, place
            low, total = place, 0
        total += size
    if low < len(sizes):
        yield low, len(sizes)


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    low, total = 0, 0
    for place, text in enumerate(texts):
        total += len(text)
        if total > _CHUNK_UNITS:
            yield texts[low : place + 1]
            low, total = place + 1, 0
    if low < len(texts):
        yield texts[low:]


def _words(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    units = np.frombuffer("\n".join(texts).encode("utf-8", "surrogatepass"), np.uint8)
    is_gap = np.concatenate([[True], (units == 32) | (units == 10), [True]])
    starts = np.flatnonzero(is_gap[:-1] & ~is_gap[1:])
    ends = np.flatnonzero(~is_gap[:-1] & is_gap[1:])
    breaks = np.concatenate([[0], np.flatnonzero(units == 10), [len(units)]])
    return _polynomials(units, starts, ends), np.diff(np.searchsorted(starts, breaks)).astype(np.int64)


def _characters(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    units = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    return mix(units.astype(np.uint64) + np.uint64(1)), np.array([len(text) for text in texts], np.int64)


def _polynomials(units: NDArray[np.uint8], starts: Indices, ends: Indices) -> Hashes:
    """Hash each span as the sum of (unit + 1) * STEP**place: a difference of running sums, shifted to place 0."""
    # Tables are cached by a rounded size, because every chunk needs about the same.
    size = 1 << len(units).bit_length()
    powers, inverses = _powers(STEP, size), _powers(pow(STEP, -1, 1 << 64), size)
    running = np.zeros(len(units) + 1, np.uint64)
    np.cumsum((units.astype(np.uint64) + np.uint64(1)) * powers[: len(units)], out=running[1:])
    return mix((running[ends] - running[starts]) * inverses[starts])


@lru_cache(maxsize=4)
def _powers(root: int, count: int) -> Hashes:
    table = np.ones(count, np.uint64)
    done = 1
    while done < count:
        step = min(done, count - done)
        table[done : done + step] = table[:step] * np.uint64(pow(root, done, 1 << 64))
        done += step
    return table
