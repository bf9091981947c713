"""One field of all records compared: its distinct texts, their shingles, and the verified links between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curate.dedupe.minhash import NUMPY, Kernels, Links, links
from curate.dedupe.shingles import Indices, Ragged, Sets, without_boilerplate
from curate.dedupe.text import Column

COMPILED_FROM = 20_000_000
"""Characters of text from which loading the compiled loops is repaid."""


def kernels_for(num_chars: int, is_compiled: bool | None) -> Kernels:
    """Return the loops to use: as asked, or the compiled ones where they are installed and ``num_chars`` repays them.

    Raises:
        ImportError: compiled loops are asked for and numba is not installed.
    """
    if is_compiled is False or (is_compiled is None and num_chars < COMPILED_FROM):
        return NUMPY
    # The module needs numba, an extra.
    from curate.dedupe.fast import compiled

    try:
        return compiled()
    except ImportError:
        if is_compiled:
            raise
        return NUMPY


@dataclass(frozen=True, slots=True)
class Near:
    """A field's texts, their shingles without boilerplate, and which texts are alike."""

    column: Column
    shingles: Ragged
    links: Links
    lengths: Indices
    """Number of shingles of each text."""
    threshold: float
    num_boilerplate: int
    kernels: Kernels

    @staticmethod
    def of(texts: Column, ngram: int, threshold: float, by_character: bool, kernels: Kernels) -> Near:
        """Shingle the distinct texts, take out boilerplate, and find the texts that are alike."""
        weights = np.array([len(members) for members in texts.members], np.int64)
        table, num_boilerplate = without_boilerplate(
            kernels.tokens(texts.texts, by_character=by_character), ngram, weights
        )
        found = links(table, threshold, kernels)
        return Near(texts, table, found, table.lengths, threshold, num_boilerplate, kernels)

    def record_pairs(self, *, is_with_equals: bool = False) -> Iterator[tuple[int, int, float]]:
        """Yield pairs of records with alike texts and their score: each record of one text with the first of the other.

        ``is_with_equals`` adds each record with the first that has the very same text, at score 1.
        """
        if is_with_equals:
            for members in self.column.members:
                yield from ((members[0], other, 1.0) for other in members[1:])
        groups = self.column.members
        for left, right, score in zip(
            self.links.left.tolist(), self.links.right.tolist(), self.links.scores.tolist(), strict=True
        ):
            yield from ((groups[left][0], other, score) for other in groups[right])

    def alike(self, pairs: Sequence[tuple[int, int]]) -> list[bool]:
        """Whether the texts of each pair of records are equal or reach the threshold; two missing texts are equal."""
        texts = np.array([[self.column.of_record[one], self.column.of_record[two]] for one, two in pairs], np.int64)
        texts = texts.reshape(-1, 2)
        is_alike = texts[:, 0] == texts[:, 1]
        todo = np.flatnonzero(~is_alike & (texts >= 0).all(axis=1))
        sets = Sets.of(self.shingles, np.unique(texts[todo]))
        is_alike[todo] = self.kernels.jaccard(sets, texts[todo, 0], texts[todo, 1]) >= self.threshold
        found: list[bool] = is_alike.tolist()
        return found
