"""What a search for leaks finds: pairs of records, and how much of the one stands in the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from curate.base.record import Record, Severity

# How much is shared.
Level = Literal["verbatim", "near", "partial"]
# The levels, the worst first.
LEVELS: tuple[Level, ...] = get_args(Level)
Part = Literal["prompt", "completion", "text", "record"]
# The texts of an exam record that are compared, in their order.
PARTS: tuple[Part, ...] = ("prompt", "completion", "text")


@dataclass(frozen=True, slots=True)
class Exam:
    """The records of an exam, by their numbers, and how many of the pool's first records it is compared with."""

    rows: Sequence[int]
    num_pool: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of one part of an exam record stands in one pool record.

    ``coverage`` is the share of the part's words (templates and common phrases left out) that stand there at least 4 in
    a row, ``run`` the longest passage of theirs in common, ``num_words`` the words of the part, with all of them.
    """

    part: Part
    level: Level
    coverage: float
    run: int
    num_words: int
    passage: str


@dataclass(frozen=True, slots=True)
class Leak:
    """An exam record, the training record that gives it away, and how much of it in which part.

    ``overlaps`` holds every part that was found, the one that says the most first.
    """

    exam: Record
    source: Record
    overlaps: tuple[Overlap, ...]
    also: tuple[Leak, ...] = ()
    """Other training records that give the same exam record away, whole or nearly; seven at most."""
    rows: tuple[int, int] = field(default=(-1, -1), compare=False)
    """The numbers of both among the records that were compared."""

    @property
    def worst(self) -> Overlap:
        """The part that says the most."""
        return self.overlaps[0]

    @property
    def severity(self) -> Severity:
        """How bad it is: parts in common are a warning, an exam record that is known is an error."""
        return "warning" if self.worst.level == "partial" else "error"


@dataclass(frozen=True, slots=True)
class Leaks:
    """What was found between ``num_exam`` exam records and ``num_pool`` training records."""

    leaks: list[Leak]
    num_exam: int
    num_pool: int
    num_templates: int
    """Different runs of words that were no evidence, because they stand in too many prompts."""

    @property
    def num_errors(self) -> int:
        """How many exam records are known, word by word or nearly."""
        return sum(leak.severity == "error" for leak in self.leaks)

    def counts(self) -> dict[Level, int]:
        """Return the number of leaks of each level."""
        return {level: sum(leak.worst.level == level for leak in self.leaks) for level in LEVELS}
