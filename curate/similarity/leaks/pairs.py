"""One exam record and one pool record, compared word by word: how much of the one stands in the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain

import numpy as np

from curate.base.hashing import Hashes
from curate.schema.settings import LeakSettings
from curate.similarity.dedupe.shingles import MARKS, Flags, HashIndex, covered, distinct, passages, windows
from curate.similarity.dedupe.words import words_in
from curate.similarity.leaks.evidence import Evidence, SearchedRecords, prompts_with
from curate.similarity.leaks.results import PARTS, Level, Overlap, Part
from curate.similarity.leaks.words import is_by_character, words_of

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
# Behind prompt, completion, text, and system message stand the turns of a chat.
NUM_TEXTS = 4
# Records among which phrases are counted; of more, one in so many.
_MOST_RECORDS = 10_000
# A phrase is common in more prompts than this of a thousand, if these are more than ``max_prompts``.
_IN_A_THOUSAND = 1

# Words in order; None stands for one that a template covers, which equals nothing.
Words = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class _Text:
    """A part of an exam record: its words, those outside templates, its first and last line, characters a word.

    ``tokens`` are coarser than ``words``: so many of these are in each.
    """

    part: Part
    tokens: Hashes
    sizes: Sequence[int]
    words: list[str]
    free: Words
    edges: list[slice]
    unit: int

    @property
    def num_free(self) -> int:
        return sum(word is not None for word in self.free)

    def flags(self, runs: Hashes, size: int) -> Flags:
        """Return for each of the words whether it stands in one of the ``runs`` of ``size`` tokens."""
        return np.repeat(_in_runs(self.tokens, runs, size), self.sizes)


class PairComparison:
    """Compares pairs of an exam record and a pool record, by their places in ``exam`` and ``pool``."""

    def __init__(
        self,
        corpus: SearchedRecords,
        exam: Sequence[int],
        pool: Sequence[int],
        evidence: Evidence,
        settings: LeakSettings,
    ) -> None:
        self._corpus, self._exam, self._pool, self._evidence = corpus, exam, pool, evidence
        self._short, self._long = sorted((settings.short_ngram, settings.ngram))
        self._texts = lru_cache(maxsize=1024)(self._texts_of)

    def overlaps(self, number: int, rank: int, common: CommonPhrases | None = None) -> list[Overlap]:
        """Return what the pair has in common, by part, and as a whole where prompt and completion are both found.

        The phrases of ``common`` count for nothing.
        """
        said = self._corpus.texts(self._pool[rank])
        theirs, texts = list(map(words_of, said)), self._texts(number)
        overlaps = [
            overlap for text in texts if text.words and (overlap := self._overlap(number, text, theirs, said, common))
        ]
        return [*overlaps, *self._whole(texts, overlaps, theirs, said)]

    def _texts_of(self, number: int) -> list[_Text]:
        texts = []
        for part, text in zip(PARTS, self._corpus.texts(self._exam[number]), strict=False):
            names, tokens = words_in(text)
            cut = list(map(words_of, names))
            sizes, words = list(map(len, cut)), list(chain.from_iterable(cut))
            is_in = np.repeat(_in_runs(tokens, self._evidence.templates, self._short), sizes).tolist()
            free = [None if is_template else word for word, is_template in zip(words, is_in, strict=True)]
            # Two characters of a script without blanks carry about what a word does.
            texts.append(_Text(part, tokens, sizes, words, free, _edges(text), 2 if is_by_character(words) else 1))
        return texts

    def _overlap(
        self, number: int, text: _Text, theirs: Sequence[list[str]], said: Sequence[str], common: CommonPhrases | None
    ) -> Overlap | None:
        part, words, free, trace = text.part, text.words, text.free, TRACE * text.unit
        least = text.unit * (self._long if part == "completion" else self._short)
        # An answer that many give says nothing about what was asked.
        if part == "completion" and (text.num_free < least or self._is_extract(number, text)):
            return None
        # A short text gives away what it asks; only a question that is not common says something.
        is_asked = part == "prompt" and number not in self._evidence.common_prompts
        if words in theirs if len(words) >= least else is_asked and _is_among(text, [said[0], *said[NUM_TEXTS:]]):
            return Overlap(part, "verbatim", 1.0, len(words), len(words), " ".join(words))
        if text.num_free < least:
            return None
        run, end, best = max((*_longest_run(free, their, self._short), index) for index, their in enumerate(theirs))
        passage = " ".join(word or "" for word in free[end - run : end])
        if run == len(words):
            return Overlap(part, "verbatim", 1.0, run, run, passage)
        known, telling = _known(free, theirs, trace), np.array([word is not None for word in free])
        if common:
            telling &= ~text.flags(common.of(trace), trace)
        num_telling = int(telling.sum())
        # What is put together from common phrases is known only where it is known whole.
        if num_telling < least or 2 * num_telling < text.num_free:
            return None
        coverage = _share(known, telling)
        # Answers to different questions follow the same steps, and in a short text a turn of phrase is half of it.
        is_strict = part == "completion" or num_telling < 2 * self._long * text.unit
        is_near = run >= least and coverage >= (NEAR_SHORT if is_strict else NEAR)
        is_same = _has_numbers_of(free, theirs[best]) and (
            part != "prompt" or all(_share(known[edge], telling[edge]) >= NEAR_SHORT for edge in text.edges)
        )
        if not is_near and run < self._long * text.unit:
            return None
        level: Level = "near" if is_near and is_same else "partial"
        return Overlap(part, level, coverage, run, len(words), passage)

    def _is_extract(self, number: int, answer: _Text) -> bool:
        """Whether most of an answer stands in its own prompt: who has the exam has it, and nothing gives it away."""
        known = _known(answer.words, [self._texts(number)[0].words], TRACE * answer.unit)
        return bool(2 * known.sum() > len(known))

    def _whole(
        self, texts: Sequence[_Text], overlaps: Sequence[Overlap], theirs: Sequence[list[str]], said: Sequence[str]
    ) -> list[Overlap]:
        """Return the overlap of the record as a whole: equal, however short, or found in both of its parts."""
        asked, answer, _ = texts
        is_equal = asked.words and answer.words and [asked.words, answer.words] == theirs[:2]
        if is_equal and (len(asked.words) >= self._short or _is_among(asked, said[:1])):
            both = [*asked.words, *answer.words]
            return [Overlap("record", "verbatim", 1.0, len(both), len(both), " ".join(both))]
        if len(overlaps) < 2 or any(overlap.level == "partial" for overlap in overlaps):
            return []
        total = sum(overlap.num_words for overlap in overlaps)
        coverage = sum(overlap.coverage * overlap.num_words for overlap in overlaps) / total
        longest = max(overlaps, key=lambda overlap: overlap.run)
        return [Overlap("record", "near", coverage, longest.run, total, longest.passage)]


def _in_runs(tokens: Hashes, runs: Hashes, size: int) -> Flags:
    """Return for each of ``tokens`` whether it stands in one of ``runs``, which are of ``size`` tokens."""
    own = windows(tokens & ~np.uint64(MARKS), size)[: max(0, len(tokens) - size + 1)]
    return covered(np.flatnonzero(np.isin(own, runs)), size, len(tokens))


def _is_among(text: _Text, others: Sequence[str]) -> bool:
    """Whether a short text is one of others, word for word."""
    return any(np.array_equal(text.tokens, words_in(other)[1]) for other in others)


def _runs(words: Words, size: int) -> Iterator[tuple[str | None, ...]]:
    return (tuple(words[at : at + size]) for at in range(len(words) - size + 1))


def _shared(words: Words, other: Words, size: int) -> set[tuple[str | None, ...]]:
    """Return the runs of ``size`` words that both have; the runs of the longer one are never all in memory."""
    shorter, longer = sorted((words, other), key=len)
    return set(_runs(shorter, size)).intersection(_runs(longer, size))


def _longest_run(words: Words, theirs: Sequence[str], least: int) -> tuple[int, int]:
    """Return the length of the longest passage of ``words`` in ``theirs`` and where it ends; 0 below ``least``."""
    shared = _shared(words, theirs, least)
    positions: dict[tuple[str | None, ...], list[int]] = {run: [] for run in shared}
    for at, run in enumerate(_runs(theirs, least)):
        # A text that says one thing over and over is matched at its first places only.
        if run in shared and len(positions[run]) < _MOST_POSITIONS:
            positions[run].append(at)
    best, end = 0, 0
    lengths: dict[int, int] = {}
    for at, run in enumerate(_runs(words, least)):
        lengths = {place: lengths.get(place - 1, least - 1) + 1 for place in positions.get(run, ())}
        if lengths and (longest := max(lengths.values())) > best:
            best, end = longest, at + least
    return best, end


def _known(words: Words, theirs: Sequence[Sequence[str]], trace: int) -> Flags:
    """Return for each of ``words`` whether it stands in a passage of ``trace`` words that one of ``theirs`` has."""
    shared = {run for their in theirs for run in _shared(words, their, trace)}
    known = np.zeros(len(words), np.bool_)
    for at, run in enumerate(_runs(words, trace)):
        if run in shared:
            known[at : at + trace] = True
    return known


def _share(known: Flags, telling: Flags) -> float:
    """Return how much of what tells is known, 1 where nothing does."""
    return float(known[telling].mean()) if telling.any() else 1.0


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
    """Which phrases of some records, the suspects, stand in many prompts of others."""

    def __init__(self, corpus: SearchedRecords, suspects: Sequence[int], others: Sequence[int], most: int) -> None:
        """Of more than ``most`` prompts, and one in a thousand, are many."""
        self._corpus, self._suspects = corpus, np.array(suspects, np.int64)
        self._sample = np.array(others[:: max(1, -(-len(others) // _MOST_RECORDS))], np.int64)
        self._most = max(most, len(self._sample) * _IN_A_THOUSAND // 1000)
        self.of = cache(self._of)

    def _of(self, size: int) -> Hashes:
        """Return the common phrases of ``size`` tokens, sorted."""
        own = self._corpus.words(self._corpus.corpus.between(1, 4).take(self._suspects))
        index = HashIndex(distinct(passages(own, size).hashes))
        counts, _, _ = prompts_with(self._corpus, self._sample, index, size)
        return index.known[counts > self._most]
