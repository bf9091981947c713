"""Boilerplate in the texts of all records: the sample that `curate.dedupe.boilerplate` measures, drawn by workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from curate.dedupe.boilerplate import (
    COUNT,
    MAX_PROMPTS,
    SAMPLE,
    Cut,
    fingerprints,
    num_texts_with,
    passages_in,
    shared_passages,
)
from curate.dedupe.shingles import Spans, Tokens, distinct
from curate.dedupe.text import FIELDS, Field
from curate.hashing import Hashes, Indices
from curate.scale.cluster import Cluster, Job
from curate.scale.equal import Equal, among
from curate.scale.texts import ROW_BITS, Texts, by_span, shelf_of

DRAWN = 4.0
"""Times as many texts are drawn at first as the sample needs, were they all long and different."""
_LARGEST = float(1 << 64)


class Drawn(NamedTuple):
    """What a span has of one field, and which of its texts are drawn."""

    num_said: int
    """Records that have the text."""
    num_wide: int
    """Records whose text is long enough for a passage."""
    num_heads: int
    """Those that are the first of their text."""
    numbers: Indices
    prints: Hashes
    tokens: Tokens
    lengths: Indices


def cuts(
    cluster: Cluster, texts: Texts, gone: Indices, equal: Mapping[Field, Equal], ngram: int, num_records: int
) -> dict[Field, Cut]:
    """Return how the texts of each field are cut: without the passages that too many records share.

    Texts are drawn by their content: those with the smallest fingerprints. How small is guessed from the number of
    records, so that workers send few, and put up where too few have come.
    """
    found: dict[Field, Cut] = {}
    share = min(1.0, DRAWN * SAMPLE / max(1, num_records))
    while len(found) < len(FIELDS):
        fields = tuple(field for field in FIELDS if field not in found)
        work = Job("curate.scale.sample.Drawing", (texts, Cut(ngram, np.zeros(0, np.uint64)).width, fields, share))
        tasks = [(number, inside(gone, number), {field: inside(equal[field].numbers, number) for field in fields})
                 for number in range(len(texts.shards))]  # fmt: skip
        drawn: dict[Field, list[Drawn]] = {field: [] for field in fields}
        for answer in cluster.answers(work, tasks):
            for field in fields:
                drawn[field].append(answer[field])
        for field in fields:
            num_heads = sum(part.num_heads for part in drawn[field])
            if sum(len(part.numbers) for part in drawn[field]) >= min(SAMPLE, num_heads):
                found[field] = Cut(ngram, _measured(drawn[field], equal[field], ngram))
        share = min(1.0, 8 * share)
    return found


def templates(cluster: Cluster, texts: Texts, width: int, linked: Indices, gone: Indices, equal: Equal) -> Hashes:
    """Return the passages of the prompts of the records ``linked`` that stand in too many different prompts, sorted."""
    ask = Job("curate.scale.sample.Asking", (texts, width))
    tasks = [(number, rows) for number, rows in by_span(linked)]
    asked = distinct(np.concatenate([np.zeros(0, np.uint64), *cluster.answers(ask, tasks)]))
    count = Job("curate.scale.sample.Counting", (texts, width, asked))
    spans = [(number, inside(gone, number), inside(equal.numbers, number)) for number in range(len(texts.shards))]
    counts = np.zeros(len(asked), np.int64)
    for part in cluster.answers(count, spans) if len(asked) else ():
        counts += part
    return asked[counts > MAX_PROMPTS]


def inside(numbers: Indices, span: int) -> Indices:
    """Return those of the sorted ``numbers`` that lie in a span."""
    low, high = np.searchsorted(numbers, [span << ROW_BITS, (span + 1) << ROW_BITS])
    return numbers[low:high]


def _measured(parts: list[Drawn], equal: Equal, ngram: int) -> Hashes:
    num_records, num_wide = sum(part.num_said for part in parts), sum(part.num_wide for part in parts)
    num_heads = sum(part.num_heads for part in parts)
    if num_records <= COUNT or not num_heads:
        return np.zeros(0, np.uint64)
    numbers, prints, tokens, lengths = (np.concatenate([part[place] for part in parts]) for place in range(3, 7))
    chosen = np.sort(np.lexsort((numbers, prints))[:SAMPLE])
    chosen = chosen[np.argsort(numbers[chosen])]
    heads, counts = np.unique(equal.first, return_counts=True)
    weights = np.ones(len(chosen), np.int64)
    is_head = among(heads, numbers[chosen])
    weights[is_head] += counts[np.searchsorted(heads, numbers[chosen][is_head])]
    total = num_records
    if num_heads > SAMPLE:
        total = int(num_records * int(weights.sum()) / num_wide)
    ends = np.cumsum(lengths)
    spans = Spans(tokens, (ends - lengths)[chosen], ends[chosen])
    width = Cut(ngram, np.zeros(0, np.uint64)).width
    return shared_passages(spans.hashed(), width, weights, num_records, total)


class Drawing:
    """Draws texts of a span."""

    def __init__(self, texts: Texts, width: int, fields: tuple[Field, ...], share: float) -> None:
        self._shelf = shelf_of(texts)
        self._width = width
        self._fields = fields
        self._below = None if share >= 1 else np.uint64(share * _LARGEST)

    def __call__(self, task: tuple[int, Indices, Mapping[Field, Indices]]) -> dict[Field, Drawn]:
        """Return the texts drawn of each field, given the records that are gone and those whose text is not new."""
        number, gone, repeats = task
        return {field: self._drawn(number, field, gone, repeats[field]) for field in self._fields}

    def _drawn(self, number: int, field: Field, gone: Indices, repeats: Indices) -> Drawn:
        numbers, spans = self._shelf.numbers(number), self._shelf.corpus(number).spans(field)
        lengths = spans.ends - spans.starts
        is_here = ~among(gone, numbers)
        is_wide = is_here & (lengths >= self._width)
        heads = np.flatnonzero(is_wide & ~among(repeats, numbers))
        prints = fingerprints(spans.take(heads)) if len(heads) else np.zeros(0, np.uint64)
        chosen = np.arange(len(heads)) if self._below is None else np.flatnonzero(prints < self._below)
        rows = numbers[heads[chosen]]
        taken = self._shelf.take(field, rows)
        return Drawn(
            int((is_here & (lengths > 0)).sum()),
            int(is_wide.sum()),
            len(heads),
            rows,
            prints[chosen],
            taken.tokens,
            taken.ends - taken.starts,
        )


class Asking:
    """Returns the passages of some prompts of a span."""

    def __init__(self, texts: Texts, width: int) -> None:
        self._shelf, self._width = shelf_of(texts), width

    def __call__(self, task: tuple[int, Indices]) -> Hashes:
        """Return the different passages of the prompts of the rows of a span."""
        number, rows = task
        return passages_in(self._shelf.corpus(number).spans("prompt").take(rows), self._width)


class Counting:
    """Counts the different prompts of a span in which passages stand."""

    def __init__(self, texts: Texts, width: int, asked: Hashes) -> None:
        self._shelf, self._width, self._asked = shelf_of(texts), width, asked

    def __call__(self, task: tuple[int, Indices, Indices]) -> Indices:
        """Return a count for each passage, given the records that are gone and those whose prompt is not new."""
        number, gone, repeats = task
        numbers = self._shelf.numbers(number)
        rows = np.flatnonzero(~among(gone, numbers) & ~among(repeats, numbers))
        return num_texts_with(self._shelf.corpus(number).spans("prompt").take(rows), self._width, self._asked)
