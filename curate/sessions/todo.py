"""What to do next, computed from what is known of the records; what nobody has counted is said to be so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from curate.base.record import Severity
from curate.base.tables import counted
from curate.sessions.problems import problems_of
from curate.sessions.runs import Run, runs_of

if TYPE_CHECKING:
    from curate.project.catalog import Catalog
    from curate.project.project import Project
    from curate.sessions.overview import ProjectOverview

Tone = Literal["error", "warn", ""]
_ALIVE = ("running", "stopping")
_ENDED_BADLY = ("failed", "dead", "stopped")


@dataclass(frozen=True, slots=True)
class NextStep:
    """One thing to do: how bad it is that it is not done, in words, the screen for it, and what to hand over there."""

    tone: Tone
    text: str
    screen: str
    what: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Noted:
    """What screens have found out about the records and Home shows; None as long as nobody has looked."""

    num_clusters: int | None = None
    """Clusters of records that repeat one another and are not reviewed."""
    num_leaks: int | None = None
    """Those of them that are in more than one split."""


_noted: WeakKeyDictionary[Catalog, Noted] = WeakKeyDictionary()


def noted(project: Project) -> Noted:
    """Return the one note about the records of ``project``, to be written to by whoever counts something.

    Once the records were read anew there is another one: what was counted before is not known of these.

    Raises:
        CurateError: E916 before the records are read.
    """
    return _noted.setdefault(project.catalog, Noted())


def num_problems(project: Project) -> dict[Severity, int] | None:
    """Return how many findings there are of each severity; None before the first validation."""
    problems = problems_of(project).problems
    if problems is None:
        return None
    counts: dict[Severity, int] = {"error": 0, "warning": 0, "info": 0}
    for group in problems.groups:
        counts[group.severity] += group.count
    return counts


def next_steps(project: Project, overview: ProjectOverview, runs: Sequence[Run] | None = None) -> list[NextStep]:
    """Return what is to be done, the worst first; empty where everything is done.

    Raises:
        CurateError: E914 when the folder of runs lies elsewhere; E915 for a damaged manifest.
    """
    if not overview.num_records and not overview.num_unread:
        return [NextStep("warn", "there are no records yet: write the first", "edit", {"new": True})]
    known_runs = runs_of(project.data) if runs is None else runs
    return [
        *_problems(project, overview), *_repeats(project), *_review(project), *_labels(overview),
        *_split(project, overview), *_runs(known_runs),
    ]  # fmt: skip


def _problems(project: Project, overview: ProjectOverview) -> Iterator[NextStep]:
    counts = num_problems(project)
    if counts is None:
        if overview.num_unread:
            yield NextStep("error", f"{counted(overview.num_unread, 'line')} that are no records", "validate")
        word = "being validated" if problems_of(project).is_searching else "not validated yet"
        yield NextStep("warn", word, "validate")
        return
    if counts["error"]:
        yield NextStep("error", f"{counted(counts['error'], 'error')} to fix", "validate")
    if counts["warning"]:
        yield NextStep("warn", f"{counted(counts['warning'], 'warning')} to review", "validate")


def _repeats(project: Project) -> Iterator[NextStep]:
    known = noted(project)
    if known.num_clusters is None:
        yield NextStep("", "repeats not counted yet", "dedupe")
    elif known.num_clusters:
        leaks = f", {known.num_leaks:,} between splits" if known.num_leaks else ""
        tone: Tone = "error" if known.num_leaks else "warn"
        yield NextStep(tone, f"{counted(known.num_clusters, 'cluster')} of repeats{leaks}", "dedupe")


def _review(project: Project) -> Iterator[NextStep]:
    if conflicts := len(project.conflicts()):
        yield NextStep("warn", f"{counted(conflicts, 'edit conflict')} to settle", "label", {"queue": "review"})
    differing = sum(bool(state.disagreements()) for state in project.decided() if state.dropped is None)
    if differing:
        yield NextStep("warn", f"{counted(differing, 'record')} with different labels", "label", {"queue": "review"})


def _labels(overview: ProjectOverview) -> Iterator[NextStep]:
    if overview.num_unlabelled:
        yield NextStep("", f"{counted(overview.num_unlabelled, 'record')} unlabelled", "label")


def _split(project: Project, overview: ProjectOverview) -> Iterator[NextStep]:
    manifest = project.data.latest_manifest()
    if manifest is None:
        if overview.num_unsplit:
            yield NextStep("", f"{counted(overview.num_unsplit, 'record')} in no split", "split")
        return
    created = datetime.fromisoformat(manifest.created)
    newest = max(path.stat().st_mtime for path in project.data.files())
    changed = datetime.fromtimestamp(newest, UTC)
    last = project.recent(1)
    if last:
        changed = max(changed, datetime.fromisoformat(last[0].at))
    if changed > created:
        yield NextStep("warn", f"dataset {manifest.name} is older than the data ({_ago(changed)})", "split")


def _runs(runs: Sequence[Run]) -> Iterator[NextStep]:
    alive = next((run for run in runs if run.standing in _ALIVE), None)
    if alive:
        yield NextStep("", f"run {alive.id} is {alive.standing}", "train", {"run": alive.id})
    newest = next((run for run in runs if run.standing not in _ALIVE), None)
    if newest is None:
        return
    if newest.has_report:
        yield NextStep("", f"run {newest.id} is ready", "compare", {"runs": [newest.id]})
    elif newest.standing in _ENDED_BADLY:
        tone: Tone = "" if newest.standing == "stopped" else "warn"
        yield NextStep(tone, f"run {newest.id} {_word(newest)}", "train", {"run": newest.id})


def _word(run: Run) -> str:
    return {"failed": "failed", "dead": "ended without a word"}.get(run.standing, "was stopped")


def _ago(then: datetime) -> str:
    """Return how long ago ``then`` was, in the one unit that says most."""
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
