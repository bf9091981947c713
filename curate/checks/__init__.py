"""The shelf of checks: each file here holds checks, and each check carries its own proof.

A *record check* looks at one record and yields problems. A *dataset check* is a class that sees a small sketch of every
record in reading order and reports at the end. Both are found by looking at the files of this folder; nothing is
listed by hand. ``good`` and ``bad`` are line objects of the shape the check reads, and tests run every one of them.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol, TypeVar

from curate.record import Json, Problem, Record, Severity
from curate.settings import Settings

RecordCheck = Callable[[Record, Settings], Iterable[Problem]]


class Sketch(NamedTuple):
    """What dataset checks know of a record; small, so that a million of them can pass from worker to parent."""

    id: str
    file: str
    line: int
    content: bytes
    """16-byte digest of the normalised system, prompt and completion."""
    prompt: bytes
    """16-byte digest of the normalised system and prompt."""
    category: str
    split: str
    source: str
    """``meta.source`` where the record names one, else the file."""
    num_chars: int
    """Length of prompt and completion together, in characters."""
    has_own_id: bool


class Place(NamedTuple):
    """A problem of a data set: the record it is shown at (file "" when it concerns the whole set)."""

    problem: Problem
    file: str = ""
    line: int = 0
    record: str = ""


class DatasetCheck(Protocol):
    """Sees every record once, in order, then reports."""

    def see(self, sketch: Sketch) -> None:
        """Take note of one record."""

    def finish(self) -> Iterator[Place]:
        """Yield what is wrong with the set as a whole."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check on the shelf: its code and name, how bad it is, how it works, and its proof.

    A dataset check's examples are lists of line objects; a record check's examples are single line objects.
    """

    code: str
    name: str
    severity: Severity
    help: str
    good: Sequence[Json]
    bad: Sequence[Json]
    on_record: RecordCheck | None = None
    on_dataset: Callable[[Settings], DatasetCheck] | None = None


DatasetCheckT = TypeVar("DatasetCheckT", bound="DatasetCheck")

_shelf: dict[str, Check] = {}


def check(
    code: str, name: str, *, severity: Severity, good: Sequence[Json], bad: Sequence[Json]
) -> Callable[[RecordCheck], RecordCheck]:
    """Put a function that yields the problems of one record on the shelf; its docstring is the help text.

    Raises:
        ValueError: the code is taken.
    """

    def put(function: RecordCheck) -> RecordCheck:
        _put(Check(code, name, severity, _help_of(function), good, bad, on_record=function))
        return function

    return put


def dataset_check(
    code: str, name: str, *, severity: Severity, good: Sequence[Json], bad: Sequence[Json]
) -> Callable[[type[DatasetCheckT]], type[DatasetCheckT]]:
    """Put a class that sees every record on the shelf; it is built with the settings, and its docstring is the help.

    Raises:
        ValueError: the code is taken.
    """

    def put(factory: type[DatasetCheckT]) -> type[DatasetCheckT]:
        _put(Check(code, name, severity, _help_of(factory), good, bad, on_dataset=factory))
        return factory

    return put


@cache
def discover() -> dict[str, Check]:
    """Import every file of this folder and return the checks by code, in order."""
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        importlib.import_module(module.name)
    return dict(sorted(_shelf.items()))


def _put(new: Check) -> None:
    if new.code in _shelf:
        raise ValueError(f"two checks claim the code {new.code}")
    _shelf[new.code] = new


def _help_of(thing: object) -> str:
    text = inspect.getdoc(thing)
    if not text:
        raise ValueError(f"{thing!r} has no docstring to explain itself with")
    return text
