"""Declared splits and the size of categories."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

from curate.checks import Place, Repeats, Sketch, dataset_check, key_of
from curate.record import SPLITS, Problem
from curate.settings import Settings
from curate.table import counted


@dataset_check(
    "P501",
    "split-leak",
    severity="error",
    good=[
        [
            {"instruction": "Add 2 and 3.", "output": "5", "split": "train"},
            {"instruction": "Add 2 and 4.", "output": "6", "split": "test"},
        ],
        [{"instruction": "Add 2.", "output": "5", "split": "train"}, {"instruction": "Add 2.", "output": "five"}],
    ],
    bad=[
        [
            {"instruction": "Add 2 and 3.", "output": "5", "split": "train"},
            {"instruction": "add 2 and 3.", "output": "five", "split": "test"},
        ]
    ],
)
class SplitLeak:
    """The same prompt is declared in two different splits.

    A model that was trained on a question of its exam gets a score that says nothing. Leave the ``split`` field out and
    let `curate split` keep repeated prompts together, or move all of them to one split.
    """

    def __init__(self, settings: Settings) -> None:
        self._prompts = Repeats()
        self._splits = array("B")

    def see(self, sketch: Sketch) -> None:
        """Take note of one record that declares its split."""
        if sketch.split in SPLITS:
            self._prompts.add(key_of(sketch.prompt or sketch.content), sketch)
            self._splits.append(SPLITS.index(sketch.split))

    def finish(self) -> Iterator[Place]:
        """Yield each record whose prompt an earlier record of another split has."""
        for index, first in self._prompts.pairs():
            here, there = SPLITS[self._splits[index]], SPLITS[self._splits[first]]
            if here != there:
                message = f"is declared {here}, but {self._prompts.spot(first)} has the same prompt in {there}"
                yield self._prompts.place(index, first, message, "/split")


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

    def finish(self) -> Iterator[Place]:
        """Yield each category below the limit."""
        for category, count in sorted(self._counts.items()):
            if count < self._fewest:
                message = f"category {category!r} has {counted(count, 'record')}, fewer than {self._fewest:,}"
                yield Place(Problem(message), category=category)
