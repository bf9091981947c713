"""All records of some files by column, as their lines have them; a line is read again only for what it says itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise, repeat
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray
from orjson import JSONDecodeError, loads

from curate.base.console import one_line
from curate.base.file_guard import FileGuardError, files_changed, open_descriptor, stamp_of
from curate.base.hashing import Hashes, Indices
from curate.base.packs import MemoryPack, Pack
from curate.base.record import CurateError, Example, Finding, Json, Line, Record, Source
from curate.base.storage import WRITE_FAILED, remove_folder
from curate.checks.runner.examine import BLOCKS_FROM, violations
from curate.checks.runner.file_parts import FileParts, file_key, keep_parts, known_parts
from curate.checks.runner.names import UniqueNames
from curate.checks.runner.parallel import num_bytes
from curate.checks.runner.parts import Progress, file_name, read_all
from curate.jsonl import Entry, JsonFault, RawBlock, Reader, crlf_finding, strict_loads
from curate.schema import Shape
from curate.schema.view import LineTexts
from curate.similarity.dedupe.blocks import every, plain_pairs
from curate.similarity.dedupe.columns import (
    BlockColumns,
    Coded,
    ColumnCache,
    Part,
    restored,
)

# Blocks whose columns are joined first.
_BLOCKS = 64
_EMPTY: dict[str, NDArray[Any]] = {
    **dict.fromkeys(("lines", "offsets", "lengths", "num_chars", "num_bytes"), np.zeros(0, np.int64)),
    "keys": np.zeros((0, 10), np.uint64),
    "bounds": np.zeros((0, 5), np.int64),
}
# Record files that are held open.
_MAX_OPEN = 64
# Bytes between two lines that are read with them.
_GAP = 4096


class RecordTable:
    """N records of some files, in the order of the files and their lines; all columns have a row for each."""

    def __init__(
        self,
        pack: Pack | MemoryPack,
        shape: Shape,
        root: Path | None,
        files: Sequence[tuple[Path, FileParts]],
    ) -> None:
        """Take the columns of the blocks of ``files`` from ``pack``.

        Raises:
            CurateError: E906 when one of them is not whole.
        """
        self.shape, self.root = shape, root
        self.remarks: list[str] = []
        """What a person should know, such as that nothing could be kept."""
        self.pack, self._files = pack, files
        self.file_names = [file_name(path, root) for path, _ in files]
        self.stamps = [of_file.stamp for _, of_file in files]
        # Files of the same content have the same.
        self._parts = parts = [part for _, of_file in files for part in of_file.parts]
        values_by_key = pack.values if isinstance(pack, MemoryPack) else None
        self._values = None if values_by_key is None else [value for part in parts for value in values_by_key[part.key]]
        gathered = _gathered(pack, parts)
        counts = np.array(gathered.counts, np.int64)
        is_unique = len(set(gathered.ids)) == len(gathered.ids)
        self.ids = gathered.ids if is_unique else list(map(UniqueNames().name, gathered.ids))
        """Told apart as `UniqueNames` does."""
        self.categories, self.splits, self.sources = (
            Coded.joined(gathered.coded.get(name, [])) for name in ("categories", "splits", "sources")
        )
        column = {name: np.concatenate(pieces) for name, pieces in gathered.pieces.items()}
        num_blocks = [len(of_file.parts) for _, of_file in files]
        self.files = np.repeat(np.repeat(np.arange(len(files)), num_blocks), counts)
        self.lines = column["lines"] + np.repeat(_of_parts(parts, "number"), counts)
        self.offsets = column["offsets"] + np.repeat(_of_parts(parts, "offset"), counts)
        self.lengths, self.num_chars, self.num_bytes = (column[name] for name in ("lengths", "num_chars", "num_bytes"))
        self.keys: Hashes = column["keys"]
        self.bounds: Indices = column["bounds"]
        """Where the words of each record are among `tokens`, [N, 5]."""
        self._ends = np.cumsum(counts)
        """The row behind the last one of each block."""
        self._with_remarks = gathered.with_remarks
        self.labels: dict[int, dict[str, Json]] = gathered.labels
        """Of the rows that have any."""
        self.num_lines = sum(of_file.num_lines for _, of_file in files)
        self._findings: list[Finding] | None = None
        self._handles: dict[int, int] = {}
        self._lock = Lock()
        finalize(self, _close, self._handles)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def tokens(self) -> Hashes:
        """The words of all records, mapped from the cache.

        Raises:
            CurateError: E906 when what was kept is not what was written.
        """
        words = self.pack.words()
        if not self.pack.are_whole(words, {part.key for part in self._parts}):
            raise _damaged(self.pack)
        return words

    def tokens_with(self, more: Hashes) -> tuple[Hashes, int]:
        """Return `tokens`, ``more`` behind or among them, and where those begin.

        Raises:
            CurateError: as `tokens`.
        """
        tokens = self.tokens
        if not len(more):
            return tokens, 0
        key = blake2b(more.tobytes(), digest_size=16, person=b"words").digest()
        # In the file they take no memory; where they cannot be written, all are copied.
        with suppress(OSError):
            if key not in self.pack:
                self.pack.append(key, {}, {}, more)
            if entry := self.pack.get(key):
                return self.pack.words(), entry.start
        return np.concatenate([tokens, more]), len(tokens)

    @property
    def num_unread(self) -> int:
        """Lines that are no records."""
        return self.num_lines - len(self)

    def blocks(self) -> Iterator[tuple[bytes, range]]:
        """Yield the key of each block, and the rows of its records."""
        for part, (begin, end) in zip(self._parts, pairwise([0, *self._ends.tolist()]), strict=True):
            yield part.key, range(begin, end)

    def source(self, row: int) -> Source:
        """Return where a record stands."""
        return Source(self.file_names[int(self.files[row])], int(self.lines[row]))

    def require_current(self) -> None:
        """Make sure that the files are still those that were read.

        Raises:
            CurateError: E974 when one is not.
        """
        for number in range(len(self._files)):
            self._require_current(number)

    def _require_current(self, number: int) -> None:
        if stamp_of(self._files[number][0], self.file_names[number]) != self.stamps[number]:
            raise files_changed(self.file_names[number])

    def find(self, name: str) -> int | None:
        """Return the row of the record called ``name``, None where there is none."""
        return next(iter(self.rows_of([name])), None)

    def rows_of(self, names: Sequence[str]) -> list[int]:
        """Return the rows of those of ``names`` that there are, in the order of the names."""
        hashes, order = self._index
        wanted = _hashes_of(names)
        firsts, lasts = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
        rows = []
        for name, first, last in zip(names, firsts.tolist(), lasts.tolist(), strict=True):
            rows += [row for row in order[first:last].tolist() if self.ids[row] == name][:1]
        return rows

    @cached_property
    def _index(self) -> tuple[Hashes, NDArray[np.uint32]]:
        """The hashes of the ids in order, and the row of each: a tenth of a dictionary."""
        hashes = _hashes_of(self.ids)
        order = np.argsort(hashes, kind="stable").astype(np.uint32)
        return hashes[order], order

    def findings(self) -> list[Finding]:
        """Return what is wrong with lines that are no records, which are read again once, and with files, in order."""
        if self._findings is None:
            self._findings = list(self._read_findings())
        return self._findings

    def _read_findings(self) -> Iterator[Finding]:
        for number, (_, of_file) in enumerate(self._files):
            findings = list(of_file.findings)
            num_crlf = first_crlf = 0
            for part in of_file.parts:
                if part.key not in self._with_remarks:
                    continue
                block = _restored(self.pack, part.key)
                findings += self._findings_in(number, part, block) if block.has_findings else ()
                some, first = block.crlf
                num_crlf, first_crlf = num_crlf + some, first_crlf or (part.number + first if some else 0)
            # Those of the file as a whole come in the order in which they were found.
            yield from findings if len(findings) == len(of_file.findings) else sorted(findings, key=attrgetter("line"))
            if num_crlf:
                yield crlf_finding(self.file_names[number], first_crlf, num_crlf)

    def _findings_in(self, number: int, part: Part, block: BlockColumns) -> Iterator[Finding]:
        whole = self._bytes(number, part.offset, part.size)
        reader = Reader(self._files[number][0], name=self.file_names[number], root=self.root)
        others = {part.number + row for row in block.others.tolist()}
        for line in reader.lines_in(RawBlock(part.number, part.offset, whole)):
            if isinstance(line, Finding):
                yield line
            elif line[0] in others:
                value = reader.value(line)
                if isinstance(value, Finding):
                    yield value
                else:
                    number_, offset, raw, _ = line
                    entry = Entry(Line(Source(reader.name, number_), raw, offset), value)
                    yield from violations(self.shape, entry)

    def record(self, row: int) -> Record:
        """Return the record in the line of a row.

        Raises:
            CurateError: E974 when the file has changed since; E904 when it may not be read.
        """
        return self.records([row])[0]

    def records(self, rows: Sequence[int] | Indices) -> list[Record]:
        """Return the records in the lines of ``rows``, in that order; neighbours are read together.

        Raises:
            CurateError: as `record`.
        """
        rows = np.asarray(rows, np.int64)
        sources = zip(rows.tolist(), self.files[rows].tolist(), self.lines[rows].tolist(), strict=True)
        names, read, ids = self.file_names, self.shape.record, self.ids
        records = []
        for (row, file, line), value in zip(sources, self.values(rows), strict=True):
            record = read(value, Source(names[file], line))
            records.append(record if record.id == ids[row] else replace(record, id=ids[row]))
        return records

    def examples(self, rows: Indices) -> list[Example]:
        """Return what a dataset says of the records in the lines of ``rows``, in that order.

        Raises:
            CurateError: as `record`.
        """
        view, values, names, ids = self.shape.view, self.values(rows), self.file_names, self.ids
        assert view is not None, "its lines are records"
        contents: Iterable[Iterable[Any]]
        if pairs := plain_pairs(view, values):
            turns = [
                ({"role": "user", "content": prompt}, {"role": "assistant", "content": completion})
                for prompt, completion in zip(*pairs, strict=True)
            ]
            contents = turns, repeat(()), repeat(""), repeat(())
        else:
            contents = zip(*map(view.content, values), strict=True)
        columns: tuple[Iterable[Any], ...] = (
            [ids[row] for row in rows.tolist()],
            repeat(view.kind),
            map(Source, [names[file] for file in self.files[rows].tolist()], self.lines[rows].tolist()),
            values,
            *contents,
            map(self.categories.names.__getitem__, self.categories.codes[rows].tolist()),
            [meta or {} for meta in every(view, values, "meta")],
            [1.0 if weight is None else weight for weight in every(view, values, "weight")],
        )
        return list(map(Example._make, zip(*columns, strict=False)))

    def texts(self, rows: Sequence[int] | Indices, lines: Sequence[bytes] | None = None) -> list[LineTexts]:
        """Return what the ``lines`` of ``rows`` say, which are read unless they are given; no records are made of them.

        Raises:
            CurateError: as `record`.
        """
        view, values = self.shape.view, self.values(np.asarray(rows, np.int64), lines)
        assert view is not None, "its lines are records"
        if pairs := plain_pairs(view, values):
            return list(zip(*pairs, repeat(""), repeat(""), repeat(()), strict=False))
        return list(map(view.texts, values))

    def values(self, rows: Indices, lines: Sequence[bytes] | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the objects in the ``lines`` of ``rows``, in that order; they are read unless they are given.

        Raises:
            CurateError: as `record`.
        """
        files = self.files[rows].tolist()
        if self._values is not None:
            for number in set(files):
                self._require_current(number)
            return [self._values[row] for row in rows.tolist()]
        raws = lines or [raw for some, whole in self.spans(rows) for raw in self.lines_in(some, whole)]
        # What was read before is valid still. One by one they are held against the schema again, which says more.
        if len(raws) > 1:
            with suppress(JSONDecodeError):
                return list(map(loads, raws))
        return [self._value(raw, self.file_names[file]) for raw, file in zip(raws, files, strict=True)]

    def _value(self, raw: bytes, file: str) -> dict[str, Any]:
        try:
            value = strict_loads(raw)
        except JsonFault as fault:
            raise files_changed(file) from fault
        if not isinstance(value, dict) or not self.shape.is_valid(value):
            raise files_changed(file)
        return value

    def spans(self, rows: Indices, gap: int = _GAP) -> Iterator[tuple[Indices, bytes]]:
        """Yield ``rows`` that lie side by side in a block, with ``gap`` bytes between them at most, and those bytes.

        Raises:
            CurateError: as `record`.
        """
        begins, ends = self.offsets[rows], self.offsets[rows] + self.lengths[rows]
        blocks, gaps = np.searchsorted(self._ends, rows, "right"), begins[1:] - ends[:-1]
        is_apart = (np.diff(blocks) != 0) | (gaps < 0) | (gaps > gap)
        cuts = [0, *(np.flatnonzero(is_apart) + 1).tolist(), len(rows)]
        for low, high in pairwise(cuts) if len(rows) else ():
            begin = int(begins[low])
            yield rows[low:high], self._bytes(int(self.files[rows[low]]), begin, int(ends[high - 1]) - begin)

    def lines_in(self, rows: Indices, whole: bytes) -> list[bytes]:
        """Return the lines of ``rows``, which `spans` has read as ``whole``."""
        lines = whole.split(b"\n")
        if len(lines) == len(rows):
            return lines
        return [lines[number] for number in (self.lines[rows] - self.lines[rows[0]]).tolist()]

    def _bytes(self, number: int, offset: int, length: int) -> bytes:
        with self._lock:
            content = os.pread(self._handle(number), length, offset)
        if len(content) < length:
            raise files_changed(self.file_names[number])
        return content

    def _handle(self, number: int) -> int:
        path, name = self._files[number][0], self.file_names[number]
        self._require_current(number)
        if number not in self._handles:
            if len(self._handles) >= _MAX_OPEN:
                os.close(self._handles.pop(next(iter(self._handles))))
            try:
                self._handles[number] = open_descriptor(path, self.root)
            except (FileGuardError, FileNotFoundError) as error:
                raise files_changed(name) from error
            except OSError as error:
                raise CurateError("E904 no-such-file", f"{one_line(name)} cannot be read: {error.strerror}") from error
        return self._handles[number]


