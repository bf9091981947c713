"""The proof of a check: its own examples, which it must pass and report, and how often it fires on clean records.

Ours are proved by it in the tests, and a user's by `curate rule --test`. A good example gives no problem; a bad one
gives some, each at a place that is there; and both are lines that their schema allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from curate.base.record import Finding, Json, Problem, Record, Source
from curate.checks import Check, Doubt, SharedText, Sketches, TokenLengths, texts
from curate.jsonl import parts_of
from curate.schema import Shape, load_shape
from curate.schema.settings import Settings

# The shipped shape of an example by a key of its line; any other is an instruction.
_SHAPES = {
    "chosen": "preference",
    "answers": "preference",
    "liked": "preference",
    "messages": "chat",
    "text": "domain",
    "context": "domain",
}
_shape = cache(load_shape)
_SUBJECTS = {"lengths": TokenLengths, "pair": SharedText, "doubt": Doubt}


@dataclass(frozen=True, slots=True)
class Trial:
    """One example of a check, counted from 1, and what is wrong with it; empty where it holds."""

    kind: Literal["good", "bad", "check"]
    number: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Firing:
    """On how many records a check was tried, and where it fired: once a record; a check of the set, once a problem."""

    num_records: int
    firings: tuple[tuple[str, int, str], ...]
    """File, line and message."""
    num_unreadable: int = 0
    """Lines that are no records, which no check has looked at."""

    @property
    def per_1000(self) -> float:
        """How often it fires for each 1,000 records."""
        return 1000 * len(self.firings) / self.num_records if self.num_records else 0.0


def shape_of(line: Json) -> Shape:
    """Return the shipped shape of an example's line."""
    return _shape(next((name for key, name in _SHAPES.items() if key in line), "instruction"))


def record_of(line: Json, number: int = 1) -> Record:
    """Return the line of an example as a record."""
    return shape_of(line).record(line, Source("data.jsonl", number))


def problems(check: Check, example: Json, settings: Settings | None = None) -> list[Problem]:
    """Return what a check says of one of its examples, by its own settings unless others are given."""
    chosen = settings or check.settings
    match check.kind:
        case "dataset":
            sketches = Sketches.of(record_of(line, number) for number, line in enumerate(example, 1))
            return [reported.problem for reported in check.run(sketches, chosen)]
        case "record":
            return list(check.run(record_of(example), chosen))
        case kind:
            return list(check.run(_SUBJECTS[kind](**example), chosen))


def trials(check: Check) -> Iterator[Trial]:
    """Yield each example of a check with what is wrong with it, the good ones first; to have none is a fault."""
    for kind, examples in (("good", check.good), ("bad", check.bad)):
        if not examples:
            yield Trial("check", 1, f"it has no {kind} example")
        for number, example in enumerate(examples, 1):
            yield Trial("good" if kind == "good" else "bad", number, _fault(check, example, is_good=kind == "good"))


def _fault(check: Check, example: Json, *, is_good: bool) -> str:
    try:
        lines = {"record": [example], "dataset": example}.get(check.kind, [])
        for line in lines:
            if not shape_of(line).is_valid(line):
                return f"the schema {shape_of(line).name} refuses it: {shape_of(line).problems(line)[0].message}"
        results = problems(check, example)
        if is_good:
            return f"it is reported: {results[0].message}" if results else ""
        if not results:
            return "it is not reported"
        lost = [
            problem.pointer for problem in results if check.kind == "record" and not _is_there(example, problem.pointer)
        ]
        return f"nothing is at the pointer {lost[0]!r} of its problem" if lost else ""
    except Exception as error:  # noqa: BLE001  a user's check fails in any way
        return f"the check ends with {type(error).__name__}: {error}"


def _is_there(example: Json, pointer: str) -> bool:
    if pointer in dict(texts(record_of(example))):
        return True
    value = example
    try:
        for part in parts_of(pointer):
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (KeyError, IndexError, ValueError, TypeError):
        return False
    return True


def firing(check: Check, records: Iterable[Record | Finding], settings: Settings) -> Firing:
    """Count on how many of ``records`` a check fires, and how many lines are no records.

    Raises:
        Exception: whatever the check ends with.
    """
    # Checks of lengths, pairs and suspect labels need more than records, and fire nowhere.
    sketches, firings, num_records, num_unreadable = Sketches(), [], 0, 0
    for record in records:
        if isinstance(record, Finding):
            num_unreadable += bool(record.line and record.severity == "error")
            continue
        num_records += 1
        if check.kind == "dataset":
            sketches.add(record)
        if check.kind == "record" and (problem := next(iter(check.run(record, settings)), None)):
            firings.append((record.source.file, record.source.line, problem.message))
    if check.kind == "dataset":
        reports = check.run(sketches, settings)
        firings += [(reported.file, reported.line, reported.problem.message) for reported in reports]
    return Firing(num_records, tuple(firings), num_unreadable)
