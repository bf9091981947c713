"""Candidates compared exactly, and what is to be known of single records: each task looks texts up by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from curate.dedupe.boilerplate import Cut, cut_texts
from curate.dedupe.minhash import LOWEST, NUM_BARS, Scores, by_leaders, compare
from curate.dedupe.pairs import Rule, Verdicts, verdicts
from curate.dedupe.shingles import distinct
from curate.dedupe.text import FIELDS, Field
from curate.hashing import Indices
from curate.record import Source
from curate.scale.candidates import Candidates
from curate.scale.cluster import Cluster, Job
from curate.scale.texts import Texts, by_span, shelf_of

PAIRS = 1 << 14
"""Pairs that one task compares."""


class Found(NamedTuple):
    """Pairs of texts whose similarity reaches the threshold, by number of record, and what else was seen."""

    left: Indices
    right: Indices
    scores: Scores
    num_skipped: int
    bars: Indices


class Known(NamedTuple):
    """Records by their sorted ``numbers``: ids, places, whether each field is there, shingles of the completion."""

    numbers: Indices
    ids: list[str]
    sources: list[Source]
    is_said: Mapping[Field, np.ndarray[tuple[int], np.dtype[np.bool_]]]
    lengths: Indices


def scores_of(cluster: Cluster, texts: Texts, field: Field, cut: Cut, left: Indices, right: Indices) -> Scores:
    """Return the exact similarity of the texts of the records ``left[i]`` and ``right[i]``."""
    order = np.lexsort((right, left))
    ordered = left[order], right[order]
    tasks = [tuple(side[low : low + PAIRS] for side in ordered) for low in range(0, len(left), PAIRS)]
    work = Job("curate.scale.verified.Comparing", (texts, field, cut))
    found = np.empty(len(left))
    found[order] = np.concatenate([np.zeros(0), *cluster.answers(work, tasks)])
    return found


def verified(cluster: Cluster, texts: Texts, field: Field, cut: Cut, threshold: float, candidates: Candidates) -> Found:
    """Return the candidates that reach ``threshold``; see `curate.dedupe.minhash.links`."""
    scores = scores_of(cluster, texts, field, cut, candidates.left, candidates.right)
    bars = np.histogram(scores, NUM_BARS, (LOWEST, 1.0))[0].astype(np.int64)
    is_near = scores >= threshold
    parts = [(candidates.left[is_near], candidates.right[is_near], scores[is_near])]
    num_skipped = 0
    work = Job("curate.scale.verified.Leading", (texts, field, cut, threshold))
    for left, right, alike, num_left_out in cluster.answers(work, candidates.crowds):
        parts.append((left, right, alike))
        num_skipped += num_left_out
    left, right, scores = (np.concatenate(side) for side in zip(*parts, strict=True))
    order = np.lexsort((right, left))
    left, right, scores = left[order], right[order], scores[order]
    is_new = np.ones(len(left), bool)
    is_new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return Found(left[is_new], right[is_new], scores[is_new], num_skipped, bars)


def judged(cluster: Cluster, texts: Texts, rule: Rule, left: Indices, right: Indices) -> Verdicts:
    """Return what `curate.dedupe.pairs.verdicts` says of the records ``left[i]`` and ``right[i]``."""
    order = np.lexsort((right, left))
    ordered = left[order], right[order]
    tasks = [tuple(side[low : low + PAIRS] for side in ordered) for low in range(0, len(left), PAIRS)]
    parts = list(cluster.answers(Job("curate.scale.verified.Judging", (texts, rule)), tasks))
    found = Verdicts(*(np.zeros(len(left), np.bool_) for _ in Verdicts._fields))
    for whole, column in zip(found, zip(*parts, strict=True), strict=True) if parts else ():
        whole[order] = np.concatenate(column)
    return found


def known(cluster: Cluster, texts: Texts, cut: Cut, numbers: Indices) -> Known:
    """Return what is to be known of the records ``numbers``, which are sorted; ``cut`` is that of completions."""
    ids: list[str] = []
    sources: list[Source] = []
    parts = [(np.zeros((len(FIELDS), 0), bool), np.zeros((1, 0), np.int64))]
    work = Job("curate.scale.verified.Knowing", (texts, cut))
    for names, file_names, places, said, lengths in cluster.answers(work, list(by_span(numbers))):
        ids += names
        sources += [Source(file_names[file], line) for file, line in places]
        parts.append((said, lengths[None]))
    said, lengths = (np.concatenate(side, axis=1) for side in zip(*parts, strict=True))
    return Known(numbers, ids, sources, dict(zip(FIELDS, said, strict=True)), lengths[0])


def called(cluster: Cluster, texts: Texts, names: Sequence[str]) -> Indices:
    """Return the numbers of the records whose own id is one of ``names``, sorted."""
    work = Job("curate.scale.verified.Calling", (texts, tuple(names)))
    return np.concatenate([np.zeros(0, np.int64), *cluster.answers(work, range(len(texts.shards)))])


class Comparing:
    """Compares texts of one field."""

    def __init__(self, texts: Texts, field: Field, cut: Cut) -> None:
        self._shelf, self._field, self._cut = shelf_of(texts), field, cut

    def __call__(self, task: tuple[Indices, Indices]) -> Scores:
        """Return the similarity of each pair of records."""
        left, right = task
        rows = distinct(np.concatenate([left, right]))
        spans = self._shelf.take(self._field, rows)
        one, two = np.searchsorted(rows, left), np.searchsorted(rows, right)
        return compare(spans, self._cut, one, two, self._shelf.kernels)


class Judging:
    """Holds records against one another part by part."""

    def __init__(self, texts: Texts, rule: Rule) -> None:
        self._shelf, self._rule = shelf_of(texts), rule

    def __call__(self, task: tuple[Indices, Indices]) -> Verdicts:
        """Return the verdicts on pairs of records."""
        left, right = task
        rows = distinct(np.concatenate([left, right]))
        one, two = np.searchsorted(rows, left), np.searchsorted(rows, right)
        return verdicts(self._shelf.sides(rows), one, two, self._rule, self._shelf.kernels)


class Leading:
    """Compares the texts of a crowd with those that head a group in it."""

    def __init__(self, texts: Texts, field: Field, cut: Cut, threshold: float) -> None:
        self._shelf, self._field, self._cut, self._threshold = shelf_of(texts), field, cut, threshold

    def __call__(self, crowd: Indices) -> tuple[Indices, Indices, Scores, int]:
        """Return the pairs that are alike, their similarity, and how many were not compared to the end."""
        spans = self._shelf.take(self._field, crowd)
        found = by_leaders(spans, self._cut, np.arange(len(crowd)), self._threshold, self._shelf.kernels)
        left, right, scores, num_left_out = found
        return crowd[left], crowd[right], scores, num_left_out


class Knowing:
    """Tells what is known of single records."""

    def __init__(self, texts: Texts, cut: Cut) -> None:
        self._shelf, self._cut = shelf_of(texts), cut

    def __call__(self, task: tuple[int, Indices]) -> tuple[list[str], Sequence[str], list[list[int]], object, object]:
        """Return ids, file names, the file and line of each record, by field whether it has the text, and the number
        of shingles of its completion."""
        number, rows = task
        corpus = self._shelf.corpus(number)
        places = np.stack([corpus.columns.files[rows], corpus.columns.lines[rows]], axis=1).tolist()
        spans = {field: corpus.spans(field).take(rows) for field in FIELDS}
        said = np.stack([part.ends > part.starts for part in spans.values()])
        lengths = cut_texts(spans["completion"].hashed(), self._cut).lengths
        return [corpus.ids[row] for row in rows.tolist()], corpus.file_names, places, said, lengths


class Calling:
    """Looks for records by their id."""

    def __init__(self, texts: Texts, names: tuple[str, ...]) -> None:
        self._shelf = shelf_of(texts)
        self._names = frozenset(names)

    def __call__(self, number: int) -> Indices:
        """Return the numbers of a span's records that are called so."""
        ids = self._shelf.corpus(number).ids
        rows = [row for row, name in enumerate(ids) if name in self._names]
        return self._shelf.numbers(number)[np.array(rows, np.int64)]