@dataclass
class _Gathered:
    """The columns of many blocks: pieces of each, which are still to be joined."""

    ids: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    """Records of each block."""
    pieces: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    coded: dict[str, list[Coded]] = field(default_factory=dict)
    labels: dict[int, dict[str, Json]] = field(default_factory=dict)
    with_remarks: set[bytes] = field(default_factory=set)
    """Blocks of whose lines there is something to be said."""


def _gathered(pack: Pack | MemoryPack, parts: Sequence[Part]) -> _Gathered:
    """Read the columns of ``parts``."""
    result = _Gathered(pieces={name: [empty] for name, empty in _EMPTY.items()})
    # Some at a time: small arrays of all blocks between their ids would leave holes in the memory that nothing fits.
    for low in range(0, len(parts), _BLOCKS):
        some = parts[low : low + _BLOCKS]
        blocks = [_restored(pack, part.key) for part in some]
        result.with_remarks |= {
            part.key for part, block in zip(some, blocks, strict=True) if block.has_findings or block.crlf[0]
        }
        for block in blocks:
            result.labels |= {len(result.ids) + row: labels for row, labels in block.labels.items()}
            result.ids += block.ids
            result.counts.append(len(block))
        for name, pieces in result.pieces.items():
            pieces.append(np.concatenate([getattr(block, name) for block in blocks]))
        for name in ("categories", "splits", "sources"):
            joined = Coded.joined([getattr(block, name) for block in blocks])
            result.coded.setdefault(name, []).append(joined)
    return result


