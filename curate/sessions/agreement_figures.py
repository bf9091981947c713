"""The measures of agreement, each as a statistic of how often every pattern of answers occurs, with its interval.

A statistic is computed once on the records as they are and 1,000 times on records drawn from them, in arrays. Records
with the same answers are interchangeable, so a resample is a draw of counts of patterns: that is the bootstrap over
records (Efron 1979, Annals of Statistics 7:1), only without drawing equal ones apart.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray

from curate.base.intervals import CONFIDENCE, wilson
from curate.base.record import Json
from curate.sessions.agreement import Answers, alpha_rate, kappa_rate, key_of, midranks, order_of, ordinal_rate

Whole = NDArray[numpy.int64]
Floats = NDArray[numpy.float64]
# From weights (patterns by resamples: how many records of each pattern) to figures (figures by resamples).
Statistic = Callable[[Floats], Floats]
RESAMPLES = 1000
_CHUNK = 1 << 20  # The most draws that are made at once.
_DEAR = 12  # How many records can be drawn in the time that drawing the count of one pattern takes, as measured.
_MOST_UNDEFINED = 0.05
SAME_VALUE = "all answers are the same value, so chance alone would agree as well"
ALIKE = "every resample gives the same value, so there is no interval"
TOO_FEW = "too few records for an interval"
NO_OVERLAP = "no record has answers of two annotators"


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


def sheet_of(answers: Answers, scale: Sequence[str] = ()) -> Sheet:
    """Return ``answers`` with annotators and values in order; records that nobody has answered are left out.

    Values of ``scale`` come in its order, before all others.
    """
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
    ranks = {value: rank for rank, value in enumerate(scale)}
    order = sorted(
        range(len(values)), key=lambda code: (ranks.get(str(values[code]), len(ranks)), order_of(values[code]))
    )
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
    """Records with two answers or more as patterns of answers, without who gave them, and `counts` of each pattern.

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
    def table(self) -> Floats:
        """How many answers of each pattern gave each value: a row a pattern, a column a value."""
        groups = self.by_value
        sizes = numpy.diff([*groups.starts.tolist(), len(groups.patterns)])
        table = numpy.zeros((len(self.counts), len(groups.keys)))
        table[groups.patterns, numpy.repeat(numpy.arange(len(groups.keys)), sizes)] = self.times
        return table

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


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure with its 95 % interval, on so many records.

    ``value`` is None where the measure is undefined, ``low`` and ``high`` where resampling cannot tell; ``reason`` says
    why.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    num_records: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Chance:
    """How resamples are drawn: the same seed gives the same intervals."""

    seed: int = 0
    resamples: int = RESAMPLES


def percent_and_alpha(cells: Whole, chance: Chance, *, is_ordinal: bool = False) -> tuple[Figure, Figure]:
    """Return the share of pairs of answers to the same record that are equal, and Krippendorff's alpha.

    Both are of the records with two answers or more; see `alpha_rate` and, where the values are those of a scale in its
    order, `ordinal_rate`. With m answers a record has m (m - 1) / 2 pairs.
    """
    units = units_of(cells)
    if units is None:
        return Figure(None, reason=NO_OVERLAP), Figure(None, reason=NO_OVERLAP)
    whole = units.sizes * (units.sizes - 1)
    apart = (whole - units.same) / (units.sizes - 1)
    times = units.table if is_ordinal else None

    def statistic(weights: Floats) -> Floats:
        totals, num = units.by_value.sums(weights, units.times), units.sizes @ weights
        if times is None:
            alpha = alpha_rate(apart @ weights, num, (totals**2).sum(axis=0))
        else:
            ranks = midranks(totals, totals.cumsum(axis=0))
            # Of m answers the squared differences of all ordered pairs are twice m times the sum of squares less the
            # square of the sum.
            squares = units.sizes[:, None] * (times @ ranks**2) - (times @ ranks) ** 2
            spread = num * (totals * ranks**2).sum(axis=0) - (totals * ranks).sum(axis=0) ** 2
            alpha = ordinal_rate((weights * 2 * squares / (units.sizes - 1)[:, None]).sum(axis=0), num, 2 * spread)
        return numpy.stack([(units.same @ weights) / (whole @ weights), alpha])

    percent, alpha = _figures(units.counts, statistic, units.num, chance)
    return percent, alpha


def fleiss_kappa(cells: Whole, chance: Chance) -> tuple[Figure, int]:
    """Return Fleiss' kappa and how many answers each record has that it rests on.

    Fleiss 1971, Psychological Bulletin 76:378. It needs the same number of answers to every record, whoever gives them,
    so it is of the records with the number that most of those with two answers or more have; of numbers that are
    equally frequent, the greater.
    """
    sizes = (cells >= 0).sum(axis=1)
    counts = numpy.bincount(sizes)[2:]
    if not counts.any():
        return Figure(None, reason=NO_OVERLAP), 0
    size = len(counts) + 1 - int(counts[::-1].argmax())
    units = units_of(cells[sizes == size])
    assert units is not None, "there are records with that many answers"

    def statistic(weights: Floats) -> Floats:
        num = weights.sum(axis=0)
        totals = units.by_value.sums(weights, units.times)
        by_chance = (totals**2).sum(axis=0) / (num * size) ** 2 * num
        return numpy.stack([kappa_rate((units.same @ weights) / (size * (size - 1)), by_chance, num)])

    return _figures(units.counts, statistic, units.num, chance)[0], size


