"""What the records are like: measures of each, balance of the whole, labels that look wrong, and pages about it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from statistics import median
from typing import Any, NamedTuple

from curate.base.console import visible
from curate.base.record import SPLITS, Json, Record, Split, source_of
from curate.base.tables import bins
from curate.checks.language import identifiable_part
from curate.checks.quality.languages import SAMPLE_SIZE, LanguageSample, RecordLanguages
from curate.checks.repetition import READ, repetition, words_of

_SENTENCE = re.compile(r"[.!?…。！？]+(?:\s|$)|\n+")
# The same for ASCII, a byte for each kind of character: what ends a sentence, white space, a part of a word.
_KINDS = bytes(
    ord("." if char in ".!?" else "\n" if char == "\n" else " " if char.isspace() else "a" if char.isalnum() else "-")
    for char in map(chr, range(128))
).ljust(256)
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
    if text.isascii():
        kinds = text.encode().translate(_KINDS)
        parts = kinds.replace(b". ", b"\n").replace(b".\n", b"\n").split(b"\n")
        num_sentences = sum(b"a" in part[:READ] for part in parts)
    elif any(unicodedata.category(word[0]) == "Lo" for word in words[:_FEWEST_WORDS]):
        return None
    else:
        num_sentences = sum(bool(words_of(part)) for part in _SENTENCE.split(text))
    return len(words) / max(1, num_sentences) + 100 * sum(len(word) > _LONG_WORD for word in words) / len(words)


# Id, category, own split, and the characters of prompt and completion of a record.
Figures = tuple[str, str, Split | None, int, int]


class RecordDetails(NamedTuple):
    """What is asked of records beside counts and lengths, a value each and in their order."""

    source: list[str]
    """Where the records come from, see `source_of`."""
    annotator: list[str]
    """As ``meta.annotator`` names them, "" where it does not."""
    language: list[str]
    """As ``meta.language`` declares it, "" where it does not."""
    is_identifiable: list[bool]
    """Whether a language can be told that is not declared."""


class RecordColumns:
    """What is asked of records, a value each and in their order: the border to wherever they are read from.

    For counts and lengths they are gone through once, however many they are; what somebody asks for later is read
    again.
    """

    id: Sequence[str]
    """No two are the same."""
    category: Sequence[str]
    """ "" where a record has none."""
    split: Sequence[str]
    """In the newest dataset, else as the record says; "" where it has none yet."""
    prompt_chars: Sequence[int]
    """Lengths of the prompts in characters."""
    completion_chars: Sequence[int]
    """Lengths of what `completion` has, in characters."""

    def __init__(
        self, records: Sequence[Record], pins: Mapping[str, Split], figures: Iterable[Figures] | None = None
    ) -> None:
        """Take the columns of ``records``; ``pins`` is the split that each has in the newest dataset.

        ``figures`` are those of the records, where they are had for less than the records themselves.
        """
        self._records = records
        if figures is None:
            figures = (
                (record.id, record.category, record.split, len(record.prompt), len(_measured_text(record)))
                for record in records
            )
        columns: Iterable[tuple[Any, ...]] = zip(*figures, strict=True) if len(records) else ((),) * 5
        self.id, self.category, splits, self.prompt_chars, self.completion_chars = columns
        self.split = [pins.get(name) or split or "" for name, split in zip(self.id, splits, strict=True)]

    @cached_property
    def details(self) -> RecordDetails:
        """The columns that not every figure asks for."""
        details = RecordDetails([], [], [], [])
        for record in self._records:
            declared = _text(record.meta.get("language"))
            details.source.append(source_of(record))
            details.annotator.append(_text(record.meta.get("annotator")))
            details.language.append(declared)
            text = "" if declared else identifiable_part(_measured_text(record))
            details.is_identifiable.append(bool(text))
        return details

    def completion(self, row: int) -> str:
        """Return a text that is measured; a raw text counts as completion. It may be read again from its line."""
        return _measured_text(self._records[row])

    def completions(self) -> Iterator[str]:
        """Yield all of them."""
        return map(_measured_text, self._records)


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


@dataclass(frozen=True, slots=True)
class MeasuredRow(CategoryRow):
    """A category with what was measured of its completions; None where the measures say nothing about any of them."""

    median_repetition: float | None
    """Share of the word 4-grams that repeat an earlier one, 0 to 1."""
    median_lix: float | None
    """LIX: about 20 is a children's book, 40 a newspaper, 60 a law."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How a measure is spread: (from, to, records) for each bin, and how many records it says nothing about."""

    name: str
    unit: str
    bins: list[tuple[float, float, int]]
    num_without: int


