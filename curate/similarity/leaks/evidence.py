"""Which records of a pool share words with which exam records: the runs of the exam's tokens, looked up in the pool's.

Tokens are those that `curate.similarity.dedupe` compares, so that no text of the pool is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from curate.base.hashing import STEP, Hashes, Indices, mix
from curate.base.record import Record
from curate.similarity.dedupe.corpus import Corpus, gather
from curate.similarity.dedupe.shingles import (
    BREAK,
    Flags,
    HashIndex,
    Ragged,
    Spans,
    bare,
    blocks_of,
    covered,
    distinct,
    ends_of,
    in_order,
    is_head,
    passages,
    ranges,
)
from curate.similarity.leaks.results import Exam
from curate.similarity.leaks.words import Texts, line_texts, said_in

# Tokens below which a text is another one with other quotation marks or commas inside.
_SHORT = 16
# Pool records that are compared word by word with an exam record: those that share the most runs with it.
_TRIED = 8
# Records with the very same prompt that are looked at for a run; what else they say is found by its own runs.
_MOST_OWNERS = 8


class SearchedRecords:
    """Records to search, as tokens; ``texts`` reads what some of them say, of which few are looked at."""

    def __init__(
        self,
        records: Sequence[Record],
        corpus: Callable[[], Corpus] | None = None,
        texts: Texts | None = None,
    ) -> None:
        """Take ``records``; ``corpus`` and ``texts`` stand in for what is made of them."""
        self.records = records
        self._corpus = corpus or (lambda: gather(records))
        self._texts = texts or (lambda rows: [line_texts(records[row]) for row in rows])

    def texts(self, row: int) -> list[str]:
        """Return the texts of a record, see `said_in`."""
        return said_in(self._texts([row])[0])

    @cached_property
    def corpus(self) -> Corpus:
        """The tokens of all records."""
        return self._corpus()

    @cached_property
    def wholes(self) -> tuple[Hashes, Hashes, Hashes]:
        """What tells the prompt, completion and raw text of each record from others, [N] each; 0 for none."""
        prompts, completions, texts = (_told(self.corpus.between(at, at + 1)) for at in (1, 2, 3))
        return prompts, completions, texts

    @cached_property
    def prompts(self) -> Hashes:
        """What tells the prompt of each record from others, [N]; a raw text is its own."""
        prompts, _, texts = self.wholes
        return np.where(prompts == 0, texts, prompts)

    @cached_property
    def turns(self) -> tuple[Hashes, Indices]:
        """What tells each part of the prompts that have several, and the record of each."""
        spans, found = self.corpus.between(1, 2), [(np.zeros(0, np.uint64), np.zeros(0, np.int64))]
        for block in spans.blocks():
            parts, owners = spans.take(block).parts()
            several = np.flatnonzero(np.bincount(owners)[owners] > 1)
            found.append((_told(parts.take(several)), owners[several] + block.start))
        wholes, rows = (np.concatenate(side) for side in zip(*found, strict=True))
        return wholes, rows

    def words(self, spans: Spans) -> Ragged:
        """Return the tokens of ``spans`` without what tells punctuation and parts."""
        of = spans.hashed()
        return bare(of.where(of.hashes != BREAK))


def _told(spans: Spans) -> Hashes:
    """Return a hash of all tokens of each text, with punctuation where it is short; 0 for one without any."""
    parts = [np.zeros(0, np.uint64)]
    for block in spans.blocks():
        of = spans.take(block).hashed()
        of = of.where(of.hashes != BREAK)
        is_short = of.lengths < _SHORT
        wholes = mix(np.where(is_short, in_order(of), in_order(bare(of))) + of.lengths.astype(np.uint64))
        parts.append(np.where(of.lengths > 0, wholes, np.uint64(0)))
    return np.concatenate(parts)


def joined(left: Hashes, right: Hashes) -> Hashes:
    """Return one hash for each pair."""
    return mix(left * np.uint64(STEP) + right)


class Evidence(NamedTuple):
    """What an exact comparison of one exam starts from."""

    candidates: list[tuple[int, int]]
    """Sorted pairs of an exam record and a pool record, by their places."""
    templates: Hashes
    """The runs of the exam that stand in too many prompts, sorted."""
    common_prompts: frozenset[int]
    """Records whose whole prompt has so many different answers that it asks for nothing in particular."""


def evidence_of(corpus: SearchedRecords, pool: Sequence[int], exam: Exam, n: int, max_prompts: int) -> Evidence:
    """Find for each exam record the pool records that share the most runs of ``n`` words with it, or equal it.

    A run that stands in more than ``max_prompts`` different prompts, of the exam and its pool together, is a template.
    The exam has one record at least, and one of the pool to be compared with.
    """
    rows = np.concatenate([np.asarray(exam.rows, np.int64), np.asarray(pool[: exam.num_pool], np.int64)])
    num_exam = len(exam.rows)
    bounds = corpus.corpus.bounds[rows[:num_exam]]
    words = corpus.words(Spans(corpus.corpus.tokens, bounds[:, 1:4].ravel(), bounds[:, 2:5].ravel()))
    runs = passages(words, n)
    known, own = np.unique(runs.hashes, return_inverse=True)
    index = HashIndex(known)
    counts, numbers, owners = prompts_with(corpus, rows, index, n, max_prompts)
    is_template = counts > max_prompts
    is_free = _is_free(words, runs, is_template[own], n)
    is_found = ~is_template[numbers] & (owners >= num_exam)
    pairs = _most_shared(
        own[is_free],
        (runs.owners // 3)[is_free],
        numbers[is_found],
        owners[is_found] - num_exam,
        exam.num_pool,
    )
    equal, common = _equal(corpus, rows, num_exam, max_prompts)
    return Evidence(sorted({*pairs, *equal}), known[is_template], common)


def prompts_with(
    corpus: SearchedRecords, rows: Indices, index: HashIndex, n: int, most: int = -1
) -> tuple[Indices, Indices, Indices]:
    """Return in how many prompts each run stands, and the runs of no more than ``most`` with the places of ``rows``."""
    prompts = corpus.prompts[rows]
    # The records of one prompt come one after the other, and all of them in one block, so that each prompt counts once.
    order = np.argsort(prompts, kind="stable")
    heads = is_head(prompts[order])
    group_of, starts = np.cumsum(heads) - 1, np.append(np.flatnonzero(heads), len(order))
    spans = corpus.corpus.between(0, 5).take(rows[order])
    sizes, num_groups = np.diff(ends_of(spans.lengths)[starts]), len(starts) - 1
    counts = np.zeros(len(index.known), np.int64)
    hits = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for block in blocks_of(sizes):
        places = slice(starts[block.start], starts[block.stop])
        runs = passages(corpus.words(spans.take(places)), n)
        at, numbers = index.find(runs.hashes)
        owners = np.searchsorted(runs.offsets, at, side="right") - 1
        keys = numbers * num_groups + group_of[places][owners]
        counts += np.bincount(distinct(keys) // num_groups, minlength=len(counts))
        # A run that has turned out to be a template passes from now on.
        is_open = counts[numbers] <= most
        keys, owners = keys[is_open], order[places][owners[is_open]]
        by_key = np.lexsort((owners, keys))
        keys, owners = keys[by_key], owners[by_key]
        is_new = is_head(np.stack([keys, owners], axis=1))
        keys, owners = keys[is_new], owners[is_new]
        is_early = np.arange(len(keys)) - np.searchsorted(keys, keys) < _MOST_OWNERS
        hits.append((keys[is_early] // num_groups, owners[is_early]))
    numbers, owners = (np.concatenate(side) for side in zip(*hits, strict=True))
    return counts, numbers, owners


def _is_free(words: Ragged, runs: Ragged, is_template: Flags, n: int) -> Flags:
    """Return for each run of ``n`` of the ``words`` whether none of them stands in a template."""
    begins = np.arange(len(runs.hashes)) + (words.offsets - runs.offsets)[runs.owners]
    running = ends_of(covered(begins[is_template], n, len(words.hashes)))
    return np.asarray(running[begins + n] == running[begins])


def _most_shared(
    runs: Indices, records: Indices, numbers: Indices, ranks: Indices, num_pool: int
) -> list[tuple[int, int]]:
    """Return the pairs of an exam record, of ``records`` by run, and a pool record that share the most runs, at most 8
    for each exam record."""
    order = np.lexsort((ranks, numbers))
    ranks, ends = ranks[order], ends_of(np.bincount(numbers, minlength=int(runs.max(initial=0)) + 1))
    low, num_shared = ends[runs], np.diff(ends)[runs]
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for some in blocks_of(num_shared):
        sizes = num_shared[some]
        others = ranks[ranges(low[some], sizes)]
        parts.append(np.unique(np.repeat(records[some], sizes) * num_pool + others, return_counts=True))
    keys, places = np.unique(np.concatenate([keys for keys, _ in parts]), return_inverse=True)
    counts = np.bincount(places, np.concatenate([counts for _, counts in parts]), len(keys))
    # Most shared runs first; of equals the one that stands earlier.
    order = np.lexsort((keys, -counts, keys // num_pool))
    exam_of = keys[order] // num_pool
    rank = np.arange(len(order)) - np.searchsorted(exam_of, exam_of)
    return [divmod(key, num_pool) for key in keys[order][rank < _TRIED].tolist()]


def _equal(
    corpus: SearchedRecords, rows: Indices, num_exam: int, most: int
) -> tuple[list[tuple[int, int]], frozenset[int]]:
    """Return pairs of an exam record and the first pool records that equal it, and which prompts have more than
    ``most`` different answers."""
    prompts, completions, texts = (whole[rows] for whole in corpus.wholes)
    pairs = np.where((prompts != 0) & (completions != 0), joined(prompts, completions), np.uint64(0))
    ranks = np.full(len(corpus.records), -1)
    ranks[rows[num_exam:]] = np.arange(len(rows) - num_exam)
    turns, of_turns = corpus.turns
    is_in = ranks[of_turns] >= 0
    own = np.arange(len(rows) - num_exam)
    columns = [
        (prompts[num_exam:], own, completions[num_exam:]),
        # What answers an earlier turn of a chat is not looked at: each chat has its own.
        (turns[is_in], ranks[of_turns][is_in], ranks[of_turns][is_in].astype(np.uint64)),
        (texts[num_exam:], own, completions[num_exam:]),
        (pairs[num_exam:], own, completions[num_exam:]),
    ]
    wholes, owners, answers = (np.concatenate(column) for column in zip(*columns, strict=True))
    ways = [some[:num_exam] for some in (prompts, texts, pairs)]
    is_asked = np.arange(len(wholes)) < len(own) + int(is_in.sum())
    wanted = distinct(np.concatenate(ways))
    at, _ = HashIndex(wanted[wanted != 0]).find(wholes)
    at = at[np.lexsort((owners[at], wholes[at]))]
    wholes, owners, answers, is_asked = wholes[at], owners[at], answers[at], is_asked[at]
    found: list[tuple[int, int]] = []
    for way in ways:
        low, high = (np.searchsorted(wholes, way, side) for side in ("left", "right"))
        sizes = np.minimum(high - low, _TRIED)
        found += zip(np.repeat(np.arange(num_exam), sizes).tolist(), owners[ranges(low, sizes)].tolist(), strict=True)
    _, first = np.unique(joined(wholes, answers)[is_asked], return_index=True)
    different, counts = np.unique(wholes[is_asked][first], return_counts=True)
    return found, frozenset(np.flatnonzero(np.isin(ways[0], different[counts > most])).tolist())
