"""What a comparison finds: duplicates, conflicts, and clusters with what ties their records."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.shingles import Field, Flags

Scores = NDArray[np.float64]
Keep = Literal["first", "longest"]
Tie = Literal["exact", "record", "prompt", "completion"]
TIES: tuple[Tie, ...] = ("exact", "record", "prompt", "completion")
# What a record is to those before it: the first of its cluster, a repeat, a conflict, or like them in another way.
Standing = Literal["first", "exact", "near", "conflict", "alike"]


@dataclass(frozen=True, slots=True)
class Method:
    """How near duplicates are measured: shingles of ``ngram`` words, alike from ``threshold`` on."""

    ngram: int
    threshold: float

    @property
    def edit_rate(self) -> float:
        """The largest share of evenly changed words at which a copy is still seen."""
        # A shingle survives with probability p = (1 - e)**n, and J is about p / (2 - p).
        survival = 2 * self.threshold / (1 + self.threshold)
        return 1 - float(survival ** (1 / self.ngram))


def method_of(settings: DedupeSettings) -> Method:
    """Return how the settings compare texts."""
    return Method(settings.ngram, settings.threshold)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """``record`` repeats ``keeper``, which stays; ``score`` is 1 for exact repeats, else the records' similarity."""

    record: str
    keeper: str
    score: float
    kind: Literal["exact", "near"]
    field: Field = "record"


@dataclass(frozen=True, slots=True)
class AnswerConflict:
    """``record`` asks what ``other`` asks, word for word (``score`` 1 in ``field``), and is answered otherwise."""

    record: str
    other: str
    score: float
    field: Field


class Edges(NamedTuple):
    """Every tie between two of N records: their rows, the similarity, and the number in `TIES` of what ties."""

    left: Indices
    right: Indices
    scores: Scores
    ties: Indices


def components(count: int, left: Indices, right: Indices) -> Indices:
    """Return for each of the numbers 0..count-1 the smallest number that the pairs (left, right) join it with."""
    # Labels hook onto smaller ones and jump to their root (Shiloach and Vishkin 1982).
    above = np.arange(count, dtype=np.int64)
    while len(left):
        roots = np.stack([above[left], above[right]])
        is_open = roots[0] != roots[1]
        left, right, roots = left[is_open], right[is_open], roots[:, is_open]
        np.minimum.at(above, roots.max(axis=0), roots.min(axis=0))
        while not np.array_equal(jumped := above[above], above):
            above = jumped
    return above


@dataclass(frozen=True)
class Repetition:
    """Which of N records could be left out because of which others, by row.

    The comparison knows no preference and no decision: what it finds is the same before and after an export. Who stays
    follows from the order of preference; what a record is said to repeat follows from who stays alone, so that an
    export of the same records says it in the same words whatever the order was.
    """

    ids: Sequence[str]
    first_of: Indices
    """[N] The first record of the same content, which stands for all of them."""
    left: Indices
    """[P] Of each pair of such first records that nearly repeat one another, the one; each pair once."""
    right: Indices
    """[P] The other."""
    scores: Scores
    """[P] Their similarity, from 0 to 1."""

    def retained(self, order: Indices, wanted: Collection[str] = ()) -> Flags:
        """Return which records stay, [N], of rows in the ``order`` of preference: all that repeat none before them.

        ``wanted`` stay in any case, and what repeats one of them later on goes.
        """
        is_retained = np.ones(len(self.ids), bool)
        rows = order[self._is_tied[order]]
        # Contents that what stays says, or nearly says.
        covered: set[int] = set()
        for row, first in zip(rows.tolist(), self.first_of[rows].tolist(), strict=True):
            if first in covered and not (wanted and self.ids[row] in wanted):
                is_retained[row] = False
            else:
                covered.update([first, *(other for other, _ in self._near.get(first, ()))])
        return is_retained

    def duplicates(self, order: Indices, is_retained: Flags, wanted: Collection[str] = ()) -> list[Duplicate]:
        """Return a pair for each record that goes, in ``order``, and for each of ``wanted`` that would have gone."""
        position = np.argsort(order)
        pairs = self._nearest(np.flatnonzero(~is_retained).tolist(), is_retained)
        pairs |= self._nearest(self._rows_of(wanted), is_retained, position)
        return [pairs[row] for row in sorted(pairs, key=position.__getitem__)]

    def nearest(self, names: Collection[str], among: Collection[str]) -> dict[str, Duplicate]:
        """Return, for those of ``names`` that repeat a record called as one of ``among``, the nearest such record."""
        is_candidate = np.zeros(len(self.ids), bool)
        is_candidate[self._rows_of(among)] = True
        return {pair.record: pair for pair in self._nearest(self._rows_of(names), is_candidate).values()}

    def _rows_of(self, names: Collection[str]) -> list[int]:
        return [row for row, name in enumerate(self.ids) if name in names] if names else []

    def _nearest(
        self, rows: Iterable[int], is_candidate: Flags, position: Indices | None = None
    ) -> dict[int, Duplicate]:
        """Return what each of ``rows`` repeats of the candidates, where it does, by row: equal content before the
        highest score, and of equals the lowest id. With a ``position`` of each record only those before it count."""
        holders: dict[int, list[int]] = defaultdict(list)
        for row in sorted(np.flatnonzero(is_candidate & self._is_tied).tolist(), key=self.ids.__getitem__):
            holders[int(self.first_of[row])].append(row)
        pairs = {}
        for row in rows:
            first = int(self.first_of[row])
            options = []
            for is_near, content, score in ((0, first, 1.0), *((1, *near) for near in self._near.get(first, ()))):
                possible = (
                    other
                    for other in holders.get(content, ())
                    if other != row and (position is None or position[other] < position[row])
                )
                if (holder := next(possible, None)) is not None:
                    options.append((is_near, -score, self.ids[holder]))
            if options:
                is_near, negated, keeper = min(options)
                pairs[row] = Duplicate(self.ids[row], keeper, -negated, "near" if is_near else "exact")
        return pairs

    @cached_property
    def _near(self) -> dict[int, list[tuple[int, float]]]:
        """The contents that nearly repeat each one, with their similarity."""
        near: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for left, right, score in zip(self.left.tolist(), self.right.tolist(), self.scores.tolist(), strict=True):
            near[left].append((right, score))
            near[right].append((left, score))
        return near

    @cached_property
    def _is_tied(self) -> Flags:
        """[N] Whether each record's content is another one's too, or nearly."""
        is_tied = np.bincount(self.first_of, minlength=len(self.ids)) > 1
        is_tied[self.left] = is_tied[self.right] = True
        return is_tied[self.first_of]


