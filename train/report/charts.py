"""The geometry of the report's pictures: numbers in, coordinates out; the template turns them into SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from train.report.model import CategoryResult, Confusion, Curve, DataMap, Estimate

SPAN = 170.0
CURVE_WIDTH, CURVE_HEIGHT = 640.0, 220.0
MAP_WIDTH, MAP_HEIGHT = 640.0, 380.0
SHADES = 5
"""Steps of colour in which a share between 0 and 1 is drawn."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 12.0, 10.0, 28.0


@dataclass(frozen=True, slots=True)
class Dot:
    """One value with the ends of its interval, in units of the picture."""

    at: float
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
    summary: str
    """What the picture shows, in words."""


@dataclass(frozen=True, slots=True)
class MapChart:
    """Records by variability (x) and confidence (y): for each shade of correctness the dots, and the ticks."""

    shades: Sequence[Sequence[tuple[float, float]]]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    summary: str


def dots(result: CategoryResult, scale: float) -> tuple[Dot, Dot]:
    """Return the dots of base and tuned; ``scale`` is the value at the right edge."""
    return _dot(result.base, scale), _dot(result.tuned, scale)


def scale_of(results: Sequence[CategoryResult]) -> float:
    """Return the value at the right edge: 1 for scores, the largest bound for bits per byte."""
    return max([1.0, *(max(result.base.high, result.tuned.high) for result in results if not result.higher_is_better)])


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
    project = _projection(x_marks, y_marks, CURVE_WIDTH, CURVE_HEIGHT)
    return CurveChart(
        summary="; ".join(
            f"{name} from {points[0][1]:.2f} at step {points[0][0]} to {points[-1][1]:.2f} at step {points[-1][0]}"
            for name, points in (("training", trained), ("validation", checked))
            if points
        ),
        train=_path([project(*point) for point in trained]),
        validation=_path([project(*point) for point in checked]),
        dots=[project(*point) for point in checked],
        x_ticks=[Tick(project(mark, y_marks[0])[0], f"{mark:g}") for mark in x_marks],
        y_ticks=[Tick(project(x_marks[0], mark)[1], f"{mark:g}") for mark in y_marks],
    )


def map_chart(data_map: DataMap | None) -> MapChart | None:
    """Return the data map as a picture, or None where no record was trained in two epochs."""
    varied = (
        [(record, record.variability) for record in data_map.points if record.variability is not None]
        if data_map
        else []
    )
    if not data_map or not varied:
        return None
    x_marks = _marks(0.0, max(1e-6, *(spread for _, spread in varied)))
    y_marks = _marks(min(-1e-6, *(record.confidence for record, _ in varied)), 0.0)
    project = _projection(x_marks, y_marks, MAP_WIDTH, MAP_HEIGHT)
    shades: list[list[tuple[float, float]]] = [[] for _ in range(SHADES)]
    for record, spread in varied:
        shades[shade(record.correctness)].append(project(spread, record.confidence))
    means = [
        math.fsum(values) / len(varied)
        for values in zip(*((r.confidence, spread, r.correctness) for r, spread in varied), strict=True)
    ]
    return MapChart(
        shades=shades,
        x_ticks=[Tick(project(mark, y_marks[0])[0], f"{mark:g}") for mark in x_marks],
        y_ticks=[Tick(project(x_marks[0], mark)[1], f"{mark:g}") for mark in y_marks],
        summary=f"{len(varied)} of {data_map.n} training records; mean confidence {means[0]:.2f}, "
        f"mean variability {means[1]:.2f}, mean correctness {means[2]:.2f}",
    )


def confusion_rows(counts: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    """Return of each row of a confusion matrix the counts, each with its shade: the share of its row."""
    return [[(count, shade(count / (sum(row) or 1))) for count in row] for row in counts]


def accuracy(confusion: Confusion, counts: Sequence[Sequence[int]]) -> float:
    """Return the share of records on the diagonal."""
    return sum(counts[index][index] for index in range(len(confusion.labels))) / max(1, sum(map(sum, counts)))


def shade(share: float) -> int:
    """Return the step of colour of a share between 0 and 1."""
    return min(SHADES - 1, int(share * SHADES))


def _projection(
    x_marks: Sequence[float], y_marks: Sequence[float], width: float, height: float
) -> Callable[[float, float], tuple[float, float]]:
    """Return the function from a point to its coordinates in a picture whose axes end at the outer marks."""

    def project(across: float, up: float) -> tuple[float, float]:
        x = _LEFT + (across - x_marks[0]) / (x_marks[-1] - x_marks[0]) * (width - _LEFT - _RIGHT)
        y = _TOP + (y_marks[-1] - up) / (y_marks[-1] - y_marks[0]) * (height - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    return project


def _dot(estimate: Estimate, scale: float) -> Dot:
    ends = (estimate.value, estimate.low, estimate.high)
    return Dot(*(round(min(1.0, max(0.0, end / scale)) * SPAN, 1) for end in ends))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def _marks(low: float, high: float) -> list[float]:
    """Return three to seven round values that span [low, high]: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(mark * step, 10) for mark in range(first, last + 1)]
