"""What an exam has in common with the records that a model learns from, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from curate.checks import pair_check
from curate.record import Problem
from curate.settings import Settings

Level = Literal["verbatim", "near", "partial"]
"""How much is shared, the worst first."""


class Shared(NamedTuple):
    """How much of an exam record stands in a training record, and where the other of the two is.

    ``coverage`` is a share in [0, 1], ``run`` the longest passage in words. ``spot`` is file:line of the benchmark's
    record for P504, of the training record for P505; ``split`` is that of the exam record.
    """

    level: Level
    part: str
    coverage: float
    run: int
    spot: str
    split: str = ""

    @property
    def told(self) -> str:
        """The amount in words."""
        return f"{self.level}: {self.coverage:.0%} of its {self.part}, {self.run} words in a row"


_MOST_OF_IT = 0.9
_IN_A_ROW = 13
"""What two records of different splits must share beyond what a data set's own phrases make them share."""

_VERBATIM = {"level": "verbatim", "part": "prompt", "coverage": 1.0, "run": 23, "spot": "exam.jsonl:4"}
_NEAR = {"level": "near", "part": "record", "coverage": 0.9, "run": 17, "spot": "exam.jsonl:4"}
_PARTIAL = {"level": "partial", "part": "prompt", "coverage": 0.2, "run": 14, "spot": "exam.jsonl:4"}


@pair_check("P504", "benchmark-contamination", severity="error", good=[_PARTIAL], bad=[_VERBATIM, _NEAR])
def benchmark_contamination(shared: Shared, _settings: Settings) -> Iterator[Problem]:
    """A training record holds a record of a benchmark that ``[leaks].against`` in curate.toml names.

    A model that has learned the exam by heart gets a score that says nothing about others. `curate leaks` shows the
    pairs, and `curate export` refuses to write the dataset. A passage in common is no finding while most of the
    benchmark's record is something else. Drop the record, or leave the benchmark out of ``against`` if the two are
    meant to be the same.
    """
    if shared.level != "partial":
        yield Problem(f"gives away the benchmark record {shared.spot} ({shared.told})")


@pair_check(
    "P505",
    "near-split-leak",
    severity="warning",
    good=[_PARTIAL | {"split": "test"}, _NEAR | {"split": "test", "coverage": 0.89, "run": 13}],
    bad=[_VERBATIM | {"split": "test"}, _NEAR | {"split": "validation"}],
)
def near_split_leak(shared: Shared, _settings: Settings) -> Iterator[Problem]:
    """A record of the test or validation split stands, whole or for the most part, in a record that is trained on.

    Near duplicates never part when a dataset is split, but a question may be quoted in a longer text, and two questions
    may share one long document. Nine tenths of the words must be shared, thirteen of them in a row: records of one data
    set are made of the same phrases. `curate leaks` shows weaker pairs too. Name what keeps such records together as
    ``[split].group``, or drop one of the two.
    """
    is_telling = shared.coverage >= _MOST_OF_IT and shared.run >= _IN_A_ROW
    if shared.level == "verbatim" or (shared.level == "near" and is_telling):
        yield Problem(f"is in {shared.split}, and {shared.spot} gives it away ({shared.told})")
