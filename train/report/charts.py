"""The geometry of the report's pictures: numbers in, coordinates out; the template turns them into SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from train.report.model import CategoryResult, Curve, Estimate

BAR_WIDTH = 170.0
CURVE_WIDTH, CURVE_HEIGHT = 640.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 12.0, 10.0, 28.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar with its whisker, in units of the picture."""

    width: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class CurveChart:
    """Loss over steps: a path for training, a path and dots for validation, and the ticks of both axes."""

    train: str
    validation: str
    dots: Sequence[tuple[float, float]]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]


def bars(result: CategoryResult, scale: float) -> tuple[Bar, Bar]:
    """Return the bars of base and tuned; ``scale`` is the value that fills the width."""
    return _bar(result.base, scale), _bar(result.tuned, scale)


def scale_of(results: Sequence[CategoryResult]) -> float:
    """Return the value that fills the width of a bar: 1 for scores, the largest bound for bits per byte."""
    return max([1.0, *(max(one.base.high, one.tuned.high) for one in results if not one.higher_is_better)])


def curve_chart(curve: Curve) -> CurveChart | None:
    """Return the loss curve as a picture, or None where nothing was logged."""
    trained = [(point.step, point.loss) for point in curve.steps]
    checked = [(point.step, point.loss) for point in curve.evals if point.loss is not None]
    if not trained and not checked:
        return None
    steps = [step for step, _ in trained + checked]
    losses = [loss for _, loss in trained + checked]
    x_marks = _marks(0, max(1, *steps))
    y_marks = _marks(min(0.0, *losses), max(1e-6, *losses))

    def place(step: float, loss: float) -> tuple[float, float]:
        x = _LEFT + (step - x_marks[0]) / (x_marks[-1] - x_marks[0]) * (CURVE_WIDTH - _LEFT - _RIGHT)
        y = _TOP + (y_marks[-1] - loss) / (y_marks[-1] - y_marks[0]) * (CURVE_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    return CurveChart(
        train=_path([place(*point) for point in trained]),
        validation=_path([place(*point) for point in checked]),
        dots=[place(*point) for point in checked],
        x_ticks=[Tick(place(mark, y_marks[0])[0], f"{mark:g}") for mark in x_marks],
        y_ticks=[Tick(place(x_marks[0], mark)[1], f"{mark:g}") for mark in y_marks],
    )


def _bar(estimate: Estimate, scale: float) -> Bar:
    ends = (estimate.value, estimate.low, estimate.high)
    return Bar(*(round(min(1.0, max(0.0, end / scale)) * BAR_WIDTH, 1) for end in ends))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def _marks(low: float, high: float) -> list[float]:
    """Return three to seven round values that span [low, high]: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(mark * step, 10) for mark in range(first, last + 1)]
