"""What a comparison finds: duplicates, conflicts, how closely one looked, and clusters, which can be drawn as trees."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.shingles import Field, distinct, heads_run

Flags = NDArray[np.bool_]
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


@dataclass(frozen=True, slots=True)
class Edges:
    """Every tie between two records: their numbers in order, the similarity, and the number in `TIES` of what ties."""

    left: Indices
    right: Indices
    scores: Scores
    ties: Indices


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
        near: dict[int, list[int]] = {}
        for left, right in zip(self.left.tolist(), self.right.tolist(), strict=True):
            near.setdefault(left, []).append(right)
            near.setdefault(right, []).append(left)
        rows = order[self._is_tied[order]]
        # Contents that what stays says, or nearly says.
        covered: set[int] = set()
        for row, first in zip(rows.tolist(), self.first_of[rows].tolist(), strict=True):
            if first in covered and not (wanted and self.ids[row] in wanted):
                is_retained[row] = False
            else:
                covered.add(first)
                covered.update(near.get(first, ()))
        return is_retained

    def duplicates(self, order: Indices, is_retained: Flags, wanted: Collection[str] = ()) -> list[Duplicate]:
        """Return a pair for each record that goes, in ``order``, and for each of ``wanted`` that would have gone."""
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        pairs = self._nearest(np.flatnonzero(~is_retained), is_retained)
        if wanted:
            pairs |= self._nearest(self._rows_of(wanted), is_retained, position)
        rows = np.array(list(pairs), np.int64)
        return [pairs[row] for row in rows[np.argsort(position[rows])].tolist()]

    def nearest(self, names: Collection[str], among: Collection[str]) -> dict[str, Duplicate]:
        """Return, for those of ``names`` that repeat a record called as one of ``among``, the nearest such record."""
        is_candidate = np.zeros(len(self.ids), bool)
        is_candidate[self._rows_of(among)] = True
        return {pair.record: pair for pair in self._nearest(self._rows_of(names), is_candidate).values()}

    def _rows_of(self, names: Collection[str]) -> Indices:
        return np.array([row for row, name in enumerate(self.ids) if name in names], np.int64)

    def _nearest(self, rows: Indices, is_candidate: Flags, position: Indices | None = None) -> dict[int, Duplicate]:
        """Return what each of ``rows`` repeats of the candidates, where it does, by row: equal content before the
        highest score, and of equals the lowest id. With a ``position`` of each record only those before it count."""
        sources, targets, scores, is_near = self._ties
        holders = np.flatnonzero(is_candidate & self._is_tied)
        holders = holders[np.argsort(self.first_of[holders], kind="stable")]
        repeats, tie = _equal_to(sources, self.first_of[rows])
        which, at = _equal_to(self.first_of[holders], targets[tie])
        repeats, tie, others = rows[repeats[which]], tie[which], holders[at]
        is_possible = others != repeats if position is None else position[others] < position[repeats]
        repeats, tie, others = repeats[is_possible], tie[is_possible], others[is_possible]
        # Ties come by what counts most, so that only those that are as good as the first of a row are left.
        is_head = heads_run(repeats)
        best = tie[is_head][np.cumsum(is_head) - 1]
        is_best = (scores[tie] == scores[best]) & (is_near[tie] == is_near[best])
        pairs: dict[int, Duplicate] = {}
        for row, other, score, kind in zip(
            *(column[is_best].tolist() for column in (repeats, others, scores[tie], is_near[tie])), strict=True
        ):
            name = self.ids[other]
            if row not in pairs or name < pairs[row].keeper:
                pairs[row] = Duplicate(self.ids[row], name, score, "near" if kind else "exact")
        return pairs

    @cached_property
    def _is_tied(self) -> Flags:
        """[N] Whether each record's content is another one's too, or nearly."""
        is_tied = np.zeros(len(self.ids), bool)
        is_tied[self._ties[0]] = True
        return is_tied[self.first_of]

    @cached_property
    def _ties(self) -> tuple[Indices, Indices, Scores, Flags]:
        """From which content, to which, how alike, and whether only nearly: by the first, then the best before others.

        A content that several records have is tied to itself.
        """
        repeated = distinct(self.first_of[self.first_of != np.arange(len(self.ids))])
        sources = np.concatenate([repeated, self.left, self.right])
        targets = np.concatenate([repeated, self.right, self.left])
        scores = np.concatenate([np.ones(len(repeated)), self.scores, self.scores])
        is_near = np.arange(len(sources)) >= len(repeated)
        order = np.lexsort((-scores, is_near, sources))
        return sources[order], targets[order], scores[order], is_near[order]


def _equal_to(ordered: Indices, numbers: Indices) -> tuple[Indices, Indices]:
    """Return which of ``numbers`` equals which of the ``ordered`` ones: all pairs of places, the former in order."""
    low = np.searchsorted(ordered, numbers)
    counts = np.searchsorted(ordered, numbers, side="right") - low
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(np.arange(len(numbers)), counts), np.repeat(low, counts) + within


class ClusterNames(Mapping[str, str]):
    """The cluster of every record, called by the smallest id in it, in the order of preference.

    Of a million records that takes a second and 100 MB, so it is made when it is asked for.
    """

    def __init__(self, ids: Sequence[str], roots: Indices, order: Indices) -> None:
        """``roots`` has for each of ``ids`` a row that stands for its cluster, ``order`` their rows by preference."""
        self._ids, self._roots, self._order = ids, roots, order

    @cached_property
    def sizes(self) -> list[int]:
        """The number of records of each cluster, the largest first."""
        return sorted(filter(None, np.bincount(self._roots).tolist()), reverse=True)

    @cached_property
    def by_record(self) -> dict[str, str]:
        """All of them at once."""
        shared = np.flatnonzero(np.bincount(self._roots, minlength=len(self._ids))[self._roots] > 1)
        roots = self._roots[shared].tolist()
        smallest: dict[int, str] = {}
        for root, name in zip(roots, map(self._ids.__getitem__, shared.tolist()), strict=True):
            if name < smallest.setdefault(root, name):
                smallest[root] = name
        ids = np.array(self._ids, object)
        names = ids.copy()
        names[shared] = [smallest[root] for root in roots]
        return dict(zip(ids[self._order].tolist(), names[self._order].tolist(), strict=True))

    def __getitem__(self, name: str) -> str:
        return self.by_record[name]

    def __iter__(self) -> Iterator[str]:
        return map(self._ids.__getitem__, self._order.tolist())

    def __len__(self) -> int:
        return len(self._ids)


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found among ``num_records`` records, and how closely one looked."""

    pairs: list[Duplicate]
    conflicts: list[AnswerConflict]
    clusters: ClusterNames
    method: Method
    num_records: int
    num_boilerplate: int
    """Different passages left out of the comparison because more than 5 % of the records share them."""
    num_skipped: int
    """Texts of crowded buckets that were not compared to the end; 0 in all but extreme data."""
    bars: tuple[int, ...]
    """Pairs of different whole texts that were compared, by similarity: twelve bars from 0.4 to 1."""
    edges: Edges = field(compare=False, repr=False)
    """Between places in the order of preference, which is that of ``clusters``."""
    repetition: Repetition = field(compare=False, repr=False)

    @property
    def num_exact(self) -> int:
        """Number of records that repeat a kept one exactly."""
        return sum(pair.kind == "exact" for pair in self.pairs)

    @property
    def num_near(self) -> int:
        """Number of records that nearly repeat a kept one."""
        return len(self.pairs) - self.num_exact


