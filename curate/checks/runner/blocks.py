"""Many lines examined at once, with the result that `Examiner` comes to one by one."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.base.packs import Pack
from curate.base.record import CurateError, Finding, Json, Record, Source
from curate.checks import Sketches
from curate.checks.runner.changes import LineSet
from curate.checks.runner.names import Watched
from curate.checks.runner.results import ExaminerSpec, SpanResult
from curate.jsonl import RawBlock, RawLine, Reader, strict_loads, strict_loads_all
from curate.schema import Shape
from curate.similarity.dedupe.blocks import RecordBlock, block_of, every, read_block
from curate.similarity.dedupe.columns import (
    BlockColumns,
    Part,
    columns_of,
    flags_of,
    restored,
    store_flags,
    stored,
)
from curate.similarity.dedupe.shingles import Flags

# What is asked of a line: its shape alone, or its id besides, so that no record need be made of it.
Needs = Literal["shape", "ids", "record"]
# Where more of a block's lines break the schema, its lines go one by one.
MOST_INVALID = 0.1


class Examining(Protocol):
    """What a block pass asks of its examiner."""

    spec: ExaminerSpec
    shape: Shape
    needs: Needs
    needs_sketches: bool

    @property
    def rules(self) -> str:
        """A digest of all that `flags` depends on beside the records; "" where it cannot be told."""

    def flags(self, block: RecordBlock) -> tuple[Flags, dict[str, Flags]]:
        """Return which records of a block, [N], have to be checked one by one, and which by each check."""

    def check(self, record: Record, raw: bytes | None, result: SpanResult, spared: Collection[str] = ()) -> object:
        """Add what is wrong with a record itself; the checks whose codes are ``spared`` have nothing to report."""


class BlockPass:
    """Examines blocks of lines for an examiner, and sketches all records in columns."""

    def __init__(self, examiner: Examining) -> None:
        assert examiner.shape.view is not None, "lines without a view are no records"
        self._examiner, self._view = examiner, examiner.shape.view

    @cached_property
    def _pack(self) -> Pack | None:
        """What is kept of blocks, None where nothing is."""
        cache = self._examiner.spec.cache
        if cache is None:
            return None
        try:
            return cache.opened()
        except CurateError:
            # What is not kept is read again the next time.
            return None

    def lines(self, reader: Reader, result: SpanResult, changed: LineSet | None) -> Iterator[RawLine | Finding]:
        """Examine what can be examined at once, and yield all other lines in their turn.

        Of lines that are not ``changed`` there are only sketches.
        """
        is_valid, has_records = self._examiner.shape.is_valid, self._examiner.needs == "record"
        of_file = self._examiner.spec.parts.get(reader.path)
        parts, num_lines = of_file.within(reader.span) if of_file else ([], 0)
        for item in reader.blocks_at(parts, num_lines) if of_file else reader.blocks():
            if isinstance(item, Finding):
                result.parts = None
                yield item
                continue
            pack = self._pack if has_records else None
            key = item.key if pack else b""
            if not key:
                # A file of which some blocks are not kept is not known.
                result.parts = None
            entry = pack.get(key) if pack else None
            known = restored(entry) if entry else None
            # Of lines that are not plain the reader counts what it sees, and more of them are findings.
            if known and known.is_plain:
                self._close(result)
                self._note_part(item, key, result)
                yield from self._examine_known(item, known, reader, result, changed, key)
                continue
            values = strict_loads_all(item.lines) if item.is_plain else None
            are_valid = np.array(list(map(is_valid, values or ())), np.bool_)
            if values is None or (~are_valid).sum() > MOST_INVALID * len(values):
                result.parts = None
                yield from reader.lines_in(item)
            else:
                self._close(result)
                self._note_part(item, key, result)
                yield from self._examine(item, values, are_valid, reader, result, changed, key)

    def _note_part(self, raw: RawBlock, key: bytes, result: SpanResult) -> None:
        if result.parts is not None and key:
            result.parts.append(Part(key, raw.number, raw.offset, raw.size))

    def complete(self, result: SpanResult) -> None:
        """Bring all sketches together, in reading order."""
        self._close(result)
        if result.batches:
            result.batches = [Sketches.merged(result.batches)]

    def _close(self, result: SpanResult) -> None:
        """Put the records that came one by one into columns too."""
        if result.single:
            records, result.single = result.single, []
            lines = np.array([record.source.line for record in records], np.int64)
            block = block_of(records)
            result.batches.append(_sketched(block, records[0].source.file, lines, np.ones(len(lines), np.bool_)))

    def _examine(
        self,
        raw: RawBlock,
        values: Sequence[dict[str, Json]],
        are_valid: Flags,
        reader: Reader,
        result: SpanResult,
        changed: LineSet | None,
        key: bytes,
    ) -> Iterator[RawLine]:
        """Examine the valid lines, keep what is known of them under ``key``, and yield the others in their turn."""
        examiner, rows = self._examiner, np.flatnonzero(are_valid)
        good = values if len(rows) == len(values) else [values[row] for row in rows.tolist()]
        is_changed = _are_in(changed, raw.number + rows, result)
        flags, by_code = np.zeros(len(good), np.bool_), dict[str, Flags]()
        if examiner.needs != "record":
            result.num_records += len(good)
            if examiner.needs == "ids":
                result.batches.append(self._named(good, reader.name, raw.number + rows, result))
        else:
            block = read_block(self._view, good)
            rules = ""
            if is_changed.any():
                rules, (flags, by_code) = examiner.rules, examiner.flags(block)
            if key:
                lengths = np.array(list(map(len, raw.lines)), np.int64)
                offsets = np.cumsum(lengths + 1) - lengths - 1
                columns = columns_of(block, rows, offsets[rows], lengths[rows], len(values))
                self._keep(key, columns)
                self._keep_flags(key, rules, {**by_code, "": flags})
            is_mine = self._not_watched(block.ids, raw, rows, reader.name, is_changed, values.__getitem__, result)
            self._sketch(block, block.ignored, reader.name, raw.number + rows, is_mine, is_changed, result)
            flags = flags & is_changed & is_mine
        yield from self._check(raw, raw.num_lines, rows, flags, by_code, values.__getitem__, reader, result)

    def _examine_known(
        self,
        raw: RawBlock,
        columns: BlockColumns,
        reader: Reader,
        result: SpanResult,
        changed: LineSet | None,
        key: bytes,
    ) -> Iterator[RawLine]:
        """Do what `_examine` does with lines of which the columns are known: only those with a flag are parsed."""
        rows = columns.lines
        is_changed = _are_in(changed, raw.number + rows, result)

        def value(row: int) -> dict[str, Json]:
            index = int(np.searchsorted(rows, row))
            start = int(columns.offsets[index])
            value: dict[str, Json] = strict_loads(raw.whole[start : start + int(columns.lengths[index])])
            return value

        flags, by_code, rules = np.zeros(len(columns), np.bool_), dict[str, Flags](), self._examiner.rules
        known = flags_of(self._pack, key, rules) if self._pack else None
        if known is not None:
            by_code = dict(known)
            flags = by_code.pop("")
        elif is_changed.any():
            block = read_block(self._view, list(map(value, rows.tolist())))
            flags, by_code = self._examiner.flags(block)
            self._keep_flags(key, rules, {**by_code, "": flags})
        is_mine = self._not_watched(columns.ids, raw, rows, reader.name, is_changed, value, result)
        ignored = [columns.ignored.get(row) for row in range(len(columns))]
        self._sketch(columns, ignored, reader.name, raw.number + rows, is_mine, is_changed, result)
        yield from self._check(
            raw, columns.num_lines, rows, flags & is_changed & is_mine, by_code, value, reader, result
        )

    def _keep(self, key: bytes, columns: BlockColumns) -> None:
        if self._pack:
            try:
                stored(self._pack, key, columns)
            except OSError:
                # What is not kept is read again the next time.
                self._pack = None

    def _keep_flags(self, key: bytes, rules: str, flags: Mapping[str, Flags]) -> None:
        # Without a digest nobody knows the next time what was asked of the lines.
        if self._pack and rules and key:
            try:
                store_flags(self._pack, key, rules, flags)
            except OSError:
                self._pack = None

    def _check(
        self,
        raw: RawBlock,
        num_lines: int,
        rows: Indices,
        flags: Flags,
        by_code: Mapping[str, Flags],
        value: Callable[[int], dict[str, Json]],
        reader: Reader,
        result: SpanResult,
    ) -> Iterator[RawLine]:
        """Check the records with a flag, and yield the lines that are no records in their turn."""
        # Findings come in the order of the lines, for only the first of them are retained.
        is_record, to_do = np.zeros(num_lines, np.bool_), np.ones(num_lines, np.bool_)
        is_record[rows], to_do[rows] = True, flags
        if not to_do.any():
            return
        examiner, index_of = self._examiner, np.cumsum(is_record) - 1
        lines = raw.lines
        others: Sequence[Any] = [] if is_record.all() else list(reader.lines_in(raw))
        for row in np.flatnonzero(to_do).tolist():
            if is_record[row]:
                record = examiner.shape.record(value(row), Source(reader.name, raw.number + row))
                spared = {code for code, some in by_code.items() if not some[index_of[row]]}
                examiner.check(record, lines[row], result, spared)
            else:
                yield others[row]

    def _not_watched(
        self,
        ids: Sequence[str],
        raw: RawBlock,
        rows: Indices,
        file: str,
        is_changed: Flags,
        value: Callable[[int], dict[str, Json]],
        result: SpanResult,
    ) -> Flags:
        """Set the records with watched ids aside, and return which are left."""
        is_mine, watched = np.ones(len(ids), np.bool_), self._examiner.spec.watched
        for index, own_id in enumerate(ids) if watched else ():
            row = int(rows[index])
            if own_id in watched.ids:  # type: ignore[union-attr]
                is_mine[index] = False
                record = self._examiner.shape.record(value(row), Source(file, raw.number + row))
                result.watched.append(Watched(record, raw.lines[row], bool(is_changed[index])))
            elif watched.can_displace(own_id):  # type: ignore[union-attr]
                result.displacing.append((raw.number + row, own_id))
        result.num_records += int(is_mine.sum())
        return is_mine

    def _sketch(
        self,
        block: RecordBlock | BlockColumns,
        ignored: Sequence[Sequence[str] | None],
        file: str,
        lines: Indices,
        is_mine: Flags,
        is_changed: Flags,
        result: SpanResult,
    ) -> None:
        if not self._examiner.needs_sketches:
            return
        sketches = _sketched(block, file, lines, is_changed)
        result.batches.append(sketches if is_mine.all() else sketches.take(np.flatnonzero(is_mine).tolist()))
        # What a decision may have changed is noted when it is added.
        mine = [codes if mine else None for codes, mine in zip(ignored, is_mine.tolist(), strict=True)]
        self._note_excused(mine, file, lines, result)

    def _named(self, values: Sequence[dict[str, Json]], file: str, lines: Indices, result: SpanResult) -> Sketches:
        """Return sketches of the records that have an id of their own, with nothing but that."""
        named = [
            (index, str(own_id)) for index, own_id in enumerate(every(self._view, values, "id")) if own_id is not None
        ]
        self._note_excused(every(self._view, values, "ignore"), file, lines, result)
        rows, ids = [index for index, _ in named], [own_id for _, own_id in named]
        keys, none, yes = array("Q", bytes(8 * len(ids))), [""] * len(ids), array("B", b"\x01" * len(ids))
        return Sketches(file, ids, _array("I", lines[rows]), keys, keys, none, none, none, keys, yes, yes, ())

    @staticmethod
    def _note_excused(ignored: Sequence[Json], file: str, lines: Indices, result: SpanResult) -> None:
        for index, codes in enumerate(ignored):
            if codes:
                result.excused[file, int(lines[index])] = frozenset(codes)


def _are_in(changed: LineSet | None, lines: Indices, result: SpanResult) -> Flags:
    """Return which of the records in ``lines`` are to be looked at, and count the others."""
    if changed is None:
        return np.ones(len(lines), np.bool_)
    is_changed = changed.are_in(lines)
    result.num_unchanged += int((~is_changed).sum())
    return is_changed


def _sketched(block: RecordBlock | BlockColumns, file: str, lines: Indices, are_wanted: Flags) -> Sketches:
    if isinstance(block, BlockColumns):
        contents, questions, num_chars = block.keys[:, 0], block.keys[:, 2], block.num_chars
        texts = block.categories.texts(), block.splits.texts(), block.sources.texts()
    else:
        contents, questions = block.keys.exact[:, 0], block.keys.question[:, 0]
        num_chars = block.sizes(block.num_chars, has_system=False)
        texts = block.categories, block.splits, block.sources
    categories, splits, sources = texts
    return Sketches(
        file,
        block.ids,
        _array("I", lines),
        _array("Q", contents),
        _array("Q", np.where(block.asks, np.maximum(questions, np.uint64(1)), np.uint64(0))),
        categories,
        splits,
        ["" if source == file else source for source in sources],
        _array("Q", num_chars),
        _array("B", np.asarray(block.have_own_ids)),
        _array("B", are_wanted),
        block.answers_compared,
    )


def _array(kind: str, numbers: NDArray[Any]) -> array[int]:
    """Return numbers as an array that can be pickled and joined without numpy."""
    return array(kind, numbers.astype(kind).tobytes())
