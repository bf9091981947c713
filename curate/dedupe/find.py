"""The comparison in stages: keys and tokens, buckets, exact similarity, components."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.boilerplate import Cut
from curate.dedupe.components import components
from curate.dedupe.corpus import Corpus
from curate.dedupe.found import TIES, Conflict, Duplicates, Edges, Method
from curate.dedupe.minhash import NUM_BANDS, Bands, Kernels, Links, Scores, links
from curate.dedupe.near import Near, Texts, cut_of, firsts
from curate.dedupe.selection import Repetition
from curate.dedupe.shingles import Spans
from curate.dedupe.stages import Stages
from curate.dedupe.text import FIELDS, Field
from curate.hashing import Hashes, Indices

LONG_COMPLETION = 20
"""Fewest shingles from which a completion alone is telling; short answers are alike by chance."""
_ROWS = 1 << 14

Watch = Callable[[str, int, int], None]
"""Told how far a stage has come: its name, how much is done, of how much."""


def find(
    corpus: Corpus,
    method: Method,
    kernels: Kernels,
    stages: Stages,
    watch: Watch,
    order: Indices | None = None,
    wanted: Collection[str] = (),
) -> Duplicates:
    """Compare the records of ``corpus``; ``order`` and ``wanted`` as in `resolve`."""
    first_of = firsts(corpus.columns.exact)
    among = corpus.take(np.flatnonzero(first_of == np.arange(len(corpus))))
    near = {
        name: compare_texts(name, among.spans(name), among.keys(name), method, kernels, stages, watch)
        for name in FIELDS
    }
    return resolve(corpus.ids, first_of, near, method, order, wanted)


def resolve(
    ids: Sequence[str],
    first_of: Indices,
    near: Mapping[Field, Near],
    method: Method,
    order: Indices | None = None,
    wanted: Collection[str] = (),
) -> Duplicates:
    """Decide what goes, what stays and what belongs together, of records that are called ``ids``.

    ``first_of`` has the first record of the same content; ``near`` compares those that are the first of theirs.
    ``order`` has the rows, the most preferred first (None: as they come). ``wanted`` records never go.
    """
    order = np.arange(len(ids)) if order is None else order
    is_first = first_of == np.arange(len(ids))
    unique, exact = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    left, right, scores = _droppable(near)
    repetition = Repetition(ids, first_of, unique[left], unique[right], scores)
    is_retained = repetition.retained(order, wanted)
    edges = _edges(near, unique, exact, first_of)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    # Of one content the most preferred record speaks for all, and for nothing where none of them stays.
    speaker = np.full(len(ids), -1)
    retained = order[is_retained[order]][::-1]
    speaker[first_of[retained]] = retained
    clusters = _clusters(ids, components(len(ids), edges.left, edges.right))
    return Duplicates(
        pairs=repetition.duplicates(order, is_retained, wanted),
        conflicts=_conflicts(ids, near, speaker[unique], position),
        clusters={ids[row]: clusters[ids[row]] for row in order.tolist()},
        method=method,
        num_records=len(ids),
        num_boilerplate=sum(len(part.cut.popular) for part in near.values()),
        num_skipped=sum(part.links.num_skipped for part in near.values()),
        bars=tuple(near["record"].links.bars.tolist()),
        edges=replace(edges, left=position[edges.left], right=position[edges.right]),
        repetition=repetition,
    )


def compare_texts(
    name: Field, spans: Spans, keys: Hashes, method: Method, kernels: Kernels, stages: Stages, watch: Watch
) -> Near:
    """Compare one text a record, known by its key: its buckets and its verified links are stages of their own."""
    texts = Texts.of(spans, keys)
    about = (name, method.unit, method.ngram, keys[texts.first], texts.weights)

    def buckets() -> dict[str, NDArray[np.generic]]:
        cut = cut_of(texts, method.ngram)
        found = _bands(texts, cut, kernels, lambda done: watch(f"hashing {name}s", done, len(texts.first)))
        return {"popular": cut.popular, "keys": found.keys, "lengths": found.lengths}

    held = stages.arrays("buckets", about, buckets)
    cut, found = Cut(method.ngram, held["popular"]), Bands(held["keys"], held["lengths"])

    def verified() -> dict[str, NDArray[np.generic]]:
        made = links(
            texts.spans,
            cut,
            method.threshold,
            found,
            kernels,
            seen=lambda done: watch(f"comparing {name}s", done, NUM_BANDS),
        )
        skipped = np.array([made.num_skipped])
        return {"left": made.left, "right": made.right, "scores": made.scores, "bars": made.bars, "skipped": skipped}

    held = stages.arrays("links", (*about, method.threshold), verified)
    linked = Links(held["left"], held["right"], held["scores"], int(held["skipped"][0]), held["bars"])
    return Near(texts, cut, linked, found.lengths, method.threshold, kernels)


def _bands(texts: Texts, cut: Cut, kernels: Kernels, seen: Callable[[int], None]) -> Bands:
    """Return the buckets of all texts, a part of them at a time, so that one can be told and interrupted."""
    count = len(texts.first)
    found = Bands(np.zeros((NUM_BANDS, count), np.uint64), np.zeros(count, np.int64))
    for low in range(0, count, _ROWS):
        rows = np.arange(low, min(low + _ROWS, count))
        part = kernels.bands(texts.spans.take(rows), cut)
        found.keys[:, rows], found.lengths[rows] = part.keys, part.lengths
        seen(int(rows[-1]) + 1)
    return found


def _droppable(near: Mapping[Field, Near]) -> tuple[Indices, Indices, Scores]:
    """Return the pairs that are alike as a whole, in the prompt and in the completion, with their score."""
    left, right, scores = near["record"].pairs()
    is_dropped = near["prompt"].alike(left, right)
    rest = np.flatnonzero(is_dropped)
    is_dropped[rest] = near["completion"].alike(left[rest], right[rest])
    return left[is_dropped], right[is_dropped], scores[is_dropped]


def _edges(near: Mapping[Field, Near], unique: Indices, exact: Indices, first_of: Indices) -> Edges:
    """Return the pairs of records that belong in one cluster."""
    parts = [(first_of[exact], exact, np.ones(len(exact)), np.zeros(len(exact), np.int64))]
    for name, part in near.items():
        for one, two, scores in part.joins(LONG_COMPLETION if name == "completion" else 0):
            parts.append((unique[one], unique[two], scores, np.full(len(one), TIES.index(name))))
    left, right, scores, ties = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Edges(left, right, scores, ties)


def _conflicts(ids: Sequence[str], near: Mapping[Field, Near], speaker: Indices, position: Indices) -> list[Conflict]:
    """Return each record once that asks like another and is answered otherwise, with the nearest such other.

    ``speaker`` has the row that speaks for each text that was compared, -1 where nobody does; ``position`` that row's
    place in the order of preference.
    """
    asked, whole = near["prompt"].pairs(is_with_equals=True), near["record"].pairs()
    one, two, scores = (np.concatenate(side) for side in zip(asked, whole, strict=True))
    by_whole = np.arange(len(one)) >= len(asked[0])
    is_open = (speaker[one] >= 0) & (speaker[two] >= 0)
    is_open[is_open] = ~near["completion"].alike(one[is_open], two[is_open])
    scores, by_whole = scores[is_open], by_whole[is_open]
    one, two = position[speaker[one[is_open]]], position[speaker[two[is_open]]]
    first, second = np.minimum(one, two), np.maximum(one, two)
    # Of the nearest, the one that was come upon first.
    order = np.lexsort((np.arange(len(first)), -scores, second))
    order = order[np.unique(second[order], return_index=True)[1]]
    row_at = np.argsort(position)
    return [
        Conflict(ids[right], ids[left], score, "record" if is_whole else "prompt")
        for left, right, score, is_whole in zip(
            row_at[first[order]].tolist(),
            row_at[second[order]].tolist(),
            scores[order].tolist(),
            by_whole[order].tolist(),
            strict=True,
        )
    ]


def _clusters(ids: Sequence[str], roots: Indices) -> dict[str, str]:
    names: dict[int, str] = {}
    crowded = np.flatnonzero(np.bincount(roots, minlength=len(roots))[roots] > 1)
    for row, root in zip(crowded.tolist(), roots[crowded].tolist(), strict=True):
        names[root] = min(names.get(root, ids[row]), ids[row])
    clusters = dict(zip(ids, ids, strict=True))
    for row, root in zip(crowded.tolist(), roots[crowded].tolist(), strict=True):
        clusters[ids[row]] = names[root]
    return clusters
