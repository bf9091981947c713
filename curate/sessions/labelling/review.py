"""What people have decided differently, one item after the other, and how each is settled.

Where annotators answered a question differently (L402), settling is a `resolve`: the answers stay, and the value holds
whatever they are. Where two people decided on the same thing without having seen one another's decision (L403),
settling is to decide once more, having seen both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.base.events import Assign, Decision, Edit, Label, Resolve, Restore, Undo
from curate.base.record import Json, canonical
from curate.project.exclusion import exclusion_of, read_rule
from curate.project.fold import RecordState
from curate.project.history import STATUS, DecisionConflict
from curate.sessions.labelling.blind import blind_of
from curate.sessions.labelling.session import LabelSession

if TYPE_CHECKING:
    from curate.base.events import AnyEvent
    from curate.project.project import Project

FILE = "the record file"


@dataclass(frozen=True, slots=True)
class AnswerSide:
    """One way to settle an item: its value, and who decided so; nobody where it is merely possible."""

    value: Json
    people: tuple[str, ...] = ()
    text: str = ""
    """Whether the record is in, and why not, in words; empty for other values."""


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """Something to settle: a question that was answered differently, or a conflict."""

    record: str
    question: str = ""
    """The question; empty for a conflict about something else."""
    conflict: DecisionConflict | None = None
    sides: tuple[AnswerSide, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What names it among all items."""
        return self.record, "\0".join(self.conflict.facet) if self.conflict else self.question

    @property
    def title(self) -> str:
        """What it is about, in words."""
        if self.conflict is None:
            return f"annotators disagree on {self.question} (L402)"
        return f"decided apart: {' '.join(self.conflict.facet[:2])} (L403)"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is to be settled, and what this annotator may not see or settle yet."""

    items: Sequence[ReviewItem]
    num_unanswered: int
    """Questions that others disagree on and that still ask this annotator, who must not see their answers before."""
    others_own: Sequence[DecisionConflict]
    """Conflicts between two sittings of somebody else, about their own answer: only they can say what they meant."""


def waiting(project: Project, session: LabelSession) -> Waiting:
    """Return what is to be settled by the annotator of ``session``, in the order of the files."""
    values = {question.name: question.values for question in session.questions}
    items: list[tuple[int, ReviewItem]] = []
    num_unanswered = 0
    for state in project.decided():
        if state.dropped is not None:
            continue
        row = project.catalog.find(state.record.id)
        for question, given in state.disagreements().items():
            if row is None:
                continue
            if blind_of(project).still_asks(state, question):
                num_unanswered += 1
                continue
            items.append((row, ReviewItem(state.record.id, question, None, _sides(state, question, given, values))))
    others_own = []
    for conflict in project.conflicts():
        row = project.catalog.find(conflict.record)
        if row is None:
            # Nothing can be decided on a record that is no more.
            continue
        if conflict.facet[0] == "answer" and conflict.facet[2] != project.by:
            others_own.append(conflict)
            continue
        is_status = conflict.facet == STATUS
        sides = tuple(
            AnswerSide(value, (_who(event),), _status_text(value) if is_status else "")
            for event, value in conflict.sides
        )
        items.append((row, ReviewItem(conflict.record, _question(conflict), conflict, sides)))
    return Waiting(
        [item for _, item in sorted(items, key=lambda one: (one[0], one[1].key))], num_unanswered, others_own
    )


def settle(project: Project, item: ReviewItem, side: AnswerSide) -> list[AnyEvent]:
    """Save that ``side`` holds, as one act, and return its events.

    Raises:
        CurateError: E906 when it is not saved; E972 when the schema refuses the line that it makes.
    """
    return project.apply(_decisions(item, side, lambda name: project.catalog.find(name) is not None))


def _decisions(item: ReviewItem, side: AnswerSide, exists: Callable[[str], bool]) -> list[Decision]:
    value = side.value
    if item.conflict is None:
        return [Resolve(item.record, item.question, value)]
    kind, *rest = item.conflict.facet
    if kind == "data":
        return [Edit(item.record, {rest[0]: value})]
    if kind == "answer":
        return [Label(item.record, rest[0], value)]
    if kind == "resolved":
        return [Resolve(item.record, rest[0], value)]
    if kind == "split" and value is not None:
        return [Assign(item.record, value)]
    if kind == "status":
        excluded = exclusion_of(value)
        if excluded is None:
            return [Restore(item.record)]
        return [read_rule(excluded, item.record, exists).decision(item.record)]
    # What cannot be said once more, such as that a record was added, stands when the other sides are taken back.
    others = [event for event, other in item.conflict.sides if event and canonical(other) != canonical(value)]
    return [Undo(item.record, event.event) for event in others]


def _sides(
    state: RecordState, question: str, given: Sequence[Json], values: dict[str, list[str]]
) -> tuple[AnswerSide, ...]:
    """Return the answers that were given, the most frequent first, and then the other values of the question."""
    answers = state.answers[question]
    sides = [
        AnswerSide(
            value, tuple(sorted(who for who, answer in answers.items() if canonical(answer) == canonical(value)))
        )
        for value in given
    ]
    known = {canonical(value) for value in given}
    sides += [AnswerSide(value) for value in values.get(question, []) if canonical(value) not in known]
    return tuple(sides)


def _status_text(value: Json) -> str:
    excluded = exclusion_of(value)
    if excluded is not None:
        return f"out: {excluded}"
    return "in" if value else ""


def _question(conflict: DecisionConflict) -> str:
    return conflict.facet[1] if conflict.facet[0] in ("answer", "resolved") else ""


def _who(event: AnyEvent | None) -> str:
    return event.by if event else FILE


__all__ = ["FILE", "ReviewItem", "AnswerSide", "Waiting", "settle", "waiting"]
