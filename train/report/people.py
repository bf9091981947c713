"""What people say of the answers of two models: which they prefer, and whether an LLM judge agrees with them.

The verdicts come from `curate compare --blind`, where nobody knows which model gave which answer.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from train.base.errors import TrainError, first_line, validation_fault
from train.base.storage import open_file
from train.evaluate.predictions import Scored
from train.report import stats, wording
from train.report.model import Estimate, JudgeSummary
from train.report.results import JUDGE, Pairs, estimate
from train.report.tables import ReportPart, ReportTable

HUMAN = "human.jsonl"
"""In the folder of a run: the verdicts of people on its base and its tuned model."""
HALF = 0.5
_POINTS = {"a": 0.0, "b": 1.0, "tie": HALF, "both bad": HALF}
_BAD_VERDICT = "E998 bad-verdict"


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

    def points(self, second: str) -> float:
        """Return what the model ``second`` gets: 1, 0, or half of it for a tie and for two bad answers."""
        points = _POINTS[self.value]
        return points if self.between[1] == second else 1 - points


class WinRate(ReportPart):
    """How often the second model is preferred over the first; the interval counts clusters of repeats once."""

    category: str
    """Empty for all of them."""
    n: int
    """Records; one that several people have judged counts once, with the mean of their points."""
    num_clusters: int
    num_verdicts: int
    num_first: int
    """Verdicts that prefer the first model."""
    num_second: int
    num_ties: int
    num_both_bad: int
    half: Estimate
    """Ties, and two bad answers, count as half a win for either."""
    p_adjusted: float
    """Holm over the categories."""
    verdict: Literal["first", "second", "none", "too-few"]
    """Which model is preferred beyond chance."""


class WinRates(ReportPart, title="What `train compare --human --json` prints: whom of two models people prefer."):
    """The verdicts of people on two models."""

    version: Literal[1] = 1
    between: list[str]
    num_people: int
    total: WinRate
    categories: list[WinRate]


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
            raise TrainError(_BAD_VERDICT, f"{location}:{number}: {fault}", hint) from error
    return verdicts


def read_human(folder: Path) -> list[HumanVerdict]:
    """Return what people said of the base and the tuned model of the run in ``folder``; nothing without human.jsonl.

    Raises TrainError: E998 bad-verdict.
    """
    path = folder / HUMAN
    if not path.exists():
        return []
    try:
        with open_file(path) as lines:
            return read_verdicts(lines, str(path))
    except OSError as error:
        raise TrainError(_BAD_VERDICT, f"{path}: {error}", "Have `curate compare --blind` write it.") from error


def win_rates(verdicts: Sequence[HumanVerdict]) -> WinRates:
    """Return what people prefer, by category and in all.

    Raises TrainError: E998 bad-verdict where there is no verdict, or they are not about the same two models.
    """
    between = verdicts[0].between if verdicts else []
    if len(set(between)) < 2 or any(sorted(verdict.between) != sorted(between) for verdict in verdicts):
        message = "the verdicts are not about the same two models" if verdicts else "there is no verdict"
        raise TrainError(_BAD_VERDICT, message, "Give some on two models: `curate compare --blind A B`.")
    groups: dict[str, list[HumanVerdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.category].append(verdict)
    rates = [_win_rate(name, groups[name], between[1]) for name in sorted(groups)]
    adjusted = stats.holm_adjust([rate.p_adjusted for rate in rates])
    return WinRates(
        between=between, num_people=len({verdict.by for verdict in verdicts}),
        total=_judge_rate(_win_rate("", verdicts, between[1])),
        categories=[_judge_rate(rate.model_copy(update={"p_adjusted": p}))
                    for rate, p in zip(rates, adjusted, strict=True)],
    )  # fmt: skip


def _points_by_record(verdicts: Iterable[HumanVerdict], second: str) -> dict[tuple[str, str], float]:
    """Return by record and its cluster the mean of the points that people gave the model ``second``."""
    points: dict[tuple[str, str], list[float]] = defaultdict(list)
    for verdict in verdicts:
        points[verdict.id, verdict.cluster].append(verdict.points(second))
    return {record: sum(values) / len(values) for record, values in points.items()}


def _win_rate(category: str, verdicts: Sequence[HumanVerdict], second: str) -> WinRate:
    """Return the win rate of the model ``second``, its p value as it is, without a verdict."""
    by_record = _points_by_record(verdicts, second)
    points, clusters = [*by_record.values()], [cluster for _, cluster in by_record]
    sums = stats.sums_by_cluster(clusters, [value - HALF for value in points])[:, 0].tolist()
    won, num_bad = [verdict.points(second) for verdict in verdicts], sum(v.value == "both bad" for v in verdicts)
    return WinRate(
        category=category, n=len(points), num_clusters=len(sums), num_verdicts=len(won), num_first=won.count(0),
        num_second=won.count(1), num_ties=won.count(HALF) - num_bad, num_both_bad=num_bad,
        half=estimate(sum(points) / len(points), stats.mean_interval(points, clusters)),
        p_adjusted=stats.sign_flip_p(sums, seed=stats.seed_of(category, "win rate")), verdict="none",
    )  # fmt: skip


def _judge_rate(rate: WinRate) -> WinRate:
    """Return ``rate`` with the verdict that its interval and its adjusted p value allow."""
    half, word = rate.half, "second" if rate.half.value > HALF else "first"
    if rate.num_clusters < stats.MIN_CLUSTERS:
        word = "too-few"
    elif rate.p_adjusted >= stats.ALPHA or half.low <= HALF <= half.high:
        word = "none"
    return rate.model_copy(update={"verdict": word})


def people_table(rates: WinRates) -> ReportTable:
    """Return the win rates of the second model."""
    first, second = rates.between
    words = {"first": first, "second": second, "none": "~ neither", "too-few": "? too few"}
    rows = [
        (
            wording.format_category(rate.category) if rate.category else "ALL", str(rate.n),
            f"{rate.num_second}/{rate.num_ties}/{rate.num_both_bad}/{rate.num_first}",
            wording.format_number(rate.half.value), wording.format_interval(rate.half), words[rate.verdict],
        )
        for rate in [*rates.categories, rates.total]
    ]  # fmt: skip
    people = "1 person" if rates.num_people == 1 else f"{rates.num_people} people"
    return ReportTable(
        part="people", title=f"{second} against {first}: {rates.total.num_verdicts} verdicts of {people}",
        heads=("category", "n", "win/tie/bad/loss", "win rate", "95 %", "preferred"), rows=rows, left=("preferred",),
        has_total=True,
        sentences=[f"Win rates are those of {second}. Ties and two bad answers count half. Repeats count once."],
    )  # fmt: skip


def calibrate(summary: JudgeSummary, pairs: Pairs, verdicts: Sequence[HumanVerdict]) -> JudgeSummary:
    """Return ``summary`` with how far the judge agrees with people.

    ``pairs`` are base and tuned; only validation records count, and only verdicts on the texts that stand there now.
    The others are counted.
    """
    validation = {before.id: (before, after) for before, after in pairs if before.split == "validation"}
    current = [v for v in verdicts if v.id in validation and v.texts == list(map(_digest, validation[v.id]))
               and v.between[0] == f"{v.between[1]}:base"]  # fmt: skip
    human_points = _points_by_record(current, current[0].between[1]) if current else {}
    judge_scores = {name: (after.scores or {})[JUDGE] for name, (before, after) in validation.items()
                    # Two equal answers are a tie without a judge: they would make any of them look good.
                    if JUDGE in (after.scores or {}) and before.text != after.text}  # fmt: skip
    word_pairs = {record: (_word(points), _word(judge_scores[record[0]])) for record, points in human_points.items()
                  if record[0] in judge_scores}  # fmt: skip
    words, clusters = [word for word, _ in word_pairs.values()], [validation[name][1].cluster for name, _ in word_pairs]
    num, agreement = len(word_pairs), cohens_kappa(words, [word for _, word in word_pairs.values()], clusters)
    is_enough = num >= summary.min_human
    is_calibrated = is_enough and agreement is not None and agreement.value >= summary.min_kappa
    why = f"people have judged {num} of the same pairs"
    if not is_enough:
        why += f", and it takes {summary.min_human}"
    elif not is_calibrated:
        value = (
            wording.format_number(agreement.value) if agreement else "not defined, as one of them says the same of all"
        )
        why = f"kappa with people is {value}, and it takes {summary.min_kappa:g}"
    remarks = [f"{'Calibrated' if is_calibrated else 'Uncalibrated'} judge: {why}."]
    if agreement is not None:
        num_same, num_commonest = sum(a == b for a, b in word_pairs.values()), max(map(words.count, words))
        remarks.append(
            f"Judge and people say the same of {wording.format_percent(num_same / num)} of {num} pairs (always what "
            f"people say most: {wording.format_percent(num_commonest / num)}); kappa "
            f"{wording.format_number(agreement.value)}, 95 % {wording.format_interval(agreement)}."
        )
    num_outdated = len(verdicts) - len(current)
    if num_outdated:
        remarks.append(f"{num_outdated} verdicts of people are on other answers than those of this run.")
    return summary.model_copy(update={
        "is_calibrated": is_calibrated, "num_human": num, "kappa": agreement, "num_outdated": num_outdated,
        "remarks": remarks,
    })  # fmt: skip


_WORDS = (0.0, HALF, 1.0)


def _word(points: float) -> float:
    """Return which answer is preferred: several people's points come to one of three words."""
    return HALF if points == HALF else float(points > HALF)


