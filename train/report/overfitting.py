"""Over-fitting, shown: training beside validation over the steps, where validation fell, and answers known by heart."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from train.base.errors import TrainError, first_line
from train.base.file_guard import MOST_DOCUMENT, FileGuardError, read_file
from train.evaluate.predictions import VERBATIM, Scored
from train.report import stats, wording
from train.report.model import CategoryFit, Estimate, FitPoint, Memorised
from train.report.results import estimate

_FEWEST = 10
"""Clusters below which neither a gap nor a fall is told."""
_MOST_POINTS = 8
_NEXT = "train fewer epochs, write more records of it, or take fewer of them an epoch ([mixing] caps)"
_NOT_DUE = "They are known better than others; no fall on validation is shown: while it rises nothing has to be done."


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a run's `metrics.jsonl`, none where it is missing; a last line without its end is no event.

    Raises TrainError: E939 bad-metrics with the line.
    """
    try:
        lines = read_file(path, most=MOST_DOCUMENT).split(b"\n") if path.exists() else []
    except FileGuardError as error:
        raise TrainError("E939 bad-metrics", f"{path}: {error}", error.hint) from error
    for number, line in enumerate(lines[:-1], start=1):
        try:
            event = json.loads(line.decode("utf-8"))
            if not isinstance(event, dict):
                raise TypeError("an event must be an object")
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
            message = f"{path}:{number}: {type(error).__name__}: {first_line(error)}"
            raise TrainError("E939 bad-metrics", message) from error
        yield event


def category_fits(events: Sequence[Mapping[str, Any]]) -> list[CategoryFit]:
    """Return how each category of the evaluations in ``events`` fits what was trained and what was not, by name.

    By score where a category has one, unless its loss alone, in nats a token, got worse. A fall is the last evaluation
    against the best one, paired by record; its p value is adjusted for the choice of the best among all steps, and by
    Holm over categories and measures. Raises TrainError: E939 bad-metrics.
    """
    try:
        fits = {int(event["step"]): event["fit"] for event in events if event.get("event") == "eval" and "fit" in event}
        names = sorted({name for fit in fits.values() for name in fit["validation"]})
        series = [_FitOverSteps(name, fits, is_score) for name in names for is_score in (True, False)]
        series = [one for one in series if not one.is_score or one.has_scores]
        adjusted = stats.holm([one.p for one in series])
        chosen: dict[str, CategoryFit] = {}
        for fit in (one.result(p) for one, p in zip(series, adjusted, strict=True)):
            if fit.category not in chosen or chosen[fit.category].fell_from is None is not fit.fell_from:
                chosen[fit.category] = fit
        return list(chosen.values())
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise TrainError(
            "E939 bad-metrics", f"an evaluation's fit: {type(error).__name__}: {first_line(error)}"
        ) from error


class _FitOverSteps:
    """A category over the steps: of both splits [steps, records], higher being better."""

    def __init__(self, category: str, fits: Mapping[int, Mapping[str, Any]], is_score: bool) -> None:
        self.category, self.is_score = category, is_score
        self.number, self.spread = (partial(say, is_share=is_score) for say in (wording.number, wording.spread))
        sides = {
            split: [(step, fits[step][split][category]) for step in sorted(fits) if category in fits[step][split]]
            for split in ("train", "validation")
        }
        self.has_scores = all(None not in part["score"] for side in sides.values() for _, part in side)
        key, sign = ("score", 1.0) if is_score and self.has_scores else ("loss", -1.0)
        self.steps = [step for step, _ in sides["validation"]]
        self.clusters = {split: list(map(str, side[-1][1]["cluster"])) if side else [] for split, side in sides.items()}
        self.values = {
            split: sign * np.array([[float(value) for value in part[key]] for _, part in side])
            for split, side in sides.items()
        }
        self.best = int(self.values["validation"].mean(axis=1).argmax())
        self.change = self.values["validation"][-1] - self.values["validation"][self.best]
        sums = stats.sums_by_cluster(self.clusters["validation"], self.change.tolist())[:, 0].tolist()
        self.seed = stats.seed_of("fit", category)
        self.is_enough = len(set(self.clusters["validation"])) >= _FEWEST
        # The best of many is higher by chance alone.
        p = stats.sign_flip(sums, seed=self.seed) * max(1, len(self.steps) - 1)
        self.p = min(1.0, p) if self.is_enough else 1.0

    def result(self, p_adjusted: float) -> CategoryFit:
        points = [self._point(index) for index in self._shown()] if len(self.values["train"]) == len(self.steps) else []
        fall = self._fall()
        is_fallen = fall is not None and fall.high < 0 and p_adjusted < stats.ALPHA
        return CategoryFit(
            category=self.category,
            measure="score" if self.is_score else "loss",
            num_train=len(self.clusters["train"]),
            num_validation=len(self.clusters["validation"]),
            points=points,
            fell_from=self.steps[self.best] if is_fallen else None,
            fall=fall,
            p_adjusted=p_adjusted,
            sentence=self._sentence(points, fall if is_fallen else None, p_adjusted),
        )

    def _shown(self) -> list[int]:
        last = len(self.steps) - 1
        return sorted({round(index) for index in np.linspace(0, last, min(_MOST_POINTS, last + 1))} | {self.best})

    def _point(self, index: int) -> FitPoint:
        sides = {split: values[index] for split, values in self.values.items()}
        (train, of_train), (held_out, of_held_out) = (
            (float(sides[split].mean()), self._interval(sides[split].tolist(), self.clusters[split]))
            for split in ("train", "validation")
        )
        gap = train - held_out
        low = gap - math.hypot(train - of_train.low, of_held_out.high - held_out)
        high = gap + math.hypot(of_train.high - train, held_out - of_held_out.low)
        return FitPoint(
            step=self.steps[index], train=abs(train), validation=abs(held_out),
            gap=estimate(gap, stats.Interval(low, high)),
        )  # fmt: skip

    def _interval(self, values: list[float], clusters: Sequence[str]) -> stats.Interval:
        if self.is_score:
            return stats.mean_interval(values, clusters)
        return stats.bootstrap(values, [1.0] * len(values), clusters, seed=self.seed)

    def _fall(self) -> Estimate | None:
        if not self.is_enough or self.best == len(self.steps) - 1:
            return None
        ones = [1.0] * len(self.change)
        interval = stats.bootstrap(self.change.tolist(), ones, self.clusters["validation"], seed=self.seed)
        return estimate(float(self.change.mean()), interval)

    def _sentence(self, points: Sequence[FitPoint], fall: Estimate | None, p: float) -> str:
        name, unit = wording.category(self.category), "score" if self.is_score else "nats a token"
        trained = ""
        if points:
            last = points[-1]
            trained = f" training stands at {self.number(last.train)}, validation at {self.number(last.validation)}"
            trained += f" ({unit}; a gap of {self.number(last.gap.value)}, 95 % {self.spread(last.gap)})"
        if not self.is_enough:
            return f"{name}: too few validation records to tell over-fitting ({len(self.clusters['validation'])})."
        if fall is None:
            return f"{name}:{trained or ' no training record was answered'}; no fall on validation is shown."
        best, train = self.steps[self.best], self.values["train"].mean(axis=-1)
        step = f"end there (max_steps = {best}), {_NEXT}"
        if points and train[-1] < train[self.best]:
            step = "lower learning_rate: training got worse too, so that is no over-fitting"
        return (
            f"{name}: from step {best} on validation got worse, by {self.number(-fall.value)} {unit} up to step "
            f"{self.steps[-1]} (95 % {self.number(-fall.high)} to {self.number(-fall.low)}, {wording.p_value(p)})"
            f"{trained and ';' + trained}. Next: {step}."
        )


