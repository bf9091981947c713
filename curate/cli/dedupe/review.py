"""`curate dedupe --keep, --merge, --drop, --leave`: what a person decides on single clusters, written as one act."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.tables import counted

if TYPE_CHECKING:
    from curate.sessions.cluster_review import Choice, StagedAct, What
    from curate.sessions.clusters import Clusters, ReviewCluster

_Pairs = tuple[tuple[str, str], ...]


def review_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give ``command`` the four options, and what was asked by them as ``review``."""

    @click.option(
        "--keep", "keep_pairs", nargs=2, multiple=True, metavar="ID OTHER", help="Keep ID, drop OTHER and repeats."
    )
    @click.option("--merge", nargs=2, multiple=True, metavar="ID OTHER", help="As --keep; ID takes over what it lacks.")
    @click.option("--drop", multiple=True, metavar="ID", help="Drop this one record of its cluster.")
    @click.option("--leave", multiple=True, metavar="ID", help="Let its cluster be, and do not show it again.")
    @functools.wraps(command)
    def reviewing(
        *arguments: Any, keep_pairs: _Pairs, merge: _Pairs, drop: tuple[str, ...], leave: tuple[str, ...], **more: Any
    ) -> int:
        return command(*arguments, review=ClusterChoices(keep_pairs, merge, drop, leave), **more)

    return reviewing


@dataclass(frozen=True, slots=True)
class ClusterChoices:
    """What is asked for: pairs of the record that stays and one that it was compared with; single records."""

    keep: _Pairs = ()
    merge: _Pairs = ()
    drop: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keep or self.merge or self.drop or self.leave)

    def written(self, paths: Sequence[Path], *, dry_run: bool, is_alone: bool) -> int:
        """Write all of it as one act, or say what would be written."""
        from curate.project.notices import open_and_tell
        from curate.sessions.cluster_review import act_of
        from curate.sessions.clusters import find_clusters

        if not is_alone or len(paths) > 1 or not all(path.is_dir() for path in paths):
            raise click.UsageError("--keep, --merge, --drop and --leave are for the clusters that curate.toml asks for")
        project = open_and_tell(paths[0] if paths else Path())
        clusters = find_clusters(project.data)
        choices = self._choices(clusters)
        states = {state.record.id: state for state in project.data.states()}
        act = act_of(clusters, choices, states.__getitem__, project.shape)
        if not dry_run and act.decisions:
            project.apply(act.decisions)
        for line in _render_act(act, dry_run):
            console.talk(line)
        return Exit.OK

    def _choices(self, clusters: Clusters) -> list[Choice]:
        from curate.sessions.cluster_review import choose

        def cluster_of(name: str) -> ReviewCluster:
            cluster = clusters.of_record(name)
            if cluster is None:
                hint = "See the clusters with `curate dedupe --explain`."
                raise CurateError("E916 unknown-record", f"no record is like {console.one_line(name, 60)!r}", hint)
            return cluster

        def alone(name: str, what: What) -> Choice:
            cluster = cluster_of(name)
            return choose(cluster, what, cluster.nearest(name), name)

        choices = [choose(cluster_of(keeper), "keep", keeper, other) for keeper, other in self.keep]
        choices += [choose(cluster_of(keeper), "merge", keeper, other) for keeper, other in self.merge]
        choices += [alone(name, "drop") for name in dict.fromkeys(self.drop)]
        choices += [alone(name, "leave") for name in self.leave]
        _refuse_contradictions(choices)
        return choices


def _refuse_contradictions(choices: Sequence[Choice]) -> None:
    """Raise a click.UsageError where two choices on one cluster cannot both hold: only several drops can."""
    decided: dict[str, str] = {}
    for choice in choices:
        if choice.cluster in decided and {decided[choice.cluster], choice.what} != {"drop"}:
            raise click.UsageError(f"the cluster of {console.one_line(choice.keeper, 60)!r} is decided on twice")
        decided[choice.cluster] = choice.what


def _render_act(act: StagedAct, dry_run: bool) -> Sequence[str]:
    counts = {op: sum(decision.op == op for decision in act.decisions) for op in ("drop", "restore")}
    would = "would be " if dry_run else ""
    lines = [f"{would}dropped: {counted(counts['drop'], 'record')}"] if counts["drop"] else []
    if counts["restore"]:
        lines.append(
            f"{would}left as they are: {counted(counts['restore'], 'record')}, which no rule drops from now on"
        )
    for merge in act.merges:
        taken = ", ".join(merge.taken) or "nothing"
        lines.append(f"{would}taken over by {console.one_line(merge.keeper, 60)}: {console.one_line(taken)}")
        for what, paths in (("kept its own", merge.differing), ("refused by the schema", merge.refused)):
            if paths:
                lines.append(f"  {what}: {console.one_line(', '.join(paths))}")
        if merge.open:
            lines.append(f"  not taken, for annotators disagree: {console.one_line(', '.join(merge.open))}")
    lines.append("nothing was written" if dry_run else "`curate undo` takes all of it back")
    return lines
