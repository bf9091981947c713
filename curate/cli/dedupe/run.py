"""One comparison from its options to what is printed, and what is decided on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.tables import counted
from curate.checks.spans import with_values_hidden
from curate.cli._options import refuse_if
from curate.cli._output import print_lines
from curate.cli.dedupe.comparison import ComparedRecords, compare_files, compare_on, compare_workspace
from curate.cli.dedupe.report import MAX_PAIRS, compare_meanings, explained, json_lines, render_meanings, report
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import Duplicates, Keep

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.sessions.cluster_review import Choice, StagedAct, What
    from curate.sessions.clusters import Clusters, ReviewCluster
    from curate.similarity.dedupe.semantic import Meanings

_PAUSE_TERMINAL = 0.2
_PAUSE_LINES = 5.0
_DRAWN = 20
_REVIEW = "--keep, --merge, --drop and --leave are for the clusters that curate.toml asks for"


@dataclass(frozen=True)
class DedupeOptions:
    """The options as click read them; each is explained in the help of the command."""

    paths: tuple[Path, ...]
    threshold: float | None
    ngram: int | None
    keep: str | None
    keep_pairs: tuple[tuple[str, str], ...]
    merge: tuple[tuple[str, str], ...]
    drop: tuple[str, ...]
    leave: tuple[str, ...]
    dry_run: bool
    explain: bool
    top: int | None
    encoder: Path | None
    semantic_threshold: float | None
    form: str
    show_values: bool
    by: str
    ray: str
    progress: bool | None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a comparison that the call gives."""
        names = ("threshold", "ngram", "semantic_threshold")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def is_review(self) -> bool:
        """Whether single clusters are decided on."""
        return bool(self.keep_pairs or self.merge or self.drop or self.leave)

    @property
    def is_workspace(self) -> bool:
        """Whether the records of a workspace are compared, and not those of files."""
        return not self.paths or (len(self.paths) == 1 and self.paths[0].is_dir())

    @property
    def root(self) -> Path:
        """The workspace, if it is one."""
        return self.paths[0] if self.paths else Path()

    def refuse_contradictions(self) -> None:
        """Raise a click.UsageError for an option that would do nothing here, or cannot be had."""
        is_text = self.form == "text"
        is_alone = self.is_workspace and not (self.keep or self.encoder or self.settings or self.ray)
        refuse_if(
            (self.explain and not is_text, "--explain is for people: --format text"),
            (self.show_values and not is_text, "--show-values is for the texts that --format text shows"),
            (self.top is not None and not self.explain, "--top is for what --explain shows"),
            (
                self.dry_run and not (self.keep or self.is_review),
                "--dry-run is for what writes: --apply, --keep, --merge, --drop, --leave",
            ),
            (self.is_review and not is_alone, _REVIEW),
            (self.ray and self.keep, "--apply writes to a workspace of this machine, without --ray"),
            (
                self.ray and (self.encoder or self.semantic_threshold is not None),
                "--encoder reads texts on this machine, without --ray",
            ),
            (
                self.keep and not self.is_workspace,
                "--apply writes decisions, which needs a workspace; make one with `curate init`.",
            ),
        )


def run(options: DedupeOptions) -> Exit:
    """Compare, print, decide as asked, and return the exit code."""
    options.refuse_contradictions()
    if options.is_review:
        return _review(options)
    # A log file gets no progress unless somebody asks for it.
    progress = Progress(sys.stderr.isatty() if options.progress is None else options.progress)
    try:
        if options.ray:
            settings = DedupeSettings(**options.settings)
            # The records are read again for their texts, so that the cluster must be there until all is printed.
            with compare_on(options.paths, settings, options.ray, progress) as compared:
                progress.close()
                _print(options, compared, None, settings)
        else:
            _run_here(options, progress)
    finally:
        progress.close()
    return Exit.OK


