"""Texts to normalised bytes, and these to keys and to the hashes of their words.

Keys are equal for equal normalised texts. Words lose the punctuation at their edges; what it was, and what kind of word
it is, stands in the last bits of its hash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import MIX_A, Hashes, Indices, mix
from curate.base.record import normalised
from curate.similarity.dedupe.shingles import CHARACTER, COMMA, MARKS, NUMBER, QUOTED, Ragged

Units = NDArray[np.uint8]
# The white space of ASCII, as `str.split` sees it.
_BLANKS = (*range(9, 14), *range(28, 33))
_LOWER = bytes(32 if code in _BLANKS else code + 32 if 65 <= code <= 90 else code for code in range(256))
# Scripts written without blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, CJK punctuation, kana, bopomofo,
# Han.
UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3100-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
# Quotation marks, ellipses and stops that are not ASCII, which NFKC leaves as they are.
_PUNCTUATION = str.maketrans(
    {"\u2019": "'", **dict.fromkeys("\u2018\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a", '"'),
     **dict.fromkeys("\u3001\u3002\u300c\u300d\u300e\u300f\u3010\u3011", " ")}
)  # fmt: skip
# The hash of a word before its first byte.
_WORD = 0xD6E8FEB86659FD93
# By how many of 8 bytes belong to a word: the mask that leaves those.
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
# What may stand around a question and is no part of it.
AROUND = "*#_`\"' \n"
# Signs before a number that are looked past, such as those of currencies.
_LEAD = 4
_SIGN, _DIGIT, _LETTER, _EDGE = range(4)
_EDGES = b".,;:!?\"'"
# What each byte is: an edge is punctuation that is no part of a word at its beginning or end. Brackets are, for they
# say what belongs together.
_KINDS = np.full(256, _SIGN, np.uint8)
_KINDS[list(_EDGES)] = _EDGE
_KINDS[48:58] = _DIGIT
_KINDS[65:91] = _KINDS[97:123] = _LETTER
# What each byte of an edge leaves of `MARKS`, before a word and behind it.
_BEFORE, _BEHIND = np.zeros((2, 256), np.uint64)
_BEFORE[[34, 39]], _BEHIND[[34, 39]], _BEHIND[44] = QUOTED, 2 * QUOTED, COMMA


def storable(texts: Sequence[str]) -> list[str]:
    """Return ``texts`` so that cutting them at blanks and lower-casing ASCII letters is all that is left to normalise.

    Halves of surrogate pairs, which no encoding holds, become three letters each.
    """
    return [text.strip() if text.isascii() else _encodable(normalised(text)) for text in texts]


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return normalised("".join(c if not "\ud800" <= c <= "\udfff" else f"\ufffd{ord(c):x}" for c in text))
    return text


def spaced(flat: str) -> str:
    """Return normalised text with ASCII quotation marks, and a blank on either side of each character of a script that
    is written without."""
    if flat.isascii():
        return flat
    # What stands between the characters, and they themselves: to substitute each takes ten times as long.
    parts = UNSPACED.split(flat := flat.translate(_PUNCTUATION))
    return flat if len(parts) == 1 else " ".join(" ".join(parts).split())


def flattened(texts: Sequence[str]) -> Units:
    """Return the normalised UTF-8 of `storable` texts, a newline between two."""
    flat = np.frombuffer(b"\n".join(text.encode().translate(_LOWER) for text in texts), np.uint8)
    is_doubled = (flat[:-1] == 32) & (flat[1:] == 32)
    return np.delete(flat, np.flatnonzero(is_doubled)) if is_doubled.any() else flat


def text_keys(units: Units) -> Hashes:
    """Return the digest, [N, 2], of each of some flattened texts."""
    digests = [blake2b(text, digest_size=16).digest() for text in units.tobytes().split(b"\n")]
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def words_in(text: str) -> tuple[list[str], Hashes]:
    """Return the words of a question, and their hashes as those of a record's tokens."""
    units = flattened([spaced(storable([text.strip(AROUND) or text])[0])])
    words = (piece.strip(_EDGES) for piece in units.tobytes().split())
    return [word.decode() for word in words if word], word_hashes(units).hashes


