"""A project in figures, each of them counted, and what to do next; a figure that is not counted yet says so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from glob import escape
from itertools import chain
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from curate.base.console import one_line, typed
from curate.base.events import redo_names
from curate.base.git import GitError, ask_git
from curate.base.record import SPLITS, CurateError, Severity
from curate.base.tables import counted
from curate.formats.import_note import NOTES_FOLDER
from curate.project.approval import APPROVAL, QUESTION, UNAPPROVED
from curate.project.feedback import read_results
from curate.project.journal import CATEGORY
from curate.project.labels import AnnotatorAssignment, questions_of
from curate.project.validation import label_search
from curate.sessions.labelling.queue import Wish, queue_of
from curate.sessions.problem_groups import ORDER
from curate.sessions.problems import problems_of
from curate.sessions.runs import Run, runs_of

if TYPE_CHECKING:
    import polars as pl

    from curate.base.events import Event
    from curate.project.catalog import Catalog
    from curate.project.project import Project

NUM_BINS = 8
_MOST_OF_AN_ACT = 100_000
STATUSES = ("ok", "warning", "waiting", "error", "dropped")
Tone = Literal["error", "warn", ""]
_ENDED_BADLY = {"failed": "failed", "dead": "ended and left no message", "stopped": "was stopped"}


@dataclass(frozen=True, slots=True)
class CategoryTally:
    """The records of one category that are not dropped; ``num_ok`` is None as long as nobody has validated them."""

    name: str
    num_records: int
    num_ok: int | None
    num_labelled: int
    splits: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LengthHistogram:
    """How long records are, in estimated tokens, and how many fall into each of `NUM_BINS` parts up to ``top``."""

    median: int
    percentile_95: int
    longest: int
    top: int
    bins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProjectOverview:
    """What `overview` counted.

    ``statuses`` has "dropped" always, "waiting" where records need approval, and the others only after a validation.
    """

    num_records: int
    num_unread: int
    num_elsewhere: int  # Findings about no single record; none before a validation.
    statuses: dict[str, int]
    categories: Sequence[CategoryTally]
    num_unlabelled: int
    num_unsplit: int
    lengths: LengthHistogram | None
    disk_free: int  # Bytes.
    num_changed: int | None  # Files that git sees changed; None where git does not tell.


def overview(project: Project, *, has_findings: bool) -> ProjectOverview:
    """Count the records of ``project``; a second or two for a million of them, so call it in a thread.

    With ``has_findings`` the catalogue's statuses come from a validation; without, nothing is known of what is in.
    Categories are counted as the annotator may see them. E902 for a question that is called as notes or flags are.
    """
    # A screen without records must not wait for it.
    import polars as pl

    problems = problems_of(project).problems
    frame = project.catalog.frame(["id", "category", "split", "status", "tokens", "labels"])
    answered = [_answered(question.name) for question in questions_of(project.settings)]
    frame = frame.with_columns(is_labelled=pl.all_horizontal(answered))
    has_gate = project.settings.review.approvals > 0
    statuses = {name: int((frame["status"] == name).sum()) for name in STATUSES if name != "waiting" or has_gate}
    included = frame.filter(pl.col("status") != "dropped")
    unsplit = included.filter(pl.col("split") == "")
    if len(unsplit) < len(included):
        # What a split has left out because it repeats another record is no work that waits.
        unsplit = unsplit.filter(~pl.col("id").is_in(list(noted(project).repeats)))
    return ProjectOverview(
        num_records=len(frame),
        num_unread=project.catalog.num_unread,
        num_elsewhere=problems.num_elsewhere if problems else 0,
        statuses={name: statuses[name] for name in statuses if has_findings or name in ("waiting", "dropped")},
        categories=_categories(included, has_findings=has_findings),
        num_unlabelled=int((~included["is_labelled"]).sum()),
        num_unsplit=len(unsplit),
        lengths=_lengths(included["tokens"]),
        disk_free=disk_free(project.root),
        num_changed=_num_changed(project),
    )


def _answered(question: str) -> pl.Expr:
    """Return whether somebody has answered ``question``; the category may also be written in the line."""
    import polars as pl

    is_answered = pl.col("labels").list.eval(pl.element().struct.field("question") == question).list.any()
    return is_answered | (pl.col("category") != "") if question == CATEGORY else is_answered


def _categories(included: pl.DataFrame, *, has_findings: bool) -> list[CategoryTally]:
    import polars as pl

    counts = (
        included.group_by("category")
        .agg(
            pl.len().alias("n"),
            (pl.col("status") == "ok").sum().alias("ok"),
            pl.col("is_labelled").sum().alias("labelled"),
            *((pl.col("split") == name).sum().alias(name) for name in SPLITS),
        )
        .sort(["n", "category"], descending=[True, False])
    )
    return [
        CategoryTally(name, number, num_ok if has_findings else None, labelled, (train, validation, test))
        for name, number, num_ok, labelled, train, validation, test in counts.iter_rows()
    ]


def _lengths(tokens: pl.Series) -> LengthHistogram | None:
    if not len(tokens):
        return None
    median, high, longest = (int(tokens.quantile(share, "nearest") or 0) for share in (0.5, 0.95, 1.0))
    top = max(NUM_BINS, 2 ** (longest - 1).bit_length() if longest > 1 else 1)
    bins = (tokens.cast(int) * NUM_BINS // top).clip(0, NUM_BINS - 1).value_counts()
    by_bin: dict[int, int] = dict(bins.iter_rows())
    return LengthHistogram(median, high, longest, top, tuple(by_bin.get(number, 0) for number in range(NUM_BINS)))


def disk_free(root: Path) -> int:
    """Return how many bytes may still be written where ``root`` lies."""
    return shutil.disk_usage(root).free


def _num_changed(project: Project) -> int | None:
    try:
        changes = ask_git(project.root, ["status", "--porcelain", "--", "."])
    except GitError:
        return None
    return len(changes.splitlines())


def scores(runs: Sequence[Run]) -> dict[str, str]:
    """Return, for each run that has a report, its mean over the categories and what training changed; or what is wrong.

    The split is the one whose verdicts count, as the report says.
    """
    return {run.id: _score(run) for run in runs if run.has_report}


def _score(run: Run) -> str:
    try:
        results = read_results(run.folder)
    except CurateError as error:
        return f"{error.code}: its report cannot be read"
    macro = results.macro
    if macro is None:
        return "not all is scored" if results.unscored else "nothing was scored"
    return f"macro {macro['tuned']['value']:.2f} ({macro['difference']['value']:+.2f})"


# What to do next.


@dataclass(frozen=True, slots=True)
class NextStep:
    """One thing to do: how bad it is that it is not done, in words, the screen for it, and what to hand over there."""

    tone: Tone
    text: str
    screen: str
    what: Mapping[str, Any] = field(default_factory=dict)
    is_counted: bool = True  # Whether somebody has looked; where not, nothing is known to be wrong.


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the seven stages of the way from data to scores; ``state`` is how it stands, ``text`` says so in words."""

    name: str
    state: Literal["done", "todo", "unknown"]
    text: str
    step: NextStep  # The worst thing to do there; where nothing is, where to go.


