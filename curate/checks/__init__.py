"""The registry of checks: each file here holds checks, and each check brings its own examples.

A *record check* looks at one record and yields problems. A *dataset check* is a class that sees a small sketch of every
record in reading order and reports at the end. A *length check* looks at how many tokens a record has for some model.
All are found by looking at the files of this folder, and at plug-ins; nothing is listed by hand. ``good`` and ``bad``
are line objects of the shape the check reads, or lengths, and tests run every one of them.

What several checks share is here too: the texts of a record with their JSON pointers (`texts`), its answers
(`turns`), the masked form in which a value may be named (`masked`), and `EqualKeys`, which finds equal keys among
millions of records in a few bytes each.
"""

from __future__ import annotations

import inspect
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from curate.base.record import Finding, Json, Problem, Record, Severity, Source
from curate.base.registry import Registry, use_plugins
from curate.checks._reading import AnswerTurn, is_blank, masked, messages_pointer, sensitive, texts, turns
from curate.jsonl import FAULTS
from curate.schema.settings import Category, Settings
from curate.schema.shape import digests_of

if TYPE_CHECKING:
    from curate.similarity.leaks import Level

__all__ = [
    "Check",
    "DatasetCheck",
    "Doubt",
    "DoubtCheck",
    "EXAMPLE_SETTINGS",
    "LengthCheck",
    "TokenLengths",
    "PairCheck",
    "DatasetProblem",
    "SharedText",
    "RecordCheck",
    "EqualKeys",
    "Sketch",
    "AnswerTurn",
    "check",
    "dataset_check",
    "discover",
    "discover_in",
    "doubt_check",
    "is_blank",
    "key_of",
    "length_check",
    "masked",
    "messages_pointer",
    "pair_check",
    "sensitive",
    "sketch_of",
    "texts",
    "turns",
]

RecordCheck = Callable[[Record, Settings], Iterable[Problem]]

PairCheck = Callable[["SharedText", Settings], Iterable[Problem]]
# The settings that every check's good and bad examples are written for.
EXAMPLE_SETTINGS = Settings(categories={"billing": Category(), "returns": Category()})
_CODE = re.compile(r"[A-Z][0-9]{3}")
_registry: Registry[Check] = Registry("checks", __name__)
_Registered = TypeVar("_Registered")
_FILTER_BITS = 1 << 25
_FILTER_MASK = _FILTER_BITS - 1


class SharedText(NamedTuple):
    """How much of an exam record stands in a training record, and where the other of the two is.

    ``coverage`` is a share in [0, 1], ``run`` the longest passage in words. ``spot`` is file:line of the record that
    no finding is at: of the benchmark's, or of the training record that an exam record of ``split`` is known from.
    """

    level: Level
    part: str
    coverage: float
    run: int
    spot: str
    split: str = ""

    @property
    def amount(self) -> str:
        """The amount in words."""
        return f"{self.level}: {self.coverage:.0%}, {self.run} words in a row"


class TokenLengths(NamedTuple):
    """A record in the tokens of some model: how many, which runs [start, stop) of them are trained, and the limit.

    ``fault`` says why the trainer's side cannot render the record at all; then there are no tokens.
    """

    tokens: int
    runs: Sequence[Sequence[int]]
    max_length: int
    fault: str = ""


class Doubt(NamedTuple):
    """A label and the one that the other records suggest instead, each with its probability out of sample."""

    given: str
    proposed: str
    given_probability: float
    proposed_probability: float


LengthCheck = Callable[[TokenLengths, Settings], Iterable[Problem]]
DoubtCheck = Callable[[Doubt, Settings], Iterable[Problem]]


class Sketch(NamedTuple):
    """What dataset checks know of a record; small, so that a million of them can pass from worker to parent."""

    id: str
    file: str
    line: int
    content: bytes
    """16-byte digest of all that the record teaches, as `curate.schema.shape` has it."""
    prompt: bytes
    """16-byte digest of the question, with roles and tools; empty where the record has none (raw text)."""
    category: str
    split: str
    source: str
    """``meta.source`` where the record names one, else the file."""
    num_chars: int
    """Length of prompt and completion together, in characters."""
    has_own_id: bool


def sketch_of(record: Record) -> Sketch:
    """Return what dataset checks need to know of ``record``."""
    question, content = digests_of(record)
    source = record.meta.get("source")
    return Sketch(
        record.id,
        record.source.file,
        record.source.line,
        content,
        question,
        record.category,
        record.split or "",
        source if isinstance(source, str) and source else record.source.file,
        len(record.prompt) + len(record.completion) + len(record.text),
        record.has_own_id,
    )


