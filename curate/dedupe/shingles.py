"""Texts to sets of shingles: a shingle is ``ngram`` neighbouring tokens, known by a 64-bit hash that never changes.

A shingle's hash is a polynomial of its tokens' hashes (Karp and Rabin 1987), mixed as each token's hash is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from curate.hashing import MIX_A, STEP, Hashes, Indices, mix

_Number = TypeVar("_Number", np.int64, np.uint64)
Tokens = NDArray[np.uint64] | NDArray[np.uint32]

WORD = 0xD6E8FEB86659FD93
"""The hash of a word before its first byte."""
MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
EDGES = b".,;:!?\"'()"
"""Punctuation that is no part of a word at its beginning or end."""
NUMBER, CHARACTER = 1, 2
"""Bits of the hash of a word: it is a number; it is one character of a script that is written without blanks."""
BREAK = 4
"""The token between two parts of a prompt; no word has it."""
CHARACTER_BREAK = 0x1F
"""The same among characters; in normalised text it is white space, and so it is not there."""
LEAD = 4
"""Signs before a number that are looked past, such as those of currencies."""


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
    """N texts as stretches of one array of tokens: words by their hash (uint64), characters by their code (uint32)."""

    tokens: Tokens
    starts: Indices
    ends: Indices

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def by_character(self) -> bool:
        """Whether the tokens are characters."""
        return bool(self.tokens.dtype == np.uint32)

    def take(self, rows: Indices) -> Spans:
        """Return the texts ``rows``."""
        return Spans(self.tokens, self.starts[rows], self.ends[rows])

    def gathered(self) -> tuple[Tokens, Indices]:
        """Return the tokens of all texts, one text after the other, and where each begins, with the end of the last."""
        lengths = self.ends - self.starts
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        if np.array_equal(self.starts[1:], self.ends[:-1]):
            found = self.tokens[self.starts[0] : self.ends[-1]] if len(lengths) else self.tokens[:0]
        else:
            found = self.tokens[np.arange(int(offsets[-1])) + np.repeat(self.starts - offsets[:-1], lengths)]
        return found, offsets

    def hashed(self) -> Ragged:
        """Return the hash of every token of each text."""
        found, offsets = self.gathered()
        return Ragged(mix(found.astype(np.uint64) + np.uint64(1)) if self.by_character else np.asarray(found), offsets)


def distinct(numbers: NDArray[_Number]) -> NDArray[_Number]:
    """Return the different ``numbers``, sorted; `np.unique` takes ten times as long without an inverse."""
    ordered = np.sort(numbers)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    found: NDArray[_Number] = ordered[is_new]
    return found


def shingles(of: Ragged, ngram: int) -> Ragged:
    """Join every ``ngram`` neighbouring tokens; a text with fewer tokens is one shingle, an empty one has none."""
    counts = of.lengths
    joined = windows(of.hashes, ngram)
    short = np.flatnonzero((counts > 0) & (counts < ngram))
    joined[of.offsets[short]] = _whole(of, short)
    per_text = np.where(counts > 0, np.maximum(1, counts - ngram + 1), 0)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(per_text, out=offsets[1:])
    places = np.arange(int(offsets[-1])) + np.repeat(of.offsets[:-1] - offsets[:-1], per_text)
    return Ragged(joined[places], offsets)


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
    for place in range(int(counts.max(initial=0))):
        has_one = counts > place
        joined[has_one] = joined[has_one] * np.uint64(STEP) + of.hashes[starts[has_one] + place]
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


def jaccard(sets: Sets, left: Indices, right: Indices) -> NDArray[np.float64]:
    """Return the exact Jaccard similarity of the rows ``left[i]`` and ``right[i]``; two empty sets have 0.

    The members of ``sets`` must be small numbers, as `Sets.of` makes them.
    """
    sizes = np.diff(sets.offsets)
    width = int(sets.members.max(initial=0)) + 1
    sides = np.concatenate([left, right])
    counts = sizes[sides]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.arange(int(starts[-1])) + np.repeat(sets.offsets[:-1][sides] - starts[:-1], counts)
    pair = np.repeat(np.tile(np.arange(len(left)), 2), counts)
    keys = np.sort(pair * width + sets.members[places].astype(np.int64))
    shared = np.bincount(keys[1:][keys[1:] == keys[:-1]] // width, minlength=len(left))
    return np.asarray(shared / np.maximum(1, sizes[left] + sizes[right] - shared))


def word_hashes(units: NDArray[np.uint8]) -> Ragged:
    """Hash the words of normalised UTF-8 texts that a newline divides, 8 bytes of each at a time.

    Punctuation at the edges of a word is left out, and what is nothing else is no word. The last bits of a hash say
    what kind of word it is.
    """
    is_gap = np.concatenate([[True], (units == 32) | (units == 10), [True]])
    starts = np.flatnonzero(is_gap[:-1] & ~is_gap[1:])
    ends = np.flatnonzero(~is_gap[:-1] & is_gap[1:])
    starts, ends = _trimmed(units, starts, ends)
    sizes = ends - starts
    breaks = np.concatenate([[0], np.flatnonzero(units == 10), [len(units)]])
    # Every place is read as a number of 8 bytes, of which those behind the word are masked.
    eights = np.ndarray((len(units) + 1,), "<u8", np.concatenate([units, np.zeros(8, np.uint8)]), strides=(1,))
    hashes = word_step(np.uint64(WORD), eights[starts] & MASKS[np.minimum(sizes, 8)])
    rows, place = np.flatnonzero(sizes > 8), 8
    while len(rows):
        packs = eights[starts[rows] + place] & MASKS[np.minimum(sizes[rows] - place, 8)]
        hashes[rows] = word_step(hashes[rows], packs)
        place += 8
        rows = rows[sizes[rows] > place]
    offsets = np.searchsorted(starts, breaks).astype(np.int64)
    hashes = mix(hashes + sizes.astype(np.uint64))
    return Ragged((hashes & ~np.uint64(NUMBER | CHARACTER)) | _kinds_of(units, starts, ends), offsets)


def _trimmed(units: NDArray[np.uint8], starts: Indices, ends: Indices) -> tuple[Indices, Indices]:
    """Return the words without the punctuation at their edges; those of which nothing is left are left out."""
    is_edge = np.zeros(256, bool)
    is_edge[list(EDGES)] = True
    rows = np.flatnonzero(is_edge[units[starts]])
    while len(rows):
        starts[rows] += 1
        rows = rows[starts[rows] < ends[rows]]
        rows = rows[is_edge[units[starts[rows]]]]
    is_word = starts < ends
    starts, ends = starts[is_word], ends[is_word]
    rows = np.flatnonzero(is_edge[units[ends - 1]])
    while len(rows):
        # It ends at the latest at the first byte, which is no edge.
        ends[rows] -= 1
        rows = rows[is_edge[units[ends[rows] - 1]]]
    return starts, ends


def _kinds_of(units: NDArray[np.uint8], starts: Indices, ends: Indices) -> Hashes:
    """Return for each word `NUMBER`, `CHARACTER` or 0.

    A number is a word whose first letter or digit is a digit: "1985", "$80,000", "3rd", and not "covid19".
    """
    is_digit, is_sign = np.zeros(256, np.bool_), np.ones(256, np.bool_)
    is_digit[48:58] = True
    for low, high in ((48, 58), (65, 91), (97, 123)):
        is_sign[low:high] = False
    padded = np.concatenate([units, np.zeros(1, np.uint8)])
    first = starts.copy()
    for _ in range(LEAD):
        first += (first < ends) & is_sign[padded[first]]
    is_number = (first < ends) & is_digit[padded[first]]
    lead = padded[starts]
    is_character = (lead >= 0xE0) & (ends - starts == np.where(lead < 0xF0, 3, 4))
    return np.where(is_number, np.uint64(NUMBER), np.where(is_character, np.uint64(CHARACTER), np.uint64(0)))


def word_step(state: Hashes | np.uint64, pack: Hashes) -> Hashes:
    """Return the hash of a word after its next 8 bytes."""
    found = pack ^ state
    found *= np.uint64(MIX_A)
    found ^= found >> np.uint64(29)
    return found


def code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint32], Indices]:
    """Return the characters of all texts by their code, one text after the other, and where each text begins."""
    units = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    return units, offsets
