"""One exam record and one pool record, compared word by word: how much of the one stands in the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from curate.checks.leaks import Level
from curate.leaks.evidence import PARTS, Evidence, asked_of
from curate.leaks.words import is_by_character, words_of
from curate.record import Record

Part = Literal["prompt", "completion", "text", "record"]

LEVELS: tuple[Level, ...] = get_args(Level)
"""The levels, the worst first."""
NEAR = 0.5
"""Share of a text's words, templates left out, from which a pair is near."""
NEAR_SHORT = 0.75
"""The same for a text with fewer than twice ``ngram`` words, in which one turn of phrase is half of it."""
_TRACE = 4
"""Words in a row that count as taken over once a pair is suspected; a reworded copy keeps few longer ones."""
_MOST_PLACES = 64

Words = Sequence[str | None]
"""Words in order; None stands for one that a template covers, which equals nothing."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of one part of an exam record stands in one pool record.

    ``coverage`` is the share of the part's words (templates left out) that stand there at least 4 in a row, ``run`` the
    longest passage of theirs in common, ``num_words`` the words of the part, templates included.
    """

    part: Part
    level: Level
    coverage: float
    run: int
    num_words: int
    passage: str


class Comparison:
    """Compares pairs as the settings ask, and keeps the words of the latest exam record and of the whole pool's."""

    def __init__(
        self, exam: Sequence[Record], pool: Sequence[Record], evidence: Evidence, *, long: int, short: int
    ) -> None:
        self._exam, self._pool, self._evidence = exam, pool, evidence
        self._long, self._short = long, short
        self._latest: tuple[int, list[tuple[list[str], Words]]] = (-1, [])

    def overlaps(self, exam: int, pool: int) -> list[Overlap]:
        """Return what the pair has in common, by part, and as a whole where prompt and completion are both found."""
        theirs = [words_of(text) for text in _texts(self._pool[pool])]
        found = [
            one
            for place, (words, free) in enumerate(self._words(exam))
            if words and (one := self._overlap(exam, place, words, free, theirs))
        ]
        return [*found, *self._whole(exam, found, theirs)]

    def _words(self, exam: int) -> list[tuple[list[str], Words]]:
        if self._latest[0] != exam:
            record = self._exam[exam]
            parts: list[tuple[list[str], Words]] = []
            for place, text in enumerate((record.prompt, record.completion, record.text)):
                words, begin = words_of(text), int(self._evidence.begins[3 * exam + place])
                covered = self._evidence.is_template[begin : begin + len(words)].tolist()
                parts.append((words, [None if is_in else word for word, is_in in zip(words, covered, strict=True)]))
            self._latest = exam, parts
        return self._latest[1]

    def _overlap(
        self, exam: int, place: int, words: list[str], free: Words, theirs: Sequence[list[str]]
    ) -> Overlap | None:
        part = PARTS[place]
        # Two characters of a script without blanks carry about what a word does.
        unit = 2 if is_by_character(words) else 1
        least = unit * (self._long if part == "completion" else self._short)
        if part == "completion" and len(words) < least:
            return None
        if self._is_equal(exam, part, words, theirs, is_short=len(words) < least):
            return Overlap(part, "verbatim", 1.0, len(words), len(words), " ".join(words))
        num_free = sum(word is not None for word in free)
        if num_free < least:
            return None
        run, end = max(_longest_run(free, their, self._short) for their in theirs)
        coverage = _coverage(free, theirs, _TRACE * unit) / num_free
        level = self._level(run, coverage, len(words), least, unit)
        passage = [word or "" for word in free[end - run : end]]
        return Overlap(part, level, coverage, run, len(words), " ".join(passage)) if level else None

    def _is_equal(
        self, exam: int, part: Part, words: list[str], theirs: Sequence[list[str]], *, is_short: bool
    ) -> bool:
        """Whether a text stands there as it is; a short one says something only as a question that is not common."""
        if not is_short:
            return words in theirs
        is_asked = words == theirs[0] or words in theirs[4:]
        return part == "prompt" and is_asked and exam not in self._evidence.common_prompts

    def _level(self, run: int, coverage: float, num_words: int, least: int, unit: int) -> Level | None:
        is_short = num_words < 2 * self._long * unit
        if run == num_words:
            return "verbatim"
        if run >= least and coverage >= (NEAR_SHORT if is_short else NEAR):
            return "near"
        is_partial = run >= least and coverage >= NEAR if is_short else run >= self._long * unit
        return "partial" if is_partial else None

    def _whole(self, exam: int, found: Sequence[Overlap], theirs: Sequence[list[str]]) -> list[Overlap]:
        """Return the overlap of the record as a whole: equal, however short, or found in both of its parts."""
        (asked, _), (answered, _), _ = self._words(exam)
        if asked and answered and asked == theirs[0] and answered == theirs[1]:
            both = [*asked, *answered]
            return [Overlap("record", "verbatim", 1.0, len(both), len(both), " ".join(both))]
        if len(found) < 2 or any(one.level == "partial" for one in found):
            return []
        total = sum(one.num_words for one in found)
        coverage = sum(one.coverage * one.num_words for one in found) / total
        longest = max(found, key=lambda one: one.run)
        return [Overlap("record", "near", coverage, longest.run, total, longest.passage)]


def _texts(record: Record) -> list[str]:
    return [record.prompt, record.completion, record.text, record.system, *asked_of(record)]


def _runs(words: Words, size: int) -> Iterator[tuple[str | None, ...]]:
    return (tuple(words[at : at + size]) for at in range(len(words) - size + 1))


def _shared(one: Words, other: Words, size: int) -> set[tuple[str | None, ...]]:
    """Return the runs of ``size`` words that both have; the runs of the longer one are never all in memory."""
    shorter, longer = sorted((one, other), key=len)
    return set(_runs(shorter, size)).intersection(_runs(longer, size))


def _longest_run(words: Words, theirs: Sequence[str], least: int) -> tuple[int, int]:
    """Return the length of the longest passage of ``words`` in ``theirs`` and where it ends; 0 below ``least``."""
    if len(theirs) < least:
        return 0, 0
    shared = _shared(words, theirs, least)
    places: dict[tuple[str | None, ...], list[int]] = {}
    for at, run in enumerate(_runs(theirs, least)):
        if run in shared:
            known = places.setdefault(run, [])
            # A text that says one thing over and over is matched at its first places only.
            if len(known) < _MOST_PLACES:
                known.append(at)
    best, end = 0, 0
    lengths: dict[int, int] = {}
    for at in range(len(words) - least + 1):
        lengths = {
            place: lengths.get(place - 1, least - 1) + 1 for place in places.get(tuple(words[at : at + least]), ())
        }
        if lengths and (longest := max(lengths.values())) > best:
            best, end = longest, at + least
    return best, end


def _coverage(words: Words, theirs: Sequence[Sequence[str]], trace: int) -> int:
    """Return how many of ``words`` stand in a passage of ``trace`` words that one of ``theirs`` has."""
    known = {run for their in theirs for run in _shared(words, their, trace)}
    num, upto = 0, 0
    for at in range(len(words) - trace + 1):
        if tuple(words[at : at + trace]) in known:
            num += at + trace - max(at, upto)
            upto = at + trace
    return num
