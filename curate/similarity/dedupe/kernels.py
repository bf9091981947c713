"""The inner loops of a comparison, in numpy and compiled with numba (extra ``fast``), side by side.

A change to one is a change to the other, which `tests/curate/test_dedupe_kernels.py` proves: both give the same hashes.
numpy passes over whole arrays; numba goes from token to token, several times sooner, and takes a second to load.
`kernels_for` chooses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import MIX_A, MIX_B, STEP, Hashes, Indices, mix
from curate.similarity.compiled import chosen, compile_loops, lowered, mix_scalar
from curate.similarity.dedupe.repetition import repetition
from curate.similarity.dedupe.shingles import (
    CHARACTER,
    COMMA,
    LOWER,
    MARKS,
    NUM_PRINTED,
    NUMBER,
    QUOTED,
    Cut,
    Ragged,
    Sets,
    Spans,
    Starmap,
    cut_texts,
    fingerprints,
    flattened,
    joined_bytes,
    num_texts_with,
)
from curate.similarity.dedupe.words import (
    DIGIT,
    EDGE,
    KIND_BITS,
    KINDS,
    LEAD,
    LETTER,
    MASKS,
    WORD,
    Units,
    text_keys,
    word_hashes,
)

NUM_HASHES = 64
NUM_BANDS = 16
_BAND_SIZE = NUM_HASHES // NUM_BANDS
_LOWER = np.frombuffer(LOWER, np.uint8)
_NUMBERS = mix(np.arange(1, 2 * NUM_HASHES + 1, dtype=np.uint64)).astype(np.uint32)
# What makes 64 hash functions of one: a fixed odd multiplier, and bits to flip before.
_MULTIPLIERS, _XORS = _NUMBERS[:NUM_HASHES] | np.uint32(1), _NUMBERS[NUM_HASHES:]
_BLOCK, _TEXTS = 256, 2048
Scores = NDArray[np.float64]


class Cleaned(NamedTuple):
    """N texts as keys, [N, 2], that are the same for equal normalised texts, and as the hashes of their words."""

    keys: Hashes
    words: Ragged


class Bands(NamedTuple):
    """The bucket of each text in each band, [16, N], and its number of shingles; no bucket counts where that is 0."""

    keys: Hashes
    lengths: Indices


class Kernels(NamedTuple):
    """The inner loops; texts that are to be cleaned are `storable`."""

    clean: Callable[[Sequence[str]], Cleaned]
    bands: Callable[[Spans, Cut], Bands]
    sets: Callable[[Spans, Cut], Sets]
    """The shingles of each text; what numpy numbers can be compared by numpy alone."""
    jaccard: Callable[[Sets, Indices, Indices], Scores]
    """The exact Jaccard similarity of the rows ``left[i]`` and ``right[i]``; two empty sets have 0."""
    num_with: Callable[[Spans, int, Hashes], Indices]
    """In how many texts each of some sorted passages stands; the texts have that many tokens."""
    fingerprints: Callable[[Spans], Hashes]
    """A number for each text, none of them empty: of its length and 16 of its tokens."""
    repetition: Callable[[Sequence[str]], Scores] | None = None
    """The share of word 4-grams of each text that repeat an earlier one, 2 where it is not certain; numpy has no way
    of its own."""
    starmap: Starmap = itertools.starmap
    """How loops are run over many blocks: here, or by the workers of `curate.scale`."""

    @property
    def alone(self) -> Kernels:
        """The loops for work on one block, in this process."""
        return self._replace(starmap=itertools.starmap)


def kernels_for(num_chars: int, is_compiled: bool | None = None) -> Kernels:
    """Return the loops to use: as asked, or the compiled ones where they are installed and ``num_chars`` repays them.

    Raises:
        ImportError: compiled loops are asked for and numba is not installed.
    """
    return chosen(num_chars, is_compiled, _loops, NUMPY, NUMBA)


def _numpy_clean(texts: Sequence[str]) -> Cleaned:
    flat = flattened(texts)
    return Cleaned(text_keys(flat), word_hashes(flat))


def _numpy_bands(spans: Spans, cut: Cut) -> Bands:
    keys = np.zeros((NUM_BANDS, len(spans)), np.uint64)
    lengths = np.zeros(len(spans), np.int64)
    for low in range(0, len(spans), _TEXTS):
        rows = np.arange(low, min(low + _TEXTS, len(spans)))
        table = cut_texts(spans.take(rows).hashed(), cut)
        lengths[rows] = table.lengths
        filled = np.flatnonzero(table.lengths > 0)
        if not len(filled):
            continue
        lowest = _signatures(Ragged(table.hashes, np.append(table.offsets[filled], table.offsets[-1])))
        for band in range(NUM_BANDS):
            key = np.full(len(filled), band + 1, np.uint64)
            for number in range(band * _BAND_SIZE, (band + 1) * _BAND_SIZE):
                key = mix(key ^ lowest[:, number])
            keys[band, rows[filled]] = key
    return Bands(keys, lengths)


def _signatures(of: Ragged) -> NDArray[np.uint32]:
    """Return the MinHash signature of each row, [N, 64]; every row must have at least one shingle."""
    lowest = np.empty((len(of.offsets) - 1, NUM_HASHES), np.uint32)
    for low in range(0, len(lowest), _BLOCK):
        high = min(low + _BLOCK, len(lowest))
        block = of.hashes[of.offsets[low] : of.offsets[high]]
        starts = of.offsets[low:high] - of.offsets[low]
        upper, lower = (block >> np.uint64(32)).astype(np.uint32), block.astype(np.uint32)
        mixed, shifted = np.empty_like(upper), np.empty_like(upper)
        for number in range(NUM_HASHES):
            np.bitwise_xor(upper, _XORS[number], out=mixed)
            mixed *= _MULTIPLIERS[number]
            mixed += lower
            np.right_shift(mixed, np.uint32(15), out=shifted)
            mixed ^= shifted
            lowest[low:high, number] = np.minimum.reduceat(mixed, starts)
    return lowest


def _numpy_sets(spans: Spans, cut: Cut) -> Sets:
    return Sets.of(cut_texts(spans.hashed(), cut))


def _numpy_jaccard(of: Sets, left: Indices, right: Indices) -> Scores:
    sizes = np.diff(of.offsets)
    # The members are small numbers, as `Sets.of` makes them.
    width = int(of.members.max(initial=0)) + 1
    sides = np.concatenate([left, right])
    counts = sizes[sides]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    positions = np.arange(int(starts[-1])) + np.repeat(of.offsets[:-1][sides] - starts[:-1], counts)
    pair = np.repeat(np.tile(np.arange(len(left)), 2), counts)
    keys = np.sort(pair * width + of.members[positions].astype(np.int64))
    shared = np.bincount(keys[1:][keys[1:] == keys[:-1]] // width, minlength=len(left))
    return np.asarray(shared / np.maximum(1, sizes[left] + sizes[right] - shared))


NUMPY = Kernels(_numpy_clean, _numpy_bands, _numpy_sets, _numpy_jaccard, num_texts_with, fingerprints)


def _loops() -> dict[str, Callable[..., Any]]:
    """Return the loops below by name, compiled."""
    return compile_loops(
        __name__,
        *(mix_scalar, lowered, _first_blank, _token, _clean, _roll, _cut, _bands),
        *(_slot, _last_slot, _sets, _jaccard, _num_with, _fingerprints),
    )


def _numba_clean(texts: Sequence[str]) -> Cleaned:
    whole, ends = joined_bytes(texts)
    units = np.frombuffer(whole + b"\n" * 9, np.uint8)
    # Every place as a number of 8 bytes.
    eights = np.ndarray((len(whole) + 1,), "<u8", units, strides=(1,))
    keys = np.empty((len(texts), 2), np.uint64)
    hashes = np.empty(len(whole) // 2 + 1, np.uint64)
    offsets = np.zeros(len(texts) + 1, np.int64)
    _loops()["_clean"](units, eights, ends, keys, hashes, offsets)
    return Cleaned(keys, Ragged(hashes[: offsets[-1]].copy(), offsets))


def _numba_bands(spans: Spans, cut: Cut) -> Bands:
    bands = Bands(np.zeros((NUM_BANDS, len(spans)), np.uint64), np.zeros(len(spans), np.int64))
    _loops()["_bands"](*_arguments(spans, cut), *bands)
    return bands


def _numba_sets(spans: Spans, cut: Cut) -> Sets:
    members = np.empty(int((spans.ends - spans.starts).sum()), np.uint64)
    offsets = np.zeros(len(spans) + 1, np.int64)
    _loops()["_sets"](*_arguments(spans, cut), members, offsets)
    return Sets(members, offsets)


def _numba_jaccard(of: Sets, left: Indices, right: Indices) -> Scores:
    scores: Scores = _loops()["_jaccard"](of.members, of.offsets, left, right)
    return scores


def _numba_num_with(spans: Spans, width: int, wanted: Hashes) -> Indices:
    counts, longest = np.zeros(len(wanted), np.int64), int((spans.ends - spans.starts).max(initial=0))
    room = np.empty((2, longest), np.uint64)
    _loops()["_num_with"]((spans.tokens, spans.starts, spans.ends), width, wanted, room, counts)
    return counts


def _numba_fingerprints(spans: Spans) -> Hashes:
    hashes = np.empty(len(spans), np.uint64)
    _loops()["_fingerprints"]((spans.tokens, spans.starts, spans.ends), hashes)
    return hashes


def _arguments(spans: Spans, cut: Cut) -> tuple[Any, ...]:
    """Return texts, how they are cut, and room for the tokens, passages and shingles of one of them, for the loops."""
    longest = int((spans.ends - spans.starts).max(initial=0))
    return (
        (spans.tokens, spans.starts, spans.ends),
        (cut.ngram, cut.width, cut.popular),
        np.empty((3, longest), np.uint64),
    )


NUMBA = Kernels(
    _numba_clean, _numba_bands, _numba_sets, _numba_jaccard, _numba_num_with, _numba_fingerprints, repetition
)


def _first_blank(eight: np.uint64) -> np.uint64:
    """Return which of 8 bytes is the first of 32 or less, 8 where none is."""
    blanks = (eight - np.uint64(0x2121212121212121)) & ~eight & np.uint64(0x8080808080808080)
    if blanks == np.uint64(0):
        return np.uint64(8)
    lowest = (blanks & (~blanks + np.uint64(1))) >> np.uint64(7)
    return (lowest * np.uint64(0x0001020304050607)) >> np.uint64(56)


def _token(units: Units, eights: Hashes, start: np.uint64, end: np.uint64, is_last: np.bool_) -> np.uint64:
    """Return the hash of a word without punctuation at its edges, with its kind; 0 where nothing is left of it."""
    step, full, kind, marks = np.uint64(1), np.uint64(8), np.uint64(0), np.uint64(0)
    while start < end and KINDS[units[start]] == EDGE:
        if units[start] == 34 or units[start] == 39:
            marks |= np.uint64(QUOTED)
        start += step
    while start < end and KINDS[units[end - step]] == EDGE:
        end -= step
        if units[end] == 34 or units[end] == 39:
            marks |= np.uint64(2 * QUOTED)
        elif units[end] == 44 and not is_last:
            marks |= np.uint64(COMMA)
    if start == end:
        return kind
    hashed, at, first = np.uint64(WORD), start, start
    while at < end:
        size = min(full, end - at)
        hashed = (hashed ^ (lowered(eights[at]) & MASKS[size])) * np.uint64(MIX_A)
        hashed ^= hashed >> np.uint64(29)
        at += size
    for _ in range(LEAD):
        if first < end and KINDS[units[first]] != DIGIT and KINDS[units[first]] != LETTER:
            first += step
    if first < end and KINDS[units[first]] == DIGIT:
        kind = np.uint64(NUMBER)
    elif units[start] >= 0xE0 and end - start == np.uint64(3 if units[start] < 0xF0 else 4):
        kind = np.uint64(CHARACTER)
    return (mix_scalar(hashed + (end - start)) & ~np.uint64(KIND_BITS)) | kind | marks


def _clean(units: Units, eights: Hashes, ends: Indices, keys: Hashes, hashes: Hashes, offsets: Indices) -> None:
    """Hash the words of each text without the punctuation at their edges, and of each text two halves of a key in which
    every byte of it counts."""
    # Unsigned throughout: a signed index is first looked at for being negative, 11 million times.
    none, step, full = np.uint64(0), np.uint64(1), np.uint64(8)
    word, at = none, none
    for text in range(len(ends)):
        end = np.uint64(ends[text])
        high, low, position = none, none, none
        while at < end:
            if _LOWER[units[at]] == 32:
                at += step
                continue
            start = at
            first, second = np.uint64(WORD), np.uint64(STEP)
            size = full
            while size == full:
                eight = eights[at]
                size = _first_blank(eight)
                # Control characters that are no white space are rare; the word goes on behind them.
                while size < full and _LOWER[units[at + size]] != 32:
                    size += step
                if size > none:
                    pack = lowered(eight) & MASKS[size]
                    first = (first ^ pack) * np.uint64(MIX_A)
                    first ^= first >> np.uint64(29)
                    second = (second + pack) * np.uint64(MIX_B)
                    second ^= second >> np.uint64(32)
                at += size
            length = at - start
            first = mix_scalar(first + length)
            if KINDS[units[start]] == LETTER and KINDS[units[at - step]] != EDGE:
                # Nearly all words.
                hashes[word] = first & ~np.uint64(KIND_BITS)
                word += step
            else:
                token = _token(units, eights, start, at, at >= end)
                hashes[word] = token
                # What is nothing but punctuation is no word.
                word += step if token > none else none
            position += np.uint64(STEP)
            high += mix_scalar(first + position)
            low += mix_scalar(second + length + position)
        at = end + step
        keys[text, 0] = high
        keys[text, 1] = low
        offsets[text + 1] = np.int64(word)


def _roll(hashed: Hashes, count: int, width: int, joined: Hashes) -> None:
    """Hash every ``width`` neighbours of the first ``count`` values."""
    last = np.uint64(1)
    for _ in range(width):
        last *= np.uint64(STEP)
    total = np.uint64(0)
    for index in range(count):
        total = total * np.uint64(STEP) + hashed[index]
        if index >= width:
            total -= hashed[index - width] * last
        if index >= width - 1:
            joined[index - width + 1] = mix_scalar(total)


def _cut(texts: tuple[Any, ...], row: int, cut: tuple[Any, ...], room: Hashes) -> int:
    """Write the shingles of one text that lie outside boilerplate to ``room[2]`` and return how many there are."""
    tokens, starts, ends = texts
    ngram, width, popular = cut
    hashed, passages, shingles = room[0], room[1], room[2]
    start, count = starts[row], ends[row] - starts[row]
    if count == 0:
        return 0
    for index in range(count):
        hashed[index] = tokens[start + index] & ~np.uint64(MARKS)
    if count < ngram:
        total = np.uint64(count)
        for index in range(count):
            total = total * np.uint64(STEP) + hashed[index]
        shingles[0] = mix_scalar(total)
        return 1
    _roll(hashed, count, ngram, shingles)
    num_all = count - ngram + 1
    if len(popular) == 0 or count < width:
        return int(num_all)
    _roll(hashed, count, width, passages)
    until, num_left = -1, 0
    for index in range(num_all):
        if index <= count - width:
            near = np.searchsorted(popular, passages[index])
            if near < len(popular) and popular[near] == passages[index]:
                until = index + width - ngram
        if index > until:
            shingles[num_left] = shingles[index]
            num_left += 1
    return int(num_left)


def _bands(texts: tuple[Any, ...], cut: tuple[Any, ...], room: Hashes, keys: Hashes, lengths: Indices) -> None:
    lowest = np.empty(NUM_HASHES, np.uint32)
    for row in range(len(lengths)):
        lengths[row] = _cut(texts, row, cut, room)
        lowest[:] = np.uint32(0xFFFFFFFF)
        for index in range(lengths[row]):
            shingle = room[2, index]
            upper, lower = np.uint32(shingle >> np.uint64(32)), np.uint32(shingle)
            for number in range(NUM_HASHES):
                mixed = np.uint32(np.uint32((upper ^ _XORS[number]) * _MULTIPLIERS[number]) + lower)
                mixed = np.uint32(mixed ^ (mixed >> np.uint32(15)))
                lowest[number] = min(lowest[number], mixed)
        if lengths[row] > 0:
            for band in range(NUM_BANDS):
                key = np.uint64(band + 1)
                for number in range(band * _BAND_SIZE, (band + 1) * _BAND_SIZE):
                    key = mix_scalar(key ^ np.uint64(lowest[number]))
                keys[band, row] = key


def _slot(run: np.uint64, last: np.uint64, table: Hashes, ticks: Indices, tick: int) -> np.uint64:
    """Return where a hash stands among the entries of a ``tick``, or could stand, in slots up to ``last``."""
    slot = run & last
    while ticks[slot] == tick and table[slot] != run:
        slot = (slot + np.uint64(1)) & last
    return slot


def _last_slot(count: int) -> np.uint64:
    """Return the last slot of a table for so many entries: few slots stay in the processor's cache."""
    size = 2
    while size < 2 * count:
        size *= 2
    return np.uint64(size - 1)


