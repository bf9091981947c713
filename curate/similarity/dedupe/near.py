"""One field of all records compared: its distinct texts, the buckets that they share, and the verified links between.

64 minima in 16 bands of 4: two texts at similarity J share a bucket with probability 1 - (1 - J**4)**16, which is .988
at 0.7 and .9998 at 0.8. Banding is loose on purpose, because every candidate is compared exactly afterwards. MinHash:
Broder 1997; banding: Indyk and Motwani 1998.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, Indices
from curate.base.packs import releasing_pages
from curate.similarity.dedupe.kernels import NUM_BANDS, Bands, Kernels, Scores
from curate.similarity.dedupe.pairs import MOST_PAIRS, compare
from curate.similarity.dedupe.results import Method
from curate.similarity.dedupe.shingles import Cut, Field, Sets, Spans, heads_run, popular_passages
from curate.similarity.dedupe.stages import Stages

# In buckets up to this size every pair is compared.
PAIRWISE_BUCKET = 128
# In larger buckets each text is compared with at most this many texts that head a group of their own.
MAX_LEADERS = 128
# Candidates below this similarity are not counted in the histogram.
LOWEST = 0.4
NUM_BARS = 12
# Texts that are taken at once.
BLOCK = 1 << 14

# Told how far a stage has come: its name, how much is done, of how much.
Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Links:
    """Verified pairs of texts (``left`` < ``right``), their similarity, and what else the comparison has seen."""

    left: Indices
    right: Indices
    scores: Scores
    num_skipped: int
    """Texts of crowded buckets that were not compared to the end."""
    bars: Indices
    """Candidates compared, by similarity: twelve bars from 0.4 to 1."""

    def take(self, rows: Indices) -> Links:
        """Return the links ``rows``."""
        return replace(self, left=self.left[rows], right=self.right[rows], scores=self.scores[rows])


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
        is_head = is_said & (first == np.arange(len(first)))
        heads = np.flatnonzero(is_head)
        of_record = np.where(is_said, np.cumsum(is_head)[first] - 1, -1)
        members = np.argsort(of_record, kind="stable")[int((~is_said).sum()) :]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(of_record[members], minlength=len(heads)))])
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
        positions = np.arange(int(counts.sum())) + np.repeat(self.offsets[:-1][links.right] - starts, counts)
        return np.repeat(self.first[links.left], counts), self.members[positions], np.repeat(links.scores, counts)


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
        first, other = self.texts.repeats()
        is_long = is_telling[self.texts.of_record[first]]
        yield first[is_long], other[is_long], np.ones(int(is_long.sum()))
        left, right = links.left, links.right
        is_long = is_telling[left] & is_telling[right]
        yield self.texts.first[left[is_long]], self.texts.first[right[is_long]], links.scores[is_long]


def compare_texts(
    name: Field, spans: Spans, keys: Hashes, method: Method, kernels: Kernels, stages: Stages, watch: Watch
) -> Near:
    """Compare one text a record, known by its key: its buckets and its verified links are stages of their own."""
    texts = Texts.of(spans, keys)
    about = (name, method.ngram, keys[texts.first], texts.weights)

    def buckets() -> dict[str, NDArray[np.generic]]:
        # Boilerplate is looked for in each field by itself.
        cut = Cut(method.ngram, popular_passages(texts.spans, method.ngram, texts.weights, kernels.fingerprints))
        bands = _bands(texts.spans, cut, kernels, lambda done: watch(f"hashing {name}s", done, len(texts.first)))
        return {"popular": cut.popular, "keys": bands.keys, "lengths": bands.lengths}

    arrays = stages.arrays("buckets", about, buckets)
    cut, bands = Cut(method.ngram, arrays["popular"]), Bands(arrays["keys"], arrays["lengths"])

    def verified() -> dict[str, NDArray[np.generic]]:
        result = links(
            texts.spans,
            cut,
            method.threshold,
            bands,
            kernels,
            on_progress=lambda done: watch(f"comparing {name}s", done, NUM_BANDS),
        )
        skipped = np.array([result.num_skipped])
        return {
            "left": result.left,
            "right": result.right,
            "scores": result.scores,
            "bars": result.bars,
            "skipped": skipped,
        }

    arrays = stages.arrays("links", (*about, method.threshold), verified)
    linked = Links(arrays["left"], arrays["right"], arrays["scores"], int(arrays["skipped"][0]), arrays["bars"])
    return Near(texts, cut, linked, bands.lengths)


def _bands(spans: Spans, cut: Cut, kernels: Kernels, on_progress: Callable[[int], None]) -> Bands:
    """Return the buckets of all texts, a part of them at a time, so that progress is shown and Ctrl-C works."""
    bands = Bands(np.zeros((NUM_BANDS, len(spans)), np.uint64), np.zeros(len(spans), np.int64))
    blocks = [slice(low, min(low + BLOCK, len(spans))) for low in range(0, len(spans), BLOCK)]
    parts = kernels.starmap(kernels.bands, ((spans.take(rows), cut) for rows in blocks))
    for rows, part in releasing_pages(zip(blocks, parts, strict=True), spans.tokens):
        bands.keys[:, rows], bands.lengths[rows] = part.keys, part.lengths
        on_progress(rows.stop)
    return bands


def links(
    spans: Spans,
    cut: Cut,
    threshold: float,
    bands: Bands,
    kernels: Kernels,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Links:
    """Find the pairs of texts whose similarity is at least ``threshold``. Texts without shingles match nothing.

    ``on_progress`` is told how many of the bands are done.
    """
    rows = np.flatnonzero(bands.lengths > 0)
    parts: list[tuple[Indices, Indices, Scores]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    bars = np.zeros(NUM_BARS, np.int64)
    keys = bands.keys if len(rows) == len(bands.lengths) else bands.keys[:, rows]
    crowds: dict[bytes, Indices] = {}
    for left, right in _gathered(_candidates(keys, crowds, on_progress)):
        scores = compare(spans, cut, rows[left], rows[right], kernels)
        bars += np.histogram(scores, NUM_BARS, (LOWEST, 1.0))[0]
        is_near = scores >= threshold
        parts.append((rows[left[is_near]], rows[right[is_near]], scores[is_near]))
    skipped = 0
    members = [rows[crowd] for crowd in crowds.values()]
    led = kernels.starmap(
        partial(_by_leaders, kernels.alone), ((spans.take(crowd), cut, threshold) for crowd in members)
    )
    for crowd, (left, right, scores, num_left_out) in zip(members, led, strict=True):
        parts.append((crowd[left], crowd[right], scores))
        skipped += num_left_out
    left, right, scores = (np.concatenate(side) for side in zip(*parts, strict=True))
    # Pairs from crowds may have met before.
    _, first = np.unique(left * len(spans) + right, return_index=True)
    return Links(left[first], right[first], scores[first], skipped, bars)


def _gathered(pairs: Iterator[tuple[Indices, Indices]]) -> Iterator[tuple[Indices, Indices]]:
    """Join small parts until there is enough to compare at once, so that the set of a text is made seldom."""
    batch: list[tuple[Indices, Indices]] = []
    for part in pairs:
        batch.append(part)
        if sum(len(left) for left, _ in batch) >= MOST_PAIRS:
            yield np.concatenate([left for left, _ in batch]), np.concatenate([right for _, right in batch])
            batch = []
    if batch:
        yield np.concatenate([left for left, _ in batch]), np.concatenate([right for _, right in batch])


def _candidates(
    keys: Hashes, crowds: dict[bytes, Indices], on_progress: Callable[[int], None]
) -> Iterator[tuple[Indices, Indices]]:
    """Yield the pairs of rows that meet in a small bucket, each pair once, some at a time."""
    # The rows of large buckets go to ``crowds``: the same ones often crowd together in several bands, once is enough.
    is_crowded = np.zeros(keys.shape, bool)
    for band in range(len(keys)):
        order, starts, sizes = _buckets(keys[band])
        for at in np.flatnonzero(sizes > PAIRWISE_BUCKET).tolist():
            crowd = order[starts[at] : starts[at] + sizes[at]]
            crowds[crowd.tobytes()] = crowd
            is_crowded[band, crowd] = True
        for pairs in _grids(order, starts, sizes):
            left, right = pairs
            for earlier in range(band):
                row = keys[earlier]
                is_new = (row[left] != row[right]) | is_crowded[earlier, left]
                left, right = left[is_new], right[is_new]
            yield left, right
        on_progress(band + 1)


def _grids(order: Indices, starts: Indices, sizes: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield all pairs within each small bucket, buckets of one size together."""
    for size in np.flatnonzero(np.bincount(sizes[sizes <= PAIRWISE_BUCKET], minlength=2)).tolist():
        heads = starts[sizes == size]
        left, right = np.triu_indices(size, 1)
        step = max(1, MOST_PAIRS // len(left))
        for low in range(0, len(heads), step):
            grid = order[heads[low : low + step][:, None] + np.arange(size)]
            yield grid[:, left].ravel(), grid[:, right].ravel()


def _buckets(keys: Hashes) -> tuple[Indices, Indices, Indices]:
    """Return the rows that share their key with another, bucket after bucket, and where each begins and its size."""
    rows = _sharing(keys)
    starts = np.flatnonzero(heads_run(keys[rows]))
    return rows, starts, np.diff(np.append(starts, len(rows)))


def _sharing(keys: Hashes) -> Indices:
    """Return the rows that share their key with another: by key, and in order where that is the same."""
    # Each key with its row for its last bits: to sort these takes a quarter of the time of sorting rows by their keys.
    bits = np.uint64((1 << len(keys).bit_length()) - 1)
    packed = keys & ~bits
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    rows = (packed[_is_repeated(packed & ~bits)] & bits).astype(np.int64)
    # Keys that differ in their last bits only have got mixed up; mostly there are none, and all is in order already.
    rows = rows[np.argsort(keys[rows], kind="stable")]
    return rows[_is_repeated(keys[rows])]


def _is_repeated(ordered: Hashes) -> NDArray[np.bool_]:
    """Whether each of some sorted keys stands beside an equal one."""
    is_head = np.append(heads_run(ordered), True)
    is_alone: NDArray[np.bool_] = is_head[1:] & is_head[:-1]
    return ~is_alone


def _by_leaders(kernels: Kernels, crowd: Spans, cut: Cut, threshold: float) -> tuple[Indices, Indices, Scores, int]:
    """Compare each text of a large bucket with the bucket's earlier texts that repeat none before them."""
    # That is linear in the bucket for each distinct group in it. After 128 groups the rest is left out and counted.
    sets: Sets = kernels.sets(crowd, cut)
    left, right, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    waiting = np.arange(len(crowd))
    for _ in range(MAX_LEADERS):
        if len(waiting) < 2:
            break
        leaders, rest = np.full(len(waiting) - 1, waiting[0]), waiting[1:]
        alike = kernels.jaccard(sets, leaders, rest)
        is_near = alike >= threshold
        left.append(leaders[is_near])
        right.append(rest[is_near])
        scores.append(alike[is_near])
        waiting = rest[~is_near]
    return np.concatenate(left), np.concatenate(right), np.concatenate(scores), max(0, len(waiting) - 1)


def firsts(keys: Hashes) -> Indices:
    """Return for each of the keys, [N, 2], the number of the first one that equals it."""
    first = np.arange(len(keys))
    # The other half nearly never has a say.
    rows = _sharing(keys[:, 0])
    rows = rows[np.lexsort((keys[rows, 1], keys[rows, 0]))]
    starts = np.flatnonzero(heads_run(keys[rows]))
    first[rows] = np.repeat(rows[starts], np.diff(np.append(starts, len(rows))))
    return first
