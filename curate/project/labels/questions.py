"""What annotators are asked, with the values to choose from."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from curate.base.console import one_line
from curate.base.record import CurateError
from curate.project.journal import ASIDES
from curate.schema.settings import Question, Settings

CATEGORY = "category"
"""The question whose answer is the record's category."""

_ASK = "Which category is it?"


def questions_of(settings: Settings, categories: Collection[str] = ()) -> list[Question]:
    """Return the questions of a workspace, each with its values; none of them leaves any text as an answer.

    Without questions of its own a workspace asks for the category. Its values are the known categories, and where none
    is known those that are ``categories`` in the data.

    Raises:
        CurateError: E902 for a question that is called as notes or flags are.
    """
    questions = settings.label.questions or [Question(name=CATEGORY, ask=_ASK)]
    for question in questions:
        if question.name in ASIDES:
            hint = f"{' and '.join(sorted(ASIDES))} are kept for what annotators say about a record."
            raise CurateError("E902 bad-settings", f"label.questions: {question.name!r} is no name for one", hint)
    known: Sequence[str] = [*settings.categories] or sorted(categories)
    return [
        question.model_copy(update={"values": list(known)})
        if question.name == CATEGORY and not question.values
        else question
        for question in questions
    ]


def question_of(questions: Sequence[Question], name: str) -> Question:
    """Return the question called ``name``, the first one where it is empty.

    Raises:
        CurateError: E902 when there is none.
    """
    match = next((question for question in questions if name in ("", question.name)), None)
    if match is None:
        known = ", ".join(one_line(question.name, 40) for question in questions)
        raise CurateError("E902 bad-settings", f"there is no question {name!r}", f"There are: {known}.")
    return match
