"""Everything that can be said of the agreement on one question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy

from curate.base.record import Json
from curate.project.blind import Gold
from curate.sessions.agreement import Answers, Confusion, key_of
from curate.sessions.agreement_figures import (
    Chance,
    Figure,
    Sheet,
    Whole,
    accuracy,
    against_others,
    fleiss_kappa,
    per_value,
    percent_and_alpha,
    sheet_of,
    units_of,
)

_MOST_CLASSES = 200
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class AnnotatorPair:
    """Two annotators on the records that both have answered: the share of equal answers, and Cohen's kappa."""

    left: str
    right: str
    percent: Figure
    kappa: Figure


@dataclass(frozen=True, slots=True)
class Class:
    """One value: the answers that gave it, its specific agreement, and its alpha against all other values."""

    value: Json
    num_answers: int
    specific: Figure
    alpha: Figure


@dataclass(frozen=True, slots=True)
class Annotator:
    """One annotator against all others, and against the known answers.

    ``alpha_without`` is everybody's alpha without this annotator; where it is the greater one, the others agree better
    among themselves.
    """

    name: str
    num_answers: int
    num_shared: int
    percent: Figure
    kappa: Figure
    alpha_without: float | None
    gold: Figure


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement on one question.

    ``num_shared`` records have two answers or more, in ``num_pairs`` pairs. ``fleiss`` is of the records with exactly
    ``fleiss_answers`` answers (0 where there are none). ``num_apart`` pairs of annotators have no record in common and
    are not in ``pairs``. ``disagreements`` are the ids of the records with different answers. ``classes`` are the most
    frequent values, ``num_more_classes`` are not there. ``num_gold`` records have a known answer. ``is_ordinal``:
    the values are those of a scale, and alpha counts how far apart answers are.
    """

    num_records: int
    num_answers: int
    num_shared: int
    num_pairs: int
    num_gold: int
    percent: Figure
    alpha: Figure
    fleiss: Figure
    fleiss_answers: int
    pairs: list[AnnotatorPair]
    num_apart: int
    confusions: list[Confusion]
    disagreements: list[str]
    classes: list[Class]
    num_more_classes: int
    annotators: list[Annotator]
    is_ordinal: bool


def measure(
    answers: Answers,
    *,
    gold: Gold | None = None,
    chance: Chance | None = None,
    scale: Sequence[str] = (),
) -> Agreement:
    """Return every measure of the agreement on one question.

    ``gold`` are known answers by record; ``chance`` says how resamples are drawn. ``scale`` are the values of a rating,
    from worst to best: where all answers are of them, alpha is ordinal.
    """
    chance, known = chance or Chance(), gold or {}
    sheet = sheet_of(answers, scale)
    is_ordinal = bool(sheet.values) and {*sheet.values} <= {*scale} if scale else False
    percent, alpha = percent_and_alpha(sheet.cells, chance, is_ordinal=is_ordinal)
    fleiss, fleiss_answers = fleiss_kappa(sheet.cells, chance)
    pairs, num_apart = _pairs(sheet, chance)
    confusions, disagreements = _confusions(sheet)
    classes, num_more = _classes(sheet, chance)
    return Agreement(
        num_records=len(sheet.records),
        num_answers=int(sheet.sizes.sum()),
        num_shared=sheet.num_shared,
        num_pairs=sheet.num_pairs,
        percent=percent,
        alpha=alpha,
        fleiss=fleiss,
        fleiss_answers=fleiss_answers,
        pairs=pairs,
        num_apart=num_apart,
        confusions=confusions,
        disagreements=disagreements,
        classes=classes,
        num_more_classes=num_more,
        annotators=_annotators(sheet, known, chance, is_ordinal=is_ordinal),
        num_gold=len(known),
        is_ordinal=is_ordinal,
    )


def _pairs(sheet: Sheet, chance: Chance) -> tuple[list[AnnotatorPair], int]:
    pairs, num_apart = [], 0
    given = (sheet.cells >= 0).astype(numpy.int64)
    in_common = given.T @ given
    for left, right in combinations(range(len(sheet.annotators)), 2):
        if not in_common[left, right]:
            num_apart += 1
            continue
        percent, kappa = against_others(sheet.cells[:, [left, right]], 0, chance)
        pairs.append(AnnotatorPair(sheet.annotators[left], sheet.annotators[right], percent, kappa))
    return pairs, num_apart


def _annotators(sheet: Sheet, gold: Gold, chance: Chance, *, is_ordinal: bool) -> list[Annotator]:
    right = {name: key_of(value) for name, value in gold.items()}
    known = [(row, right[name]) for row, name in enumerate(sheet.records) if name in right]
    keys = [key_of(value) for value in sheet.values]
    # No resamples: what is looked for is whether it is greater, and many annotators would make it slow.
    alone = Chance(chance.seed, resamples=1)
    annotators = []
    for column, name in enumerate(sheet.annotators):
        own = sheet.cells[:, column]
        gold_answers = [(keys[own[row]], answer) for row, answer in known if own[row] >= 0]
        percent, kappa = against_others(sheet.cells, column, chance)
        others = numpy.delete(sheet.cells, column, axis=1)
        annotators.append(
            Annotator(
                name=name,
                num_answers=int((own >= 0).sum()),
                num_shared=int(((own >= 0) & (sheet.sizes > 1)).sum()),
                percent=percent,
                kappa=kappa,
                alpha_without=percent_and_alpha(others, alone, is_ordinal=is_ordinal)[1].value,
                gold=accuracy(sum(given == answer for given, answer in gold_answers), len(gold_answers)),
            )
        )
    return annotators


def _classes(sheet: Sheet, chance: Chance) -> tuple[list[Class], int]:
    counts = numpy.bincount(sheet.cells[sheet.cells >= 0], minlength=len(sheet.values))
    chosen = numpy.argsort(-counts, kind="stable")[:_MOST_CLASSES]
    figures: dict[int, tuple[Figure, Figure]] = {}
    if units := units_of(sheet.cells):
        shared = chosen[numpy.isin(chosen, units.values)]
        indices = numpy.searchsorted(units.values, shared)
        figures = dict(zip(shared.tolist(), per_value(units, indices, chance), strict=True))
    nothing = Figure(None, reason="no record with this value has a second answer")
    classes = [
        Class(sheet.values[code], int(counts[code]), *figures.get(code, (nothing, nothing))) for code in chosen.tolist()
    ]
    return classes, len(sheet.values) - len(classes)


def _confusions(sheet: Sheet) -> tuple[list[Confusion], list[str]]:
    counts: Counter[tuple[int, int]] = Counter()
    records: dict[tuple[int, int], list[str]] = defaultdict(list)
    rows = _differing(sheet.cells)
    for row in rows:
        given = Counter(code for code in sheet.cells[row].tolist() if code >= 0)
        for left, right in combinations(sorted(given), 2):
            counts[left, right] += given[left] * given[right]
            if len(records[left, right]) < _EXAMPLES:
                records[left, right].append(sheet.records[row])
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    confusions = [
        Confusion(sheet.values[left], sheet.values[right], count, tuple(records[left, right]))
        for (left, right), count in ordered
    ]
    return confusions, [sheet.records[row] for row in rows]


def _differing(cells: Whole) -> Sequence[int]:
    if not cells.size:
        return []
    highest = cells.max(axis=1)
    # For the least answer, what is missing must be no answer at all.
    lowest = numpy.where(cells < 0, highest[:, None], cells).min(axis=1)
    return [int(row) for row in numpy.flatnonzero(lowest < highest)]