def _run_here(options: DedupeOptions, progress: Progress) -> None:
    # Files are compared without what a workspace or an encoder takes.
    project = None
    if options.is_workspace:
        from curate.project.notices import open_and_tell

        project = open_and_tell(options.root, options.by)
    settings = replace(project.settings.dedupe if project else DedupeSettings(), **options.settings)
    # A bad encoder is refused before the work that it comes after; one that the settings name may be relative.
    folder = options.encoder or (settings.encoder and (project.root if project else Path()) / settings.encoder)
    encoder = None
    if folder:
        from curate.similarity.dedupe.semantic import Encoder

        encoder = Encoder(Path(folder))
    refuse_if((encoder is None and options.semantic_threshold is not None, "--semantic-threshold is for an --encoder"))
    if project:
        order: Keep = "longest" if options.keep == "keep-longest" else "first"
        compared = compare_workspace(project.data, settings, order, progress)
    else:
        compared = compare_files(list(options.paths), settings, progress)
    progress.close()
    for remark in compared.remarks:
        console.talk(f"warning: {console.one_line(remark)}")
    meanings = compare_meanings(compared, encoder, settings.semantic_threshold) if encoder else None
    _print(options, compared, meanings, settings)
    if project and options.keep:
        _apply(project, compared.duplicates, options.dry_run)


def _print(
    options: DedupeOptions, compared: ComparedRecords, meanings: Meanings | None, settings: DedupeSettings
) -> None:
    if options.form == "jsonl":
        print_lines(json_lines(compared, meanings))
        return
    hide: Callable[[str], str] = str if options.show_values else with_values_hidden
    print_lines(report(compared, is_brief=not options.explain))
    if meanings is not None:
        print_lines(render_meanings(compared, meanings, settings.semantic_threshold, MAX_PAIRS, hide))
    if options.explain:
        print_lines(explained(compared, _DRAWN if options.top is None else options.top, hide))


def _apply(project: Project, duplicates: Duplicates, dry_run: bool) -> None:
    from curate.project.repeats import excluded_by

    # What somebody restored stays, whatever a rule says.
    wanted = project.data.wanted()
    decisions = [excluded_by(pair) for pair in duplicates.pairs if pair.record not in wanted]
    spared = len(duplicates.pairs) - len(decisions)
    note = f"; {spared:,} were restored by someone and stay" if spared else ""
    if dry_run:
        console.talk(f"would drop {counted(len(decisions), 'record')}{note}; nothing was written")
        return
    project.apply(decisions)
    console.talk(
        f"dropped {counted(len(decisions), 'record')}{note}, by decisions in the journal that can be taken back"
    )


def _review(options: DedupeOptions) -> Exit:
    """Decide on single clusters, all of it as one act, or say what would be decided."""
    from curate.project.notices import open_and_tell
    from curate.sessions.cluster_review import act_of
    from curate.sessions.clusters import find_clusters

    project = open_and_tell(options.root, options.by)
    clusters = find_clusters(project.data)
    choices = _choices(options, clusters)
    act = act_of(clusters, choices, project.state, project.shape)
    if not options.dry_run and act.decisions:
        project.apply(act.decisions)
    for line in _render_act(act, options.dry_run):
        console.talk(line)
    return Exit.OK


def _choices(options: DedupeOptions, clusters: Clusters) -> list[Choice]:
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

    choices = [choose(cluster_of(keeper), "keep", keeper, other) for keeper, other in options.keep_pairs]
    choices += [choose(cluster_of(keeper), "merge", keeper, other) for keeper, other in options.merge]
    choices += [alone(name, "drop") for name in dict.fromkeys(options.drop)]
    choices += [alone(name, "leave") for name in options.leave]
    _refuse_contradictions(choices)
    return choices


def _refuse_contradictions(choices: Sequence[Choice]) -> None:
    # Of several choices on one cluster only drops can all hold.
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


class Progress:
    """Called with a stage, what is done and of how much; says nothing unless wanted."""

    def __init__(self, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self._stage = ""
        self._began = self._said = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far ``stage`` is, not more often than one can read; ``total`` 0 is not known."""
        if not self.is_wanted:
            return
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._said = stage, now, 0.0
        pause = _PAUSE_TERMINAL if sys.stderr.isatty() else _PAUSE_LINES
        if now - self._said >= pause:
            self._said = now
            console.progress(render_progress(stage, done, total, now - self._began))

    def close(self) -> None:
        """Take the line away."""
        if self.is_wanted and self._stage:
            console.progress("")
            self._stage = ""


def render_progress(stage: str, done: int, total: int, seconds: float) -> str:
    """Return a line such as "hashing prompts: 12,000 of 90,000, 4,000/s, 20 s left"."""
    rate = done / seconds if seconds > 0 else 0.0
    line = f"{stage}: {done:,} of {total:,}" if total else f"{stage}: {done:,}"
    if rate >= 1:
        line += f", {rate:,.0f}/s"
    if total and rate > 0 and done < total:
        left = (total - done) / rate
        line += f", {left / 60:.0f} min left" if left >= 90 else f", {left:.0f} s left"
    return line
