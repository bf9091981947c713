"""What people say of the answers of two models: which they prefer, and whether an LLM judge agrees with them.

The verdicts come from `curate compare --blind`, where nobody knows which model gave which answer.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from train.base.errors import TrainError, first_line, validation_fault
from train.base.file_guard import open_file
from train.evaluate.predictions import Scored
from train.report import stats, wording
from train.report.model import Calibration, Estimate, JudgeSummary
from train.report.results import JUDGE, Pairs, estimate
from train.report.tables import ReportPart, ReportTable

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
            raise TrainError("E998 bad-verdict", f"{location}:{number}: {fault}", hint) from error
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
        raise TrainError("E998 bad-verdict", f"{path}: {error}", "Have `curate compare --blind` write it.") from error


def win_rates(verdicts: Sequence[HumanVerdict]) -> WinRates:
    """Return what people prefer, by category and in all.

    Raises TrainError: E998 bad-verdict where there is no verdict, or they are not about the same two models.
    """
    between = verdicts[0].between if verdicts else []
    if len(set(between)) < 2 or any(sorted(verdict.between) != sorted(between) for verdict in verdicts):
        message = "the verdicts are not about the same two models" if verdicts else "there is no verdict"
        raise TrainError("E998 bad-verdict", message, "Give some on two models: `curate compare --blind A B`.")
    groups: dict[str, list[HumanVerdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.category].append(verdict)
    tested = [_win_rate(name, groups[name], between) for name in sorted(groups)]
    adjusted = stats.holm([rate.p_adjusted for rate in tested])
    return WinRates(
        between=between, num_people=len({verdict.by for verdict in verdicts}),
        total=_with_word(_win_rate("", verdicts, between)),
        categories=[
            _with_word(rate.model_copy(update={"p_adjusted": p})) for rate, p in zip(tested, adjusted, strict=True)
        ],
    )  # fmt: skip


def _by_record(verdicts: Iterable[HumanVerdict], second: str) -> dict[str, tuple[str, float]]:
    """Return by record its cluster and the mean of the points that people gave the model ``second``."""
    points: dict[str, list[float]] = defaultdict(list)
    clusters: dict[str, str] = {}
    for verdict in verdicts:
        points[verdict.id].append(verdict.points(second))
        clusters[verdict.id] = verdict.cluster
    return {name: (clusters[name], sum(values) / len(values)) for name, values in points.items()}


def _win_rate(category: str, verdicts: Sequence[HumanVerdict], between: Sequence[str]) -> WinRate:
    clusters, points = zip(*_by_record(verdicts, between[1]).values(), strict=True)
    won = [verdict.points(between[1]) for verdict in verdicts]
    sums = stats.sums_by_cluster(clusters, [value - HALF for value in points])[:, 0]
    num_bad = sum(verdict.value == "both bad" for verdict in verdicts)
    return WinRate(
        category=category, n=len(points), num_clusters=len(sums), num_verdicts=len(won), num_first=won.count(0),
        num_second=won.count(1), num_ties=won.count(HALF) - num_bad, num_both_bad=num_bad,
        half=estimate(sum(points) / len(points), stats.mean_interval(points, clusters)),
        p_adjusted=stats.sign_flip(sums.tolist(), seed=stats.seed_of(category, "win rate")), verdict="none",
    )  # fmt: skip


def _with_word(rate: WinRate) -> WinRate:
    word = "none"
    if rate.num_clusters < stats.MIN_CLUSTERS:
        word = "too-few"
    elif rate.p_adjusted < stats.ALPHA and not rate.half.low <= HALF <= rate.half.high:
        word = "second" if rate.half.value > HALF else "first"
    return rate.model_copy(update={"verdict": word})


def people_tables(rates: WinRates) -> list[ReportTable]:
    """Return the win rates of the second model."""
    first, second = rates.between
    words = {"first": first, "second": second, "none": "~ neither", "too-few": "? too few"}
    rows = [
        (
            wording.category(rate.category) if rate.category else "ALL", str(rate.n),
            f"{rate.num_second}/{rate.num_ties}/{rate.num_both_bad}/{rate.num_first}",
            wording.number(rate.half.value), wording.spread(rate.half), words[rate.verdict],
        )
        for rate in [*rates.categories, rates.total]
    ]  # fmt: skip
    people = "1 person" if rates.num_people == 1 else f"{rates.num_people} people"
    return [ReportTable(
        part="people", title=f"{second} against {first}: {rates.total.num_verdicts} verdicts of {people}",
        heads=("category", "n", "win/tie/bad/loss", "win rate", "95 %", "preferred"), rows=rows, left=("preferred",),
        has_total=True,
        sentences=[f"Win rates are those of {second}. Ties and two bad answers count half. Repeats count once."],
    )]  # fmt: skip


def calibrated(summary: JudgeSummary, pairs: Pairs, verdicts: Sequence[HumanVerdict]) -> JudgeSummary:
    """Return ``summary`` with how far the judge agrees with people.

    ``pairs`` are base and tuned; only validation records count, and only verdicts on the texts that stand there now.
    The others are counted.
    """
    texts = {before.id: _digests(before, after) for before, after in pairs if before.split == "validation"}
    current = [v for v in verdicts if texts.get(v.id) == v.texts and v.between[0] == f"{v.between[1]}:base"]
    people = _by_record(current, current[0].between[1]) if current else {}
    # Two equal answers are a tie without a judge: they would make any of them look good.
    both = [
        (people[after.id][1], after.scores[JUDGE], after.cluster)
        for before, after in pairs
        if before.split == "validation" and after.scores and JUDGE in after.scores and before.text != after.text
        and after.id in people
    ]  # fmt: skip
    words, theirs = [_word(first) for first, _, _ in both], [_word(second) for _, second, _ in both]
    same = [first == second for first, second in zip(words, theirs, strict=True)]
    calibration = Calibration(
        n=len(both), agreement=sum(same) / len(same) if same else None,
        base_rate=max(map(words.count, _WORDS)) / len(words) if words else None,
        kappa=kappa(words, theirs, [cluster for *_, cluster in both], seed=stats.seed_of("", "kappa")),
    )  # fmt: skip
    is_calibrated = (
        calibration.n >= summary.min_human
        and calibration.kappa is not None
        and calibration.kappa.value >= summary.min_kappa
    )
    num_outdated = len(verdicts) - len(current)
    return summary.model_copy(update={
        "is_calibrated": is_calibrated, "calibration": calibration, "num_outdated": num_outdated,
        "remarks": list(_remarks(calibration, summary, num_outdated, is_calibrated=is_calibrated)),
    })  # fmt: skip


def _remarks(
    calibration: Calibration, summary: JudgeSummary, num_outdated: int, *, is_calibrated: bool
) -> Iterator[str]:
    """Yield what stands beside the judge's figures, first whether they are to be trusted, and why."""
    why = f"people have judged {calibration.n} of the same pairs"
    if calibration.n < summary.min_human:
        why += f", and it takes {summary.min_human}"
    elif calibration.kappa is None:
        why = "kappa with people is not defined, as one of them says the same of all"
    elif not is_calibrated:
        why = f"kappa with people is {wording.number(calibration.kappa.value)}, and it takes {summary.min_kappa:g}"
    yield f"{'Calibrated' if is_calibrated else 'Uncalibrated'} judge: {why}."
    if num_outdated:
        yield f"{num_outdated} verdicts of people are on other answers than those of this run; they do not count."
    if calibration.agreement is not None and calibration.base_rate is not None:
        agreed = (
            calibration.kappa
            and f"; kappa {wording.number(calibration.kappa.value)}, 95 % {wording.spread(calibration.kappa)}"
        )
        yield (
            f"Judge and people say the same of {wording.percent(calibration.agreement)} of {calibration.n} pairs "
            f"({wording.percent(calibration.base_rate)} by always saying what people say most{agreed or ''})."
        )


