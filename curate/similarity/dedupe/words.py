"""The words of normalised texts as hashes, by numpy; `curate.similarity.dedupe.kernels` has the compiled way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import MIX_A, MIX_B, STEP, Hashes, Indices, mix
from curate.similarity.dedupe.shingles import CHARACTER, COMMA, MARKS, NUMBER, QUOTED, Ragged

Units = NDArray[np.uint8]

# The hash of a word before its first byte.
WORD = 0xD6E8FEB86659FD93
# By how many of 8 bytes belong to a word: the mask that leaves those.
MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
# Signs before a number that are looked past, such as those of currencies.
LEAD = 4
SIGN, DIGIT, LETTER, EDGE = range(4)
KIND_BITS = NUMBER | CHARACTER | MARKS
# What each byte is: an `EDGE` is punctuation that is no part of a word at its beginning or end. Brackets are, for they
# say what belongs together.
KINDS = np.full(256, SIGN, np.uint8)
KINDS[list(b".,;:!?\"'")] = EDGE
KINDS[48:58] = DIGIT
KINDS[65:91] = KINDS[97:123] = LETTER


def word_hashes(units: Units) -> Ragged:
    """Hash the words of normalised UTF-8 texts that newlines divide; a hash's last bits say what kind of word it is."""
    # Eight bytes at a time. Punctuation at the edges of a word is left out, and what is nothing else is no word.
    starts, ends, marks = _trimmed(units, *_words(units))
    hashes = hash_words(units, starts, ends - starts) & ~np.uint64(KIND_BITS)
    return Ragged(hashes | _kinds_of(units, starts, ends) | marks, _offsets(units, starts))


def text_keys(units: Units) -> Hashes:
    """Return two hashes, [N, 2], of each of some normalised UTF-8 texts that newlines divide; every byte counts."""
    # The sum of what each word gives at its place, so that all words of all texts are taken at once.
    starts, ends = _words(units)
    sizes, offsets = ends - starts, _offsets(units, starts)
    numbers = np.arange(1, len(starts) + 1) - np.repeat(offsets[:-1], np.diff(offsets))
    positions = numbers.astype(np.uint64) * np.uint64(STEP)
    firsts = hash_words(units, starts, sizes)
    seconds = _chained(units, starts, sizes, STEP, MIX_B, 32, np.add) + sizes.astype(np.uint64)
    return np.stack([_summed(mix(words + positions), offsets) for words in (firsts, seconds)], axis=1)


def _summed(hashes: Hashes, offsets: Indices) -> Hashes:
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
    return np.asarray(sums[offsets[1:]] - sums[offsets[:-1]])


def _words(units: Units) -> tuple[Indices, Indices]:
    """Return where words begin and end, with the punctuation at their edges."""
    is_gap = np.concatenate([[True], (units == 32) | (units == 10), [True]])
    return np.flatnonzero(is_gap[:-1] & ~is_gap[1:]), np.flatnonzero(~is_gap[:-1] & is_gap[1:])


def _offsets(units: Units, starts: Indices) -> Indices:
    """Return the first word of each text, and the number of all."""
    breaks = np.concatenate([[0], np.flatnonzero(units == 10), [len(units)]])
    return np.searchsorted(starts, breaks).astype(np.int64)


def hash_words(units: Units, starts: Indices, sizes: Indices) -> Hashes:
    """Return a hash of each of the words that begin at ``starts`` in UTF-8 and take ``sizes`` bytes, none of them 0."""
    hashes = _chained(units, starts, sizes, WORD, MIX_A, 29, np.bitwise_xor)
    return mix(hashes + sizes.astype(np.uint64))


def _chained(
    units: Units, starts: Indices, sizes: Indices, state: int, factor: int, shift: int, join: np.ufunc
) -> Hashes:
    """Return the states of words after all of their bytes, 8 at a time."""
    # Every place is read as a number of 8 bytes, of which those behind the word are masked.
    eights = np.ndarray((len(units) + 1,), "<u8", np.concatenate([units, np.zeros(8, np.uint8)]), strides=(1,))
    hashes = _stepped(join(np.uint64(state), eights[starts] & MASKS[np.minimum(sizes, 8)]), factor, shift)
    rows, offset = np.flatnonzero(sizes > 8), 8
    while len(rows):
        packs = eights[starts[rows] + offset] & MASKS[np.minimum(sizes[rows] - offset, 8)]
        hashes[rows] = _stepped(join(hashes[rows], packs), factor, shift)
        offset += 8
        rows = rows[sizes[rows] > offset]
    return hashes


def _stepped(hashes: Hashes, factor: int, shift: int) -> Hashes:
    hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(shift)
    return hashes


def _trimmed(units: Units, starts: Indices, ends: Indices) -> tuple[Indices, Indices, Hashes]:
    """Return the words without the punctuation at their edges, and what that was of `MARKS`; those of which nothing is
    left are left out."""
    is_edge = KINDS == EDGE
    first, last, starts, ends = starts, ends, starts.copy(), ends.copy()
    rows = np.flatnonzero(is_edge[units[starts]])
    while len(rows):
        starts[rows] += 1
        rows = rows[starts[rows] < ends[rows]]
        rows = rows[is_edge[units[starts[rows]]]]
    is_word = starts < ends
    first, last, starts, ends = first[is_word], last[is_word], starts[is_word], ends[is_word]
    rows = np.flatnonzero(is_edge[units[ends - 1]])
    while len(rows):
        # It ends at the latest at the first byte, which is no edge.
        ends[rows] -= 1
        rows = rows[is_edge[units[ends[rows] - 1]]]
    quotes, commas = (np.append(0, np.cumsum(is_mark)) for is_mark in ((units == 34) | (units == 39), units == 44))
    is_inner = (commas[last] > commas[ends]) & (np.append(units, np.uint8(10))[last] == 32)
    is_before, is_behind = quotes[starts] > quotes[first], quotes[last] > quotes[ends]
    marks = is_before * np.uint64(QUOTED) | is_behind * np.uint64(2 * QUOTED) | is_inner * np.uint64(COMMA)
    return starts, ends, marks


def _kinds_of(units: Units, starts: Indices, ends: Indices) -> Hashes:
    """Return for each word `NUMBER`, `CHARACTER` or 0."""
    # A number is a word whose first letter or digit is a digit: "1985", "$80,000", "3rd", and not "covid19".
    padded, is_sign = np.append(units, np.uint8(0)), (KINDS != DIGIT) & (KINDS != LETTER)
    first = starts.copy()
    for _ in range(LEAD):
        first += (first < ends) & is_sign[padded[first]]
    is_number = (first < ends) & (KINDS[padded[first]] == DIGIT)
    lead = units[starts]
    is_character = (lead >= 0xE0) & (ends - starts == np.where(lead < 0xF0, 3, 4))
    return np.where(is_number, np.uint64(NUMBER), np.where(is_character, np.uint64(CHARACTER), np.uint64(0)))
