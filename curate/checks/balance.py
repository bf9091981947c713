"""Balance: one category, one length or one source that outweighs the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from curate.base.record import Problem
from curate.checks import DatasetProblem, Sketches, dataset_check
from curate.schema.settings import Settings

# Below this many records in all, shares say nothing.
_FEWEST = 100
# A median of fewer lengths than this says nothing.
_FEWEST_EACH = 20
_IMBALANCE = 10
_SKEW = 4
_DOMINANCE = 0.8


def _records(count: int, category: str, output: str = "Done.", source: str = "") -> list[dict[str, object]]:
    meta = {"meta": {"source": source}} if source else {}
    return [{"instruction": f"Question {n}?", "output": output, "category": category, **meta} for n in range(count)]


@dataset_check(
    "B801",
    "category-imbalance",
    severity="warning",
    good=[_records(90, "billing") + _records(30, "returns"), _records(40, "billing") + _records(1, "returns")],
    bad=[_records(220, "billing") + _records(20, "returns")],
)
def category_imbalance(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """A category is more than ten times smaller than the largest one.

    Training follows the large category, and a mean over records hides what happens to the small one. Collect more
    of the small or sample less of the large; reports here always show each category by itself.
    """
    counts = Counter(filter(None, sketches.categories))
    if counts.total() < _FEWEST:
        return
    most = max(counts.values())
    largest = min(category for category, count in counts.items() if count == most)
    for category, count in sorted(counts.items()):
        if count * _IMBALANCE < most:
            times = f"{most / count:.0f} times as many"
            message = f"category {category!r} has {count} records, {largest!r} has {most}: {times}"
            yield DatasetProblem(Problem(message), category=category)


@dataset_check(
    "B802",
    "length-skew",
    severity="info",
    good=[_records(60, "billing", "Your bill is paid.") + _records(60, "returns", "Send it back to the shop.")],
    bad=[_records(60, "billing", "Yes.") + _records(60, "returns", "Pack it well and send it back. " * 10)],
)
def length_skew(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """The records of a category are much longer or shorter than all the others (medians apart by more than four times).

    Loss is a mean over tokens, so long categories speak louder; and a model can learn to tell categories, or good
    answers, by length alone. That can be in the nature of the task: look, then decide.
    """
    lengths: dict[str, list[int]] = {}
    for category, num_chars in zip(sketches.categories, sketches.num_chars, strict=True):
        lengths.setdefault(category, []).append(num_chars)
    medians = {c: sorted(n)[len(n) // 2] for c, n in lengths.items() if c and len(n) >= _FEWEST_EACH}
    for category, median in sorted(medians.items()):
        others = sorted(other for name, other in medians.items() if name != category)
        if not others:
            return
        usual = others[len(others) // 2]
        if max(median, usual) > _SKEW * max(1, min(median, usual)):
            message = f"category {category!r} has a median of {median} characters a record, the others of {usual}"
            yield DatasetProblem(Problem(message), category=category)


@dataset_check(
    "B803",
    "source-dominates",
    severity="info",
    good=[
        _records(70, "billing", source="desk") + _records(50, "returns", source="mail"),
        _records(120, "billing", source="desk"),
        _records(120, "billing"),
    ],
    bad=[_records(110, "billing", source="desk") + _records(10, "returns", source="mail")],
)
def source_dominates(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """More than four fifths of the records that name their source (``meta.source``) come from a single one.

    The model learns that source's habits along with the task, and its score speaks for that source only. Weigh the
    sources, or score them apart. Records without ``meta.source`` are not counted.
    """
    counts = Counter(filter(None, sketches.sources))
    total = counts.total()
    if total < _FEWEST or len(counts) < 2:
        return
    source, count = counts.most_common(1)[0]
    if count > _DOMINANCE * total:
        message = f"{count} of {total} records ({count / total:.0%}) come from the source {source!r}"
        yield DatasetProblem(Problem(message))