_WORDS = (0.0, HALF, 1.0)


def _word(points: float) -> float:
    """Return which answer is preferred: several people's points come to one of three words."""
    return HALF if points == HALF else float(points > HALF)


def kappa(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], *, seed: Sequence[int]
) -> Estimate | None:
    """Return Cohen's kappa of two raters who sort the same records into three words; None where it is not defined.

    The interval is that of the percentiles of a bootstrap over clusters. Cohen 1960, Educational and Psychological
    Measurement 20:37.
    """
    if not first:
        return None
    pairs = list(zip(first, second, strict=True))
    columns = [[float(pair == (a, b)) for pair in pairs] for a in _WORDS for b in _WORDS]
    value = float(_kappas(stats.sums_by_cluster(clusters, *columns).sum(axis=0)[None])[0])
    if math.isnan(value):
        return None
    # A draw in which all say the same tells nothing, and is NaN.
    low, high = np.nanquantile(_kappas(stats.bootstrap_sums(columns, clusters, seed=seed)), (0.025, 0.975))
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))


def _kappas(tables: stats.Floats) -> stats.Floats:
    """Return kappa of each table of counts, [draws, 9]; NaN where chance alone agrees on everything."""
    shares = (tables / tables.sum(axis=1, keepdims=True)).reshape(-1, len(_WORDS), len(_WORDS))
    agreed = np.trace(shares, axis1=1, axis2=2)
    chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance > 1 - 1e-12, np.nan, (agreed - chance) / (1 - chance))


def _digests(before: Scored, after: Scored) -> list[str]:
    texts = (record.text or "" for record in (before, after))
    return [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for text in texts]
