"""Records of a workspace in some order, most of which are read from their lines only when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property
from typing import Any, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.base.record import Record, Source, Split, estimated_tokens
from curate.checks.runner.table import RecordTable
from curate.project.fold import RecordState
from curate.schema.shape import said_digest
from curate.schema.view import LineTexts
from curate.similarity.dedupe.blocks import Keys
from curate.similarity.dedupe.corpus import Corpus, gather
from curate.similarity.leaks.words import line_texts
from curate.similarity.split import SplitRow

_COLUMNS = {"id": pl.String, "category": pl.String, "split": pl.String, "file": pl.String, "line": pl.Int64}
# Records that are read at once by who goes through all of them.
_AT_ONCE = 1024


class Records(Sequence[Record]):
    """N records: lines of a table, and others that are held here, such as what decisions have changed."""

    def __init__(self, own: Sequence[Record], table: RecordTable | None = None, rows: Indices | None = None) -> None:
        """``rows`` are those of ``table``, or -1 - i for the i-th of ``own``; None stands for all of the latter."""
        self._own, self._table = own, table
        self._rows = -1 - np.arange(len(own)) if rows is None else rows

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Return ``records`` as such a sequence."""
        return records if isinstance(records, Records) else cls(records)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Record | Records:
        """Return one record, or some of them.

        Raises:
            CurateError: E974 when the file of one has changed since.
        """
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = int(self._rows[index])
        return self._own[-1 - row] if row < 0 else self._lines.record(row)

    def __iter__(self) -> Iterator[Record]:
        for low in range(0, len(self), _AT_ONCE):
            yield from self.read(range(low, min(low + _AT_ONCE, len(self))))

    @property
    def _lines(self) -> RecordTable:
        assert self._table is not None, "rows of a table are not negative"
        return self._table

    def read(self, numbers: Sequence[int] | Indices) -> list[Record]:
        """Return the records of these numbers, in their order; those in neighbouring lines are read together.

        Raises:
            CurateError: E974 when a file has changed since.
        """
        rows = self._rows[np.asarray(numbers, np.int64)]
        lines = iter(self._lines.records(rows[rows >= 0])) if (rows >= 0).any() else iter(())
        return [next(lines) if row >= 0 else self._own[-1 - row] for row in rows.tolist()]

    def texts(self, numbers: Sequence[int] | Indices) -> list[LineTexts]:
        """Return the texts of the records of these numbers, in their order.

        Raises:
            CurateError: E974 when a file has changed since.
        """
        rows = self._rows[np.asarray(numbers, np.int64)]
        lines = iter(self._lines.texts(rows[rows >= 0])) if (rows >= 0).any() else iter(())
        return [next(lines) if row >= 0 else line_texts(self._own[-1 - row]) for row in rows.tolist()]

    def take(self, numbers: Sequence[int] | Indices) -> Records:
        """Return the records of these numbers, in their order, without reading them."""
        return Records(self._own, self._table, self._rows[np.asarray(numbers, np.int64)])

    def joined(self, others: Records) -> Records:
        """Return these records and those of ``others``, which are of the same table if both are of one."""
        behind = np.where(others._rows < 0, others._rows - len(self._own), others._rows)
        rows = np.concatenate([self._rows, behind])
        return Records([*self._own, *others._own], others._table if self._table is None else self._table, rows)

    # What is known without reading them.

    @cached_property
    def _frame(self) -> pl.DataFrame:
        """The id, category, split, file and line of each."""
        own = [
            (record.id, record.category, record.split or "", record.source.file, record.source.line)
            for record in self._own
        ]
        frame = pl.DataFrame(own, _COLUMNS, orient="row")
        if (table := self._table) is not None:
            files = pl.Series("file", table.file_names, pl.String).gather(table.files)
            ids, lines = pl.Series("id", table.ids, pl.String), pl.Series("line", table.lines, pl.Int64)
            columns = [ids, table.categories.alias("category"), table.splits.alias("split"), files, lines]
            frame = pl.concat([frame, pl.DataFrame(columns)])
        return frame[self._places]

    @property
    def _places(self) -> Indices:
        """The place of each among those held here and the rows of the table behind them."""
        return np.where(self._rows < 0, -1 - self._rows, self._rows + len(self._own))

    @property
    def said(self) -> list[str]:
        """The digest of what each asks and answers, see `said_digest`."""
        said = pl.Series([said_digest(record.messages, record.text) for record in self._own], dtype=pl.String)
        return (said if self._table is None else said.append(self._table.said)).gather(self._places).to_list()

    @property
    def ids(self) -> list[str]:
        """The id of each."""
        return self._frame["id"].to_list()

    @property
    def splits(self) -> list[Split | None]:
        """The split that each is in by its line or a decision."""
        return [split or None for split in self._frame["split"]]

    @property
    def categories(self) -> list[str]:
        """The category of each."""
        return self._frame["category"].to_list()

    @property
    def sizes(self) -> Indices:
        """The characters of prompt, completion and text of each."""
        own = [len(record.prompt) + len(record.completion) + len(record.text) for record in self._own]
        return self._column(self._table.num_chars if self._table is not None else None, np.array(own, np.int64))

    @property
    def tokens(self) -> list[int]:
        """About how many tokens each has, see `estimated_tokens`."""
        own = np.array(list(map(estimated_tokens, self._own)), np.int64)
        tokens: list[int] = self._column(
            -(-self._table.num_bytes // 4) if self._table is not None else None, own
        ).tolist()
        return tokens

    def figures(self) -> Iterator[tuple[str, str, Split | None, int, int]]:
        """Return the id, category and split of each, and the characters of its prompt and of its completion or text.

        Raises:
            CurateError: E974 when a file has changed since.
        """
        prompts: list[int] = []
        completions: list[int] = []
        for low in range(0, len(self), _AT_ONCE):
            texts = self.texts(range(low, min(low + _AT_ONCE, len(self))))
            prompts += [len(prompt) for prompt, *_ in texts]
            completions += [len(completion or text) for _, completion, text, *_ in texts]
        return zip(self.ids, self.categories, self.splits, prompts, completions, strict=True)

    def rows(self) -> list[SplitRow]:
        """Return what a division asks of each."""
        places = self._frame["file"], self._frame["line"]
        return list(map(SplitRow._make, zip(self.ids, self.categories, self.splits, *places, strict=True)))

    def where(self, is_wanted: Callable[[str], bool]) -> Records:
        """Return those whose id is wanted."""
        return self.take([number for number, name in enumerate(self.ids) if is_wanted(name)])

    def moved(self, names: Collection[str], split: Split) -> Records:
        """Return the same records, with those called ``names`` assigned to a split."""
        numbers = [number for number, name in enumerate(self.ids) if name in names]
        rows = self._rows.copy()
        rows[numbers] = -1 - len(self._own) - np.arange(len(numbers))
        return Records([*self._own, *(record.moved_to(split) for record in self.read(numbers))], self._table, rows)

    def source(self, number: int) -> Source:
        """Return where a record stands."""
        return Source(*self._frame.row(number)[-2:])

    def sources(self) -> list[Source]:
        """Return where each stands."""
        return list(map(Source, self._frame["file"], self._frame["line"]))

    def corpus(self) -> Corpus:
        """Return the records as `curate.similarity.dedupe` compares them.

        Raises:
            CurateError: E974 when the cache is gone and a file has changed since.
        """
        if self._table is None:
            return gather(self)
        own, table = gather(self._own), self._table
        tokens = table.tokens(own.tokens)
        begin = len(tokens) - len(own.tokens)
        merged = self._column(table.keys, np.concatenate(own.columns, axis=1))
        keys = Keys(*map(np.ascontiguousarray, np.split(merged, len(Keys._fields), axis=1)))
        return Corpus(self.ids, keys, self._column(table.bounds, own.bounds + begin), tokens)

    def _column(self, of_table: NDArray[Any] | None, of_own: NDArray[Any]) -> NDArray[Any]:
        """Return the entries of a column for these records."""
        is_own = self._rows < 0
        if of_table is None or is_own.all():
            return of_own[-1 - self._rows]
        if len(self) == len(of_table) and np.array_equal(self._rows, np.arange(len(self))):
            # Mostly nobody has decided anything, and a copy of all keys is 80 MB a million.
            return of_table
        column = of_table[np.maximum(self._rows, 0)]
        column[is_own] = of_own[-1 - self._rows[is_own]]
        return column


class LazyStates(Mapping[str, RecordState]):
    """The states of the records of a table by id, and of those that decisions have added behind them."""

    def __init__(self, table: RecordTable, decided: Mapping[int, RecordState], added: Sequence[RecordState]) -> None:
        """``decided`` are the states of rows that somebody has decided on."""
        self.table, self.decided, self.added = table, decided, added
        self._added = {state.record.id: state for state in added}

    def __len__(self) -> int:
        return len(self.table) + len(self.added)

    def __contains__(self, name: object) -> bool:
        return name in self._added or (isinstance(name, str) and self.table.find(name) is not None)

    def __iter__(self) -> Iterator[str]:
        yield from self.table.ids
        yield from self._added

    def __getitem__(self, name: str) -> RecordState:
        if state := self._added.get(name):
            return state
        row = self.table.find(name)
        if row is None:
            raise KeyError(name)
        return self.decided.get(row) or RecordState(self.table.record(row))

    def changed(self, changes: Mapping[str, RecordState | None]) -> LazyStates:
        """Return these states with ``changes``; None stands for an added record that is no more."""
        decided, added = dict(self.decided), dict(self._added)
        for name, state in changes.items():
            row = self.table.find(name)
            if row is not None and state is not None:
                decided[row] = state
            elif state is not None:
                added[name] = state
            else:
                added.pop(name, None)
        return LazyStates(self.table, decided, list(added.values()))

    def of(self, names: Sequence[str]) -> Iterator[RecordState]:
        """Yield the states of those of ``names`` that there are; many lines are read at once."""
        yield from (self._added[name] for name in names if name in self._added)
        rows = np.array(self.table.rows_of([name for name in names if name not in self._added]), np.int64)
        for row, record in zip(rows.tolist(), Records([], self.table, rows), strict=True):
            yield self.decided.get(row) or RecordState(record)

    def values(self) -> _States:
        """Return the states in their order; who goes through them reads many lines at once."""
        return _States(self)

    def those_decided(self) -> list[RecordState]:
        """Return the states that somebody has decided on, in their order."""
        return [*(self.decided[row] for row in sorted(self.decided)), *self.added]

    def records(self) -> Records:
        """Return the records that no decision leaves out."""
        rows, own = np.arange(len(self.table)), list[Record]()
        is_in = np.ones(len(rows), np.bool_)
        for row, state in self.decided.items():
            is_in[row] = state.dropped is None
            rows[row] = -1 - len(own)
            own.append(state.record)
        behind = [state.record for state in self.added if state.dropped is None]
        return Records(own, self.table, rows[is_in]).joined(Records(behind))


class _States(ValuesView[RecordState]):
    def __init__(self, states: LazyStates) -> None:
        super().__init__(states)
        self._states = states

    def __iter__(self) -> Iterator[RecordState]:
        states = self._states
        for row, record in enumerate(Records([], states.table, np.arange(len(states.table)))):
            yield states.decided.get(row) or RecordState(record)
        yield from states.added
