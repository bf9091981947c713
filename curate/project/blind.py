"""A workspace as an annotator may see it: without what others answered to what they are still asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from curate.base.record import CurateError, Finding
from curate.project.data import ProjectData, RecordState, inside
from curate.project.gold import read_gold
from curate.project.journal import annotator
from curate.project.labels import CATEGORY, Blind, blind_for
from curate.schema import Shape

UNSEEN = ""
"""What stands for each answer that must not be seen: that somebody has answered is no secret."""
_PER_RECORD = frozenset({"L404", "L405"})
"""Checks whose findings say which category a record has."""
_OF_CONTRACT = frozenset({"Q210", "Q211", "Q212", "Q213"})
"""Checks of what a category asks for: that a record fails one tells which category it has, whatever is said of it."""
_OF_ALL = frozenset({"B801", "B802", "P502"})
"""Checks whose findings say how many records a category has, or how long they are."""
ON_CATEGORIES = _PER_RECORD | _OF_CONTRACT | _OF_ALL
"""Checks whose findings can tell which category others gave a record."""


def blind_in(data: ProjectData, by: str) -> tuple[Blind, CurateError | None]:
    """Return what hides others' answers from ``by``.

    Where questions or known answers cannot be used, nobody knows who is asked what: then everything that ``by`` has not
    answered is hidden, and the error comes with it: E902, or E904 and E914 for the file of known answers.
    """
    path = data.settings.label.gold
    try:
        known = read_gold(inside(data.root, data.root / path), data.root) if path else {}
        return blind_for(data.settings, by, known), None
    except CurateError as error:
        return Blind(by, None), error


def looker() -> str:
    """Return who looks; "" where nobody knows: only whoever decides needs a name."""
    try:
        return annotator()
    except CurateError:
        return ""


def redacted_finding(
    finding: Finding, is_hidden: Callable[[str], bool], has_hidden: Callable[[], bool]
) -> Finding | None:
    """Return a finding as an annotator may see it: without its words, or not at all, where it tells a hidden category.

    ``is_hidden`` says whether they must not see the category of the record with an id, ``has_hidden`` whether there is
    any such record. Findings that are not seen are counted all the same: whether data pass is the same for everybody.
    """
    if finding.code in _OF_ALL:
        words = "about the categories of all records: shown once you have answered"
        return replace(finding, message=words) if has_hidden() else finding
    if finding.code not in ON_CATEGORIES or not finding.record or not is_hidden(finding.record):
        return finding
    words = "about its category: shown once you have answered"
    return replace(finding, message=words, pointer="") if finding.code in _PER_RECORD else None


def redacted_state(state: RecordState, blind: Blind, shape: Shape) -> RecordState:
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
    visible = replace(record, labels=labels, category=line.category if CATEGORY in hidden else record.category)
    answers = {
        question: dict.fromkeys(given, UNSEEN) if question in hidden else given
        for question, given in state.answers.items()
    }
    return replace(state, record=visible, answers=answers)
