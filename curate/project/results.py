"""A run's results as lines for a person: scores by category, what got worse, and the worst validation records."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base import console
from curate.base.tables import table
from curate.formats.dataset import FILE_NAME
from curate.project.data import ProjectData
from curate.project.feedback import PAGE_FILE, Bad, Results, judge, legend, p_value, worst


def told_scores(results: Results) -> list[str]:
    """Return the table of the categories: scores, paired difference with its interval, verdict; and general text."""
    verdicts = [results.verdict(one) for one in results.categories]
    rows = [
        [
            console.one_line(one["category"], 30), str(one["n"]),
            f"{one['base']['value']:.3f}", f"{one['tuned']['value']:.3f}",
            f"{one['difference']['value']:+.3f} [{one['difference']['low']:+.3f}, {one['difference']['high']:+.3f}]",
            p_value(one["p_adjusted"]), verdict.label if verdict else "", console.one_line(one["metric"], 30),
        ]
        for one, verdict in zip(results.categories, verdicts, strict=True)
    ]  # fmt: skip
    heads = ["category", "n", "base", "tuned", "difference", "p (Holm)", "verdict", "metric"]
    return [*table(heads, rows), legend(verdicts), *map(console.visible, results.forgetting)]


def told_records(data: ProjectData, results: Results, *, per_category: int = 3) -> Iterator[str]:
    """Yield what to look at next: stale or worse results, the worst validation records with their places, the page."""
    folder = data.latest_dataset()
    for finding in judge(results, folder / FILE_NAME if folder else None):
        yield f"{finding.code} {finding.name}: {console.one_line(finding.message)}"
    for category, found in worst(results, data.records(), per_category=per_category).items():
        yield f"worst in {console.one_line(category, 40)} (validation):"
        for bad in found:
            yield from _told_bad(bad)
    page = results.folder / PAGE_FILE
    if page.is_file():
        yield f"report: {console.visible(str(page))}"


def _told_bad(bad: Bad) -> Iterator[str]:
    one = bad.outcome
    source = bad.record.source if bad.record else None
    place = f"{console.visible(source.file)}:{source.line}" if source else f"{console.one_line(one.id, 40)} (gone)"
    score = "no score" if one.score_tuned is None else f"score {one.score_tuned:.2f}"
    yield f"  {place} {console.one_line(one.id, 40)}: {one.verdict}, {score}"
    if bad.record and bad.record.completion:
        yield f"    wanted {console.one_line(bad.record.completion, 80)}"
    if one.completion is not None:
        yield f"    got    {console.one_line(one.completion, 80)}"
