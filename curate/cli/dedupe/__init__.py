"""`curate dedupe`: find what repeats itself, and leave it out when asked to."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.tables import counted
from curate.cli._options import engine_options, format_option, paths_argument
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.cli.dedupe.comparison import ComparedRecords
    from curate.project.project import Project
    from curate.schema.settings import DedupeSettings
    from curate.sessions.cluster_review import Choice, StagedAct, What
    from curate.sessions.clusters import Clusters, ReviewCluster
    from curate.similarity.dedupe import Duplicates, Keep
    from curate.similarity.dedupe.semantic import Encoder, Meanings
    from curate.similarity.dedupe.stages import Stages

_Pairs = tuple[tuple[str, str], ...]

_PAUSE_TERMINAL = 0.2
_PAUSE_LINES = 5.0
_DRAWN = 20


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


@click.command()
@paths_argument
@click.option(
    "--threshold", type=click.FloatRange(0, 1, min_open=True), help="Likeness from which two are near; 0.7 unless set."
)
@click.option(
    "--ngram",
    type=click.IntRange(1, 64),
    help="Words in a row that are compared as one; 3 unless set. FineWeb's way is --ngram 5 --threshold 0.75; nearest "
    "to NeMo's is --ngram 4 --threshold 0.8. Both miss most edits of short texts.",
)
@click.option("--apply", "keep", type=click.Choice(["keep-first", "keep-longest"]), help="Drop duplicates by decision.")
@review_options
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, and write nothing.")
@click.option("--explain", is_flag=True, help="Draw the similarity histogram and the trees of the largest clusters.")
@click.option(
    "--top", type=click.IntRange(0), default=None, help="With --explain: clusters to draw, 20 unless told; 0 draws all."
)
@click.option(
    "--encoder", type=click.Path(path_type=Path), help="A sentence-embedding folder, to find the same meaning as well."
)
@click.option("--semantic-threshold", type=click.FloatRange(0, 1, min_open=True), help="Cosine of the same meaning.")
@format_option("text", "jsonl")
@click.option("--show-values", is_flag=True, help="Show personal data and secrets in the texts as they are.")
@engine_options
@click.option("--progress/--no-progress", default=None, help="Say how far it is; by default on a terminal.")
@click.option(
    "--cache/--no-cache", default=True, help="Keep finished stages of large inputs, to resume from; daft keeps none."
)
def command(
    paths: tuple[Path, ...],
    threshold: float | None,
    ngram: int | None,
    keep: str | None,
    review: ClusterChoices,
    dry_run: bool,
    explain: bool,
    top: int | None,
    encoder: Path | None,
    semantic_threshold: float | None,
    form: str,
    show_values: bool,
    engine: str,
    ray_address: str,
    progress: bool | None,
    cache: bool,
) -> int:
    """Find records of a workspace, or of record files, that repeat one another.

    A near duplicate is alike in every part of its prompt, in its completion and as a whole; where the completion is
    short, the prompts must be the same word for word. What many prompts share is no part of a question. The same
    question with another answer is a conflict: it is shown and never dropped. So are prompts that an encoder takes for
    the same in other words, for that is a judgement. Decisions go to the journal; the record files stay as they are.
    With --keep, --merge, --drop and --leave you decide on clusters yourself, and all of it is written as one act.

    Example: curate dedupe my-data --apply keep-first --dry-run
    """

    _refuse_idle(top, explain=explain, form=form, show_values=show_values, keep=keep or review, dry_run=dry_run)
    options = {"threshold": threshold, "ngram": ngram, "semantic_threshold": semantic_threshold}
    given = {key: value for key, value in options.items() if value is not None}
    if review:
        return review.written(paths, dry_run=dry_run, is_alone=not (keep or encoder or given or engine != "local"))
    reporter = Progress(sys.stderr.isatty() if progress is None else progress)
    output = _Output(form, explain, _DRAWN if top is None else top, show_values)
    if engine != "local":
        _refuse_beyond(keep, encoder, semantic_threshold)
        _scaled(paths, given, ray_address, reporter, lambda compared: _tell(compared, None, 0.0, output))
        return Exit.OK
    if ray_address:
        raise click.UsageError("--ray-address needs --engine daft")
    project, settings = _opened(paths, given)
    if keep and project is None:
        raise click.UsageError("--apply writes decisions, which needs a workspace; make one with `curate init`.")
    order: Keep = "longest" if keep == "keep-longest" else "first"
    reader = _encoder(project, settings, encoder)
    if reader is None and semantic_threshold is not None:
        raise click.UsageError("--semantic-threshold is for an --encoder")
    compared = _compared(project, paths, settings, order, reporter, cache)
    meanings = None
    if reader is not None:
        from curate.cli.dedupe.report import compare_meanings

        meanings = compare_meanings(compared, reader, settings.semantic_threshold)
    _tell(compared, meanings, settings.semantic_threshold, output)
    if keep and project is not None:
        _apply(project, compared.duplicates, dry_run)
    return Exit.OK


@dataclass(frozen=True, slots=True)
class _Output:
    """How what was found is to be told."""

    form: str
    is_explained: bool
    num_drawn: int
    is_unmasked: bool


def _tell(compared: ComparedRecords, meanings: Meanings | None, semantic_threshold: float, output: _Output) -> None:
    from curate.cli.dedupe.report import MAX_PAIRS, json_lines, report

    if output.form == "jsonl":
        print_lines(json_lines(compared, meanings))
        return
    from curate.checks.spans import with_values_hidden

    hide: Callable[[str], str] = str if output.is_unmasked else with_values_hidden
    print_lines(report(compared, is_brief=not output.is_explained))
    if meanings is not None:
        from curate.cli.dedupe.report import render_meanings

        print_lines(render_meanings(compared, meanings, semantic_threshold, MAX_PAIRS, hide))
    if output.is_explained:
        from curate.cli.dedupe.report import explained

        print_lines(explained(compared, output.num_drawn, hide))


def _refuse_idle(
    top: int | None, *, explain: bool, form: str, show_values: bool, keep: str | ClusterChoices | None, dry_run: bool
) -> None:
    """Raise a click.UsageError for an option that would do nothing here."""
    for is_idle, why in (
        (explain and form != "text", "--explain draws for people: --format text"),
        (show_values and form != "text", "--show-values is for the texts that --format text shows"),
        (top is not None and not explain, "--top is for what --explain draws"),
        (dry_run and not keep, "--dry-run is for what writes: --apply, --keep, --merge, --drop, --leave"),
    ):
        if is_idle:
            raise click.UsageError(why)


def _refuse_beyond(keep: str | None, encoder: Path | None, semantic_threshold: float | None) -> None:
    if keep:
        raise click.UsageError("--apply writes to a workspace of this machine: --engine local")
    if encoder or semantic_threshold is not None:
        raise click.UsageError("--encoder reads texts on this machine: --engine local")


def _scaled(
    paths: tuple[Path, ...],
    options: dict[str, Any],
    ray_address: str,
    reporter: Progress,
    tell: Callable[[ComparedRecords], None],
) -> None:
    from curate.cli.dedupe.comparison import compare_on
    from curate.schema.settings import DedupeSettings

    try:
        with compare_on(paths, DedupeSettings.model_validate(options), ray_address, reporter) as compared:
            reporter.close()
            tell(compared)
    finally:
        reporter.close()


def _opened(paths: tuple[Path, ...], options: dict[str, Any]) -> tuple[Project | None, DedupeSettings]:
    from curate.schema.settings import DedupeSettings

    if not paths or (len(paths) == 1 and paths[0].is_dir()):
        from curate.project.notices import open_and_tell

        project = open_and_tell(paths[0] if paths else Path())
        return project, project.settings.dedupe.model_copy(update=options)
    return None, DedupeSettings.model_validate(options)


def _encoder(project: Project | None, settings: DedupeSettings, given: Path | None) -> Encoder | None:
    """Load the encoder that is asked for or set, before the work that it comes after; a set one may be relative."""
    folder = given
    if folder is None and settings.encoder:
        folder = (project.root if project is not None else Path()) / settings.encoder
    if folder is None:
        return None
    # numpy, and an extra.
    from curate.similarity.dedupe.semantic import Encoder

    return Encoder(folder)


def _compared(
    project: Project | None,
    paths: tuple[Path, ...],
    settings: DedupeSettings,
    order: Keep,
    reporter: Progress,
    is_staged: bool,
) -> ComparedRecords:
    from curate.cli.dedupe.comparison import compare_files, compare_workspace

    compared: ComparedRecords
    stages: Stages
    try:
        if project is not None:
            compared, stages = compare_workspace(project.data, settings, order, reporter, is_staged=is_staged)
        else:
            compared, stages = compare_files(list(paths), settings, reporter, is_staged=is_staged)
    finally:
        reporter.close()
    for remark in stages.remarks:
        console.talk(f"warning: {console.one_line(remark)}")
    if stages.num_resumed:
        console.talk(f"resumed: {counted(stages.num_resumed, 'stage')} of an earlier call")
    return compared


def _apply(project: Project, duplicates: Duplicates, dry_run: bool) -> None:
    from curate.project.repeats import excluded_by

    wanted = project.data.wanted()
    decisions = [excluded_by(pair).decision(pair.record) for pair in duplicates.pairs if pair.record not in wanted]
    spared = len(duplicates.pairs) - len(decisions)
    note = f"; {spared:,} were restored by someone and stay" if spared else ""
    if dry_run:
        console.talk(f"would drop {counted(len(decisions), 'record')}{note}; nothing was written")
        return
    project.apply(decisions)
    console.talk(
        f"dropped {counted(len(decisions), 'record')}{note}, by decisions in the journal that can be taken back"
    )
