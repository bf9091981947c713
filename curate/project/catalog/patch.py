"""Rows that decisions have changed or added, over a base that stays: one decision costs the same at any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from curate.project.catalog.columns import Values, frame_of

_MOST_FRESH = 512
"""Changed rows that are made into a frame anew for every question; more are put with the settled ones."""


@dataclass(frozen=True, slots=True)
class Patched:
    """What a row now is."""

    id: str
    values: Values
    is_dropped: bool


class Patch:
    """The changed rows by number; None stands for a row that is no more."""

    def __init__(self) -> None:
        self._rows: dict[int, Patched | None] = {}
        self._settled: pl.DataFrame | None = None
        self._fresh: set[int] = set()
        self.gone: set[int] = set()
        """Rows that are no more."""

    def __contains__(self, row: int) -> bool:
        return row in self._rows

    def put(self, row: int, patched: Patched | None) -> None:
        """Say what a row now is."""
        self._rows[row] = patched
        self._fresh.add(row)
        if patched is None:
            self.gone.add(row)
        else:
            self.gone.discard(row)

    def get(self, row: int) -> Patched | None:
        """Return what a row that was put now is."""
        return self._rows[row]

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the changed rows as frames with ``row``, ``id``, ``is_dropped`` and the columns of the base.

        A row may be in several; the last one holds.
        """
        if len(self._fresh) > _MOST_FRESH:
            self._settled = self.some(self._rows)
            self._fresh.clear()
        if self._settled is not None:
            yield self._settled
        if self._fresh:
            yield self.some(self._fresh)

    def some(self, rows: Iterable[int]) -> pl.DataFrame:
        """Return those of ``rows``, all of which were put, that are there, as such a frame."""
        there = [(row, patched) for row in rows if (patched := self._rows[row]) is not None]
        return frame_of([patched.values for _, patched in there]).with_columns(
            pl.Series("row", [row for row, _ in there], pl.UInt32),
            pl.Series("id", [patched.id for _, patched in there], pl.String),
            pl.Series("is_dropped", [patched.is_dropped for _, patched in there], pl.Boolean),
        )
