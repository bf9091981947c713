"""The same paired statistics by what the records have in a field: a language, a source, a label, a length.

Where one part of the records gains less than the rest, a good mean hides it. Whether it does is asked within the
categories, since a source that holds the hard ones is no bias.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from train.evaluate.predictions import Scored
from train.report import stats, wording
from train.report.model import CategoryResult, Disparity, Estimate, SliceResult
from train.report.results import BITS, Comparison, Pairs, Rules, estimate, is_judged, known
from train.report.stats import Floats
from train.report.two_way import Parts, TwoWay, fit_two_way, mean_parts, result_parts

Results = Mapping[str, Scored]
"""What one training seed scored in a split, by record."""
NO_VALUE, OTHER_VALUES = "(no value)", "other values"
_MOST_VALUES = 12
_FEWEST_NAMED = 5
"""Records that a value has at the least to be named: a rarer one could be the words of a single test record."""
_MOST_DISTINCT = 8
"""Numbers of more kinds than this are told by quarters."""
_PERMUTATIONS = 1999


def slice_results(
    models: Sequence[Pairs], split: Literal["validation", "test"], rules: Rules, seeds: Sequence[Results] = ()
) -> list[list[SliceResult]]:
    """Return for each of ``models`` the results of each slice that its records of ``split`` carry.

    P values are adjusted over all slices and models. Scores are compared, or bits per byte where no record has a score,
    of which no disparity is told. Draws are seeded by the names of split, slice and value. Where a model is the mean of
    several training ``seeds``, what these scored widens the intervals.
    """
    by_model = [_slices(pairs, split, rules, seeds) for pairs in models]
    p_values = [p for parts in by_model for part in parts for p in part.p_values]
    for comparison in (comparison for parts in by_model for part in parts for comparison in part.comparisons):
        comparison.num_tests = len(p_values)
    adjusted = iter(stats.holm(p_values))
    return [[part.result([next(adjusted) for _ in part.p_values]) for part in parts] for parts in by_model]


def _slices(
    pairs: Pairs, split: Literal["validation", "test"], rules: Rules, seeds: Sequence[Results]
) -> list[_Slice]:  # fmt: skip
    mine = [pair for pair in pairs if is_judged(pair[0], split)]
    scored = [pair for pair in mine if pair[0].score is not None and pair[1].score is not None]
    compared = scored or [pair for pair in mine if pair[0].num_bytes]
    names = list(dict.fromkeys(name for before, _ in compared for name in before.slices or {}))
    sides = [[seed[before.id] for before, _ in compared] for seed in seeds]
    return [_Slice(name, split, compared, bool(scored), rules, sides) for name in names]


class _Slice:
    """One slice before the p values of all of them are adjusted together."""

    def __init__(
        self, name: str, split: Literal["validation", "test"], pairs: Pairs, is_score: bool, rules: Rules,
        sides: Sequence[Sequence[Scored]],
    ) -> None:  # fmt: skip
        self.name, self.split, self.pairs, self.rules, self.sides = name, split, pairs, rules, sides
        self.members, self.num_pooled = _groups([(before.slices or {}).get(name, ()) for before, _ in pairs])
        self.comparisons = [
            Comparison(f"{split} {name}", value, chosen, chosen, "score" if is_score else BITS, rules)
            for value, members in self.members.items()
            if (chosen := [pairs[index] for index in members])
        ]
        for part, members in zip(self.comparisons, self.members.values(), strict=True) if sides else ():
            changes = self._changes(members, is_score=is_score).values
            if len(changes) > 1:
                model = fit_two_way(changes)
                part.test, part.p = "two-way t", max(part.p, model.p())
                part.difference = model.widened(part.difference, *((-1.0, 1.0) if is_score else ()))
        self.gaps = self._gaps() if is_score else {}

    @property
    def p_values(self) -> list[float]:
        return [part.p for part in self.comparisons] + [p for _, p, _, _ in self.gaps.values()]

    def result(self, adjusted: Sequence[float]) -> SliceResult:
        num = len(self.comparisons)
        values = [
            part.result(p, is_default=False).model_copy(update={"other": {}})
            for part, p in zip(self.comparisons, adjusted[:num], strict=True)
        ]
        disparities = [
            self._disparity(value, *gap, p)
            for (value, gap), p in zip(self.gaps.items(), adjusted[num:], strict=True)
        ]  # fmt: skip
        return SliceResult(
            name=self.name,
            split=self.split,
            values=values,
            disparities=disparities,
            num_without=len(self.members.get(NO_VALUE, ())),
            num_pooled=self.num_pooled,
            sentences=self._sentences(values, disparities),
        )

    def _gaps(self) -> dict[str, tuple[Estimate, float, int, int]]:
        """By value: how much more the others gained, its p value, and the numbers of records on both sides."""
        clusters = [before.cluster for before, _ in self.pairs]
        gaps = {}
        for value, members in self.members.items():
            inside = np.zeros(len(self.pairs), dtype=bool)
            inside[members] = True
            both = _shared_categories(self.pairs, inside)
            sizes = [len({clusters[index] for index in both if inside[index] == side}) for side in (True, False)]
            if value == OTHER_VALUES or min(sizes) < self.rules.fewest:
                continue
            contrast = _Contrast([self.pairs[index] for index in both], inside[both])
            seed = stats.seed_of(self.split, self.name, value)
            num = int(inside[both].sum())
            gap, p = contrast.estimate(seed, self.rules.resamples), contrast.p_value(seed)
            if self.sides:
                model = self._gap_over_seeds(both, inside)
                gap, p = model.widened(gap), max(p, model.p())
            gaps[value] = gap, p, num, len(both) - num
        if len(gaps) == 2 and len(self.members) == 2:
            # Of two values each is the other's rest: one says it all.
            gaps.pop(min(gaps, key=lambda value: gaps[value][0].value))
        return gaps

    def _changes(self, members: Sequence[int], *, is_score: bool) -> Parts:
        base = [before for before, _ in self.pairs]
        return result_parts(base, self.sides, members, is_score=is_score, is_change=True)

    def _gap_over_seeds(self, both: Sequence[int], inside: NDArray[np.bool_]) -> TwoWay:
        parts, weights = list[Parts](), list[float]()
        for category in sorted({self.pairs[n][0].category for n in both}):
            mine = [n for n in both if self.pairs[n][0].category == category]
            cells = [[n for n in mine if inside[n] == side] for side in (False, True)]
            parts += [self._changes(cell, is_score=True) for cell in cells]
            share = len(cells[1]) / int(inside[both].sum())
            weights += [share, -share]
        return fit_two_way(mean_parts(parts, weights))

    def _disparity(
        self, value: str, gap: Estimate, p: float, num: int, num_others: int, p_adjusted: float
    ) -> Disparity:
        word, (low, high) = ("less", (gap.low, gap.high)) if gap.value >= 0 else ("more", (-gap.high, -gap.low))
        numbers = f"95 % {wording.number(low)} to {wording.number(high)}, {wording.p_value(p_adjusted)}"
        return Disparity(
            value=value, n=num, num_others=num_others, difference=gap, p=p, p_adjusted=p_adjusted,
            is_significant=gap.low * gap.high > 0 and p_adjusted < stats.ALPHA,
            sentence=(
                f"{self.name}: answers to records of {value} improved {wording.number(abs(gap.value))} {word} than "
                f"those to other records of the same categories ({numbers}, n = {num} and {num_others})."
            ),
        )  # fmt: skip

    def _sentences(self, values: Sequence[CategoryResult], disparities: Sequence[Disparity]) -> list[str]:
        if set(self.members) <= {NO_VALUE}:
            return [f"{self.name}: no record has a value there."]
        shown = sorted((gap for gap in disparities if gap.is_significant), key=lambda gap: -gap.difference.value)
        sentences = [gap.sentence for gap in shown]
        if not disparities:
            sentences.append(f"{self.name}: no two parts of the records are large enough to be held together.")
        elif not shown:
            widest = max(disparities, key=lambda gap: gap.difference.high)
            sentences.append(
                f"{self.name}: no part of the records is shown to gain less than the rest; for {widest.value} up to "
                f"{wording.number(max(0.0, widest.difference.high))} less is not ruled out."
            )
        if thin := [value.category for value in values if value.reason == "too-few"]:
            sentences.append(f"{self.name}: too few records to judge {', '.join(thin)}.")
        return sentences


def _groups(values: Sequence[Sequence[str | float]]) -> tuple[dict[str, list[int]], int]:
    """Return the records' numbers by value, and how many rare values stand together as `OTHER_VALUES`.

    ``values`` has those of each record; one with several is counted in each.
    """
    flat = [item for items in values for item in items]
    is_number = bool(flat) and not any(isinstance(item, str) for item in flat)
    if is_number and len(set(flat)) > _MOST_DISTINCT:
        return _quarters([[float(item) for item in items] for items in values]), 0
    groups: dict[str, list[int]] = {}
    for index, items in enumerate(values):
        for text in set(map(_name, items)) or {NO_VALUE}:
            groups.setdefault(text, []).append(index)
    ordered = sorted(groups, key=lambda name: (name == NO_VALUE, -len(groups[name]), name))
    named = [name for name in ordered if len(groups[name]) >= _FEWEST_NAMED or name == NO_VALUE][:_MOST_VALUES]
    pooled = [name for name in ordered if name not in named]
    together = sorted({index for name in pooled for index in groups[name]})
    return {name: groups[name] for name in named} | ({OTHER_VALUES: together} if together else {}), len(pooled)


def _quarters(values: Sequence[Sequence[float]]) -> dict[str, list[int]]:
    # Of a record with several numbers the largest counts.
    own = {index: max(items) for index, items in enumerate(values) if items}
    ordered = sorted(own.values())
    # As round as they can be: an exact one could be the number of a single test record.
    edges = max((_edges(ordered, digits) for digits in range(2, 16)), key=len)
    texts = list(map(_name, edges))
    names = (
        [f"up to {texts[0]}", *(f"{low} to {high}" for low, high in pairwise(texts)), f"over {texts[-1]}"]
        if edges
        else ["any number"]
    )
    groups: dict[str, list[int]] = {name: [] for name in names}
    for index, value in own.items():
        groups[names[bisect_left(edges, value)]].append(index)
    without = [index for index, items in enumerate(values) if not items]
    return groups | ({NO_VALUE: without} if without else {})


def _edges(ordered: Sequence[float], digits: int) -> list[float]:
    """Return where quarters end, in so many ``digits``; the last is open. Each has as many records as a named value."""
    edges, start = list[float](), 0
    for edge in sorted({float(f"{edge:.{digits}g}") for edge in np.quantile(ordered, (0.25, 0.5, 0.75))}):
        stop = bisect_right(ordered, edge)
        if min(stop - start, len(ordered) - stop) >= _FEWEST_NAMED:
            edges.append(edge)
            start = stop
    return edges


def _name(value: str | float) -> str:
    """Return what a value is called; in quotes where a reader could take it for a name of ours."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value in (NO_VALUE, OTHER_VALUES) or value[:1] == '"' else value
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def _shared_categories(pairs: Pairs, inside: NDArray[np.bool_]) -> list[int]:
    # A category that only one of the two parts has says nothing of their difference.
    sides: dict[str, set[bool]] = {before.category: set() for before, _ in pairs}
    for (before, _), side in zip(pairs, inside, strict=True):
        sides[before.category].add(bool(side))
    return [index for index, (before, _) in enumerate(pairs) if len(sides[before.category]) == 2]


