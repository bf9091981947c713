"""What a comparison finds: duplicates, conflicts, how closely one looked, and clusters, which can be drawn as trees."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.shingles import Field

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
        repeats = (self._nearest(row, lambda other: self.ids[other] in among) for row in rows)
        return {pair.record: pair for pair in repeats if pair}

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
        for row, first in enumerate(self.first_of.tolist()):
            if first != row:
                members.setdefault(first, [first]).append(row)
        return members


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found among ``num_records`` records, and how closely one looked."""

    pairs: list[Duplicate]
    conflicts: list[AnswerConflict]
    clusters: dict[str, str]
    """Cluster of every record, in the order of preference: the smallest id in it."""
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
    def edit_rate(self) -> float:
        """The largest share of changed words that the setting still sees."""
        return self.method.edit_rate

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


def cluster_sizes(duplicates: Duplicates) -> dict[str, int]:
    """Return the number of records of each cluster."""
    sizes: dict[str, int] = {}
    for name in duplicates.clusters.values():
        sizes[name] = sizes.get(name, 0) + 1
    return sizes


def trees_of(duplicates: Duplicates) -> list[Tree]:
    """Return each cluster of two or more as the tree of its strongest ties (Prim 1957), the largest first."""
    ids = list(duplicates.clusters)
    sizes = cluster_sizes(duplicates)
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
    for row, name in enumerate(ids):
        if sizes[duplicates.clusters[name]] == 1 or row in visited:
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
        trees.append(Tree(name, _in_depth_first_order(name, branches)))
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
