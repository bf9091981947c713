"""Many lines examined at once, with the result that `Examiner` comes to one by one."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, Indices
from curate.base.record import Finding, Json, Record, Source
from curate.checks import Sketches
from curate.checks.runner.changes import LineSet
from curate.checks.runner.names import Watched
from curate.checks.runner.results import ExaminerSpec, SpanResult
from curate.jsonl import RawBlock, RawLine, Reader, strict_loads_all
from curate.schema import Shape
from curate.similarity.dedupe.blocks import Flags, RecordBlock, block_of, every, read_block
from curate.similarity.dedupe.kernels import NUMPY, Kernels, kernels_for

# What is asked of a line: its shape alone, or its id besides, so that no record need be made of it.
Needs = Literal["shape", "ids", "record"]
# Where more of a block's lines break the schema, its lines go one by one: of faults that are alike all but the first
# need only be counted, see `Skeletons`.
_MOST_INVALID = 0.1


class Examining(Protocol):
    """What a block pass asks of its examiner."""

    spec: ExaminerSpec
    shape: Shape
    needs: Needs
    needs_sketches: bool

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
    def _kernels(self) -> Kernels:
        # Where others examine all the lines there is nothing to load.
        spec = self._examiner.spec
        return kernels_for(spec.num_bytes, spec.is_compiled)

    @property
    def is_compiled(self) -> bool:
        """Whether compiled loops give records their keys."""
        return self._kernels is not NUMPY

    @cached_property
    def _nothing(self) -> Hashes:
        """The key of a text that says nothing."""
        keys: Hashes = self._kernels.clean([""]).keys[0]
        return keys

    def lines(self, reader: Reader, result: SpanResult, changed: LineSet | None) -> Iterator[RawLine | Finding]:
        """Examine what can be examined at once, and yield all other lines in their turn.

        Of lines that are not ``changed`` there are only sketches.
        """
        is_valid = self._examiner.shape.is_valid
        for item in reader.blocks():
            if not isinstance(item, RawBlock):
                yield item
                continue
            values = strict_loads_all(item.whole, item.lines)
            are_valid = np.array(list(map(is_valid, values or ())), np.bool_)
            if values is None or (~are_valid).sum() > _MOST_INVALID * len(values):
                yield from item.raw_lines()
            else:
                self._close(result)
                yield from self._examine(item, values, are_valid, reader.name, result, changed)

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
            block = block_of(records, self._kernels)
            result.batches.append(self._sketched(block, records[0].source.file, lines))

    def _examine(
        self,
        raw: RawBlock,
        values: Sequence[dict[str, Json]],
        are_valid: Flags,
        file: str,
        result: SpanResult,
        changed: LineSet | None,
    ) -> Iterator[RawLine]:
        """Examine the valid lines, and yield the others in their turn."""
        examiner, rows = self._examiner, np.flatnonzero(are_valid)
        good = values if len(rows) == len(values) else [values[row] for row in rows.tolist()]
        lines = raw.number + rows
        is_changed = np.ones(len(good), np.bool_)
        if changed is not None:
            is_changed = np.array([line in changed for line in lines.tolist()], np.bool_)
            result.num_unchanged += int((~is_changed).sum())
        flags, by_code = np.zeros(len(good), np.bool_), dict[str, Flags]()
        if examiner.needs != "record":
            result.num_records += len(good)
            if examiner.needs == "ids":
                result.batches.append(self._named(good, file, lines, result))
        else:
            block = read_block(self._view, good, self._kernels)
            is_mine = self._not_watched(block, raw, rows, file, is_changed, result)
            result.num_records += int(is_mine.sum())
            flags = is_changed & is_mine
            if flags.any():
                all_flags, by_code = examiner.flags(block)
                flags &= all_flags
            self._sketch(block, file, lines, is_mine, result)
        # Findings come in the order of the lines, for only the first of them are retained.
        to_do = np.zeros(len(values), np.bool_)
        to_do[rows] = flags
        index_of = np.cumsum(are_valid) - 1
        raw_lines = [] if are_valid.all() else list(raw.raw_lines())
        for row in np.flatnonzero(to_do | ~are_valid).tolist():
            if are_valid[row]:
                record = examiner.shape.record(values[row], Source(file, raw.number + row))
                spared = {code for code, some in by_code.items() if not some[index_of[row]]}
                examiner.check(record, raw.lines[row], result, spared)
            else:
                yield raw_lines[row]

    def _not_watched(
        self, block: RecordBlock, raw: RawBlock, rows: Indices, file: str, is_changed: Flags, result: SpanResult
    ) -> Flags:
        """Set the records with watched ids aside, and return which are left."""
        is_mine, watched = np.ones(len(block), np.bool_), self._examiner.spec.watched
        if watched is None:
            return is_mine
        for index, own_id in enumerate(block.ids):
            line = raw.number + int(rows[index])
            if own_id in watched.ids:
                is_mine[index] = False
                record = self._examiner.shape.record(block.values[index], Source(file, line))
                result.watched.append(Watched(record, raw.lines[rows[index]], bool(is_changed[index])))
            elif watched.can_displace(own_id):
                result.displacing.append((line, own_id))
        return is_mine

    def _sketch(self, block: RecordBlock, file: str, lines: Indices, is_mine: Flags, result: SpanResult) -> None:
        if not self._examiner.needs_sketches:
            return
        sketches = self._sketched(block, file, lines)
        result.batches.append(sketches if is_mine.all() else sketches.take(np.flatnonzero(is_mine).tolist()))
        # What a decision may have changed is noted when it is added.
        ignored = [codes if mine else None for codes, mine in zip(block.ignored, is_mine.tolist(), strict=True)]
        self._note_excused(ignored, file, lines, result)

    def _sketched(self, block: RecordBlock, file: str, lines: Indices) -> Sketches:
        keys = block.keys
        says = np.concatenate([[0], np.cumsum((block.cleaned.keys != self._nothing).any(axis=1))])
        asks = says[block.starts + block.num_question_texts] > says[block.starts]
        return Sketches(
            file,
            block.ids,
            _array("I", lines),
            _array("Q", keys.exact[:, 0]),
            _array("Q", np.where(asks, np.maximum(keys.question[:, 0], np.uint64(1)), np.uint64(0))),
            block.categories,
            block.splits,
            ["" if source == file else source for source in block.sources],
            _array("Q", block.sizes(block.num_chars, has_system=False)),
            block.have_own_ids,
        )

    def _named(self, values: Sequence[dict[str, Json]], file: str, lines: Indices, result: SpanResult) -> Sketches:
        """Return sketches of the records that have an id of their own, with nothing but that."""
        named = [
            (index, str(own_id)) for index, own_id in enumerate(every(self._view, values, "id")) if own_id is not None
        ]
        self._note_excused(every(self._view, values, "ignore"), file, lines, result)
        rows, ids = [index for index, _ in named], [own_id for _, own_id in named]
        keys, none = array("Q", bytes(8 * len(ids))), [""] * len(ids)
        return Sketches(file, ids, _array("I", lines[rows]), keys, keys, none, none, none, keys, [True] * len(ids))

    @staticmethod
    def _note_excused(ignored: Sequence[Json], file: str, lines: Indices, result: SpanResult) -> None:
        for index, codes in enumerate(ignored):
            if codes:
                result.excused[file, int(lines[index])] = frozenset(codes)


def _array(kind: str, numbers: NDArray[Any]) -> array[int]:
    """Return numbers as an array that can be pickled and joined without numpy."""
    return array(kind, numbers.astype(np.uint32 if kind == "I" else np.uint64).tobytes())
