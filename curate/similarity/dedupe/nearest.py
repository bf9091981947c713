"""How alike chosen records are, and which records of many are most like one that somebody is writing.

Two texts are as alike as `find_duplicates` has it: by the Jaccard similarity of their shingles, boilerplate left out.
An index finds candidates: of each record it holds the smallest hashes of its shingles (a bottom-k sketch: Cohen and
Kaplan, "Summarizing data using bottom-k sketches", 2007), all of them where a record is short, sorted by hash with the
record of each. The best candidates are then compared exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, Indices
from curate.base.record import Record
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.corpus import gather
from curate.similarity.dedupe.near import compare
from curate.similarity.dedupe.pairs import AlikeRule, Sides, verdicts
from curate.similarity.dedupe.results import Method
from curate.similarity.dedupe.shingles import Cut, Spans, distinct, popular_passages

Kind = Literal["", "repeat", "other answer", "same prompt"]
Numbers = NDArray[np.uint32]
_MOST_HASHES, _FEWEST_HASHES = 64, 12
_MOST_POSTINGS = 16_000_000


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
    """Hashes of shingles, sorted, with the row of the record that has each; ``sizes`` counts all shingles of a row."""

    hashes: Numbers
    rows: Numbers
    sizes: Numbers
    popular: Hashes

    @staticmethod
    def of(spans: Spans, keys: Hashes, method: Method) -> ShingleIndex:
        """Return the index of some texts, known by their keys."""
        popular = popular_passages(spans, method.ngram, np.ones(len(spans), np.int64), keys[:, 0])
        cut, width = Cut(method.ngram, popular), _width_for(len(spans))
        none = np.zeros(0, np.uint32)
        parts: list[tuple[Numbers, Numbers, Numbers]] = [(none, none, none)]
        for block in spans.blocks():
            hashes, rows, sizes = _sketches(spans.take(block), cut, width)
            parts.append((hashes, rows + np.uint32(block.start), sizes))
        hashes, rows, sizes = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(hashes, kind="stable")
        return ShingleIndex(hashes[order], rows[order], sizes, popular)

    def candidates(self, text: Spans, ngram: int, count: int, *, is_part: bool = False) -> Indices:
        """Return at most ``count`` rows, those first that are probably most like a text, or hold most of it."""
        sketch = _sketches(text, Cut(ngram, self.popular), 1 << 30)[0]
        low, high = (np.searchsorted(self.hashes, sketch, side) for side in ("left", "right"))
        hits = [self.rows[first:last] for first, last in zip(low, high, strict=True) if last > first]
        rows, counts = np.unique(np.concatenate([np.zeros(0, np.uint32), *hits]), return_counts=True)
        sizes = self.sizes[rows].astype(np.float64)
        # The share of the record's sketch that is in the text, times its shingles, is what both have in common.
        common = counts / np.minimum(sizes, _width_for(len(self.sizes))) * sizes
        likeness = common if is_part else common / (len(sketch) + sizes - common)
        return rows[np.argsort(-likeness, kind="stable")[:count]].astype(np.int64)


def _width_for(num_records: int) -> int:
    """Return how many hashes of each record an index of so many records holds."""
    return max(_FEWEST_HASHES, min(_MOST_HASHES, _MOST_POSTINGS // max(1, num_records)))


def _sketches(spans: Spans, cut: Cut, width: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return the ``width`` smallest hashes of each text's shingles, the text of each, and all shingles of each text."""
    table = cut.shingles(spans)
    # Text and hash as one number: sorted, the shingles of each text lie together from the smallest on.
    keys = distinct((table.owners.astype(np.uint64) << np.uint64(32)) | (table.hashes >> np.uint64(32)))
    rows = (keys >> np.uint64(32)).astype(np.uint32)
    starts = np.searchsorted(rows, np.arange(len(spans) + 1, dtype=np.uint32))
    is_low = np.arange(len(keys)) - starts[rows] < width
    return keys[is_low].astype(np.uint32), rows[is_low], np.diff(starts).astype(np.uint32)
