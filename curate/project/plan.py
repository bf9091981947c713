"""What the next dataset holds: no repeats, no leaks that a division can avoid, every unit in one split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from curate.base.record import CurateError, Finding, Problem, Record, Split
from curate.checks import DatasetProblem
from curate.formats.dataset import Dropped
from curate.project.data import ProjectData
from curate.project.exclusion import Exclusion
from curate.project.leaks import (
    LEAK_CODES,
    ExamLeaks,
    LeakJudge,
    by_own_split,
    compare_all,
    compare_benchmarks,
    compare_splits,
    divide_apart,
    judge_of,
    parts_of,
)
from curate.project.repeats import excluded_by, find_repeats
from curate.schema import Shape
from curate.schema.settings import LeakSettings, Settings
from curate.similarity.dedupe import Duplicates
from curate.similarity.split import SplitAssignment


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What an export would write: the records that are in, where each goes, and why others are out."""

    records: list[Record]
    duplicates: Duplicates
    assignment: SplitAssignment
    dropped: list[Dropped]
    compared: Sequence[ExamLeaks]
    """What its splits share, and what is trained on with the workspace's benchmarks."""

    @property
    def by_split(self) -> dict[Split, list[Record]]:
        """The records of each split, in order."""
        return parts_of(self.records, self.assignment)

    @property
    def leaks(self) -> list[Finding]:
        """What there is to be said of ``compared``."""
        return [finding for comparison in self.compared for finding in comparison.findings]


def plan(data: ProjectData, leaks: LeakSettings | None = None) -> ExportPlan:
    """Decide what the next dataset holds: no repeats but those that someone restored, and every unit in one split.

    ``leaks`` stand in for the workspace's own settings.

    Raises:
        CurateError: E909 without a seed; E910 when two records have the same id; E911 when the last dataset was
            changed; E975 when the frozen test set was; E908 and E964 when a benchmark cannot be read or is not there.
    """
    # What the last dataset holds comes first: it is kept before new copies of it, and its units keep their key.
    repeats = find_repeats(data)
    everyone = {state.record.id: state.record for state in data.states()}
    dropped = [_excluded(everyone[name], exclusion) for name, exclusion in data.exclusions().items()]
    staying = repeats.staying()
    chosen = leaks or data.settings.leaks
    clusters, settings = repeats.duplicates.clusters, data.settings.split
    assignment, compared = divide_apart(data, staying, clusters, settings, repeats.pins, chosen)
    compared = [*compare_benchmarks(data, parts_of(staying, assignment)["train"], chosen), *compared]
    for name, pair in repeats.outside(assignment.splits).items():
        record = everyone[name]
        if pair is None:
            dropped.append(_dropped(record, "P503", "held back: it would leak between splits"))
        else:
            dropped.append(_excluded(record, excluded_by(pair)))
    order = {name: number for number, name in enumerate(everyone)}
    included = [record for record in staying if record.id in assignment.splits]
    return ExportPlan(
        sorted(included, key=lambda record: order[record.id]),
        repeats.duplicates,
        assignment,
        sorted(dropped, key=lambda one: order[one.id]),
        compared,
    )


def _excluded(record: Record, excluded: Exclusion) -> Dropped:
    return _dropped(record, excluded.code or "decision", excluded.reason, excluded.of, excluded.score or 0.0)


def _dropped(record: Record, code: str, reason: str, retained: str = "", score: float = 0.0) -> Dropped:
    return Dropped(record.id, code, reason, retained, score, record.source.file, record.source.line)


Pairs = list[tuple[Finding, DatasetProblem]]
"""Findings with both of their places, for a validation."""


def leaks_in(data: ProjectData, *, has_exam: bool) -> Pairs:
    """Return what validation says of the leaks of ``workspace``: what its next export would refuse or tell of.

    Records whose split nothing fixes never leak, because a division keeps them together; so nothing is compared where
    no benchmark is named, and neither a record (``has_exam``) nor the last dataset nor a frozen list fixes an exam.
    What keeps a division from being made is an error finding of its own, for an export would be refused.
    """
    judge = judge_of(data)
    if not judge.is_wanted(*LEAK_CODES) or not (has_exam or data.has_fixed_exam()):
        return []
    try:
        if data.settings.split.seed is not None:
            compared = plan(data).compared
        else:
            compared = compare_all(data, by_own_split(data.records()))
    except CurateError as error:
        # Two records with one id are found anyway.
        if error.number == "E910" or not judge.is_wanted("P501"):
            return []
        problem = f"leaks cannot be looked for: {error.code}: {error.message}"
        return [(Finding("P501", "split-leak", "error", problem, "", fix=error.hint), DatasetProblem(Problem(problem)))]
    return _pairs(compared)


def leaks_between(records: Callable[[], Sequence[Record]], shape: Shape, settings: Settings) -> Pairs:
    """Return what validation says of leaks between the splits that ``records`` say they are in."""
    judge = LeakJudge(settings, lambda record: shape.ignored(record.data))
    if shape.view is None or not judge.is_wanted("P501", "P505"):
        return []
    return _pairs(compare_splits(by_own_split(records()), settings.leaks, judge))


def _pairs(compared: Sequence[ExamLeaks]) -> Pairs:
    return [
        (finding, DatasetProblem(Problem(""), finding.file, finding.line, other=other))
        for comparison in compared
        for finding, other in zip(comparison.findings, comparison.others, strict=True)
    ]
