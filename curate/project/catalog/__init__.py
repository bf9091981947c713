"""The catalogue: every record as a row of a table that is filtered, sorted and shown without being copied.

What the lines say is the *base*: read once, kept on the disk, opened again at no cost. What decisions have changed or
added is a small *patch* over it, so that one decision costs the same with a hundred records and with a million.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.base.record import CurateError, Finding, Record, Severity, Split
from curate.project.catalog.base import Base, files_as_they_are
from curate.project.catalog.base_cache import CACHE_FROM, cached_base
from curate.project.catalog.columns import (
    COLUMNS,
    HEAD,
    SCHEMA,
    STATUS,
    STATUSES,
    CatalogRow,
    Labelled,
    Values,
    head,
    values_of,
)
from curate.project.catalog.dynamics import DYNAMICS_COLUMNS, LearningDynamics
from curate.project.catalog.lines import LineReader, files_changed
from curate.project.catalog.patch import Patch, Patched
from curate.project.catalog.pieces import Progress
from curate.project.catalog.ranks import RANKS
from curate.project.data import ProjectData
from curate.project.fold import RecordState

if TYPE_CHECKING:
    from curate.project.filters import Filter

T = TypeVar("T")
_TRIES = 3
_DROPPED = STATUSES.index("dropped")
_ROOM = 1024
"""Rows that may be added before the array of statuses has to grow."""

Rows = pl.Series
"""Numbers of rows, UInt32, in the order in which they are to be shown."""


class Catalog:
    """The rows of a workspace. Made by `open_catalog`; several threads may ask it."""

    def __init__(self, data: ProjectData, base: Base, remarks: Sequence[str]) -> None:
        self.data = data
        self.remarks = list(remarks)
        """What a person should know, such as that the catalogue could not be kept on the disk."""
        self.num_judgements = 0
        """How often findings have given all records their status."""
        self.learning = LearningDynamics(data)
        self._base = base
        self._patch = Patch()
        self._unseen = Patch()
        """What rows are of which not all may be seen, or might not be; the patch has what may."""
        self._added: dict[str, int] = {}
        self._ranks = np.zeros(len(base) + _ROOM, np.uint8)
        self._pins: Mapping[str, Split] = {}
        self._pinned: pl.Series | None = None
        self._lock = Lock()
        self._lines = LineReader(data, base.about.files)

    def __len__(self) -> int:
        """How many records there are, dropped ones included."""
        return self.num_rows - len(self._patch.gone)

    @property
    def num_rows(self) -> int:
        """How many rows there are, with those of records that are no more."""
        return len(self._base) + len(self._added)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with lines that are no records; the first of them, ``counts`` counts all."""
        return self._base.about.findings

    @property
    def counts(self) -> dict[str, int]:
        """Findings about lines, by code."""
        return self._base.about.counts

    @property
    def num_unread(self) -> int:
        """Lines that are no records."""
        return self._base.about.num_lines - self._base.about.num_records

    @property
    def has_findings(self) -> bool:
        """Whether statuses come from findings; until they do, "ok" only says that a record is not dropped."""
        return self.num_judgements > 0

    @property
    def base(self) -> Base:
        """The rows as the lines have them, for work on all texts; made anew where its files were deleted or changed.

        Raises:
            CurateError: E974 when the record files have changed as well.
        """
        return self._whole()

    # Which rows.

    def select(self, where: Filter) -> Rows:
        """Return the rows that ``where`` lets through, in the order of the files."""
        self.learning.renew({name for term in where.terms for name in term.columns()})
        matches = self._of_base(lambda base: self._matching(base, where))
        with self._lock:
            mask = np.zeros(self.num_rows, bool)
            mask[: len(matches)] = matches
            for frame in map(self._completed, self._patch.frames()):
                mask[frame["row"].to_numpy()] = where.mask(frame)
            mask[list(self._patch.gone)] = False
        return pl.Series("row", np.flatnonzero(mask).astype(np.uint32))

    def renew(self, rows: Rows, where: Filter, names: Collection[str]) -> Rows:
        """Return ``rows``, which ``where`` had let through, after the records ``names`` were updated.

        Those that it lets through no longer are left out, and those that it lets through now come last; all others
        stay where they are, so that a table does not move under the reader.
        """
        with self._lock:
            changed = [row for row in map(self._row_of, names) if row is not None and row in self._patch]
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
        self.learning.renew(columns)
        rows_frame = self._of_base(lambda base: self._columns(base, columns))
        with self._lock:
            patches = (self._patch, self._unseen) if is_whole else (self._patch,)
            for frame in map(self._completed, chain.from_iterable(patch.frames() for patch in patches)):
                changed = frame.select("row", *(_cut(name) for name in columns))
                rows_frame = pl.concat([rows_frame.filter(~pl.col("row").is_in(changed["row"].implode())), changed])
            gone = pl.Series("row", sorted(self._patch.gone), pl.UInt32)
        rows_frame = rows_frame.filter(~pl.col("row").is_in(gone.implode())).sort("row")
        if rows is None:
            return rows_frame
        return rows_frame[pl.Series(rows_frame["row"].search_sorted(rows))]

    # Single rows.

    def find(self, name: str) -> int | None:
        """Return the row of the record called ``name``, None where there is none."""
        row = self._row_of(name)
        return None if row in self._patch.gone else row

    def name(self, row: int) -> str:
        """Return the id of the record in a row."""
        if row in self._patch and (patched := self._patch.get(row)):
            return patched.id
        name: str = self._base.ids[row]
        return name

    def row(self, row: int) -> CatalogRow:
        """Return what a table shows of a row."""
        return self.rows([row])[0]

    def rows(self, rows: Iterable[int]) -> list[CatalogRow]:
        """Return what a table shows of each of ``rows``; none of them is gone."""
        return [self._row(row) for row in rows]

    def read(self, name: str) -> Record | None:
        """Read the line of the record called ``name`` again; None where no record file has it.

        Raises:
            CurateError: E974 when the record files have changed since the catalogue was made.
        """
        row = self._base.find(name)
        if row is None:
            return None
        return replace(self._lines.record(self._base.span(row)), id=name)

    def is_current(self) -> bool:
        """Whether the record files are still those that the catalogue was made of."""
        present = files_as_they_are(self.data.matching_files(), self.data.root)
        # An empty file holds no record: the first record that is added makes one, see `make_added_file`.
        return [file for file in present if file[1]] == [file for file in self._base.about.files if file[1]]

    # What changes.

    def update(
        self, changes: Mapping[str, RecordState | None], visible: Mapping[str, RecordState] = MappingProxyType({})
    ) -> None:
        """Show records as decisions have left them; None stands for one that is no more, or not yet.

        ``visible`` has what is to be shown instead of those of them that must not be seen as they are.
        """
        with self._lock:
            for name, state in changes.items():
                row = self._row_of(name)
                if row is None and state is not None:
                    row = self._added[name] = self.num_rows
                    if row == len(self._ranks):
                        self._ranks = np.concatenate([self._ranks, np.zeros_like(self._ranks)])
                if row is None:
                    continue
                if name in visible or row in self._unseen:
                    self._unseen.put(row, _patched(name, state))
                self._patch.put(row, _patched(name, visible.get(name, state)))

    def judge(self, severities: Mapping[str, Severity]) -> None:
        """Give the records named the status of the worst finding about each, and all others the status "ok"."""
        rows = self._base.find_all(list(severities))
        ranks = np.zeros_like(self._ranks)
        for (name, severity), base_row in zip(severities.items(), rows, strict=True):
            row, rank = self._added.get(name, base_row), RANKS[severity]
            if row is not None and rank > ranks[row]:
                ranks[row] = rank
        with self._lock:
            more = np.zeros(len(self._ranks) - len(ranks), np.uint8)
            self._ranks = np.concatenate([ranks, more])
            self.num_judgements += 1

    def pin(self, pins: Mapping[str, Split]) -> None:
        """Show the splits of the last dataset, which hold whatever a line or a decision says."""
        given = pl.DataFrame({"id": list(pins), "pin": list(pins.values())}, schema={"id": pl.String, "pin": pl.String})

        def pinned(base: Base) -> pl.Series:
            own = base.texts.select("split").collect(engine="streaming")["split"]
            pin_column = base.ids.to_frame().join(given, on="id", how="left", maintain_order="left")["pin"]
            return pin_column.fill_null(own).alias("split")

        split = self._of_base(pinned) if pins else None
        with self._lock:
            self._pins, self._pinned = pins, split

    # Inside.

    def _row_of(self, name: str) -> int | None:
        row = self._added.get(name)
        return self._base.find(name) if row is None else row

    def _of_base(self, ask: Callable[[Base], T]) -> T:
        """Return what ``ask`` finds in the base; where its files were deleted or changed, it is made anew first."""
        for _ in range(_TRIES):
            base = self._whole()
            try:
                return ask(base)
            except (OSError, pl.exceptions.PolarsError):
                # Somebody may empty the folder of caches at any time, also now.
                if base.is_whole():
                    raise
        raise files_changed(str(self.data.root))

    def _whole(self) -> Base:
        with self._lock:
            if not self._base.is_whole():
                base, remarks = cached_base(self.data)
                if base.about.files != self._base.about.files:
                    raise files_changed(str(self.data.root))
                self._base, self.remarks = base, remarks
            return self._base

    def _matching(self, base: Base, where: Filter) -> NDArray[np.bool_]:
        """Return which rows of the base ``where`` lets through; what costs most is asked last, and only if needed."""
        mask = np.ones(len(base), bool)
        sources = (
            ({"status"}, _statuses(self._ranks[: len(base)]).to_frame().lazy()),
            ({"id"}, base.ids.to_frame().lazy()),
            (set(DYNAMICS_COLUMNS), self.learning.lazy_columns(base.ids)),
            (set(SCHEMA), self._texts(base)),
        )
        for columns, source in sources:
            terms = [term for term in where.terms if term.columns() <= columns]
            if terms and mask.any():
                every = pl.all_horizontal([term.expression() for term in terms])
                mask &= source.select(every=every).collect(engine="streaming")["every"].to_numpy()
        return mask

    def _columns(self, base: Base, names: Collection[str]) -> pl.DataFrame:
        """Return columns of the base beside the number of each row."""
        texts = [_cut(name) for name in names if name in SCHEMA]
        series = self._texts(base).select(texts).collect(engine="streaming").get_columns() if texts else []
        if "id" in names:
            series.append(base.ids)
        if "status" in names:
            series.append(_statuses(self._ranks[: len(base)]))
        if not set(DYNAMICS_COLUMNS).isdisjoint(names):
            series += self.learning.lazy_columns(base.ids).collect().get_columns()
        numbers = pl.Series("row", np.arange(len(base), dtype=np.uint32))
        return pl.DataFrame([numbers, *series]).select("row", *names)

    def _texts(self, base: Base) -> pl.LazyFrame:
        """Return the texts of the base, with the splits of the last dataset where they are known."""
        pinned = self._pinned
        if pinned is None:
            return base.texts
        return pl.concat([base.texts.drop("split"), pinned.to_frame().lazy()], how="horizontal")

    def _completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return changed rows with what comes neither from lines nor from decisions: all columns of `CatalogRow`."""
        ranks = np.where(frame["is_dropped"].to_numpy(), _DROPPED, self._ranks[frame["row"].to_numpy()])
        splits = [self._pins.get(name, split) for name, split in frame.select("id", "split").iter_rows()]
        dynamics = self.learning.columns(frame["id"])
        return frame.with_columns(_statuses(ranks.astype(np.uint8)), pl.Series("split", splits, pl.String), *dynamics)

    def _row(self, row: int) -> CatalogRow:
        patched = self._patch.get(row) if row in self._patch else None
        values = patched.values if patched else self._base.values(row)
        name = patched.id if patched else self._base.ids[row]
        rank = _DROPPED if patched and patched.is_dropped else int(self._ranks[row])
        return CatalogRow(
            name,
            values.file,
            values.line,
            values.category,
            self._pins.get(name, values.split),
            values.source,
            values.kind,
            STATUSES[rank],
            values.tokens,
            head(values.prompt) if patched else values.prompt,
            head(values.completion) if patched else values.completion,
            tuple((who, question, answer) for who, question, answer in values.labels),
        )


def open_catalog(data: ProjectData, on_progress: Progress | None = None, *, cache_from: int = CACHE_FROM) -> Catalog:
    """Read the records of a workspace, without the decisions on them; ``on_progress`` hears bytes done and in all.

    From ``cache_from`` bytes of record files on, what was read is cached in ``.curate/cache``, and read from there
    as long as neither the files nor the schema change.

    Raises:
        CurateError: E904 when a record file may not be read; E905 when the schema has no ``x-record``
            view; E914 when paths lead out of the workspace; E970 when a worker is killed; E974 when the record files
            keep changing.
    """
    for left in reversed(range(_TRIES)):
        try:
            base, remarks = cached_base(data, on_progress, cache_from=cache_from)
        except CurateError as error:
            if error.number != "E974" or not left:
                raise
        else:
            return Catalog(data, base, remarks)
    raise AssertionError("the last try has raised")


def _patched(name: str, state: RecordState | None) -> Patched | None:
    return Patched(name, values_of(state.record, state.answers), state.dropped is not None) if state else None


def _cut(name: str) -> pl.Expr:
    return pl.col(name).str.slice(0, HEAD) if name in ("prompt", "completion") else pl.col(name)


def _statuses(ranks: NDArray[np.uint8]) -> pl.Series:
    return pl.Series("status", STATUSES, STATUS).gather(ranks)


__all__ = ["COLUMNS", "Catalog", "Labelled", "CatalogRow", "Rows", "Values", "open_catalog"]
