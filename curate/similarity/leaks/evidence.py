"""Which records of a pool share words with which exam records: runs of words that both have, less the templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import STEP, Hashes, Indices, mix
from curate.similarity.dedupe.shingles import Spans, distinct
from curate.similarity.leaks.kernels import EVERYTHING, Flags, Sieve
from curate.similarity.leaks.results import Exam
from curate.similarity.leaks.words import HashedRecords, HashedTexts

# The texts of an exam record, in the order of their rows.
PARTS: tuple[Literal["prompt", "completion", "text"], ...] = ("prompt", "completion", "text")
# Texts of a pool record that are looked into. The turns of a chat, which come behind, are in its prompt already; only
# their wholes are of use.
NUM_TEXTS = 4
# Pool records that are compared word by word with an exam record: those that share the most runs with it.
TRIED = 8
_MOST_HITS = 1 << 18
_PIECE = 1 << 19
# Records with the very same prompt that are remembered for a run; what else they say is found by its own runs.
_MOST_OWNERS = 8


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an exact comparison starts from. Exam records are numbered through all exams, pool records by their ranks.

    ``candidates`` are sorted pairs of (exam record, pool record); ``is_template`` says of every word of the exams, in
    order, whether it stands in a template, and text ``row`` has the words from ``begins[row]`` on. Row
    3 * number + index is part ``PARTS[index]`` of an exam record.
    """

    candidates: list[tuple[int, int]]
    is_template: Flags
    begins: Indices
    num_templates: list[int]
    """Of each exam."""
    common_prompts: frozenset[int]
    """Exam records whose whole prompt has so many different answers that it asks for nothing in particular."""


def joined(left: Hashes, right: Hashes) -> Hashes:
    """Return one hash for each pair."""
    return mix(left * np.uint64(STEP) + right)


_Number = TypeVar("_Number", np.int64, np.uint64)


def numbers_in(known: NDArray[_Number], hashes: NDArray[_Number]) -> tuple[Indices, Flags]:
    """Return the number of each hash among the sorted ``known``, and whether it is there at all."""
    if not len(known):
        return np.zeros(len(hashes), np.int64), np.zeros(len(hashes), np.bool_)
    numbers = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return numbers, known[numbers] == hashes


class _Hits(NamedTuple):
    """That a run, by its number, stands in a record, by its rank (-1 for the exam's own), with a prompt."""

    runs: Indices
    owners: Indices
    prompts: Hashes

    def take(self, rows: Indices | Flags) -> _Hits:
        return _Hits(self.runs[rows], self.owners[rows], self.prompts[rows])

    def settled(self, is_template: Flags, max_prompts: int) -> tuple[_Hits, Indices]:
        """Return the hits of runs that are no templates, once each, sorted by run, prompt and rank, and new templates.

        Those, flagged in ``is_template``, stand in more than ``max_prompts`` prompts.
        """
        hits = self.take(np.lexsort((self.owners, self.prompts, self.runs)))
        runs, owners, prompts = hits
        is_first, is_new = np.ones((2, len(runs)), np.bool_)
        is_first[1:] = runs[1:] != runs[:-1]
        is_new[1:] = is_first[1:] | (prompts[1:] != prompts[:-1])
        firsts = np.flatnonzero(is_first)
        num_prompts = np.add.reduceat(np.append(is_new, 0), firsts) if len(firsts) else firsts
        templates = runs[firsts[num_prompts > max_prompts]]
        is_template[templates] = True
        is_retained = is_new.copy()
        is_retained[1:] |= owners[1:] != owners[:-1]
        is_retained &= ~is_template[runs]
        hits, is_new = hits.take(is_retained), is_new[is_retained]
        positions = np.arange(len(is_new))
        is_early = positions - np.maximum.accumulate(np.where(is_new, positions, 0)) < _MOST_OWNERS
        return hits.take(is_early), templates


def _together(parts: Sequence[_Hits]) -> _Hits:
    runs, owners, prompts = zip(*parts, strict=True)
    return _Hits(np.concatenate(runs), np.concatenate(owners), np.concatenate(prompts))


_NO_HITS = _Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64))