@dataclass(frozen=True, slots=True)
class Branch:
    """A member of a cluster: what it hangs on, by what tie, how alike, and what became of it."""

    name: str
    above: str
    depth: int
    score: float
    tie: Tie
    state: Standing


@dataclass(frozen=True, slots=True)
class Tree:
    """A cluster: the record that all others hang on, and the others in the order in which they are drawn."""

    keeper: str
    branches: Sequence[Branch]

    @property
    def names(self) -> Iterator[str]:
        """The records in it."""
        yield self.keeper
        yield from (branch.name for branch in self.branches)


def trees_of(duplicates: Duplicates) -> list[Tree]:
    """Return each cluster of two or more as the tree of its strongest ties (Prim 1957), the largest first."""
    ids = list(duplicates.clusters)
    ties: dict[int, list[tuple[int, float, int]]] = {}
    edges = duplicates.edges
    for left, right, score, kind in zip(
        edges.left.tolist(), edges.right.tolist(), edges.scores.tolist(), edges.ties.tolist(), strict=True
    ):
        ties.setdefault(left, []).append((kind, score, right))
        ties.setdefault(right, []).append((kind, score, left))
    states: dict[str, Standing] = {conflict.record: "conflict" for conflict in duplicates.conflicts}
    states.update({pair.record: pair.kind for pair in duplicates.pairs})
    trees, visited = [], set()
    for row in sorted(ties):
        if row in visited:
            continue
        branches = []
        # The heap gives exact ties first, then those of whole records, and of each kind the strongest.
        heap: list[tuple[int, float, int, int, int]] = []
        visited.add(row)
        at, depth = row, 0
        while True:
            for kind, score, other in ties.get(at, ()):
                if other not in visited:
                    heapq.heappush(heap, (kind, -score, other, at, depth + 1))
            while heap and heap[0][2] in visited:
                heapq.heappop(heap)
            if not heap:
                break
            kind, negated, at, above, depth = heapq.heappop(heap)
            visited.add(at)
            branches.append(Branch(ids[at], ids[above], depth, -negated, TIES[kind], states.get(ids[at], "alike")))
        trees.append(Tree(ids[row], _in_depth_first_order(ids[row], branches)))
    return sorted(trees, key=lambda tree: -len(tree.branches))


def _in_depth_first_order(keeper: str, branches: Sequence[Branch]) -> list[Branch]:
    below: dict[str, list[Branch]] = {}
    for branch in branches:
        below.setdefault(branch.above, []).append(branch)
    ordered: list[Branch] = []
    waiting = below.get(keeper, [])[::-1]
    while waiting:
        branch = waiting.pop()
        ordered.append(branch)
        waiting += below.get(branch.name, [])[::-1]
    return ordered
