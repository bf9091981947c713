"""Equal content, texts and ids among all records, by a shuffle of their keys."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from curate.dedupe.near import firsts
from curate.dedupe.text import FIELDS
from curate.hashing import Hashes, Indices
from curate.scale.cluster import Cluster, Job, Parts
from curate.scale.texts import ROW_BITS, Texts, shelf_of

KINDS = ("exact", *FIELDS, "id")
BUCKET = 1 << 22
"""Keys of one bucket, about."""


class Equal(NamedTuple):
    """Records that have something in common with an earlier one: their numbers, sorted, and the first such record."""

    numbers: Indices
    first: Indices


def equals(cluster: Cluster, texts: Texts, num_records: int) -> dict[str, Equal]:
    """Return for each of `KINDS` the records that equal an earlier one in it; missing texts equal nothing."""
    num_buckets = max(cluster.num_workers, len(KINDS) * num_records // BUCKET)
    split = Job("curate.scale.equal.Keys", (texts, num_buckets), is_split=True)
    found: dict[int, list[Equal]] = {}
    for kind, equal in cluster.shuffled(split, range(len(texts.shards)), Job("curate.scale.equal.Meeting", ())):
        found.setdefault(kind, []).append(equal)
    return {name: _joined(found.get(kind, [])) for kind, name in enumerate(KINDS)}


def regrouped(equal: Equal, gone: Indices) -> Equal:
    """Return ``equal`` without the records ``gone``; where a group loses its first, the next one is the first."""
    members, groups = (
        np.concatenate([equal.numbers, np.unique(equal.first)]),
        np.concatenate([equal.first, np.unique(equal.first)]),
    )
    is_kept = ~among(gone, members)
    members, groups = members[is_kept], groups[is_kept]
    order = np.lexsort((members, groups))
    members, groups = members[order], groups[order]
    is_new = np.ones(len(groups), bool)
    is_new[1:] = groups[1:] != groups[:-1]
    first = members[is_new][np.cumsum(is_new) - 1] if len(members) else members
    return _joined([Equal(members[~is_new], first[~is_new])])


def among(numbers: Indices, asked: Indices) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether each of ``asked`` is one of the sorted ``numbers``."""
    if not len(numbers):
        return np.zeros(len(asked), bool)
    place = np.minimum(np.searchsorted(numbers, asked), len(numbers) - 1)
    return np.asarray(numbers[place] == asked)


def _joined(parts: Sequence[Equal]) -> Equal:
    if not parts:
        return Equal(np.zeros(0, np.int64), np.zeros(0, np.int64))
    numbers, first = (np.concatenate(side) for side in zip(*parts, strict=True))
    order = np.argsort(numbers)
    return Equal(numbers[order], first[order])


class Keys:
    """Gives the keys of a span's records to buckets, by kind and key."""

    def __init__(self, texts: Texts, num_buckets: int) -> None:
        self._shelf = shelf_of(texts)
        self._num_buckets = num_buckets

    def __call__(self, number: int) -> Parts:
        """Return a part for each kind and bucket."""
        corpus = self._shelf.corpus(number)
        parts = Parts()
        for kind, name in enumerate(KINDS):
            rows = np.arange(len(corpus))
            if name == "exact":
                keys = corpus.columns.exact
            elif name == "id":
                keys = keys_of(corpus.ids)
            else:
                spans, keys = corpus.spans(name), corpus.keys(name)  # type: ignore[arg-type]
                rows = np.flatnonzero(spans.ends > spans.starts)
            bucket = (keys[rows, 0] % np.uint64(self._num_buckets)).astype(np.int64)
            for one in np.unique(bucket).tolist():
                chosen = rows[bucket == one]
                parts.append((kind * self._num_buckets + one, packed(kind, number, keys[chosen], chosen)))
        return parts


class Meeting:
    """Finds equal keys in a bucket."""

    def __call__(self, parts: Sequence[bytes]) -> tuple[int, Equal]:
        """Return the kind of a bucket, and the records whose key an earlier one has."""
        kind, keys, numbers = together(parts, 2)
        first = firsts(keys)
        is_later = first != np.arange(len(first))
        return kind, Equal(numbers[is_later], numbers[first[is_later]])


def packed(kind: int, span: int, keys: Hashes, rows: Indices) -> bytes:
    """Return the rows of a span and the keys of each, [N, width], as bytes: 4 a row and 8 a number of its key."""
    return np.array([kind, span], np.int64).tobytes() + keys.tobytes() + rows.astype(np.uint32).tobytes()


def together(parts: Sequence[bytes], width: int) -> tuple[int, Hashes, Indices]:
    """Return the kind that `packed` parts have in common, and all keys and numbers, by number."""
    spans = sorted((int(np.frombuffer(part, np.int64, 2)[1]), place) for place, part in enumerate(parts))
    keys, numbers = [], []
    for span, place in spans:
        count = (len(parts[place]) - 16) // (8 * width + 4)
        keys.append(np.frombuffer(parts[place], np.uint64, count * width, 16).reshape(-1, width))
        rows = np.frombuffer(parts[place], np.uint32, count, 16 + 8 * width * count)
        numbers.append((span << ROW_BITS) + rows.astype(np.int64))
    return int(np.frombuffer(parts[0], np.int64, 1)[0]), np.concatenate(keys), np.concatenate(numbers)


def keys_of(ids: Sequence[str]) -> Hashes:
    """Return a key of each id, [N, 2]."""
    digests = b"".join(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest() for name in ids)
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)
