"""The size of categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from curate.base.record import Problem
from curate.base.tables import counted
from curate.checks import DatasetProblem, Sketch, dataset_check
from curate.schema.settings import Settings


def _records(count: int, category: str) -> list[dict[str, str]]:
    return [{"instruction": f"Question {n}?", "output": f"Answer {n}.", "category": category} for n in range(count)]


@dataset_check(
    "P502",
    "thin-category",
    severity="warning",
    good=[_records(30, "billing") + _records(31, "returns")],
    bad=[_records(30, "billing") + _records(3, "returns"), _records(30, "billing")],
)
class ThinCategory:
    """A category has too few records to be learned or scored.

    Split 80/10/10, thirty records leave three to test: no interval is narrow enough to show an improvement. Collect
    more, merge the category with a neighbour, or lower ``checks.min_category`` if you know what you do. A category that
    curate.toml names and no record has is reported too.
    """

    def __init__(self, settings: Settings) -> None:
        self._fewest = settings.checks.min_category
        self._counts: Counter[str] = Counter(dict.fromkeys(settings.categories, 0))

    def see(self, sketch: Sketch) -> None:
        """Count one record."""
        if sketch.category:
            self._counts[sketch.category] += 1

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield each category below the limit."""
        for category, count in sorted(self._counts.items()):
            if count < self._fewest:
                message = f"category {category!r} has {counted(count, 'record')}, fewer than {self._fewest:,}"
                yield DatasetProblem(Problem(message), category=category)