class TiedRecord(NamedTuple):
    """A record of a cluster: the one that it hangs on by its strongest ties, how alike both are, and what ties them.

    The first of a cluster hangs on nothing.
    """

    name: str
    above: str
    score: float
    tie: Tie
    standing: Standing


@dataclass(frozen=True)
class Duplicates:
    """What was found among ``num_records`` records, and how closely one looked."""

    pairs: list[Duplicate]
    conflicts: list[AnswerConflict]
    method: Method
    num_boilerplate: int
    """Different passages left out of the comparison because more than 5 % of the records share them."""
    num_skipped: int
    """Texts of crowded buckets that were not compared to the end; 0 in all but extreme data."""
    edges: Edges = field(compare=False, repr=False)
    repetition: Repetition = field(compare=False, repr=False)
    order: Indices = field(compare=False, repr=False)
    """The rows, the most preferred first."""
    num_untied: int = field(default=0, compare=False, repr=False)
    """Records beside those of the rows, which have nothing in common with any other."""

    @property
    def num_records(self) -> int:
        """Number of records that were compared."""
        return len(self.order) + self.num_untied

    @property
    def num_exact(self) -> int:
        """Number of records that repeat a kept one exactly."""
        return sum(pair.kind == "exact" for pair in self.pairs)

    @property
    def num_near(self) -> int:
        """Number of records that nearly repeat a kept one."""
        return len(self.pairs) - self.num_exact

    @cached_property
    def sizes(self) -> list[int]:
        """The number of records of each cluster of two or more, the largest first."""
        return sorted((size for size in np.bincount(self._roots).tolist() if size > 1), reverse=True)

    @cached_property
    def _roots(self) -> Indices:
        return components(len(self.order), self.edges.left, self.edges.right)

    @cached_property
    def clusters(self) -> dict[str, str]:
        """The cluster of every record, called by the smallest id in it, in the order of preference."""
        smallest: dict[int, str] = {}
        for root, name in zip(self._roots.tolist(), self.repetition.ids, strict=True):
            smallest[root] = min(smallest.get(root, name), name)
        ids, roots = self.repetition.ids, self._roots
        return {
            ids[row]: smallest[root] for row, root in zip(self.order.tolist(), roots[self.order].tolist(), strict=True)
        }

    def members(self) -> list[list[TiedRecord]]:
        """Return the records of each cluster of two or more, in the order of preference; the largest cluster first."""
        ids, position = self.repetition.ids, np.argsort(self.order)
        ties: dict[int, list[tuple[int, float, int]]] = defaultdict(list)
        sides = (position[self.edges.left].tolist(), position[self.edges.right].tolist())
        for left, right, score, tie in zip(*sides, self.edges.scores.tolist(), self.edges.ties.tolist(), strict=True):
            ties[left].append((tie, -score, right))
            ties[right].append((tie, -score, left))
        standings: dict[str, Standing] = {conflict.record: "conflict" for conflict in self.conflicts}
        standings.update({pair.record: pair.kind for pair in self.pairs})
        clusters, visited = [], set[int]()
        for first in sorted(ties):
            if first in visited:
                continue
            # The heap gives exact ties first, then those of whole records, and of each kind the strongest (Prim 1957).
            members = {first: TiedRecord(ids[self.order[first]], "", 1.0, "exact", "first")}
            heap = [(*tie, first) for tie in ties[first]]
            heapq.heapify(heap)
            while heap:
                tie, negated, at, above = heapq.heappop(heap)
                if at not in members:
                    name = ids[self.order[at]]
                    standing = standings.get(name, "alike")
                    members[at] = TiedRecord(name, ids[self.order[above]], -negated, TIES[tie], standing)
                    for further in ties[at]:
                        heapq.heappush(heap, (*further, at))
            visited.update(members)
            clusters.append([members[at] for at in sorted(members)])
        return sorted((members for members in clusters if len(members) > 1), key=len, reverse=True)
