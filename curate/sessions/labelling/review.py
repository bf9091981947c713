"""What people have decided differently, one item after the other, how each is settled, and how records are read.

Where annotators answered a question differently (L402), settling is a `resolve`: the answers stay, and the value holds
whatever they are. Where two people decided on the same thing without having seen one another's decision (L403),
settling is to decide once more, having seen both. Where the text of a record has changed under its decisions (L407),
settling is to say whether they hold for the new text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from curate.base.events import Assign, Decision, Drop, Edit, Label, Resolve, Restore, Rewritten, Undo
from curate.base.record import Json, canonical
from curate.base.tables import counted
from curate.project.answers import answer_now, as_answer
from curate.project.fold import HELD_BACK, RecordState, said_of
from curate.project.history import STATUS, DecisionConflict
from curate.sessions.labelling.excerpts import spelled_value
from curate.sessions.labelling.session import LabelSession

# Characters that are shown before the place at which two values differ.
_CONTEXT = 20
_MOST_KEYS = 10  # Values that have a key each.
_NOBODY = "(as if nobody had)"


@dataclass(frozen=True, slots=True)
class AnswerSide:
    """One way to settle an item: its value, how that is called, and who decided so; nobody where it is possible."""

    value: Json
    name: str
    people: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """Something to settle: a ``question`` that was answered differently, or a ``conflict``."""

    record: str
    question: str = ""
    conflict: DecisionConflict | None = None
    sides: Sequence[AnswerSide] = ()
    is_held: bool = False
    """Whether it is about decisions on another text of the record than it has now."""

    @property
    def key(self) -> tuple[str, str]:
        """What names it among all items."""
        return self.record, "\0".join(self.conflict.facet) if self.conflict else self.question or HELD_BACK

    @property
    def title(self) -> str:
        """What it is about, in words."""
        if self.is_held:
            return f"decided about another text than this one ({HELD_BACK})"
        if self.conflict is None:
            return f"annotators disagree on {self.question} (L402)"
        return f"decided apart: {' '.join(self.conflict.facet[:2])} (L403)"


class Review:
    """What one annotator has to settle, in the order of the files; the screen and line mode both drive it."""

    def __init__(self, session: LabelSession) -> None:
        """Look for what the annotator of ``session`` can settle; its questions say what they must not see yet."""
        self._session = session
        self._index = 0
        self._settled: list[tuple[str, str]] = []
        self.items: Sequence[ReviewItem] = ()
        self.num_settled = 0  # Questions that are settled, by whomever.
        # Questions that others disagree on and that still ask this annotator, who must not see their answers before.
        self.num_unanswered = 0
        # Conflicts between two sessions of another person, about their own answer: only they can say what they meant.
        self.num_others_own = 0
        self.refresh()

    @property
    def item(self) -> ReviewItem | None:
        """The item that is looked at; None where nothing waits."""
        return self.items[self._index] if self.items else None

    def refresh(self) -> None:
        """Look again, and stay with the item that was looked at, or go to one whose settling was taken back."""
        before = self.item.key if self.item else None
        num_settled = self.num_unanswered = self.num_others_own = 0
        project, catalog = self._session.project, self._session.project.catalog
        order = {question.name: number for number, question in enumerate(self._session.questions)}
        rows: list[tuple[int, int, ReviewItem]] = []
        for state in project.decided():
            row = catalog.find(state.record.id)
            if row is not None and state.held:
                rows.append((row, len(order), _held_back_item(state)))
            if state.dropped is not None or row is None:
                continue
            num_settled += sum(value is not None for value in state.resolved.values())
            for question, given in state.disagreements().items():
                if project.blind.still_asks(state, question):
                    self.num_unanswered += 1
                else:
                    sides = self._sides(state, question, given)
                    item = ReviewItem(state.record.id, question, None, sides)
                    rows.append((row, order.get(question, len(order)), item))
        for conflict in project.conflicts():
            # Nothing can be decided on a record that is gone.
            if (row := catalog.find(conflict.record)) is None:
                continue
            if conflict.facet[0] == "answer" and conflict.facet[2] != project.by:
                self.num_others_own += 1
            else:
                rows.append((row, len(order), self._conflict_item(conflict)))
        self.num_settled = num_settled
        self.items = [item for *_, item in sorted(rows, key=lambda entry: (*entry[:2], entry[2].key))]
        keys = [item.key for item in self.items]
        if taken_back := [key for key in self._settled if key in keys]:
            before = taken_back[-1]
            self._settled.remove(before)
        self._index = keys.index(before) if before in keys else min(self._index, max(0, len(keys) - 1))

    def move(self, step: int) -> bool:
        """Look at another item; return whether there is one in that direction."""
        if not 0 <= self._index + step < len(self.items):
            return False
        self._index += step
        return True

    def settle(self, item: ReviewItem, side: AnswerSide) -> None:
        """Save that ``side`` of ``item`` holds, as one act, and go on.

        Raises:
            CurateError: E906 when it is not saved; E972 when the schema refuses the line that it makes.
        """
        self._session.project.apply(self._decisions(item, side))
        self._settled.append(item.key)
        self.refresh()

    @property
    def hidden(self) -> Sequence[str]:
        """What waits and is not shown, and why, a sentence each."""
        counts = {
            "questions that still ask you, to be answered first": self.num_unanswered,
            "answers given twice, which only who answered can settle": self.num_others_own,
        }
        return [f"{words}: {num:,}" for words, num in counts.items() if num]

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        settled = f"   {self.num_settled:,} settled" if self.num_settled else ""
        if not self.items:
            return f"nothing to settle{settled}"
        return f"{self._index + 1:,} of {counted(len(self.items), 'item')} to settle{settled}"

    def turns(self, item: ReviewItem) -> Iterator[tuple[str, str, int]]:
        """Yield the record of an item as `turns_of` does; about a question it is as where one labels."""
        return self._session.turns(self._session.project.state(item.record), item.question)

    def _decisions(self, item: ReviewItem, side: AnswerSide) -> list[Decision]:
        value = side.value
        if item.is_held:
            state = self._session.project.state(item.record)
            if value:
                was = {event.decision.text for event in state.held.values()}
                return [Rewritten(item.record, digest, state.base) for digest in sorted(was)]
            return [Undo(item.record, event) for event in dict.fromkeys(e.event for e in state.held.values())]
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
            return [Drop(item.record, **value) if value else Restore(item.record)]
        # What cannot be said once more, such as that a record was added, stands when the other sides are taken back.
        others = [event for event, other in item.conflict.sides if canonical(other) != canonical(value)]
        return [Undo(item.record, event.event) for event in others]

    def _sides(self, state: RecordState, name: str, given: Sequence[Json]) -> Sequence[AnswerSide]:
        # In the order in which the question has them, so that a key means the same as where one labels; what is no
        # value of it follows, the most frequent first. Where not every value has a key, those that were given come
        # first.
        question, record = self._session.question_named(name), state.record.id
        people: dict[bytes, list[str]] = {canonical(value): [] for value in given}
        for who, answer in sorted(state.answers[name].items()):
            people.setdefault(canonical(answer), []).append(who)
        values = [as_answer(question, value) for value in self._session.values_of(question, record)]
        ordered: list[Json] = [*values, *given] if len(values) <= _MOST_KEYS else [*given, *values]
        by_value = {canonical(value): value for value in ordered}
        return [
            AnswerSide(value, self._session.name_of(value, record, question), people.get(key, ()))
            for key, value in by_value.items()
        ]

    def _conflict_item(self, conflict: DecisionConflict) -> ReviewItem:
        record = self._session.project.state(conflict.record).record
        kind, name = conflict.facet[0], conflict.facet[1] if len(conflict.facet) > 1 else ""
        question = self._session.question_named(name) if kind in ("answer", "resolved") else None
        values = [answer_now(value, getattr(event.decision, "texts", ()), record)[1] for event, value in conflict.sides]
        if conflict.facet == STATUS:
            names = list(map(_status_name, values))
        elif question is not None:
            names = [self._session.name_of(value, record.id, question) for value in values]
        else:
            names = _ends(values)
        sides: dict[bytes, AnswerSide] = {}
        for (event, _), value, side_name in zip(conflict.sides, values, names, strict=True):
            # Answers that say nothing of the texts any more leave one choice: none.
            people = sides[key].people if (key := canonical(value)) in sides else ()
            sides[key] = AnswerSide(value, _NOBODY if value is None else side_name, (*people, event.by))
        return ReviewItem(record.id, question.name if question else "", conflict, list(sides.values()))


def _held_back_item(state: RecordState) -> ReviewItem:
    said = said_of(state.held)
    people = sorted({event.by for event in state.held.values()})
    sides = [
        AnswerSide(True, f"holds for this text as well: {said}", people),
        AnswerSide(False, "does not hold for it"),
    ]
    return ReviewItem(state.record.id, sides=sides, is_held=True)


def _ends(values: Sequence[Json]) -> list[str]:
    """Return how values are spelled; of those that begin alike, from just before where they differ."""
    # A value is shown in one line: the beginnings of two such values would look the same.
    texts = list(map(spelled_value, values))
    same = takewhile(lambda characters: len({*characters}) == 1, zip(*texts, strict=False))
    start = len(list(same)) - _CONTEXT
    return [f"... {text[start:].lstrip()}" if start > _CONTEXT else text for text in texts]


def _status_name(value: Json) -> str:
    return f"out: {Drop('', **value).why}" if value else _NOBODY if value is None else "in"