@dataclass(slots=True)
class Noted:
    """What other screens have counted and Home shows; None before they have."""

    num_clusters: int | None = None  # Clusters of records that repeat one another and are not reviewed.
    num_leaks: int | None = None  # Those of them that are in more than one split.
    repeats: frozenset[str] = frozenset()  # Records that a split leaves out, because they repeat another one.


_noted: WeakKeyDictionary[Catalog, Noted] = WeakKeyDictionary()


def noted(project: Project) -> Noted:
    """Return the one note about the records of ``project``, which a screen that counts something writes to.

    Once the records were read anew there is another one: what was counted before is not known of these.
    """
    return _noted.setdefault(project.catalog, Noted())


def num_problems(project: Project) -> dict[Severity, int] | None:
    """Return how many findings there are of each severity, but for what waits; None before the first validation."""
    problems = problems_of(project).problems
    if problems is None:
        return None
    waiting = {"error": sum(group.count for group in problems.groups if group.code == UNAPPROVED)}
    return {severity: problems.count(severity) - waiting.get(severity, 0) for severity in ORDER}


def next_steps(project: Project, overview: ProjectOverview, runs: Sequence[Run] | None = None) -> list[NextStep]:
    """Return what is to be done, the worst first; E914 as `runs_of`, E915 for a damaged manifest."""
    # Nothing else can be done before there is a record, so that no other step is shown.
    if not overview.num_records and not overview.num_unread:
        return [NextStep("warn", "there are no records yet: write the first", "edit", {"new": True})]
    known_runs = runs_of(project.data) if runs is None else runs
    steps = (_problems(project, overview), _repeats(project), _review(project), _approvals(project), _labels(overview))
    return [*chain.from_iterable(steps), *_split(project, overview), *_runs(known_runs)]


# Name, screen, and what is said where nothing is left to do.
_STAGES = (
    ("Data", "browse", ""), ("Check", "validate", "no errors, no warnings"), ("Dedupe", "dedupe", "no duplicates"),
    ("Label", "label", "every record is labelled"), ("Split", "split", ""), ("Train", "train", ""),
    ("Compare", "compare", ""),
)  # fmt: skip