class QualityOverview:
    """A data set in numbers. Each is counted when it is first asked for: what is not shown costs nothing."""

    def __init__(self, columns: RecordColumns, *, sample_size: int | None = SAMPLE_SIZE) -> None:
        """Take the columns; at most ``sample_size`` texts have their language identified, with None all of them."""
        self._columns = columns
        self._sample_size = sample_size

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
        return [self._row(name, rows) for name, rows in self._rows_by_category.items()]

    @cached_property
    def whole(self) -> CategoryRow:
        """All records as if they were one category, "all"."""
        return self._row("all", range(len(self._columns.category)))

    @cached_property
    def measured_categories(self) -> list[MeasuredRow]:
        """The same as `categories`, with measures of the texts."""
        return [
            self._measured(row, rows)
            for row, rows in zip(self.categories, self._rows_by_category.values(), strict=True)
        ]

    @cached_property
    def measured_whole(self) -> MeasuredRow:
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
        numbers: dict[str, Sequence[float | None]] = {
            "prompt length": [math.log1p(length) for length in self._columns.prompt_chars],
            "completion length": [math.log1p(length) for length in self._columns.completion_chars],
            "repetition": self._texts_measured[0],
            "readability": self._texts_measured[1],
        }
        for name in names:
            groups = [rows for value, rows in _rows_by(self._properties[name]).items() if value]
            for number, values in numbers.items():
                known = [_known(values, rows) for rows in groups]
                if sum(map(len, known)) > 1:
                    results.append(_effect(name, number, eta_squared(known), "eta²", (0.01, 0.06, 0.14)))
        return sorted(results, key=lambda effect: (-_STRENGTHS.index(effect.strength), -effect.size))

    @cached_property
    def histograms(self) -> list[Histogram]:
        """How lengths and measures are spread."""
        spreads: Sequence[tuple[str, str, Sequence[float | None]]] = (
            ("prompt length", "characters", self._columns.prompt_chars),
            ("completion length", "characters", self._columns.completion_chars),
            ("repetition", "share of 4-grams", self._texts_measured[0]),
            ("readability", "LIX", self._texts_measured[1]),
        )
        histograms = []
        for name, unit, values in spreads:
            known = _known(values, range(len(values)))
            histograms.append(Histogram(name, unit, bins(known), len(values) - len(known)))
        return histograms

    @cached_property
    def _rows_by_category(self) -> dict[str, list[int]]:
        return dict(sorted(_rows_by(self._columns.category).items()))

    @cached_property
    def _properties(self) -> dict[str, Sequence[str]]:
        """Category, source, annotator, language and split of each record; "" where it has none, or is not compared."""
        columns = self._columns
        return {
            "category": columns.category,
            "source": columns.details.source,
            "annotator": columns.details.annotator,
            "language": self._languages.comparable,
            "split": columns.split,
        }

    @cached_property
    def _languages(self) -> RecordLanguages:
        columns, details = self._columns, self._columns.details
        return RecordLanguages(
            columns.id, details.language, details.is_identifiable, columns.completion, self._sample_size
        )

    @cached_property
    def _texts_measured(self) -> tuple[list[float | None], list[float | None]]:
        """Repetition and readability of each completion."""
        repetitions, lixes = [], []
        for text in self._columns.completions():
            words = words_of(text)
            repetitions.append(repetition(text, words))
            lixes.append(lix(text, words))
        return repetitions, lixes

    def _row(self, name: str, rows: Sequence[int]) -> CategoryRow:
        columns = self._columns
        prompts, completions = (
            [lengths[row] for row in rows] or [0] for lengths in (columns.prompt_chars, columns.completion_chars)
        )
        splits = Counter(map(columns.split.__getitem__, rows))
        return CategoryRow(
            name,
            len(rows),
            {**{split: splits[split] for split in SPLITS}, "none": splits[""]},
            int(median(prompts)),
            max(prompts),
            int(median(completions)),
            max(completions),
        )

    def _measured(self, row: CategoryRow, rows: Sequence[int]) -> MeasuredRow:
        repetitions, lixes = (_known(values, rows) for values in self._texts_measured)
        return MeasuredRow(
            **asdict(row),
            median_repetition=median(repetitions) if repetitions else None,
            median_lix=median(lixes) if lixes else None,
        )


def _rows_by(values: Sequence[str]) -> dict[str, list[int]]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        rows[value].append(row)
    return rows


def _known(values: Sequence[float | None], rows: Sequence[int]) -> list[float]:
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
