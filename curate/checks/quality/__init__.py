"""What the records are like: measures of each, balance of the whole, labels that look wrong, and pages about it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from curate.base.console import visible
from curate.base.record import SPLITS, Record, Split, source_of
from curate.base.tables import bins
from curate.checks.language import identified
from curate.checks.repetition import repetition, words_of

_SENTENCE = re.compile(r"[.!?…。！？]+(?:\s|$)|\n+")
_FEWEST_WORDS = 20
_LONG_WORD = 6

# A grouping with more values than this (one source a record, say) is no grouping.
_MOST_GROUPS = 200


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured of a record; None where a measure says nothing about such a text."""

    prompt_chars: int
    completion_chars: int
    repetition: float | None
    """Share of the completion's word 4-grams that repeat an earlier one, 0 to 1."""
    lix: float | None
    """LIX of the completion: about 20 is a children's book, 40 a newspaper, 60 a law."""
    language: str
    """ISO 639-1 code of the completion, "" where it is not clear, or without the extra [lang]."""


def measure(record: Record) -> Measures:
    """Measure one record; a raw text counts as completion."""
    text = record.completion or record.text
    return Measures(len(record.prompt), len(text), repetition(text), lix(text), identified(text))


def lix(text: str) -> float | None:
    """Return the readability index LIX: words a sentence, plus the percentage of words over six letters."""
    # Björnsson 1968, "Läsbarhet". It counts letters only, so it works for any language written in an alphabet; None for
    # other scripts and below twenty words.
    words = words_of(text)
    if len(words) < _FEWEST_WORDS or any(unicodedata.category(word[0]) == "Lo" for word in words[:_FEWEST_WORDS]):
        return None
    sentences = max(1, sum(bool(words_of(part)) for part in _SENTENCE.split(text)))
    return len(words) / sentences + 100 * sum(len(word) > _LONG_WORD for word in words) / len(words)


@dataclass(frozen=True, slots=True)
class Grouping:
    """The records by one property: how many have each value, most first, and how even that is."""

    name: str
    counts: dict[str, int]
    evenness: float
    """Entropy as a share of its maximum (Pielou 1966): 1 is perfectly even, 0 is all in one."""
    num_without: int
    """Records that say nothing about it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How strongly two properties go together, from 0 to 1, and in words."""

    left: str
    right: str
    size: float
    measure: str
    strength: str


def properties_of(
    records: Sequence[Record], measures: Sequence[Measures], pins: Mapping[str, Split]
) -> dict[str, list[str]]:
    """Return category, source, annotator, language and split of each record; "" where it has none."""
    return {
        "category": [record.category for record in records],
        "source": [source_of(record) for record in records],
        "annotator": [_text(record.meta.get("annotator")) for record in records],
        "language": [
            _text(record.meta.get("language")) or measured.language
            for record, measured in zip(records, measures, strict=True)
        ],
        "split": [str(pins.get(record.id) or record.split or "") for record in records],
    }


def groupings(properties: Mapping[str, Sequence[str]]) -> list[Grouping]:
    """Return the groupings that some record has a value for; those with hundreds of values are left out."""
    groups = []
    for name, values in properties.items():
        counts = Counter(value for value in values if value)
        if 0 < len(counts) <= _MOST_GROUPS:
            ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
            groups.append(Grouping(name, ordered, evenness(list(counts.values())), len(values) - counts.total()))
    return groups


def effects(properties: Mapping[str, Sequence[str]], measures: Sequence[Measures]) -> list[Effect]:
    """Return how the groupings go with one another and with lengths and readability, the strongest first."""
    # A category that comes from one source alone, or is far longer than the others, lets a model learn the source or
    # the length in place of the skill. Records without a value are left out pair by pair.
    names = [grouping.name for grouping in groupings(properties) if len(grouping.counts) > 1]
    results = []
    for left, right in combinations(names, 2):
        pairs = [(a, b) for a, b in zip(properties[left], properties[right], strict=True) if a and b]
        if len(pairs) > 1:
            results.append(_effect(left, right, cramers_v(pairs), "Cramér's V", (0.1, 0.3, 0.5)))
    numbers: dict[str, list[float | None]] = {
        "prompt length": [math.log1p(measured.prompt_chars) for measured in measures],
        "completion length": [math.log1p(measured.completion_chars) for measured in measures],
        "repetition": [measured.repetition for measured in measures],
        "readability": [measured.lix for measured in measures],
    }
    for name in names:
        for number, values in numbers.items():
            valued = [(g, v) for g, v in zip(properties[name], values, strict=True) if g and v is not None]
            if len(valued) > 1:
                results.append(_effect(name, number, eta_squared(valued), "eta²", (0.01, 0.06, 0.14)))
    return sorted(results, key=lambda effect: (-_rank(effect), -effect.size))


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


def eta_squared(values: Sequence[tuple[str, float]]) -> float:
    """Return the share of a number's variance that its group explains (eta squared, Fisher 1925)."""
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for group, value in values:
        groups[group].append(value)
    mean = math.fsum(value for _, value in values) / len(values)
    total = math.fsum((value - mean) ** 2 for _, value in values)
    between = math.fsum(len(part) * (math.fsum(part) / len(part) - mean) ** 2 for part in groups.values())
    return min(1.0, between / total) if total > 0 else 0.0


def _effect(left: str, right: str, size: float, measure: str, limits: tuple[float, float, float]) -> Effect:
    # Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapters 7 and 8.
    words = ("none", "small", "medium", "large")
    return Effect(left, right, size, measure, words[sum(size >= limit for limit in limits)])


def _rank(effect: Effect) -> int:
    return ("none", "small", "medium", "large").index(effect.strength)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


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
