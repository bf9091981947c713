"""Which records repeat one another: exact groups, near pairs with their score, conflicts, and clusters.

Exact means the same normalised content, whatever the ids and metadata; `curate.schema.shape` says what that is, for
validation too. Near is decided by the Jaccard similarity of shingles, which are sets of neighbouring words (characters
in scripts without blanks). Candidates are alike in the prompt or as a whole, and are then held against one another part
by part (`curate.similarity.dedupe.pairs`), since what two records share may be a passage or an instruction and not the
question. A near *duplicate* is alike as a whole, in each part of its prompt, and in its completion, so dropping it
loses nothing. The same question with another completion is a *conflict*: it is shown and never dropped. A *cluster*
joins what asks alike or gives the same long answer, and is what a split must not tear apart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.base.record import SPLITS, CurateError, Record, Source, Split
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.corpus import Corpus, gather
from curate.similarity.dedupe.kernels import Kernels, kernels_for
from curate.similarity.dedupe.near import Links, Near, Texts, Watch, compare_texts, firsts
from curate.similarity.dedupe.pairs import LONG_COMPLETION, AlikeRule, Judge, Verdicts, verdicts
from curate.similarity.dedupe.results import (
    TIES,
    AnswerConflict,
    ClusterNames,
    Duplicate,
    Duplicates,
    Edges,
    Keep,
    Method,
    Repetition,
    method_of,
)
from curate.similarity.dedupe.shingles import FIELDS, MAX_PROMPTS, Cut, Field, by_parts, distinct, passages_in
from curate.similarity.dedupe.stages import Stages

# The fields in which two records that are alike may be repeats or ask the same.
COMPARED_FIELDS: tuple[Field, ...] = ("record", "prompt")


def find(
    corpus: Corpus,
    method: Method,
    kernels: Kernels,
    stages: Stages,
    watch: Watch = lambda _stage, _done, _total: None,
    order: Indices | None = None,
    wanted: Collection[str] = (),
) -> Duplicates:
    """Compare the records of ``corpus``; ``order`` and ``wanted`` as in `find_duplicates`, by row."""
    first_of = firsts(corpus.columns.exact)
    rows = np.flatnonzero(first_of == np.arange(len(corpus)))
    near = {
        name: compare_texts(
            name, corpus.spans(name).take(rows), corpus.keys(name)[rows], method, kernels, stages, watch
        )
        for name in FIELDS
    }
    sides = corpus.sides().take(rows)
    # It takes a second, and is no stage that anybody waits for.
    verdict_stages = Stages(stages.folder)

    @cache
    def rule() -> AlikeRule:
        return AlikeRule(method.threshold, _with_templates(near, kernels), near["completion"].cut)

    def judge(left: Indices, right: Indices) -> Verdicts:
        # What a pair is to be held against depends on all records.
        about = (method, corpus.columns.whole[rows], left, right)
        return Verdicts(
            **verdict_stages.arrays("verdicts", about, lambda: verdicts(sides, left, right, rule(), kernels)._asdict())
        )

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
    if not len(passages):
        return cut
    tasks = ((part, cut.width, passages) for part in by_parts(texts.spans, cut.width))
    num_texts = sum(kernels.starmap(kernels.num_with, tasks), np.zeros(len(passages), np.int64))
    return cut.and_also(passages[num_texts > MAX_PROMPTS])


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
    return Duplicates(
        pairs=repetition.duplicates(order, is_retained, wanted),
        conflicts=_conflicts(ids, near["prompt"].texts, by_prompt, judge, speaker[unique], position),
        clusters=ClusterNames(ids, components(len(ids), edges.left, edges.right), order),
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


def components(count: int, left: Indices, right: Indices) -> Indices:
    """Return for each of the numbers 0..count-1 the smallest number that the pairs (left, right) join it with."""
    # Labels hook onto smaller ones and jump to their root (Shiloach and Vishkin 1982).
    above = np.arange(count, dtype=np.int64)
    while len(left):
        left_root, right_root = above[left], above[right]
        is_open = left_root != right_root
        left, right, left_root, right_root = left[is_open], right[is_open], left_root[is_open], right_root[is_open]
        np.minimum.at(above, np.maximum(left_root, right_root), np.minimum(left_root, right_root))
        while not np.array_equal(jumped := above[above], above):
            above = jumped
    return above


def preference_of(
    ids: Sequence[str],
    splits: Sequence[Split | None],
    sizes: Indices,
    keep: Keep,
    pinned: Mapping[str, Split] = MappingProxyType({}),
    wanted: Collection[str] = (),
    decided: Collection[str] = (),
) -> Indices:
    """Return the rows of records, known by their ids, own splits and numbers of characters, in the order in which they
    are to be kept: ``pinned`` first, those held out before those trained on.

    Next come ``wanted`` ones, which stay anyhow and so put no pinned one out, where it is certain that they go into the
    next dataset: they are pinned, or say their split themselves. Then come those that say that they are
    held out, and those that somebody has ``decided`` on. Within each rank the first or the longest comes first.
    An export of this order pins what it retains, and the order of that then retains the same.
    """
    others = [4 if name in decided else 5 for name in ids]
    ranks = np.array([3 if split in SPLITS[1:] else n for split, n in zip(splits, others, strict=True)], np.int64)
    if pinned:
        fixed = [pinned.get(name) for name in ids]
        ranks[[split == "train" for split in fixed]] = 1
        ranks[[split in SPLITS[1:] for split in fixed]] = 0
    for row in (row for row, name in enumerate(ids) if name in wanted) if wanted else ():
        ranks[row] = 2 if ranks[row] <= 1 or splits[row] else ranks[row]
    return np.lexsort((-sizes, ranks)) if keep == "longest" else np.argsort(ranks, kind="stable")


def find_duplicates(
    records: Sequence[Record],
    settings: DedupeSettings,
    *,
    order: Sequence[int] | None = None,
    is_compiled: bool | None = None,
) -> Duplicates:
    """Find exact and near duplicates, conflicts and clusters among ``records``.

    Of an exact group and of a near pair the first in ``order`` is kept, rows of ``records`` as `preference_of` returns
    them (None: as they come). A record is a duplicate only of a record that is itself kept, so nothing goes because of
    something that is gone. What is compared does not depend on the order.
    ``is_compiled`` None uses the compiled loops where numba is installed and the data is large enough to repay loading.

    Raises:
        CurateError: E910 when two records have the same id, because the result could not say which is meant.
    """
    _refuse_repeated_ids([record.id for record in records], lambda row: records[row].source)
    kernels = kernels_for(sum(map(_size, records)), is_compiled)
    rows = None if order is None else np.array(order, np.int64)
    return find(gather(records, kernels), method_of(settings), kernels, Stages(), order=rows)


def _refuse_repeated_ids(ids: Sequence[str], source: Callable[[int], Source]) -> None:
    """Make sure that all ``ids`` differ; ``source`` says where the record of a row was read.

    Raises:
        CurateError: E910 when two are the same.
    """
    if len(set(ids)) == len(ids):
        return
    rows: dict[str, int] = {}
    for row, name in enumerate(ids):
        if (first := rows.setdefault(name, row)) != row:
            here, there = source(row), source(first)
            raise CurateError(
                "E910 repeated-id",
                f"{here.file}:{here.line}: the id {name!r} is also that of {there.file}:{there.line}",
                "Give each record its own id, or leave ids out; see `curate rule S104`.",
            )


def _size(record: Record) -> int:
    return len(record.prompt) + len(record.completion) + len(record.text)
