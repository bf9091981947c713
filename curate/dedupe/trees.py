"""A cluster as a tree: each record hangs on the one that it is most like."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from curate.dedupe.found import TIES, Duplicates, Tie

Standing = Literal["first", "exact", "near", "conflict", "alike"]
"""What a record is to those before it: the first of its cluster, a repeat, a conflict, or like them in another way."""


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


def cluster_sizes(found: Duplicates) -> dict[str, int]:
    """Return the number of records of each cluster."""
    sizes: dict[str, int] = {}
    for name in found.clusters.values():
        sizes[name] = sizes.get(name, 0) + 1
    return sizes


def trees_of(found: Duplicates) -> list[Tree]:
    """Return each cluster of two or more as the tree of its strongest ties (Prim 1957), the largest first."""
    ids = list(found.clusters)
    sizes = cluster_sizes(found)
    ties: dict[int, list[tuple[int, float, int]]] = {}
    edges = found.edges
    for one, two, score, kind in zip(
        edges.left.tolist(), edges.right.tolist(), edges.scores.tolist(), edges.ties.tolist(), strict=True
    ):
        ties.setdefault(one, []).append((kind, score, two))
        ties.setdefault(two, []).append((kind, score, one))
    states: dict[str, Standing] = {conflict.record: "conflict" for conflict in found.conflicts}
    states.update({pair.record: pair.kind for pair in found.pairs})
    trees, seen = [], set()
    for row, name in enumerate(ids):
        if sizes[found.clusters[name]] == 1 or row in seen:
            continue
        branches = []
        # The heap gives exact ties first, then those of whole records, and of each kind the strongest.
        heap: list[tuple[int, float, int, int, int]] = []
        seen.add(row)
        at, depth = row, 0
        while True:
            for kind, score, other in ties.get(at, ()):
                if other not in seen:
                    heapq.heappush(heap, (kind, -score, other, at, depth + 1))
            while heap and heap[0][2] in seen:
                heapq.heappop(heap)
            if not heap:
                break
            kind, negated, at, above, depth = heapq.heappop(heap)
            seen.add(at)
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
