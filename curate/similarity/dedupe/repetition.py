"""How much a text repeats itself, by a loop that numba compiles; `curate.checks.repetition` has the plain way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import MIX_B, Hashes, Indices
from curate.similarity.compiled import compile_loops, mix_scalar
from curate.similarity.dedupe.shingles import joined_bytes

# What is no letter of a word: what stands between words, what is within one, and letters and signs that are words by
# themselves.
_BETWEEN, _APOSTROPHE, _LETTER_ITSELF, _SIGN_ITSELF = range(4)
# Words of a text that are looked at for repetition; a longer one is left to the check.
_MOST_WORDS = 1 << 14
Units = NDArray[np.uint8]
Scores = NDArray[np.float64]


def repetition(texts: Sequence[str]) -> Scores:
    """Return the share of word 4-grams of each text that repeat an earlier one, 2 where it is not certain.

    Words are those of `curate.checks.repetition`, but for apostrophes, which are passed over.
    """
    lowered = [text if text.isascii() else text.lower() for text in texts]
    whole, ends = joined_bytes(lowered)
    units = np.frombuffer(whole + b"\n" * 9, np.uint8)
    scores = np.zeros(len(texts))
    _loops()["_repetition"](units, ends, _letters(), scores)
    # A letter that becomes two in lower case is no letter any more in part.
    for row, (text, other) in enumerate(zip(texts, lowered, strict=True)):
        if text is not other and len(text) != len(other):
            scores[row] = 2
    return scores


@cache
def _letters() -> NDArray[np.uint16]:
    """Return what each character below U+10000 is to `_repetition`: itself in lower case where it is part of a word."""
    letters = np.array([code if chr(code).isalnum() else _BETWEEN for code in range(1 << 16)], np.uint16)
    letters[65:91] += 32
    # A sigma at the end of a word is another one where a text ends otherwise.
    letters[0x3C2] = 0x3C3
    # As `curate.checks.repetition` has it: these are written without blanks, and each is a word.
    for first, last in ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF)):
        is_sign = letters[first : last + 1] == _BETWEEN
        letters[first : last + 1] = np.where(is_sign, _SIGN_ITSELF, _LETTER_ITSELF)
    letters[[0x27, 0x2019]] = _APOSTROPHE
    return letters


def _loops() -> dict[str, Callable[..., Any]]:
    """Return the loops below by name, compiled."""
    return compile_loops(__name__, mix_scalar, _character, _is_new, _repetition)


def _character(units: Units, at: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the character of UTF-8 that begins at a byte that is not ASCII, and how many bytes it has.

    Of those beyond U+FFFF, pictographs are a blank, and others are 0.
    """
    unit, mask, six = np.uint64(units[at]), np.uint64(0x3F), np.uint64(6)
    second, third = np.uint64(units[at + np.uint64(1)]) & mask, np.uint64(units[at + np.uint64(2)]) & mask
    if unit < np.uint64(0xE0):
        return ((unit & np.uint64(0x1F)) << six) | second, np.uint64(2)
    if unit < np.uint64(0xF0):
        return ((((unit & np.uint64(0x0F)) << six) | second) << six) | third, np.uint64(3)
    # But for two rows of digits among them, U+1F100 and U+1FBF0.
    is_digit = third == np.uint64(0x04) or third == np.uint64(0x2F)
    is_pictograph = unit == np.uint64(0xF0) and second == np.uint64(0x1F) and not is_digit
    return np.uint64(0x20) if is_pictograph else np.uint64(0), np.uint64(4)


def _is_new(run: np.uint64, table: Hashes, stamps: Indices, tick: int) -> bool:
    """Whether a run stands in a text, whose number is ``tick``, for the first time."""
    last = np.uint64(len(table) - 1)
    slot = run & last
    while stamps[slot] == tick and table[slot] != run:
        slot = (slot + np.uint64(1)) & last
    if stamps[slot] == tick:
        return False
    stamps[slot], table[slot] = tick, run
    return True


def _repetition(units: Units, ends: Indices, letters: NDArray[np.uint16], scores: Scores) -> None:
    table, stamps = np.zeros(2 * _MOST_WORDS, np.uint64), np.zeros(2 * _MOST_WORDS, np.int64)
    none, step, many = np.uint64(0), np.uint64(1), np.uint64(MIX_B)
    at = none
    for text in range(len(ends)):
        end = np.uint64(ends[text])
        words, distinct, is_sure = 0, 0, True
        first = second = third = word = before = none
        while at <= end:
            code, width = np.uint64(units[at]), step
            if code >= np.uint64(0x80):
                code, width = _character(units, at)
                is_sure = is_sure and bool(code > none)
            at += width
            letter = np.uint64(letters[code])
            if letter > np.uint64(_SIGN_ITSELF):
                word = (word ^ letter) * many
                word ^= word >> np.uint64(32)
            elif letter == np.uint64(_APOSTROPHE):
                # One within a word is passed over, two in a row would be an end.
                is_sure = is_sure and bool(before != letter)
            elif letter == np.uint64(_LETTER_ITSELF) and word != none:
                # For the check it is a letter like others behind one.
                word = (word ^ code) * many
            else:
                if letter >= np.uint64(_LETTER_ITSELF):
                    is_sure = is_sure and bool(word == none)
                    word = mix_scalar(code)
                if word != none:
                    words += 1
                    if 4 <= words < _MOST_WORDS:
                        run = mix_scalar(((first * many + second) * many + third) * many + word)
                        distinct += int(_is_new(run, table, stamps, text + 1))
                    first, second, third, word = second, third, word, none
            before = letter
        if not is_sure or words >= _MOST_WORDS:
            scores[text] = 2.0
        elif words >= 4:
            scores[text] = 1.0 - distinct / (words - 3)
