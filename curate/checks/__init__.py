"""The shelf of checks: each file here holds checks, and each check carries its own proof.

A *record check* looks at one record and yields problems. A *dataset check* is a class that sees a small sketch of every
record in reading order and reports at the end. Both are found by looking at the files of this folder; nothing is
listed by hand. ``good`` and ``bad`` are line objects of the shape the check reads, and tests run every one of them.

What several checks share is here too: the texts of a record with their JSON pointers (`texts`), its answers
(`turns`), the masked form in which a value may be named (`masked`), and `Repeats`, which finds equal keys among
millions of records in a few bytes each.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

from curate.record import Json, Problem, Record, Severity, normalised
from curate.settings import Category, Settings

RecordCheck = Callable[[Record, Settings], Iterable[Problem]]

EXAMPLE_SETTINGS = Settings(categories={"billing": Category(), "returns": Category()})
"""The settings that every check's good and bad examples are written for."""


class Sketch(NamedTuple):
    """What dataset checks know of a record; small, so that a million of them can pass from worker to parent."""

    id: str
    file: str
    line: int
    content: bytes
    """16-byte digest of the normalised system, prompt and completion."""
    prompt: bytes
    """16-byte digest of the normalised system and prompt; empty where the record has no prompt (raw text)."""
    category: str
    split: str
    source: str
    """``meta.source`` where the record names one, else the file."""
    num_chars: int
    """Length of prompt and completion together, in characters."""
    has_own_id: bool


def sketch_of(record: Record) -> Sketch:
    """Return what dataset checks need to know of ``record``."""
    asked = f"{normalised(record.system)}\0{normalised(record.prompt)}"
    answered = f"{asked}\0{normalised(record.completion)}\0{normalised(record.text)}"
    source = record.meta.get("source")
    return Sketch(
        id=record.id,
        file=record.source.file,
        line=record.source.line,
        content=blake2b(answered.encode("utf-8", "surrogatepass"), digest_size=16).digest(),
        prompt=blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=16).digest() if record.messages else b"",
        category=record.category,
        split=record.split or "",
        source=source if isinstance(source, str) and source else record.source.file,
        num_chars=len(record.prompt) + len(record.completion) + len(record.text),
        has_own_id=record.has_own_id,
    )


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


# --- what checks read ------------------------------------------------------------------------------------------------

_NOT_TEXT = frozenset({"id", "split", "x-ignore"})
_ANSWER_KEYS = ("output", "completion", "answer", "response", "content", "text")
_last_walk: tuple[Record | None, tuple[tuple[str, str], ...]] = (None, ())


def texts(record: Record) -> tuple[tuple[str, str], ...]:
    """Return every string value of the line as (JSON pointer, text), in the order of the line.

    The record's id and split and its list of switched-off checks are left out: they are names, not text. The walk of
    the latest record is kept, because several checks ask for it one after the other.
    """
    global _last_walk  # noqa: PLW0603  one slot, replaced whole, so that a second thread can only miss it
    walked, found = _last_walk
    if walked is not record:
        found = tuple(
            pair
            for key, value in record.data.items()
            if key not in _NOT_TEXT
            for pair in _strings(value, "/" + _token(key))
        )
        _last_walk = (record, found)
    return found


def _strings(value: Json, pointer: str) -> Iterator[tuple[str, str]]:
    waiting = [(pointer, value)]
    while waiting:
        place, item = waiting.pop()
        if isinstance(item, str):
            yield place, item
        elif isinstance(item, Mapping):
            waiting.extend((f"{place}/{_token(key)}", child) for key, child in reversed(list(item.items())))
        elif isinstance(item, list | tuple):
            waiting.extend((f"{place}/{index}", item[index]) for index in range(len(item) - 1, -1, -1))


def _token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


class Turn(NamedTuple):
    """One answer that a model would learn: where it stands, what was asked right before, and what is answered."""

    pointer: str
    prompt: str
    completion: str
    has_tool_calls: bool = False


