"""Answers that people gave in another tool: they become decisions under their names, and questions of the workspace."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import tomlkit
from tomlkit.items import Array

from curate.base.events import Decision, Edit, Label
from curate.base.record import Json
from curate.formats.importers import GivenAnswer
from curate.project.journal import ASIDES
from curate.project.project import open_project
from curate.project.proposals import machine_in
from curate.schema.settings import Question

# A question with more different answers, or with a longer one, takes any text.
_MOST_VALUES = 30
_LONGEST_VALUE = 60

# By record id, what annotators answered.
AnswersByRecord = Mapping[str, Sequence[GivenAnswer]]


def save_answers(root: Path, answers: Sequence[AnswersByRecord]) -> Counter[str]:
    """Save answers as decisions of their annotators, and return by annotator how many were saved.

    Whoever has answered a question about a record here keeps that answer: the same file again saves nothing.

    Raises:
        CurateError: as `open_project` and `Project.apply`.
    """
    by_annotator: dict[str, list[tuple[str, GivenAnswer]]] = defaultdict(list)
    for name, given in chain.from_iterable(by_record.items() for by_record in answers):
        for answer in given:
            by_annotator[answer.annotator].append((name, answer))
    counts: Counter[str] = Counter()
    for annotator, pairs in sorted(by_annotator.items()):
        with open_project(root, annotator) as project:
            decisions: dict[tuple[str, str], Decision] = {}
            for name, answer in pairs:
                question = question_name(answer.question)
                state = project.data.state(name)
                # What has lapsed is not said of the present texts by reading it once more.
                is_lapsed = state is not None and ("answer", question, annotator) in state.lapsed
                if state is None or not (is_lapsed or annotator in state.answers.get(question, {})):
                    decisions[name, question] = Label(name, question, answer.value, at=_moment(answer.at))
            if decisions:
                project.apply([*decisions.values()])
                counts[annotator] = len(decisions)
    return counts


def mark_written(root: Path) -> None:
    """Have the journal say of records whose answers a model wrote elsewhere that they are by that model.

    Raises:
        CurateError: as `open_project` and `Project.apply`.
    """
    with open_project(root) as project:
        # It changes nothing: an edit is what says who wrote a line.
        marks = [
            Edit(
                one.id,
                {"id": one.data.get("id")},
                {"model": str(one.meta["written_by"]), "text": str(one.messages[-1].get("content") or "")},
            )
            for one in project.data.records()
            if one.messages and "written_by" in one.meta and not machine_in(project.data.decisions.facts(one.id))
        ]
        project.apply(marks)


def questions_in(answers: Sequence[AnswersByRecord]) -> list[Question]:
    """Return the questions that were answered, with the answers to choose from where they are few and short."""
    values: dict[str, list[Json]] = defaultdict(list)
    for answer in (answer for by_record in answers for given in by_record.values() for answer in given):
        values[question_name(answer.question)].append(answer.value)
    return [Question(name=name, values=_choices(given)) for name, given in sorted(values.items())]


def questions_array(questions: Sequence[Question]) -> Array:
    """Return what ``label.questions`` in curate.toml says to ask ``questions``."""
    array = tomlkit.array()
    for question in questions:
        table = tomlkit.inline_table()
        table.update({"name": question.name} | ({"values": question.values} if question.values else {}))
        array.append(table)
    return array


def question_name(name: str) -> str:
    """Return what a question is called here, where notes and flags are no questions."""
    return f"{name}-answer" if name in ASIDES else name or "answer"


def _choices(given: Sequence[Json]) -> list[str]:
    parts = [part for value in given for part in (value if isinstance(value, list) else [value])]
    texts = sorted({part for part in parts if isinstance(part, str)})
    is_short = all(len(text) <= _LONGEST_VALUE and "\n" not in text for text in texts)
    # Where hardly any is given twice, they are texts of the annotators' own.
    is_closed = is_short and len(texts) <= min(_MOST_VALUES, max(2, len(parts) // 2))
    return texts if is_closed and all(isinstance(part, str) for part in parts) else []


def _moment(at: str) -> str:
    """Return a time as events have it, "" for one that cannot be read."""
    try:
        moment = datetime.fromisoformat(at)
        # A time without a zone is taken for one of Greenwich, as these tools write it.
        moment = moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return ""
    return f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}Z"
