"""Which of the records that repeat one another stay, and which retained record each of the others repeats.

The comparison knows no preference and no decision: what it finds is the same before and after an export. Who stays
follows from the order of preference; what a record is said to repeat follows from who stays alone, so that an export
of the same records says it in the same words whatever the order was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.found import Duplicate
from curate.hashing import Indices

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Repetition:
    """Which of N records could be left out because of which others, by row."""

    ids: Sequence[str]
    first_of: Indices
    """[N] The first record of the same content, which stands for all of them."""
    left: Indices
    """[P] Of each pair of such first records that nearly repeat one another, the one; each pair once."""
    right: Indices
    """[P] The other."""
    scores: NDArray[np.float64]
    """[P] Their similarity, from 0 to 1."""

    def retained(self, order: Indices, wanted: Collection[str] = ()) -> Flags:
        """Return which records stay, [N], of rows in the ``order`` of preference: all that repeat none before them.

        ``wanted`` stay in any case, and what repeats one of them later on goes.
        """
        is_retained = np.ones(len(self.ids), bool)
        is_tied = np.zeros(len(self.ids), bool)
        is_tied[list(self._near)] = True
        is_tied[list(self._members)] = True
        staying: set[int] = set()
        for row in order[is_tied[self.first_of[order]]].tolist():
            first = int(self.first_of[row])
            is_repeated = first in staying or any(other in staying for other, _ in self._near.get(first, ()))
            if is_repeated and self.ids[row] not in wanted:
                is_retained[row] = False
            else:
                staying.add(first)
        return is_retained

    def duplicates(self, order: Indices, is_retained: Flags, wanted: Collection[str] = ()) -> list[Duplicate]:
        """Return a pair for each record that goes, in ``order``, and for each of ``wanted`` that would have gone."""
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        rows = np.flatnonzero(~is_retained).tolist()
        pairs = {row: pair for row in rows if (pair := self._nearest(row, lambda other: bool(is_retained[other])))}
        if wanted:
            for row in (row for row, name in enumerate(self.ids) if name in wanted):

                def is_before(other: int, row: int = row) -> bool:
                    return bool(is_retained[other]) and bool(position[other] < position[row])

                if pair := self._nearest(row, is_before):
                    pairs[row] = pair
        return [pairs[row] for row in sorted(pairs, key=lambda row: int(position[row]))]

    def nearest(self, names: Collection[str], among: Collection[str]) -> dict[str, Duplicate]:
        """Return, for those of ``names`` that repeat a record called as one of ``among``, the nearest such record."""
        rows = [row for row, name in enumerate(self.ids) if name in names]
        found = (self._nearest(row, lambda other: self.ids[other] in among) for row in rows)
        return {pair.record: pair for pair in found if pair}

    def _nearest(self, row: int, is_candidate: Callable[[int], bool]) -> Duplicate | None:
        """Return what ``row`` repeats: equal content before the highest score, and of equals the lowest id."""
        candidates = [(-score, self.ids[other], kind) for other, score, kind in self._ties(row) if is_candidate(other)]
        if not candidates:
            return None
        negated, name, kind = min(candidates, key=lambda one: (one[2] == "near", *one[:2]))
        return Duplicate(self.ids[row], name, -negated, "exact" if kind == "exact" else "near")

    def _ties(self, row: int) -> Iterator[tuple[int, float, str]]:
        first = int(self.first_of[row])
        for other in self._members.get(first, ()):
            if other != row:
                yield other, 1.0, "exact"
        for near, score in self._near.get(first, ()):
            for other in self._members.get(near, (near,)):
                yield other, score, "near"

    @cached_property
    def _near(self) -> dict[int, list[tuple[int, float]]]:
        near: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for left, right, score in zip(self.left.tolist(), self.right.tolist(), self.scores.tolist(), strict=True):
            near[left].append((right, score))
            near[right].append((left, score))
        return dict(near)

    @cached_property
    def _members(self) -> dict[int, list[int]]:
        """By first record, all records of a content that several have."""
        members: dict[int, list[int]] = {}
        for row in np.flatnonzero(self.first_of != np.arange(len(self.first_of))).tolist():
            first = int(self.first_of[row])
            members.setdefault(first, [first]).append(row)
        return members
