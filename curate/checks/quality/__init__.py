"""What the records are like: measures of each, balance of the whole, labels that look wrong, and pages about it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import combinations
from statistics import median
from typing import Any

from curate.base.console import visible
from curate.base.record import SPLITS, Json, Record, Split, source_of
from curate.base.tables import bins
from curate.checks.language import identifiable_part
from curate.checks.quality.languages import SAMPLE_SIZE, LanguageSample, RecordLanguages
from curate.checks.repetition import READ, repetition, words_of

_SENTENCE = re.compile(r"[.!?…。！？]+(?:\s|$)|\n+")
_FEWEST_WORDS = 20
_LONG_WORD = 6

# A grouping with more values than this (one source a record, say) is no grouping.
_MOST_GROUPS = 200
_STRENGTHS = ("none", "small", "medium", "large")


def lix(text: str, words: list[str] | None = None) -> float | None:
    """Return the readability index LIX: words a sentence, plus the percentage of words over six letters.

    ``words`` are those of the text, where they are there already.
    """
    # Björnsson 1968, "Läsbarhet". It counts letters only, so it works for any language written in an alphabet; None for
    # other scripts and below twenty words.
    words = words_of(text) if words is None else words
    if len(words) < _FEWEST_WORDS:
        return None
    if any(unicodedata.category(word[0]) == "Lo" for word in words[:_FEWEST_WORDS]):
        return None
    num_sentences = sum(bool(words_of(part)) for part in _SENTENCE.split(text))
    return len(words) / max(1, num_sentences) + 100 * sum(len(word) > _LONG_WORD for word in words) / len(words)


# Id, category, own split, and the characters of prompt and completion of a record.
Figures = tuple[str, str, Split | None, int, int]


def _measured_text(record: Record) -> str:
    return record.completion or record.text


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Grouping:
    """The records by one property: how many have each value, most first, and how even that is."""

    name: str
    counts: dict[str, int]
    evenness: float
    """Entropy as a share of its maximum (Pielou 1966): 1 is perfectly even, 0 is all in one."""
    num_without: int
    """Records that say nothing about it."""
    sample: LanguageSample | None = None
    """Where a part of this is estimated, what by."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How strongly two properties go together, from 0 to 1, and in words."""

    left: str
    right: str
    size: float
    measure: str
    strength: str


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
    median_repetition: float | None = None
    """Share of the word 4-grams that repeat an earlier one, 0 to 1; None where it was not measured, or says nothing."""
    median_lix: float | None = None
    """LIX: about 20 is a children's book, 40 a newspaper, 60 a law; None as above."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How a measure is spread: (from, to, records) for each bin, and how many records it says nothing about."""

    name: str
    unit: str
    bins: list[tuple[float, float, int]]
    num_without: int


