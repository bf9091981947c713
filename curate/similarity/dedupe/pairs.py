"""Pairs of records held against one another part by part: whether they ask the same, and whether they answer the same.

A long passage or a fixed instruction makes two prompts alike whatever they ask, and a short answer such as a year
agrees by chance. So every part of a prompt (system, instruction, input, each turn) must be alike by itself, and no gap
may be wider than a few edited words leave. For a repeat numbers must be the same in the same order; and where the
answer is too short to be evidence, the questions must be the same word for word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import STEP, Hashes, Indices, mix
from curate.base.packs import releasing_pages
from curate.similarity.dedupe.kernels import Kernels, Scores
from curate.similarity.dedupe.shingles import (
    BREAK,
    CHARACTER,
    MARKS,
    NUMBER,
    Cut,
    Ragged,
    Spans,
    cut_texts,
    distinct,
    shingles,
)

# Fewest shingles from which a completion alone is telling; short answers are alike by chance.
LONG_COMPLETION = 20
MOST_PAIRS = 1 << 20
# Pairs that are compared at once, and the tokens of their texts.
MOST_TOKENS = 1 << 19
Flags = NDArray[np.bool_]


class Verdicts(NamedTuple):
    """What pairs of records have in common, one row a pair.

    ``asks_alike``: tools, roles and every part of the prompt, ``has_same_numbers`` its numbers too; ``asks_same``: word
    for word. ``answers_alike``: the completion, and all turns after it. ``is_telling``: both completions are long
    enough to be evidence.
    """

    asks_alike: Flags
    has_same_numbers: Flags
    asks_same: Flags
    answers_alike: Flags
    is_telling: Flags

    @property
    def is_repeat(self) -> Flags:
        """Whether the records of a pair teach the same."""
        return self.answers_alike & (self.asks_same | (self.asks_alike & self.has_same_numbers & self.is_telling))


# Compares the records ``left[i]`` and ``right[i]``, by number.
Judge = Callable[[Indices, Indices], Verdicts]


@dataclass(frozen=True, slots=True)
class AlikeRule:
    """How parts are compared: alike from ``threshold`` on, with and without what stands in many records."""

    threshold: float
    prompt_cut: Cut
    completion_cut: Cut


class Sides(NamedTuple):
    """What is compared of N records: prompts with breaks between their parts, completions, and forms, [N, 2]."""

    prompts: Spans
    completions: Spans
    forms: Hashes

    def take(self, rows: Indices) -> Sides:
        """Return the records ``rows``."""
        return Sides(self.prompts.take(rows), self.completions.take(rows), self.forms[rows])


def compare(spans: Spans, cut: Cut, left: Indices, right: Indices, kernels: Kernels) -> Scores:
    """Return the exact similarity of the texts ``left[i]`` and ``right[i]``, a bounded number of them at a time."""
    sizes = spans.ends - spans.starts
    tasks = ((spans.take(rows), cut, first, second) for rows, first, second in _by_batch(sizes, left, right))
    scores = kernels.starmap(partial(_scores, kernels.alone), tasks)
    return np.concatenate([np.zeros(0), *releasing_pages(scores, spans.tokens)])


def _scores(kernels: Kernels, spans: Spans, cut: Cut, left: Indices, right: Indices) -> Scores:
    return kernels.jaccard(kernels.sets(spans, cut), left, right)


def _by_batch(sizes: Indices, left: Indices, right: Indices) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Divide pairs of texts so that the texts of each part have a bounded number of tokens.

    ``sizes`` counts the tokens of all texts. Yields the sorted rows that a part is about, and its pairs as places among
    those rows.
    """
    ends = np.cumsum(sizes[left] + sizes[right])
    low = 0
    while low < len(left):
        limit = MOST_TOKENS + (ends[low - 1] if low else 0)
        high = max(low + 1, min(low + MOST_PAIRS, int(np.searchsorted(ends, limit, side="right"))))
        rows = distinct(np.concatenate([left[low:high], right[low:high]]))
        yield rows, np.searchsorted(rows, left[low:high]), np.searchsorted(rows, right[low:high])
        low = high


