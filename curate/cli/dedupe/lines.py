"""The clusters of a workspace line by line: two records go to stdout, what was decided about them to stderr.

A line of stdin is one command. As on the screen each choice is staged, and kept on the disk, until ``W`` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from curate.base import console
from curate.base.record import Exit
from curate.base.tables import counted
from curate.checks.spans import with_values_hidden
from curate.cli._lines import next_line, tell_undone
from curate.cli._output import print_lines
from curate.project.blind import visible_record
from curate.project.golden import read_golden
from curate.project.project import Project, open_project
from curate.sessions.cluster_review import Choice, ClusterReview, What, act_of, read_staged
from curate.sessions.clusters import ClusterMember, compare_records, find_clusters

_HELP = """\
a  b        keep A, or B; what repeats either of the two is dropped
m           keep A, which takes over what it lacks
d           drop B alone                    l  leave the cluster as it is, for good
x           do so for all clusters like it  t  the next two records of the cluster
n  p        the next cluster, the one before; nothing is chosen
u           take the last choice back, and where nothing is staged the last decision
W           write all choices as one act    q  quit; choices stay staged"""
_KEYS: dict[str, tuple[What, bool]] = {
    "a": ("keep", True), "b": ("keep", False), "m": ("merge", True), "d": ("drop", True), "l": ("leave", True),
}  # fmt: skip
_STEPS = {"": 1, "s": 1, "n": 1, "p": -1}
_MOST_TEXT = 2_000


def cluster_lines(root: Path, by: str, source: IO[bytes]) -> int:
    """Ask what becomes of each cluster until nobody answers; exits 1 while clusters are left to decide on."""
    with open_project(root, by) as project:
        project.load()
        review, printed = _reviewed(project, None), None
        while True:
            if review.cluster is not None and printed != (review.cluster, review.pair):
                printed = review.cluster, review.pair
                print_lines(_cluster_lines(project, review))
            console.data(_prompt(review))
            line = next_line(source)
            if line is None or line == "q" or (review.cluster is None and line != "u"):
                break
            if line == "W":
                _write(project, review)
                review = _reviewed(project, review)
            elif line == "u" and not review.take_back():
                undone = project.undo()
                tell_undone(undone)
                review = _reviewed(project, review) if undone else review
            else:
                _obey(review, line)
        num_staged, num_open = len(review.staged.choices), len(review.clusters.open)
        if num_staged:
            console.talk(f"{counted(num_staged, 'choice')} staged and not written; W writes, also in the next call")
        console.talk(f"{counted(num_open, 'cluster')} left")
        return Exit.FINDINGS if num_open else Exit.OK


def _reviewed(project: Project, before: ClusterReview | None) -> ClusterReview:
    """Compare the records, and return the review of their clusters with what is staged."""
    clusters, golden = find_clusters(project.data), read_golden(project.root)
    staged, num_lost = read_staged(project.root, project.by, clusters)
    if num_lost:
        console.talk(f"{counted(num_lost, 'staged choice')} no longer fits: the records changed")
    frozen = frozenset(golden.ids if golden and golden.is_frozen else ())
    return ClusterReview(clusters, staged, frozen).resumed(before)


def _obey(review: ClusterReview, line: str) -> None:
    if line in _KEYS:
        what, is_left = _KEYS[line]
        choice = review.stage(what, is_left=is_left)
        assert choice is not None, "there is a cluster"
        console.talk(f"{_choice_text(choice)} (staged)")
    elif line == "x":
        model, alike = review.stage_alike()
        if model is None:
            console.talk("choose for one cluster first; x then does so for all like it")
        else:
            console.talk(f"{model.what}: {counted(len(alike), 'more cluster')} (staged)")
    elif line in _STEPS:
        review.step(_STEPS[line])
    elif line == "t":
        review.step_pair(1)
    elif line == "u":
        console.talk("not staged any more")
    elif line == "?":
        console.talk(_HELP)
    else:
        console.talk(f"{console.one_line(line, 40)}: no command; ? lists them")


def _write(project: Project, review: ClusterReview) -> None:
    choices = list(review.staged.choices.values())
    if not choices:
        console.talk("nothing is staged")
        return
    act = act_of(review.clusters, choices, project.state, project.shape)
    if act.decisions:
        project.apply(act.decisions)
    review.staged.forget(choices)
    num_dropped = sum(decision.op == "drop" for decision in act.decisions)
    late = f"; {len(act.late):,} not written: somebody dropped the record to keep" if act.late else ""
    num_written = counted(len(choices) - len(act.late), "choice")
    console.talk(f"{num_written} written, {counted(num_dropped, 'record')} dropped{late} (u undoes all)")


def _choice_text(choice: Choice) -> str:
    if choice.what == "leave":
        return "leave as it is"
    name = choice.other if choice.what == "drop" else choice.keeper
    return f"{choice.what} {console.one_line(name, 60)}, {counted(len(choice.gone), 'record')} dropped"


def _cluster_lines(project: Project, review: ClusterReview) -> Iterator[str]:
    assert review.cluster is not None
    assert review.pair is not None
    cluster = review.cluster
    splits = "LEAK across splits, " if cluster.is_leak else ""
    what = f"{splits}{cluster.kind} {cluster.score:.2f}, {counted(len(cluster.members), 'record')}"
    yield ""
    yield f"cluster {review.at + 1:,} of {len(review.open):,}: {what}"
    yield from _pair_lines(project, review, *review.pair)
    if review.choice is not None:
        yield f"staged: {_choice_text(review.choice)}"


def _prompt(review: ClusterReview) -> str:
    if review.cluster is None:
        return "no cluster left [u undo, q quit] >"
    num_staged = len(review.staged.choices)
    write = f"W write {num_staged:,}, " if num_staged else ""
    return f"cluster [a b keep, m merge, d drop B, l leave, n next, {write}u undo, ? help, q quit] >"


def _pair_lines(project: Project, review: ClusterReview, *pair: ClusterMember) -> Iterator[str]:
    # Of category and labels only what the annotator may see.
    records = [visible_record(project, member.record)[0] for member in pair]
    comparison = compare_records(records[0], records[1], project.shape)
    for letter, member in zip("AB", pair, strict=True):
        frozen = " (frozen)" if member.id in review.frozen else ""
        yield f"{letter}: {console.one_line(member.id, 60)}  {member.split or 'no split'}{frozen}"
    for part in comparison.parts:
        name = console.one_line(part.name or "text", 40).upper()
        left, right = ("".join(text for _, text in side) for side in (part.left, part.right))
        sides = [("A and B", left)] if part.is_same else [("A", left), ("B", right)]
        for letter, text in sides:
            more = "..." if len(text) > _MOST_TEXT else ""
            yield f"{name} {letter}: {console.visible(with_values_hidden(text[:_MOST_TEXT]))}{more}"
    for change in comparison.changes:
        sides_text = " -> ".join(side or "-" for side in (change.left, change.right))
        yield f"{console.one_line(change.pointer or '/', 60)}: {console.one_line(with_values_hidden(sides_text), 200)}"
    if comparison.num_omitted:
        yield f"({counted(comparison.num_omitted, 'more message')} not shown)"