class DatasetProblem(NamedTuple):
    """A problem of a data set: the record it is shown at (file "" when it concerns the whole set)."""

    problem: Problem
    file: str = ""
    line: int = 0
    record: str = ""
    category: str = ""
    """The category that the problem is about, where it names no record."""
    other: tuple[str, int] = ("", 0)
    """File and line of the other record, where two are at odds."""
    group: bytes = b""
    """What records that are at odds have in common: the same whatever order they stand in, and in every process."""


class DatasetCheck(Protocol):
    """Sees every record once, in order, then reports."""

    def see(self, sketch: Sketch) -> None:
        """Take note of one record."""

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield what is wrong with the set as a whole."""


@dataclass(frozen=True, slots=True)
class Check:
    """One registered check: its code and name, how bad it is, how it works, and its examples.

    A dataset check's examples are lists of line objects; a record check's examples are single line objects; those of a
    length check are `TokenLengths` as objects. ``settings`` are those that the examples are written for.
    """

    code: str
    name: str
    severity: Severity
    help: str
    good: Sequence[Json]
    bad: Sequence[Json]
    on_record: RecordCheck | None = None
    on_dataset: Callable[[Settings], DatasetCheck] | None = None
    on_lengths: LengthCheck | None = None
    on_pair: PairCheck | None = None
    on_doubt: DoubtCheck | None = None
    settings: Settings = EXAMPLE_SETTINGS
    signs: tuple[re.Pattern[str], ...] = ()
    """Where there are any, one of them is found in some text of every record that the check reports."""
    speaks_if: Callable[[Settings], bool] | None = None
    """Whether the check can report anything under some settings; None where it always can."""
    is_about_ids: bool = False
    """Whether a dataset check looks at nothing but the own ids of records, which are had for a third of a sketch."""

    def finding(
        self, problem: Problem, source: Source, severity: Severity | None = None, *, record: str, column: int
    ) -> Finding:
        """Return ``problem`` as a finding of this check, of its own severity unless another is given."""
        where = source.file, source.line, column, record, problem.pointer
        return Finding(self.code, self.name, severity or self.severity, problem.message, *where)


def check(
    code: str,
    name: str,
    *,
    severity: Severity,
    good: Sequence[Json],
    bad: Sequence[Json],
    settings: Settings = EXAMPLE_SETTINGS,
    signs: tuple[re.Pattern[str], ...] = (),
    speaks_if: Callable[[Settings], bool] | None = None,
) -> Callable[[RecordCheck], RecordCheck]:
    """Register a function that yields the problems of one record; its docstring is the help text.

    ``signs`` and ``speaks_if`` (see `Check`) spare most records the call. They only save time: a record without a sign
    gives no problem anyway.

    Raises:
        ValueError: the code is taken.
    """
    return _registering(
        "on_record", code, name, severity, good, bad, settings=settings, signs=signs, speaks_if=speaks_if
    )


def dataset_check(
    code: str,
    name: str,
    *,
    severity: Severity,
    good: Sequence[Json],
    bad: Sequence[Json],
    settings: Settings = EXAMPLE_SETTINGS,
    is_about_ids: bool = False,
) -> Callable[[type[_Registered]], type[_Registered]]:
    """Register a class that sees every record (a `DatasetCheck`), built with the settings; its docstring is the help.

    Raises:
        ValueError: the code is taken.
    """
    return _registering("on_dataset", code, name, severity, good, bad, settings=settings, is_about_ids=is_about_ids)


def length_check(
    code: str, name: str, *, severity: Severity, good: Sequence[Json], bad: Sequence[Json], settings: Settings
) -> Callable[[LengthCheck], LengthCheck]:
    """Register a function that yields the problems of a record's lengths."""
    return _registering("on_lengths", code, name, severity, good, bad, settings=settings)


def pair_check(
    code: str, name: str, *, severity: Severity, good: Sequence[Json], bad: Sequence[Json]
) -> Callable[[PairCheck], PairCheck]:
    """Register a function that judges what two records share."""
    return _registering("on_pair", code, name, severity, good, bad)


