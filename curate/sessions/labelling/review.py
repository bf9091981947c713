"""What people have decided differently, one item after the other, how each is settled, and how records are read.

Where annotators answered a question differently (L402), settling is a `resolve`: the answers stay, and the value holds
whatever they are. Where two people decided on the same thing without having seen one another's decision (L403),
settling is to decide once more, having seen both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from curate.base.events import AnyEvent, Assign, Decision, Edit, Label, Resolve, Restore, Undo, exclusion_of, read_rule
from curate.base.record import Json, Record, canonical
from curate.project.answers import answer_now
from curate.project.fold import RecordState
from curate.project.history import STATUS, DecisionConflict
from curate.project.project import Project
from curate.sessions.labelling.excerpts import spelled_value
from curate.sessions.labelling.session import LabelSession

# Characters that are shown before the place at which two values differ.
_CONTEXT = 20
_MOST_KEYS = 10  # Values that have a key each.


@dataclass(frozen=True, slots=True)
class AnswerSide:
    """One way to settle an item: its value, and who decided so; nobody where it is merely possible."""

    value: Json
    people: tuple[str, ...] = ()
    # Whether the record is in, and why not, in words; of two that begin alike the rest; else empty.
    text: str = ""


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """Something to settle: a ``question`` that was answered differently, or a ``conflict``."""

    record: str
    question: str = ""
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
    # Questions that others disagree on and that still ask this annotator, who must not see their answers before.
    num_unanswered: int
    # Conflicts between two sessions of another person, about their own answer: only they can say what they meant.
    others_own: Sequence[DecisionConflict]


def waiting(project: Project, session: LabelSession) -> Waiting:
    """Return what is to be settled by the annotator of ``session``, in the order of the files."""
    values = {question.name: question.values for question in session.questions}
    rows: list[tuple[int, ReviewItem]] = []
    num_unanswered = 0
    for state in project.decided():
        row = project.catalog.find(state.record.id)
        if state.dropped is not None or row is None:
            continue
        for question, given in state.disagreements().items():
            if project.blind.still_asks(state, question):
                num_unanswered += 1
            else:
                sides = _sides(state, question, given, values.get(question, []))
                rows.append((row, ReviewItem(state.record.id, question, None, sides)))
    others_own = []
    for conflict in project.conflicts():
        # Nothing can be decided on a record that is gone.
        if (row := project.catalog.find(conflict.record)) is None:
            continue
        if conflict.facet[0] == "answer" and conflict.facet[2] != project.by:
            others_own.append(conflict)
        else:
            rows.append((row, _conflict_item(conflict, project.state(conflict.record).record)))
    items = [item for _, item in sorted(rows, key=lambda pair: (pair[0], pair[1].key))]
    return Waiting(items, num_unanswered, others_own)


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


def _sides(state: RecordState, question: str, given: Sequence[Json], values: Sequence[str]) -> tuple[AnswerSide, ...]:
    # In the order in which the question has them, so that a key means the same as where one labels; what is no value of
    # it follows, the most frequent first. Where not every value has a key, those that were given come first.
    people: dict[bytes, list[str]] = {canonical(value): [] for value in given}
    for who, answer in sorted(state.answers[question].items()):
        people.setdefault(canonical(answer), []).append(who)
    ordered: list[Json] = [*values, *given] if len(values) <= _MOST_KEYS else [*given, *values]
    by_value = {canonical(value): value for value in ordered}
    return tuple(AnswerSide(value, tuple(people.get(key, ()))) for key, value in by_value.items())


def _conflict_item(conflict: DecisionConflict, record: Record) -> ReviewItem:
    values = [answer_now(value, getattr(event, "texts", ()), record)[1] for event, value in conflict.sides]
    texts = list(map(_status_text, values)) if conflict.facet == STATUS else _ends(values)
    sides = tuple(
        AnswerSide(value, (event.by if event else "the record file",), text)
        for (event, _), value, text in zip(conflict.sides, values, texts, strict=True)
    )
    question = conflict.facet[1] if conflict.facet[0] in ("answer", "resolved") else ""
    return ReviewItem(conflict.record, question, conflict, sides)


def _ends(values: Sequence[Json]) -> list[str]:
    """Return the texts of values that begin alike from just before where they differ; of others nothing."""
    # A value is shown in one line: the beginnings of two such values would look the same.
    texts = list(map(spelled_value, values))
    same = takewhile(lambda characters: len({*characters}) == 1, zip(*texts, strict=False))
    start = len(list(same)) - _CONTEXT
    return [f"... {text[start:].lstrip()}" if start > _CONTEXT else "" for text in texts]


def _status_text(value: Json) -> str:
    excluded = exclusion_of(value)
    if excluded is not None:
        return f"out: {excluded}"
    return "in" if value else ""