def stages(overview: ProjectOverview, steps: Sequence[NextStep], runs: Sequence[Run]) -> list[Stage]:
    """Return the seven stages in their order, each with what ``steps`` has to do there, the worst first."""
    sizes = [sum(category.splits[number] for category in overview.categories) for number in range(len(SPLITS))]
    done = {
        "Data": counted(overview.num_records, "record") if overview.num_records else "",
        "Split": ", ".join(f"{size:,} {name}" for name, size in zip(SPLITS, sizes, strict=True)),
        "Train": f"run {runs[0].id} is {runs[0].standing}" if runs else "",
        "Compare": next((f"run {run.id} is ready" for run in runs if run.has_report), ""),
    }
    todo = {"Data": "no records yet", "Train": "no run yet", "Compare": "after the first run"}
    result = []
    for name, screen, nothing_left in _STAGES:
        # That a run is ready is what Compare is there for, and nothing that has to be done.
        here = [step for step in steps if step.screen == screen and screen not in ("browse", "compare")]
        text = done.get(name, nothing_left) or todo[name]
        state: Literal["done", "todo", "unknown"] = "done" if done.get(name, nothing_left) else "todo"
        if here:
            text = "; ".join(step.text for step in here)
            state = "todo" if any(step.is_counted for step in here) else "unknown"
        elif not overview.num_records and name != "Data":
            text, state = "after the first record", "unknown"
        ready = next((step for step in steps if step.screen == screen), NextStep("", text, screen))
        if name == "Data" and overview.num_unread and not overview.num_records:
            text = "no line is a record"
            ready = NextStep("error", text, "validate")
        result.append(Stage(name, state, text, ready))
    return result


# By queue: what its entries are, one of them, and what is said behind the number.
# Decisions that no record is another by.
_CHANGING_NOTHING = {"propose", "reject", "prefer"}
_QUEUES = {
    "drafts": ("unsaved draft", ""), "aside": ("row", " set aside: see, repair, drop"),
    "approval": ("record", " waiting for your approval"), "proposals": ("proposal", " of models: take or reject"),
}  # fmt: skip


def not_done(project: Project) -> list[NextStep]:
    """Return what was begun or set aside and is not done: what queues hold, and files that are newer than records."""
    from curate.sessions.queues import queues

    entries = []
    if project.file:
        text = f"make a workspace of {one_line(project.file.name, 60)}: for labels, splits and training"
        entries.append(NextStep("", text, "home", {"file": project.file}))
    for queue in queues(project):
        unit, more = _QUEUES.get(queue.name, (queue.unit, f" {queue.title}"))
        if queue.count or queue.fault:
            text = f"{unit}s{more}: {queue.fault.message}" if queue.fault else f"{counted(queue.count, unit)}{more}"
            entries.append(NextStep("warn" if queue.fault else "", text, "queue", {"of": queue.name}))
    if not project.is_current():
        entries.append(NextStep("warn", "the record files have changed: r reads them again", "home"))
    if hint := label_search(project.root, project.settings, project.root.name):
        entries.append(NextStep("", hint, "home"))
    for path in newer_sources(project.root):
        text = f"{path.name} has changed since it was imported: curate import {typed(path.name)} --update"
        entries.append(NextStep("warn", text, "home"))
    return entries


def newer_sources(root: Path) -> list[Path]:
    """Return the files in and beside the workspace ``root`` that were imported and have changed since."""
    newer = []
    for note in sorted((root / NOTES_FOLDER).glob("*.toml")):
        files = [path for folder in (root, root.parent) for path in folder.glob(f"{escape(note.stem)}.*")]
        newer += [path for path in files if path.is_file() and path.stat().st_mtime > note.stat().st_mtime]
    return newer


@dataclass(frozen=True, slots=True)
class Act:
    """What one key or command has decided: its first event, how many there are, and whether undo takes it next."""

    event: Event
    num_events: int
    is_hidden: bool  # Whether its answer must not be shown.
    is_redo: bool  # Whether it does something again that was taken back.
    is_next_undone: bool


def recent_acts(project: Project, count: int) -> list[Act]:
    """Return the last ``count`` acts, the newest first; of one longer than `_MOST_OF_AN_ACT` events, so many."""
    by_act: dict[str, list[Event]] = {}
    for event in project.recent(_MOST_OF_AN_ACT):
        if event.act not in by_act and len(by_act) == count:
            break
        by_act.setdefault(event.act, []).append(event)
    standing = project.standing()
    undone = standing[0][0].act if standing else ""
    return [
        Act(event, len(events), project.hides_event(event), is_redo(project, event), act == undone)
        for act, events in by_act.items()
        for event in events[-1:]
    ]


