"""What each of several trainings one after another changed: a column a stage, all on the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from train.report import stats, wording
from train.report.model import CategoryResult, Change, Report
from train.report.results import Rules, with_verdict
from train.report.training_parts import StageResult, Stages


@dataclass(frozen=True)
class StageFacts:
    """What a report of one stage does not know: its data, its records, and what they share with the exam."""

    name: str
    data: str
    num_left_out: int
    num_overlapping: int
    overlapping: Sequence[str]
    num_records: int = 0
    is_text: bool = False
    """All of it is raw text, of which every objective trains all tokens, as "domain" does."""


def stages_of(facts: Sequence[StageFacts], reports: Sequence[Report]) -> Stages:
    """Return the stages of ``reports``, each of which has the model of the one before as its base."""
    first = reports[0].main()
    # Of the cells of a table one looks changed by chance alone, so all of its marks are adjusted together.
    adjusted = iter(stats.holm([row.p for report in reports for row in report.main().categories]))
    rows = [[with_verdict(row, next(adjusted), Rules(report.margin, report.fewest))
             for row in report.main().categories] for report in reports]  # fmt: skip
    results = [_result(*stage) for stage in zip(facts, reports, rows, strict=True)]
    return Stages(
        split=first.split,
        base={row.category: row.base.value for row in first.categories},
        base_mean=first.macro.base.value if first.macro else None,
        results=results,
        sentence=" ".join(map(_sentence, results)),
    )


def _result(fact: StageFacts, report: Report, rows: Sequence[CategoryResult]) -> StageResult:
    main, general, total = report.main(), report.forgetting, report.preferences and report.preferences.total
    return StageResult(
        name=fact.name, data=fact.data, objective="domain" if fact.is_text else report.run.objective,
        begun=str(report.run.settings.get("begun", "")), n=fact.num_records, num_left_out=fact.num_left_out,
        num_overlapping=fact.num_overlapping, overlapping=list(fact.overlapping),
        scores={row.category: row.tuned.value for row in main.categories},
        mean=main.macro.tuned.value if main.macro else None,
        improved=_named(rows, "improved"), regressed=_named(rows, "regressed"),
        likelier=total.likelier if total else None,
        general=Change(base=general.base.value, tuned=general.tuned.value) if general else None,
        forgetting=general.sentence if general else "",
    )  # fmt: skip


def _named(rows: Sequence[CategoryResult], verdict: str) -> list[str]:
    return [row.category for row in rows if row.verdict == verdict]


def _sentence(result: StageResult) -> str:
    """What one stage did, against the one before."""
    parts = [
        f"{word} {', '.join(map(wording.category, names))}"
        for word, names in (("improved", result.improved), ("made worse", result.regressed)) if names
    ]  # fmt: skip
    text = f"{result.name} ({result.objective}, {result.n:,} records) " + (
        " and ".join(parts) if parts else "shows no change of a category"
    )
    if result.begun:
        text += f"; {result.begun}"
    if result.num_left_out:
        text += f"; left out as exam records: {result.num_left_out}"
    if result.num_overlapping:
        text += f"; exam records with 13 words in a row of its data: {result.num_overlapping}"
    return f"{text}. {result.forgetting}".rstrip()
