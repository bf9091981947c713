"""What a session needs before it asks: computed in a thread, from what was decided when that began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.project.labels import AnnotatorAssignment
from curate.sessions.agreement import LiveAgreement
from curate.sessions.labelling.queue import Queue, Wish, queue_of

if TYPE_CHECKING:
    from curate.project.catalog import Catalog
    from curate.project.project import Project


@dataclass(frozen=True, slots=True)
class Prepared:
    """A queue, and what was answered of it."""

    queue: Queue
    agreement: LiveAgreement
    answered: set[str]
    """The records that the annotator had answered."""
    num_decisions: int
    """Decisions that were made before it was begun; whatever came after them may be in it or not."""


def prepared_for(
    project: Project, catalog: Catalog, wish: Wish, assignment: AnnotatorAssignment, certainty: dict[int, float] | None
) -> Prepared:
    """Return what is needed to ask what ``wish`` says; a second or so for a million records.

    ``certainty`` is the probability of what is suggested, by row of ``catalog``.
    """
    num_decisions, question = project.num_decisions, wish.question.name
    queue = queue_of(project, catalog, wish, assignment, certainty)
    agreement, answered = LiveAgreement(), set()
    for state in project.decided():
        answers = state.answers.get(question, {})
        if state.dropped is None:
            agreement.put(state.record.id, answers)
        if project.by in answers:
            answered.add(state.record.id)
    return Prepared(queue, agreement, answered, num_decisions)
