"""The comparison in stages: keys and tokens, buckets, exact similarity, components."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.boilerplate import Cut
from curate.dedupe.components import components
from curate.dedupe.corpus import Corpus
from curate.dedupe.found import TIES, Conflict, Duplicate, Duplicates, Edges, Method
from curate.dedupe.minhash import NUM_BANDS, Bands, Kernels, Links, links
from curate.dedupe.near import Near, Texts, cut_of, firsts
from curate.dedupe.shingles import Spans
from curate.dedupe.stages import Stages
from curate.dedupe.text import FIELDS, Field
from curate.hashing import Hashes, Indices

LONG_COMPLETION = 20
"""Fewest shingles from which a completion alone is telling; short answers are alike by chance."""
_ROWS = 1 << 14

Watch = Callable[[str, int, int], None]
"""Told how far a stage has come: its name, how much is done, of how much."""


def find(corpus: Corpus, method: Method, kernels: Kernels, stages: Stages, watch: Watch) -> Duplicates:
    """Compare the records of ``corpus``, of which earlier ones are kept; see `curate.dedupe.find_duplicates`."""
    first_of = firsts(corpus.columns.exact)
    among = corpus.take(np.flatnonzero(first_of == np.arange(len(corpus))))
    near = {
        name: compare_texts(name, among.spans(name), among.keys(name), method, kernels, stages, watch)
        for name in FIELDS
    }
    return resolve(corpus.ids, first_of, near, method)


def resolve(ids: Sequence[str], first_of: Indices, near: Mapping[Field, Near], method: Method) -> Duplicates:
    """Decide what goes, what stays and what belongs together, of records that are called ``ids``.

    ``first_of`` has the first record of the same content; ``near`` compares those that are the first of theirs.
    """
    is_first = first_of == np.arange(len(ids))
    unique, exact = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    pairs = {
        row: Duplicate(ids[row], ids[first], 1.0, "exact")
        for row, first in zip(exact.tolist(), first_of[exact].tolist(), strict=True)
    }
    among = [ids[row] for row in unique.tolist()]
    gone = np.zeros(len(among), bool)
    for left, right, score in _droppable(near):
        if not gone[left] and not gone[right]:
            gone[right] = True
            pairs[int(unique[right])] = Duplicate(among[right], among[left], score, "near")
    edges = _edges(near, unique, exact, first_of)
    return Duplicates(
        pairs=[pairs[row] for row in sorted(pairs)],
        conflicts=_conflicts(among, near, gone),
        clusters=_clusters(ids, components(len(ids), edges.left, edges.right)),
        method=method,
        num_records=len(ids),
        num_boilerplate=sum(len(part.cut.popular) for part in near.values()),
        num_skipped=sum(part.links.num_skipped for part in near.values()),
        bars=tuple(near["record"].links.bars.tolist()),
        edges=edges,
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


def _droppable(near: Mapping[Field, Near]) -> list[tuple[int, int, float]]:
    """Return (kept, dropped, score) of the pairs that are alike as a whole, in the prompt and in the completion.

    The nearest pairs of each record to be dropped come first.
    """
    left, right, scores = near["record"].pairs()
    is_dropped = near["prompt"].alike(left, right)
    kept = np.flatnonzero(is_dropped)
    is_dropped[kept] = near["completion"].alike(left[kept], right[kept])
    left, right, scores = left[is_dropped], right[is_dropped], scores[is_dropped]
    order = np.lexsort((left, -scores, right))
    return list(zip(left[order].tolist(), right[order].tolist(), scores[order].tolist(), strict=True))


def _edges(near: Mapping[Field, Near], unique: Indices, exact: Indices, first_of: Indices) -> Edges:
    """Return the pairs of records that belong in one cluster."""
    parts = [(first_of[exact], exact, np.ones(len(exact)), np.zeros(len(exact), np.int64))]
    for name, part in near.items():
        for one, two, scores in part.joins(LONG_COMPLETION if name == "completion" else 0):
            parts.append((unique[one], unique[two], scores, np.full(len(one), TIES.index(name))))
    left, right, scores, ties = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Edges(left, right, scores, ties)


def _conflicts(among: Sequence[str], near: Mapping[Field, Near], gone: NDArray[np.bool_]) -> list[Conflict]:
    """Return each record once that asks like another and is answered otherwise, with the nearest such other."""
    asked, whole = near["prompt"].pairs(is_with_equals=True), near["record"].pairs()
    one, two, scores = (np.concatenate(side) for side in zip(asked, whole, strict=True))
    by_whole = np.arange(len(one)) >= len(asked[0])
    is_open = ~gone[one] & ~gone[two]
    is_open[is_open] = ~near["completion"].alike(one[is_open], two[is_open])
    one, two, scores, by_whole = one[is_open], two[is_open], scores[is_open], by_whole[is_open]
    first, second = np.minimum(one, two), np.maximum(one, two)
    # Of the nearest, the one that was come upon first.
    order = np.lexsort((np.arange(len(first)), -scores, second))
    order = order[np.unique(second[order], return_index=True)[1]]
    return [
        Conflict(among[right], among[left], score, "record" if is_whole else "prompt")
        for left, right, score, is_whole in zip(
            first[order].tolist(), second[order].tolist(), scores[order].tolist(), by_whole[order].tolist(), strict=True
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
