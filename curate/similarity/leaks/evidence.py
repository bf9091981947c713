"""Which records of a pool share words with which exam records: an index of the exams' runs, probed by the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from curate.base.hashing import Hashes, Indices
from curate.similarity.dedupe.shingles import (
    Flags,
    HashIndex,
    Ragged,
    blocks_of,
    distinct,
    ends_of,
    is_head,
    passages,
    ranges,
)
from curate.similarity.leaks.results import Exam
from curate.similarity.leaks.words import HashedTexts, SearchedRecords, joined

# The texts of an exam record, and those of a pool record that are looked into. The turns of a chat, which come behind,
# are in its prompt already; only their wholes are of use.
NUM_PARTS, NUM_TEXTS = 3, 4
# Pool records that are compared word by word with an exam record: those that share the most runs with it.
_TRIED = 8
# Hits from which those that were collected are gone through.
_MOST_HITS = 1 << 18
# Records with the very same prompt that are remembered for a run; what else they say is found by its own runs.
_MOST_OWNERS = 8


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an exact comparison of one exam starts from; text 3 * n + i is part i of the exam's record n."""

    candidates: list[tuple[int, int]]
    """Sorted pairs of an exam record and a pool record, by their places."""
    is_template: Flags
    """Whether each word of the exam stands in a template."""
    offsets: Indices
    """Where the words of each text begin among those."""
    num_templates: int
    common_prompts: frozenset[int]
    """Records whose whole prompt has so many different answers that it asks for nothing in particular."""


class _Hits(NamedTuple):
    """That a run stands in a record, by its rank in the pool (-1 for the exam's own), with a prompt."""

    runs: Hashes
    owners: Indices
    prompts: Hashes

    def take(self, rows: Indices | Flags) -> _Hits:
        return _Hits(self.runs[rows], self.owners[rows], self.prompts[rows])

    def settled(self) -> tuple[_Hits, Indices]:
        """Return each once, sorted by run, prompt and rank, and in how many prompts the run of each stands."""
        hits = self.take(np.lexsort((self.owners, self.prompts, self.runs)))
        is_run = is_head(hits.runs)
        is_prompt = is_run | is_head(hits.prompts)
        once = np.flatnonzero(is_prompt | is_head(hits.owners))
        hits, is_run, is_prompt = hits.take(once), is_run[once], is_prompt[once]
        places, firsts = np.arange(len(once)), np.flatnonzero(is_run)
        num_prompts = np.add.reduceat(is_prompt, firsts, dtype=np.int64) if len(firsts) else firsts
        is_early = places - np.maximum.accumulate(np.where(is_prompt, places, 0)) < _MOST_OWNERS
        return hits.take(is_early), num_prompts[np.cumsum(is_run) - 1][is_early]


def _together(parts: Sequence[_Hits]) -> _Hits:
    nothing = _Hits(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint64))
    return _Hits(*(np.concatenate(column) for column in zip(nothing, *parts, strict=True)))


