"""Answers as arrays, with records that were answered alike counted together."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray

from curate.base.record import Json
from curate.sessions.agreement.answers import Answers, key_of, order_of

Whole = NDArray[numpy.int64]
Floats = NDArray[numpy.float64]


@dataclass(frozen=True)
class Sheet:
    """Who answered what: a row a record, a column an annotator; a cell is a place in ``values``, -1 for no answer."""

    records: tuple[str, ...]
    annotators: tuple[str, ...]
    values: tuple[Json, ...]
    cells: Whole

    @cached_property
    def sizes(self) -> Whole:
        """Number of answers to each record."""
        return numpy.asarray((self.cells >= 0).sum(axis=1), dtype=numpy.int64)

    @property
    def num_shared(self) -> int:
        """Number of records with two answers or more: the only ones that tell of agreement."""
        return int((self.sizes > 1).sum())

    @property
    def num_pairs(self) -> int:
        """Number of pairs of answers to the same record."""
        return int((self.sizes * (self.sizes - 1) // 2).sum())


def sheet_of(answers: Answers) -> Sheet:
    """Return ``answers`` with annotators and values in order; records that nobody has answered are left out."""
    given = {name: {by: value for by, value in own.items() if value is not None} for name, own in answers.items()}
    given = {name: own for name, own in given.items() if own}
    annotators = sorted({by for own in given.values() for by in own})
    columns = {by: column for column, by in enumerate(annotators)}
    known: dict[Hashable, int] = {}
    values: list[Json] = []
    cells = numpy.full((len(given), len(annotators)), -1, dtype=numpy.int64)
    for row, own in enumerate(given.values()):
        for by, value in own.items():
            code = known.setdefault(key_of(value), len(values))
            if code == len(values):
                values.append(value)
            cells[row, columns[by]] = code
    order = sorted(range(len(values)), key=lambda code: order_of(values[code]))
    # The last place stands for -1, which must stay what it is.
    new_codes = numpy.full(len(values) + 1, -1, dtype=numpy.int64)
    new_codes[order] = numpy.arange(len(values))
    return Sheet(tuple(given), tuple(annotators), tuple(values[code] for code in order), new_codes[cells])


@dataclass(frozen=True)
class Grouped:
    """Sums over groups of entries: entry ``i`` is of pattern ``patterns[i]``; groups are told apart by ``keys``."""

    keys: Whole
    patterns: Whole
    starts: Whole

    def sums(self, weights: Floats, amounts: Floats | None = None) -> Floats:
        """Return a row a group: the sum of its entries' ``amounts`` (1 if left out) times their pattern's weights."""
        picked = weights[self.patterns]
        if amounts is not None:
            picked *= amounts[:, None]
        return numpy.add.reduceat(picked, self.starts, axis=0)


def grouped(patterns: Whole, keys: Whole) -> tuple[Grouped, Whole]:
    """Return the groups of entries by key, and the order that the amounts must be brought into."""
    order = numpy.argsort(keys, kind="stable")
    distinct, starts = numpy.unique(keys[order], return_index=True)
    return Grouped(distinct, patterns[order], starts), order


@dataclass(frozen=True)
class Units:
    """Records with two answers or more by what was answered, whoever did: `counts` says how many are alike.

    ``sizes`` are the answers to a record of each pattern, ``same`` its ordered pairs of equal answers. An entry is a
    value in a pattern, which ``times`` answers gave. ``values`` are the values that occur, as places in the sheet.
    """

    counts: Whole
    sizes: Floats
    same: Floats
    by_value: Grouped
    times: Floats
    entry_sizes: Floats

    @property
    def values(self) -> Whole:
        """The values that occur, in order."""
        return self.by_value.keys

    @property
    def num(self) -> int:
        """Number of records."""
        return int(self.counts.sum())


def units_of(cells: Whole) -> Units | None:
    """Return the records of ``cells`` that tell of agreement; None where no record has two answers."""
    shared = cells[(cells >= 0).sum(axis=1) > 1]
    if not len(shared):
        return None
    # Sorted, so that it does not matter who gave which answer.
    rows, counts = numpy.unique(numpy.sort(shared, axis=1), axis=0, return_counts=True)
    given = rows >= 0
    sizes = given.sum(axis=1)
    pattern, _ = numpy.nonzero(given)
    width = int(rows.max()) + 1
    entries, times = numpy.unique(pattern * width + rows[given], return_counts=True)
    owner, value = numpy.divmod(entries, width)
    same: Floats = numpy.zeros(len(rows))
    numpy.add.at(same, owner, times * (times - 1))
    groups, order = grouped(owner, value)
    return Units(
        counts, sizes.astype(numpy.float64), same, groups,
        times[order].astype(numpy.float64), sizes[owner[order]].astype(numpy.float64),
    )  # fmt: skip


Statistic = Callable[[Floats], Floats]
"""From weights (patterns by resamples: how many records of each pattern) to figures (figures by resamples)."""
