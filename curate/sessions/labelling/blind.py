"""What an annotator may see of others' answers while labelling and anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from curate.base.events import AnyEvent, LabelEvent, ResolveEvent
from curate.base.record import CurateError, Finding, Record
from curate.project.fold import RecordState
from curate.project.journal import CATEGORY
from curate.project.labels import Blind
from curate.project.labels.blind import redacted_finding, redacted_state

if TYPE_CHECKING:
    from curate.project.project import Project

HIDDEN = "(hidden)"
"""The word for what somebody else has answered, to those who are still asked for theirs."""
_GONE = "E916 unknown-record"


def blind_of(project: Project) -> Blind:
    """Return the `Blind` of a project for work that must know who is asked what; looking needs `Project.blind` only.

    Raises:
        CurateError: E902 for questions or known answers that cannot be used; E904 and E914 for their file; E916 before
            the records are read.
    """
    if project.blind_fault is not None:
        raise project.blind_fault
    return project.blind


def hides_event(project: Project, event: AnyEvent) -> bool:
    """Whether ``event`` must not be told in full to the project's annotator.

    So it is with somebody else's answer, and with what somebody else has settled, also if it does not hold any more.
    """
    if not isinstance(event, LabelEvent | ResolveEvent) or event.by == project.by:
        return False
    return _is_so(project, event.id, lambda state: project.blind.still_asks(state, event.question))


def visible_finding(project: Project, finding: Finding) -> Finding | None:
    """Return a finding as the project's annotator may see it; see `redacted_finding`.

    Its record is called as it is in the project.
    """

    def is_hidden(name: str) -> bool:
        return _is_so(project, name, lambda state: project.blind.hides(state, CATEGORY))

    return redacted_finding(finding, is_hidden, lambda: project.has_hidden_categories)


def visible_record(project: Project, record: Record) -> tuple[Record, frozenset[str]]:
    """Return ``record``, perhaps not as it is now, as the project's annotator may see it, and what is hidden of it.

    Hidden are questions that others have answered; see `redacted_state`.

    Raises:
        CurateError: E974 when another program has changed its file, so that nobody can tell what to hide.
    """
    try:
        state = project.state(record.id)
    except CurateError as error:
        if error.code != _GONE:
            raise
        return record, frozenset()
    visible = redacted_state(replace(state, record=record), project.blind, project.shape)
    return visible.record, project.blind.hidden(state)


def _is_so(project: Project, name: str, ask: Callable[[RecordState], bool]) -> bool:
    try:
        state = project.state(name)
    except CurateError as error:
        # A record that is no more asks nobody; of one whose file has just changed nobody can tell.
        return error.code != _GONE
    return ask(state)
