"""Tokens of texts to shingles: ``ngram`` neighbouring tokens, known by a 64-bit hash that never changes.

A shingle's hash is a polynomial of its tokens' hashes (Karp and Rabin 1987), mixed as each token's hash is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import STEP, Hashes, Indices, mix

Field = Literal["record", "prompt", "completion"]
FIELDS: tuple[Field, ...] = ("record", "prompt", "completion")
Flags = NDArray[np.bool_]
_Number = TypeVar("_Number", np.int64, np.uint64)

# Bits of the hash of a word: it is a number; it is one character of a script that is written without blanks; there is
# a quotation mark before it, or, the next bit, behind it; a comma is behind it and more of the text. These `MARKS` tell
# whether texts are the same word for word, and make them no less alike.
NUMBER, CHARACTER, QUOTED, COMMA = 1, 2, 8, 32
MARKS = 3 * QUOTED | COMMA
# The token between two parts of a prompt; no word has it.
BREAK = 4

# Boilerplate is measured on at most this many texts.
SAMPLE = 5_000
# Fewest tokens of a passage that can be boilerplate; shorter ones are just common turns of phrase.
PASSAGE = 8
SHARE = 0.05
COUNT = 20
# Tokens that are taken at once.
BLOCK = 1 << 17


@dataclass(frozen=True, slots=True)
class Ragged:
    """N rows of hashes of different length: row i is ``hashes[offsets[i]:offsets[i + 1]]``."""

    hashes: Hashes
    offsets: Indices

    @property
    def lengths(self) -> Indices:
        """Number of hashes of each row."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Indices:
        """The row of each hash."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def where(self, is_retained: Flags) -> Ragged:
        """Return the rows with those hashes alone."""
        return Ragged(self.hashes[is_retained], ends_of(is_retained)[self.offsets])


@dataclass(frozen=True, slots=True)
class Spans:
    """N texts as stretches of one array of tokens, which are words by their hash."""

    tokens: Hashes
    starts: Indices
    ends: Indices

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Indices:
        """Number of tokens of each text."""
        return self.ends - self.starts

    def take(self, rows: Indices | slice) -> Spans:
        """Return the texts ``rows``."""
        return Spans(self.tokens, self.starts[rows], self.ends[rows])

    def hashed(self) -> Ragged:
        """Return the tokens of all texts, one text after the other."""
        if np.array_equal(self.starts[1:], self.ends[:-1]):
            tokens = self.tokens[self.starts[0] : self.ends[-1]] if len(self) else self.tokens[:0]
        else:
            # Five times as fast as one index for all of them.
            stretches = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
            tokens = np.concatenate([self.tokens[start:end] for start, end in stretches])
        # What lies in a file is an array like any other from here on.
        return Ragged(np.asarray(tokens), ends_of(self.lengths))

    def parts(self) -> tuple[Spans, Indices]:
        """Return the parts of the texts, one text's after another's, and the text of each."""
        of = self.hashed()
        breaks = np.flatnonzero(of.hashes == BREAK)
        # A part begins where its text does or behind a break, and ends at a break or where its text does.
        starts, ends = np.sort(np.append(of.offsets[:-1], breaks + 1)), np.sort(np.append(of.offsets[1:], breaks))
        counts = 1 + np.bincount(np.searchsorted(of.offsets, breaks, side="right") - 1, minlength=len(self))
        return Spans(of.hashes, starts, ends), np.repeat(np.arange(len(self)), counts)

    def blocks(self) -> Iterator[slice]:
        """Yield the texts a bounded number of tokens at a time."""
        yield from blocks_of(self.lengths)


def blocks_of(sizes: Indices) -> Iterator[slice]:
    """Yield stretches of what takes ``sizes``, each of 2**17 or less unless a single one takes more."""
    ends, low = np.cumsum(sizes), 0
    while low < len(sizes):
        limit = BLOCK + (ends[low - 1] if low else 0)
        high = max(low + 1, int(np.searchsorted(ends, limit, side="right")))
        yield slice(low, high)
        low = high


def ends_of(counts: NDArray[Any]) -> Indices:
    """Return where each of some rows begins that have so many entries, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def ranges(starts: Indices, counts: Indices) -> Indices:
    """Return ``counts[i]`` numbers from ``starts[i]`` on, for one i after the other."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


def distinct(numbers: NDArray[_Number]) -> NDArray[_Number]:
    """Return the different ``numbers``, sorted; `np.unique` takes ten times as long without an inverse."""
    ordered = np.sort(numbers)
    unique: NDArray[_Number] = ordered[is_head(ordered)]
    return unique


def is_head(ordered: NDArray[Any]) -> Flags:
    """Return whether each of some sorted numbers, or of some rows of them, differs from the one before it."""
    is_other = ordered[1:] != ordered[:-1]
    is_other = is_other if ordered.ndim == 1 else is_other.any(axis=1)
    return np.append(True, is_other)[: len(ordered)]


def covered(begins: Indices, width: int | Indices, total: int) -> Flags:
    """Return which of ``total`` places one of the stretches of ``width`` from ``begins`` on covers."""
    edges = np.zeros(total + 1, np.int64)
    np.add.at(edges, begins, 1)
    np.add.at(edges, np.minimum(begins + width, total), -1)
    return np.asarray(np.cumsum(edges[:-1]) > 0)


class HashIndex:
    """Finds hashes among the sorted ``known`` ones."""

    def __init__(self, known: Hashes) -> None:
        self.known = known
        # A table of their first bits tells nearly all others sooner than a search does (Bloom 1970, with one hash).
        self._shift = np.uint64(64 - min(26, max(16, len(known).bit_length() + 4)))
        self._may_be = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._may_be[known >> self._shift] = True

    def find(self, hashes: Hashes) -> tuple[Indices, Indices]:
        """Return the places of ``hashes`` at which one of the known ones stands, and the number of each."""
        places = np.flatnonzero(self._may_be[hashes >> self._shift])
        if not len(places):
            return places, places
        found = hashes[places]
        numbers = np.minimum(np.searchsorted(self.known, found), len(self.known) - 1)
        is_match = self.known[numbers] == found
        return places[is_match], numbers[is_match]


def shingles(of: Ragged, ngram: int) -> Ragged:
    """Join every ``ngram`` neighbouring tokens; a text with fewer tokens is one shingle, an empty one has none."""
    of, counts = bare(of), of.lengths
    joined = windows(of.hashes, ngram)
    short = np.flatnonzero((counts > 0) & (counts < ngram))
    few = Ragged(of.hashes[ranges(of.offsets[short], counts[short])], ends_of(counts[short]))
    joined[of.offsets[short]] = in_order(few)
    return Ragged(joined, of.offsets).where(_is_begin(of, ngram, 1))


def bare(of: Ragged) -> Ragged:
    """Return tokens without their `MARKS`."""
    return Ragged(of.hashes & ~np.uint64(MARKS), of.offsets)


def passages(of: Ragged, width: int) -> Ragged:
    """Hash every ``width`` neighbours of each row; a shorter row has none."""
    return Ragged(windows(of.hashes, width), of.offsets).where(_is_begin(of, width, 0))


def _is_begin(of: Ragged, width: int, fewest: int) -> Flags:
    """Return at which hashes ``width`` neighbours of a row begin; the first ``fewest`` of each row always count."""
    is_begin = np.ones(len(of.hashes), np.bool_)
    for at in range(1, width):
        last = of.offsets[1:] - at
        is_begin[last[last >= of.offsets[:-1] + fewest]] = False
    return is_begin


def windows(hashes: Hashes, ngram: int) -> Hashes:
    """Hash the ``ngram`` tokens from each place on, by windows of 1, 2, 4, ... tokens: log n passes instead of n."""
    total = len(hashes)
    window, width = np.concatenate([hashes, np.zeros(ngram, np.uint64)]), 1
    joined, covered = np.zeros(total, np.uint64), 0
    while covered < ngram:
        step = np.uint64(pow(STEP, width, 1 << 64))
        if ngram & width:
            joined *= step
            joined += window[covered : covered + total]
            covered += width
        if covered < ngram:
            doubled = window * step
            doubled[: len(window) - width] += window[width:]
            window, width = doubled, width * 2
    return mix(joined)


def in_order(of: Ragged) -> Hashes:
    """Return a hash of all values of each row in their order."""
    # Their places are counted from the first of each row.
    rank = (np.arange(1, len(of.hashes) + 1) - np.repeat(of.offsets[:-1], of.lengths)).astype(np.uint64)
    sums = np.append(np.uint64(0), np.cumsum(mix(of.hashes + rank * np.uint64(STEP)), dtype=np.uint64))
    prints: Hashes = sums[of.offsets[1:]] - sums[of.offsets[:-1]]
    return prints


class Cut(NamedTuple):
    """How texts are cut: shingles of ``ngram`` tokens, without those in the ``popular`` passages, which are sorted."""

    ngram: int
    popular: Hashes = np.zeros(0, np.uint64)

    @property
    def width(self) -> int:
        """Tokens in a passage."""
        return max(PASSAGE, self.ngram)

    def without(self, more: Hashes) -> Cut:
        """Return how texts are cut without those passages as well."""
        return Cut(self.ngram, distinct(np.append(self.popular, more)))

    def passages(self, of: Ragged) -> Ragged:
        """Return the hashes of all passages of each row."""
        return passages(bare(of), self.width)

    def shingles(self, spans: Spans) -> Ragged:
        """Return the shingles of each text, less those that lie within boilerplate."""
        of = spans.hashed()
        table = shingles(of, self.ngram)
        if not len(self.popular):
            return table
        passages = self.passages(of)
        places, _ = HashIndex(self.popular).find(passages.hashes)
        # A passage that starts at a place holds the shingles from there to width - ngram places on.
        first = places + (table.offsets - passages.offsets)[passages.owners[places]]
        return table.where(~covered(first, self.width - self.ngram + 1, len(table.hashes)))


def popular_passages(spans: Spans, ngram: int, weights: Indices, keys: Hashes) -> Hashes:
    """Return the passages that stand in more than the allowed share of the records, sorted; measured on a sample.

    ``weights`` has the number of records of each text, and ``keys`` hashes by which texts are picked: by content, so
    that the order of the records has no say.
    """
    rows = np.flatnonzero(spans.lengths >= Cut(ngram).width)
    picked = rows[np.argsort(keys[rows], kind="stable")[:SAMPLE]]
    return popular_in(spans.take(picked), ngram, weights[picked], int(weights.sum()), int(weights[rows].sum()))


def popular_in(spans: Spans, ngram: int, weights: Indices, num_records: int, num_long: int) -> Hashes:
    """Return such passages of a sample of those ``num_long`` of ``num_records`` records that are long enough."""
    if num_records <= COUNT or not len(spans):
        return np.zeros(0, np.uint64)
    passages = Cut(ngram).passages(spans.hashed())
    universe, numbers = np.unique(passages.hashes, return_inverse=True)
    owners = distinct(passages.owners * len(universe) + numbers)
    counts = np.bincount(owners % len(universe), weights=weights[owners // len(universe)])
    total = num_records * weights.sum() / num_long
    return np.asarray(universe[counts > max(COUNT / num_records, SHARE) * total])


def templates(some: Spans, every: Spans, cut: Cut, most: int) -> Hashes:
    """Return the passages of ``some`` texts that stand in more than ``most`` of ``every`` text, sorted."""
    found = [cut.passages(some.take(block).hashed()).hashes for block in some.blocks()]
    known = distinct(np.concatenate([np.zeros(0, np.uint64), *found]))
    counts = np.zeros(len(known), np.int64)
    for block in every.blocks() if len(known) else ():
        passages = cut.passages(every.take(block).hashed())
        places, numbers = HashIndex(known).find(passages.hashes)
        each = distinct(passages.owners[places] * len(known) + numbers)
        counts += np.bincount(each % len(known), minlength=len(known))
    return known[counts > most]
