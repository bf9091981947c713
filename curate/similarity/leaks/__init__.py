"""Leaks: what an exam (a test split, a benchmark) has in common with the records that a model learns from.

A leak is a pair: one exam record, and the training record that gives it away. Pairs are suspected by runs of words
that both share, which is the usual test for contamination (Brown et al. 2020, appendix C, https://arxiv.org/abs/2005.14165),
with two differences. Runs that stand in many different prompts are templates and are no evidence, so that a shared
instruction does not drown what matters; and every suspected pair is compared word by word before it is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from curate.base.record import Record
from curate.schema.settings import LeakSettings
from curate.similarity.leaks.results import LEVELS, Exam, Leak, Leaks, Level, Overlap

if TYPE_CHECKING:
    from curate.similarity.leaks.evidence import Evidence, SearchedRecords

# Other records that give an exam record away are named up to so many.
_MOST_OTHERS = 7


def find_leaks(exam: Sequence[Record], pool: Sequence[Record], settings: LeakSettings) -> Leaks:
    """Return a leak for each exam record that has one, with the training record of ``pool`` that gives the most away.

    Up to seven others that give it away are named beside; another search without them shows whether any are
    left.

    *verbatim*: a part of the exam record stands there whole; *near*: at least half of its words do, in passages of 4
    and more, one of them at least ``short_ngram`` words long, and nine tenths of its numbers; of a prompt of several
    lines also most of the first and of the last one, for a passage may have many questions; *partial*: a passage of at
    least ``ngram`` words does, or as many words as of a near one but not its numbers or its first or last line.

    In a text with fewer than twice ``ngram`` words a turn of phrase is half of it, so there near begins at three
    quarters of its words, as it does for completions. Prompt, completion and text are looked at one by one; a
    completion gives nothing away by fewer than ``ngram`` words in a row, nor where most of it stands in its own prompt,
    and a prompt shorter than ``short_ngram`` only when it is equal and has at most ``max_prompts`` different answers.
    All of this leaves out the words that stand in templates, and what is not equal also those of phrases that many
    prompts have.
    """
    # It needs numpy.
    from curate.similarity.leaks.evidence import SearchedRecords

    rows = range(len(pool) + len(exam))
    return compare_exams(SearchedRecords([*pool, *exam]), rows, [Exam(rows[len(pool) :], len(pool))], settings)[0]


def compare_exams(
    corpus: SearchedRecords, pool: Sequence[int], exams: Sequence[Exam], settings: LeakSettings
) -> list[Leaks]:
    """Return what `find_leaks` does for each exam: its records and those of ``pool`` are numbers of ``corpus``.

    An exam is compared with the first so many of the pool.
    """
    # It needs numpy.
    from curate.similarity.leaks.evidence import evidence_of

    least = min(settings.short_ngram, settings.ngram)
    return [
        _leaks(corpus, pool, exam, settings, evidence_of(corpus, pool, exam, least, settings.max_prompts))
        if exam.rows and exam.num_pool
        else Leaks([], len(exam.rows), exam.num_pool, 0)
        for exam in exams
    ]


def _leaks(
    corpus: SearchedRecords, pool: Sequence[int], exam: Exam, settings: LeakSettings, evidence: Evidence
) -> Leaks:
    from curate.similarity.leaks.pairs import CommonPhrases, PairComparison

    comparison = PairComparison(corpus, exam.rows, pool, evidence, settings)
    suspected = [(pair, overlaps) for pair in evidence.candidates if (overlaps := comparison.overlaps(*pair))]
    unsure = {number for (number, _), overlaps in suspected if any(each.level != "verbatim" for each in overlaps)}
    others = [*exam.rows, *pool[: exam.num_pool]]
    common = CommonPhrases(corpus, [exam.rows[number] for number in sorted(unsure)], others, settings.max_prompts)
    by_record: dict[int, list[Leak]] = {}
    for (number, rank), suspicion in suspected:
        overlaps = comparison.overlaps(number, rank, common) if number in unsure else suspicion
        if overlaps:
            leak = _leak(corpus.records, (exam.rows[number], pool[rank]), sorted(overlaps, key=_order))
            by_record.setdefault(number, []).append(leak)
    leaks = [_ranked(by_record[number]) for number in sorted(by_record)]
    return Leaks(leaks, len(exam.rows), exam.num_pool, len(evidence.templates))


def _leak(records: Sequence[Record], rows: tuple[int, int], overlaps: Sequence[Overlap]) -> Leak:
    return Leak(records[rows[0]], records[rows[1]], tuple(overlaps), rows=rows)


def _order(overlap: Overlap) -> tuple[int, int, float]:
    """Return what puts the overlap that says the most first."""
    return LEVELS.index(overlap.level), overlap.part != "record", -overlap.coverage * overlap.num_words


def _ranked(leaks: Sequence[Leak]) -> Leak:
    """Return the worst leak of an exam record, with others of it that are errors."""
    first, *others = sorted(leaks, key=lambda leak: _order(leak.worst))
    return replace(first, also=tuple(leak for leak in others[:_MOST_OTHERS] if leak.severity == "error"))