class QualityOverview:
    """A data set in numbers. Each is counted when it is first asked for: what is not shown costs nothing.

    ``pins`` is the split that each record has in the newest dataset. At most ``sample_size`` texts have their language
    identified, with None all of them. ``figures`` are those of the records, where they are had for less than these.
    """

    def __init__(
        self,
        records: Sequence[Record],
        pins: Mapping[str, Split],
        *,
        sample_size: int | None = SAMPLE_SIZE,
        figures: Iterable[Figures] | None = None,
    ) -> None:
        self._records, self._sample_size = records, sample_size
        if figures is None:
            figures = (
                (record.id, record.category, record.split, len(record.prompt), len(_measured_text(record)))
                for record in records
            )
        columns: Iterable[tuple[Any, ...]] = zip(*figures, strict=True) if len(records) else ((),) * 5
        self._ids, self._categories, splits, self._prompt_chars, self._completion_chars = columns
        self._splits = [pins.get(name) or split or "" for name, split in zip(self._ids, splits, strict=True)]

    def as_json(self) -> dict[str, Json]:
        """Return all of it, as `schemas/stats.schema.json` says."""
        return {
            "categories": [asdict(row) for row in self.measured_categories],
            "whole": asdict(self.measured_whole),
            "groupings": [asdict(grouping) for grouping in self.groupings],
            "effects": [asdict(effect) for effect in self.effects],
            "histograms": [asdict(histogram) for histogram in self.histograms],
        }

    @cached_property
    def categories(self) -> list[CategoryRow]:
        """The categories by name, in counts and lengths."""
        return [self._row(name, rows) for name, rows in sorted(_rows_by(self._categories).items())]

    @cached_property
    def whole(self) -> CategoryRow:
        """All records as if they were one category, "all"."""
        return self._row("all", range(len(self._ids)))

    @cached_property
    def measured_categories(self) -> list[CategoryRow]:
        """The same as `categories`, with measures of the texts."""
        rows = sorted(_rows_by(self._categories).items())
        return [self._measured(row, some) for row, (_, some) in zip(self.categories, rows, strict=True)]

    @cached_property
    def measured_whole(self) -> CategoryRow:
        """The same as `whole`, with measures of the texts."""
        return self._measured(self.whole, range(self.whole.records))

    @cached_property
    def groupings(self) -> list[Grouping]:
        """The groupings that some record has a value for; those with hundreds of values are left out."""
        groupings = []
        for name, values in self._properties.items():
            is_language = name == "language"
            counts = Counter(self._languages.counts if is_language else values)
            num_without = counts.pop("", 0)
            if not 0 < len(counts) <= _MOST_GROUPS:
                continue
            ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
            sample = self._languages.sample if is_language else None
            groupings.append(Grouping(name, ordered, evenness(list(counts.values())), num_without, sample))
        return groupings

    @cached_property
    def effects(self) -> list[Effect]:
        """How the groupings go with one another and with lengths and readability, the strongest first."""
        # A category that comes from one source alone, or is far longer than the others, lets a model learn the source
        # or the length in place of the skill. Records without a value are left out pair by pair.
        names = [grouping.name for grouping in self.groupings if len(grouping.counts) > 1]
        results = []
        for left, right in combinations(names, 2):
            both = zip(self._properties[left], self._properties[right], strict=True)
            pairs = [(a, b) for a, b in both if a and b]
            if len(pairs) > 1:
                results.append(_effect(left, right, cramers_v(pairs), "Cramér's V", (0.1, 0.3, 0.5)))
        numbers = {
            name: [math.log1p(value or 0) for value in values] if unit == "characters" else values
            for name, (unit, values) in self._measures.items()
        }
        for name in names:
            groups = [rows for value, rows in _rows_by(self._properties[name]).items() if value]
            for number, values in numbers.items():
                known = [_measured(values, rows) for rows in groups]
                if sum(map(len, known)) > 1:
                    results.append(_effect(name, number, eta_squared(known), "eta²", (0.01, 0.06, 0.14)))
        return sorted(results, key=lambda effect: (-_STRENGTHS.index(effect.strength), -effect.size))

    @cached_property
    def histograms(self) -> list[Histogram]:
        """How lengths and measures are spread."""
        histograms = []
        for name, (unit, values) in self._measures.items():
            known = _measured(values, range(len(values)))
            histograms.append(Histogram(name, unit, bins(known), len(values) - len(known)))
        return histograms

    @cached_property
    def _properties(self) -> dict[str, Sequence[str]]:
        """Category, source, annotator, language and split of each record; "" where it has none, or is not compared."""
        return {
            "category": self._categories,
            "source": [source_of(record) for record in self._records],
            "annotator": [_text(record.meta.get("annotator")) for record in self._records],
            "language": self._languages.comparable,
            "split": self._splits,
        }

    @cached_property
    def _languages(self) -> RecordLanguages:
        declared = [_text(record.meta.get("language")) for record in self._records]
        is_identifiable = [
            not own and bool(identifiable_part(_measured_text(record)))
            for own, record in zip(declared, self._records, strict=True)
        ]
        # A text may be read again from its line.
        return RecordLanguages(
            self._ids, declared, is_identifiable, lambda row: _measured_text(self._records[row]), self._sample_size
        )

    @cached_property
    def _measures(self) -> dict[str, tuple[str, Sequence[float | None]]]:
        """The lengths of each record and what is measured of its completion, by name, with the unit."""
        repetitions, lixes = [], []
        for text in map(_measured_text, self._records):
            words = words_of(text)
            repetitions.append(repetition(text, words))
            lixes.append(lix(text, words))
        return {
            "prompt length": ("characters", self._prompt_chars),
            "completion length": ("characters", self._completion_chars),
            "repetition": ("share of 4-grams", repetitions),
            "readability": ("LIX", lixes),
        }

    def _row(self, name: str, rows: Sequence[int]) -> CategoryRow:
        prompts, completions = (
            [lengths[row] for row in rows] or [0] for lengths in (self._prompt_chars, self._completion_chars)
        )
        splits = Counter(map(self._splits.__getitem__, rows))
        by_split: dict[str, int] = {split: splits[split] for split in SPLITS} | {"none": splits[""]}
        lengths = (number for some in (prompts, completions) for number in (int(median(some)), max(some)))
        return CategoryRow(name, len(rows), by_split, *lengths)

    def _measured(self, row: CategoryRow, rows: Sequence[int]) -> CategoryRow:
        repetitions, lixes = (_measured(self._measures[name][1], rows) for name in ("repetition", "readability"))
        return replace(
            row,
            median_repetition=median(repetitions) if repetitions else None,
            median_lix=median(lixes) if lixes else None,
        )


