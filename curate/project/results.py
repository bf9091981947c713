"""A run's results as lines for a person: scores by category, what got worse, and the worst validation records."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base import console
from curate.base.tables import table
from curate.formats.dataset import FILE_NAME
from curate.project.data import ProjectData
from curate.project.feedback import PAGE_FILE, Bad, Results, legend, p_value, report_findings, worst


def render_scores(results: Results) -> list[str]:
    """Return the table of the categories: scores, paired difference with its interval, verdict; and general text."""
    verdicts = [results.verdict(row) for row in results.categories]
    rows = [
        [
            console.one_line(row["category"], 30), str(row["n"]),
            f"{row['base']['value']:.3f}", f"{row['tuned']['value']:.3f}",
            f"{row['difference']['value']:+.3f} [{row['difference']['low']:+.3f}, {row['difference']['high']:+.3f}]",
            p_value(row["p_adjusted"]), verdict.label if verdict else "", console.one_line(row["metric"], 30),
        ]
        for row, verdict in zip(results.categories, verdicts, strict=True)
    ]  # fmt: skip
    heads = ["category", "n", "base", "tuned", "difference", "p (Holm)", "verdict", "metric"]
    return [*table(heads, rows), legend(verdicts), *map(console.visible, results.forgetting)]


def render_records(data: ProjectData, results: Results, *, per_category: int = 3) -> Iterator[str]:
    """Yield what to look at next: stale or worse results, the worst validation records with their places, the page."""
    folder = data.latest_dataset()
    for finding in report_findings(results, folder / FILE_NAME if folder else None):
        yield f"{finding.code} {finding.name}: {console.one_line(finding.message)}"
    for category, outcomes in worst(results, data.records(), per_category=per_category).items():
        yield f"worst in {console.one_line(category, 40)} (validation):"
        for bad in outcomes:
            yield from _render_bad(bad)
    page = results.folder / PAGE_FILE
    if page.is_file():
        yield f"report: {console.visible(str(page))}"


def _render_bad(bad: Bad) -> Iterator[str]:
    outcome = bad.outcome
    source = bad.record.source if bad.record else None
    location = (
        f"{console.visible(source.file)}:{source.line}" if source else f"{console.one_line(outcome.id, 40)} (gone)"
    )
    score = "no score" if outcome.score_tuned is None else f"score {outcome.score_tuned:.2f}"
    yield f"  {location} {console.one_line(outcome.id, 40)}: {outcome.verdict}, {score}"
    if bad.record and bad.record.completion:
        yield f"    wanted {console.one_line(bad.record.completion, 80)}"
    if outcome.completion is not None:
        yield f"    got    {console.one_line(outcome.completion, 80)}"