class _ExamWords:
    """The words of an exam, and the runs of them."""

    def __init__(self, corpus: SearchedRecords, exam: Exam, n: int) -> None:
        blocks = list(corpus.blocks(exam.rows, NUM_PARTS))
        self.n, self.num_pool = n, exam.num_pool
        lengths = np.concatenate([block.words.lengths for block in blocks])
        self.words = Ragged(np.concatenate([block.words.hashes for block in blocks]), ends_of(lengths))
        self.runs = passages(self.words, n)
        asked, answered, raw = np.concatenate([block.wholes for block in blocks]).reshape(-1, NUM_PARTS).T
        self.prompts = np.where(asked == 0, raw, asked)
        # The whole prompts, raw texts, and pairs of prompt and completion of its records; 0 for none.
        self.wholes = asked, raw, np.where((asked != 0) & (answered != 0), joined(asked, answered), np.uint64(0))

    def evidence(self, found: _Hits, equal: _Equal, max_prompts: int) -> Evidence:
        """Return what the hits of the exam's runs, and whole texts that equal its own, say."""
        # What many prompts of the exam have is a template without any hit.
        ordered = np.sort(self.runs.hashes)
        frequent = ordered[max_prompts:][ordered[max_prompts:] == ordered[:-max_prompts]]
        index = HashIndex(distinct(np.concatenate([frequent, found.runs])))
        at, numbers = index.find(self.runs.hashes)
        texts = np.searchsorted(self.runs.offsets, at, side="right") - 1
        starts, records = at + (self.words.offsets - self.runs.offsets)[texts], texts // NUM_PARTS
        is_own = np.zeros(len(index.known), np.bool_)
        is_own[numbers] = True
        found = found.take(is_own[np.searchsorted(index.known, found.runs)])
        own = _Hits(index.known[numbers], np.full(len(at), -1), self.prompts[records])
        hits, num_prompts = _together([found, own]).settled()
        is_template = np.zeros(len(index.known), np.bool_)
        is_template[np.searchsorted(index.known, hits.runs[num_prompts > max_prompts])] = True
        edges = np.zeros(len(self.words.hashes) + 1, np.int64)
        begins = starts[is_template[numbers]]
        np.add.at(edges, begins, 1)
        np.add.at(edges, begins + self.n, -1)
        is_covered = np.cumsum(edges[:-1]) > 0
        running = ends_of(is_covered)
        # What counts as shared are runs of which no word stands in a template.
        is_free = running[starts + self.n] == running[starts]
        pairs = _most_shared(
            index.known[numbers[is_free]], records[is_free], hits.take(hits.owners >= 0), self.num_pool
        )
        equal = equal.take(equal.owners < self.num_pool)
        candidates = sorted({*pairs, *equal.pairs(self.wholes)})
        common = equal.common_prompts(self.wholes[0], max_prompts)
        return Evidence(candidates, is_covered, self.words.offsets, int(is_template.sum()), common)


