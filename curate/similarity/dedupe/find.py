"""The comparison in stages: keys and tokens, buckets, exact similarity, components."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.similarity.dedupe.corpus import Corpus
from curate.similarity.dedupe.kernels import Kernels
from curate.similarity.dedupe.near import Links, Near, Texts, Watch, compare_texts, firsts
from curate.similarity.dedupe.pairs import LONG_COMPLETION, AlikeRule, Judge, Verdicts, verdicts
from curate.similarity.dedupe.results import TIES, AnswerConflict, Duplicates, Edges, Method, Repetition
from curate.similarity.dedupe.shingles import MAX_PROMPTS, Cut, distinct, num_texts_with, passages_in
from curate.similarity.dedupe.stages import Stages
from curate.similarity.dedupe.text import FIELDS, Field

COMPARED_FIELDS: tuple[Field, ...] = ("record", "prompt")
"""The fields in which two records that are alike may be repeats or ask the same."""


def find(
    corpus: Corpus,
    method: Method,
    kernels: Kernels,
    stages: Stages,
    watch: Watch,
    order: Indices | None = None,
    wanted: Collection[str] = (),
) -> Duplicates:
    """Compare the records of ``corpus``; ``order`` and ``wanted`` as in `find_duplicates`, by row."""
    first_of = firsts(corpus.columns.exact)
    among = corpus.take(np.flatnonzero(first_of == np.arange(len(corpus))))
    near = {
        name: compare_texts(name, among.spans(name), among.keys(name), method, kernels, stages, watch)
        for name in FIELDS
    }
    rule = AlikeRule(method.threshold, _with_templates(near, kernels), near["completion"].cut)
    sides = among.sides()

    def judge(left: Indices, right: Indices) -> Verdicts:
        return verdicts(sides, left, right, rule, kernels)

    return _resolve(corpus.ids, first_of, near, judge, method, order, wanted)


def _with_templates(near: Mapping[Field, Near], kernels: Kernels) -> Cut:
    """Return how prompts are cut when pairs are judged: without boilerplate, and without templates.

    Templates are looked for in the prompts of what is like anything else, and counted in all.
    """
    texts, cut = near["prompt"].texts, near["prompt"].cut
    links = [(near[name].texts.first, near[name].links) for name in COMPARED_FIELDS]
    heads = np.concatenate([first[side] for first, pairs in links for side in (pairs.left, pairs.right)])
    rows = distinct(texts.of_record[heads])
    passages = passages_in(texts.spans.take(rows[rows >= 0]), cut.width)
    return cut.and_also(passages[num_texts_with(texts.spans, cut.width, passages, kernels.starmap) > MAX_PROMPTS])


def _resolve(
    ids: Sequence[str],
    first_of: Indices,
    near: Mapping[Field, Near],
    judge: Judge,
    method: Method,
    order: Indices | None = None,
    wanted: Collection[str] = (),
) -> Duplicates:
    """Decide what goes, what stays and what belongs together, of records that are called ``ids``.

    ``first_of`` has the first record of the same content; ``near`` compares those that are the first of theirs, and
    ``judge`` holds pairs of them against one another part by part. ``order`` has the rows, the most preferred first
    (None: as they come). ``wanted`` records never go.
    """
    order = np.arange(len(ids)) if order is None else order
    is_first = first_of == np.arange(len(ids))
    unique, exact = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    by_record, by_prompt = (_question_links(near[name], judge) for name in COMPARED_FIELDS)
    left, right, scores = near["record"].texts.spread(by_record.links.take(np.flatnonzero(by_record.is_repeat)))
    repetition = Repetition(ids, first_of, unique[left], unique[right], scores)
    is_retained = repetition.retained(order, wanted)
    edges = _edges(near, by_record, by_prompt, unique, exact, first_of)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    # Of one content the most preferred record speaks for all, and for nothing where none of them stays.
    speaker = np.full(len(ids), -1)
    retained = order[is_retained[order]][::-1]
    speaker[first_of[retained]] = retained
    clusters = _clusters(ids, components(len(ids), edges.left, edges.right))
    return Duplicates(
        pairs=repetition.duplicates(order, is_retained, wanted),
        conflicts=_conflicts(ids, near["prompt"].texts, by_prompt, judge, speaker[unique], position),
        clusters={ids[row]: clusters[ids[row]] for row in order.tolist()},
        method=method,
        num_records=len(ids),
        num_boilerplate=sum(len(part.cut.popular) for part in near.values()),
        num_skipped=sum(part.links.num_skipped for part in near.values()),
        bars=tuple(near["record"].links.bars.tolist()),
        edges=replace(edges, left=position[edges.left], right=position[edges.right]),
        repetition=repetition,
    )


class _QuestionLinks(NamedTuple):
    """Links between texts whose records ask alike; of each, whether they are repeats and ask word for word the same."""

    links: Links
    is_repeat: NDArray[np.bool_]
    is_same: NDArray[np.bool_]


def _question_links(near: Near, judge: Judge) -> _QuestionLinks:
    """Leave out links between records that ask different things, whatever passage or answer they share."""
    links, texts = near.links, near.texts
    # Records with the very same text of a field have the very same prompt and form, so that the first speaks for all.
    verdict = judge(texts.first[links.left], texts.first[links.right])
    rows = np.flatnonzero(verdict.asks_alike)
    return _QuestionLinks(links.take(rows), verdict.is_repeat[rows], verdict.asks_same[rows])


def _edges(
    near: Mapping[Field, Near],
    by_record: _QuestionLinks,
    by_prompt: _QuestionLinks,
    unique: Indices,
    exact: Indices,
    first_of: Indices,
) -> Edges:
    """Return the pairs of records that belong in one cluster: they ask alike, or give the same long answer."""
    links = {"record": by_record.links, "prompt": by_prompt.links, "completion": near["completion"].links}
    parts = [(first_of[exact], exact, np.ones(len(exact)), np.zeros(len(exact), np.int64))]
    for name, part in near.items():
        for first, second, scores in part.joins(links[name], LONG_COMPLETION if name == "completion" else 0):
            parts.append((unique[first], unique[second], scores, np.full(len(first), TIES.index(name))))
    left, right, scores, ties = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Edges(left, right, scores, ties)


def _conflicts(
    ids: Sequence[str], texts: Texts, by_prompt: _QuestionLinks, judge: Judge, speaker: Indices, position: Indices
) -> list[AnswerConflict]:
    """Return each record once that asks what an earlier one asks and has another answer.

    Records with equal questions have different answers, else they would be exact repeats. The other pairs ask the same
    word for word and differ in punctuation; with another word they nearly always ask something else. ``speaker`` has
    the row that stands for each compared text, -1 for none, and ``position`` the rank of each row in the order of
    preference.
    """
    earlier, later = _same_questions(texts, speaker, position)
    left, right, _ = texts.spread(by_prompt.links.take(np.flatnonzero(by_prompt.is_same)))
    is_other = ~judge(left, right).answers_alike
    is_punctuated = np.repeat([False, True], [len(earlier), int(is_other.sum())])
    earlier, later = np.concatenate([earlier, left[is_other]]), np.concatenate([later, right[is_other]])
    is_open = (speaker[earlier] >= 0) & (speaker[later] >= 0)
    earlier, later, is_punctuated = (
        position[speaker[earlier[is_open]]],
        position[speaker[later[is_open]]],
        is_punctuated[is_open],
    )
    first, second = np.minimum(earlier, later), np.maximum(earlier, later)
    # The first with the very same question, else the first that asks it with other punctuation.
    order = np.lexsort((first, is_punctuated, second))
    order = order[np.unique(second[order], return_index=True)[1]]
    row_at = np.argsort(position)
    rows = zip(row_at[first[order]].tolist(), row_at[second[order]].tolist(), strict=True)
    return [AnswerConflict(ids[right], ids[left], 1.0, "prompt") for left, right in rows]


def _same_questions(texts: Texts, speaker: Indices, position: Indices) -> tuple[Indices, Indices]:
    """Return the pairs of records with the very same question: the most preferred of those that stay, each other."""
    rows = np.flatnonzero((texts.of_record >= 0) & (speaker >= 0))
    rows = rows[np.lexsort((position[speaker[rows]], texts.of_record[rows]))]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = texts.of_record[rows[1:]] != texts.of_record[rows[:-1]]
    heads = rows[is_first][np.cumsum(is_first) - 1]
    return heads[~is_first], rows[~is_first]


def _clusters(ids: Sequence[str], roots: Indices) -> dict[str, str]:
    names: dict[int, str] = {}
    crowded = np.flatnonzero(np.bincount(roots, minlength=len(roots))[roots] > 1)
    for row, root in zip(crowded.tolist(), roots[crowded].tolist(), strict=True):
        names[root] = min(names.get(root, ids[row]), ids[row])
    clusters = dict(zip(ids, ids, strict=True))
    for row, root in zip(crowded.tolist(), roots[crowded].tolist(), strict=True):
        clusters[ids[row]] = names[root]
    return clusters


def components(count: int, left: Indices, right: Indices) -> Indices:
    """Return for each of the numbers 0..count-1 the smallest number that the pairs (left, right) join it with.

    Labels hook onto smaller ones and jump to their root (Shiloach and Vishkin 1982).
    """
    above = np.arange(count, dtype=np.int64)
    while len(left):
        left_root, right_root = above[left], above[right]
        is_open = left_root != right_root
        left, right, left_root, right_root = left[is_open], right[is_open], left_root[is_open], right_root[is_open]
        np.minimum.at(above, np.maximum(left_root, right_root), np.minimum(left_root, right_root))
        while not np.array_equal(jumped := above[above], above):
            above = jumped
    return above
