"""Which of two models people prefer: win rates by category, and what place and length did to their verdicts.

The verdicts come from `curate compare --blind`, where nobody knows which model gave which answer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from train.base.console import visible
from train.base.errors import TrainError, first_line, validation_fault
from train.report import stats, wording
from train.report.model import Bias, Estimate
from train.report.results import estimate
from train.report.stats import seed_of
from train.report.tables import ReportPart, ReportTable, prose, to_text

HUMAN = "human.jsonl"
"""In the folder of a run: the verdicts of people on its base and its tuned model."""
HALF = 0.5
_POINTS = {"a": 0.0, "b": 1.0, "tie": HALF, "both bad": HALF}


class HumanVerdict(ReportPart, title="A line of runs/ID/human.jsonl: a verdict of a person."):
    """A line of human.jsonl: what one person said of two answers to a validation record."""

    id: str = Field(min_length=1)
    category: str
    cluster: str
    by: str = Field(min_length=1)
    between: Annotated[list[str], Field(min_length=2, max_length=2)]
    """The two models; "a" is the first of them."""
    value: Literal["a", "b", "tie", "both bad"]
    first: Literal["a", "b"]
    """The one whose answer stood on the left, or above."""
    lengths: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
    """Characters of both answers."""
    texts: Annotated[list[Annotated[str, Field(pattern="^[0-9a-f]{32}$")]], Field(min_length=2, max_length=2)]
    """BLAKE2b digests, 16 bytes, of both answers."""

    def turned(self) -> HumanVerdict:
        """Return the same verdict with the two models in the other order."""
        other: dict[str, Literal["a", "b"]] = {"a": "b", "b": "a"}
        return self.model_copy(update={
            "between": self.between[::-1], "lengths": self.lengths[::-1], "texts": self.texts[::-1],
            "first": other[self.first], "value": other.get(self.value, self.value),
        })  # fmt: skip

    @property
    def points(self) -> float:
        """What the second model gets: 1, 0, or half of it for a tie and for two bad answers."""
        return _POINTS[self.value]


class WinRate(ReportPart):
    """How often the second model is preferred over the first; the interval counts clusters of repeats once."""

    category: str
    n: int
    """Records."""
    num_clusters: int
    num_verdicts: int
    num_first: int
    """Verdicts that prefer the first model."""
    num_second: int
    num_ties: int
    num_both_bad: int
    half: Estimate
    """Ties, and two bad answers, count as half a win for either."""
    p: float
    p_adjusted: float
    """Holm over the categories."""
    verdict: Literal["first", "second", "none", "too-few"]
    """Which model is preferred beyond chance."""
    sentence: str


class WinRates(ReportPart, title="What `train winrate --json` prints: which of two models people prefer."):
    """The verdicts of people on two models."""

    version: Literal[1] = 1
    between: list[str]
    n: int
    num_verdicts: int
    num_people: int
    fewest: int
    """Independent records below which nobody is said to be preferred."""
    total: WinRate
    categories: list[WinRate]
    position: Bias
    length: Bias


def read_verdicts(lines: Iterable[bytes | str], location: str) -> list[HumanVerdict]:
    """Return the verdicts that ``lines`` of JSON hold; ``location`` names them in an error.

    Raises TrainError: E998 bad-verdict with the line.
    """
    verdicts: list[HumanVerdict] = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                verdicts.append(HumanVerdict.model_validate(json.loads(line), strict=True))
        except (ValueError, RecursionError) as error:
            fault = validation_fault(error) if isinstance(error, ValidationError) else first_line(error)
            hint = "Have `curate compare --blind` write them again."
            raise TrainError("E998 bad-verdict", f"{location}:{number}: {fault}", hint) from error
    return verdicts


def win_rates(verdicts: Sequence[HumanVerdict], *, fewest: int = stats.MIN_CLUSTERS) -> WinRates:
    """Return what people prefer; a record that several have judged counts once, with the mean of their points.

    Raises TrainError: E998 bad-verdict where there is none, or they are about other models than the first one is.
    """
    if not verdicts:
        raise TrainError("E998 bad-verdict", "there is no verdict", "Give some: `curate compare --blind A B`.")
    between = verdicts[0].between
    if between[0] == between[1]:
        raise TrainError("E998 bad-verdict", f"{between[0]} stands against itself", "Give those on two models.")
    if any(sorted(verdict.between) != sorted(between) for verdict in verdicts):
        message = "the verdicts are about more than two models"
        raise TrainError("E998 bad-verdict", message, "Give those on two models alone.")
    verdicts = [verdict if verdict.between == between else verdict.turned() for verdict in verdicts]
    groups: dict[str, list[HumanVerdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.category].append(verdict)
    rates = [_rate(name, groups[name], between, fewest) for name in sorted(groups)]
    adjusted = stats.holm([rate.p for rate in rates])
    total = _rate("", verdicts, between, fewest)
    return WinRates(
        between=between,
        n=total.n,
        num_verdicts=len(verdicts),
        num_people=len({verdict.by for verdict in verdicts}),
        fewest=fewest,
        total=_with_verdict(total, total.p, between, fewest),
        categories=[_with_verdict(rate, p, between, fewest) for rate, p in zip(rates, adjusted, strict=True)],
        position=bias("first shown", [(v.cluster, v.value == v.first) for v in verdicts if v.points != HALF]),
        length=bias("longer", [(v.cluster, prefers_longer(v.points, v.lengths)) for v in verdicts]),
    )


def prefers_longer(points: float, lengths: Sequence[int]) -> bool | None:
    """Return whether the longer of two answers was preferred; None where neither was, or both are as long.

    ``points`` are what the second one got, and ``lengths`` those of both.
    """
    first, second = lengths
    return None if points == HALF or first == second else (points > HALF) == (second > first)


def bias(what: str, choices: Sequence[tuple[str, float | None]]) -> Bias:
    """Return the share of ``choices``, clusters and whether it was the one that is ``what``, with its interval.

    Those that are None are passed over.
    """
    clusters = [cluster for cluster, value in choices if value is not None]
    values = [float(value) for _, value in choices if value is not None]
    if not values:
        return Bias(n=0, num_clusters=0, rate=None, sentence=f"The {what} answer: nothing is known.")
    rate = estimate(sum(values) / len(values), stats.mean_interval(values, clusters))
    num = len(set(clusters))
    word = "no bias shown"
    if num < stats.MIN_CLUSTERS:
        word = f"too few to judge ({num} of {stats.MIN_CLUSTERS})"
    elif not rate.low <= HALF <= rate.high:
        word = "more often than chance" if rate.value > HALF else "less often than chance"
    text = f"The {what} answer was preferred in {wording.percent(rate.value)} of {len(values)} (95 % {_span(rate)}): "
    return Bias(n=len(values), num_clusters=num, rate=rate, sentence=f"{text}{word}.")


def points_by_record(verdicts: Iterable[HumanVerdict]) -> dict[str, tuple[str, float]]:
    """Return by record its cluster and the mean of the points that people gave the second model."""
    points: dict[str, list[float]] = defaultdict(list)
    clusters: dict[str, str] = {}
    for verdict in verdicts:
        points[verdict.id].append(verdict.points)
        clusters[verdict.id] = verdict.cluster
    return {name: (clusters[name], sum(values) / len(values)) for name, values in points.items()}


def render(rates: WinRates, columns: int | None = None) -> str:
    """Return the win rates as text for a terminal of ``columns``."""
    first, second = map(visible, rates.between)
    people = "1 person" if rates.num_people == 1 else f"{rates.num_people} people"
    head = f"{second} against {first}: {rates.num_verdicts} verdicts of {people} on {rates.n} validation records"
    rows = [(rate.category, rate) for rate in rates.categories]
    if len(rows) > 1:
        rows.append(("ALL", rates.total))
    cells = [_cells(name, rate, (first, second)) for name, rate in rows]
    lines = [head, "", to_text([ReportTable(part="judge", heads=_HEADS, rows=cells, left=())], columns), ""]
    lines += prose(f"Win rates are those of {second}. Ties and two bad answers count half. "
                           "Repeats count once.", columns)  # fmt: skip
    for sentence in (rates.total.sentence, rates.position.sentence, rates.length.sentence):
        lines += prose(sentence, columns)
    return "\n".join(lines)


_HEADS = ("category", "n", "win/tie/bad/loss", "win rate", "95 %", "preferred")
_LONGEST = 32


def _cells(name: str, rate: WinRate, between: tuple[str, str]) -> tuple[str, ...]:
    counts = f"{rate.num_second}/{rate.num_ties}/{rate.num_both_bad}/{rate.num_first}"
    half = wording.number(rate.half.value), wording.spread(rate.half)
    words = {"first": between[0], "second": between[1], "none": "~ neither", "too-few": "? too few"}
    return (
        wording.category(name)[:_LONGEST],
        str(rate.n),
        counts,
        *half,
        words[rate.verdict][:_LONGEST],
    )


def _rate(category: str, verdicts: Sequence[HumanVerdict], between: Sequence[str], fewest: int) -> WinRate:
    records = points_by_record(verdicts)
    clusters, points = zip(*records.values(), strict=True)
    counts = {word: sum(verdict.value == word for verdict in verdicts) for word in _POINTS}
    sums: dict[str, float] = defaultdict(float)
    for cluster, mean in records.values():
        sums[cluster] += mean - HALF
    seed = seed_of(category, "win rate")
    return WinRate(
        category=category,
        n=len(records),
        num_clusters=len(set(clusters)),
        num_verdicts=len(verdicts),
        num_first=counts["a"],
        num_second=counts["b"],
        num_ties=counts["tie"],
        num_both_bad=counts["both bad"],
        half=estimate(sum(points) / len(points), stats.mean_interval(points, clusters)),
        p=stats.sign_flip([sums[name] for name in sorted(sums)], seed=seed),
        p_adjusted=1.0,
        verdict="none",
        sentence="",
    )


def _with_verdict(rate: WinRate, p: float, between: Sequence[str], fewest: int) -> WinRate:
    is_significant = p < stats.ALPHA and not rate.half.low <= HALF <= rate.half.high
    word: Literal["first", "second", "none", "too-few"] = "none"
    what = "neither is preferred beyond chance"
    if min(rate.n, rate.num_clusters) < fewest:
        word, what = "too-few", f"too few to judge ({min(rate.n, rate.num_clusters)} of {fewest})"
    elif is_significant:
        word = "second" if rate.half.value > HALF else "first"
        what = f"{between[word == 'second']} is preferred beyond chance"
    name = f"In {rate.category}" if rate.category else "In all"
    text = f"{name}, {between[1]} wins {wording.percent(rate.half.value)} (n = {rate.n}, 95 % {_span(rate.half)}, "
    return rate.model_copy(
        update={"p_adjusted": p, "verdict": word, "sentence": f"{text}{wording.p_value(p)}): {what}."}
    )


def _span(value: Estimate) -> str:
    return f"{wording.percent(value.low)} to {wording.percent(value.high)}"
