"""The data set in numbers: what `curate stats` prints, in one value that terminal, HTML and JSON are made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from curate.base.record import SPLITS, Record, Split
from curate.base.tables import bins
from curate.checks.quality.balance import Effect, Grouping, effects, groupings, properties_of
from curate.checks.quality.measures import Measures, measure


@dataclass(frozen=True, slots=True)
class CategoryRow:
    """One category: its records, by split ("none" has none yet), and lengths in characters."""

    category: str
    records: int
    splits: dict[str, int]
    median_prompt: int
    longest_prompt: int
    median_completion: int
    longest_completion: int
    median_repetition: float | None
    median_lix: float | None


@dataclass(frozen=True, slots=True)
class Histogram:
    """How a measure is spread: (from, to, records) for each bin, and how many records it says nothing about."""

    name: str
    unit: str
    bins: list[tuple[float, float, int]]
    num_without: int


@dataclass(frozen=True, slots=True)
class QualityOverview:
    """A data set in numbers."""

    categories: list[CategoryRow]
    whole: CategoryRow
    groupings: list[Grouping]
    effects: list[Effect]
    histograms: list[Histogram]


def overview(records: Sequence[Record], pins: Mapping[str, Split]) -> QualityOverview:
    """Measure ``records`` and sum them up; ``pins`` is the split that each has in the newest dataset."""
    measures = [measure(record) for record in records]
    by_category: defaultdict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        by_category[record.category].append(index)
    properties = properties_of(records, measures, pins)

    def row(name: str, rows: Sequence[int]) -> CategoryRow:
        return _row(name, [measures[index] for index in rows], [properties["split"][index] for index in rows])

    return QualityOverview(
        [row(name, rows) for name, rows in sorted(by_category.items())],
        row("all", range(len(records))),
        groupings(properties),
        effects(properties, measures),
        _histograms(measures),
    )


def _row(name: str, measures: Sequence[Measures], splits: Sequence[str]) -> CategoryRow:
    prompts = [measured.prompt_chars for measured in measures] or [0]
    completions = [measured.completion_chars for measured in measures] or [0]
    repetitions = [measured.repetition for measured in measures if measured.repetition is not None]
    lixes = [measured.lix for measured in measures if measured.lix is not None]
    return CategoryRow(
        name,
        len(measures),
        {split: sum(other == split for other in splits) for split in SPLITS}
        | {"none": sum(not other for other in splits)},
        int(median(prompts)),
        max(prompts),
        int(median(completions)),
        max(completions),
        median(repetitions) if repetitions else None,
        median(lixes) if lixes else None,
    )


def _histograms(measures: Sequence[Measures]) -> list[Histogram]:
    histograms = []
    for name, unit, values in (
        ("prompt length", "characters", [float(measured.prompt_chars) for measured in measures]),
        ("completion length", "characters", [float(measured.completion_chars) for measured in measures]),
        ("repetition", "share of 4-grams", [measured.repetition for measured in measures]),
        ("readability", "LIX", [measured.lix for measured in measures]),
    ):
        numbers = [value for value in values if value is not None]
        histograms.append(Histogram(name, unit, bins(numbers), len(values) - len(numbers)))
    return histograms
