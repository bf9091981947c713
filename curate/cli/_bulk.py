"""Decisions on all records that a filter lets through, as one act: what is decided on which, and what is said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Json
from curate.base.tables import counted
from curate.cli._visible import findings_for, let_through, visible_states

if TYPE_CHECKING:
    from curate.base.events import Decision
    from curate.project.fold import RecordState
    from curate.project.project import Project

# Records that a dry run shows.
_NUM_EXAMPLES = 5
# What is not decided on, and why.
_SAME, _OTHERS, _OPEN = (
    "so already",
    "others have answered, or it is settled",
    "others have answered, you are still asked",
)


def pairs_of(texts: Sequence[str], option: str = "--set") -> dict[str, str]:
    """Return what was given as NAME=VALUE, each name once."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or name.strip() in pairs:
            why = "is there twice" if name.strip() in pairs else "is not NAME=VALUE"
            raise click.BadParameter(f"{console.one_line(text, 60)!r} {why}", param_hint=option)
        pairs[name.strip()] = value.strip()
    return pairs


def root_alone(words: Sequence[str]) -> Path:
    """Return the workspace of a call that names records by a filter: its one word, or this folder."""
    if len(words) > 1:
        raise click.UsageError("with --where name the workspace alone, no ids.")
    return Path(*words)


def states_where(project: Project, where: str) -> list[RecordState]:
    """Return the records that a filter lets through, as `Project.by` may see them.

    Dropped ones are among them where the filter asks for a status.

    Raises:
        CurateError: E971 for a filter that cannot be read.
    """
    from curate.project.filters import parse_filter

    wanted = parse_filter(where)
    if not wanted.terms:
        raise click.BadParameter("it lets every record through; id:* says so", param_hint="--where")
    findings = findings_for(project, wanted)
    states: Iterator[RecordState] = iter(visible_states(project.data, show_values=False, by=project.by))
    if not wanted.asks_about("status"):
        states = (state for state in states if state.dropped is None)
    matching = list(let_through(project, wanted, states, findings))
    if not matching:
        console.talk("no record matches the filter")
    return matching


def answer_where(project: Project, where: str, answers: Mapping[str, str], *, dry_run: bool) -> None:
    """Give the annotator's own answers to all records that ``where`` lets through, "" takes one back.

    What others have answered, or somebody has settled, is left alone.
    """
    from curate.base.events import Label
    from curate.project.labels import question_of, questions_of

    questions = questions_of(project.settings)
    for name, value in answers.items():
        known = question_of(questions, name).values
        if value and known and value not in known:
            hint = f"{console.one_line(value, 40)!r} is no answer to {name}; there are: {', '.join(known)}"
            raise click.BadParameter(console.one_line(hint, 300), param_hint="--set")
    decisions: list[Decision] = []
    examples: list[list[str]] = []
    left: Counter[str] = Counter()
    for state in states_where(project, where):
        for name, value in answers.items():
            given = state.answers.get(name, {})
            before = given.get(project.by)
            if given.keys() - {project.by} or state.resolved.get(name) is not None:
                left[_OTHERS] += 1
            elif before == (value or None):
                left[_SAME] += 1
            else:
                decisions.append(Label(state.record.id, name, value or None))
                examples.append(_change(state, name, before, value or None))
    _save(project, decisions, examples, left, "answered", dry_run=dry_run)


def recategorise_where(project: Project, where: str, category: str, *, dry_run: bool) -> None:
    """Give all records that ``where`` lets through another category, and say where the settings name the old ones.

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
    decisions: list[Decision] = []
    examples: list[list[str]] = []
    left: Counter[str] = Counter()
    old: Counter[str] = Counter()
    for state in states_where(project, where):
        before = state.record.category
        if UNSEEN in state.answers.get(CATEGORY, {}).values():
            left[_OPEN] += 1
        elif before == category:
            left[_SAME] += 1
        else:
            changes: dict[str, Json] = {path[0]: deepcopy(at(state.record.data, path[:1]))} if path[1:] else {}
            put(changes, path, category)
            decisions.append(Edit(state.record.id, changes))
            examples.append(_change(state, CATEGORY, before, category))
            old[before] += 1
    _save(project, decisions, examples, left, "edited", dry_run=dry_run)
    if decisions:
        _tell_settings(project, sorted(filter(None, old)), category)


def _change(state: RecordState, name: str, before: Json, after: Json) -> list[str]:
    """Return the lines of a diff."""
    sides = [("-", before), ("+", after)]
    return [state.record.id, *(f"{sign} {name}: {value}" for sign, value in sides if value)]


def _save(
    project: Project, decisions: Sequence[Decision], examples: Sequence[Sequence[str]], left: Mapping[str, int],
    done: str, *, dry_run: bool,
) -> None:  # fmt: skip
    """Save ``decisions`` as one act, or say what they would be."""
    if dry_run:
        for line in chain.from_iterable(examples[:_NUM_EXAMPLES]):
            console.data(console.one_line(line, 120))
    elif decisions:
        project.apply(decisions)
    for why, number in left.items():
        console.talk(f"left alone: {counted(number, 'record')} ({why})")
    number = len({decision.id for decision in decisions})
    console.data(f"{'would be ' if dry_run else ''}{done}: {counted(number, 'record')}")
    console.talk("nothing was written" if dry_run or not decisions else "`curate undo` takes it back")


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
