"""The inner loops compiled with numba (extra ``fast``): they find what numpy finds, several times sooner."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.boilerplate import Cut
from curate.dedupe.clean import LOWER, Cleaned, joined_bytes
from curate.dedupe.minhash import NUM_BANDS, NUM_HASHES, ROWS, Bands, Kernels, Scores, Signatures, coefficients
from curate.dedupe.shingles import CHARACTER, EDGES, LEAD, MASKS, NUMBER, WORD, Ragged, Sets, Spans, Tokens
from curate.hashing import MIX_A, MIX_B, STEP, Hashes, Indices

_LOWER = np.frombuffer(LOWER, np.uint8)
_SIGN, _DIGIT, _LETTER, _EDGE = range(4)
_KINDS = np.full(256, _SIGN, np.uint8)
_KINDS[list(EDGES)] = _EDGE
_KINDS[48:58] = _DIGIT
_KINDS[65:91] = _KINDS[97:123] = _LETTER
"""What each byte is at the edge of a word."""


_COMPILING = Lock()


def compiled() -> Kernels:
    """Compile (once, cached on disk) and return the loops; threads wait for the first of them.

    Raises:
        ImportError: numba is not installed.
    """
    with _COMPILING:
        return _compiled()


@cache
def _compiled() -> Kernels:
    # Heavy (0.3 s and a compiler), and optional.
    import numba

    cleaning = (_mix, _lowered, _first_blank, _word, _kind_of, _token, _clean)
    for loop in (*cleaning, _roll, _is_among, _cut, _longest, _bands, _sets, _compare):
        try:
            made = numba.njit(cache=True, nogil=True)(loop)
        except RuntimeError:
            # Neither the installation nor the home folder can be written to, so nothing is kept for the next time.
            made = numba.njit(nogil=True)(loop)
        # The loops call one another by name, which must then mean the compiled one.
        setattr(sys.modules[__name__], loop.__name__, made)
    return Kernels(clean, bands, sets, jaccard)


def clean(texts: Sequence[str]) -> Cleaned:
    """Return keys and words of `storable` texts."""
    whole, ends = joined_bytes(texts)
    units = np.frombuffer(whole + b"\n" * 9, np.uint8)
    # Every place as a number of 8 bytes.
    eights = np.ndarray((len(whole) + 1,), "<u8", units, strides=(1,))
    keys = np.empty((len(texts), 2), np.uint64)
    hashes = np.empty(len(whole) // 2 + 1, np.uint64)
    offsets = np.zeros(len(texts) + 1, np.int64)
    _clean(units, eights, ends, _LOWER, _KINDS, MASKS, keys, hashes, offsets)
    return Cleaned(keys, Ragged(hashes[: offsets[-1]].copy(), offsets))


def bands(spans: Spans, cut: Cut) -> Bands:
    """Return the bucket of each text in each band, and its number of shingles."""
    keys = np.zeros((NUM_BANDS, len(spans)), np.uint64)
    lengths = np.zeros(len(spans), np.int64)
    where = (spans.tokens, spans.starts, spans.ends, spans.by_character)
    _bands(*where, cut.ngram, cut.width, cut.popular, *coefficients(), keys, lengths)
    return Bands(keys, lengths)


def sets(spans: Spans, cut: Cut) -> Sets:
    """Return the shingles of each text as a set."""
    members = np.empty(int((spans.ends - spans.starts).sum()), np.uint64)
    offsets = np.zeros(len(spans) + 1, np.int64)
    where = (spans.tokens, spans.starts, spans.ends, spans.by_character)
    _sets(*where, cut.ngram, cut.width, cut.popular, members, offsets)
    return Sets(members, offsets)


def jaccard(found: Sets, left: Indices, right: Indices) -> Scores:
    """Return the exact Jaccard similarity of the rows ``left[i]`` and ``right[i]``; two empty sets have 0."""
    scores: Scores = _compare(found.members, found.offsets, left, right)
    return scores


def _mix(hashed: np.uint64) -> np.uint64:
    hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(MIX_A)
    hashed = (hashed ^ (hashed >> np.uint64(27))) * np.uint64(MIX_B)
    return hashed ^ (hashed >> np.uint64(31))


def _lowered(eight: np.uint64) -> np.uint64:
    """Return 8 bytes with the letters A to Z made small, all at once (Warren, Hacker's Delight, chapter 6)."""
    sevens = eight & np.uint64(0x7F7F7F7F7F7F7F7F)
    from_a = sevens + np.uint64(0x3F3F3F3F3F3F3F3F)
    past_z = sevens + np.uint64(0x2525252525252525)
    return eight | (((from_a ^ past_z) & ~eight & np.uint64(0x8080808080808080)) >> np.uint64(2))


def _first_blank(eight: np.uint64) -> np.uint64:
    """Return which of 8 bytes is the first of 32 or less, 8 where none is."""
    found = (eight - np.uint64(0x2121212121212121)) & ~eight & np.uint64(0x8080808080808080)
    if found == np.uint64(0):
        return np.uint64(8)
    lowest = (found & (~found + np.uint64(1))) >> np.uint64(7)
    return (lowest * np.uint64(0x0001020304050607)) >> np.uint64(56)


def _word(eights: Hashes, start: np.uint64, end: np.uint64, masks: Hashes) -> np.uint64:
    """Hash the bytes from ``start`` to ``end`` as a word."""
    place, full = start, np.uint64(8)
    hashed = np.uint64(WORD)
    while place < end:
        size = min(full, end - place)
        hashed = (hashed ^ (_lowered(eights[place]) & masks[size])) * np.uint64(MIX_A)
        hashed ^= hashed >> np.uint64(29)
        place += size
    return _mix(hashed + (end - start))


def _kind_of(units: NDArray[np.uint8], kinds: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> np.uint64:
    """Return `NUMBER`, `CHARACTER` or 0 for a word; see `curate.dedupe.shingles`."""
    first, step = start, np.uint64(1)
    for _ in range(LEAD):
        if first < end and kinds[units[first]] != _DIGIT and kinds[units[first]] != _LETTER:
            first += step
    if first < end and kinds[units[first]] == _DIGIT:
        return np.uint64(NUMBER)
    if units[start] >= 0xE0 and end - start == np.uint64(3 if units[start] < 0xF0 else 4):
        return np.uint64(CHARACTER)
    return np.uint64(0)


def _token(
    units: NDArray[np.uint8], eights: Hashes, kinds: NDArray[np.uint8], masks: Hashes, start: np.uint64, end: np.uint64
) -> np.uint64:
    """Return the hash of a word without punctuation at its edges, with its kind; 0 where nothing is left of it."""
    step = np.uint64(1)
    while start < end and kinds[units[start]] == _EDGE:
        start += step
    while start < end and kinds[units[end - step]] == _EDGE:
        end -= step
    if start == end:
        return np.uint64(0)
    hashed = _word(eights, start, end, masks)
    return (hashed & ~np.uint64(NUMBER | CHARACTER)) | _kind_of(units, kinds, start, end)


def _clean(
    units: NDArray[np.uint8],
    eights: Hashes,
    ends: Indices,
    lower: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
    masks: Hashes,
    keys: Hashes,
    hashes: Hashes,
    offsets: Indices,
) -> None:
    """Hash the words of each text without the punctuation at their edges, and of each text two halves of a key in which
    every byte of it counts."""
    # Unsigned throughout: a signed index is first looked at for being negative, 11 million times.
    none, step, full = np.uint64(0), np.uint64(1), np.uint64(8)
    word, place = none, none
    for text in range(len(ends)):
        end = np.uint64(ends[text])
        one, two = np.uint64(MIX_A), np.uint64(MIX_B)
        while place < end:
            if lower[units[place]] == 32:
                place += step
                continue
            start = place
            first, second = np.uint64(WORD), np.uint64(STEP)
            size = full
            while size == full:
                eight = eights[place]
                size = _first_blank(eight)
                # Control characters that are no white space are rare; the word goes on behind them.
                while size < full and lower[units[place + size]] != 32:
                    size += step
                if size > none:
                    pack = _lowered(eight) & masks[size]
                    first = (first ^ pack) * np.uint64(MIX_A)
                    first ^= first >> np.uint64(29)
                    second = (second + pack) * np.uint64(MIX_B)
                    second ^= second >> np.uint64(32)
                place += size
            length = place - start
            first = _mix(first + length)
            if kinds[units[start]] == _LETTER and kinds[units[place - step]] != _EDGE:
                # Nearly all words.
                hashes[word] = first & ~np.uint64(NUMBER | CHARACTER)
                word += step
            else:
                token = _token(units, eights, kinds, masks, start, place)
                hashes[word] = token
                # What is nothing but punctuation is no word.
                word += step if token > none else none
            one = (one ^ first) * np.uint64(MIX_B)
            one ^= one >> np.uint64(31)
            two = (two + second + length) * np.uint64(STEP)
            two ^= two >> np.uint64(32)
        place = end + step
        keys[text, 0] = _mix(one)
        keys[text, 1] = _mix(two)
        offsets[text + 1] = np.int64(word)


def _roll(hashed: Hashes, count: int, ngram: int, found: Hashes) -> None:
    """Hash every ``ngram`` neighbours of the first ``count`` values."""
    last = np.uint64(1)
    for _ in range(ngram):
        last *= np.uint64(STEP)
    total = np.uint64(0)
    for place in range(count):
        total = total * np.uint64(STEP) + hashed[place]
        if place >= ngram:
            total -= hashed[place - ngram] * last
        if place >= ngram - 1:
            found[place - ngram + 1] = _mix(total)


def _is_among(popular: Hashes, hashed: np.uint64) -> bool:
    place = np.searchsorted(popular, hashed)
    return bool(place < len(popular) and popular[place] == hashed)


def _cut(
    tokens: Tokens,
    start: int,
    end: int,
    by_character: bool,
    ngram: int,
    width: int,
    popular: Hashes,
    hashed: Hashes,
    passages: Hashes,
    found: Hashes,
) -> int:
    """Write the shingles of one text that lie outside boilerplate to ``found`` and return how many there are."""
    count = end - start
    if count == 0:
        return 0
    for place in range(count):
        token = np.uint64(tokens[start + place])
        hashed[place] = _mix(token + np.uint64(1)) if by_character else token
    if count < ngram:
        total = np.uint64(count)
        for place in range(count):
            total = total * np.uint64(STEP) + hashed[place]
        found[0] = _mix(total)
        return 1
    _roll(hashed, count, ngram, found)
    num_found = count - ngram + 1
    if len(popular) == 0 or count < width:
        return num_found
    _roll(hashed, count, width, passages)
    until, kept = -1, 0
    for place in range(num_found):
        if place <= count - width and _is_among(popular, passages[place]):
            until = place + width - ngram
        if place > until:
            found[kept] = found[place]
            kept += 1
    return kept


def _longest(starts: Indices, ends: Indices) -> int:
    longest = 0
    for row in range(len(starts)):
        longest = max(longest, ends[row] - starts[row])
    return longest


def _bands(
    tokens: Tokens,
    starts: Indices,
    ends: Indices,
    by_character: bool,
    ngram: int,
    width: int,
    popular: Hashes,
    multipliers: Signatures,
    masks: Signatures,
    keys: Hashes,
    lengths: Indices,
) -> None:
    room = np.empty((3, _longest(starts, ends)), np.uint64)
    lowest = np.empty(NUM_HASHES, np.uint32)
    for row in range(len(starts)):
        where = (tokens, starts[row], ends[row], by_character, ngram, width, popular)
        lengths[row] = _cut(*where, room[0], room[1], room[2])
        lowest[:] = np.uint32(0xFFFFFFFF)
        for place in range(lengths[row]):
            shingle = room[2, place]
            upper, lower = np.uint32(shingle >> np.uint64(32)), np.uint32(shingle)
            for number in range(NUM_HASHES):
                mixed = np.uint32(np.uint32((upper ^ masks[number]) * multipliers[number]) + lower)
                mixed = np.uint32(mixed ^ (mixed >> np.uint32(15)))
                lowest[number] = min(lowest[number], mixed)
        if lengths[row] > 0:
            for band in range(NUM_BANDS):
                key = np.uint64(band + 1)
                for number in range(band * ROWS, (band + 1) * ROWS):
                    key = _mix(key ^ np.uint64(lowest[number]))
                keys[band, row] = key


def _sets(
    tokens: Tokens,
    starts: Indices,
    ends: Indices,
    by_character: bool,
    ngram: int,
    width: int,
    popular: Hashes,
    members: Hashes,
    offsets: Indices,
) -> None:
    room = np.empty((3, _longest(starts, ends)), np.uint64)
    total = 0
    for row in range(len(starts)):
        where = (tokens, starts[row], ends[row], by_character, ngram, width, popular)
        count = _cut(*where, room[0], room[1], room[2])
        ordered = np.sort(room[2, :count])
        for place in range(count):
            if place == 0 or ordered[place] != ordered[place - 1]:
                members[total] = ordered[place]
                total += 1
        offsets[row + 1] = total


def _compare(members: Hashes, offsets: Indices, left: Indices, right: Indices) -> Scores:
    scores = np.zeros(len(left))
    for pair in range(len(left)):
        one, two = offsets[left[pair]], offsets[right[pair]]
        end_one, end_two = offsets[left[pair] + 1], offsets[right[pair] + 1]
        total = end_one - one + end_two - two
        shared = 0
        while one < end_one and two < end_two:
            if members[one] == members[two]:
                shared += 1
                one += 1
                two += 1
            elif members[one] < members[two]:
                one += 1
            else:
                two += 1
        if total > 0:
            scores[pair] = shared / (total - shared)
    return scores
