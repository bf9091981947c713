"""What is decided on a cluster, and the decisions on its records that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from curate.base.events import Decision, Restore
from curate.base.record import CurateError
from curate.project.exclusion import Exclusion
from curate.project.fold import RecordState
from curate.project.repeats import excluded_by
from curate.schema import Shape
from curate.sessions.clusters.clusters import Clusters, ReviewCluster
from curate.sessions.clusters.merge import Merge, merged
from curate.similarity.dedupe import Duplicate

What = Literal["keep", "merge", "drop", "leave"]
WHATS: tuple[What, ...] = ("keep", "merge", "drop", "leave")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be done with a cluster, as it was seen with ``keeper`` and ``other`` side by side.

    keep and merge: ``keeper`` stays and ``gone`` go; drop: ``gone`` is ``other`` alone; leave: nobody goes.
    """

    cluster: str
    what: What
    keeper: str
    other: str
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """How many clusters each choice was made for, and what that changes."""

    counts: Mapping[What, int]
    num_gone: int
    num_leaks_fixed: int


def choose(cluster: ReviewCluster, what: What, keeper: str, other: str) -> Choice:
    """Return what ``what`` means for a cluster of which ``keeper`` and ``other`` were compared.

    keep: ``keeper`` stays, what repeats it goes, and so does ``other`` with what repeats that. merge: the same, but
    what ``keeper`` lacks is taken over from them. drop: ``other`` goes, whatever else is in the cluster stays. leave:
    all stay, and the cluster does not come again unless it grows. Conflicts of ``keeper`` that were not compared with
    it stay.

    Raises:
        CurateError: E916 when one of both is not in the cluster, or both are the same record.
    """
    if keeper == other:
        raise CurateError("E916 unknown-record", f"{keeper!r} cannot be compared with itself", "Name two records.")
    cluster.member(other)
    going = {"keep": [*cluster.relatives(keeper), *cluster.relatives(other)], "drop": [other], "leave": []}
    gone = dict.fromkeys(going.get(what, going["keep"]))
    gone.pop(keeper, None)
    return Choice(cluster.name, what, keeper, other, tuple(gone))


def choose_alike(clusters: Clusters, choice: Choice) -> list[Choice]:
    """Return what ``choice`` means for each open cluster of the same shape, its own included.

    Records match by split, by tie, and by preference among those: who keeps the train copy keeps it everywhere.
    """
    cluster = clusters.by_name[choice.cluster]
    roles = cluster.roles()
    keeper, other = roles.index(choice.keeper), roles.index(choice.other)
    choices = []
    for like in clusters.like(cluster):
        names = like.roles()
        choices.append(choose(like, choice.what, names[keeper], names[other]))
    return choices


def summary(clusters: Clusters, choices: Iterable[Choice]) -> Summary:
    """Return what ``choices`` come to."""
    counts: dict[What, int] = dict.fromkeys(WHATS, 0)
    num_gone = num_fixed = 0
    for choice in choices:
        counts[choice.what] += 1
        num_gone += len(choice.gone)
        cluster = clusters.by_name[choice.cluster]
        staying = {member.split for member in cluster.members if member.id not in choice.gone} - {None}
        num_fixed += cluster.is_leak and len(staying) < 2
    return Summary(counts, num_gone, num_fixed)


@dataclass(frozen=True, slots=True)
class StagedAct:
    """The decisions of an act, what the merges among them have taken over, and choices that cannot hold any more.

    ``late`` are those whose record that was to stay somebody has dropped meanwhile; nothing of them is decided.
    """

    decisions: list[Decision]
    merges: list[Merge]
    late: list[Choice]


def act_of(
    clusters: Clusters, choices: Iterable[Choice], state: Callable[[str], RecordState], shape: Shape
) -> StagedAct:
    """Return all decisions that ``choices`` mean; ``state`` gives a record as it is now.

    Raises:
        CurateError: E916 when a record is not there any more.
    """
    decisions: list[Decision] = []
    merges: list[Merge] = []
    chosen: list[Choice] = []
    late: list[Choice] = []
    for choice in choices:
        is_late = choice.gone and state(choice.keeper).dropped is not None
        (late if is_late else chosen).append(choice)
    reasons = _reasons(clusters, chosen)
    for choice in chosen:
        cluster = clusters.by_name[choice.cluster]
        if choice.what == "leave":
            staying = [member.id for member in cluster.members if not member.is_wanted]
            decisions += [Restore(name) for name in staying if state(name).dropped is None]
            continue
        if choice.what == "merge":
            merge = merged(state(choice.keeper), [state(name) for name in choice.gone], shape)
            merges.append(merge)
            decisions += merge.decisions
        decisions += [
            reasons[choice.cluster, name].decision(name) for name in choice.gone if state(name).dropped is None
        ]
    return StagedAct(decisions, merges, late)


def _reasons(clusters: Clusters, choices: Iterable[Choice]) -> dict[tuple[str, str], Exclusion]:
    """Return why each record goes, by its cluster and id."""
    # numpy comes with it.
    from curate.similarity.dedupe.nearest import likeness

    pairs = [(clusters.by_name[choice.cluster], choice.keeper, name) for choice in choices for name in choice.gone]
    records = [(cluster.member(keeper).record, cluster.member(name).record) for cluster, keeper, name in pairs]
    reasons = {}
    for (cluster, keeper, name), like in zip(pairs, likeness(records, clusters.settings), strict=True):
        if like.is_exact or cluster.member(name).family == cluster.member(keeper).family:
            reason = excluded_by(Duplicate(name, keeper, like.score, "exact" if like.is_exact else "near"))
        else:
            # No finding: somebody has decided between two that say different things.
            reason = Exclusion(f"is like {keeper}, which was kept", of=keeper, score=like.score)
        reasons[cluster.name, name] = reason
    return reasons
