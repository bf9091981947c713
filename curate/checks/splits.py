"""Splits: the size of categories, and what an exam has in common with the records that a model learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from curate.base.record import Problem
from curate.base.tables import counted
from curate.checks import DatasetProblem, SharedText, Sketches, dataset_check, pair_check
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
def thin_category(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """A category has too few records to be learned or scored.

    Split 80/10/10, thirty records leave three to test: no interval is narrow enough to show an improvement. Collect
    more, merge the category with a neighbour, or lower ``checks.min_category`` if you know what you do. A category that
    curate.toml names and no record has is reported too.
    """
    fewest, counts = settings.checks.min_category, Counter(dict.fromkeys(settings.categories, 0))
    counts.update(filter(None, sketches.categories))
    for category, count in sorted(counts.items()):
        if count < fewest:
            message = f"category {category!r} has {counted(count, 'record')}, fewer than {fewest:,}"
            yield DatasetProblem(Problem(message), category=category)


_VERBATIM = {"level": "verbatim", "part": "prompt", "coverage": 1.0, "run": 23, "spot": "exam.jsonl:4"}
_NEAR = {"level": "near", "part": "record", "coverage": 0.9, "run": 17, "spot": "exam.jsonl:4"}
_PARTIAL = {"level": "partial", "part": "prompt", "coverage": 0.2, "run": 14, "spot": "exam.jsonl:4"}
_IN_TEST = {"split": "test"}


@pair_check(
    "P501",
    "split-leak",
    severity="error",
    good=[_PARTIAL | _IN_TEST, _NEAR],
    bad=[_VERBATIM | _IN_TEST, _NEAR | {"split": "validation"}],
)
def split_leak(shared: SharedText, _settings: Settings) -> Iterator[Problem]:
    """A record of the test or validation split stands, whole or nearly, in a record of an earlier split.

    A model that was trained on a question of its exam gets a score that says nothing. A division keeps such records
    together, so this is about two whose splits are fixed: by their lines, by decisions, or by the last dataset.
    `curate leaks` shows the pairs, and `curate export` refuses to write the dataset. Drop one of the two, or let
    `curate split --fix` move it.
    """
    if shared.split and shared.level != "partial":
        what = "it" if shared.part == "record" else f"its {shared.part}"
        yield Problem(f"{shared.split} record; {what} also stands in {shared.spot} ({shared.amount})")


@pair_check(
    "P504",
    "benchmark-contamination",
    severity="error",
    good=[_PARTIAL, _VERBATIM | _IN_TEST],
    bad=[_VERBATIM, _NEAR],
)
def benchmark_contamination(shared: SharedText, _settings: Settings) -> Iterator[Problem]:
    """A training record holds a record of a benchmark that ``[leaks].against`` in curate.toml names.

    A model that has learned the exam by heart gets a score that says nothing about others. `curate leaks` shows the
    pairs, and `curate export` refuses to write the dataset. Drop the record, or leave the benchmark out of ``against``
    if the two are meant to be the same.
    """
    if not shared.split and shared.level != "partial":
        what = "the whole" if shared.part == "record" else f"the {shared.part}"
        if shared.level == "near":
            what = "most" if shared.part == "record" else f"most of {what}"
        yield Problem(f"training record; it has {what} of the benchmark record {shared.spot} ({shared.amount})")


@pair_check(
    "P505",
    "shared-passage",
    severity="warning",
    good=[_VERBATIM | _IN_TEST, _NEAR],
    bad=[_PARTIAL | _IN_TEST, _PARTIAL],
)
def shared_passage(shared: SharedText, _settings: Settings) -> Iterator[Problem]:
    """A record of an exam and one that is trained on have a passage in common, but not the question.

    Two questions may be asked of one document, or differ in nothing but a number. `curate export` writes such records
    and counts them; `curate leaks` shows the pairs. Name what keeps them together as ``[split].group`` where a model
    should not have read the document before the exam: group = "/input" for passages, "/messages/0/content" for talks.
    """
    if shared.level == "partial":
        # ``part`` is that of the exam record, which a benchmark has elsewhere.
        if shared.split:
            what = f"{shared.split} record; a passage of its {shared.part} also stands in {shared.spot}"
        else:
            what = f"training record; it has a passage of the {shared.part} of the benchmark record {shared.spot}"
        yield Problem(f"{what} ({shared.amount})")