def turns(record: Record) -> Iterator[Turn]:
    """Yield the answers of a record: every assistant message of a chat, the one completion of any other kind."""
    if record.kind != "chat":
        if record.messages:
            yield Turn(_answer_pointer(record, record.completion), record.prompt, record.completion)
        return
    asked, base = "", _messages_pointer(record)
    for index, message in enumerate(record.messages):
        content = message.get("content")
        content = content if isinstance(content, str) else ""
        if message.get("role") == "user":
            asked = content
        elif message.get("role") == "assistant":
            pointer = f"{base}/{index}/content" if base else ""
            yield Turn(pointer, asked, content, bool(message.get("tool_calls")))


def _messages_pointer(record: Record) -> str:
    for key, value in record.data.items():
        if (
            isinstance(value, list)
            and len(value) == len(record.messages)
            and all(isinstance(v, Mapping) for v in value)
        ):
            return "/" + _token(key)
    return ""


def _answer_pointer(record: Record, text: str) -> str:
    places = [pointer for pointer, value in texts(record) if value == text]
    named = [pointer for pointer in places if pointer.rsplit("/", 1)[-1] in _ANSWER_KEYS]
    candidates = named or places
    return candidates[-1] if named or len(candidates) == 1 else ""


def masked(kind: str, value: str) -> str:
    """Return how a report may name a sensitive value: its kind, its length, and never more than two characters."""
    return f"{kind} ({len(value)} characters, {value[:2]!r}...)"


def sensitive(record: Record, find: Callable[[str], Iterable[tuple[str, str]]]) -> Iterator[Problem]:
    """Yield one masked problem a text and kind of what ``find`` sees in it; ``find`` gives (kind, value) pairs."""
    for pointer, text in texts(record):
        found: dict[str, list[str]] = {}
        for kind, value in find(text):
            found.setdefault(kind, []).append(value)
        for kind, values in found.items():
            more = f" and {len(values) - 1} more" if len(values) > 1 else ""
            yield Problem(f"contains {masked(kind, values[0])}{more}", pointer)


def is_blank(text: str) -> bool:
    """Whether nothing of ``text`` can be seen: white space, controls, zero-width and filler characters only."""
    if text.isascii():
        return not text.strip()
    return all(
        c.isspace() or c in "\u2800\u3164\u115f\u1160\uffa0" or unicodedata.category(c) in ("Cf", "Cc") for c in text
    )


# --- what dataset checks remember ------------------------------------------------------------------------------------

_SIEVE_BITS = 1 << 25


class Repeats:
    """Finds records with equal 64-bit keys: 12 bytes a record and 4 MB in all, however long ids and file names are.

    Keys and line numbers are kept for all records, names only for those that a one-hash Bloom filter cannot rule out as
    repeats (https://doi.org/10.1145/362686.362692); an exact pass over the sorted keys decides at the end.
    """

    def __init__(self) -> None:
        self._keys = array("Q")
        self._lines = array("I")
        self._sieve = bytearray(_SIEVE_BITS // 8)
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
        byte, bit = divmod(key % _SIEVE_BITS, 8)
        if self._sieve[byte] >> bit & 1:
            self._names[index] = sketch.id
        else:
            self._sieve[byte] |= 1 << bit
        return index

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (index, index of the first record with the same key) for every later record, in reading order."""
        repeated = {key for key, following in pairwise(sorted(self._keys)) if key == following}
        first: dict[int, int] = {}
        for index, key in enumerate(self._keys):
            if key in repeated:
                earlier = first.setdefault(key, index)
                if earlier != index:
                    yield index, earlier

    def spot(self, index: int) -> str:
        """Return where a record stands, as ``file:line``."""
        return f"{self._file(index)}:{self._lines[index]}"

    def place(self, index: int, message: str, pointer: str = "") -> Place:
        """Return ``message`` as a problem of the record at ``index``, which must be the later one of a pair."""
        return Place(Problem(message, pointer), self._file(index), self._lines[index], self._names.get(index, ""))

    def _file(self, index: int) -> str:
        return self._files[bisect_right(self._file_starts, index) - 1]


def key_of(digest: bytes) -> int:
    """Return the first 64 bits of a digest as the key that `Repeats` works with."""
    return int.from_bytes(digest[:8], "big")
