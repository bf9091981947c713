"""How alike chosen records are, and which records of many are most like a text that somebody is writing.

Two texts are as alike as `find_duplicates` has it: by the Jaccard similarity of their shingles, boilerplate left out.
An index finds candidates: of each record it holds the smallest hashes of its shingles (a bottom-k sketch: Broder, "On
the resemblance and containment of documents", 1997; Cohen and Kaplan, "Summarizing data using bottom-k sketches",
2007), all of them where a record is short, sorted by hash with the record of each. Looking up every shingle of the text
costs milliseconds whatever the number of records. The best candidates are then compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.base.record import Record
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.corpus import gather
from curate.similarity.dedupe.kernels import NUMPY
from curate.similarity.dedupe.pairs import AlikeRule, compare, verdicts
from curate.similarity.dedupe.results import Method, method_of
from curate.similarity.dedupe.shingles import (
    Cut,
    Spans,
    cut_texts,
    distinct,
    flattened,
    popular_passages,
    spaced,
    storable,
)
from curate.similarity.dedupe.words import word_hashes

Kind = Literal["", "repeat", "other answer", "same prompt"]

# Texts of an index in which boilerplate is looked for.
SAMPLE = 5_000
_MOST_HASHES, _FEWEST_HASHES = 64, 12
_MOST_POSTINGS = 16_000_000
# Characters of a text that are looked at.
_LONGEST = 200_000
_NONE = np.zeros(0, np.uint64)

Numbers = NDArray[np.uint32]
Progress = Callable[[int, int], None]


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
    # `curate.similarity.dedupe.find_duplicates` leaves passages out of it that over 5% of the records have in common. A
    # pair knows nothing of the others, so its score can be the higher one here.
    if not pairs:
        return []
    method = method_of(settings)
    corpus = gather([record for pair in pairs for record in pair], NUMPY)
    left, right = np.arange(0, len(corpus), 2), np.arange(1, len(corpus), 2)
    exact = (corpus.columns.exact[left] == corpus.columns.exact[right]).all(axis=1)
    scores = compare(corpus.spans("record"), Cut(method.ngram, _NONE), left, right, NUMPY)
    return [
        Likeness(is_exact, 1.0 if is_exact else score)
        for is_exact, score in zip(exact.tolist(), scores.tolist(), strict=True)
    ]


def neighbours(record: Record, others: Sequence[Record], cut: Cut, method: Method) -> list[Neighbour]:
    """Compare ``record`` exactly with each of ``others``, and return those that share anything with it: repeats and
    other answers first, then by similarity."""
    if not others:
        return []
    corpus = gather([record, *others], NUMPY)
    left, right = np.zeros(len(others), np.int64), np.arange(1, len(others) + 1)
    keys, spans = corpus.keys("record"), corpus.spans("record")
    scores = np.where((keys[0] == keys[1:]).all(axis=1), 1.0, compare(spans, cut, left, right, NUMPY))
    verdict = verdicts(corpus.sides(), left, right, AlikeRule(method.threshold, cut, cut), NUMPY)
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


@dataclass(frozen=True, slots=True)
class ShingleIndex:
    """Hashes of shingles, sorted, with the row of the record that has each; ``sizes`` counts all shingles of a row."""

    hashes: Numbers
    rows: Numbers
    sizes: Numbers
    popular: NDArray[np.uint64]
    method: Method

    @property
    def cut(self) -> Cut:
        """How texts are cut into shingles."""
        return Cut(self.method.ngram, self.popular)

    def candidates(self, text: str, count: int, *, is_part: bool = False) -> Indices:
        """Return at most ``count`` rows, those first that are probably most like ``text``, or hold most of it."""
        sketch = _sketches([text], self.cut, self.method, 1 << 30)[0]
        low = np.searchsorted(self.hashes, sketch, "left")
        high = np.searchsorted(self.hashes, sketch, "right")
        if not len(sketch) or not (high > low).any():
            return np.zeros(0, np.int64)
        hits = np.concatenate([self.rows[first:last] for first, last in zip(low, high, strict=True) if last > first])
        rows, counts = np.unique(hits, return_counts=True)
        sizes = self.sizes[rows].astype(np.float64)
        # The share of the record's sketch that is in the text, times its shingles, is what both have in common.
        common = counts / np.minimum(sizes, width_for(len(self.sizes))) * sizes
        likeness = common if is_part else common / (len(sketch) + sizes - common)
        order = np.argsort(-likeness, kind="stable")[:count]
        return rows[order].astype(np.int64)


def width_for(num_records: int) -> int:
    """Return how many hashes of each record an index of so many records holds."""
    return max(_FEWEST_HASHES, min(_MOST_HASHES, _MOST_POSTINGS // max(1, num_records)))


def index_of(
    blocks: Callable[[int], Iterator[Sequence[str]]],
    num_texts: int,
    method: Method,
    on_progress: Progress = lambda *_: None,
) -> ShingleIndex:
    """Return the index of texts that ``blocks`` gives in lists, from a step on: every text (1), or one in so many."""
    sample = [text for block in blocks(max(1, num_texts // SAMPLE)) for text in block]
    popular = popular_passages(_spans(sample, method), method.ngram, np.ones(len(sample), np.int64))
    cut, width = Cut(method.ngram, popular), width_for(num_texts)
    hashes: list[Numbers] = []
    rows: list[Numbers] = []
    sizes: list[Numbers] = []
    done = 0
    for block in blocks(1):
        sketched, owners, counts = _sketches(block, cut, method, width)
        hashes.append(sketched)
        rows.append(owners + np.uint32(done))
        sizes.append(counts)
        done += len(block)
        on_progress(done, num_texts)
    none = np.zeros(0, np.uint32)
    all_hashes, all_rows = np.concatenate([none, *hashes]), np.concatenate([none, *rows])
    order = np.argsort(all_hashes, kind="stable")
    return ShingleIndex(all_hashes[order], all_rows[order], np.concatenate([none, *sizes]), popular, method)


def indexed_text(prompt: str, completion: str) -> str:
    """Return the text by which a record of this prompt and completion stands in an `ShingleIndex`."""
    return f"{prompt}\n{completion}"[:_LONGEST]


def _sketches(texts: Sequence[str], cut: Cut, method: Method, width: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return the ``width`` smallest hashes of each text's shingles, the text of each, and all shingles of each text."""
    table = cut_texts(_spans(texts, method).hashed(), cut)
    # Text and hash as one number: sorted, the shingles of each text lie together from the smallest on.
    owners = np.repeat(np.arange(len(texts), dtype=np.uint64), table.lengths)
    keys = distinct((owners << np.uint64(32)) | (table.hashes >> np.uint64(32)))
    rows = (keys >> np.uint64(32)).astype(np.uint32)
    starts = np.searchsorted(rows, np.arange(len(texts) + 1, dtype=np.uint32))
    is_low = np.arange(len(keys)) - starts[rows] < width
    return keys[is_low].astype(np.uint32), rows[is_low], np.diff(starts).astype(np.uint32)


def _spans(texts: Sequence[str], method: Method) -> Spans:
    """Return the tokens of each text, as a comparison of records cuts them."""
    flat = storable(texts)
    if not flat:
        return Spans(_NONE, np.zeros(0, np.int64), np.zeros(0, np.int64))
    words = word_hashes(flattened([text if text.isascii() else spaced(text) for text in flat]))
    return Spans(words.hashes, words.offsets[:-1], words.offsets[1:])
