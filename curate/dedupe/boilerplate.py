"""Passages that many records share, such as a fixed instruction, and the shingles that are left without them.

Boilerplate is a passage of at least 8 tokens that more than 5 % of the records (and more than 20) have in common. It
would make every two records that carry it look alike, although only the rest counts. A template is a passage of a
prompt that stands in more than 5 different prompts, as `curate.leaks` has it: what it says is not what is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from curate.dedupe.shingles import Ragged, Spans, distinct, shingles, windows
from curate.hashing import Hashes, Indices, mix

SAMPLE = 5_000
"""Boilerplate is measured on at most this many texts."""
PASSAGE = 8
"""Fewest tokens of a passage that can be boilerplate; shorter ones are just common turns of phrase."""
SHARE = 0.05
COUNT = 20
MAX_PROMPTS = 5
"""A passage in more different prompts than this is a template."""
_TEXTS = 1 << 14
_SIEVE_BITS = 24


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
    return distinct(np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in _by_parts(spans, width))]))


def num_texts_with(spans: Spans, width: int, asked: Hashes) -> Indices:
    """Return for each of the sorted passages ``asked`` in how many of the texts it stands."""
    counts = np.zeros(len(asked), np.int64)
    if not len(asked):
        return counts
    # Nearly all passages are none of them, which a table of their first bits tells sooner than a search.
    shift = np.uint64(64 - _SIEVE_BITS)
    may_be = np.zeros(1 << _SIEVE_BITS, np.bool_)
    may_be[asked >> shift] = True
    for part in _by_parts(spans, width):
        places = np.flatnonzero(may_be[part.hashes >> shift])
        near = np.minimum(np.searchsorted(asked, part.hashes[places]), len(asked) - 1)
        is_match = asked[near] == part.hashes[places]
        owners = np.searchsorted(part.offsets, places[is_match], side="right") - 1
        each = distinct(owners * len(asked) + near[is_match])
        counts += np.bincount(each % len(asked), minlength=len(asked))
    return counts


def _by_parts(spans: Spans, width: int) -> Iterator[Ragged]:
    """Yield the passages of the texts that are long enough, some texts at a time."""
    rows = np.flatnonzero(spans.ends - spans.starts >= width)
    for low in range(0, len(rows), _TEXTS):
        yield _passages(spans.take(rows[low : low + _TEXTS]).hashed(), width)


def fingerprints(spans: Spans) -> Hashes:
    """Return a number for each text, none of them empty: of its length and 16 of its tokens."""
    sizes = spans.ends - spans.starts
    found = mix(sizes.astype(np.uint64))
    for place in range(16):
        found = mix(found ^ spans.tokens[spans.starts + (sizes - 1) * place // 15])
    return found


def _passages(of: Ragged, width: int) -> Ragged:
    """Hash the ``width`` tokens from each place of each row on; every row has so many."""
    offsets = np.concatenate([[0], np.cumsum(of.lengths - width + 1)]).astype(np.int64)
    places = np.arange(int(offsets[-1])) + np.repeat(of.offsets[:-1] - offsets[:-1], np.diff(offsets))
    return Ragged(windows(of.hashes, width)[places], offsets)


def cut_texts(of: Ragged, cut: Cut) -> Ragged:
    """Return the shingles of each row of tokens, less those that lie within boilerplate."""
    table, width, popular = shingles(of, cut.ngram), cut.width, cut.popular
    if not len(popular):
        return table
    rows = np.flatnonzero(of.lengths >= width)
    starts = np.concatenate([[0], np.cumsum(of.lengths[rows] - width + 1)]).astype(np.int64)
    place = np.arange(int(starts[-1])) + np.repeat(of.offsets[:-1][rows] - starts[:-1], np.diff(starts))
    passages = windows(of.hashes, width)[place]
    near = np.minimum(np.searchsorted(popular, passages), len(popular) - 1)
    # A passage that starts at a place holds the shingles from there to width - ngram places on.
    first = np.arange(len(place)) + np.repeat(table.offsets[:-1][rows] - starts[:-1], np.diff(starts))
    first = first[popular[near] == passages]
    edges = np.zeros(len(table.hashes) + 1, np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, first + (width - cut.ngram + 1), -1)
    is_kept = np.cumsum(edges[:-1]) == 0
    running = np.concatenate([[0], np.cumsum(is_kept)]).astype(np.int64)
    return Ragged(table.hashes[is_kept], running[table.offsets])
