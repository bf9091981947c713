"""Agreement over time: by day, or by blocks of so many answers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy

from curate.sessions.agreement.answers import Moments
from curate.sessions.agreement.figures import Chance, Figure, percent_and_alpha
from curate.sessions.agreement.sheet import Sheet

_DAY = len("2026-01-31")


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of time, from day to day in UTC, and the agreement on the records whose last answer is of it."""

    first: str
    last: str
    num_records: int
    num_answers: int
    percent: Figure
    alpha: Figure


def blocks(sheet: Sheet, moments: Moments, size: int, chance: Chance) -> tuple[list[Block], int]:
    """Return the agreement by day, or by blocks of at least ``size`` answers, and the number of records left out.

    A record with two answers or more counts once, at the moment of the last of them, because only then could anybody
    agree or not. Left out are those of which no moment is known.
    """
    timed: list[tuple[str, int]] = []
    num_untimed = 0
    for row in numpy.flatnonzero(sheet.sizes > 1).tolist():
        known = moments.get(sheet.records[row], {})
        given = [
            known[by] for by, code in zip(sheet.annotators, sheet.cells[row], strict=True) if code >= 0 and by in known
        ]
        if given:
            timed.append((max(given), row))
        else:
            num_untimed += 1
    timed.sort()
    return [_block(sheet, part, chance) for part in _parts(sheet, timed, size)], num_untimed


def _parts(sheet: Sheet, timed: list[tuple[str, int]], size: int) -> list[list[tuple[str, int]]]:
    if not size:
        days: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for moment, row in timed:
            days[moment[:_DAY]].append((moment, row))
        return list(days.values())
    parts: list[list[tuple[str, int]]] = []
    room = 0
    for answer in timed:
        if room <= 0:
            parts.append([])
            room = size
        parts[-1].append(answer)
        room -= int(sheet.sizes[answer[1]])
    return parts


def _block(sheet: Sheet, part: list[tuple[str, int]], chance: Chance) -> Block:
    rows = [row for _, row in part]
    percent, alpha = percent_and_alpha(sheet.cells[rows], chance)
    first, last = part[0][0][:_DAY], part[-1][0][:_DAY]
    return Block(first, last, len(rows), int(sheet.sizes[rows].sum()), percent, alpha)
