"""The two inner loops of a search for leaks, in numpy and compiled with numba (extra ``fast``), side by side.

One hashes the words of texts, the other finds the runs of words that may be among some. A change to one side is a
change to the other, which `tests/curate/test_leaks_kernels.py` proves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import MIX_A, STEP, Hashes, Indices, mix
from curate.similarity.compiled import chosen, compile_loops, lowered, mix_scalar
from curate.similarity.dedupe.shingles import Spans, joined_bytes, windows
from curate.similarity.dedupe.words import MASKS, WORD, hash_words

Flags = NDArray[np.bool_]
Units = NDArray[np.uint8]

# Bytes and words that numpy takes at once: a single text may be long, and what is made of it takes many times its size.
_CHUNK_UNITS = 1 << 18
_CHUNK_WORDS = 1 << 15
# Bytes of a word that are hashed; longer ones are no words but blobs, and are compared in full later.
_TELLING = 4096
# What parts words is a blank, letters are small; all that is not ASCII stays.
_SPELLED = bytes(code if code > 127 else ord(chr(code).lower()) if chr(code).isalnum() else 32 for code in range(256))
_IS_GAP = np.frombuffer(_SPELLED, np.uint8) == 32
# Slots for each hash in a sieve, at least: as many as let one of sixteen others through.
_SLOTS = 16
_SEGMENT = 1 << 20


class Sieve(NamedTuple):
    """Which hashes may be among some: a bit for each value of their first bits (Bloom 1970, with one hash)."""

    bits: Units
    """Eight slots each, the first one lowest."""
    shift: np.uint64
    """Bits of a hash behind those that name its slot."""

    @staticmethod
    def of(known: Hashes) -> Sieve:
        """Return a sieve that lets the sorted hashes ``known`` through, and one in sixteen others or fewer."""
        width = max(16, (_SLOTS * len(known)).bit_length())
        sieve = Sieve(np.zeros(1 << (width - 3), np.uint8), np.uint64(64 - width))
        slots = known >> sieve.shift
        # A part at a time, because a byte for each slot would take more memory than all else.
        for low in range(0, 1 << width, _SEGMENT):
            first, last = np.searchsorted(slots, np.array([low, low + _SEGMENT], np.uint64))
            if first < last:
                is_set = np.zeros(min(_SEGMENT, 1 << width), np.bool_)
                is_set[slots[first:last] - np.uint64(low)] = True
                sieve.bits[low // 8 : (low + len(is_set)) // 8] = np.packbits(is_set, bitorder="little")
        return sieve

    def admits(self, hashes: Hashes) -> Flags:
        """Whether each hash may be among those that the sieve was made of."""
        slots = hashes >> self.shift
        bits = self.bits[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)
        is_set: Flags = (bits & np.uint8(1)).view(np.bool_)
        return is_set

    def drop(self, known: Hashes, numbers: Indices) -> None:
        """Let ``known[numbers]`` through no longer, but for those that share a slot with others of ``known``."""
        slots = known[numbers] >> self.shift
        before, after = known[np.maximum(numbers - 1, 0)], known[np.minimum(numbers + 1, len(known) - 1)]
        is_alone = ((before >> self.shift != slots) | (numbers == 0)) & (
            (after >> self.shift != slots) | (numbers == len(known) - 1)
        )
        slots = slots[is_alone]
        bits = np.uint8(1) << (slots & np.uint64(7)).astype(np.uint8)
        np.bitwise_and.at(self.bits, (slots >> np.uint64(3)).astype(np.int64), ~bits)


# Lets everything through.
EVERYTHING = Sieve(np.array([255], np.uint8), np.uint64(61))


class Words(NamedTuple):
    """N texts as the hashes of their words: text i has ``tokens[offsets[i]:offsets[i + 1]]``."""

    tokens: Hashes
    offsets: Indices
    wholes: Hashes
    """A hash of all words of each text, 0 for one without any."""


class Runs(NamedTuple):
    """Some runs of n words each: their hashes, the number of the text that each is of, and their first token."""

    hashes: Hashes
    texts: Indices
    starts: Indices


class LeakKernels(NamedTuple):
    """The inner loops. Equal hashes are a reason to compare, no proof."""

    words: Callable[[Sequence[str]], Words]
    """The words of texts, ASCII or as `separated` returns them: of ASCII, all but letters and digits parts them."""
    runs: Callable[[Spans, int, Sieve], Runs]
    """The runs of n words of texts that a sieve lets through, text by text."""


def kernels_for(num_chars: int, is_compiled: bool | None = None) -> LeakKernels:
    """Return the loops to use: as asked, or the compiled ones where they are installed and ``num_chars`` repays them.

    Raises:
        ImportError: compiled loops are asked for and numba is not installed.
    """
    # A second to load numba is repaid later here than by a comparison, which has loaded it where it went before.
    return chosen(num_chars if "numba" in sys.modules else num_chars // 5, is_compiled, _loops, NUMPY, NUMBA)


def _numpy_words(texts: Sequence[str]) -> Words:
    raw, ends = joined_bytes(texts)
    flat = raw.translate(_SPELLED)
    tokens, offsets, low = [np.zeros(0, np.uint64)], np.zeros(len(texts) + 1, np.int64), 0
    while low < len(flat):
        # It is parted between words.
        high = flat.find(b" ", low + _CHUNK_UNITS)
        high = high if high >= 0 else len(flat)
        units = np.frombuffer(flat, np.uint8)[low : min(high, low + _CHUNK_UNITS + _TELLING)]
        is_gap = np.ones(len(units) + 2, np.bool_)
        np.equal(units, 32, out=is_gap[1:-1])
        edges = np.flatnonzero(is_gap[1:] != is_gap[:-1])
        starts, sizes = edges[::2], np.minimum(edges[1::2] - edges[::2], _TELLING)
        tokens.append(hash_words(units, starts, sizes))
        offsets[1:] += np.searchsorted(starts, ends - low)
        low = high
    hashes = np.concatenate(tokens)
    return Words(hashes, offsets, _wholes(hashes, offsets))


def _wholes(tokens: Hashes, offsets: Indices) -> Hashes:
    """Return for each text the sum of its words, each mixed with its place, 0 for a text without any."""
    counts = np.diff(offsets)
    begins = np.repeat(offsets[:-1], counts)
    sums = np.zeros(len(tokens) + 1, np.uint64)
    for low in range(0, len(tokens), _CHUNK_WORDS):
        piece = slice(low, min(low + _CHUNK_WORDS, len(tokens)))
        positions = (np.arange(piece.start, piece.stop) - begins[piece]).astype(np.uint64)
        mixed = mix(tokens[piece] + positions * np.uint64(STEP))
        sums[low + 1 : piece.stop + 1] = np.cumsum(mixed) + sums[low]
    wholes = mix(sums[offsets[1:]] - sums[offsets[:-1]] + counts.astype(np.uint64))
    wholes[counts == 0] = 0
    return wholes


def _numpy_runs(spans: Spans, n: int, sieve: Sieve) -> Runs:
    of = spans.hashed()
    hashes, positions = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for low in range(0, len(of.hashes) - n + 1, _CHUNK_WORDS):
        words = of.hashes[low : low + _CHUNK_WORDS + n - 1]
        chunk = windows(words, n)[: len(words) - n + 1]
        is_possible = np.flatnonzero(sieve.admits(chunk))
        hashes.append(chunk[is_possible])
        positions.append(is_possible + low)
    admitted, at = np.concatenate(hashes), np.concatenate(positions)
    texts = np.searchsorted(of.offsets, at, "right") - 1
    # A run that goes on into the next text is none.
    is_within = at + n <= of.offsets[texts + 1]
    admitted, at, texts = admitted[is_within], at[is_within], texts[is_within]
    return Runs(admitted, texts, at - of.offsets[texts] + spans.starts[texts])


NUMPY = LeakKernels(_numpy_words, _numpy_runs)


def _loops() -> dict[str, Callable[..., Any]]:
    """Return the loops below by name, compiled."""
    return compile_loops(__name__, mix_scalar, lowered, _first_gap, _words, _runs)


def _numba_words(texts: Sequence[str]) -> Words:
    raw, ends = joined_bytes(texts)
    units = np.frombuffer(raw + b"\n" * 9, np.uint8)
    # Every place as a number of 8 bytes.
    eights = np.ndarray((len(raw) + 1,), "<u8", units, strides=(1,))
    tokens, wholes = np.empty(len(raw) // 2 + 1, np.uint64), np.empty(len(texts), np.uint64)
    offsets = np.zeros(len(texts) + 1, np.int64)
    _loops()["_words"](units, eights, ends, tokens, offsets, wholes)
    return Words(tokens[: offsets[-1]].copy(), offsets, wholes)


def _numba_runs(spans: Spans, n: int, sieve: Sieve) -> Runs:
    most = int((spans.ends - spans.starts).sum())
    runs = Runs(np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int64))
    count = _loops()["_runs"]((spans.tokens, spans.starts, spans.ends), n, sieve.bits, sieve.shift, *runs)
    return Runs(runs.hashes[:count].copy(), runs.texts[:count].copy(), runs.starts[:count].copy())


NUMBA = LeakKernels(_numba_words, _numba_runs)


def _first_gap(eight: np.uint64) -> np.uint64:
    """Return which of 8 bytes is the first that parts words, 8 where none does."""
    ones, blank = np.uint64(0x0101010101010101), np.uint64(0x2020202020202020)
    sevens = eight & (np.uint64(0x7F) * ones)
    # The first bit of each byte says whether it is from that character on. Letters differ from capitals by a blank.
    letters = ((sevens | blank) + np.uint64(0x80 - 0x61) * ones) & ~((sevens | blank) + np.uint64(0x80 - 0x7B) * ones)
    digits = (sevens + np.uint64(0x80 - 0x30) * ones) & ~(sevens + np.uint64(0x80 - 0x3A) * ones)
    gaps = ~(letters | digits | eight) & (np.uint64(0x80) * ones)
    if gaps == np.uint64(0):
        return np.uint64(8)
    lowest = (gaps & (~gaps + np.uint64(1))) >> np.uint64(7)
    return (lowest * np.uint64(0x0001020304050607)) >> np.uint64(56)


def _words(units: Units, eights: Hashes, ends: Indices, tokens: Hashes, offsets: Indices, wholes: Hashes) -> None:
    """Hash the words of each text, and of each text all its words."""
    # Unsigned throughout: a signed index is first looked at for being negative.
    none, step, full = np.uint64(0), np.uint64(1), np.uint64(8)
    word, at = none, none
    for text in range(len(ends)):
        end, first, total = np.uint64(ends[text]), word, none
        while at < end:
            if _IS_GAP[units[at]]:
                at += step
                continue
            start, hashed, size = at, np.uint64(WORD), full
            while size == full:
                eight = eights[at]
                size = _first_gap(eight)
                if size > none and at - start < np.uint64(_TELLING):
                    hashed = (hashed ^ (lowered(eight) & MASKS[size])) * np.uint64(MIX_A)
                    hashed ^= hashed >> np.uint64(29)
                at += size
            hashed = mix_scalar(hashed + min(at - start, np.uint64(_TELLING)))
            tokens[word] = hashed
            total += mix_scalar(hashed + (word - first) * np.uint64(STEP))
            word += step
        at = end + step
        offsets[text + 1] = np.int64(word)
        wholes[text] = mix_scalar(total + (word - first)) if word > first else none


def _runs(
    texts: tuple[Any, ...], n: int, bits: Units, shift: np.uint64, hashes: Hashes, rows: Indices, firsts: Indices
) -> int:
    """Write the runs that the sieve lets through, and return how many there are."""
    tokens, starts, ends = texts
    count, step, last = 0, np.uint64(STEP), np.uint64(1)
    for _ in range(n - 1):
        last *= step
    for text in range(len(starts)):
        start, total = starts[text], np.uint64(0)
        for index in range(start, min(start + n - 1, ends[text])):
            total = total * step + tokens[index]
        # First all runs of the text, then which are let through: so the table is waited for many times at once.
        first, size = count, max(0, ends[text] - start - n + 1)
        for index in range(size):
            total = total * step + tokens[start + index + n - 1]
            hashes[first + index] = mix_scalar(total)
            total -= tokens[start + index] * last
        for index in range(first, first + size):
            slot = hashes[index] >> shift
            rows[index] = (bits[slot >> np.uint64(3)] >> np.uint8(slot & np.uint64(7))) & np.uint8(1)
        for index in range(size):
            if rows[first + index]:
                hashes[count], rows[count], firsts[count] = hashes[first + index], text, start + index
                count += 1
    return count
