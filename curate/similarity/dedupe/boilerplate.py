"""Passages that many records share, such as a fixed instruction, and the shingles that are left without them.

Boilerplate is a passage of at least 8 tokens that more than 5 % of the records (and more than 20) have in common. It
would make every two records that carry it look alike, although only the rest counts. A template is a passage of a
prompt that stands in more than 5 different prompts, as `curate.similarity.leaks` has it: it
says nothing about the question.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from curate.base.hashing import Hashes, Indices, mix
from curate.similarity.dedupe.shingles import Ragged, Spans, distinct, may_be_among, shingles, windows

SAMPLE = 5_000
"""Boilerplate is measured on at most this many texts."""
PASSAGE = 8
"""Fewest tokens of a passage that can be boilerplate; shorter ones are just common turns of phrase."""
SHARE = 0.05
COUNT = 20
MAX_PROMPTS = 5
"""A passage in more different prompts than this is a template."""
BLOCK = 1 << 14
"""Texts that are taken at once."""


Starmap = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]
"""As `itertools.starmap`: calls a function with each tuple of arguments, and yields what it returns, in order."""


class Cut(NamedTuple):
    """How texts are cut: shingles of ``ngram`` tokens, without those in the ``popular`` passages, which are sorted."""

    ngram: int
    popular: Hashes

    @property
    def width(self) -> int:
        """Tokens in a passage."""
        return max(PASSAGE, self.ngram)

    def and_also(self, passages: Hashes) -> Cut:
        """Return a cut that leaves ``passages`` out as well."""
        return Cut(self.ngram, distinct(np.concatenate([self.popular, passages])))


def popular_passages(spans: Spans, ngram: int, weights: Indices) -> Hashes:
    """Return the passages that stand in more than the allowed share of the records, sorted; measured on a sample.

    ``weights`` has the number of records of each text.
    """
    width, num_records = max(PASSAGE, ngram), int(weights.sum())
    rows = np.flatnonzero(spans.ends - spans.starts >= width)
    if num_records <= COUNT or not len(rows):
        return np.zeros(0, np.uint64)
    total = num_records
    if len(rows) > SAMPLE:
        # Picked by content, so that the order of the records has no say.
        picked = np.argsort(fingerprints(spans.take(rows)), kind="stable")[:SAMPLE]
        total = int(num_records * weights[rows[picked]].sum() / weights[rows].sum())
        rows = rows[np.sort(picked)]
    return shared_passages(spans.take(rows).hashed(), width, weights[rows], num_records, total)


def shared_passages(of: Ragged, width: int, weights: Indices, num_records: int, total: int) -> Hashes:
    """Return the passages of ``width`` tokens that stand in more than the allowed share of the records, sorted.

    ``of`` is a sample of texts of so many tokens or more, which ``weights`` records have each, of ``num_records`` in
    all; ``total`` records say what is in the sample.
    """
    passages = _passages(of, width)
    universe, numbers = np.unique(passages.hashes, return_inverse=True)
    owners = distinct(np.repeat(np.arange(len(weights)), passages.lengths) * len(universe) + numbers)
    counts = np.bincount(owners % len(universe), weights=weights[owners // len(universe)])
    return universe[counts > max(COUNT / num_records, SHARE) * total]


def passages_in(spans: Spans, width: int) -> Hashes:
    """Return the different passages of ``width`` tokens of some texts, sorted."""
    parts = (_passages(part.hashed(), width).hashes for part in _by_parts(spans, width))
    return distinct(np.concatenate([np.zeros(0, np.uint64), *parts]))


def num_texts_with(spans: Spans, width: int, wanted: Hashes, starmap: Starmap = itertools.starmap) -> Indices:
    """Return for each of the sorted passages ``wanted`` in how many of the texts it stands."""
    if not len(wanted):
        return np.zeros(0, np.int64)
    tasks = ((part,) for part in _by_parts(spans, width))
    return sum(starmap(partial(_num_with, width, wanted), tasks), np.zeros(len(wanted), np.int64))


def _num_with(width: int, wanted: Hashes, spans: Spans) -> Indices:
    part = _passages(spans.hashed(), width)
    positions = np.flatnonzero(may_be_among(wanted, part.hashes))
    near = np.minimum(np.searchsorted(wanted, part.hashes[positions]), len(wanted) - 1)
    is_match = wanted[near] == part.hashes[positions]
    owners = np.searchsorted(part.offsets, positions[is_match], side="right") - 1
    each = distinct(owners * len(wanted) + near[is_match])
    return np.bincount(each % len(wanted), minlength=len(wanted))


def _by_parts(spans: Spans, width: int) -> Iterator[Spans]:
    """Yield the texts that are long enough for a passage, some at a time."""
    rows = np.flatnonzero(spans.ends - spans.starts >= width)
    for low in range(0, len(rows), BLOCK):
        yield spans.take(rows[low : low + BLOCK])


def fingerprints(spans: Spans) -> Hashes:
    """Return a number for each text, none of them empty: of its length and 16 of its tokens."""
    sizes = spans.ends - spans.starts
    hashes = mix(sizes.astype(np.uint64))
    for index in range(16):
        hashes = mix(hashes ^ spans.tokens[spans.starts + (sizes - 1) * index // 15])
    return hashes


def _passages(of: Ragged, width: int) -> Ragged:
    """Hash the ``width`` tokens from each place of each row on; every row has so many."""
    offsets = np.concatenate([[0], np.cumsum(of.lengths - width + 1)]).astype(np.int64)
    positions = np.arange(int(offsets[-1])) + np.repeat(of.offsets[:-1] - offsets[:-1], np.diff(offsets))
    return Ragged(windows(of.hashes, width)[positions], offsets)


def cut_texts(of: Ragged, cut: Cut) -> Ragged:
    """Return the shingles of each row of tokens, less those that lie within boilerplate."""
    table, width, popular = shingles(of, cut.ngram), cut.width, cut.popular
    if not len(popular):
        return table
    rows = np.flatnonzero(of.lengths >= width)
    starts = np.concatenate([[0], np.cumsum(of.lengths[rows] - width + 1)]).astype(np.int64)
    positions = np.arange(int(starts[-1])) + np.repeat(of.offsets[:-1][rows] - starts[:-1], np.diff(starts))
    passages = windows(of.hashes, width)[positions]
    near = np.minimum(np.searchsorted(popular, passages), len(popular) - 1)
    # A passage that starts at a place holds the shingles from there to width - ngram places on.
    first = np.arange(len(positions)) + np.repeat(table.offsets[:-1][rows] - starts[:-1], np.diff(starts))
    first = first[popular[near] == passages]
    edges = np.zeros(len(table.hashes) + 1, np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, first + (width - cut.ngram + 1), -1)
    is_retained = np.cumsum(edges[:-1]) == 0
    running = np.concatenate([[0], np.cumsum(is_retained)]).astype(np.int64)
    return Ragged(table.hashes[is_retained], running[table.offsets])
