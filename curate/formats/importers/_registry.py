"""What an importer and a container are, and how they are discovered."""

from __future__ import annotations

import base64
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from curate.base.console import spelled
from curate.base.record import Json, Kind, Problem, Record, Source

MAX_QUARANTINED_RAW = 16 * 1024 * 1024
"""The longest raw text, in bytes, that a quarantine entry repeats; of a longer one it holds the start."""


class ShapeView(Protocol):
    """What importing needs to know of a workspace's shape; `curate.schema.Shape` is one."""

    @property
    def name(self) -> str:
        """How the shape is called."""
        ...

    @property
    def kind(self) -> Kind:
        """What records of this shape are."""
        ...

    def is_valid(self, value: Json) -> bool:
        """Whether the schema allows the value."""
        ...

    def problems(self, value: Json) -> Sequence[Problem]:
        """What the schema objects to."""
        ...

    def record(self, value: Json, source: Source) -> Record:
        """The record seen in a valid value."""
        ...

    def line(self, record: Record) -> dict[str, Json]:
        """The record written in this shape."""
        ...


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a foreign file: its object, the 1-based line it begins on, its bytes, and the split of its file."""

    value: dict[str, Json]
    line: int
    raw: bytes
    split: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not become a record, with the place and the reason; its bytes are kept."""

    line: int
    code: str
    reason: str
    raw: bytes

    def entry(self, file: str) -> dict[str, Json]:
        """Return the quarantine entry: text where the bytes are UTF-8, else base64."""
        entry: dict[str, Json] = {"file": spelled(file), "line": self.line, "code": self.code, "reason": self.reason}
        start = self.raw[:MAX_QUARANTINED_RAW]
        if len(start) < len(self.raw):
            entry |= {"is_cut": True, "raw_bytes": len(self.raw)}
        try:
            return entry | {"raw": start.decode("utf-8")}
        except UnicodeDecodeError:
            return entry | {"raw": base64.b64encode(start).decode("ascii"), "encoding": "base64"}


class RowError(ValueError):
    """A row that an importer cannot read, told in words that do not repeat the data."""

    def __init__(self, reason: str, code: str = "S102") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


@dataclass(frozen=True, slots=True)
class ConvertedRow:
    """A line in the shipped shape of ``kind``, and what of the row it has no place for."""

    kind: Kind
    line: dict[str, Json]
    extra: dict[str, Json] = field(default_factory=dict)
    own: dict[str, Json] | None = None
    """The line of a workspace that the row carries; it is taken as it is where the shape allows it."""


Recognise = Callable[[Sequence[dict[str, Json]]], float]
Read = Callable[[dict[str, Json], Mapping[str, str]], ConvertedRow]
Rows = Callable[[Path], Iterator[SourceRow | Rejected]]


@dataclass(frozen=True, slots=True)
class Importer:
    """How rows of one format are told and read.

    ``recognise`` gives the likeness of sample rows in [0, 1]; ``read`` turns one row into a draft, with a mapping from
    our field names to columns where the format takes one; ``guess`` proposes such a mapping from sample rows.
    """

    name: str
    help: str
    recognise: Recognise
    read: Read
    samples: Sequence[dict[str, Json]]
    guess: Callable[[Sequence[dict[str, Json]]], dict[str, str]] | None = None
    is_named_by_split: bool = False
    """Whether a file of this format is called by the split of its rows, such as ``train.parquet``."""
    notices: Callable[[Path, Sequence[dict[str, Json]]], Sequence[str]] = lambda _path, _rows: ()
    """What is to be said of a file and its first rows, such as what they cannot hold."""


@dataclass(frozen=True, slots=True)
class Container:
    """How the bytes of a file become rows; ``fits`` looks at the path and the first bytes.

    ``notices`` gives what is to be said of a whole file, such as a column that is left out.
    """

    name: str
    help: str
    fits: Callable[[Path, bytes], bool]
    rows: Rows
    priority: int = 0
    notices: Callable[[Path], Sequence[str]] = lambda _path: ()


_importers: dict[str, Importer] = {}
_containers: dict[str, Container] = {}


def importer(
    name: str,
    *,
    recognise: Recognise,
    samples: Sequence[dict[str, Json]],
    guess: Callable[[Sequence[dict[str, Json]]], dict[str, str]] | None = None,
    is_named_by_split: bool = False,
    notices: Callable[[Path, Sequence[dict[str, Json]]], Sequence[str]] = lambda _path, _rows: (),
) -> Callable[[Read], Read]:
    """Register a function that reads one row; its docstring is the help text, and ``samples`` its proof.

    Raises:
        ValueError: the name is taken.
    """

    def put(read: Read) -> Read:
        if name in _importers:
            raise ValueError(f"two importers claim the name {name!r}")
        doc = inspect.getdoc(read) or ""
        _importers[name] = Importer(name, doc, recognise, read, samples, guess, is_named_by_split, notices)
        return read

    return put


def container(
    name: str,
    *,
    fits: Callable[[Path, bytes], bool],
    priority: int = 0,
    notices: Callable[[Path], Sequence[str]] = lambda _path: (),
) -> Callable[[Rows], Rows]:
    """Register a function that yields the rows of a file; of those that fit, the highest priority reads it.

    Raises:
        ValueError: the name is taken.
    """

    def put(rows: Rows) -> Rows:
        if name in _containers:
            raise ValueError(f"two containers claim the name {name!r}")
        _containers[name] = Container(name, inspect.getdoc(rows) or "", fits, rows, priority, notices)
        return rows

    return put


@cache
def discover() -> None:
    """Import the files of this folder, each of which registers itself."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package}.{module.name}")


def importers() -> dict[str, Importer]:
    """Return the importers by name, in order."""
    discover()
    return dict(sorted(_importers.items()))


def containers() -> list[Container]:
    """Return the containers, the one to be asked first at the front."""
    discover()
    return sorted(_containers.values(), key=lambda one: (-one.priority, one.name))
