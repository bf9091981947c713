"""Is the data lopsided: how even each grouping is, and what goes together that need not, with effect sizes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from curate.base.record import Record, Split, source_of
from curate.checks.quality.measures import Measures

_MOST_GROUPS = 200
"""A grouping with more values than this (one source a record, say) is no grouping."""


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
    """Return how the groupings go with one another and with lengths and readability, the strongest first.

    A category that comes from one source alone, or is far longer than the others, lets a model learn the source or the
    length in place of the skill. Records without a value are left out pair by pair.
    """
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
    """Return Cramér's V of two nominal variables with the bias correction of Bergsma 2013.

    Source: https://doi.org/10.1016/j.jkss.2012.10.002. 0 where one of them does not vary.
    """
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
