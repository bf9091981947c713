"""The inner loops compiled with numba (extra ``fast``): the same numbers as numpy gives, several times sooner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.minhash import NUM_HASHES, Kernels, Scores, Signatures, coefficients
from curate.dedupe.shingles import MIX_A, MIX_B, STEP, Hashes, Indices, Ragged, Sets
from curate.dedupe.shingles import tokens as numpy_tokens


@cache
def compiled() -> Kernels:
    """Compile (once, cached on disk) and return the loops.

    Raises:
        ImportError: numba is not installed.
    """
    # Heavy (0.3 s and a compiler), and optional.
    import numba

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, nogil=True)(function)
        except RuntimeError:
            # Neither the installation nor the home folder can be written to, so nothing is kept for the next time.
            return numba.njit(nogil=True)(function)

    hash_words, minima, compare = compile_(_hash_words), compile_(_minima), compile_(_compare)

    def tokens(texts: Sequence[str], *, by_character: bool) -> Ragged:
        if by_character:
            return numpy_tokens(texts, by_character=True)
        units = np.frombuffer("\n".join(texts).encode("utf-8", "surrogatepass"), np.uint8)
        hashes, offsets = hash_words(units, len(texts))
        return Ragged(hashes, offsets)

    def signatures(of: Ragged) -> Signatures:
        found: Signatures = minima(of.hashes, of.offsets, *coefficients())
        return found

    def jaccard(sets: Sets, left: Indices, right: Indices) -> Scores:
        scores: Scores = compare(sets.members, sets.offsets, sets.places(left), sets.places(right))
        return scores

    return Kernels(tokens, signatures, jaccard)


def _hash_words(units: NDArray[np.uint8], num_texts: int) -> tuple[Hashes, Indices]:
    offsets = np.zeros(num_texts + 1, np.int64)
    num_words = 0
    is_inside = False
    for unit in units:
        is_gap = unit in (32, 10)
        if not is_gap and not is_inside:
            num_words += 1
        is_inside = not is_gap
    hashes = np.empty(num_words, np.uint64)
    word, text = 0, 0
    total, power = np.uint64(0), np.uint64(1)
    is_inside = False
    for place in range(len(units) + 1):
        unit = units[place] if place < len(units) else np.uint8(10)
        if unit in (32, 10):
            if is_inside:
                mixed = (total ^ (total >> np.uint64(30))) * np.uint64(MIX_A)
                mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(MIX_B)
                hashes[word] = mixed ^ (mixed >> np.uint64(31))
                word += 1
                total, power = np.uint64(0), np.uint64(1)
                is_inside = False
            if unit == 10 and text < num_texts:
                text += 1
                offsets[text] = word
        else:
            total += (np.uint64(unit) + np.uint64(1)) * power
            power *= np.uint64(STEP)
            is_inside = True
    return hashes, offsets


def _minima(hashes: Hashes, offsets: Indices, multipliers: Signatures, masks: Signatures) -> Signatures:
    found = np.full((len(offsets) - 1, NUM_HASHES), 0xFFFFFFFF, np.uint32)
    for row in range(len(offsets) - 1):
        for place in range(offsets[row], offsets[row + 1]):
            upper, lower = np.uint32(hashes[place] >> np.uint64(32)), np.uint32(hashes[place])
            for number in range(NUM_HASHES):
                mixed = np.uint32(np.uint32((upper ^ masks[number]) * multipliers[number]) + lower)
                mixed = np.uint32(mixed ^ (mixed >> np.uint32(15)))
                found[row, number] = min(found[row, number], mixed)
    return found


def _compare(members: Indices, offsets: Indices, left: Indices, right: Indices) -> Scores:
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
