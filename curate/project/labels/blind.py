"""Who may see whose answers: another's to a question only who has answered it too, or is not asked it any more.

What a record's line says, also after an edit, is nobody's answer: everybody may see it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Protocol

from curate.base.record import Json
from curate.project.journal import ASIDES
from curate.project.labels.assign import AnnotatorAssignment
from curate.project.labels.questions import questions_of
from curate.schema.settings import Settings

_NOTHING: Mapping[str, Json] = MappingProxyType({})


class _Named(Protocol):
    @property
    def id(self) -> str:
        """What the record is called."""


class Answered(Protocol):
    """A record with answers, as `curate.project.data.RecordState` has them."""

    @property
    def record(self) -> _Named:
        """The record."""

    @property
    def answers(self) -> Mapping[str, Mapping[str, Json]]:
        """By question, what each annotator answered."""

    @property
    def resolved(self) -> Mapping[str, Json]:
        """By question, what was settled."""


class Blind:
    """Hides what others answered from an annotator who is still asked the same, and from nobody else.

    Everything that shows answers asks it.
    """

    def __init__(self, by: str, assignments: Mapping[str, AnnotatorAssignment] | None) -> None:
        """Hide from ``by``; ``assignments`` says by question who is asked about which record.

        None stands for assignments that nobody knows: whoever has not answered may then be asked, and sees nothing.
        """
        self.by = by
        self._assignments = assignments

    @property
    def assignments(self) -> Mapping[str, AnnotatorAssignment]:
        """By question, who is asked about which record; empty where nobody knows."""
        return self._assignments or {}

    def still_asks(self, state: Answered, question: str) -> bool:
        """Whether the record asks the annotator ``question``, whatever others have answered."""
        if not self._is_open(state, question):
            return False
        if self._assignments is None:
            return True
        assignment = self._assignments.get(question)
        given = state.answers.get(question, _NOTHING)
        return assignment is not None and assignment.is_assigned(state.record.id, self.by, given)

    def hides(self, state: Answered, question: str, *, is_at_hand: bool = False) -> bool:
        """Whether the annotator must not see what others answered to ``question``, nor what came of it.

        A record that ``is_at_hand`` lies before them to be answered, whoever else has answered it meanwhile.
        """
        if not state.answers.get(question):
            return False
        return self._is_open(state, question) if is_at_hand else self.still_asks(state, question)

    def hidden(self, state: Answered) -> frozenset[str]:
        """Return the questions about the record whose answers the annotator must not see."""
        return frozenset(question for question in state.answers if self.hides(state, question))

    def answers(self, state: Answered, question: str) -> Mapping[str, Json]:
        """Return what the annotator, who has the record at hand, may see of the answers to it: all or nothing."""
        return _NOTHING if self.hides(state, question, is_at_hand=True) else state.answers.get(question, _NOTHING)

    def _is_open(self, state: Answered, question: str) -> bool:
        """Whether the annotator has not answered and nobody has settled it; flags and notes are no answers."""
        is_answered = state.answers.get(question, _NOTHING).get(self.by) is not None
        return not is_answered and state.resolved.get(question) is None and question not in ASIDES


def blind_for(settings: Settings, by: str, known: Mapping[str, Collection[str]]) -> Blind:
    """Return what hides from ``by`` in a workspace; ``known`` has, by question, the records whose answer is known.

    Raises:
        CurateError: E902 for a question that is called as notes or flags are.
    """
    label = settings.label
    seed = settings.split.seed or 0
    return Blind(
        by,
        {
            question.name: AnnotatorAssignment(
                tuple(label.annotators), label.overlap, frozenset(known.get(question.name, ())), seed
            )
            for question in questions_of(settings)
        },
    )