class _ExamTexts:
    """The words of all exams: ``blocks`` are texts with their rows, ``counts`` and ``wholes`` are by row."""

    def __init__(self, corpus: HashedRecords, exams: Sequence[Exam]) -> None:
        self.sizes = np.array([len(exam.rows) for exam in exams], np.int64)
        numbers = np.full(len(corpus.records), -1)
        numbers[np.concatenate([np.asarray(exam.rows, np.int64) for exam in exams])] = np.arange(self.sizes.sum())
        num_rows = len(PARTS) * int(self.sizes.sum())
        self.counts, self.wholes = np.zeros(num_rows, np.int64), np.zeros(num_rows, np.uint64)
        self.blocks: list[tuple[Spans, Indices]] = []
        for block in corpus.blocks(numbers >= 0):
            texts = np.flatnonzero(block.parts < len(PARTS))
            spans, rows = block.spans.take(texts), len(PARTS) * numbers[block.rows[texts]] + block.parts[texts]
            self.counts[rows], self.wholes[rows] = spans.ends - spans.starts, block.wholes[texts]
            self.blocks.append((spans, rows))
        self.begins = np.cumsum(self.counts) - self.counts
        self.prompts = np.where(self.wholes[0::3] == 0, self.wholes[2::3], self.wholes[0::3])


# Only the exams are indexed. The pool streams past them once, and of a pool text nothing stays but the exams' runs that
# it has, so memory grows with the exams and with what is shared. An exam is compared with the pool's first ranks. Where
# those of one end, the others have an index of their own for the ranks behind: a record of the validation split, which
# is pool for the test split alone, has each of its runs in an index of both.


