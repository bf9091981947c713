"""Leaks: what an exam (a test split, a benchmark) has in common with the records that a model learns from.

A leak is a pair: one exam record, and the training record that gives it away. Pairs are suspected by runs of words
that both share, which is the usual test for contamination (Brown et al. 2020, appendix C, https://arxiv.org/abs/2005.14165),
with two differences. Runs that stand in many different prompts are templates and are no evidence, so that a shared
instruction does not drown what matters; and every suspected pair is compared word by word before it is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from curate.base.record import Record
from curate.schema.settings import LeakSettings
from curate.similarity.leaks.results import LEVELS, Leak, Leaks, Level, Overlap


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
    if not exam or not pool:
        return Leaks([], len(exam), len(pool), 0)
    # Both need numpy.
    from curate.similarity.leaks.evidence import TRIED, gather
    from curate.similarity.leaks.pairs import CommonPhrases, PairComparison

    short, long = min(settings.short_ngram, settings.ngram), max(settings.short_ngram, settings.ngram)
    evidence = gather(exam, pool, short, settings.max_prompts)
    comparison = PairComparison(exam, pool, evidence, long=long, short=short)

    def order(overlap: Overlap) -> tuple[int, int, float]:
        return LEVELS.index(overlap.level), overlap.part != "record", -overlap.coverage * overlap.num_words

    suspected = [(pair, overlaps) for pair in evidence.candidates if (overlaps := comparison.overlaps(*pair))]
    unsure = {number for (number, _), overlaps in suspected if any(overlap.level != "verbatim" for overlap in overlaps)}
    common = CommonPhrases([exam[number] for number in sorted(unsure)], exam, pool, settings.max_prompts)
    by_exam: dict[int, list[Leak]] = {}
    for (number, other), suspicion in suspected:
        overlaps = comparison.overlaps(number, other, common) if number in unsure else suspicion
        if overlaps:
            by_exam.setdefault(number, []).append(Leak(exam[number], pool[other], tuple(sorted(overlaps, key=order))))
    ranked = [sorted(by_exam[number], key=lambda leak: order(leak.worst)) for number in sorted(by_exam)]
    leaks = [
        replace(first, also=tuple(leak for leak in others[: TRIED - 1] if leak.severity == "error"))
        for first, *others in ranked
    ]
    return Leaks(leaks, len(exam), len(pool), evidence.num_templates)


__all__ = ["LEVELS", "Leak", "Leaks", "Level", "Overlap", "find_leaks"]
