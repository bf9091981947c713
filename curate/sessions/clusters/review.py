"""Going through clusters: which one is looked at, which two of its records, and what is staged on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, islice

from curate.sessions.clusters.choices import Choice, What, choose, choose_alike
from curate.sessions.clusters.clusters import ClusterMember, Clusters, ReviewCluster
from curate.sessions.clusters.staged import Staged

KINDS: dict[str, Callable[[ReviewCluster], bool]] = {
    "all": lambda _: True,
    "leaks": lambda cluster: cluster.is_leak,
    "exact": lambda cluster: cluster.kind == "exact",
    "near": lambda cluster: cluster.kind == "near",
    "conflicts": lambda cluster: cluster.kind == "conflict",
    "alike": lambda cluster: cluster.kind == "alike",
}
"""Which clusters can be gone through."""


class ClusterReview:
    """One annotator's way through the open clusters of a workspace."""

    def __init__(self, clusters: Clusters, staged: Staged, frozen: frozenset[str] = frozenset()) -> None:
        """Begin at the first cluster; ``frozen`` is the golden test set."""
        self.clusters = clusters
        self.staged = staged
        self.frozen = frozen
        self.kind = "all"
        self.at = 0
        self._pair = 0
        self.open: Sequence[ReviewCluster] = clusters.open

    def resumed(self, before: ClusterReview | None) -> ClusterReview:
        """Return this review, standing where ``before`` stood, as far as that is still there."""
        if before is not None:
            self._choose_kind(before.kind)
            names = [cluster.name for cluster in self.open]
            name = before.cluster.name if before.cluster else ""
            self.at = names.index(name) if name in names else min(before.at, max(0, len(names) - 1))
        return self

    @property
    def cluster(self) -> ReviewCluster | None:
        """The cluster that is looked at, None where none is left."""
        return self.open[self.at] if self.at < len(self.open) else None

    @property
    def choice(self) -> Choice | None:
        """What is staged for it."""
        return self.staged.choices.get(self.cluster.name) if self.cluster else None

    @property
    def pair(self) -> tuple[ClusterMember, ClusterMember] | None:
        """The two records that are looked at, in the order of the cluster."""
        if self.cluster is None:
            return None
        return next(islice(combinations(self.cluster.members, 2), self._pair, None))

    def step(self, number: int) -> None:
        """Go so many clusters ahead, or back, and round at the ends."""
        self.at = (self.at + number) % max(1, len(self.open))
        self._pair = 0

    def step_pair(self, number: int) -> None:
        """Go so many pairs of the cluster ahead, or back."""
        if self.cluster is not None:
            count = len(self.cluster.members)
            self._pair = (self._pair + number) % (count * (count - 1) // 2)

    def next_kind(self) -> str:
        """Go through the next kind of clusters, and return its name."""
        names = list(KINDS)
        self._choose_kind(names[(names.index(self.kind) + 1) % len(names)])
        return self.kind

    def go_to(self, name: str, other: str = "") -> bool:
        """Look at the cluster of a record, with ``other`` beside it if given; say whether there is such an open one."""
        cluster = self.clusters.of_record(name)
        members = [member.id for member in cluster.members] if cluster else []
        if cluster is None or cluster.is_left or (other and other not in members):
            return False
        if cluster not in self.open:
            self._choose_kind("all")
        self.at = list(self.open).index(cluster)
        wanted = {name, other} - {""}
        self._pair = next(number for number, pair in enumerate(combinations(members, 2)) if wanted <= {*pair})
        return True

    def stage(self, what: What, *, is_left: bool) -> Choice | None:
        """Stage a choice in favour of the left record of the pair, or the right one, and go on to what is undecided.

        Raises:
            CurateError: E906 when it cannot be kept.
        """
        if self.cluster is None or self.pair is None:
            return None
        keeper, other = self.pair if is_left else self.pair[::-1]
        choice = choose(self.cluster, what, keeper.id, other.id)
        self.staged.stage([choice])
        self._go_on()
        return choice

    def stage_alike(self) -> tuple[Choice | None, list[Choice]]:
        """Stage for all undecided clusters of the same shape what is staged here, or else was staged last.

        Return what was taken for a model, None where nothing is staged, and what it was staged for.

        Raises:
            CurateError: E906 when it cannot be kept.
        """
        known = self.staged.choices
        model = self.choice or next(reversed(known.values()), None)
        if model is None:
            return None, []
        alike = [choice for choice in choose_alike(self.clusters, model) if choice.cluster not in known]
        if alike:
            self.staged.stage(alike)
            self._go_on()
        return model, alike

    def take_back(self) -> list[Choice]:
        """Take back what was staged last and look at it again.

        Raises:
            CurateError: E906 when that cannot be kept.
        """
        step = self.staged.take_back()
        if step:
            self.go_to(step[0].keeper)
        return step

    def _go_on(self) -> None:
        """Go to the next cluster for which nothing is staged; stay where there is none."""
        known, count = self.staged.choices, len(self.open)
        ahead = [(self.at + step) % count for step in range(1, count)]
        self.at = next((index for index in ahead if self.open[index].name not in known), self.at)
        self._pair = 0

    def _choose_kind(self, kind: str) -> None:
        self.kind = kind
        self.open = [cluster for cluster in self.clusters.open if KINDS[kind](cluster)]
        self.at = self._pair = 0