NOTHING = text_keys(np.zeros(0, np.uint8))[0]
"""The key of a text that says nothing."""


def word_hashes(units: Units) -> Ragged:
    """Hash the words of flattened texts; what is nothing but punctuation is no word."""
    is_gap = np.concatenate([[True], (units == 32) | (units == 10), [True]])
    starts, ends = np.flatnonzero(is_gap[:-1] & ~is_gap[1:]), np.flatnonzero(~is_gap[:-1] & is_gap[1:])
    starts, ends, marks = _trimmed(units, starts, ends)
    hashes = hash_words(units, starts, ends - starts) & ~np.uint64(NUMBER | CHARACTER | MARKS)
    breaks = np.concatenate([[0], np.flatnonzero(units == 10), [len(units)]])
    return Ragged(hashes | _kinds_of(units, starts, ends) | marks, np.searchsorted(starts, breaks).astype(np.int64))


def hash_words(units: Units, starts: Indices, sizes: Indices) -> Hashes:
    """Return a hash of each of the words that begin at ``starts`` in UTF-8 and take ``sizes`` bytes, none of them 0."""
    # Every place is read as a number of 8 bytes, of which those behind the word are masked.
    eights = np.ndarray((len(units) + 1,), "<u8", np.concatenate([units, np.zeros(8, np.uint8)]), strides=(1,))
    hashes, rows, offset = np.full(len(starts), _WORD, np.uint64), np.arange(len(starts)), 0
    while len(rows):
        packs = eights[starts[rows] + offset] & _MASKS[np.minimum(sizes[rows] - offset, 8)]
        packs = (packs ^ hashes[rows]) * np.uint64(MIX_A)
        hashes[rows] = packs ^ (packs >> np.uint64(29))
        offset += 8
        rows = rows[sizes[rows] > offset]
    return mix(hashes + sizes.astype(np.uint64))


def _trimmed(units: Units, starts: Indices, ends: Indices) -> tuple[Indices, Indices, Hashes]:
    """Return the words without the punctuation at their edges, and what that was of `MARKS`; those of which nothing is
    left are left out."""
    is_edge, marks = _KINDS == _EDGE, np.zeros(len(starts), np.uint64)
    starts, ends, last = starts.copy(), ends.copy(), ends
    rows = np.flatnonzero(is_edge[units[starts]])
    while len(rows):
        marks[rows] |= _BEFORE[units[starts[rows]]]
        starts[rows] += 1
        rows = rows[starts[rows] < ends[rows]]
        rows = rows[is_edge[units[starts[rows]]]]
    is_word = starts < ends
    starts, ends, last, marks = starts[is_word], ends[is_word], last[is_word], marks[is_word]
    rows = np.flatnonzero(is_edge[units[ends - 1]])
    while len(rows):
        # It ends at the latest at the first byte, which is no edge.
        ends[rows] -= 1
        marks[rows] |= _BEHIND[units[ends[rows]]]
        rows = rows[is_edge[units[ends[rows] - 1]]]
    # A comma at the end of a text or a line is nothing within it.
    has_comma = np.flatnonzero(marks & np.uint64(COMMA))
    marks[has_comma[np.append(units, np.uint8(10))[last[has_comma]] != 32]] &= ~np.uint64(COMMA)
    return starts, ends, marks


def _kinds_of(units: Units, starts: Indices, ends: Indices) -> Hashes:
    """Return for each word `NUMBER`, `CHARACTER` or 0."""
    # A number is a word whose first letter or digit is a digit: "1985", "$80,000", "3rd", and not "covid19".
    padded, is_sign = np.append(units, np.uint8(0)), (_KINDS != _DIGIT) & (_KINDS != _LETTER)
    first = starts.copy()
    for _ in range(_LEAD):
        first += (first < ends) & is_sign[padded[first]]
    is_number = (first < ends) & (_KINDS[padded[first]] == _DIGIT)
    lead = units[starts]
    is_character = (lead >= 0xE0) & (ends - starts == np.where(lead < 0xF0, 3, 4))
    kinds: Hashes = is_number * np.uint64(NUMBER) | is_character * np.uint64(CHARACTER)
    return kinds
