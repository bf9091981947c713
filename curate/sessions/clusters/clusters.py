"""The clusters of a workspace as people review them: what leaks between splits comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from curate.base.record import SPLITS, CurateError, Record, Split
from curate.project.data import ProjectData
from curate.project.repeats import WorkspaceRepeats, find_repeats
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import Method
from curate.similarity.dedupe.results import Standing, Tree, trees_of

if TYPE_CHECKING:
    from curate.similarity.dedupe.near import Watch

Kind = Literal["exact", "near", "conflict", "alike"]
KINDS: tuple[Kind, ...] = ("exact", "near", "conflict", "alike")
_STANDINGS: tuple[Standing, ...] = ("first", *KINDS)


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A record of a cluster: where it is, and what ties it to the others.

    ``split`` is that of the last dataset, else its own; None before it has one. ``family`` is the record that it
    repeats, or itself: who repeats the same one says the same. ``above`` is the record that it is most like, with
    likeness ``score``; the first one of a cluster has none.
    """

    record: Record
    split: Split | None
    state: Standing
    family: str
    above: str = ""
    score: float = 1.0
    is_wanted: bool = False

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id


@dataclass(frozen=True)
class ReviewCluster:
    """Two or more records that repeat one another in some way; the one to keep by preference is the first."""

    name: str
    members: tuple[ClusterMember, ...]

    @cached_property
    def kind(self) -> Kind:
        """The loosest of repeats if any repeats another, else conflict, else alike."""
        states = {member.state for member in self.members}
        if "near" in states:
            return "near"
        return next((kind for kind in KINDS if kind in states), "alike")

    @cached_property
    def score(self) -> float:
        """The lowest likeness by which a member hangs on another."""
        return min(member.score for member in self.members[1:])

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """The splits that its records are in."""
        in_use = {member.split for member in self.members}
        return tuple(name for name in SPLITS if name in in_use)

    @property
    def is_leak(self) -> bool:
        """Whether its records are in more than one split."""
        return len(self.splits) > 1

    @property
    def is_left(self) -> bool:
        """Whether somebody wants all of its records as they are."""
        return all(member.is_wanted for member in self.members)

    def count(self, state: Standing) -> int:
        """Return how many of its records are so to the others."""
        return sum(member.state == state for member in self.members)

    def member(self, name: str) -> ClusterMember:
        """Return the record called ``name``.

        Raises:
            CurateError: E916 when it is not in the cluster.
        """
        for member in self.members:
            if member.id == name:
                return member
        raise CurateError("E916 unknown-record", f"{name!r} is not in the cluster of {self.name!r}")

    def relatives(self, name: str) -> list[str]:
        """Return the records that say the same as ``name``, itself included, in order."""
        family = self.member(name).family
        return [member.id for member in self.members if member.family == family]

    def nearest(self, name: str) -> str:
        """Return the record that ``name`` is most like; for the first one, the one that is most like it."""
        member = self.member(name)
        below = [other for other in self.members if other.above == name]
        return member.above or max(below, key=lambda other: other.score).id

    @cached_property
    def shape(self) -> tuple[object, ...]:
        """What clusters have in common for which one decision may hold: ties, likeness in tenths, splits."""
        parts = Counter((member.state, member.split or "") for member in self.members)
        return int(self.score * 10 + 1e-9), *sorted(parts.items())

    @cached_property
    def shape_text(self) -> str:
        """The shape in words, such as "near .9, 1 train + 1 test"."""
        counts: Counter[str] = Counter(member.split or "no split" for member in self.members)
        splits = [*SPLITS, "no split"]
        counts_text = " + ".join(f"{counts[name]:,} {name}" for name in splits if counts[name])
        return f"{self.kind} {int(self.score * 10 + 1e-9) / 10:.1f}, {counts_text}"

    def roles(self) -> list[str]:
        """Return the records in an order in which those of clusters of one shape match: split, tie, preference."""
        splits = [*SPLITS, None]
        order = sorted(self.members, key=lambda member: (splits.index(member.split), _STANDINGS.index(member.state)))
        return [member.id for member in order]


@dataclass(frozen=True)
class Clusters:
    """The clusters of a workspace, those that leak first, then exact, near, conflicts, and what is alike otherwise.

    ``left`` are those that somebody has decided to leave as they are; they are not among ``open``.
    """

    open: list[ReviewCluster]
    left: list[ReviewCluster]
    method: Method
    settings: DedupeSettings
    num_records: int

    @cached_property
    def by_name(self) -> dict[str, ReviewCluster]:
        """All clusters, by name."""
        return {cluster.name: cluster for cluster in (*self.open, *self.left)}

    @cached_property
    def _by_record(self) -> dict[str, ReviewCluster]:
        return {member.id: cluster for cluster in self.by_name.values() for member in cluster.members}

    def of_record(self, name: str) -> ReviewCluster | None:
        """Return the cluster that a record is in, None where it repeats nothing."""
        return self._by_record.get(name)

    def like(self, cluster: ReviewCluster) -> list[ReviewCluster]:
        """Return the open clusters of the same shape, itself included."""
        return [candidate for candidate in self.open if candidate.shape == cluster.shape]

    @property
    def num_leaks(self) -> int:
        """How many open clusters are in more than one split."""
        return sum(cluster.is_leak for cluster in self.open)


def find_clusters(data: ProjectData, watch: Watch | None = None) -> Clusters:
    """Compare the records of ``workspace`` and return its clusters; long for large ones, and ``watch`` hears how far.

    Raises:
        CurateError: E910 when two records have the same id; E911 when the last dataset was changed.
    """
    return clusters_of(find_repeats(data, watch=watch), data.settings.dedupe)


def clusters_of(repeats: WorkspaceRepeats, settings: DedupeSettings) -> Clusters:
    """Return what is to be reviewed of a comparison."""
    records = {record.id: record for record in repeats.records}
    families = {pair.record: pair.keeper for pair in repeats.duplicates.pairs}
    clusters = [
        ReviewCluster(repeats.duplicates.clusters[tree.keeper], tuple(_members(tree, records, families, repeats)))
        for tree in trees_of(repeats.duplicates)
    ]
    order = {name: number for number, name in enumerate(records)}
    clusters.sort(key=lambda one: (not one.is_leak, KINDS.index(one.kind), -one.score, order[one.members[0].id]))
    return Clusters(
        [cluster for cluster in clusters if not cluster.is_left],
        [cluster for cluster in clusters if cluster.is_left],
        repeats.duplicates.method,
        settings,
        repeats.duplicates.num_records,
    )


def _members(
    tree: Tree, records: dict[str, Record], families: dict[str, str], repeats: WorkspaceRepeats
) -> Sequence[ClusterMember]:
    ties: list[tuple[str, Standing, str, float]] = [(tree.keeper, "first", "", 1.0)]
    ties += [(branch.name, branch.state, branch.above, branch.score) for branch in tree.branches]
    return [
        ClusterMember(
            records[name],
            repeats.pins.get(name) or records[name].split,
            state,
            families.get(name, name),
            above,
            score,
            name in repeats.wanted,
        )
        for name, state, above, score in ties
    ]
