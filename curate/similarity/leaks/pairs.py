"""One exam record and one pool record, compared word by word: how much of the one stands in the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curate.base.hashing import Hashes, Indices
from curate.similarity.dedupe.shingles import Spans, distinct
from curate.similarity.leaks.evidence import NUM_TEXTS, PARTS, Evidence, joined, numbers_in
from curate.similarity.leaks.kernels import EVERYTHING, Flags, Sieve
from curate.similarity.leaks.results import Level, Overlap, Part
from curate.similarity.leaks.words import HashedRecords, is_by_character, told, words_of

# Share of a text's words, templates and common phrases left out, from which a pair is near.
NEAR = 0.5
# The same for a text with fewer than twice ``ngram`` words, in which one turn of phrase is half of it.
NEAR_SHORT = 0.75
# Share of a text's numbers that must stand there too: with other numbers, it asks for something else.
SAME_NUMBERS = 0.9
# Words in a row that count as taken over once a pair is suspected; a reworded copy keeps few longer ones.
TRACE = 4
# Words of the shortest line that asks for something.
_ASKING = 3
_MOST_POSITIONS = 64

# Words in order; None stands for one that a template covers, which equals nothing.
Words = Sequence[str | None]

# Records among which phrases are counted; of more, one in so many.
_MOST_RECORDS = 10_000
# A phrase is common in more prompts than this of a thousand, if these are more than ``max_prompts``.
_IN_A_THOUSAND = 1


@dataclass(frozen=True, slots=True)
class _ExamText:
    """A part of an exam record: its words, those outside templates, its first and last line, characters a word."""

    text: str
    words: list[str]
    free: Words
    edges: list[slice]
    unit: int


class PairComparison:
    """Compares pairs as the settings ask, and keeps the words of the latest exam record."""

    def __init__(
        self,
        corpus: HashedRecords,
        exam: Sequence[int],
        pool: Sequence[int],
        evidence: Evidence,
        *,
        long: int,
        short: int,
    ) -> None:
        """``exam`` and ``pool`` are the records, by their numbers in ``corpus``, that the evidence tells of."""
        self._corpus, self._exam, self._pool, self._evidence = corpus, exam, pool, evidence
        self._long, self._short = long, short
        self._latest: tuple[int, list[_ExamText]] = (-1, [])

    def overlaps(self, exam: int, pool: int, common: CommonPhrases | None = None) -> list[Overlap]:
        """Return what the pair has in common, by part, and as a whole where prompt and completion are both found.

        The phrases of ``common`` count for nothing.
        """
        said = self._corpus.texts_of(self._pool[pool])
        theirs = list(map(words_of, said))
        overlaps = [
            overlap
            for index, text in enumerate(self._texts(exam))
            if text.words and (overlap := self._overlap(exam, PARTS[index], text, theirs, said, common))
        ]
        return [*overlaps, *self._whole(exam, overlaps, theirs, said)]

    def _texts(self, exam: int) -> list[_ExamText]:
        if self._latest[0] != exam:
            texts: list[_ExamText] = []
            for index, text in enumerate(self._corpus.texts_of(self._exam[exam])[: len(PARTS)]):
                words, begin = words_of(text), int(self._evidence.begins[3 * exam + index])
                covered = self._evidence.is_template[begin : begin + len(words)].tolist()
                free = [None if is_in else word for word, is_in in zip(words, covered, strict=True)]
                # Two characters of a script without blanks carry about what a word does.
                texts.append(_ExamText(text, words, free, _edges(text), 2 if is_by_character(words) else 1))
            self._latest = exam, texts
        return self._latest[1]

    def _overlap(
        self,
        exam: int,
        part: Part,
        text: _ExamText,
        theirs: Sequence[list[str]],
        said: Sequence[str],
        common: CommonPhrases | None,
    ) -> Overlap | None:
        words, free, unit = text.words, text.free, text.unit
        least = unit * (self._long if part == "completion" else self._short)
        num_free = sum(word is not None for word in free)
        # An answer that many give says nothing about what was asked.
        if part == "completion" and (num_free < least or self._is_extract(exam, text)):
            return None
        if words in theirs if len(words) >= least else self._is_asked(exam, part, text, said):
            return Overlap(part, "verbatim", 1.0, len(words), len(words), " ".join(words))
        if num_free < least:
            return None
        run, end, best = max((*_longest_run(free, their, self._short), index) for index, their in enumerate(theirs))
        passage = " ".join(word or "" for word in free[end - run : end])
        if run == len(words):
            return Overlap(part, "verbatim", 1.0, run, run, passage)
        known = _known(free, theirs, TRACE * unit)
        telling = [word is not None for word in free]
        if common:
            telling = [
                is_telling and not many
                for is_telling, many in zip(telling, common.flags(words, TRACE * unit), strict=True)
            ]
        num_telling = sum(telling)
        # What is put together from common phrases is known only where it is known whole.
        if num_telling < least or 2 * num_telling < num_free:
            return None
        coverage = _share(known, telling)
        is_same = _has_numbers_of(free, theirs[best]) and (
            part != "prompt" or all(_share(known, telling, edge) >= NEAR_SHORT for edge in text.edges)
        )
        level = self._level(part, run, coverage, num_telling, unit, is_same=is_same)
        return Overlap(part, level, coverage, run, len(words), passage) if level else None

    def _is_asked(self, exam: int, part: str, text: _ExamText, said: Sequence[str]) -> bool:
        """Whether a short text stands there as a question; only one that is not common says something."""
        if part != "prompt" or exam in self._evidence.common_prompts:
            return False
        mine, *theirs = told([text.text, said[0], *said[4:]]).tolist()
        return mine in theirs

    def _is_extract(self, exam: int, answer: _ExamText) -> bool:
        """Whether most of an answer stands in its own prompt: who has the exam has it, and nothing gives it away."""
        prompt = self._texts(exam)[0]
        known = _known(answer.words, [prompt.words], TRACE * answer.unit)
        return 2 * sum(known) > len(known)

    def _level(
        self, part: Part, run: int, coverage: float, num_words: int, unit: int, *, is_same: bool
    ) -> Level | None:
        long = self._long * unit
        # Answers to different questions follow the same steps, and in a short text a turn of phrase is half of it.
        is_strict = part == "completion" or num_words < 2 * long
        least = long if part == "completion" else self._short * unit
        is_near = run >= least and coverage >= (NEAR_SHORT if is_strict else NEAR)
        if is_near and is_same:
            return "near"
        return "partial" if is_near or run >= long else None

    def _whole(
        self, exam: int, overlaps: Sequence[Overlap], theirs: Sequence[list[str]], said: Sequence[str]
    ) -> list[Overlap]:
        """Return the overlap of the record as a whole: equal, however short, or found in both of its parts."""
        asked, answer, _ = self._texts(exam)
        is_equal = asked.words and answer.words and [asked.words, answer.words] == theirs[:2]
        if is_equal and (len(asked.words) >= self._short or np.ptp(told([asked.text, said[0]])) == 0):
            both = [*asked.words, *answer.words]
            return [Overlap("record", "verbatim", 1.0, len(both), len(both), " ".join(both))]
        if len(overlaps) < 2 or any(overlap.level == "partial" for overlap in overlaps):
            return []
        total = sum(overlap.num_words for overlap in overlaps)
        coverage = sum(overlap.coverage * overlap.num_words for overlap in overlaps) / total
        longest = max(overlaps, key=lambda overlap: overlap.run)
        return [Overlap("record", "near", coverage, longest.run, total, longest.passage)]


def _runs(words: Words, size: int) -> Iterator[tuple[str | None, ...]]:
    return (tuple(words[at : at + size]) for at in range(len(words) - size + 1))


def _shared(words: Words, other: Words, size: int) -> set[tuple[str | None, ...]]:
    """Return the runs of ``size`` words that both have; the runs of the longer one are never all in memory."""
    shorter, longer = sorted((words, other), key=len)
    return set(_runs(shorter, size)).intersection(_runs(longer, size))


def _longest_run(words: Words, theirs: Sequence[str], least: int) -> tuple[int, int]:
    """Return the length of the longest passage of ``words`` in ``theirs`` and where it ends; 0 below ``least``."""
    if len(theirs) < least:
        return 0, 0
    shared = _shared(words, theirs, least)
    positions: dict[tuple[str | None, ...], list[int]] = {}
    for at, run in enumerate(_runs(theirs, least)):
        if run in shared:
            known = positions.setdefault(run, [])
            # A text that says one thing over and over is matched at its first places only.
            if len(known) < _MOST_POSITIONS:
                known.append(at)
    best, end = 0, 0
    lengths: dict[int, int] = {}
    for at in range(len(words) - least + 1):
        lengths = {
            position: lengths.get(position - 1, least - 1) + 1
            for position in positions.get(tuple(words[at : at + least]), ())
        }
        if lengths and (longest := max(lengths.values())) > best:
            best, end = longest, at + least
    return best, end


def _known(words: Words, theirs: Sequence[Sequence[str]], trace: int) -> list[bool]:
    """Return for each of ``words`` whether it stands in a passage of ``trace`` words that one of ``theirs`` has."""
    shared = {run for their in theirs for run in _shared(words, their, trace)}
    known, upto = [False] * len(words), 0
    for at in range(len(words) - trace + 1):
        if tuple(words[at : at + trace]) in shared:
            start = max(at, upto)
            upto = at + trace
            known[start:upto] = [True] * (upto - start)
    return known


def _share(known: Sequence[bool], telling: Sequence[bool], edge: slice = slice(None)) -> float:
    """Return how much of what tells is known, 1 where nothing does."""
    flags = [is_known for is_known, is_telling in zip(known[edge], telling[edge], strict=True) if is_telling]
    return sum(flags) / len(flags) if flags else 1.0


def _has_numbers_of(words: Words, theirs: Sequence[str]) -> bool:
    """Whether the numbers among ``words`` stand in ``theirs`` too, nearly all of them."""
    numbers = [word for word in words if word and word[0].isdigit()]
    known = {word for word in theirs if word[0].isdigit()}
    return sum(word in known for word in numbers) >= SAME_NUMBERS * len(numbers)


def _edges(text: str) -> list[slice]:
    """Return the word slices of the first and the last of several lines, without lines of a word or two."""
    # A question stands before or after its passage, and a model that knows the passage does not know the question.
    counts = [count for line in text.splitlines() if (count := len(words_of(line)))]
    if len(counts) < 2:
        return []
    total = sum(counts)
    edges = [slice(0, counts[0]), slice(total - counts[-1], total)]
    return [edge for edge in edges if edge.stop - edge.start >= _ASKING]


class CommonPhrases:
    """Which phrases are common, for records that were named when it was made."""

    def __init__(self, corpus: HashedRecords, suspects: Sequence[int], others: Sequence[int], most: int) -> None:
        """Count the phrases of ``suspects`` in the prompts of ``others``; more than ``most`` are many."""
        sample = others[:: max(1, -(-len(others) // _MOST_RECORDS))]
        self._corpus, self._suspects, self._sample = corpus, suspects, sample
        self._most = max(most, len(sample) * _IN_A_THOUSAND // 1000)
        self._known: dict[int, Hashes] = {}

    def flags(self, words: Sequence[str], size: int) -> list[bool]:
        """Return for each of ``words`` whether it stands in a common phrase of ``size`` words."""
        tokens, offsets, _ = self._corpus.kernels.words([" ".join(words)])
        runs = self._corpus.kernels.runs(Spans(tokens, offsets[:-1], offsets[1:]), size, EVERYTHING)
        is_common = np.isin(runs.hashes, self._common(size))
        edges = np.zeros(len(words) + 1, np.int64)
        edges[runs.starts[is_common]] += 1
        edges[runs.starts[is_common] + size] -= 1
        return [count > 0 for count in np.cumsum(edges[:-1]).tolist()]

    def _common(self, size: int) -> Hashes:
        if size not in self._known:
            parts = [np.zeros(0, np.uint64)]
            for block in self._corpus.blocks(self._is_in(self._suspects)):
                texts = np.flatnonzero(block.parts < len(PARTS))
                parts.append(self._corpus.kernels.runs(block.spans.take(texts), size, EVERYTHING).hashes)
            wanted = distinct(np.concatenate(parts))
            self._known[size] = wanted[self._counts(wanted, size) > self._most]
        return self._known[size]

    def _counts(self, wanted: Hashes, size: int) -> Indices:
        """Return in how many different prompts of the sample each of the runs stands."""
        sieve = Sieve.of(wanted)
        keys, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for block in self._corpus.blocks(self._is_in(self._sample)):
            texts = np.flatnonzero(block.parts < NUM_TEXTS)
            hashes, of, _ = self._corpus.kernels.runs(block.spans.take(texts), size, sieve)
            indices, is_wanted = numbers_in(wanted, hashes)
            pairs = joined(hashes, block.prompts[texts[of]])[is_wanted]
            pairs, first = np.unique(pairs, return_index=True)
            keys.append(pairs)
            numbers.append(indices[is_wanted][first])
        _, first = np.unique(np.concatenate(keys), return_index=True)
        return np.bincount(np.concatenate(numbers)[first], minlength=len(wanted))

    def _is_in(self, rows: Sequence[int]) -> Flags:
        flags = np.zeros(len(self._corpus.records), np.bool_)
        flags[rows] = True
        return flags