class _Contrast:
    """The mean gain of records outside a part less that inside it, within categories, weighed by the part's own."""

    def __init__(self, pairs: Sequence[tuple[Scored, Scored]], inside: NDArray[np.bool_]) -> None:
        self.clusters, self.inside = [before.cluster for before, _ in pairs], inside
        gains = np.array([known(after.score) - known(before.score) for before, after in pairs])
        categories = sorted({before.category for before, _ in pairs})
        number = np.array([categories.index(before.category) for before, _ in pairs])
        # A column for each category and what is summed there: gain and number inside, gain and number outside.
        self.columns = np.zeros((4 * len(categories), len(pairs)))
        rows = np.arange(len(pairs))
        for offset, values in ((0, gains), (1, np.ones(len(pairs)))):
            self.columns[4 * number + 2 * ~inside + offset, rows] = values
        self.weights = self.columns[1::4].sum(axis=1)

    def _value(self, sums: Floats) -> Floats:
        """Return the contrast of each row of ``sums`` [draws, 4 x categories]; categories that a draw lacks are not."""
        gain_in, num_in, gain_out, num_out = (sums[:, offset::4] for offset in range(4))
        is_whole = (num_in > 0) & (num_out > 0)
        each = gain_out / np.maximum(num_out, 1e-9) - gain_in / np.maximum(num_in, 1e-9)
        weights = np.where(is_whole, self.weights, 0.0)
        total = weights.sum(axis=1)
        values: Floats = (each * weights).sum(axis=1) / np.where(total > 0, total, np.nan)
        return values

    def estimate(self, seed: Sequence[int], replicates: int) -> Estimate:
        """Return it with the percentile interval over draws of whole clusters."""
        drawn = self._value(stats.bootstrap_sums(list(self.columns), self.clusters, seed=seed, replicates=replicates))
        value = float(self._value(self.columns.sum(axis=1)[None])[0])
        if np.nanmax(drawn) - np.nanmin(drawn) > 1e-9:
            low, high = np.nanquantile(drawn, (0.025, 0.975))
            return estimate(value, stats.Interval(float(low), float(high)))
        # Both parts gained evenly, so that draws show no spread: their own intervals bound it (Zou and Donner 2008).
        own: list[tuple[float, stats.Interval]] = []
        for part in (self.columns[2::4].sum(axis=0)[~self.inside], self.columns[::4].sum(axis=0)[self.inside]):
            side = [name for name, is_in in zip(self.clusters, self.inside, strict=True) if is_in == (len(own) == 1)]
            interval = stats.difference_interval([0.0] * len(part), part.tolist(), side)
            own.append((float(part.mean()), interval))
        (out, of_out), (into, of_in) = own
        low = value - math.hypot(out - of_out.low, of_in.high - into)
        return estimate(value, stats.Interval(low, value + math.hypot(of_out.high - out, into - of_in.low)))

    def p_value(self, seed: Sequence[int]) -> float:
        """Return the two-sided p value were membership in the part drawn anew, by cluster within each category.

        Counted with the observed one, so that it is never 0: Phipson and Smyth 2010.
        """
        rng = np.random.default_rng(seed)
        contrast = np.zeros(_PERMUTATIONS)
        for number, weight in enumerate(self.weights):
            column = self.columns[4 * number : 4 * number + 4]
            units = np.concatenate([stats.sums_by_cluster(self.clusters, *column[part : part + 2]) for part in (0, 2)])
            is_in = (np.arange(len(units)) < len(units) // 2)[units[:, 1] > 0]
            units = units[units[:, 1] > 0]
            # Some at a time: a permutation of ten thousand records takes a while, thousands of them take gigabytes.
            step = max(1, 2_000_000 // len(units))
            for start in range(0, _PERMUTATIONS, step):
                num = min(step, _PERMUTATIONS - start)
                order = rng.permuted(np.tile(np.arange(len(units)), (num, 1)), axis=1)
                gain_in, gain_out = (units[order[:, side]].sum(axis=1) for side in (is_in, ~is_in))
                means = gain_out[:, 0] / gain_out[:, 1] - gain_in[:, 0] / gain_in[:, 1]
                contrast[start : start + num] += weight * means
        contrast /= self.weights.sum()
        observed = abs(float(self._value(self.columns.sum(axis=1)[None])[0])) - 1e-12
        return (int((np.abs(contrast) >= observed).sum()) + 1) / (_PERMUTATIONS + 1)
