"""What an annotator may see of others' answers while looking around, at the desk and anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from curate.agreement import read_gold
from curate.journal import AnyEvent, Label
from curate.label import Assignment, is_hidden, questions_of
from curate.record import CurateError, Json
from curate.workspace import State, inside

if TYPE_CHECKING:
    from curate.workshop import Workshop

_NOTHING: Mapping[str, Json] = MappingProxyType({})


class Blind:
    """Hides what others answered from an annotator who is still asked the same, and from nobody else."""

    def __init__(self, workshop: Workshop) -> None:
        """Read who is asked what.

        Raises:
            CurateError: E902 for questions or known answers that cannot be used; E904 and E914 for their file.
        """
        settings, root = workshop.workspace.settings, workshop.root
        label = settings.label
        known = read_gold(inside(root, root / label.gold), root) if label.gold else {}
        self._by = workshop.by
        self.assignments = {
            question.name: Assignment(
                tuple(label.annotators),
                label.overlap,
                frozenset(known.get(question.name, ())),
                settings.split.seed or 0,
            )
            for question in questions_of(settings)
        }
        """By question, who is asked about which record."""

    def hides(self, state: State, question: str) -> bool:
        """Whether the annotator must not see what others answered to ``question``, nor what came of it."""
        return is_hidden(state, question, self._by) and self.still_asks(state, question)

    def still_asks(self, state: State, question: str) -> bool:
        """Whether the record asks the annotator ``question``, whatever others have answered."""
        assignment = self.assignments.get(question)
        if assignment is None or state.resolved.get(question) is not None:
            return False
        return assignment.is_asked(state.record.id, self._by, state.answers.get(question, _NOTHING))

    def answers(self, state: State, question: str) -> Mapping[str, Json]:
        """Return the answers to ``question`` that the annotator may see, by who gave them."""
        return _NOTHING if self.hides(state, question) else state.answers.get(question, _NOTHING)


def hides_event(workshop: Workshop, event: AnyEvent) -> bool:
    """Whether ``event`` must not be told in full to the workshop's annotator: somebody else's answer, also an old one.

    Raises:
        CurateError: as `Blind`.
    """
    if not isinstance(event, Label) or event.by == workshop.by:
        return False
    try:
        state = workshop.state(event.id)
    except CurateError:
        # The record is no more, and asks nobody.
        return False
    return blind_of(workshop).still_asks(state, event.question)


_known: WeakKeyDictionary[Workshop, Blind] = WeakKeyDictionary()


def blind_of(workshop: Workshop) -> Blind:
    """Return the one `Blind` of a workshop.

    Raises:
        CurateError: as `Blind`.
    """
    found = _known.get(workshop)
    if found is None:
        found = _known[workshop] = Blind(workshop)
    return found
