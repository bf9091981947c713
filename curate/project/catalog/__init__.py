"""The catalogue: every record as a row of a table that is filtered, sorted and shown without being copied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from curate.base.hashing import Indices
from curate.base.record import CurateError, Finding, Record, Severity, Split
from curate.project.approval import needs_approval, num_lacking
from curate.project.catalog.base import Base
from curate.project.catalog.columns import (
    COLUMNS,
    DYNAMICS_COLUMNS,
    HEAD,
    RANKS,
    SCHEMA,
    STATUS,
    STATUSES,
    TEXTS,
    WAITING,
    CatalogRow,
    LearningDynamics,
    Status,
    Values,
    frame_of,
    head,
    values_of,
)
from curate.project.data import ProjectData
from curate.project.fold import RecordState
from curate.schema.settings import ReviewSettings

if TYPE_CHECKING:
    from curate.checks.runner.parts import Progress
    from curate.project.filters import Filter

# How often files that change under the reader are read again.
_TRIES = 3

# Numbers of rows, UInt32, in the order in which they are to be shown.
Rows = pl.Series


# What the lines say is the *base*: read once, kept on the disk, opened again at no cost. What decisions have changed
# or added is a small *patch* over it, so that one decision costs the same with a hundred records and with a million.

_BLOCK = 8_192  # Rows whose lines are read at once.


class _Patch:
    """The rows that decisions have changed, by number; None stands for a row that is no more."""

    def __init__(self, review: ReviewSettings) -> None:
        self.states: dict[int, RecordState | None] = {}
        self._review = review
        self.gone: set[int] = set()
        self._changed: set[int] = set()
        self._frame = self.some(())

    def put(self, row: int, state: RecordState | None) -> None:
        self.states[row] = state
        self._changed.add(row)
        (self.gone.add if state is None else self.gone.discard)(row)

    def frame(self) -> pl.DataFrame:
        """Return the rows that are there: ``row``, ``id``, ``is_dropped``, ``is_waiting``, and what `SCHEMA` has."""
        if self._changed:
            changed = pl.Series(list(self._changed), dtype=pl.UInt32)
            retained = self._frame.filter(~pl.col("row").is_in(changed.implode()))
            # Else each decision leaves a chunk of one row, and every later question goes through all of them.
            self._frame = pl.concat([retained, self.some(sorted(self._changed))], rechunk=True)
            self._changed.clear()
        return self._frame

    def some(self, rows: Iterable[int]) -> pl.DataFrame:
        """Return those of ``rows``, all of which were put, that are there, as such a frame."""
        there = [(row, state) for row in rows if (state := self.states[row]) is not None]
        return frame_of([values_of(state.record, state.answers, state.machine) for _, state in there]).with_columns(
            pl.Series("row", [row for row, _ in there], pl.UInt32),
            pl.Series("id", [state.record.id for _, state in there], pl.String),
            pl.Series("is_dropped", [state.dropped is not None for _, state in there], pl.Boolean),
            pl.Series("is_waiting", [num_lacking(state, self._review) > 0 for _, state in there], pl.Boolean),
        )


class Catalog:
    """The rows of a workspace. Made by `open_catalog`; several threads may ask it."""

    def __init__(self, data: ProjectData, base: Base) -> None:
        self.data = data
        self.remarks = list(base.table.remarks)
        """What a person should know, such as that the catalogue could not be kept on the disk."""
        self.num_judgements = 0
        """How often findings have given all records their status."""
        self._review = data.settings.review
        self.learning = LearningDynamics(data)
        self._learned = self.learning.frame
        self.base = base
        """The rows as the lines have them, for work on all texts."""
        # What lines do not say of the rows of the base, and the splits of the last dataset where there is one.
        row = pl.Series("row", np.arange(len(base), dtype=np.uint32))
        ok = self._with_waiting(pl.repeat("ok", len(base), dtype=STATUS, eager=True).alias("status"))
        self._further = pl.DataFrame([row, base.ids]).with_columns(ok, *self.learning.columns(base.ids))
        self._patch = _Patch(self._review)
        # What rows are of which not all may be seen, or might not be; the patch has what may.
        self._unseen = _Patch(self._review)
        self._added: dict[str, int] = {}
        self._severities: Mapping[str, Severity] = {}
        self._pins: Mapping[str, Split] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        """How many records there are, dropped ones included."""
        return self.num_rows - len(self._patch.gone)

    @property
    def num_rows(self) -> int:
        """How many rows there are, with those of records that are no more."""
        return len(self.base) + len(self._added)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with lines that are no records; the first of them, ``counts`` counts all."""
        return self.base.findings

    @property
    def counts(self) -> dict[str, int]:
        """Findings about lines, by code."""
        return self.base.counts

    @property
    def num_unread(self) -> int:
        """Lines that are no records."""
        return self.base.table.num_unread

    @property
    def has_findings(self) -> bool:
        """Whether statuses come from findings; until they do, "ok" only says that a record is not dropped."""
        return self.num_judgements > 0

    # Which rows.

    def select(self, where: Filter) -> Rows:
        """Return the rows that ``where`` lets through, in the order of the files."""
        texts = [term for term in where.terms if not term.columns().isdisjoint(TEXTS)]
        others = replace(where, terms=tuple(term for term in where.terms if term not in texts))
        columns = {name for term in others.terms for name in term.columns()}
        rows = np.flatnonzero(self._of_base(columns, others.expression().alias("every"))["every"].to_numpy())
        for term in texts:
            matches = self.base.matching(rows, replace(term, is_negated=False).expression(), term.raw_pattern())
            rows = np.setdiff1d(rows, matches, assume_unique=True) if term.is_negated else matches
        with self._lock:
            mask = np.zeros(self.num_rows, bool)
            mask[rows] = True
            frame = self._completed(self._patch.frame())
            mask[frame["row"].to_numpy()] = where.mask(frame)
            mask[list(self._patch.gone)] = False
        return pl.Series("row", np.flatnonzero(mask).astype(np.uint32))

    def renew(self, rows: Rows, where: Filter, names: Collection[str]) -> Rows:
        """Return ``rows``, which ``where`` had let through, after the records ``names`` were updated.

        Those that it lets through no longer are left out, and those that it lets through now come last; all others
        stay where they are, so that a table does not move under the reader.
        """
        with self._lock:
            changed = [row for row in map(self._row_of, names) if row is not None and row in self._patch.states]
            frame = self._completed(self._patch.some(changed))
            fitting = frame["row"].filter(where.mask(frame))
        out = rows.is_in(pl.Series(changed, dtype=pl.UInt32).implode()) & ~rows.is_in(fitting.implode())
        new = fitting.filter(~fitting.is_in(rows.implode())).sort()
        return rows.filter(~out).append(new)

    def order(self, rows: Rows, by: str, *, is_descending: bool = False) -> Rows:
        """Return ``rows`` sorted by a column, those that are equal in the order of the files.

        Prompts and completions are compared by their first characters, ``file`` and ``line`` by the order of the files.
        Records of which the newest run says nothing come last, whichever way the sort goes.

        Raises:
            KeyError: there is no such column.
        """
        if by in ("file", "line"):
            return rows.sort(descending=is_descending)
        frame = self.frame([by], rows)
        return frame.select(pl.col("row").sort_by(by, "row", descending=[is_descending, False], nulls_last=True))["row"]

    def frame(self, columns: Collection[str], rows: Rows | None = None, *, is_whole: bool = False) -> pl.DataFrame:
        """Return some columns of ``rows``, by default of every record that is there, beside ``row``, their number.

        The columns are those of `CatalogRow` and `DYNAMICS_COLUMNS`; prompts and completions are cut to their first
        `HEAD` characters, ``labels`` is a list of structs (who, question, answer), ``status`` an enum from good to bad.
        With ``is_whole`` also what must not be seen is there: for what is learned from all records, and never for eyes.

        Raises:
            KeyError: there is no such column.
        """
        if unknown := set(columns) - {*SCHEMA, *DYNAMICS_COLUMNS, "id", "status"}:
            raise KeyError(f"no such column: {', '.join(sorted(unknown))}")
        heads = [pl.col(name).str.slice(0, HEAD) if name in TEXTS else pl.col(name) for name in columns]
        of_base = None if rows is None else rows.filter(rows < len(self.base)).sort().to_numpy()
        merged = self._of_base(columns, "row", *heads, rows=of_base)
        with self._lock:
            for patch in (self._patch, self._unseen) if is_whole else (self._patch,):
                changed = self._completed(patch.frame()).select("row", *heads)
                merged = pl.concat([merged.filter(~pl.col("row").is_in(changed["row"].implode())), changed])
            gone = pl.Series(list(self._patch.gone), dtype=pl.UInt32)
        merged = merged.filter(~pl.col("row").is_in(gone.implode())).sort("row")
        return merged if rows is None else merged[pl.Series(merged["row"].search_sorted(rows))]

    # Single rows.

    def find(self, name: str) -> int | None:
        """Return the row of the record called ``name``, None where there is none."""
        row = self._row_of(name)
        return None if row in self._patch.gone else row

    def name(self, row: int) -> str:
        """Return the id of the record in a row."""
        state = self._patch.states.get(row)
        name: str = self.base.ids[row] if state is None else state.record.id
        return name

    def row(self, row: int) -> CatalogRow:
        """Return what a table shows of a row."""
        return self.rows([row])[0]

    def rows(self, rows: Iterable[int]) -> list[CatalogRow]:
        """Return what a table shows of each of ``rows``; none of them is gone."""
        rows = list(rows)
        unchanged = [row for row in rows if row not in self._patch.states]
        values = dict(zip(unchanged, self.base.values(unchanged), strict=True))
        return [self._row(row, values.get(row)) for row in rows]

    def read(self, name: str) -> Record | None:
        """Read the line of the record called ``name`` again; None where no record file has it.

        Raises:
            CurateError: E974 when the record files have changed since the catalogue was made.
        """
        row = self.base.table.find(name)
        return None if row is None else self.base.table.record(row)

    def visible_states(self, rows: Rows) -> Iterator[RecordState]:
        """Yield the records in ``rows`` as they may be seen, lines read many at a time; E974 as `read`."""
        for low in range(0, len(rows), _BLOCK):
            block = rows[low : low + _BLOCK].to_list()
            unchanged = [row for row in block if row not in self._patch.states]
            records = dict(zip(unchanged, self.base.table.records(unchanged), strict=True))
            for row in block:
                state = RecordState(records[row]) if row in records else self._patch.states[row]
                if state is not None:
                    yield state

    # What changes.

    def update(
        self, changes: Mapping[str, RecordState | None], visible: Mapping[str, RecordState] = MappingProxyType({})
    ) -> None:
        """Show records as decisions have left them; None stands for one that is no more, or not yet.

        ``visible`` has what is to be shown instead of those of them that must not be seen as they are.
        """
        with self._lock:
            ids = self.base.table.ids
            rows = {ids[row]: row for row in self.base.table.rows_of(list(changes))}
            for name, state in changes.items():
                row = self._added.get(name, rows.get(name))
                if row is None and state is not None:
                    row = self._added[name] = self.num_rows
                if row is None:
                    continue
                if name in visible or row in self._unseen.states:
                    self._unseen.put(row, state)
                self._patch.put(row, visible.get(name, state))

    def judge(self, severities: Mapping[str, Severity]) -> None:
        """Give the records named the status of the worst finding about each; others are "ok", or wait for approval."""
        statuses = {name: STATUSES[RANKS[severity]] for name, severity in severities.items()}
        status = self._with_waiting(self._by_id("status", statuses, STATUS).fill_null("ok"))
        with self._lock:
            self._severities = dict(severities)
            self._further = self._further.with_columns(status)
            self.num_judgements += 1

    def pin(self, pins: Mapping[str, Split]) -> None:
        """Show the splits of the last dataset, which hold whatever a line or a decision says."""
        split: list[pl.Series] = []
        if pins:
            own = self.base.frame["split"]
            split = [self._by_id("split", pins, pl.String).fill_null(own)]
        with self._lock:
            self._pins, self._further = pins, self._further.drop("split", strict=False).with_columns(split)

    def pinned_split(self, name: str) -> Split | None:
        """Return the split in which the last dataset has the record called ``name``; None where it has none."""
        return self._pins.get(name)

    # Inside.

    def _row_of(self, name: str) -> int | None:
        row = self._added.get(name)
        return self.base.table.find(name) if row is None else row

    def _of_base(
        self, columns: Collection[str], *expressions: str | pl.Expr, rows: Indices | None = None
    ) -> pl.DataFrame:
        """Return ``expressions`` on ``rows`` of the base, by default all, which ask about ``columns``."""
        self.learning.renew(columns)
        base = self.base
        with self._lock:
            if self.learning.frame is not self._learned:
                self._learned = self.learning.frame
                self._further = self._further.with_columns(self.learning.columns(base.ids))
            further = self._further if rows is None else self._further[rows]
        others = set(columns) - set(further.columns)
        if not others:
            return further.select(expressions)
        # A part at a time: the texts of a million records need not be in memory at once.
        pieces = base.pieces(others, rows)
        return pl.concat([further.slice(low, len(piece)).hstack(piece).select(expressions) for low, piece in pieces])

    def _by_id(self, column: str, by_id: Mapping[str, str], kind: pl.DataType | type[pl.DataType]) -> pl.Series:
        """Return a column for the base from values by id, null for all other records."""
        known = pl.DataFrame({"id": list(by_id), column: list(by_id.values())}, {"id": pl.String, column: kind})
        return self.base.ids.to_frame().join(known, on="id", how="left", maintain_order="left")[column]

    def _with_waiting(self, status: pl.Series) -> pl.Series:
        """Return the statuses of the base with those of the records that wait: nobody has decided on one of them."""
        if not self._review.approvals:
            return status
        waiting = pl.repeat("waiting", len(status), dtype=STATUS, eager=True).alias("status")
        return waiting.zip_with(needs_approval(self.base.frame["category"], self._review) & (status < waiting), status)

    def _row(self, row: int, values: Values | None) -> CatalogRow:
        """Return what a table shows of a row, which has ``values`` where no decision has changed it."""
        state = self._patch.states.get(row)
        if values is None:
            assert state is not None, "none of the rows is gone"
            values = values_of(state.record, state.answers)
        name = state.record.id if state else self.base.table.ids[row]
        is_waiting = num_lacking(state, self._review) > 0 if state else self._review.asks(values.category)
        status = "dropped" if state and state.dropped is not None else self._status(name, is_waiting=is_waiting)
        return CatalogRow(
            name,
            values.file,
            values.line,
            values.category,
            self._pins.get(name, values.split),
            values.source,
            values.kind,
            status,
            values.tokens,
            head(values.prompt),
            head(values.completion),
            tuple((who, question, answer) for who, question, answer in values.labels),
        )

    def _status(self, name: str, *, is_waiting: bool) -> Status:
        return STATUSES[max(RANKS[self._severities.get(name, "info")], WAITING * is_waiting)]

    def _completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return rows of a patch with what comes neither from lines nor from decisions."""
        given = frame.select("id", "split", "is_dropped", "is_waiting").iter_rows()
        statuses, splits = [], []
        for name, split, is_dropped, is_waiting in given:
            statuses.append("dropped" if is_dropped else self._status(name, is_waiting=is_waiting))
            splits.append(self._pins.get(name, split))
        return frame.with_columns(
            pl.Series("status", statuses, STATUS),
            pl.Series("split", splits, pl.String),
            *self.learning.columns(frame["id"]),
        )


def open_catalog(data: ProjectData, on_progress: Progress | None = None) -> Catalog:
    """Read the records of a workspace, without the decisions on them; ``on_progress`` hears bytes done and in all.

    Raises:
        CurateError: E904 when a record file may not be read; E905 when the schema has no ``x-record``
            view; E914 when paths lead out of the workspace; E970 when a worker is killed; E974 when the record files
            keep changing.
    """
    # Programs replace a record file in one step: one that changes more than twice in a row is still being written.
    for _ in range(_TRIES - 1):
        try:
            return Catalog(data, Base(data.read_table(on_progress)))
        except CurateError as error:
            if error.number != "E974":
                raise
    return Catalog(data, Base(data.read_table(on_progress)))
