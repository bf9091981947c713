"""What is kept of a block of lines once it is read: enough to compare, divide and filter its records, and
to find the line of each. It is kept by what the lines say, so that it holds wherever they stand in whatever file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, Indices
from curate.base.packs import MemoryPack, Pack, PackEntry, is_open
from curate.base.record import CurateError, Json, canonical
from curate.base.storage import WRITE_FAILED, remove_folder
from curate.schema import Shape
from curate.similarity.dedupe.blocks import RecordBlock

_SMALL = np.dtype(np.uint32)


class Coded(NamedTuple):
    """A column of few different texts: which there are, and the number of each row's."""

    names: list[str]
    codes: Indices

    @staticmethod
    def of(texts: Sequence[str]) -> Coded:
        """Return ``texts`` as such a column."""
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return Coded(list(numbers), np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts)))

    def texts(self) -> list[str]:
        """Return the text of each row."""
        names = self.names
        return [names[code] for code in self.codes.tolist()]

    @staticmethod
    def joined(parts: Sequence[Coded]) -> Coded:
        """Return the rows of all parts, one after the other."""
        numbers: dict[str, int] = {}
        codes = [
            np.array([numbers.setdefault(n, len(numbers)) for n in part.names], np.int64)[part.codes] for part in parts
        ]
        return Coded(list(numbers), np.concatenate(codes) if codes else np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class BlockColumns:
    """N records, a row each, in the order of their lines."""

    ids: list[str]
    """As the lines have them, or made from content."""
    categories: Coded
    splits: Coded
    """"" where a record names none; as are its sources."""
    sources: Coded
    labels: dict[int, Json]
    """Of the rows that have any."""
    lines: Indices
    """Counted from the first line of the block, which is 0."""
    offsets: Indices
    """Where each line begins in the block."""
    lengths: Indices
    """Bytes of each line."""
    num_chars: Indices
    """Characters of prompt, completion and text."""
    num_bytes: Indices
    """UTF-8 bytes of those and of the system message."""
    keys: Hashes
    """[N, 10], as `Keys` has them, one beside the other."""
    bounds: Indices
    """[N, 5], where the tokens of each part are, see `Corpus`."""
    tokens: Hashes
    others: Indices
    """The lines that are no records."""
    crlf: tuple[int, int] = (0, 0)
    """How many lines end in CR LF, and which is the first, counted from 0."""
    has_findings: bool = False
    """Whether there is something to be said of its lines, before any check."""

    def __len__(self) -> int:
        return len(self.ids)


def columns_of(block: RecordBlock, lines: Indices, offsets: Indices, lengths: Indices, num_lines: int) -> BlockColumns:
    """Return the columns of records that stand in ``lines`` of a block; all is counted as `BlockColumns` has it."""
    tokens, bounds = block.tokens
    keys = block.keys
    is_other = np.ones(num_lines, np.bool_)
    is_other[lines] = False
    return BlockColumns(
        block.ids,
        Coded.of(block.categories),
        Coded.of(block.splits),
        Coded.of(block.sources),
        {row: labels for row, labels in enumerate(block.labels) if labels},
        lines,
        offsets,
        lengths,
        block.sizes(block.num_chars, has_system=False),
        block.sizes(block.num_bytes, has_system=True) + block.trace_bytes,
        np.concatenate(keys, axis=1),
        bounds,
        tokens,
        np.flatnonzero(is_other),
    )


# What takes 8 bytes while it is worked with and 4 in the file: no block is so large.
_NARROW = ("lines", "offsets", "lengths", "num_chars", "num_bytes", "bounds", "others")
_CODED = ("categories", "splits", "sources")
_WIDE = ("keys",)


def stored(pack: Pack | MemoryPack, key: bytes, columns: BlockColumns) -> None:
    """Keep ``columns`` under ``key``.

    Raises:
        OSError: they cannot be written.
    """
    coded: dict[str, Coded] = {name: getattr(columns, name) for name in _CODED}
    about = {
        "ids": columns.ids,
        **{name: column.names for name, column in coded.items()},
        # As pairs, because keys of JSON are texts.
        "labels": list(columns.labels.items()),
        "crlf": columns.crlf,
        "has_findings": columns.has_findings,
    }
    arrays: dict[str, NDArray[Any]] = {
        **{name: getattr(columns, name) for name in _WIDE},
        **{name: getattr(columns, name).astype(_SMALL) for name in _NARROW},
        **{name: column.codes.astype(_SMALL) for name, column in coded.items()},
    }
    pack.append(key, about, arrays, columns.tokens)


def restored(entry: PackEntry) -> BlockColumns:
    """Return the columns in ``entry``, with ``bounds`` counted from the beginning of the pack, and no tokens."""
    about, arrays = entry.about, entry.arrays
    columns: dict[str, Any] = {name: Coded(about[name], arrays[name].astype(np.int64)) for name in _CODED}
    columns |= {name: arrays[name] for name in _WIDE}
    columns |= {name: arrays[name].astype(np.int64) for name in _NARROW}
    columns["bounds"] += entry.start
    return BlockColumns(
        ids=about["ids"],
        labels=dict(about["labels"]),
        tokens=np.zeros(0, np.uint64),
        crlf=(about["crlf"][0], about["crlf"][1]),
        has_findings=about["has_findings"],
        **columns,
    )


class Part(NamedTuple):
    """A block of a file, by its key, and where it begins there."""

    key: bytes
    number: int
    offset: int
    size: int


# Raised whenever the same lines would give other columns.
VERSION = 9
_NAMED = re.compile(r"[0-9a-f]{32}")
_NUM_RETAINED = 3
# How much larger than what is used of it a pack may become: by all who use it, and by one of them.
_MOST_GROWTH, _MOST_OTHERS, _SLACK = 2, 50, 64_000_000


@dataclass(frozen=True, slots=True)
class ColumnCache:
    """The pack of the columns of lines of one schema. It can be sent to workers."""

    folder: Path
    is_whole: bool = False
    """Whether whoever uses it reads all files that are kept in it, so that what is of none of them is old."""

    def opened(self) -> Pack:
        """Open the pack.

        Raises:
            CurateError: E906 when it cannot be written to.
        """
        try:
            return Pack(self.folder)
        except OSError as error:
            raise CurateError(WRITE_FAILED, f"{self.folder}: {error.strerror or error}") from error

    def sweep(self, pack: Pack, live: Iterable[bytes]) -> None:
        """Remove the pack if more of it is old than ``live``, and those of other schemas but the last used.

        One that somebody has open stays.
        """
        if len(pack) > (_MOST_GROWTH if self.is_whole else _MOST_OTHERS) * pack.size_of(live) + _SLACK:
            # Who has it open keeps it; for all others it is made anew.
            remove_folder(self.folder)
        # Whatever is not called like a pack is somebody else's, and stays.
        folders = [path for path in self.folder.parent.glob("*") if _NAMED.fullmatch(path.name) and path != self.folder]
        for folder in sorted(folders, key=_last_use, reverse=True)[_NUM_RETAINED - 1 :]:
            if not is_open(folder):
                remove_folder(folder)


def _last_use(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("*")), default=0.0)


def cache_in(folder: Path, shape: Shape) -> ColumnCache:
    """Return the cache in ``folder`` for lines of a schema."""
    about = [VERSION, version("pairsmith"), str(shape.path), shape.schema_set.documents]
    return ColumnCache(folder / blake2b(canonical(about), digest_size=16).hexdigest())
