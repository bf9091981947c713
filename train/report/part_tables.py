"""The tables of the parts of a report that are about how a model was trained, until each of them makes its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from train.base.console import one_line
from train.evaluate.dynamics import Dynamic
from train.report import wording
from train.report.learning_curve import curve_table
from train.report.model import CategoryResult, Report
from train.report.preferences import preference_table
from train.report.tables import Part, ReportTable
from train.report.training_parts import Stages, Sweep
from train.report.wording import number, spread


def finished(report: Report) -> Report:
    """Return ``report`` with all tables that follow from its data, and the words of its verdicts."""
    return wording.with_words(report).with_tables(_part_tables(report))


def _part_tables(report: Report) -> Iterator[ReportTable]:
    if report.preferences is not None:
        yield preference_table(report.preferences)
    if report.learning_curve is not None:
        yield curve_table(report.learning_curve)
    if report.stages is not None:
        yield _of_stages(report.stages, report.main().categories)
    if report.sweep is not None:
        yield _of_sweep(report.sweep)
    parts: dict[Part, Any] = {
        "slices": report.slices,
        "over-fitting": report.fits,
        "known by heart": report.memory,
        "seeds": report.seeds,
    }
    yield from (ReportTable(part=name, sentences=[part.sentence]) for name, part in parts.items() if part is not None)
    if report.judged is not None:
        yield ReportTable(part="judge", sentences=[report.judged.sentence, *report.judged.remarks])
    about = "Confidence is the mean log-probability a token over the epochs, variability its spread."
    for title, dynamics in (
        ("Hardest to learn", report.data_map.hardest), ("Most variable", report.data_map.most_variable),
    ) if report.data_map else ():  # fmt: skip
        if dynamics:
            heads = ("record", "category", "confidence", "variability", "correctness")
            yield ReportTable(part="data map", title=title, heads=heads, rows=list(map(_dynamic_row, dynamics)),
                              sentences=[about], left=("category",), is_in_terminal=False)  # fmt: skip


def _dynamic_row(dynamic: Dynamic) -> tuple[str, ...]:
    numbers = (number(value, is_share=False) for value in (dynamic.confidence, dynamic.variability))
    return one_line(dynamic.id), wording.category(dynamic.category), *numbers, number(dynamic.correctness)


def settings_text(changes: Mapping[str, Any]) -> str:
    """Return settings as they are read: "learning_rate = 0.001, lora_r = 8"."""
    return ", ".join(f"{key} = {value}" for key, value in changes.items())


def _of_stages(stages: Stages, main: Sequence[CategoryResult]) -> ReportTable:
    rows = []
    for row in main:
        cells = [number(stages.base.get(row.category), is_share=row.higher_is_better)]
        for result in stages.results:
            mark = " +" if row.category in result.improved else " !" if row.category in result.regressed else ""
            cells.append(number(result.scores.get(row.category), is_share=row.higher_is_better) + mark)
        rows.append([wording.category(row.category), *cells])
    rows.append(["MEAN", *map(number, (stages.base_mean, *(result.mean for result in stages.results)))])
    for name, is_share, changes in (
        ("better answer likelier", True, [result.likelier for result in stages.results]),
        ("general text, bits", False, [result.general for result in stages.results]),
    ):
        if any(changes):
            before = next(change.base for change in changes if change is not None)
            values = [before, *(None if change is None else change.tuned for change in changes)]
            rows.append([name, *(number(value, is_share=is_share) for value in values)])
    heads = ["category", "base", *(one_line(result.name) for result in stages.results)]
    title = f"Stages: scores on the {stages.split} split (+ better, ! worse than the stage before)"
    return ReportTable(part="stages", title=title, heads=heads, rows=rows, sentences=[stages.sentence], left=heads[2:])


def _of_sweep(sweep: Sweep) -> ReportTable:
    rows, is_share = [], any(trial.score is not None for trial in sweep.trials)
    for trial in sweep.trials:
        behind = trial.behind
        rows.append([
            one_line(settings_text(trial.changes)), f"{trial.steps:,}",
            number(trial.score if is_share else trial.bits, is_share=is_share),
            "best" if trial.name == sweep.chosen else number(behind.value if behind else None, is_share=is_share),
            "" if behind is None else spread(behind, is_share=is_share, sign=True), trial.note,
        ])  # fmt: skip
    title, head = ("scores", "score") if is_share else ("bits per byte", "bits")
    heads = ("settings", "steps", head, "behind", "95 %", "note")
    return ReportTable(part="sweep", title=f"Sweep: mean validation {title}", heads=heads, rows=rows,
                       sentences=[sweep.sentence])  # fmt: skip
