"""Approval: which records wait until somebody says that they are right, and who may say so.

An approval is of what the line then said (`curate.project.fold.content_digest`). Labels, splits and drops do not touch
it; an edit, or another line in the file, makes the record wait again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING

from curate.base.record import Finding, Record, Source
from curate.base.tables import counted, listed
from curate.checks.runner import Verdict
from curate.project.data import ProjectData
from curate.project.fold import RecordState
from curate.schema.settings import Question, ReviewSettings

if TYPE_CHECKING:
    import polars as pl

UNAPPROVED = "L406"
# What Label asks where records wait: one more question, whose answers are decisions of other kinds.
APPROVAL = "approval"
APPROVE, DROP = "approve", "drop"
QUESTION = Question(APPROVAL, "Is it right as it stands?", values=[APPROVE, DROP])


def needs_approval(categories: pl.Series, review: ReviewSettings) -> pl.Series:
    """Return which of the ``categories`` of records need an approval, a Boolean each."""
    if review.approvals and not review.categories:
        return categories.is_not_null()
    return categories.is_in(review.categories if review.approvals else [])


def num_lacking(state: RecordState, review: ReviewSettings) -> int:
    """Return how many approvals a record still needs; a dropped one needs none."""
    if state.dropped is not None or not review.asks(state.record.category):
        return 0
    return max(0, review.approvals - len(state.approvals - excluded_people(state, review)))


def excluded_people(state: RecordState, review: ReviewSettings) -> frozenset[str]:
    """Return whose approval does not count, because they wrote what the record says."""
    return state.authors if review.not_author else frozenset()


def may_approve(state: RecordState, review: ReviewSettings, by: str) -> bool:
    """Whether the record waits, and an approval of ``by`` would count."""
    return num_lacking(state, review) > 0 and by not in state.approvals | excluded_people(state, review)


def waiting(
    data: ProjectData, visible: Callable[[RecordState], RecordState] | None = None
) -> Iterator[tuple[str, Source, RecordState | None]]:
    """Yield the records that wait: id, place, and state where somebody has decided on it. No line is parsed for it.

    ``visible`` gives a state as the one who looks may see it.
    """
    review = data.settings.review
    if not review.approvals:
        return
    # It needs numpy.
    from curate.project.records import Records

    records = Records.of(data.records())
    decided = {state.record.id: visible(state) if visible else state for state in data.decided()}
    for number, (name, category) in enumerate(zip(records.ids, records.categories, strict=True)):
        state = decided.get(name)
        if num_lacking(state, review) if state else review.asks(category):
            yield name, records.source(number), state


def waiting_finding(name: str, source: Source, state: RecordState | None, review: ReviewSettings) -> Finding:
    """Return the finding about a record that waits; ``state`` is None where nobody has decided on it."""
    state = state or RecordState(Record(name, "domain", source, {}))
    given = len(state.approvals - excluded_people(state, review))
    people = listed(sorted(excluded_people(state, review)))
    who = f"anybody but {people}, who wrote it" if people else "anybody"
    return Finding(
        UNAPPROVED,
        "not-approved",
        "error",
        f"waits for {counted(review.approvals - given, 'approval')}; {who} may approve"
        + (f" (so far: {listed(sorted(state.approvals))})" if state.approvals else ""),
        source.file,
        source.line,
        record=name,
        fix=f"Approve it with `curate approve {quote(name)}`, or one by one with `curate label --question approval`.",
    )


def with_waiting(
    verdict: Verdict, data: ProjectData, limit: int, rename: Callable[[Sequence[Finding]], Sequence[Finding]]
) -> Verdict:
    """Return ``verdict`` with each record that waits as an error: all are counted, at most ``limit`` are listed, last.

    No tolerance and no baseline applies: `[review]` alone says what has to be approved. ``rename`` calls files as the
    verdict does.
    """
    findings, num = [], 0
    for num, (name, source, state) in enumerate(waiting(data), start=1):
        if num <= limit:
            findings.append(waiting_finding(name, source, state, data.settings.review))
    if not num:
        return verdict
    counts = dict(sorted({**verdict.counts, UNAPPROVED: num}.items()))
    return replace(
        verdict, findings=[*verdict.findings, *rename(findings)], counts=counts, num_errors=verdict.num_errors + num
    )
