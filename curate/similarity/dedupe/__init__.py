"""Which records repeat one another: exact groups, near pairs with their score, conflicts, and clusters.

Exact means the same normalised content, whatever the ids and metadata; `curate.schema.parts` says what that is, for
validation too. Near is decided by the Jaccard similarity of shingles, which are sets of neighbouring words (characters
in scripts without blanks). Candidates are alike in the prompt or as a whole, and are then held against one another part
by part (`curate.similarity.dedupe.pairs`), since what two records share may be a passage or an instruction and not the
question. A near *duplicate* is alike as a whole, in each part of its prompt, and in its completion, so dropping it
loses nothing. The same question with another completion is a *conflict*: it is shown and never dropped. A *cluster*
joins what asks alike or gives the same long answer, and is what a split must not tear apart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from curate.base.record import CurateError, Record, Source
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe.results import AnswerConflict, Duplicate, Duplicates, Keep, Method, method_of

if TYPE_CHECKING:
    from curate.similarity.dedupe.corpus import Corpus
    from curate.similarity.dedupe.near import Watch
    from curate.similarity.dedupe.stages import Stages


def preference(
    records: Sequence[Record], keep: Keep, pinned: Collection[str] = (), wanted: Collection[str] = ()
) -> list[int]:
    """Return the rows of ``records`` in the order in which they are to be kept: ``pinned`` first.

    Next come ``wanted`` ones, which stay anyhow and so put no pinned one out, where it is certain that they go into the
    next dataset: they are pinned, or say their split themselves. Within each rank the first or the longest comes first.
    An export of this order pins what it retains, and the order of that then retains the same.
    """
    is_longest = keep == "longest"

    def rank(record: Record) -> int:
        is_pinned = record.id in pinned
        if record.id in wanted:
            return 1 if is_pinned or record.split else 2
        return 0 if is_pinned else 2

    keys = [(rank(record), -_size(record) if is_longest else 0) for record in records]
    return sorted(range(len(records)), key=keys.__getitem__)


def find_duplicates(
    records: Sequence[Record],
    settings: DedupeSettings,
    *,
    order: Sequence[int] | None = None,
    wanted: Collection[str] = (),
    is_compiled: bool | None = None,
    stages: Stages | None = None,
    watch: Watch | None = None,
) -> Duplicates:
    """Find exact and near duplicates, conflicts and clusters among ``records``.

    Of an exact group and of a near pair the first in ``order`` is kept, rows of ``records`` as `preference` returns
    them (None: as they come), and ``wanted`` ids in any case. A record is a duplicate only of a record that is itself
    kept, so nothing goes because of something that is gone. What is compared, and what finished stages are good for,
    does not depend on the order. ``is_compiled`` None uses the
    compiled loops where numba is installed and the data is large enough to repay loading. Stages that are finished are
    kept where ``stages`` says, and ``watch`` is told how far it has come.

    Raises:
        CurateError: E910 when two records have the same id, because the result could not say which is meant.
    """
    # numpy is loaded only by commands that compare.
    import numpy as np

    from curate.similarity.dedupe.corpus import corpora, digest_of
    from curate.similarity.dedupe.find import find
    from curate.similarity.dedupe.kernels import NUMPY, kernels_for
    from curate.similarity.dedupe.stages import Stages

    refuse_repeated_ids([record.id for record in records], lambda row: records[row].source)
    kernels = kernels_for(sum(map(_size, records)), is_compiled)
    watch, stages = watch or _unwatched, stages or Stages()
    about = (kernels is NUMPY, digest_of(records)) if stages.folder else ()
    total = len(records)
    corpus, _ = stages.corpus(
        about, lambda: corpora(records, kernels.clean, lambda done: watch("reading", done, total))
    )
    rows = None if order is None else np.array(order, np.int64)
    return find(corpus, method_of(settings), kernels, stages, watch, rows, wanted)


def find_in_stream(
    source: Callable[[], Iterable[Record]],
    about: tuple[object, ...],
    num_bytes: int,
    settings: DedupeSettings,
    *,
    stages: Stages,
    watch: Watch | None = None,
    known: Callable[[], dict[str, Any]] = dict,
) -> tuple[Corpus, Duplicates, dict[str, Any]]:
    """Compare records that come one at a time and are not kept: of a million the texts alone would be a gigabyte.

    ``source`` gives the records, with different ids; it is not called where ``stages`` holds what an earlier call has
    read of the same ``about``. ``num_bytes`` is about the size of it all. ``known`` is asked, when all is read, what
    else is to be known; that is returned with the corpus, in which the records have their order, and what was found.
    """
    # numpy is loaded only by commands that compare.
    from curate.similarity.dedupe.corpus import corpora
    from curate.similarity.dedupe.find import find
    from curate.similarity.dedupe.kernels import NUMPY, kernels_for

    kernels = kernels_for(num_bytes, None)
    report = watch or _unwatched
    corpus, also = stages.corpus(
        (*about, kernels is NUMPY),
        lambda: corpora(source(), kernels.clean, lambda done: report("reading", done, 0)),
        known,
    )
    return corpus, find(corpus, method_of(settings), kernels, stages, report), also


def _unwatched(_stage: str, _done: int, _total: int) -> None:
    """Take no notice."""


def refuse_repeated_ids(ids: Sequence[str], source: Callable[[int], Source]) -> None:
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


__all__ = [
    "AnswerConflict",
    "Duplicate",
    "Duplicates",
    "Keep",
    "Method",
    "find_duplicates",
    "find_in_stream",
    "method_of",
    "preference",
    "refuse_repeated_ids",
]