def _of_parts(parts: Sequence[Part], name: str) -> Indices:
    return np.array([getattr(part, name) for part in parts], np.int64)


def _hashes_of(names: Sequence[str]) -> Hashes:
    """Return a hash of each name."""
    # It brings polars with it.
    import polars as pl

    return pl.Series(names, dtype=pl.String).hash(1).to_numpy()


def _restored(pack: Pack | MemoryPack, key: bytes) -> BlockColumns:
    entry = pack.get(key)
    if entry is None:
        raise _damaged(pack)
    return restored(entry)


def _damaged(pack: Pack | MemoryPack) -> CurateError:
    assert isinstance(pack, Pack), "what is in memory is whole"
    # Who has it open keeps it; for all others it is made anew.
    remove_folder(pack.folder)
    return CurateError(WRITE_FAILED, f"{pack.folder} is damaged", "Run it again: what is damaged is made anew.")


def _close(handles: dict[int, int]) -> None:
    for handle in handles.values():
        os.close(handle)


def read_table(
    files: Sequence[Path],
    shape: Shape,
    cache: ColumnCache | None,
    *,
    root: Path | None = None,
    on_progress: Progress | None = None,
    has_tokens: bool = False,
) -> RecordTable:
    """Return the records of ``files``; what ``cache`` holds of their lines is not read again.

    Without a cache, or where it is damaged or cannot be written to, their columns are in memory. Whether its tokens are
    damaged is looked at now with ``has_tokens``, else when they are asked for.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E905 when the schema has no ``x-record`` view; E970
            when a worker is killed; E974 when files change while they are read.
    """
    try:
        if cache:
            table = _table(files, shape, cache, cache.opened(), root, on_progress)
            if has_tokens:
                _ = table.tokens
            return table
        remark = ""
    except CurateError as error:
        # The disk may be full: then what was read is read again, into memory.
        if error.code != WRITE_FAILED:
            raise
        remark = f"what was read is not kept: {error.message}"
    # Of much that cannot be kept only the columns are held.
    is_little = cache is None and num_bytes(files) < BLOCKS_FROM
    table = _table(files, shape, cache, MemoryPack(has_values=is_little), root, on_progress)
    table.remarks += [remark] if remark else []
    return table


def _table(
    files: Sequence[Path],
    shape: Shape,
    cache: ColumnCache | None,
    pack: Pack | MemoryPack,
    root: Path | None,
    on_progress: Progress | None,
) -> RecordTable:
    stamps = {path: stamp_of(path, file_name(path, root)) for path in files}
    read = {path: known for path, stamp in stamps.items() if (known := known_parts(pack, stamp))}
    unread = [path for path in stamps if path not in read]
    if unread:
        for path, part in read_all(unread, shape, root, pack, cache, on_progress):
            read.setdefault(path, FileParts(stamps[path])).extend(part)
    table = RecordTable(pack, shape, root, [(path, read[path]) for path in files])
    table.require_current()
    if cache and isinstance(pack, Pack):
        for path in unread:
            keep_parts(pack, read[path])
        parts = [part.key for of_file in read.values() for part in of_file.parts]
        cache.sweep(pack, [*map(file_key, table.stamps), *parts])
    return table
