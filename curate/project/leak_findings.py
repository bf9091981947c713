"""What a validation says of leaks: of the next export's splits, and of splits that records name themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from curate.base.record import CurateError, Finding, Problem, Record
from curate.checks import DatasetProblem
from curate.project.data import ProjectData
from curate.project.leaks import LEAK_CODES, ExamLeaks, LeakJudge, by_own_split, compare_all, compare_splits, judge_of
from curate.project.plan import plan
from curate.schema import Shape
from curate.schema.settings import Settings

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