def _gained(base: Sequence[Scored], tuned: Sequence[Scored]) -> Estimate:
    """Return how many more training answers the tuned model continues than the base, paired."""
    sides = [
        {record.id: record.scores[VERBATIM] for record in side
         if record.split == "train" and record.scores and VERBATIM in record.scores}
        for side in (base, tuned)
    ]  # fmt: skip
    clusters = [record.cluster for record in tuned if record.id in sides[1]]
    before, after = ([side[name] for name in sides[1]] for side in sides)
    interval = stats.difference_interval(before, after, clusters)
    return estimate(float(np.mean(after) - np.mean(before)), interval)


def memory_of(base: Sequence[Scored], tuned: Sequence[Scored], *, has_fallen: bool) -> Memorised | None:
    """Return how many training answers the models know by heart, beside validation ones; None where none was tried.

    To train less is advised where validation ``has_fallen``.
    """

    def rate(side: Sequence[Scored], split: Literal["train", "validation"]) -> tuple[int, Estimate | None]:
        tried = [(record.scores[VERBATIM], record.cluster) for record in side
                 if record.split == split and record.scores and VERBATIM in record.scores]  # fmt: skip
        if not tried:
            return 0, None
        values, clusters = [value for value, _ in tried], [cluster for _, cluster in tried]
        return len(tried), estimate(float(np.mean(values)), stats.mean_interval(values, clusters))

    (n, before), (_, after), (n_control, control) = rate(base, "train"), rate(tuned, "train"), rate(tuned, "validation")
    if before is None or after is None:
        return None
    excess = after.value - (control.value if control else 0.0)
    # The distances of both intervals, added as variances are: Newcombe 1998, Statistics in Medicine 17:873, method 10.
    low = excess - math.hypot(after.value - after.low, (control.high - control.value) if control else 0.0)
    high = excess + math.hypot(after.high - after.value, (control.value - control.low) if control else 0.0)
    gained = _gained(base, tuned)
    few = f", by {n_control} validation answers alone" if n_control < stats.MIN_CLUSTERS else ""
    if gained.low < low:
        # What the base continues was not learnt here; then no control says how much was.
        low, excess, high, few = gained.low, gained.value, gained.high, ""
    is_significant = control is not None and min(n, n_control) >= _FEWEST and low > 0
    known = f"none beyond the control is shown (95 % up to {wording.percent(max(0.0, min(1.0, high)))}{few})"
    if is_significant:
        high = min(1.0, high)
        known = f"about {wording.percent(excess)} (95 % {wording.percent(low)} to {wording.percent(high)}{few})"
    control_text = (
        f"; of {n_control} validation answers, the control, {wording.percent(control.value)}" if control else ""
    )
    next_step = f" Next: {_NEXT}." if has_fallen else f" {_NOT_DUE}"
    return Memorised(
        n=n, base=before, tuned=after, num_control=n_control, control=control, is_significant=is_significant,
        sentence=f"Training answers known by heart: {known}. Of {n} the tuned model continues "
        f"{wording.percent(after.value)} word for word, the base {wording.percent(before.value)}{control_text}."
        f"{next_step if is_significant else ''}",
    )  # fmt: skip