def doubt_check(
    code: str, name: str, *, severity: Severity, good: Sequence[Json], bad: Sequence[Json]
) -> Callable[[DoubtCheck], DoubtCheck]:
    """Register a function that judges what a model makes of a label."""
    # It takes seconds, and an extra, to have such a model: the check runs only where its own code or name is selected.
    return _registering("on_doubt", code, name, severity, good, bad)


def _registering(
    kind: str, code: str, name: str, severity: Severity, good: Sequence[Json], bad: Sequence[Json], **more: Any
) -> Callable[[_Registered], _Registered]:
    """Return the decorator that registers a thing as the field ``kind`` of a `Check`."""

    def register(thing: _Registered) -> _Registered:
        if not (text := inspect.getdoc(thing)):
            raise ValueError(f"{thing!r} has no docstring to explain itself with")
        if not _CODE.fullmatch(code) or code in FAULTS:
            raise ValueError(f"{code!r} is no free code; a code is a capital letter and three digits, such as U001")
        fields: dict[str, Any] = {kind: thing, **more}
        _registry.add(code, Check(code, name, severity, text, good, bad, **fields))
        return thing

    return register


def discover(settings: Settings | None = None) -> dict[str, Check]:
    """Return the checks by code, in order: ours, those of installed packages, and those of the workspace's own files.

    ``settings`` say which workspace it is from now on; without them it stays the one that was asked about last.

    Raises:
        CurateError: as `curate.base.registry.Registry.all`.
    """
    if settings is not None:
        use_plugins(settings.root, settings.plugins.path)
    return _registry.all()


def discover_in(path: Path) -> dict[str, Check]:
    """Run one file of plug-ins, and return the checks in it by code.

    Raises:
        CurateError: as `curate.base.registry.Registry.of_file`.
    """
    return _registry.of_file(path)


# --- what dataset checks remember ------------------------------------------------------------------------------------


class EqualKeys:
    """Finds records with equal 64-bit keys: 12 bytes a record and 4 MB in all, however long ids and file names are."""

    # Keys and line numbers are kept for all records, names only for those that a one-hash Bloom filter cannot rule out
    # as repeats (https://doi.org/10.1145/362686.362692); an exact pass over the keys of those decides at the end.

    def __init__(self) -> None:
        self._keys = array("Q")
        self._lines = array("I")
        # Of anonymous memory the system gives only the pages that are used; a bytearray of 4 MB zeros is written whole,
        # which for the checks that have one took 12 ms of a small `curate validate`.
        self._filter = mmap(-1, _FILTER_BITS // 8)
        self._names: dict[int, str] = {}
        self._file_starts: list[int] = []
        self._files: list[str] = []

    def add(self, key: int, sketch: Sketch) -> int:
        """Take note of a record under ``key`` (taken modulo 2**64) and return its index, counted from 0."""
        index = len(self._keys)
        key &= 0xFFFF_FFFF_FFFF_FFFF
        self._keys.append(key)
        self._lines.append(sketch.line)
        if not self._files or self._files[-1] != sketch.file:
            self._file_starts.append(index)
            self._files.append(sketch.file)
        byte, mask = (key & _FILTER_MASK) >> 3, 1 << (key & 7)
        if self._filter[byte] & mask:
            self._names[index] = sketch.id
        else:
            self._filter[byte] |= mask
        return index

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (index, index of the first record with the same key) for every later record, in reading order."""
        # Whatever repeats a key has passed the filter, so that only keys of those can be repeated.
        candidates = {self._keys[index] for index in self._names}
        first: dict[int, int] = {}
        for index, key in enumerate(self._keys) if candidates else ():
            if key in candidates:
                earlier = first.setdefault(key, index)
                if earlier != index:
                    yield index, earlier

    def spot(self, index: int) -> str:
        """Return where a record stands, as ``file:line``."""
        return f"{self._file(index)}:{self._lines[index]}"

    def problem(self, index: int, first: int, message: str, pointer: str = "") -> DatasetProblem:
        """Return ``message`` as a problem of the record at ``index``, the later of a pair with the one at ``first``."""
        return DatasetProblem(
            Problem(message, pointer),
            self._file(index),
            self._lines[index],
            self._names.get(index, ""),
            other=(self._file(first), self._lines[first]),
            group=self._keys[index].to_bytes(8, "big"),
        )

    def _file(self, index: int) -> str:
        return self._files[bisect_right(self._file_starts, index) - 1]


def key_of(digest: bytes) -> int:
    """Return the first 64 bits of a digest as the key that `EqualKeys` works with."""
    return int.from_bytes(digest[:8], "big")