def cohens_kappa(first: Sequence[float], second: Sequence[float], clusters: Sequence[str]) -> Estimate | None:
    """Return Cohen's kappa of two raters who sort the same records into three words; None where it is not defined.

    The interval is Student's t by the jackknife over clusters. Cohen 1960, Educational and Psychological Measurement
    20:37.
    """
    if not first:
        return None
    pairs = list(zip(first, second, strict=True))
    columns = [[float(pair == (a, b)) for pair in pairs] for a in _WORDS for b in _WORDS]
    sums = stats.sums_by_cluster(clusters, *columns)
    # All of them, and all but one cluster each.
    tables = np.vstack([sums.sum(axis=0), sums.sum(axis=0) - sums]).reshape(-1, len(_WORDS), len(_WORDS))
    shares = tables / np.maximum(1, tables.sum(axis=(1, 2), keepdims=True))
    chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    kappas = (np.trace(shares, axis1=1, axis2=2) - chance) / np.where(chance > 1 - 1e-12, np.nan, 1 - chance)
    value, rest = float(kappas[0]), kappas[1:][~np.isnan(kappas[1:])]
    if math.isnan(value):
        return None
    half = stats.student_quantile(len(rest) - 1) * math.sqrt((len(rest) - 1) * rest.var()) if len(rest) > 1 else 2.0
    return Estimate(value=value, low=max(-1.0, value - half), high=min(1.0, value + half))


def _digest(record: Scored) -> str:
    return blake2b((record.text or "").encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
