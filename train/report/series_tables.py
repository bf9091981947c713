"""The tables of a series, a learning curve and a sweep, the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train.report import wording
from train.report.model import Estimate, Report
from train.report.stages import stage_rows
from train.report.training_parts import CategoryCurve, LearningCurve, Sweep
from train.report.wording import MINUS

_RIGHT = {"n", "base", "doubled", "steps", "score", "behind"}


class SeriesTable(NamedTuple):
    """A title, heads, rows, and a sentence below them."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentence: str


def series_tables(report: Report) -> list[SeriesTable]:
    """Return what a report has of a series, beside its results."""
    tables = [] if report.learning_curve is None else [_of_curve(report.learning_curve)]
    if report.stages is not None:
        heads = ["category", "base", *(wording.cell(result.name) for result in report.stages.results)]
        title = f"Stages: scores on the {report.stages.split} split (+ better, ! worse than the stage before)"
        rows = stage_rows(report.stages, report.main().categories)
        tables.append(SeriesTable(title, heads, rows, report.stages.sentence))
    return tables if report.sweep is None else [*tables, _of_sweep(report.sweep)]


def series_lines(report: Report, columns: int | None) -> list[str]:
    """Return the tables of a series for a terminal of ``columns``."""
    lines = []
    for each in series_tables(report):
        shares = {head for head in each.heads if head.endswith("%") and head[0].isdigit() and head != "95 %"}
        lines += ["", each.title, "", *wording.grid(each.heads, each.rows, columns, right=_RIGHT | shares)]
        lines += ["", *wording.prose(each.sentence, columns)]
    return [line.rstrip() for line in lines]


def settings_text(changes: Mapping[str, Any]) -> str:
    """Return settings as they are read: "lr = 0.001, lora.rank = 8"."""
    return ", ".join(f"{key} = {value}" for key, value in changes.items())


def _of_curve(curve: LearningCurve) -> SeriesTable:
    heads = ["category", "n", "base", *(f"{100 * share:g} %" for share in curve.shares), "doubled", "95 %"]
    return SeriesTable(
        f"Learning curve: {curve.split} scores by share of the training records, under the same number of steps",
        heads, [_curve_row(each) for each in curve.categories], curve.sentence[:1].upper() + curve.sentence[1:],
    )  # fmt: skip


def _curve_row(curve: CategoryCurve) -> list[str]:
    is_share = curve.higher_is_better
    name = "MEAN" if not curve.metric else wording.cell(wording.category(curve.category))
    scores = [
        wording.number(value, is_share=is_share) for value in (curve.base, *(p.score.value for p in curve.points))
    ]
    gain = _gain(curve.gain, is_share=is_share) if curve.gain is not None and curve.word == "gain" else (curve.word, "")
    words = {"unclear": "cannot tell"}
    return [name, str(curve.points[-1].num_records), *scores, words.get(gain[0], gain[0]), gain[1]]


def _gain(gain: Estimate, *, is_share: bool) -> tuple[str, str]:
    # Of bits fewer are better, and so they are written.
    sign = "" if is_share else MINUS
    span = wording.spread(gain, is_share=is_share, sign=is_share)
    return (sign or "+") + wording.number(gain.value, is_share=is_share), span if is_share else f"{sign}({span})"


def _of_sweep(sweep: Sweep) -> SeriesTable:
    rows = []
    for trial in sweep.trials:
        behind = trial.behind
        rows.append([
            wording.cell(settings_text(trial.changes)), f"{trial.steps:,}", wording.number(trial.score),
            "best" if trial.name == sweep.chosen else "-" if behind is None else wording.number(behind.value),
            "" if behind is None else wording.spread(behind, sign=True), trial.note,
        ])  # fmt: skip
    heads = ["settings", "steps", "score", "behind", "95 %", "note"]
    return SeriesTable("Sweep: mean validation scores", heads, rows, sweep.sentence)
