"""Texts to normalised bytes, and these to sets of shingles.

A shingle is ``ngram`` neighbouring tokens, known by a 64-bit hash that never changes.

A shingle's hash is a polynomial of its tokens' hashes (Karp and Rabin 1987), mixed as each token's hash is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import STEP, Hashes, Indices, mix
from curate.base.packs import releasing_pages
from curate.base.record import normalised

Field = Literal["record", "prompt", "completion"]
FIELDS: tuple[Field, ...] = ("record", "prompt", "completion")
# The white space of ASCII, as `str.split` sees it.
BLANKS = (*range(9, 14), *range(28, 33))
LOWER = bytes(32 if code in BLANKS else code + 32 if 65 <= code <= 90 else code for code in range(256))

# Scripts written without blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, CJK punctuation, kana, bopomofo,
# Han.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3100-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
# Quotation marks, ellipses and stops that are not ASCII, which NFKC leaves as they are.
_PUNCTUATION = str.maketrans(
    {"\u2019": "'", **dict.fromkeys("\u2018\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a", '"'),
     **dict.fromkeys("\u3001\u3002\u300c\u300d\u300e\u300f\u3010\u3011", " ")}
)  # fmt: skip


def spaced(flat: str) -> str:
    """Return normalised text with ASCII quotation marks, and a blank on either side of each character of a script that
    is written without."""
    if flat.isascii():
        return flat
    flat = flat.translate(_PUNCTUATION)
    # What stands between the characters, and they themselves: to substitute each takes ten times as long.
    parts = _UNSPACED.split(flat)
    return flat if len(parts) == 1 else " ".join(" ".join(parts).split())


def storable(texts: Sequence[str]) -> list[str]:
    """Return ``texts`` so that cutting them at blanks and lower-casing ASCII letters is all that is left to normalise.

    Halves of surrogate pairs, which no encoding holds, become three letters each.
    """
    if all(map(str.isascii, texts)):
        return list(map(str.strip, texts))
    return [text.strip() if text.isascii() else _encodable(normalised(text)) for text in texts]


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return normalised("".join(c if not "\ud800" <= c <= "\udfff" else f"\ufffd{ord(c):x}" for c in text))
    return text


def joined_bytes(texts: Sequence[str]) -> tuple[bytes, Indices]:
    """Return the UTF-8 of ``texts`` with one byte between two, and where each ends."""
    whole = "\n".join(texts)
    units = whole.encode()
    if len(units) == len(whole):
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    else:
        sizes = (len(text) if text.isascii() else len(text.encode()) for text in texts)
        lengths = np.fromiter(sizes, np.int64, len(texts))
    return units, np.cumsum(lengths + 1) - 1


def flattened(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Return the normalised UTF-8 of `storable` texts, a newline between two."""
    units, ends = joined_bytes(texts)
    flat = np.frombuffer(bytearray(units.translate(LOWER)), np.uint8)
    flat[ends[:-1]] = 10
    is_blank = flat == 32
    doubled = np.flatnonzero(is_blank[:-1] & is_blank[1:])
    return np.delete(flat, doubled) if len(doubled) else flat


_Number = TypeVar("_Number", np.int64, np.uint64)

# Bits of the hash of a word: it is a number; it is one character of a script that is written without blanks; there is
# a quotation mark before it, or, the next bit, behind it; a comma is behind it and more of the text. These `MARKS` tell
# whether texts are the same word for word, and make them no less alike.
NUMBER, CHARACTER, QUOTED, COMMA = 1, 2, 8, 32
MARKS = 3 * QUOTED | COMMA
# The token between two parts of a prompt; no word has it.
BREAK = 4

# Boilerplate is measured on at most this many texts.
SAMPLE = 5_000
# Fewest tokens of a passage that can be boilerplate; shorter ones are just common turns of phrase.
PASSAGE = 8
SHARE = 0.05
COUNT = 20
# A passage in more different prompts than this is a template.
MAX_PROMPTS = 5
# Tokens of a text, evenly spread, of which its fingerprint is made.
NUM_PRINTED = 16
# Texts that are taken at once, and tokens where each part of them costs as much as what is looked for.
BLOCK, PART = 1 << 14, 1 << 20
# As `itertools.starmap`: calls a function with each tuple of arguments, and yields what it returns, in order.
Starmap = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]


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

    def take(self, rows: Indices | slice) -> Spans:
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
    unique: NDArray[_Number] = ordered[heads_run(ordered)]
    return unique