def is_redo(project: Project, event: Event) -> bool:
    """Whether ``event`` does something again that was taken back."""
    return event.op == "undo" and event.event in redo_names(project.history(event.id))


def _problems(project: Project, overview: ProjectOverview) -> Iterator[NextStep]:
    counts = num_problems(project)
    if counts is None:
        if overview.num_unread:
            are = "is no record" if overview.num_unread == 1 else "are no records"
            yield NextStep("error", f"{counted(overview.num_unread, 'line')} {are}", "validate")
        word = "being validated" if problems_of(project).is_searching else "not validated yet"
        yield NextStep("warn", word, "validate", is_counted=False)
        return
    if counts["error"]:
        yield NextStep("error", f"{counted(counts['error'], 'error')} to fix", "validate")
    if counts["warning"]:
        yield NextStep("warn", f"{counted(counts['warning'], 'warning')} to review", "validate")


def _repeats(project: Project) -> Iterator[NextStep]:
    known = noted(project)
    if known.num_clusters is None:
        yield NextStep("", "duplicates not counted yet", "dedupe", is_counted=False)
    elif known.num_clusters:
        leaks = f", {known.num_leaks:,} between splits" if known.num_leaks else ""
        tone: Tone = "error" if known.num_leaks else "warn"
        yield NextStep(tone, f"{counted(known.num_clusters, 'cluster')} of duplicates{leaks}", "dedupe")


def _review(project: Project) -> Iterator[NextStep]:
    if conflicts := len(project.conflicts()):
        yield NextStep("warn", f"{counted(conflicts, 'edit conflict')} to settle", "label", {"queue": "review"})
    differing = sum(bool(state.disagreements()) for state in project.decided() if state.dropped is None)
    if differing:
        yield NextStep("warn", f"{counted(differing, 'record')} with different labels", "label", {"queue": "review"})


def _approvals(project: Project) -> Iterator[NextStep]:
    if not project.settings.review.approvals:
        return
    if num := queue_of(project, project.catalog, Wish(QUESTION), AnnotatorAssignment()).num_left:
        verb = "waits" if num == 1 else "wait"
        yield NextStep("warn", f"{counted(num, 'record')} {verb} for your approval", "label", {"question": APPROVAL})


def _labels(overview: ProjectOverview) -> Iterator[NextStep]:
    if overview.num_unlabelled:
        yield NextStep("", f"{counted(overview.num_unlabelled, 'record')} unlabelled", "label")


def _split(project: Project, overview: ProjectOverview) -> Iterator[NextStep]:
    from curate.formats.dataset import FILE_NAME, read_manifest

    folder = project.data.latest_dataset()
    if folder is None:
        if overview.num_unsplit:
            yield NextStep("", f"{counted(overview.num_unsplit, 'record')} in no split", "split")
        return
    # A file may change without a decision, and a decision without a file. An export that finds the same data again
    # renews the manifest's time, and a clone makes all files new.
    manifest = read_manifest(folder)
    created = max(_seconds(manifest.created), (folder / FILE_NAME).stat().st_mtime)
    events = project.recent(_MOST_OF_AN_ACT)
    decided = (_seconds(event.at) for event in events if _operation(event, events) not in _CHANGING_NOTHING)
    changed = max(next(decided, 0), *(path.stat().st_mtime for path in project.data.files()))
    if changed > created:
        yield NextStep("warn", f"dataset {manifest.name} is older than the data ({_ago(changed)})", "split")


def _seconds(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()


def _operation(event: Event, events: Sequence[Event]) -> str:
    """Return what a decision does, or takes back."""
    by_name = {other.event: other for other in events}
    # Each is popped, because a journal from elsewhere may have two that take back each other.
    while event.op == "undo" and (original := by_name.pop(event.of, None)):
        event = original
    return event.op


def _runs(runs: Sequence[Run]) -> Iterator[NextStep]:
    alive = next((run for run in runs if run.is_alive), None)
    if alive:
        yield NextStep("", f"run {alive.id} is {alive.standing}", "train", {"run": alive.id})
    newest = next((run for run in runs if not run.is_alive), None)
    if newest is None:
        return
    if newest.has_report:
        yield NextStep("", f"run {newest.id} is ready", "compare", {"runs": [newest.id]})
    elif words := _ENDED_BADLY.get(newest.standing):
        tone: Tone = "" if newest.standing == "stopped" else "warn"
        yield NextStep(tone, f"run {newest.id} {words}", "train", {"run": newest.id})


def _ago(then: float) -> str:
    seconds = int(time() - then)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
