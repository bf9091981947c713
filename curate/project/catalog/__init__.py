"""The catalogue: every record as a row of a table that is filtered, sorted and shown without being copied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING

import polars as pl

from curate.base.console import spelled
from curate.base.record import CurateError, Finding, Record, Severity, Split
from curate.project.approval import UNAPPROVED
from curate.project.catalog.columns import (
    COLUMNS,
    DYNAMICS_COLUMNS,
    HEAD,
    RANKS,
    STATUS,
    STATUSES,
    TEXTS,
    WAITING,
    CatalogRow,
    LearningDynamics,
    head,
    states_frame,
    table_frame,
)
from curate.project.data import ProjectData
from curate.project.fold import RecordState

if TYPE_CHECKING:
    from curate.checks.runner.parts import Progress
    from curate.checks.runner.table import RecordTable
    from curate.project.filters import Filter
    from curate.schema.view import LineTexts

# How often files that change under the reader are read again.
_TRIES = 3
_BLOCK = 8_192  # Rows whose lines are read at once.

# Numbers of rows, UInt32, in the order in which they are to be shown.
Rows = pl.Series


class Catalog:
    """The rows of a workspace. Made by `open_catalog`; several threads may ask it."""

    # One frame has all but the texts, which stay in the lines and are read when somebody asks for them. What decisions
    # have changed is merged into it with the next question, so that a decision by itself costs nothing.

    def __init__(self, data: ProjectData, table: RecordTable) -> None:
        self.data, self.table = data, table
        self.remarks = list(table.remarks)
        """What a person should know, such as that the catalogue could not be kept on the disk."""
        self.num_judgements = 0
        """How often findings have given all records their status."""
        self.learning = LearningDynamics(data)
        self._learned = self.learning.frame
        self._severities: Mapping[str, Severity] = {}
        self._pins: Mapping[str, Split] = {}
        # By row, what decisions have made of records, as it may be seen; None for a record that is no more.
        self._states: dict[int, RecordState | None] = {}
        # The same of rows of which not all may be seen, or might not be, as it is.
        self._unseen: dict[int, RecordState | None] = {}
        self._changed: set[int] = set()
        self._added: dict[str, int] = {}
        self._plain = table_frame(table, data.settings.review)
        self._frame = self._completed(self._plain)
        self._lock = Lock()

    def __len__(self) -> int:
        """How many records there are, dropped ones included."""
        return self.num_rows - sum(state is None for state in self._states.values())

    @property
    def num_rows(self) -> int:
        """How many rows there are, with those of records that are no more."""
        return len(self.table) + len(self._added)

    @property
    def num_unread(self) -> int:
        """Lines that are no records."""
        return self.table.num_unread

    @property
    def has_findings(self) -> bool:
        """Whether statuses come from findings; until they do, "ok" only says that a record is not dropped."""
        return self.num_judgements > 0

    # Which rows.

    def select(self, where: Filter, *, is_whole: bool = False) -> Rows:
        """Return the rows that ``where`` lets through, in the order of the files; ``is_whole`` is as for `frame`."""
        return self._matching(where, self._current(where.columns(), is_whole=is_whole))

    def renew(self, rows: Rows, where: Filter, names: Collection[str]) -> Rows:
        """Return ``rows``, which ``where`` had let through, after the records ``names`` were updated.

        Those that it lets through no longer are left out, and those that it lets through now come last; all others
        stay where they are, so that a table does not move under the reader.
        """
        touched = [row for row in map(self._row_of, names) if row is not None and row in self._states]
        changed = pl.Series(touched, dtype=pl.UInt32).implode()
        fitting = self._matching(where, self._current(where.columns()).filter(pl.col("row").is_in(changed)))
        out = rows.is_in(changed) & ~rows.is_in(fitting.implode())
        return rows.filter(~out).append(fitting.filter(~fitting.is_in(rows.implode())))

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
        if unknown := set(columns) - {*COLUMNS, *DYNAMICS_COLUMNS, "machine"}:
            raise KeyError(f"no such column: {', '.join(sorted(unknown))}")
        frame = self._current(columns, is_whole=is_whole)
        if rows is not None:
            frame = frame[pl.Series(frame["row"].search_sorted(rows))]
        if texts := [name for name in TEXTS if name in columns]:
            heads = [some.with_columns(pl.col(TEXTS).str.slice(0, HEAD)) for some in self._texts(frame["row"])]
            frame = frame.hstack(pl.concat(heads).select(texts))
        return frame.select("row", *columns)

    # Single rows.

    def find(self, name: str) -> int | None:
        """Return the row of the record called ``name``, None where there is none."""
        row = self._row_of(name)
        return None if row in self._states and self._states[row] is None else row

    def name(self, row: int) -> str:
        """Return the id of the record in a row."""
        state = self._states.get(row)
        return self.table.ids[row] if state is None else state.record.id

    def row(self, row: int) -> CatalogRow:
        """Return what a table shows of a row."""
        return self.rows([row])[0]

    def rows(self, rows: Iterable[int]) -> list[CatalogRow]:
        """Return what a table shows of each of ``rows``; none is gone. "…" stands for texts of files that changed."""
        chosen = pl.Series("row", list(rows), pl.UInt32)
        known = self.frame([name for name in COLUMNS if name not in TEXTS], chosen).drop("row").to_dicts()
        texts = [text for some in self._texts(chosen, is_lenient=True) for text in some.select(TEXTS).iter_rows()]
        return [
            CatalogRow(
                **{**values, "labels": tuple(tuple(label.values()) for label in values["labels"])},
                prompt=head(prompt),
                completion=head(completion),
            )
            for values, (prompt, completion) in zip(known, texts, strict=True)
        ]

    def read(self, name: str) -> Record | None:
        """Read the line of the record called ``name`` again; None where no record file has it.

        Raises:
            CurateError: E974 when the record files have changed since the catalogue was made.
        """
        row = self.table.find(name)
        return None if row is None else self.table.record(row)

    def line_texts(self) -> Iterator[LineTexts]:
        """Yield what each line of the record files says, in order; E974 as `read`."""
        for low in range(0, len(self.table), _BLOCK):
            yield from self.table.texts(range(low, min(low + _BLOCK, len(self.table))))

    def visible_states(self, rows: Rows) -> Iterator[RecordState]:
        """Yield the records in ``rows`` as they may be seen, lines read many at a time; E974 as `read`."""
        for low in range(0, len(rows), _BLOCK):
            block = rows[low : low + _BLOCK].to_list()
            unchanged = [row for row in block if row not in self._states]
            records = dict(zip(unchanged, self.table.records(unchanged), strict=True))
            for row in block:
                state = RecordState(records[row]) if row in records else self._states[row]
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
            ids = self.table.ids
            rows = {ids[row]: row for row in self.table.rows_of(list(changes))} | self._added
            for name, state in changes.items():
                if name not in rows and state is None:
                    continue
                if name not in rows:
                    rows[name] = self._added[name] = self.num_rows
                row = rows[name]
                if name in visible or row in self._unseen:
                    self._unseen[row] = state
                self._states[row] = visible.get(name, state)
                self._changed.add(row)

    def judge(self, severities: Mapping[str, Severity]) -> None:
        """Give the records named the status of the worst finding about each; others are "ok", or wait for approval."""
        with self._lock:
            self._severities = dict(severities)
            self._frame = self._completed(self._plain)
            self.num_judgements += 1

    def severities_of(self, findings: Iterable[Finding]) -> dict[str, Severity]:
        """Return the worst severity of the ``findings`` of a validation about each record, by its id."""
        # They name files by their path, and records as their lines do, which is not by their id where that repeats.
        files = {}
        for path in self.data.matching_files():
            name = spelled(str(path.relative_to(self.data.root)))
            files[name] = files[spelled(str(path))] = name
        told = [finding for finding in findings if finding.code != UNAPPROVED]
        lines = pl.Series([finding.line for finding in told], dtype=pl.UInt32).implode()
        known = self._current(()).filter(pl.col("line").is_in(lines)).select("id", "file", "line")
        names = {(file, line): name for name, file, line in known.iter_rows()}
        worst: dict[str, Severity] = {}
        for finding in told:
            is_in_file = finding.file in files
            name = names.get((files[finding.file], finding.line), "") if is_in_file else finding.record
            if name and RANKS[finding.severity] >= RANKS[worst.get(name, "info")]:
                worst[name] = finding.severity
        return worst

    def pin(self, pins: Mapping[str, Split]) -> None:
        """Show the splits of the last dataset, which hold whatever a line or a decision says."""
        with self._lock:
            self._pins = pins
            self._frame = self._completed(self._plain)

    def pinned_split(self, name: str) -> Split | None:
        """Return the split in which the last dataset has the record called ``name``; None where it has none."""
        return self._pins.get(name)

    # Inside.

    def _row_of(self, name: str) -> int | None:
        row = self._added.get(name)
        return self.table.find(name) if row is None else row

    def _matching(self, where: Filter, frame: pl.DataFrame) -> Rows:
        """Return the rows of ``frame`` that ``where`` lets through; texts are looked at last, some rows at a time."""
        terms = [term for term in where.terms if not term.columns().isdisjoint(TEXTS)]
        others = tuple(term for term in where.terms if term not in terms)
        rows = frame.filter(replace(where, terms=others).expression())["row"]
        if not terms:
            return rows
        is_match = replace(where, terms=tuple(terms)).expression()
        return pl.concat([some.filter(is_match)["row"] for some in self._texts(rows)])

    def _current(self, columns: Collection[str], *, is_whole: bool = False) -> pl.DataFrame:
        """Return the records that are there as they are now, without their texts; it is asked about ``columns``."""
        self.learning.renew(columns)
        with self._lock:
            if self._changed:
                changed = self._frame_of({row: self._states[row] for row in self._changed})
                self._plain = _merged(self._plain, changed, self._changed)
                self._frame = _merged(self._frame, self._completed(changed), self._changed)
                self._changed = set()
            if self._learned is not self.learning.frame:
                self._learned, self._frame = self.learning.frame, self._completed(self._plain)
            if not is_whole:
                return self._frame
            return _merged(self._frame, self._completed(self._frame_of(self._unseen)), self._unseen)

    def _frame_of(self, states: Mapping[int, RecordState | None]) -> pl.DataFrame:
        """Return those of ``states``, by row, that are there, as a frame like that of the lines."""
        there = {row: state for row, state in states.items() if state is not None}
        frame = states_frame(list(there.values()), self.data.settings.review)
        return frame.with_columns(pl.Series("row", list(there), pl.UInt32)).select(self._plain.columns)

    def _completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame with what comes neither from lines nor from decisions."""
        ranks = [RANKS[severity] for severity in self._severities.values()]
        severities = pl.DataFrame({"id": list(self._severities), "rank": ranks}, {"id": pl.String, "rank": pl.Int32})
        pins = pl.DataFrame(
            {"id": list(self._pins), "pin": list(self._pins.values())}, dict.fromkeys(("id", "pin"), pl.String)
        )
        joined = frame
        for further in (severities, pins, self.learning.frame):
            joined = joined.join(further, on="id", how="left", maintain_order="left")
        waiting = pl.col("is_waiting").cast(pl.Int32) * WAITING
        rank = pl.max_horizontal(pl.col("rank").fill_null(0), waiting)
        rank = pl.when("is_dropped").then(len(STATUSES) - 1).otherwise(rank)
        return joined.with_columns(
            rank.replace_strict(range(len(STATUSES)), STATUSES, return_dtype=STATUS).alias("status"),
            pl.coalesce("pin", "split").alias("split"),
        ).drop("rank", "pin")

    def _texts(self, rows: Rows, *, is_lenient: bool = False) -> Iterator[pl.DataFrame]:
        """Yield ``row``, ``prompt`` and ``completion`` of ``rows``, some at a time, and none of them at least.

        Raises:
            CurateError: E974 as `read`, unless ``is_lenient``: then "…" stands for what cannot be read.
        """
        for low in range(0, max(1, len(rows)), _BLOCK):
            block = rows[low : low + _BLOCK]
            numbers = block.to_list()
            lines = [row for row in numbers if row not in self._states]
            try:
                read = ((prompt or text, answer) for prompt, answer, text, *_ in self.table.texts(lines))
                texts = dict(zip(lines, read, strict=True))
            except CurateError:
                if not is_lenient:
                    raise
                texts = dict.fromkeys(lines, ("…", "…"))
            for row in numbers:
                if (state := self._states.get(row)) is not None:
                    texts[row] = state.record.prompt or state.record.text, state.record.completion
            yield pl.DataFrame(
                [block.alias("row")]
                + [pl.Series(name, [texts[row][n] for row in numbers], pl.String) for n, name in enumerate(TEXTS)]
            )


def _merged(frame: pl.DataFrame, changed: pl.DataFrame, rows: Iterable[int]) -> pl.DataFrame:
    """Return ``frame`` with the rows of ``changed`` in place of its own ``rows``, in their order."""
    gone = pl.Series(list(rows), dtype=pl.UInt32).implode()
    return pl.concat([frame.filter(~pl.col("row").is_in(gone)), changed]).sort("row")


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
            return Catalog(data, data.read_table(on_progress))
        except CurateError as error:
            if error.number != "E974":
                raise
    return Catalog(data, data.read_table(on_progress))
