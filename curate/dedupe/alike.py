"""How alike chosen pairs of records are, whether or not a comparison of all records has met them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.dedupe.boilerplate import Cut
from curate.dedupe.corpus import gather
from curate.dedupe.found import method_of
from curate.dedupe.minhash import NUMPY, compare
from curate.record import Record
from curate.settings import DedupeSettings


@dataclass(frozen=True, slots=True)
class Likeness:
    """Whether two records teach the same, and the similarity of the whole of them, from 0 to 1."""

    is_exact: bool
    score: float


def likeness(pairs: Sequence[tuple[Record, Record]], settings: DedupeSettings) -> list[Likeness]:
    """Return how alike the records of each pair are: exact Jaccard similarity of all their shingles.

    `curate.dedupe.find_duplicates` leaves passages out of it that over 5% of the records have in common. A pair knows
    nothing of the others, so its score can be the higher one here.
    """
    if not pairs:
        return []
    method = method_of(settings)
    corpus = gather((record for pair in pairs for record in pair), NUMPY.clean, by_character=method.unit == "character")
    left, right = np.arange(0, len(corpus), 2), np.arange(1, len(corpus), 2)
    exact = (corpus.columns.exact[left] == corpus.columns.exact[right]).all(axis=1)
    scores = compare(corpus.spans("record"), Cut(method.ngram, np.zeros(0, np.uint64)), left, right, NUMPY)
    return [
        Likeness(is_exact, 1.0 if is_exact else score)
        for is_exact, score in zip(exact.tolist(), scores.tolist(), strict=True)
    ]
