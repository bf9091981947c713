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

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.base.record import SPLITS, CurateError, Record, Split
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.corpus import Corpus, gather
from curate.similarity.dedupe.near import Links, Near, compare_texts, firsts
from curate.similarity.dedupe.pairs import LONG_COMPLETION, AlikeRule, Sides, verdicts
from curate.similarity.dedupe.results import (
    TIES,
    AnswerConflict,
    Duplicate,
    Duplicates,
    Edges,
    Keep,
    Method,
    Repetition,
    components,
    method_of,
)
from curate.similarity.dedupe.shingles import FIELDS, Cut, Field, Starmap, distinct, ends_of, is_head, ranges, templates

# A passage in more different prompts than this is a template.
MAX_PROMPTS = 5
# Hears which stage a comparison has come to, how much is done, and of how much.
Watch = Callable[[str, int, int], None]


def find(
    corpus: Corpus,
    method: Method,
    *,
    starmap: Starmap = itertools.starmap,
    watch: Watch = lambda _stage, _done, _total: None,
    order: Indices | None = None,
    wanted: Collection[str] = (),
) -> Duplicates:
    """Compare the records of ``corpus``.

    ``order`` has their rows, the most preferred first (None: as they come). ``wanted`` records never go. ``starmap``
    runs the work on many blocks elsewhere.
    """
    found = _compare(corpus, method, starmap, watch)
    order = np.arange(len(corpus)) if order is None else order
    is_retained = found.repetition.retained(order, wanted)
    return Duplicates(
        found.repetition.duplicates(order, is_retained, wanted),
        _conflicts(found, order, is_retained),
        method,
        found.num_boilerplate,
        found.num_skipped,
        found.edges,
        found.repetition,
        order,
    )


class _Comparison(NamedTuple):
    """What does not depend on preference; ``question`` has the number of what each record asks, [N], and
    ``punctuated`` pairs of rows that ask the same with other punctuation, [2, P]."""

    repetition: Repetition
    edges: Edges
    question: Indices
    punctuated: Indices
    num_boilerplate: int
    num_skipped: int


def _compare(corpus: Corpus, method: Method, starmap: Starmap, watch: Watch) -> _Comparison:
    """Find repeats, ties, and which records ask the same."""
    first_of = firsts(corpus.columns.exact)
    # One record speaks for all of the same content.
    is_first = first_of == np.arange(len(corpus))
    rows, copies = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    near: dict[Field, Near] = {}
    for done, name in enumerate(FIELDS):
        watch("comparing texts", done, len(FIELDS))
        near[name] = compare_texts(corpus.spans(name).take(rows), corpus.keys(name)[rows], method, starmap)
    prompts, sides = near["prompt"], Sides.of(corpus)
    rule = AlikeRule(method.threshold, _without_templates(near, starmap), near["completion"].cut)
    # Records with the very same text of a field have the very same prompt and form, so that the first speaks for all.
    # Links between records that ask different things are left out, whatever passage or answer they share.
    links = {"completion": near["completion"].links}
    found: dict[str, Links] = {}
    for name in ("record", "prompt"):
        pairs, first = near[name].links, rows[near[name].first]
        verdict = verdicts(sides, first[pairs.left], first[pairs.right], rule, starmap)
        links[name] = pairs.take(verdict.asks_alike)
        found[name] = pairs.take(verdict.is_repeat if name == "record" else verdict.asks_same)
    repeats = found["record"]
    left, right = (rows[near["record"].first[side]] for side in (repeats.left, repeats.right))
    parts = [Edges(first_of[copies], copies, np.ones(len(copies)), np.zeros(len(copies), np.int64))]
    for name, part in near.items():
        one, other, scores = _joins(part, links[name], LONG_COMPLETION if name == "completion" else 0)
        parts.append(Edges(rows[one], rows[other], scores, np.full(len(one), TIES.index(name))))
    edges = Edges(*(np.concatenate(side) for side in zip(*parts, strict=True)))
    question = np.full(len(corpus), -1)
    question[rows] = prompts.of_record
    here, there = _spread(prompts, found["prompt"])
    is_other = ~verdicts(sides, rows[here], rows[there], rule, starmap).answers_alike
    return _Comparison(
        Repetition(corpus.ids, first_of, left, right, repeats.scores),
        edges,
        question,
        np.stack([rows[here], rows[there]])[:, is_other],
        sum(len(part.cut.popular) for part in near.values()),
        sum(part.num_skipped for part in near.values()),
    )