def _sets(texts: tuple[Any, ...], cut: tuple[Any, ...], room: Hashes, members: Hashes, offsets: Indices) -> None:
    most = _last_slot(room.shape[1]) + np.uint64(1)
    table, ticks = np.empty(most, np.uint64), np.zeros(most, np.int64)
    total = 0
    for row in range(len(offsets) - 1):
        count = _cut(texts, row, cut, room)
        last = _last_slot(count)
        for index in range(count):
            slot = _slot(room[2, index], last, table, ticks, row + 1)
            if ticks[slot] != row + 1:
                table[slot], ticks[slot] = room[2, index], row + 1
                members[total] = room[2, index]
                total += 1
        offsets[row + 1] = total


def _jaccard(members: Hashes, offsets: Indices, left: Indices, right: Indices) -> Scores:
    scores = np.zeros(len(left))
    longest = 0
    for row in left:
        longest = max(longest, offsets[row + 1] - offsets[row])
    most = _last_slot(longest) + np.uint64(1)
    table, ticks = np.empty(most, np.uint64), np.zeros(most, np.int64)
    tick, last = 0, np.uint64(0)
    for pair in range(len(left)):
        low, high = offsets[left[pair]], offsets[left[pair] + 1]
        if pair == 0 or left[pair] != left[pair - 1]:
            tick, last = pair + 1, _last_slot(high - low)
            for index in range(low, high):
                slot = _slot(members[index], last, table, ticks, tick)
                table[slot], ticks[slot] = members[index], tick
        shared = 0
        for index in range(offsets[right[pair]], offsets[right[pair] + 1]):
            shared += int(ticks[_slot(members[index], last, table, ticks, tick)] == tick)
        total = high - low + offsets[right[pair] + 1] - offsets[right[pair]]
        if total > 0:
            scores[pair] = shared / (total - shared)
    return scores


