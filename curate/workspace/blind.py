"""A workspace as an annotator may see it: without what others answered to what they are still asked."""

from __future__ import annotations

from dataclasses import replace

from curate.agreement import read_gold
from curate.journal import annotator
from curate.label import CATEGORY, Blind, blind_for
from curate.record import CurateError
from curate.shape import Shape
from curate.workspace import State, Workspace, inside

UNSEEN = ""
"""What stands for each answer that must not be seen: that somebody has answered is no secret."""


def blind_in(workspace: Workspace, by: str) -> tuple[Blind, CurateError | None]:
    """Return what hides others' answers from ``by``.

    Where questions or known answers cannot be used, nobody knows who is asked what: then everything that ``by`` has not
    answered is hidden, and the error comes with it: E902, or E904 and E914 for the file of known answers.
    """
    path = workspace.settings.label.gold
    try:
        known = read_gold(inside(workspace.root, workspace.root / path), workspace.root) if path else {}
        return blind_for(workspace.settings, by, known), None
    except CurateError as error:
        return Blind(by, None), error


def looker() -> str:
    """Return who looks; "" where nobody knows: only whoever decides needs a name."""
    try:
        return annotator()
    except CurateError:
        return ""


def as_seen(state: State, blind: Blind, shape: Shape) -> State:
    """Return ``state`` with `UNSEEN` for each answer that ``blind`` hides, and without what is agreed because of it.

    The category and the labels are then those that the record's line says.
    """
    hidden = blind.hidden(state)
    if not hidden:
        return state
    record = state.record
    line = shape.record(record.data, record.source)
    labels = {question: value for question, value in record.labels.items() if question not in hidden}
    labels |= {question: line.labels[question] for question in hidden & line.labels.keys()}
    seen = replace(record, labels=labels, category=line.category if CATEGORY in hidden else record.category)
    answers = {
        question: dict.fromkeys(given, UNSEEN) if question in hidden else given
        for question, given in state.answers.items()
    }
    return replace(state, record=seen, answers=answers)
