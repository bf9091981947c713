"""A record with what its repeats know and it does not: labels, metadata, fields that it leaves empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

from curate.base.events import Decision, Edit, Label
from curate.base.record import Json
from curate.jsonl import pointer_of
from curate.project.fold import RecordState
from curate.schema import Shape
from curate.schema.view import at, put

_JOINED = ("meta", "labels")
_OWN = ("id", "split", "ignore", "system", "completion", "messages", "tools", "text")
"""What a record is and says stays its own: a merge takes over what is said about it."""
_EMPTY: tuple[Json, ...] = (None, "", [], {})


@dataclass(frozen=True, slots=True)
class Merge:
    """The decisions on the record that stays, and what they come to.

    ``taken`` names what was taken over, ``refused`` what the schema does not allow there, ``differing`` where both had
    a value, of which the one of the record that stays was kept, and ``open`` questions that the others disagree on.
    """

    keeper: str
    decisions: list[Decision]
    taken: list[str]
    refused: list[str]
    differing: list[str]
    open: list[str]


def merged(keeper: RecordState, others: Sequence[RecordState], shape: Shape) -> Merge:
    """Return what ``keeper`` takes over from ``others``, the first one that has it first.

    Metadata and labels of the line are joined key by key, and lists in them item by item; other keys of the line are
    taken where the keeper has none or an empty value, but never what a record says. Answers to label questions are
    taken where the keeper has none, as answers of whoever merges.
    """
    result = Merge(keeper.record.id, [], [], [], [], [])
    line: dict[str, Json] = deepcopy(dict(keeper.record.data))
    for other in others:
        for path, value in list(_offers(line, dict(other.record.data), shape, result)):
            draft = deepcopy(line)
            if _is_open(draft, path):
                put(draft, path, value)
            if draft != line and shape.is_valid(draft):
                line = draft
                result.taken.append(pointer_of(path))
            else:
                result.refused.append(pointer_of(path))
    changes = {key: value for key, value in line.items() if keeper.record.data.get(key) != value}
    if changes:
        result.decisions.append(Edit(keeper.record.id, changes))
    result.decisions.extend(_answers(keeper, others, result))
    return result


def _is_open(line: Json, path: Sequence[str]) -> bool:
    """Whether objects, or nothing, lead to ``path``."""
    return all(at(line, path[:depth]) is None or isinstance(at(line, path[:depth]), dict) for depth in range(len(path)))


def _offers(
    line: dict[str, Json], other: dict[str, Json], shape: Shape, result: Merge
) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Yield the place and the new value of what ``other`` knows and ``line`` does not, as far as now."""
    view = shape.view.paths if shape.view else {}
    prompt = shape.view.prompt if shape.view else []
    joined = [tuple(view[name]) for name in _JOINED if name in view]
    own = {path[0] for path in (*(view[name] for name in _OWN if name in view), *prompt)}
    for path in joined:
        yield from _joins(at(line, path), at(other, path), path, result)
    for key, value in other.items():
        if key in own or any(path[0] == key for path in joined) or value in _EMPTY:
            continue
        if line.get(key) in _EMPTY:
            yield (key,), value
        elif line[key] != value:
            result.differing.append(pointer_of((key,)))


def _joins(mine: Json, theirs: Json, path: tuple[str, ...], result: Merge) -> Iterator[tuple[tuple[str, ...], Json]]:
    if theirs in _EMPTY or mine == theirs:
        return
    if mine in _EMPTY:
        yield path, theirs
    elif isinstance(mine, dict) and isinstance(theirs, dict):
        for key, value in theirs.items():
            yield from _joins(mine.get(key), value, (*path, key), result)
    elif isinstance(mine, list) and isinstance(theirs, list):
        if more := [item for item in theirs if item not in mine]:
            yield path, [*mine, *more]
    else:
        result.differing.append(pointer_of(path))


def _answers(keeper: RecordState, others: Sequence[RecordState], result: Merge) -> Iterator[Decision]:
    """Yield the answers that the others agree on, to questions that nobody has answered for the keeper."""
    known = {name: keeper.record.labels.get(name) for name in (*keeper.answers, *keeper.resolved)}
    for other in others:
        for question in dict.fromkeys((*other.answers, *other.resolved)):
            value = other.record.labels.get(question)
            if value is None or question in other.disagreements():
                result.open.append(question)
                continue
            if question in known:
                if value != known[question]:
                    result.differing.append(f"label {question}")
                continue
            known[question] = value
            result.taken.append(f"label {question}")
            yield Label(keeper.record.id, question, value)
