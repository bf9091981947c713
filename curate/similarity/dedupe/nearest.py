"""How alike chosen records are, and which records of many are most like one that somebody is writing.

Two texts are as alike as `find_duplicates` has it: by the Jaccard similarity of their shingles, boilerplate left out.
Candidates are the records that share most of their shingles with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curate.base.hashing import Hashes, Indices
from curate.base.record import Record
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.corpus import gather
from curate.similarity.dedupe.near import compare
from curate.similarity.dedupe.pairs import AlikeRule, Sides, verdicts
from curate.similarity.dedupe.results import Method
from curate.similarity.dedupe.shingles import Cut, HashIndex, Ragged, Spans, distinct, ends_of, popular_passages

Kind = Literal["", "repeat", "other answer", "same prompt"]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Whether two records teach the same, and the similarity of the whole of them, from 0 to 1."""

    is_exact: bool
    score: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A record like the text: its similarity from 0 to 1, and what the two are to one another.

    It is a repeat where dedupe would drop one of the two, and another answer where every part of the prompt is alike
    and the answer is not; the same prompt where the text has no answer yet.
    """

    id: str
    score: float
    kind: Kind = ""


def likeness(pairs: Sequence[tuple[Record, Record]], settings: DedupeSettings) -> list[Likeness]:
    """Return how alike the records of each pair are: exact Jaccard similarity of all their shingles."""
    # `find_duplicates` leaves passages out of it that over 5% of the records have in common. A pair alone has no such
    # passages, so there a score may be another one.
    if not pairs:
        return []
    corpus = gather(list(itertools.chain.from_iterable(pairs)))
    left, right = np.arange(0, len(corpus), 2), np.arange(1, len(corpus), 2)
    exact = (corpus.columns.exact[left] == corpus.columns.exact[right]).all(axis=1)
    scores = compare(corpus.spans("record"), Cut(settings.ngram), left, right)
    return [Likeness(*pair) for pair in zip(exact.tolist(), np.where(exact, 1.0, scores).tolist(), strict=True)]


def neighbours(record: Record, others: Sequence[Record], cut: Cut, method: Method) -> list[Neighbour]:
    """Compare ``record`` exactly with each of ``others``, and return those that share anything with it: repeats and
    other answers first, then by similarity."""
    corpus = gather([record, *others])
    left, right = np.zeros(len(others), np.int64), np.arange(1, len(others) + 1)
    keys = corpus.keys("record")
    scores = np.where((keys[0] == keys[1:]).all(axis=1), 1.0, compare(corpus.spans("record"), cut, left, right))
    verdict = verdicts(Sides.of(corpus), left, right, AlikeRule(method.threshold, cut, cut))
    is_repeat = verdict.is_repeat & (scores >= method.threshold)
    ranked = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if scores[row] <= 0:
            continue
        kind: Kind = "repeat" if is_repeat[row] else ""
        if not kind and verdict.asks_alike[row] and not verdict.answers_alike[row]:
            kind = "other answer" if record.completion else "same prompt"
        ranked.append(Neighbour(others[row].id, float(scores[row]), kind))
    return sorted(ranked, key=lambda neighbour: not neighbour.kind)


class ShingleIndex(NamedTuple):
    """The shingles of each of some records, without the ``popular`` passages."""

    shingles: Ragged
    popular: Hashes

    @staticmethod
    def of(spans: Spans, keys: Hashes, method: Method) -> ShingleIndex:
        """Return the index of some texts, known by their keys."""
        popular = popular_passages(spans, method.ngram, np.ones(len(spans), np.int64), keys[:, 0])
        cut = Cut(method.ngram, popular)
        parts = [cut.shingles(spans.take(block)) for block in spans.blocks()]
        counts = np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)])
        hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
        return ShingleIndex(Ragged(hashes, ends_of(counts)), popular)

    def candidates(self, text: Spans, ngram: int, count: int, *, is_part: bool = False) -> Indices:
        """Return at most ``count`` rows, those first that are most like a text, or hold most of it."""
        own = distinct(Cut(ngram, self.popular).shingles(text).hashes)
        places, numbers = HashIndex(own).find(self.shingles.hashes)
        owners = np.searchsorted(self.shingles.offsets, places, side="right") - 1
        rows, counts = np.unique(distinct(owners * max(1, len(own)) + numbers) // max(1, len(own)), return_counts=True)
        likeness = counts if is_part else counts / (len(own) + self.shingles.lengths[rows] - counts)
        return rows[np.argsort(-likeness, kind="stable")[:count]]