def _num_with(texts: tuple[Any, ...], width: int, wanted: Hashes, room: Hashes, counts: Indices) -> None:
    tokens, starts, ends = texts
    last = _last_slot(2 * len(wanted))
    # The number of a passage from 1 on, and the text that had it last.
    numbers, rows = np.zeros(last + np.uint64(1), np.int32), np.zeros(len(wanted), np.int64)
    for number in range(len(wanted)):
        slot = wanted[number] & last
        while numbers[slot] > 0:
            slot = (slot + np.uint64(1)) & last
        numbers[slot] = number + 1
    for row in range(len(starts)):
        count = ends[row] - starts[row]
        for index in range(count):
            room[0, index] = tokens[starts[row] + index] & ~np.uint64(MARKS)
        _roll(room[0], count, width, room[1])
        for index in range(count - width + 1):
            slot = room[1, index] & last
            while numbers[slot] > 0 and wanted[numbers[slot] - 1] != room[1, index]:
                slot = (slot + np.uint64(1)) & last
            number = numbers[slot] - 1
            if number >= 0 and rows[number] != row + 1:
                rows[number] = row + 1
                counts[number] += 1


def _fingerprints(texts: tuple[Any, ...], hashes: Hashes) -> None:
    tokens, starts, ends = texts
    for row in range(len(hashes)):
        size = ends[row] - starts[row]
        hashed = mix_scalar(np.uint64(size))
        for index in range(NUM_PRINTED):
            hashed = mix_scalar(hashed ^ tokens[starts[row] + (size - 1) * index // (NUM_PRINTED - 1)])
        hashes[row] = hashed
