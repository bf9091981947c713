"""What to do next, computed from what is known of the records; what nobody has counted is said to be so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from curate.base.record import Severity
from curate.base.tables import counted
from curate.sessions.problems import book_of
from curate.sessions.runs.look import Run, runs_of

if TYPE_CHECKING:
    from curate.project.catalog import Catalog
    from curate.project.project import Project
    from curate.sessions.overview import Overview

Tone = Literal["error", "warn", ""]
_ALIVE = ("running", "stopping")
_ENDED_BADLY = ("failed", "dead", "stopped")


@dataclass(frozen=True, slots=True)
class Step:
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
    """Return the one note about the records of ``workshop``, to be written to by whoever counts something.

    Once the records were read anew there is another one: what was counted before is not known of these.

    Raises:
        CurateError: E916 before the records are read.
    """
    return _noted.setdefault(project.catalog, Noted())


def num_problems(project: Project) -> dict[Severity, int] | None:
    """Return how many findings there are of each severity; None before the first validation."""
    found = book_of(project).found
    if found is None:
        return None
    counts: dict[Severity, int] = {"error": 0, "warning": 0, "info": 0}
    for group in found.groups:
        counts[group.severity] += group.count
    return counts


def next_steps(project: Project, seen: Overview, runs: Sequence[Run] | None = None) -> list[Step]:
    """Return what is to be done, the worst first; empty where everything is done.

    Raises:
        CurateError: E914 when the folder of runs lies elsewhere; E915 for a damaged manifest.
    """
    if not seen.num_records and not seen.num_unread:
        return [Step("warn", "there are no records yet: write the first", "edit", {"new": True})]
    told = runs_of(project.data) if runs is None else runs
    return [
        *_problems(project, seen), *_repeats(project), *_review(project), *_labels(seen), *_split(project, seen),
        *_runs(told),
    ]  # fmt: skip


def _problems(project: Project, seen: Overview) -> Iterator[Step]:
    counts = num_problems(project)
    if counts is None:
        if seen.num_unread:
            yield Step("error", f"{counted(seen.num_unread, 'line')} that are no records", "validate")
        word = "being validated" if book_of(project).is_searching else "not validated yet"
        yield Step("warn", word, "validate")
        return
    if counts["error"]:
        yield Step("error", f"{counted(counts['error'], 'error')} to fix", "validate")
    if counts["warning"]:
        yield Step("warn", f"{counted(counts['warning'], 'warning')} to review", "validate")


def _repeats(project: Project) -> Iterator[Step]:
    known = noted(project)
    if known.num_clusters is None:
        yield Step("", "repeats not counted yet", "dedupe")
    elif known.num_clusters:
        leaks = f", {known.num_leaks:,} between splits" if known.num_leaks else ""
        tone: Tone = "error" if known.num_leaks else "warn"
        yield Step(tone, f"{counted(known.num_clusters, 'cluster')} of repeats{leaks}", "dedupe")


def _review(project: Project) -> Iterator[Step]:
    if conflicts := len(project.conflicts()):
        yield Step("warn", f"{counted(conflicts, 'edit conflict')} to settle", "label", {"queue": "review"})
    differing = sum(bool(state.disagreements()) for state in project.decided() if state.dropped is None)
    if differing:
        yield Step("warn", f"{counted(differing, 'record')} with different labels", "label", {"queue": "review"})


def _labels(seen: Overview) -> Iterator[Step]:
    if seen.num_unlabelled:
        yield Step("", f"{counted(seen.num_unlabelled, 'record')} unlabelled", "label")


def _split(project: Project, seen: Overview) -> Iterator[Step]:
    manifest = project.data.latest_manifest()
    if manifest is None:
        if seen.num_unsplit:
            yield Step("", f"{counted(seen.num_unsplit, 'record')} in no split", "split")
        return
    made = datetime.fromisoformat(manifest.created)
    newest = max(path.stat().st_mtime for path in project.data.files())
    changed = datetime.fromtimestamp(newest, UTC)
    last = project.recent(1)
    if last:
        changed = max(changed, datetime.fromisoformat(last[0].at))
    if changed > made:
        yield Step("warn", f"dataset {manifest.name} is older than the data ({_ago(changed)})", "split")


def _runs(runs: Sequence[Run]) -> Iterator[Step]:
    alive = next((run for run in runs if run.standing in _ALIVE), None)
    if alive:
        yield Step("", f"run {alive.id} is {alive.standing}", "train", {"run": alive.id})
    newest = next((run for run in runs if run.standing not in _ALIVE), None)
    if newest is None:
        return
    if newest.has_report:
        yield Step("", f"run {newest.id} is ready", "compare", {"runs": [newest.id]})
    elif newest.standing in _ENDED_BADLY:
        tone: Tone = "" if newest.standing == "stopped" else "warn"
        yield Step(tone, f"run {newest.id} {_word(newest)}", "train", {"run": newest.id})


def _word(run: Run) -> str:
    return {"failed": "failed", "dead": "ended without a word"}.get(run.standing, "was stopped")


def _ago(then: datetime) -> str:
    """Return how long ago ``then`` was, in the one unit that says most."""
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
