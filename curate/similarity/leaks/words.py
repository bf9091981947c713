"""Texts as words, and words as numbers: a word is a hash of its bytes, a run of words one hash of theirs.

Case, punctuation and the form of characters (NFKC) make no difference. Scripts that set no blanks between words count
by character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import STEP, Hashes, Indices, mix
from curate.base.record import normalised

Flags = NDArray[np.bool_]

_CHUNK_CHARS = 1 << 19
_CHUNK_UNITS = 1 << 19
# Bytes of a word that are hashed; longer ones are no words but blobs, and are compared in full later.
_TELLING = 4096

_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_GAP = re.compile(rb"[\x00-\x20]")
_MARKS = re.compile(r"[^\w\s]|_")
# Thai, Lao, Tibetan, Myanmar, Khmer, kana, bopomofo and Han: written without blanks between words.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def spelled(text: str) -> str:
    """Return ``text`` as its words in lower case, with blanks between them and no punctuation."""
    if text.isascii():
        return text.translate(_ASCII)
    return _UNSPACED.sub(r" \1 ", _MARKS.sub(_mark, normalised(text)))


def _mark(match: re.Match[str]) -> str:
    """Keep what is a part of a word, such as a vowel sign; everything else that is no letter or digit parts words."""
    return match[0] if unicodedata.category(match[0])[0] == "M" else " "


def words_of(text: str) -> list[str]:
    """Return the words of ``text``."""
    return spelled(text).split()


def is_by_character(words: Sequence[str]) -> bool:
    """Whether most of ``words`` are single characters of a script without blanks."""
    return 2 * sum(len(word) == 1 and not word.isascii() and bool(_UNSPACED.match(word)) for word in words) > len(words)


@dataclass(frozen=True, slots=True)
class Runs:
    """Every run of ``n`` words of some texts, by hash, and each text as a whole.

    ``rows`` and ``starts`` give the text of each run and the place of its first word among the words of all texts;
    ``wholes`` hashes all words of a text (0 for none), ``counts`` is their number.
    """

    hashes: Hashes
    rows: Indices
    starts: Indices
    wholes: Hashes
    counts: Indices


def runs_of(texts: Sequence[str], n: int) -> Runs:
    """Hash the runs of ``n`` words of each text; a text with fewer has none.

    A hash is the polynomial of what it covers, taken from running sums, and then scrambled by the finaliser of
    SplitMix64 (Steele, Lea, Flood 2014). Equal hashes are a reason to compare, no proof.
    """
    parts: list[tuple[Hashes, Indices, Indices]] = [
        (np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    ]
    wholes, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    num_words = 0
    for low, high in chunks([(text,) for text in texts]):
        words, sizes = hashed(texts[low:high])
        parts += [(hashes, rows + low, starts + num_words) for hashes, rows, starts in runs_in(words, sizes, n)]
        wholes.append(wholes_of(words, sizes))
        counts.append(sizes)
        num_words += len(words)
    hashes, rows, starts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Runs(hashes, rows, starts, np.concatenate(wholes), np.concatenate(counts))


def runs_in(words: Hashes, counts: Indices, n: int) -> Iterator[tuple[Hashes, Indices, Indices]]:
    """Yield the runs of texts as `hashed` gives them, some at a time: their hashes, their texts, their first words."""
    begins = np.cumsum(counts) - counts
    num_runs = np.maximum(0, counts - n + 1)
    upto = np.cumsum(num_runs)
    # A single text may be long, and the sums take many times its size.
    for low in range(0, int(num_runs.sum()), _CHUNK_UNITS):
        indices = np.arange(low, min(low + _CHUNK_UNITS, int(upto[-1])))
        rows = np.searchsorted(upto, indices, "right")
        starts = indices - (upto - num_runs)[rows] + begins[rows]
        base = starts[0]
        inverses, sums = _polynomial(words[base : starts[-1] + n])
        at = starts - base
        yield mix((sums[at + n] - sums[at]) * inverses[at]), rows, starts


def wholes_of(words: Hashes, counts: Indices) -> Hashes:
    """Return the hash of all words of each text as `hashed` gives them, 0 for one without any."""
    ends = np.cumsum(counts)
    begins = ends - counts
    totals = np.zeros(len(counts), np.uint64)
    for low in range(0, len(words), _CHUNK_UNITS):
        high = min(low + _CHUNK_UNITS, len(words))
        inverses, sums = _polynomial(words[low:high])
        first, last = np.searchsorted(ends, low, "right"), np.searchsorted(begins, high, "left")
        start, stop = np.maximum(begins[first:last], low) - low, np.minimum(ends[first:last], high) - low
        parts = (sums[stop] - sums[start]) * inverses[start]
        # Of these texts only the first can have begun in what came before.
        parts[:1] *= np.uint64(pow(STEP, max(0, low - int(begins[first])), 1 << 64))
        totals[first:last] += parts
    wholes = mix(totals + counts.astype(np.uint64))
    wholes[counts == 0] = 0
    return wholes


def joined(left: Hashes, right: Hashes) -> Hashes:
    """Return one hash for each pair."""
    return mix(left * np.uint64(STEP) + right)


def chunks(texts: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of neighbouring groups of texts that together have about half a million characters."""
    low, total = 0, 0
    for index, group in enumerate(texts):
        total += sum(map(len, group))
        if total > _CHUNK_CHARS:
            yield low, index + 1
            low, total = index + 1, 0
    if low < len(texts):
        yield low, len(texts)


def _flat(text: str) -> str:
    """Return the words of ``text`` on one line: a line break parts texts here."""
    return spelled(text).replace("\n", " ")


def hashed(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    """Return the hash of every word of some texts, and the number of words of each."""
    raw = "\n".join(map(_flat, texts)).encode("utf-8", "surrogatepass")
    counts = np.zeros(len(texts), np.int64)
    words = [np.zeros(0, np.uint64)]
    low = line = 0
    # A single text may be long, and what is made of it takes many times its size: it is parted between words.
    while low < len(raw):
        gap = _GAP.search(raw, low + _CHUNK_UNITS)
        high = gap.start() if gap else len(raw)
        units = np.frombuffer(raw[low : min(high, low + _CHUNK_UNITS + _TELLING)], np.uint8)
        is_gap = np.concatenate([[True], units <= 32, [True]])
        starts = np.flatnonzero(is_gap[:-1] & ~is_gap[1:])
        ends = np.minimum(np.flatnonzero(~is_gap[:-1] & is_gap[1:]), starts + _TELLING)
        breaks = np.flatnonzero(units == 10)
        inverses, sums = _polynomial(units.astype(np.uint64) + np.uint64(1))
        words.append(mix((sums[ends] - sums[starts]) * inverses[starts]))
        counts += np.bincount(line + np.searchsorted(breaks, starts), minlength=len(texts))
        low, line = high, line + len(breaks)
    return np.concatenate(words), counts


def _polynomial(values: Hashes) -> tuple[Hashes, Hashes]:
    """Return the powers of the base's inverse, and the running sums of value * power of the base."""
    size = 1 << len(values).bit_length()
    powers, inverses = _powers(STEP, size), _powers(pow(STEP, -1, 1 << 64), size)
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return inverses, sums


@lru_cache(maxsize=6)
def _powers(root: int, size: int) -> Hashes:
    table = np.ones(size, np.uint64)
    done = 1
    while done < size:
        step = min(done, size - done)
        table[done : done + step] = table[:step] * np.uint64(pow(root, done, 1 << 64))
        done += step
    return table
