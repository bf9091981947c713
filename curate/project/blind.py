"""Blinding: nobody sees another's answer to a question before they have answered it, or are not asked it any more.

The rule (`Blind`) and what follows from it for events, findings, records and states stand here once, so that no screen
and no verb can decide otherwise. What a record's line says, also after an edit, is nobody's answer: everybody sees it.
Known answers (gold) are read here as well, because who is asked about such a record follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from curate.base.console import one_line
from curate.base.file_guard import inside
from curate.base.record import CurateError, Finding, Json
from curate.jsonl import Entry, read_entries
from curate.project.data import ProjectData
from curate.project.fold import RecordState
from curate.project.journal import ASIDES, CATEGORY, annotator
from curate.project.labels import AnnotatorAssignment, questions_of
from curate.schema import Shape
from curate.schema.settings import Settings

HIDDEN = "(hidden)"  # The word for what somebody else has answered, to those who are still asked for theirs.
UNSEEN = ""  # What stands for each answer that must not be seen: that somebody has answered is no secret.
_PER_RECORD = frozenset({"L404", "L405"})  # Checks whose findings say which category a record has.
# Checks of what a category asks for: that a record fails one tells which category it has, whatever is said of it.
# So does what has to be approved.
_OF_CONTRACT = frozenset({"Q210", "Q211", "Q212", "Q213", "L406"})
# Checks whose findings say how many records a category has, or how long they are.
_OF_ALL = frozenset({"B801", "B802", "P502"})
# Checks whose findings can tell which category others gave a record.
ON_CATEGORIES = _PER_RECORD | _OF_CONTRACT | _OF_ALL
_NOTHING: Mapping[str, Json] = MappingProxyType({})
# By record id, the answer that is known to be right.
Gold = Mapping[str, Json]

_KEYS = {"id", "question", "value"}
_FORM = 'Each line reads {"id": "r001", "question": "category", "value": "billing"}; each record once a question.'


class Blind:
    """Hides what others answered from an annotator who is still asked the same, and from nobody else."""

    def __init__(
        self, by: str, assignments: Mapping[str, AnnotatorAssignment] | None, fault: CurateError | None = None
    ) -> None:
        """Hide from ``by``; ``assignments`` says by question who is asked about which record.

        None stands for assignments that nobody knows, ``fault`` says why: every record that an annotator has not
        answered may then ask them, and they see nothing of it.
        """
        self.by = by
        self.fault = fault
        self._assignments = assignments

    @property
    def assignments(self) -> Mapping[str, AnnotatorAssignment]:
        """By question, who is asked about which record.

        Raises:
            CurateError: E902 for questions or known answers that cannot be used; E904 and E914 for their file.
        """
        if self.fault is not None:
            raise self.fault
        return self._assignments or {}

    def still_asks(self, state: RecordState, question: str) -> bool:
        """Whether the record asks the annotator ``question``, whatever others have answered."""
        if not self._is_open(state, question):
            return False
        if self._assignments is None:
            return True
        assignment = self._assignments.get(question)
        given = state.answers.get(question, _NOTHING)
        return assignment is not None and assignment.is_assigned(state.record.id, self.by, given)

    def hides(self, state: RecordState, question: str) -> bool:
        """Whether the annotator must not see what others answered to ``question``, nor what came of it."""
        return bool(state.answers.get(question)) and self.still_asks(state, question)

    def hidden(self, state: RecordState) -> frozenset[str]:
        """Return the questions about the record whose answers the annotator must not see."""
        return frozenset(question for question in state.answers if self.hides(state, question))

    def answers(self, state: RecordState, question: str) -> Mapping[str, Json]:
        """Return what the annotator may see of the answers to the record that lies before them: all or nothing."""
        # An annotator with a record before them is about to answer it, asked or not.
        return _NOTHING if self._is_open(state, question) else state.answers.get(question, _NOTHING)

    def redacted(self, state: RecordState, shape: Shape) -> RecordState:
        """Return ``state`` with `UNSEEN` for each answer that is hidden, and without what is agreed because of it.

        The category and the labels are then those that the record's line says.
        """
        hidden = self.hidden(state)
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

    def _is_open(self, state: RecordState, question: str) -> bool:
        """Whether the annotator has not answered and nobody has settled it; flags and notes are no answers."""
        is_answered = state.answers.get(question, _NOTHING).get(self.by) is not None
        return not is_answered and state.resolved.get(question) is None and question not in ASIDES


def blind_in(data: ProjectData, by: str) -> Blind:
    """Return what hides others' answers from ``by``.

    Where questions or known answers cannot be used, nobody knows who is asked what. Then everything that ``by`` has not
    answered is hidden, and `Blind.fault` has the error: E902, or E904 and E914 for the file of known answers.
    """
    path = data.settings.label.gold
    try:
        known = read_gold(inside(data.root, data.root / path), data.root) if path else {}
        return Blind(by, _assignments(data.settings, known))
    except CurateError as error:
        return Blind(by, None, error)


def _assignments(settings: Settings, known: Mapping[str, Collection[str]]) -> Mapping[str, AnnotatorAssignment]:
    """Return by question who is asked what; ``known`` has, by question, the records whose answer is known."""
    label, seed = settings.label, settings.split.seed or 0
    return {
        question.name: AnnotatorAssignment(
            tuple(label.annotators), label.overlap, frozenset(known.get(question.name, ())), seed
        )
        for question in questions_of(settings)
    }


def looker() -> str:
    """Return who looks; "" where nobody knows: only a person who decides needs a name."""
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


def read_gold(path: Path, root: Path) -> dict[str, Gold]:
    """Return, by question, the known answer to each record of ``path``, a JSON Lines file below ``root``.

    Raises:
        CurateError: E904 when it is missing or may not be read; E902 when a line is not
            ``{"id": text, "question": text, "value": anything but null}``, or answers what another line has answered.
    """
    answers_by_question: dict[str, dict[str, Json]] = {}
    for item in read_entries(path, root=root):
        if isinstance(item, Finding):
            if item.severity == "error":
                raise _bad_gold(path, item.line, item.message, item.fix if item.code == "S127" else _FORM)
            continue
        name, question, value = _answer(path, item)
        answers = answers_by_question.setdefault(question, {})
        if name in answers:
            raise _bad_gold(
                path, item.line.source.line, f"record {one_line(name, 60)} is answered on an earlier line too"
            )
        answers[name] = value
    return dict(answers_by_question)


def _answer(path: Path, entry: Entry) -> tuple[str, str, Json]:
    value, number = entry.value, entry.line.source.line
    if value.keys() != _KEYS:
        raise _bad_gold(path, number, f"has the keys {one_line(', '.join(value) or '(none)', 80)}")
    for key in ("id", "question"):
        if not isinstance(value[key], str) or not value[key]:
            raise _bad_gold(path, number, f"/{key} is no text")
    if value["value"] is None:
        raise _bad_gold(path, number, "/value is null, which is no answer")
    return value["id"], value["question"], value["value"]


def _bad_gold(path: Path, line: int, message: str, hint: str = _FORM) -> CurateError:
    location = f"{path}:{line}" if line else str(path)
    return CurateError("E902 bad-settings", f"label.gold: {location}: {message}", hint)
