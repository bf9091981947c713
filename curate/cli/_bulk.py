"""Decisions on many records as one act: which records a call names, what is decided, and what is said of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Json
from curate.base.tables import counted, listed
from curate.cli._visible import visible_states

if TYPE_CHECKING:
    from curate.base.events import Decision
    from curate.project.fold import RecordState
    from curate.project.project import Project

# Records that a dry run shows, and ids that a message names.
_NUM_EXAMPLES = 5
_SAME, _OTHERS = "left alone, so already", "left alone, others have answered or it is settled"
_OPEN = "left alone, others have answered and you are still asked"


@dataclass(slots=True)
class BulkAct:
    """What a call decides on many records: the decisions, what they change as lines of a diff, and what is left."""

    decisions: list[Decision] = field(default_factory=list)
    changes: list[list[str]] = field(default_factory=list)
    left: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By reason, the ids of the records on which nothing is decided."""

    def change(self, decision: Decision, name: str, before: Json, after: Json) -> None:
        """Take in a decision that changes what is called ``name``."""
        self.decisions.append(decision)
        sides = [("-", before), ("+", after)]
        self.changes.append([decision.id, *(f"{sign} {name}: {value}" for sign, value in sides if value)])

    def save(self, project: Project, done: str, *, dry_run: bool) -> None:
        """Save the decisions, or say what they would be; then say what was done and what was left."""
        if self.decisions and not dry_run:
            project.apply(self.decisions)
        for line in (line for change in self.changes[:_NUM_EXAMPLES] if dry_run for line in change):
            console.data(console.one_line(line, 120))
        for why, names in self.left.items():
            console.talk(f"{why}: {listed_records(names)}")
        if self.decisions:
            names = [decision.id for decision in self.decisions]
            console.data(f"{'would be ' if dry_run else ''}{done}: {listed_records(names)}")
        console.talk("nothing was written" if dry_run or not self.decisions else "`curate undo` takes it back")


def listed_records(names: Sequence[str]) -> str:
    """Return how many records there are, and the first of their ids, each once."""
    names = list(dict.fromkeys(names))
    examples = listed(names, _NUM_EXAMPLES, partial(console.one_line, limit=60))
    return f"{counted(len(names), 'record')} ({examples})"


def pairs_of(texts: Sequence[str]) -> dict[str, str]:
    """Return what was given as NAME=VALUE, each name once."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not name or name in pairs:
            why = "is there twice" if name in pairs else "is not NAME=VALUE"
            raise click.BadParameter(f"{console.one_line(text, 60)!r} {why}", param_hint="--set")
        pairs[name] = value
    return pairs


@contextmanager
def named_records(words: Sequence[str], where: str, by: str) -> Iterator[tuple[Project, list[RecordState]]]:
    """Open a workspace and yield it with the records that a call names, as ``by`` may see them.

    ``words`` are ids, the last one the workspace where it is one; with a filter ``where`` the workspace alone.

    Raises:
        CurateError: E916 for an id that no record has, E971 for a filter that cannot be read.
    """
    from curate.project.project import open_project
    from curate.schema.settings import FILE_NAME

    # click cannot have an optional argument after a list of others.
    has_root = bool(words) and (bool(where) or (Path(words[-1]) / FILE_NAME).is_file())
    ids = list(dict.fromkeys(words[: len(words) - has_root]))
    if where and ids:
        raise click.UsageError("with --where name the workspace alone, no ids.")
    if not where and not ids:
        raise click.UsageError("name at least one record by its id; `curate list` shows the ids.")
    with open_project(Path(words[-1]) if has_root else Path(), by) as project:
        if where:
            yield project, _matching(project, where)
        else:
            project.load()
            yield project, [project.blind.redacted(project.state(name), project.shape) for name in ids]


def _matching(project: Project, where: str) -> list[RecordState]:
    """Return the records that a filter lets through; dropped ones where it asks for a status."""
    from curate.project.filters import parse_filter

    wanted = parse_filter(where)
    if not wanted.terms:
        raise click.BadParameter("it lets every record through; id:* says so", param_hint="--where")
    names, is_of_status = set(project.select(wanted)), wanted.asks_about("status")
    states = visible_states(project.data, show_values=False, by=project.by)
    matching = [state for state in states if state.record.id in names and (is_of_status or state.dropped is None)]
    if not matching:
        console.talk("no record matches the filter")
    return matching


def answer_all(project: Project, states: Sequence[RecordState], answers: Mapping[str, str], *, dry_run: bool) -> None:
    """Give the annotator's own answers to all of ``states``, "" takes one back.

    What others have answered, or somebody has settled, is left alone.
    """
    from curate.base.events import Label
    from curate.project.answers import as_answer
    from curate.project.labels import question_of, questions_of

    questions = questions_of(project.settings)
    wanted = {name: as_answer(question_of(questions, name), value or None) for name, value in answers.items()}
    for name, value in answers.items():
        known = question_of(questions, name).values
        if value and known and value not in known:
            hint = f"{console.one_line(value, 40)!r} is no answer to {name}; there are: {', '.join(known)}"
            raise click.BadParameter(console.one_line(hint, 300), param_hint="--set")
    act = BulkAct()
    for state in states:
        for name, value in answers.items():
            given = state.answers.get(name, {})
            before = given.get(project.by)
            if given.keys() - {project.by} or state.resolved.get(name) is not None:
                act.left[_OTHERS].append(state.record.id)
            elif before == wanted[name]:
                act.left[_SAME].append(state.record.id)
            else:
                act.change(Label(state.record.id, name, wanted[name]), name, before, value)
    act.save(project, "answered", dry_run=dry_run)


def recategorise_all(project: Project, states: Sequence[RecordState], category: str, *, dry_run: bool) -> None:
    """Give all of ``states`` another category, and say where the settings name the old ones.

    Where the annotator is still asked what others have answered, a record is left alone.
    """
    from curate.base.events import Edit
    from curate.project.blind import UNSEEN
    from curate.project.journal import CATEGORY
    from curate.schema.view import at, put

    path = project.shape.view.paths.get(CATEGORY) if project.shape.view else None
    if not path or not category:
        why = "the schema has no category" if category else "a category needs a name"
        raise click.BadParameter(why, param_hint="--set")
    act = BulkAct()
    old = set()
    for state in states:
        before = state.record.category
        if UNSEEN in state.answers.get(CATEGORY, {}).values():
            act.left[_OPEN].append(state.record.id)
        elif before == category:
            act.left[_SAME].append(state.record.id)
        else:
            changes: dict[str, Json] = {path[0]: deepcopy(at(state.record.data, path[:1]))} if path[1:] else {}
            put(changes, path, category)
            act.change(Edit(state.record.id, changes), CATEGORY, before, category)
            old.add(before)
    act.save(project, "edited", dry_run=dry_run)
    if act.decisions:
        _tell_settings(project, sorted(filter(None, old)), category)


def _tell_settings(project: Project, old: Sequence[str], category: str) -> None:
    """Say where files of settings name a category that records were taken out of, and whether they know the new one."""
    from curate.schema.settings import FILE_NAME, locations_of

    settings = project.settings
    for file in filter(None, (FILE_NAME, settings.recipe)):
        # A recipe that cannot be read is for who trains.
        with suppress(CurateError):
            for line, keys in locations_of(project.root / file, old):
                console.talk(console.one_line(f"{file}:{line}: {keys} names a category that records have left", 200))
    if settings.categories and category not in settings.categories:
        name = console.one_line(category, 40)
        console.talk(f"{FILE_NAME} knows no category {name}; write it under [categories], or L404 reports its records")