def heads_run(ordered: NDArray[_Number]) -> NDArray[np.bool_]:
    """Whether each of some sorted numbers, or of some rows of them, differs from the one before it."""
    is_head = np.ones(len(ordered), bool)
    is_other = ordered[1:] != ordered[:-1]
    is_head[1:] = is_other if ordered.ndim == 1 else is_other.any(axis=1)
    return is_head


def may_be_among(known: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    """Whether each hash may be one of ``known``, by a table of their last bits (Bloom 1970, with one hash)."""
    # That tells nearly all that are none of them sooner than a search does.
    bits = np.uint64((1 << min(24, max(16, len(known).bit_length() + 4))) - 1)
    table = np.zeros(int(bits) + 1, bool)
    table[known & bits] = True
    is_possible: NDArray[np.bool_] = table[hashes & bits]
    return is_possible


def shingles(of: Ragged, ngram: int) -> Ragged:
    """Join every ``ngram`` neighbouring tokens; a text with fewer tokens is one shingle, an empty one has none."""
    of, counts = Ragged(of.hashes & ~np.uint64(MARKS), of.offsets), of.lengths
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
    """Texts as sets of shingles, row i in ``members[offsets[i]:offsets[i + 1]]``.

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


class Cut(NamedTuple):
    """How texts are cut: shingles of ``ngram`` tokens, without those in the ``popular`` passages, which are sorted."""

    ngram: int
    popular: Hashes

    @property
    def width(self) -> int:
        """Tokens in a passage."""
        return max(PASSAGE, self.ngram)

    def and_also(self, passages: Hashes) -> Cut:
        """Return a cut that leaves ``passages`` out as well."""
        return Cut(self.ngram, distinct(np.concatenate([self.popular, passages])))


def popular_passages(
    spans: Spans, ngram: int, weights: Indices, prints: Callable[[Spans], Hashes] | None = None
) -> Hashes:
    """Return the passages that stand in more than the allowed share of the records, sorted; measured on a sample.

    ``weights`` has the number of records of each text, and ``prints`` is a way to `fingerprints`.
    """
    width, num_records = max(PASSAGE, ngram), int(weights.sum())
    rows = np.flatnonzero(spans.ends - spans.starts >= width)
    if num_records <= COUNT or not len(rows):
        return np.zeros(0, np.uint64)
    total = num_records
    if len(rows) > SAMPLE:
        # Picked by content, so that the order of the records has no say.
        picked = _smallest((prints or fingerprints)(spans.take(rows)), SAMPLE)
        total = int(num_records * weights[rows[picked]].sum() / weights[rows].sum())
        rows = rows[np.sort(picked)]
    return shared_passages(spans.take(rows).hashed(), width, weights[rows], num_records, total)


def _smallest(hashes: Hashes, count: int) -> Indices:
    """Return the rows of the ``count`` smallest hashes, of equal ones the first."""
    most = np.partition(hashes, count - 1)[count - 1]
    low, edge = np.flatnonzero(hashes < most), np.flatnonzero(hashes == most)
    return np.concatenate([low, edge[: count - len(low)]])


def shared_passages(of: Ragged, width: int, weights: Indices, num_records: int, total: int) -> Hashes:
    """Return the passages of ``width`` tokens that stand in more than the allowed share of the records, sorted.

    ``of`` is a sample of texts of so many tokens or more, which ``weights`` records have each, of ``num_records`` in
    all; ``total`` records say what is in the sample.
    """
    passages = _passages(of, width)
    universe, numbers = np.unique(passages.hashes, return_inverse=True)
    owners = distinct(np.repeat(np.arange(len(weights)), passages.lengths) * len(universe) + numbers)
    counts = np.bincount(owners % len(universe), weights=weights[owners // len(universe)])
    return universe[counts > max(COUNT / num_records, SHARE) * total]


def passages_in(spans: Spans, width: int) -> Hashes:
    """Return the different passages of ``width`` tokens of some texts, sorted."""
    parts = (_passages(part.hashed(), width).hashes for part in by_parts(spans, width))
    return distinct(np.concatenate([np.zeros(0, np.uint64), *parts]))


def num_texts_with(spans: Spans, width: int, wanted: Hashes) -> Indices:
    """Return for each of the sorted passages ``wanted`` in how many of the texts it stands; all have so many tokens."""
    part = _passages(spans.hashed(), width)
    positions = np.flatnonzero(may_be_among(wanted, part.hashes))
    near = np.minimum(np.searchsorted(wanted, part.hashes[positions]), len(wanted) - 1)
    is_match = wanted[near] == part.hashes[positions]
    owners = np.searchsorted(part.offsets, positions[is_match], side="right") - 1
    each = distinct(owners * len(wanted) + near[is_match])
    return np.bincount(each % len(wanted), minlength=len(wanted))


def by_parts(spans: Spans, width: int) -> Iterator[Spans]:
    """Yield the texts that are long enough for a passage, some at a time."""
    sizes = spans.ends - spans.starts
    rows = np.flatnonzero(sizes >= width)
    part = np.cumsum(sizes[rows]) // PART
    borders = itertools.pairwise([*np.flatnonzero(heads_run(part)).tolist(), len(rows)])
    for low, high in releasing_pages(borders, spans.tokens):
        yield spans.take(rows[low:high])


def fingerprints(spans: Spans) -> Hashes:
    """Return a number for each text, none of them empty: of its length and some of its tokens."""
    # A block of them stays in the processor's cache.
    blocks = (spans.take(slice(low, low + BLOCK)) for low in range(0, len(spans), BLOCK))
    return np.concatenate([np.zeros(0, np.uint64), *map(_fingerprints, releasing_pages(blocks, spans.tokens))])


def _fingerprints(spans: Spans) -> Hashes:
    sizes, tokens = spans.ends - spans.starts, np.asarray(spans.tokens)
    hashes = mix(sizes.astype(np.uint64))
    for index in range(NUM_PRINTED):
        hashes = mix(hashes ^ tokens[spans.starts + (sizes - 1) * index // (NUM_PRINTED - 1)])
    return hashes


def _passages(of: Ragged, width: int) -> Ragged:
    """Hash the ``width`` tokens from each place of each row on; every row has so many."""
    offsets = np.concatenate([[0], np.cumsum(of.lengths - width + 1)]).astype(np.int64)
    positions = np.arange(int(offsets[-1])) + np.repeat(of.offsets[:-1] - offsets[:-1], np.diff(offsets))
    return Ragged(windows(of.hashes & ~np.uint64(MARKS), width)[positions], offsets)


def cut_texts(of: Ragged, cut: Cut) -> Ragged:
    """Return the shingles of each row of tokens, less those that lie within boilerplate."""
    table, width, popular = shingles(of, cut.ngram), cut.width, cut.popular
    if not len(popular):
        return table
    rows = np.flatnonzero(of.lengths >= width)
    starts = np.concatenate([[0], np.cumsum(of.lengths[rows] - width + 1)]).astype(np.int64)
    positions = np.arange(int(starts[-1])) + np.repeat(of.offsets[:-1][rows] - starts[:-1], np.diff(starts))
    passages = windows(of.hashes & ~np.uint64(MARKS), width)[positions]
    near = np.minimum(np.searchsorted(popular, passages), len(popular) - 1)
    # A passage that starts at a place holds the shingles from there to width - ngram places on.
    first = np.arange(len(positions)) + np.repeat(table.offsets[:-1][rows] - starts[:-1], np.diff(starts))
    first = first[popular[near] == passages]
    edges = np.zeros(len(table.hashes) + 1, np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, first + (width - cut.ngram + 1), -1)
    is_retained = np.cumsum(edges[:-1]) == 0
    running = np.concatenate([[0], np.cumsum(is_retained)]).astype(np.int64)
    return Ragged(table.hashes[is_retained], running[table.offsets])