def _most_shared(runs: Hashes, records: Indices, hits: _Hits, num_pool: int) -> list[tuple[int, int]]:
    """Return the pairs of an exam record, of ``records`` by run, and a pool record that share the most runs, at most 8
    for each exam record."""
    low, high = (np.searchsorted(hits.runs, runs, side) for side in ("left", "right"))
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for some in blocks_of(high - low):
        sizes = (high - low)[some]
        owners = hits.owners[ranges(low[some], sizes)]
        parts.append(np.unique(np.repeat(records[some], sizes) * num_pool + owners, return_counts=True))
    keys, numbers = np.unique(np.concatenate([keys for keys, _ in parts]), return_inverse=True)
    counts = np.bincount(numbers, np.concatenate([counts for _, counts in parts]), len(keys))
    # Most shared runs first; of equals the one that stands earlier.
    order = np.lexsort((keys, -counts, keys // num_pool))
    exam_of = keys[order] // num_pool
    rank = np.arange(len(order)) - np.searchsorted(exam_of, exam_of)
    return [divmod(key, num_pool) for key in keys[order][rank < _TRIED].tolist()]


class _RunIndex:
    """The runs of some exams, and which records of a stretch of the pool have them."""

    def __init__(self, exams: Sequence[_ExamWords], max_prompts: int) -> None:
        self._n, self._max_prompts = exams[0].n, max_prompts
        self._index = HashIndex(distinct(np.concatenate([exam.runs.hashes for exam in exams])))
        self._is_template = np.zeros(len(self._index.known), np.bool_)
        self.hits = _together([])
        self._waiting: list[_Hits] = []

    def add(self, block: HashedTexts, first: int) -> None:
        """Take note of the runs of pool texts, of records from a rank on."""
        runs = passages(block.words, self._n)
        at, numbers = self._index.find(runs.hashes)
        texts = np.searchsorted(runs.offsets, at, side="right") - 1
        is_new = (block.parts[texts] < NUM_TEXTS) & ~self._is_template[numbers]
        hits = _Hits(runs.hashes[at], block.owners[texts] + first, block.prompts[texts])
        self._waiting.append(hits.take(is_new))
        # All that is retained is sorted again, so the more that is the more has to come.
        if sum(len(part.runs) for part in self._waiting) > max(_MOST_HITS, len(self.hits.runs)):
            self.settle()

    def settle(self) -> None:
        """Let runs that have turned out to be templates pass from now on."""
        self.hits, num_prompts = _together([self.hits, *self._waiting]).settled()
        templates = self.hits.runs[num_prompts > self._max_prompts]
        self._is_template[np.searchsorted(self._index.known, templates)] = True
        self._waiting = []


class _Equal(NamedTuple):
    """That a text, or a prompt with its completion, of a pool record is an exam's; ``is_asked`` with what answer."""

    wholes: Hashes
    owners: Indices
    answers: Hashes
    is_asked: Flags

    @staticmethod
    def of(block: HashedTexts, first: int, index: HashIndex) -> _Equal:
        """Return those of pool texts, of records from a rank on."""
        is_turn = block.parts >= NUM_TEXTS
        prompts, raws = block.parts == 0, block.parts == 2
        completions = block.wholes[block.parts == 1]
        # What answers an earlier turn of a chat is not looked at: each chat has its own.
        owners = [block.owners[flags] + first for flags in (prompts, is_turn, raws, prompts)]
        pairs = joined(block.wholes[prompts], completions)
        wholes = np.concatenate([block.wholes[prompts], block.wholes[is_turn], block.wholes[raws], pairs])
        answers = np.concatenate([completions, *(some.astype(np.uint64) for some in owners[1:])])
        is_asked = np.arange(len(wholes)) < len(owners[0]) + len(owners[1])
        at, _ = index.find(wholes)
        return _Equal(wholes, np.concatenate(owners), answers, is_asked).take(at)

    def take(self, rows: Indices | Flags) -> _Equal:
        """Return those ``rows``."""
        return _Equal(self.wholes[rows], self.owners[rows], self.answers[rows], self.is_asked[rows])

    def pairs(self, ways: Sequence[Hashes]) -> list[tuple[int, int]]:
        """Return pairs of an exam record and the first pool records that equal it in one of some ways."""
        order = np.lexsort((self.owners, self.wholes))
        wholes, owners = self.wholes[order], self.owners[order]
        pairs: list[tuple[int, int]] = []
        for wanted in ways:
            low, high = (np.searchsorted(wholes, wanted, side) for side in ("left", "right"))
            sizes = np.minimum(high - low, _TRIED)
            records = np.repeat(np.arange(len(wanted)), sizes)
            pairs += zip(records.tolist(), owners[ranges(low, sizes)].tolist(), strict=True)
        return pairs

    def common_prompts(self, prompts: Hashes, most: int) -> frozenset[int]:
        """Return the exam records whose prompt has more than so many different answers."""
        asked = self.take(self.is_asked)
        _, first = np.unique(joined(asked.wholes, asked.answers), return_index=True)
        different, counts = np.unique(asked.wholes[first], return_counts=True)
        return frozenset(np.flatnonzero(np.isin(prompts, different[counts > most])).tolist())


def gather(
    corpus: SearchedRecords, pool: Sequence[int], exams: Sequence[Exam], n: int, max_prompts: int
) -> list[Evidence]:
    """Find for each exam record the pool records that share the most runs of ``n`` words with it, or equal it.

    A run that stands in more than ``max_prompts`` different prompts, of an exam and its pool together, is a template
    for this exam. An exam has one record at least, and one of the pool to be compared with.
    """
    prepared = [_ExamWords(corpus, exam, n) for exam in exams]
    wholes = distinct(np.concatenate([part for exam in prepared for part in exam.wholes]))
    known = HashIndex(wholes[wholes != 0])
    equal: list[_Equal] = []
    shared: list[tuple[int, _Hits]] = []
    # An exam is compared with the pool's first ranks. What lies behind those of one is looked up for the others alone:
    # a record of the validation split, which is pool for the test split, has each of its runs in its own exam.
    for start, stop in pairwise([0, *sorted({exam.num_pool for exam in exams})]):
        index = _RunIndex([exam for exam in prepared if exam.num_pool >= stop], max_prompts)
        for block in corpus.blocks(pool[start:stop]):
            index.add(block, start)
            equal.append(_Equal.of(block, start, known))
        index.settle()
        shared.append((stop, index.hits))
    equals = _Equal(*(np.concatenate(column) for column in zip(*equal, strict=True)))
    return [
        exam.evidence(_together([hits for stop, hits in shared if stop <= exam.num_pool]), equals, max_prompts)
        for exam in prepared
    ]
