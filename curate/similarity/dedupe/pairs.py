"""Pairs of records held against one another part by part: whether they ask the same, and whether they answer the same.

A long passage or a fixed instruction makes two prompts alike whatever they ask, and a short answer such as a year
agrees by chance. So every part of a prompt (system, instruction, input, each turn) must be alike by itself, and no gap
may be wider than a few edited words leave. For a repeat numbers must be the same in the same order; and where the
answer is too short to be evidence, the questions must be the same word for word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import STEP, Hashes, Indices, mix
from curate.similarity.dedupe.corpus import Corpus
from curate.similarity.dedupe.near import as_sets, by_batch, compare, num_shared
from curate.similarity.dedupe.shingles import (
    CHARACTER,
    NUMBER,
    Cut,
    Flags,
    Spans,
    bare,
    covered,
    ends_of,
    in_order,
    ranges,
    shingles,
)

# Fewest shingles from which a completion alone is telling; short answers are alike by chance.
LONG_COMPLETION = 20


class Verdicts(NamedTuple):
    """What pairs of records have in common, one row a pair.

    ``asks_alike``: tools, roles and every part of the prompt; ``asks_same``: word for word. ``answers_alike``: the
    completion, and all turns after it. ``is_repeat``: they teach the same.
    """

    asks_alike: Flags
    asks_same: Flags
    answers_alike: Flags
    is_repeat: Flags


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

    @staticmethod
    def of(corpus: Corpus) -> Sides:
        """Return what is compared of all records."""
        return Sides(corpus.spans("prompt"), corpus.spans("completion"), corpus.columns.forms)

    def take(self, rows: Indices) -> Sides:
        """Return the records ``rows``."""
        return Sides(self.prompts.take(rows), self.completions.take(rows), self.forms[rows])


def verdicts(sides: Sides, left: Indices, right: Indices, rule: AlikeRule) -> Verdicts:
    """Compare the records ``left[i]`` and ``right[i]``, a bounded number of them at a time."""
    batches = by_batch(sides.prompts.lengths + sides.completions.lengths, left, right)
    parts = (_verdicts(rule, sides.take(rows), first, second) for rows, first, second in batches)
    nothing = (np.zeros(0, np.bool_),) * len(Verdicts._fields)
    return Verdicts(*(np.concatenate(flags) for flags in zip(nothing, *parts, strict=True)))


def _verdicts(rule: AlikeRule, sides: Sides, left: Indices, right: Indices) -> Verdicts:
    has_form = sides.forms[left] == sides.forms[right]
    parts, owners, left_at, right_at = _paired_parts(sides.prompts, left, right)
    of_parts = _alike(parts, left_at, right_at, rule.prompt_cut, rule.threshold, is_scattered=True)
    asks_alike, has_same_numbers, asks_same = np.repeat(has_form[None, :, 0], 3, axis=0)
    for whole, part in zip((asks_alike, has_same_numbers, asks_same), of_parts, strict=True):
        whole[owners[~part]] = False
    is_alike, is_equal, is_same = _alike(sides.completions, left, right, rule.completion_cut, rule.threshold)
    is_long = rule.completion_cut.shingles(sides.completions).lengths >= LONG_COMPLETION
    is_telling = is_long[left] & is_long[right]
    answers_alike = has_form[:, 1] & (is_same | (is_alike & is_equal & is_telling))
    is_repeat = answers_alike & (asks_same | (asks_alike & has_same_numbers & is_telling))
    return Verdicts(asks_alike, asks_same, answers_alike, is_repeat)


def _paired_parts(prompts: Spans, left: Indices, right: Indices) -> tuple[Spans, Indices, Indices, Indices]:
    """Return the parts of the prompts, and of which pair which of them stand opposite one another.

    Prompts of different numbers of parts are compared as one.
    """
    of, (parts, owners) = prompts.hashed(), prompts.parts()
    spans = Spans(of.hashes, np.append(parts.starts, of.offsets[:-1]), np.append(parts.ends, of.offsets[1:]))
    counts = np.bincount(owners, minlength=len(prompts))
    num_parts = np.where(counts[left] == counts[right], counts[left], 0)
    whole, first = np.flatnonzero(num_parts == 0), ends_of(counts)
    return (
        spans,
        np.append(np.repeat(np.arange(len(left)), num_parts), whole),
        np.append(ranges(first[left], num_parts), len(parts) + left[whole]),
        np.append(ranges(first[right], num_parts), len(parts) + right[whole]),
    )


def _alike(
    spans: Spans, left: Indices, right: Indices, cut: Cut, threshold: float, *, is_scattered: bool = False
) -> tuple[Flags, Flags, Flags]:
    """Return whether the texts of each pair are alike, have the same numbers, and are the same word for word.

    With ``is_scattered`` alike texts differ by single words only, wherever they are.
    """
    of = spans.hashed()
    words, numbers = in_order(of), in_order(bare(of.where((of.hashes & np.uint64(NUMBER)).astype(np.bool_))))
    is_same: Flags = words[left] == words[right]
    todo = np.flatnonzero(~is_same)
    todo = todo[compare(spans, Cut(cut.ngram), left[todo], right[todo]) >= threshold]
    if len(cut.popular):
        # What is left of both without what many records say must be alike too, or all of the one stand in the other,
        # which then has a few edited words more.
        left_over = as_sets(cut.shingles(spans))
        one, other = left_over.lengths[left[todo]], left_over.lengths[right[todo]]
        shared = num_shared(left_over, left[todo], right[todo])
        scores = shared / np.maximum(1, one + other - shared)
        todo = todo[(scores >= threshold) | (shared == np.minimum(one, other))]
    if is_scattered:
        for here, there in ((left, right), (right, left)):
            # Between two edited words a shingle may find no room.
            todo = todo[_gaps(spans, here[todo], there[todo], cut.ngram) <= cut.ngram + 1]
    is_alike = is_same.copy()
    is_alike[todo] = True
    return is_alike, numbers[left] == numbers[right], is_same


def _gaps(spans: Spans, left: Indices, right: Indices, ngram: int) -> NDArray[np.float64]:
    """Return for each pair the longest stretch of the left text that no shingle of the right one covers, in tokens.

    Among words a character of a script without blanks counts half.
    """
    here, there = spans.take(left).hashed(), spans.take(right).hashed()
    ours, theirs = shingles(here, ngram), shingles(there, ngram)
    # A shingle as that of one pair.
    one, other = (mix(of.hashes + of.owners.astype(np.uint64) * np.uint64(STEP)) for of in (ours, theirs))
    shared = np.flatnonzero(np.isin(one, other))
    owners = ours.owners[shared]
    begins = shared + (here.offsets - ours.offsets)[owners]
    is_open = ~covered(begins, np.minimum(ngram, here.lengths[owners]), len(here.hashes))
    sizes = np.where((here.hashes & np.uint64(CHARACTER)).astype(np.bool_), 0.5, 1.0) * is_open
    # What was open before the stretch that a token is in, which begins behind a covered token or with its text.
    ends = np.append(0.0, np.cumsum(sizes))
    before = np.where(is_open, 0.0, ends[1:])
    heads = here.offsets[:-1][here.lengths > 0]
    before[heads] = np.maximum(before[heads], ends[heads])
    runs = ends[1:] - np.maximum.accumulate(before)
    widest = np.zeros(len(left))
    np.maximum.at(widest, here.owners, runs)
    return widest