class _RunIndex:
    """The runs of some exams, and which records of a stretch of the pool have them."""

    def __init__(self, corpus: HashedRecords, texts: _ExamTexts, is_exam: Flags, n: int, max_prompts: int) -> None:
        """Index the exam records of ``is_exam``."""
        self._kernels, self._n, self._max_prompts = corpus.kernels, n, max_prompts
        parts = [np.zeros(0, np.uint64)]
        for spans, rows in texts.blocks:
            chosen = np.flatnonzero(is_exam[rows // len(PARTS)])
            parts.append(self._kernels.runs(spans.take(chosen), n, EVERYTHING).hashes)
        hashes = np.concatenate(parts)
        del parts
        hashes.sort()
        # What many prompts of an exam have is a template without any hit.
        self.frequent = distinct(hashes[max_prompts:][hashes[max_prompts:] == hashes[:-max_prompts]])
        self.universe = hashes[np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]]
        self._is_template = np.zeros(len(self.universe), np.bool_)
        self._sieve = Sieve.of(self.universe)
        self._settled = _NO_HITS
        self._pending: list[tuple[Hashes, Indices, Hashes]] = []
        self._num_pending = 0

    def add(self, block: HashedTexts, ranks: Indices, stretch: range) -> None:
        """Take note of the runs of pool texts, whose records have these ranks, of a stretch of them."""
        texts = np.flatnonzero((block.parts < NUM_TEXTS) & (ranks >= stretch.start) & (ranks < stretch.stop))
        if not len(texts) or not len(self.universe):
            return
        hashes, of, _ = self._kernels.runs(block.spans.take(texts), self._n, self._sieve)
        self._pending.append((hashes, ranks[texts[of]], block.prompts[texts[of]]))
        self._num_pending += len(hashes)
        # All that is retained is sorted again, so the more that is the more has to come.
        if self._num_pending > max(_MOST_HITS, len(self._settled.runs)):
            self._settle()

    def _settle(self) -> None:
        """Drop what the sieve has let through for nothing, and runs that have turned out to be templates."""
        hashes, owners, prompts = (np.concatenate(column) for column in zip(*self._pending, strict=True))
        # In order, so that neighbours are looked for in the same part of a long table.
        order = np.argsort(hashes)
        numbers, is_known = numbers_in(self.universe, hashes[order])
        hits = _Hits(numbers, owners[order], prompts[order]).take(is_known & ~self._is_template[numbers])
        hits = _together([self._settled, hits])
        self._settled, templates = hits.settled(self._is_template, self._max_prompts)
        self._sieve.drop(self.universe, templates)
        self._pending, self._num_pending = [], 0

    def shared(self) -> tuple[_Hits, Hashes, Hashes]:
        """Return the hits, sorted, with a hash for each in place of its run's number, and the templates."""
        if self._pending:
            self._settle()
        return self._settled, self.universe[self._settled.runs], self.universe[self._is_template]


def gather(corpus: HashedRecords, pool: Sequence[int], exams: Sequence[Exam], n: int, max_prompts: int) -> Evidence:
    """Find for each exam record the pool records that share the most runs of ``n`` words with it, or equal it.

    A run that stands in more than ``max_prompts`` different prompts, of an exam and its pool together, is a template
    for this exam. What counts as shared are runs of which no word stands in a template.
    """
    limits = np.array([exam.num_pool for exam in exams], np.int64)
    ranked = np.asarray(pool[: int(limits.max())], np.int64)
    rank_of = np.full(len(corpus.records), -1)
    rank_of[ranked] = np.arange(len(ranked))
    texts = _ExamTexts(corpus, exams)
    equals = _Equals(texts, limits)
    exam_of = np.repeat(np.arange(len(exams)), texts.sizes)
    bounds = [0, *distinct(limits).tolist()]
    indices = [
        (_RunIndex(corpus, texts, limits[exam_of] >= stop, n, max_prompts), range(start, stop))
        for start, stop in pairwise(bounds)
    ]
    for block in corpus.blocks(rank_of >= 0):
        ranks = rank_of[block.rows]
        equals.add(block, ranks)
        for index, stretch in indices:
            index.add(block, ranks, stretch)
    shared = [(stretch.stop, *index.shared()) for index, stretch in indices]
    runs = distinct(np.concatenate([indices[0][0].frequent, *(part for _, _, *parts in shared for part in parts)]))
    numbers, rows, starts = _occurrences(corpus, texts, n, runs)
    # From here on a run is another one in each exam that has it.
    keys = numbers * len(exams) + exam_of[rows // 3]
    universe = distinct(keys)
    numbers = np.searchsorted(universe, keys)
    is_template = np.zeros(len(universe), np.bool_)
    parts = []
    for exam, limit in enumerate(limits.tolist()):
        for stop, hits, hashes, templates in shared:
            if stop <= limit:
                known, is_known = numbers_in(universe, np.searchsorted(runs, templates) * len(exams) + exam)
                is_template[known[is_known]] = True
                known, is_known = numbers_in(universe, np.searchsorted(runs, hashes) * len(exams) + exam)
                parts.append(hits._replace(runs=known).take(is_known))
    own = _Hits(numbers, np.full(len(rows), -1), texts.prompts[rows // 3])
    hits, _ = _together([*parts, own.take(~is_template[numbers])]).settled(is_template, max_prompts)
    is_covered = _covered(starts[is_template[numbers]], n, int(texts.counts.sum()))
    pairs = _most_shared(numbers, rows, starts, is_covered, n, hits.take(hits.owners >= 0), len(ranked))
    num_templates = np.bincount(universe[is_template] % len(exams), minlength=len(exams)).tolist()
    candidates = sorted({*pairs, *equals.pairs()})
    return Evidence(candidates, is_covered, texts.begins, num_templates, equals.common_prompts(max_prompts))


def _occurrences(corpus: HashedRecords, texts: _ExamTexts, n: int, runs: Hashes) -> tuple[Indices, Indices, Indices]:
    """Return where the sorted ``runs`` stand in the exams: their numbers, the texts' rows, and the first words."""
    sieve = Sieve.of(runs)
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for spans, rows in texts.blocks:
        hashes, of, starts = corpus.kernels.runs(spans, n, sieve)
        numbers, is_known = numbers_in(runs, hashes)
        starts += texts.begins[rows[of]] - spans.starts[of]
        parts.append((numbers[is_known], rows[of[is_known]], starts[is_known]))
    numbers, rows, starts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return numbers, rows, starts


def _covered(starts: Indices, n: int, num_words: int) -> Flags:
    """Return for each word of the exams whether one of the runs of ``n`` words from ``starts`` on covers it."""
    # One byte a word is enough, for no more than n runs cover a word.
    edges = np.zeros(num_words + 1, np.int8)
    edges[starts] += 1
    edges[starts + n] -= 1
    return np.cumsum(edges[:-1], dtype=np.int8) > 0


def _most_shared(
    numbers: Indices, rows: Indices, starts: Indices, is_covered: Flags, n: int, shared: _Hits, num_pool: int
) -> list[tuple[int, int]]:
    """Return the pairs that share the most runs outside templates, at most `TRIED` for an exam record."""
    running = np.concatenate([[0], np.cumsum(is_covered, dtype=np.int32)])
    is_free = running[starts + n] == running[starts]
    numbers, rows = numbers[is_free], rows[is_free]
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for low in range(0, len(numbers), _PIECE):
        piece = slice(low, low + _PIECE)
        first, last = (np.searchsorted(shared.runs, numbers[piece], side) for side in ("left", "right"))
        sizes = last - first
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        owners = shared.owners[np.repeat(first, sizes) + within]
        pairs = np.repeat(rows[piece] // 3, sizes) * num_pool + owners
        parts.append(_summed(pairs, np.ones(len(pairs), np.int64)))
    keys, counts = _summed(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    # Most shared runs first; of equals the one that stands earlier.
    order = np.lexsort((keys, -counts, keys // num_pool))
    exam_of = keys[order] // num_pool
    rank = np.arange(len(order)) - np.searchsorted(exam_of, exam_of)
    return [divmod(key, num_pool) for key in keys[order][rank < TRIED].tolist()]


def _summed(keys: Indices, counts: Indices) -> tuple[Indices, Indices]:
    """Return the different keys, sorted, and the sum of the counts of each."""
    order = np.argsort(keys)
    keys = keys[order]
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    return keys[firsts], np.add.reduceat(counts[order], firsts) if len(firsts) else counts


class _Equals:
    """Pool records of which a prompt, a text or the whole equals that of an exam record, however short it is."""

    def __init__(self, texts: _ExamTexts, limits: Indices) -> None:
        """An exam is compared with ranks below its limit."""
        self._sizes, self._limits = texts.sizes, limits
        prompts, completions, raw = (texts.wholes[offset::3] for offset in range(3))
        pairs = np.where((prompts != 0) & (completions != 0), joined(prompts, completions), np.uint64(0))
        # The whole prompts, texts and pairs of prompt and completion of the exam records; 0 for none.
        self._exam = prompts, raw, pairs
        self._known = distinct(np.concatenate(self._exam))
        self._sieve = Sieve.of(self._known)
        self._equal: list[tuple[Hashes, Indices]] = []
        # A prompt, what stands for its answer, and the record's rank.
        self._answered: list[tuple[Hashes, Hashes, Indices]] = []

    def add(self, block: HashedTexts, ranks: Indices) -> None:
        """Take note of the texts of pool records that equal one of an exam; ``ranks`` are by text."""
        wholes, parts = block.wholes, block.parts
        prompts, completions, owners = wholes[parts == 0], wholes[parts == 1], ranks[parts == 0]
        is_question = (parts == 0) | (parts == 2) | (parts >= NUM_TEXTS)
        candidates = np.concatenate([wholes[is_question], joined(prompts, completions)])
        is_known = self._is_known(candidates)
        self._equal.append((candidates[is_known], np.concatenate([ranks[is_question], owners])[is_known]))
        # What answers an earlier turn of a chat is not looked at: each chat has its own.
        is_turn = parts >= NUM_TEXTS
        questions = np.concatenate([prompts, wholes[is_turn]])
        answers = np.concatenate([completions, ranks[is_turn].astype(np.uint64)])
        is_known = self._is_known(questions)
        owners = np.concatenate([owners, ranks[is_turn]])
        self._answered.append((questions[is_known], answers[is_known], owners[is_known]))

    def _is_known(self, hashes: Hashes) -> Flags:
        is_known: Flags = (hashes != 0) & self._sieve.admits(hashes)
        rows = np.flatnonzero(is_known)
        is_known[rows] = numbers_in(self._known, hashes[rows])[1]
        return is_known

    def pairs(self) -> list[tuple[int, int]]:
        """Return pairs of an exam record and the first pool records that equal it in one of the three ways."""
        wholes, owners = (np.concatenate(column) for column in zip(*self._equal, strict=True))
        order = np.lexsort((owners, wholes))
        wholes, owners = wholes[order], owners[order]
        limits = np.repeat(self._limits, self._sizes)
        pairs: list[tuple[int, int]] = []
        for wanted in self._exam:
            first = np.searchsorted(wholes, wanted, "left")
            last = np.searchsorted(wholes, wanted, "right")
            for tried in range(TRIED):
                hits = np.flatnonzero((wanted != 0) & (first + tried < last))
                others = owners[first[hits] + tried]
                is_in = others < limits[hits]
                pairs += zip(hits[is_in].tolist(), others[is_in].tolist(), strict=True)
        return pairs

    def common_prompts(self, max_prompts: int) -> frozenset[int]:
        """Return the exam records whose prompt has more than ``max_prompts`` different answers in the exam's pool."""
        questions, answers, owners = (np.concatenate(column) for column in zip(*self._answered, strict=True))
        common: set[int] = set()
        begin = 0
        for size, limit in zip(self._sizes.tolist(), self._limits.tolist(), strict=True):
            is_in = owners < limit
            _, first = np.unique(joined(questions[is_in], answers[is_in]), return_index=True)
            prompts, num_answers = np.unique(questions[is_in][first], return_counts=True)
            is_common = np.isin(self._exam[0][begin : begin + size], prompts[num_answers > max_prompts])
            common.update((np.flatnonzero(is_common) + begin).tolist())
            begin += size
        return frozenset(common)
