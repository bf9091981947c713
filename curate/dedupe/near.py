"""One field of all records compared: its distinct texts and the verified links between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curate.dedupe.boilerplate import Cut, popular_passages
from curate.dedupe.minhash import NUMPY, Kernels, Links, Scores
from curate.dedupe.shingles import Spans
from curate.hashing import Hashes, Indices

COMPILED_FROM = 20_000_000
"""Characters of text from which loading the compiled loops is repaid."""


def kernels_for(num_chars: int, is_compiled: bool | None) -> Kernels:
    """Return the loops to use: as asked, or the compiled ones where they are installed and ``num_chars`` repays them.

    Raises:
        ImportError: compiled loops are asked for and numba is not installed.
    """
    if is_compiled is False or (is_compiled is None and num_chars < COMPILED_FROM):
        return NUMPY
    # numba is an extra, and the module that asks for it is read only where it may be of use.
    from curate.dedupe.fast import compiled

    try:
        return compiled()
    except ImportError:
        if is_compiled:
            raise
        return NUMPY


def firsts(keys: Hashes) -> Indices:
    """Return for each of the keys, [N, 2], the number of the first one that equals it."""
    # Sorting by one half takes a third of the time, and the other half nearly never has a say.
    order = np.argsort(keys[:, 0])
    ordered = keys[order]
    is_new = np.ones(len(keys), bool)
    is_new[1:] = ordered[1:, 0] != ordered[:-1, 0]
    if (~is_new[1:] & (ordered[1:, 1] != ordered[:-1, 1])).any():
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        ordered = keys[order]
        is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    found = np.empty(len(keys), np.int64)
    starts = np.flatnonzero(is_new)
    if len(starts):
        found[order] = np.repeat(np.minimum.reduceat(order, starts), np.diff(np.append(starts, len(keys))))
    return found


@dataclass(frozen=True, slots=True)
class Texts:
    """One field of N records: its distinct texts, and which record has which."""

    spans: Spans
    """The distinct texts, in the order of the records that say them first."""
    of_record: Indices
    """Number of the text of each record; -1 where it is empty."""
    first: Indices
    """The first record of each text."""
    members: Indices
    """The records of each text in order, text after text."""
    offsets: Indices
    """Where the members of each text begin."""

    @staticmethod
    def of(spans: Spans, keys: Hashes) -> Texts:
        """Find the distinct texts among one ``span`` and one key a record."""
        first = firsts(keys)
        is_said = spans.ends > spans.starts
        heads = np.flatnonzero(is_said & (first == np.arange(len(first))))
        of_record = np.where(is_said, np.searchsorted(heads, first), -1)
        members = np.argsort(of_record, kind="stable")[int((~is_said).sum()) :]
        offsets = np.searchsorted(of_record[members], np.arange(len(heads) + 1)).astype(np.int64)
        return Texts(spans.take(heads), of_record, heads, members, offsets)

    @property
    def weights(self) -> Indices:
        """Number of records of each text."""
        return np.diff(self.offsets)

    def repeats(self) -> tuple[Indices, Indices]:
        """Return the pairs of records with the very same text: the first one, and each other."""
        first = np.repeat(self.first, self.weights)
        is_other = first != self.members
        return first[is_other], self.members[is_other]

    def spread(self, links: Links) -> tuple[Indices, Indices, Scores]:
        """Return the pairs of records that ``links`` make: the first of the left text, each of the right, the score."""
        counts = self.weights[links.right]
        starts = np.cumsum(counts) - counts
        places = np.arange(int(counts.sum())) + np.repeat(self.offsets[:-1][links.right] - starts, counts)
        return np.repeat(self.first[links.left], counts), self.members[places], np.repeat(links.scores, counts)


@dataclass(frozen=True, slots=True)
class Near:
    """A field's texts, how they were cut, and which of them are alike."""

    texts: Texts
    cut: Cut
    links: Links
    lengths: Indices
    """Number of shingles of each text."""

    def joins(self, links: Links, fewest: int) -> Iterator[tuple[Indices, Indices, Scores]]:
        """Yield pairs of records with equal texts and with such as ``links`` join, of ``fewest`` shingles or more."""
        is_telling = self.lengths >= fewest
        one, two = self.texts.repeats()
        is_told = is_telling[self.texts.of_record[one]]
        yield one[is_told], two[is_told], np.ones(int(is_told.sum()))
        left, right = links.left, links.right
        is_told = is_telling[left] & is_telling[right]
        yield self.texts.first[left[is_told]], self.texts.first[right[is_told]], links.scores[is_told]


def cut_of(texts: Texts, ngram: int) -> Cut:
    """Return how the texts of a field are to be cut: its boilerplate is looked for here."""
    return Cut(ngram, popular_passages(texts.spans, ngram, texts.weights))


__all__ = ["NUMPY", "Near", "Texts", "cut_of", "firsts", "kernels_for"]