def verdicts(sides: Sides, left: Indices, right: Indices, rule: AlikeRule, kernels: Kernels) -> Verdicts:
    """Compare the records ``left[i]`` and ``right[i]``, a bounded number of them at a time."""
    sizes = sides.prompts.ends - sides.prompts.starts + sides.completions.ends - sides.completions.starts
    tasks = ((sides.take(rows), first, second) for rows, first, second in _by_batch(sizes, left, right))
    function = partial(_verdicts, rule, kernels.alone)
    nothing = Verdicts(*(np.zeros(0, np.bool_) for _ in Verdicts._fields))
    parts_of_all = releasing_pages(kernels.starmap(function, tasks), sides.prompts.tokens)
    columns = zip(nothing, *parts_of_all, strict=True)
    return Verdicts(*(np.concatenate(parts) for parts in columns))


def _verdicts(rule: AlikeRule, kernels: Kernels, sides: Sides, left: Indices, right: Indices) -> Verdicts:
    asks_alike = sides.forms[left, 0] == sides.forms[right, 0]
    has_same_numbers, asks_same = asks_alike.copy(), asks_alike.copy()
    parts, owners, left_at, right_at = _paired_parts(sides.prompts, left, right)
    flags = _alike(parts, left_at, right_at, rule.prompt_cut, rule.threshold, kernels, is_scattered=True)
    for whole, part in zip((asks_alike, has_same_numbers, asks_same), flags, strict=True):
        whole[owners[~part]] = False
    is_alike, is_equal, is_same = _alike(sides.completions, left, right, rule.completion_cut, rule.threshold, kernels)
    rows, positions = np.unique(np.concatenate([left, right]), return_inverse=True)
    lengths = cut_texts(sides.completions.take(rows).hashed(), rule.completion_cut).lengths
    is_long = lengths[positions] >= LONG_COMPLETION
    is_telling = is_long[: len(left)] & is_long[len(left) :]
    answers_alike = is_same | (is_alike & is_equal & is_telling)
    answers_alike &= sides.forms[left, 1] == sides.forms[right, 1]
    return Verdicts(asks_alike, has_same_numbers, asks_same, answers_alike, is_telling)


def _paired_parts(prompts: Spans, left: Indices, right: Indices) -> tuple[Spans, Indices, Indices, Indices]:
    """Return the parts of the prompts, and which of them stand opposite one another in which pair.

    Prompts of different numbers of parts are compared as one.
    """
    rows, positions = np.unique(np.concatenate([left, right]), return_inverse=True)
    some = prompts.take(rows)
    lengths = some.ends - some.starts
    offsets = np.cumsum(lengths) - lengths
    at = np.arange(int(lengths.sum())) + np.repeat(some.starts - offsets, lengths)
    is_break = some.tokens[at] == BREAK
    breaks = at[is_break]
    owner = np.repeat(np.arange(len(rows)), lengths)[is_break]
    counts = np.bincount(owner, minlength=len(rows)) + 1
    first = np.cumsum(counts) - counts
    # A part begins where its prompt does or behind a break, and ends at a break or where its prompt does.
    starts, ends = np.empty(int(counts.sum()), np.int64), np.empty(int(counts.sum()), np.int64)
    rank = np.arange(len(breaks)) - np.searchsorted(owner, owner)
    starts[first], ends[first + counts - 1] = some.starts, some.ends
    starts[first[owner] + rank + 1], ends[first[owner] + rank] = breaks + 1, breaks
    left_at, right_at = positions[: len(left)], positions[len(left) :]
    num_parts = np.where(counts[left_at] == counts[right_at], counts[left_at], 0)
    whole = np.flatnonzero(num_parts == 0)
    pairs = np.repeat(np.arange(len(left)), num_parts)
    within = np.arange(int(num_parts.sum())) - np.repeat(np.cumsum(num_parts) - num_parts, num_parts)
    num = len(starts)
    spans = Spans(some.tokens, np.concatenate([starts, some.starts]), np.concatenate([ends, some.ends]))
    return (
        spans,
        np.concatenate([pairs, whole]),
        np.concatenate([first[left_at[pairs]] + within, num + left_at[whole]]),
        np.concatenate([first[right_at[pairs]] + within, num + right_at[whole]]),
    )


