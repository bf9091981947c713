"""Texts to sets of shingles: a shingle is ``ngram`` neighbouring tokens, known by a 64-bit hash that never changes.

A shingle's hash is a polynomial of its tokens' hashes (Karp and Rabin 1987), mixed as each token's hash is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import STEP, Hashes, Indices, mix

_Number = TypeVar("_Number", np.int64, np.uint64)

NUMBER, CHARACTER = 1, 2
"""Bits of the hash of a word: it is a number; it is one character of a script that is written without blanks."""
BREAK = 4
"""The token between two parts of a prompt; no word has it."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """N rows of hashes of different length: row i is ``hashes[offsets[i]:offsets[i + 1]]``."""

    hashes: Hashes
    offsets: Indices

    @property
    def lengths(self) -> Indices:
        """Number of hashes of each row."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Spans:
    """N texts as stretches of one array of tokens, which are words by their hash."""

    tokens: Hashes
    starts: Indices
    ends: Indices

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: Indices) -> Spans:
        """Return the texts ``rows``."""
        return Spans(self.tokens, self.starts[rows], self.ends[rows])

    def hashed(self) -> Ragged:
        """Return the tokens of all texts, one text after the other."""
        lengths = self.ends - self.starts
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        if np.array_equal(self.starts[1:], self.ends[:-1]):
            tokens = self.tokens[self.starts[0] : self.ends[-1]] if len(lengths) else self.tokens[:0]
        else:
            tokens = self.tokens[np.arange(int(offsets[-1])) + np.repeat(self.starts - offsets[:-1], lengths)]
        # What lies in a file is an array like any other from here on.
        return Ragged(np.asarray(tokens), offsets)


def distinct(numbers: NDArray[_Number]) -> NDArray[_Number]:
    """Return the different ``numbers``, sorted; `np.unique` takes ten times as long without an inverse."""
    ordered = np.sort(numbers)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    unique: NDArray[_Number] = ordered[is_new]
    return unique


def may_be_among(known: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    """Whether each hash may be one of ``known``, by a table of their last bits (Bloom 1970, with one hash).

    That tells nearly all that are none of them sooner than a search does.
    """
    bits = np.uint64((1 << min(24, max(16, len(known).bit_length() + 4))) - 1)
    table = np.zeros(int(bits) + 1, bool)
    table[known & bits] = True
    is_possible: NDArray[np.bool_] = table[hashes & bits]
    return is_possible


def shingles(of: Ragged, ngram: int) -> Ragged:
    """Join every ``ngram`` neighbouring tokens; a text with fewer tokens is one shingle, an empty one has none."""
    counts = of.lengths
    joined = windows(of.hashes, ngram)
    short = np.flatnonzero((counts > 0) & (counts < ngram))
    joined[of.offsets[short]] = _whole(of, short)
    per_text = np.where(counts > 0, np.maximum(1, counts - ngram + 1), 0)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(per_text, out=offsets[1:])
    positions = np.arange(int(offsets[-1])) + np.repeat(of.offsets[:-1] - offsets[:-1], per_text)
    return Ragged(joined[positions], offsets)


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


def _whole(of: Ragged, rows: Indices) -> Hashes:
    """Hash all tokens of each of ``rows``, which are shorter than a shingle."""
    starts, counts = of.offsets[:-1][rows], of.lengths[rows]
    joined = counts.astype(np.uint64)
    for index in range(int(counts.max(initial=0))):
        is_longer = counts > index
        joined[is_longer] = joined[is_longer] * np.uint64(STEP) + of.hashes[starts[is_longer] + index]
    return mix(joined)


@dataclass(frozen=True, slots=True)
class Sets:
    """Texts as sorted sets of shingles, row i in ``members[offsets[i]:offsets[i + 1]]``.

    Members are hashes, or numbers that stand for them: no two different hashes share a number.
    """

    members: Hashes
    offsets: Indices

    @staticmethod
    def of(table: Ragged) -> Sets:
        """Number the different hashes of ``table`` and return the set of each row."""
        universe, numbers = np.unique(table.hashes, return_inverse=True)
        width, count = max(1, len(universe)), len(table.offsets) - 1
        keys = distinct(np.repeat(np.arange(count), table.lengths) * width + numbers)
        offsets = np.searchsorted(keys, np.arange(count + 1) * width).astype(np.int64)
        return Sets((keys % width).astype(np.uint64), offsets)