def _rows_by(values: Sequence[str]) -> dict[str, list[int]]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        rows[value].append(row)
    return rows


def _measured(values: Sequence[float | None], rows: Sequence[int]) -> list[float]:
    return [value for row in rows if (value := values[row]) is not None]


def evenness(counts: Sequence[int]) -> float:
    """Return the Shannon entropy of ``counts`` as a share of its maximum; 1 where there is one group only."""
    total = sum(counts)
    if len(counts) < 2 or not total:
        return 1.0
    entropy = -sum(count / total * math.log(count / total) for count in counts if count)
    return entropy / math.log(len(counts))


def cramers_v(pairs: Sequence[tuple[str, str]]) -> float:
    """Return Cramér's V of two nominal variables with the bias correction of Bergsma 2013."""
    # Source: https://doi.org/10.1016/j.jkss.2012.10.002. 0 where one of them does not vary.
    n = len(pairs)
    cells, lefts, rights = Counter(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    if len(lefts) < 2 or len(rights) < 2:
        return 0.0
    # Empty cells add their expectation: the sum of squares over the filled ones is all that is needed.
    phi2 = sum(count * count / (lefts[a] * rights[b]) for (a, b), count in cells.items()) - 1
    rows, columns = len(lefts), len(rights)
    corrected = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
    r, c = rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)
    least = min(r, c) - 1
    return min(1.0, math.sqrt(corrected / least)) if least > 0 else 0.0


def eta_squared(groups: Collection[Sequence[float]]) -> float:
    """Return the share of a number's variance that its group explains (eta squared, Fisher 1925)."""
    values = [value for group in groups for value in group]
    mean = math.fsum(values) / len(values)
    total = math.fsum((value - mean) ** 2 for value in values)
    between = math.fsum(len(group) * (math.fsum(group) / len(group) - mean) ** 2 for group in groups if group)
    return min(1.0, between / total) if total > 0 else 0.0


def _effect(left: str, right: str, size: float, measure: str, limits: tuple[float, float, float]) -> Effect:
    # Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapters 7 and 8.
    return Effect(left, right, size, measure, _STRENGTHS[sum(size >= limit for limit in limits)])


def html_page(view: QualityOverview, title: str) -> str:
    """Return the page. Names from the data are escaped, and made visible before that."""
    # Only a page needs a template engine.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("curate.checks.quality", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["visible"] = visible
    environment.filters["number"] = _number
    return environment.get_template("page.html.j2").render(view=view, title=title)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2f}"