def _alike(
    spans: Spans,
    left: Indices,
    right: Indices,
    cut: Cut,
    threshold: float,
    kernels: Kernels,
    *,
    is_scattered: bool = False,
) -> tuple[Flags, Flags, Flags]:
    """Return whether the texts of each pair are alike, have the same numbers, and are the same word for word.

    With ``is_scattered`` alike texts differ by single words only, wherever they are.
    """
    rows, positions = np.unique(np.concatenate([left, right]), return_inverse=True)
    left_at, right_at = positions[: len(left)], positions[len(left) :]
    texts = spans.take(rows)
    words, numbers = _prints(texts)
    is_same: Flags = words[left_at] == words[right_at]
    todo = np.flatnonzero(~is_same)
    todo = todo[compare(texts, Cut(cut.ngram, cut.popular[:0]), left_at[todo], right_at[todo], kernels) >= threshold]
    if len(cut.popular):
        # What is left of both without what many records say must be alike too, or all of the one stand in the other,
        # which then has a few edited words more.
        left_over = kernels.sets(texts, cut)
        sizes = np.diff(left_over.offsets)
        scores = kernels.jaccard(left_over, left_at[todo], right_at[todo])
        num_shared = scores * (sizes[left_at[todo]] + sizes[right_at[todo]]) / (1 + scores)
        is_within = num_shared > np.minimum(sizes[left_at[todo]], sizes[right_at[todo]]) - 0.5
        todo = todo[(scores >= threshold) | is_within]
    if is_scattered:
        for here, there in ((left_at, right_at), (right_at, left_at)):
            # Between two edited words a shingle may find no room.
            todo = todo[_gaps(texts, here[todo], there[todo], cut.ngram) <= cut.ngram + 1]
    is_alike = is_same.copy()
    is_alike[todo] = True
    return is_alike, numbers[left_at] == numbers[right_at], is_same


def _prints(spans: Spans) -> tuple[Hashes, Hashes]:
    """Return a hash of all tokens of each text in their order, and one of its numbers."""
    table = spans.hashed()
    numbers = np.flatnonzero(table.hashes & np.uint64(NUMBER))
    bare = table.hashes[numbers] & ~np.uint64(MARKS)
    return in_order(table), in_order(Ragged(bare, np.searchsorted(numbers, table.offsets)))


def in_order(of: Ragged) -> Hashes:
    """Return a hash of all values of each row in their order."""
    # Their places are counted from the first of each row.
    rank = (np.arange(1, len(of.hashes) + 1) - np.repeat(of.offsets[:-1], of.lengths)).astype(np.uint64)
    terms = mix(of.hashes + rank * np.uint64(STEP))
    sums: Hashes = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
    prints: Hashes = sums[of.offsets[1:]] - sums[of.offsets[:-1]]
    return prints


def _gaps(spans: Spans, left: Indices, right: Indices, ngram: int) -> NDArray[np.float64]:
    """Return for each pair the longest stretch of the left text that no shingle of the right one covers, in tokens."""
    # Among words a character of a script without blanks counts half.
    here, there = spans.take(left).hashed(), spans.take(right).hashed()
    left_shingles, right_shingles = shingles(here, ngram), shingles(there, ngram)
    universe, numbers = np.unique(np.concatenate([left_shingles.hashes, right_shingles.hashes]), return_inverse=True)
    pairs, width = np.arange(len(left)), len(universe)
    rows = np.repeat(pairs, left_shingles.lengths)
    keys = rows * width + numbers[: len(rows)]
    known = distinct(np.repeat(pairs, right_shingles.lengths) * width + numbers[len(rows) :])
    is_shared = np.isin(keys, known)
    begins = (np.arange(len(rows)) + np.repeat(here.offsets[:-1] - left_shingles.offsets[:-1], left_shingles.lengths))[
        is_shared
    ]
    edges = np.zeros(len(here.hashes) + 1, np.int64)
    np.add.at(edges, begins, 1)
    np.add.at(edges, begins + np.minimum(ngram, here.lengths[rows[is_shared]]), -1)
    is_open = np.cumsum(edges[:-1]) == 0
    is_first = is_open.copy()
    is_first[1:] &= ~is_open[:-1]
    heads = here.offsets[:-1][here.lengths > 0]
    is_first[heads] = is_open[heads]
    runs = np.flatnonzero(is_first)
    is_half = (here.hashes & np.uint64(CHARACTER)).astype(np.bool_)
    sizes = np.bincount(np.cumsum(is_first)[is_open] - 1, np.where(is_half, 0.5, 1.0)[is_open], len(runs))
    widest = np.zeros(len(left))
    np.maximum.at(widest, np.searchsorted(here.offsets, runs, side="right") - 1, sizes)
    return widest
