"""What a comparison finds: duplicates, conflicts, clusters, and how closely one looked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from curate.dedupe.text import Field
from curate.settings import DedupeSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from curate.dedupe.selection import Repetition

Keep = Literal["first", "longest"]
Tie = Literal["exact", "record", "prompt", "completion"]
TIES: tuple[Tie, ...] = ("exact", "record", "prompt", "completion")


@dataclass(frozen=True, slots=True)
class Method:
    """How near duplicates are measured: shingles of ``ngram`` words or characters, alike from ``threshold`` on."""

    unit: Literal["word", "character"]
    ngram: int
    threshold: float

    @property
    def edit_rate(self) -> float:
        """The largest share of evenly changed words (or characters) at which a copy is still seen.

        A shingle survives with probability p = (1 - e)**n, and J is about p / (2 - p).
        """
        survival = 2 * self.threshold / (1 + self.threshold)
        return 1 - float(survival ** (1 / self.ngram))


def method_of(settings: DedupeSettings) -> Method:
    """Return how the settings compare texts."""
    return Method("word", settings.ngram, settings.threshold)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """``record`` repeats ``kept``, which stays; ``score`` is 1 for exact repeats, else the records' similarity."""

    record: str
    kept: str
    score: float
    kind: Literal["exact", "near"]
    field: Field = "record"


@dataclass(frozen=True, slots=True)
class Conflict:
    """``record`` asks what ``other`` asks, word for word (``score`` 1 in ``field``), and is answered otherwise."""

    record: str
    other: str
    score: float
    field: Field


@dataclass(frozen=True, slots=True)
class Edges:
    """Every tie between two records: their numbers in order, the similarity, and the number in `TIES` of what ties."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    scores: NDArray[np.float64]
    ties: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found among ``num_records`` records, and how closely one looked."""

    pairs: list[Duplicate]
    conflicts: list[Conflict]
    clusters: dict[str, str]
    """Cluster of every record, in the order of preference: the smallest id in it."""
    method: Method
    num_records: int
    num_boilerplate: int
    """Different passages left out of the comparison because more than 5 % of the records share them."""
    num_skipped: int
    """Texts of crowded buckets that were not compared to the end; 0 in all but extreme data."""
    bars: tuple[int, ...]
    """Pairs of different whole texts that were compared, by similarity: twelve bars from 0.4 to 1."""
    edges: Edges = field(compare=False, repr=False)
    """Between places in the order of preference, which is that of ``clusters``."""
    repetition: Repetition = field(compare=False, repr=False)

    @property
    def edit_rate(self) -> float:
        """The largest share of changed words (or characters) that the setting still sees."""
        return self.method.edit_rate

    @property
    def num_exact(self) -> int:
        """Number of records that repeat a kept one exactly."""
        return sum(pair.kind == "exact" for pair in self.pairs)

    @property
    def num_near(self) -> int:
        """Number of records that nearly repeat a kept one."""
        return len(self.pairs) - self.num_exact