def against_others(cells: Whole, own: int, chance: Chance) -> tuple[Figure, Figure]:
    """Return how often the annotator of column ``own`` gave the others' answer, and the kappa of that.

    With one other column it is Cohen's kappa (Cohen 1960, Educational and Psychological Measurement 20:37). With more,
    what was observed and what chance would give are added up over the others before one is compared to the other, as
    Schouten 1982 (Statistica Neerlandica 36:45) does for one observer against the group. Chance is by the shares that
    both had on the records which both answered.
    """
    others = [column for column in range(cells.shape[1]) if column != own]
    rows = cells[:, [own, *others]]
    rows = rows[(rows[:, 0] >= 0) & (rows[:, 1:] >= 0).any(axis=1)]
    if not len(rows):
        return Figure(None, reason="no record in common"), Figure(None, reason="no record in common")
    rows, counts = numpy.unique(rows, axis=0, return_counts=True)
    pattern, other = numpy.nonzero(rows[:, 1:] >= 0)
    mine, theirs = rows[pattern, 0], rows[pattern, other + 1]
    width = int(rows.max()) + 1
    by_other, order = grouped(pattern, other)
    is_same = (mine == theirs)[order].astype(numpy.float64)
    by_mine, by_theirs = grouped(pattern, other * width + mine)[0], grouped(pattern, other * width + theirs)[0]
    common, left, right = numpy.intersect1d(by_mine.keys, by_theirs.keys, return_indices=True)
    group = numpy.searchsorted(by_other.keys, common // width)

    def statistic(weights: Floats) -> Floats:
        nums = by_other.sums(weights)
        num, agreed = nums.sum(axis=0), by_other.sums(weights, is_same).sum(axis=0)
        products = by_mine.sums(weights)[left] * by_theirs.sums(weights)[right]
        by_chance = numpy.divide(products, nums[group], out=numpy.zeros_like(products), where=nums[group] > 0)
        return numpy.stack([agreed / num, kappa_rate(agreed, by_chance.sum(axis=0), num)])

    percent, kappa = _figures(counts, statistic, int(counts.sum()), chance)
    return percent, kappa


def per_value(units: Units, indices: Whole, chance: Chance) -> list[tuple[Figure, Figure]]:
    """Return, for some of the values of ``units`` by their places in it, two figures of each.

    The first is its specific agreement: of the answers that pair with one of this value, the share that is this value
    too. Fleiss 1971 gives it for equally many answers to each record, Uebersax 1982 (Journal of Psychiatric Research
    17:335) for any number; with two answers it is Dice's coefficient. The second is its alpha: Krippendorff's, with all
    other values taken for one. For equally many answers that is Fleiss' kappa of the category, with the correction of
    alpha for few answers.
    """
    same, apart = units.times * (units.times - 1), units.times * (units.entry_sizes - units.times)

    def statistic(weights: Floats) -> Floats:
        sums = units.by_value.sums
        totals = sums(weights, units.times)[indices]
        num = units.sizes @ weights
        # Of two classes, each ordered pair of different answers is counted from both sides.
        split = 2 * sums(weights, apart / (units.entry_sizes - 1))[indices]
        agreed = sums(weights, same)[indices]
        alphas = alpha_rate(split, num, totals**2 + (num - totals) ** 2)
        return numpy.concatenate([agreed / (agreed + sums(weights, apart)[indices]), alphas])

    figures = _figures(units.counts, statistic, units.num, chance)
    return list(zip(figures[: len(indices)], figures[len(indices) :], strict=True))


def accuracy(num_right: int, num: int) -> Figure:
    """Return the share of known answers that were given, with Wilson's interval."""
    if not num:
        return Figure(None, reason="no record with a known answer was answered")
    low, high = wilson(num_right, num)
    return Figure(num_right / num, low, high, num)


def _figures(counts: Whole, statistic: Statistic, num_records: int, chance: Chance) -> list[Figure]:
    # Where a figure is undefined, in a resample or altogether, nought is divided by nought; that is looked at below.
    with numpy.errstate(divide="ignore", invalid="ignore"):
        values = statistic(counts[:, None].astype(numpy.float64))[:, 0]
        drawn = numpy.concatenate(list(_resampled(counts, statistic, chance)), axis=1)
    return [_figure(float(value), row, num_records) for value, row in zip(values, drawn, strict=True)]


def _resampled(counts: Whole, statistic: Statistic, chance: Chance) -> list[Floats]:
    generator = numpy.random.default_rng(chance.seed)
    total, parts, left = int(counts.sum()), [], chance.resamples
    is_alike = total > _DEAR * len(counts)
    while left:
        num = min(left, max(1, _CHUNK // (len(counts) if is_alike else total)))
        draws = generator.multinomial(total, counts / total, size=num) if is_alike else _picked(counts, num, generator)
        parts.append(statistic(numpy.ascontiguousarray(draws.T, dtype=numpy.float64)))
        left -= num
    return parts


def _picked(counts: Whole, num: int, generator: numpy.random.Generator) -> Whole:
    # What `multinomial` would draw, record by record: quicker where most of them differ.
    total = int(counts.sum())
    owners = numpy.repeat(numpy.arange(len(counts)), counts)
    picked = owners[generator.integers(total, size=(num, total), dtype=numpy.int32)]
    picked += numpy.arange(num)[:, None] * len(counts)
    return numpy.bincount(picked.ravel(), minlength=num * len(counts)).reshape(num, len(counts))


def _figure(value: float, drawn: Floats, num_records: int) -> Figure:
    if not numpy.isfinite(value):
        return Figure(None, None, None, num_records, SAME_VALUE)
    defined = drawn[numpy.isfinite(drawn)]
    if len(defined) < (1 - _MOST_UNDEFINED) * len(drawn):
        return Figure(value, None, None, num_records, TOO_FEW)
    if defined.min() == defined.max():
        return Figure(value, None, None, num_records, ALIKE)
    low, high = numpy.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Figure(value, float(low), float(high), num_records)
