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
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, Indices
from curate.base.record import SPLITS, CurateError, Record, Split
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.corpus import Corpus, gather
from curate.similarity.dedupe.near import NO_LINKS, Alike, Links, compare_texts, firsts
from curate.similarity.dedupe.pairs import LONG_COMPLETION, AlikeRule, Sides, Verdicts, verdicts
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
from curate.similarity.dedupe.shingles import FIELDS, Cut, Field, distinct, is_head, ranges, templates

# Fewest shingles of a text that ties records by itself.
FEWEST: Mapping[Field, int] = {"record": 0, "prompt": 0, "completion": LONG_COMPLETION}
# A passage in more different prompts than this is a template.
MAX_PROMPTS = 5
# Hears which stage a comparison has come to, how much is done, and of how much.
Watch = Callable[[str, int, int], None]


def find(
    corpus: Corpus,
    method: Method,
    *,
    watch: Watch = lambda _stage, _done, _total: None,
    order: Indices | None = None,
    wanted: Collection[str] = (),
) -> Duplicates:
    """Compare the records of ``corpus``.

    ``order`` has their rows, the most preferred first (None: as they come). ``wanted`` records never go.
    """
    return found_by(CorpusSearch(corpus, method, watch), method, order=order, wanted=wanted)


def found_by(
    search: Search, method: Method, *, order: Indices | None = None, wanted: Collection[str] = (), num_untied: int = 0
) -> Duplicates:
    """Return what a ``search`` comes to, beside which ``num_untied`` records have nothing in common with any other."""
    found = _compare(search, method)
    order = np.arange(len(search.ids)) if order is None else order
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
        num_untied,
    )


class Search(Protocol):
    """Where the texts of N records are compared: all that the rest has to know of them."""

    ids: Sequence[str]
    first_of: Indices
    """[N] The first record of the same content, which stands for all of them."""

    def alike(self) -> Mapping[Field, Alike]:
        """Return what is alike in each field of those first records."""

    def templates(self, rows: Indices, cut: Cut) -> Hashes:
        """Return the passages in the prompts of ``rows`` that stand in more than `MAX_PROMPTS` prompts."""

    def judge(self, left: Indices, right: Indices, rule: AlikeRule) -> Verdicts:
        """Return what the records ``left[i]`` and ``right[i]`` have in common."""


class _Comparison(NamedTuple):
    """What does not depend on preference; ``question`` has the number of what each record asks, [N], and
    ``punctuated`` pairs of rows that ask the same with other punctuation, [2, P]."""

    repetition: Repetition
    edges: Edges
    question: Indices
    punctuated: Indices
    num_boilerplate: int
    num_skipped: int


def _compare(search: Search, method: Method) -> _Comparison:
    """Find repeats, ties, and which records ask the same."""
    first_of, alike = search.first_of, search.alike()
    prompts = alike["prompt"]
    # Templates are looked for in the prompts of what is like anything else.
    linked = prompts.heads[np.concatenate([alike[name].links[side] for name in FIELDS[:2] for side in (0, 1)])]
    found = search.templates(distinct(linked[linked >= 0]), prompts.cut)
    rule = AlikeRule(method.threshold, prompts.cut.without(found), alike["completion"].cut)
    # Records with the very same text of a field have the very same prompt and form, so that the first speaks for all.
    # Links between records that ask different things are left out, whatever passage or answer they share.
    links: dict[str, Links] = {name: alike[name].links for name in FIELDS}
    same: dict[str, Links] = {}
    for name in FIELDS[:2]:
        verdict = search.judge(links[name].left, links[name].right, rule)
        same[name] = links[name].take(verdict.is_repeat if name == "record" else verdict.asks_same)
        links[name] = links[name].take(verdict.asks_alike)
    heads = {"exact": first_of} | {name: part.heads for name, part in alike.items()}
    parts = []
    for tie, head in heads.items():
        equal = np.flatnonzero((head >= 0) & (head != np.arange(len(head))))
        left, right, scores = links.get(tie, NO_LINKS)
        sides = np.append(head[equal], left), np.append(equal, right)
        parts.append(Edges(*sides, np.append(np.ones(len(equal)), scores), np.full(len(sides[0]), TIES.index(tie))))
    here, there = _spread(prompts.heads, same["prompt"])
    is_other = ~search.judge(here, there, rule).answers_alike
    return _Comparison(
        Repetition(search.ids, first_of, *same["record"]),
        Edges(*(np.concatenate(side) for side in zip(*parts, strict=True))),
        prompts.heads,
        np.stack([here, there])[:, is_other],
        sum(len(part.cut.popular) for part in alike.values()),
        sum(part.num_skipped for part in alike.values()),
    )


class CorpusSearch:
    """A search of the records of ``corpus``, by this process."""

    def __init__(self, corpus: Corpus, method: Method, watch: Watch) -> None:
        self.ids, self.first_of = corpus.ids, firsts(corpus.columns.exact)
        self._corpus, self._method, self._watch = corpus, method, watch

    def alike(self) -> Mapping[Field, Alike]:
        """Return what is alike in each field of the first records of each content."""
        alike, is_first = {}, self.first_of == np.arange(len(self.ids))
        for done, name in enumerate(FIELDS):
            self._watch("comparing texts", done, len(FIELDS))
            texts = self._corpus.spans(name), self._corpus.keys(name)
            alike[name] = compare_texts(*texts, is_first, self._method, FEWEST[name])
        heads = alike["prompt"].heads
        self._prompts = self._corpus.spans("prompt").take(distinct(heads[heads >= 0]))
        return alike

    def templates(self, rows: Indices, cut: Cut) -> Hashes:
        """Return the passages in the prompts of ``rows`` that stand in more than `MAX_PROMPTS` prompts."""
        return templates(self._corpus.spans("prompt").take(rows), self._prompts, cut, MAX_PROMPTS)

    def judge(self, left: Indices, right: Indices, rule: AlikeRule) -> Verdicts:
        """Hold records against one another part by part."""
        return verdicts(Sides.of(self._corpus), left, right, rule)


def _spread(heads: Indices, links: Links) -> tuple[Indices, Indices]:
    """Return the pairs of records that ``links`` make: the left one, and each with the text of the right one."""
    members = np.argsort(heads, kind="stable")
    low, high = (np.searchsorted(heads[members], links.right, side) for side in ("left", "right"))
    return np.repeat(links.left, high - low), members[ranges(low, high - low)]


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
