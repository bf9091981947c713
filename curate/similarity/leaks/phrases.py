"""Phrases that many prompts have, as far as they stand in suspected texts: what a data set keeps saying proves nothing.

A template is found by its long runs of words; short phrases that are put together anew in each record are not. They
are counted only for pairs that are suspected already, and in a bounded number of records, so the cost does not grow
with the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from curate.base.hashing import Hashes, Indices
from curate.base.record import Record
from curate.similarity.leaks.words import chunks, hashed, joined, runs_in, runs_of, wholes_of

_MOST_RECORDS = 10_000
"""Records among which phrases are counted; of more, one in so many."""
_IN_A_THOUSAND = 1
"""A phrase is common in more prompts than this of a thousand, if these are more than ``max_prompts``."""


class CommonPhrases:
    """Which phrases are common, for texts that were named when it was made."""

    def __init__(self, suspects: Sequence[Record], exam: Sequence[Record], pool: Sequence[Record], most: int) -> None:
        """Count the phrases of ``suspects`` in the prompts of ``exam`` and ``pool``; more than ``most`` are many."""
        step = max(1, -(-(len(exam) + len(pool)) // _MOST_RECORDS))
        self._sample = list(chain(exam, pool))[::step]
        self._most = max(most, len(self._sample) * _IN_A_THOUSAND // 1000)
        self._texts = [text for record in suspects for text in (record.prompt, record.completion, record.text)]
        self._known: dict[int, Hashes] = {}

    def flags(self, words: Sequence[str], size: int) -> list[bool]:
        """Return for each of ``words`` whether it stands in a common phrase of ``size`` words."""
        runs = runs_of([" ".join(words)], size)
        is_common = np.isin(runs.hashes, self._common(size))
        edges = np.zeros(len(words) + 1, np.int64)
        starts = runs.starts[is_common]
        np.add.at(edges, starts, 1)
        np.add.at(edges, starts + size, -1)
        return [count > 0 for count in np.cumsum(edges[:-1]).tolist()]

    def _common(self, size: int) -> Hashes:
        if size not in self._known:
            wanted = np.unique(runs_of(self._texts, size).hashes)
            self._known[size] = wanted[self._counts(wanted, size) > self._most]
        return self._known[size]

    def _counts(self, wanted: Hashes, size: int) -> Indices:
        """Return in how many different prompts of the sample each of the runs stands."""
        keys, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        texts = [(record.prompt, record.completion, record.text, record.system) for record in self._sample]
        for low, high in chunks(texts):
            words, counts = hashed([text for group in texts[low:high] for text in group])
            wholes = wholes_of(words, counts)
            prompts = np.where(wholes[0::4] == 0, wholes[2::4], wholes[0::4])
            for hashes, rows, _ in runs_in(words, counts, size):
                indices = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
                is_wanted = wanted[indices] == hashes
                pairs = joined(hashes[is_wanted], prompts[rows[is_wanted] // 4])
                pairs, first = np.unique(pairs, return_index=True)
                keys.append(pairs)
                numbers.append(indices[is_wanted][first])
        _, first = np.unique(np.concatenate(keys), return_index=True)
        return np.bincount(np.concatenate(numbers)[first], minlength=len(wanted))