def _without_templates(near: Mapping[Field, Near], starmap: Starmap) -> Cut:
    """Return how prompts are cut when pairs are judged: without boilerplate, and without templates.

    Templates are looked for in the prompts of what is like anything else, and counted in all.
    """
    prompts = near["prompt"]
    linked = [near[name].first[side] for name in ("record", "prompt") for side in near[name].links[:2]]
    texts = distinct(prompts.of_record[np.concatenate(linked)])
    found = templates(prompts.spans, prompts.cut, texts[texts >= 0], MAX_PROMPTS, starmap)
    return Cut(prompts.cut.ngram, distinct(np.concatenate([prompts.cut.popular, found])))


def _joins(near: Near, links: Links, fewest: int) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """Return the pairs of records with equal texts and with such as ``links`` join, of ``fewest`` shingles or more."""
    is_long = near.lengths >= fewest
    head = np.where(near.of_record < 0, -1, near.first[near.of_record]) if len(near.first) else near.of_record
    equal = np.flatnonzero((head >= 0) & (head != np.arange(len(head))))
    equal = equal[is_long[near.of_record[equal]]]
    links = links.take(is_long[links.left] & is_long[links.right])
    return (
        np.append(head[equal], near.first[links.left]),
        np.append(equal, near.first[links.right]),
        np.append(np.ones(len(equal)), links.scores),
    )


def _spread(near: Near, links: Links) -> tuple[Indices, Indices]:
    """Return the pairs of records that ``links`` make: the first of the left text, and each of the right one."""
    members = np.argsort(near.of_record, kind="stable")
    counts = np.bincount(near.of_record + 1, minlength=len(near.first) + 1)
    sizes = counts[1:][links.right]
    return np.repeat(near.first[links.left], sizes), members[ranges(ends_of(counts)[1:][links.right], sizes)]


def _conflicts(found: _Comparison, order: Indices, is_retained: NDArray[np.bool_]) -> list[AnswerConflict]:
    """Return each record once that asks what an earlier one asks and has another answer.

    Records with equal questions have different answers, else they would be exact repeats. The other pairs ask the same
    word for word and differ in punctuation; with another word they nearly always ask something else.
    """
    ids, first_of, question, position = (
        found.repetition.ids,
        found.repetition.first_of,
        found.question,
        np.argsort(order),
    )
    # Of one content the most preferred record speaks for all, and for nothing where none of them stays.
    speaker = np.full(len(ids), -1)
    retained = order[is_retained[order]][::-1]
    speaker[first_of[retained]] = retained
    asking = np.flatnonzero((question >= 0) & (speaker >= 0))
    asking = asking[np.lexsort((position[speaker[asking]], question[asking]))]
    heads = is_head(question[asking])
    preferred = asking[heads][np.cumsum(heads) - 1]
    pairs = np.concatenate([np.stack([preferred, asking])[:, ~heads], found.punctuated], axis=1)
    is_punctuated = np.arange(pairs.shape[1]) >= int((~heads).sum())
    is_open = (speaker[pairs] >= 0).all(axis=0)
    first, second = np.sort(position[speaker[pairs[:, is_open]]], axis=0)
    # The first with the very same question, else the first that asks it with other punctuation.
    ranked = np.lexsort((first, is_punctuated[is_open], second))
    ranked = ranked[is_head(second[ranked])]
    return [
        AnswerConflict(ids[later], ids[earlier], 1.0, "prompt")
        for earlier, later in zip(order[first[ranked]].tolist(), order[second[ranked]].tolist(), strict=True)
    ]


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
    records: Sequence[Record], settings: DedupeSettings, *, order: Sequence[int] | None = None
) -> Duplicates:
    """Find exact and near duplicates, conflicts and clusters among ``records``.

    Of an exact group and of a near pair the first in ``order`` is kept, rows of ``records`` as `preference_of` returns
    them (None: as they come). A record is a duplicate only of a record that is itself kept, so nothing goes because of
    something that is gone. What is compared does not depend on the order.

    Raises:
        CurateError: E910 when two records have the same id, because the result could not say which is meant.
    """
    seen: dict[str, Record] = {}
    for record in records:
        if (first := seen.setdefault(record.id, record)) is not record:
            here, there = record.source, first.source
            raise CurateError(
                "E910 repeated-id",
                f"{here.file}:{here.line}: the id {record.id!r} is also that of {there.file}:{there.line}",
                "Give each record its own id, or leave ids out; see `curate rule S104`.",
            )
    return find(gather(records), method_of(settings), order=None if order is None else np.array(order, np.int64))
