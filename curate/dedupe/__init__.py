"""Which records repeat one another: exact groups, near pairs with their score, conflicts, and clusters.

Exact means the same normalised content, whatever the ids and metadata. Near is decided by the Jaccard similarity of
shingles, which are sets of neighbouring words (characters in scripts without blanks), on three texts: the prompt, the
completion and the whole record. A near *duplicate* is alike as a whole, in its prompt, and in its completion, so
dropping it loses nothing. Alike in the whole or the prompt with another completion is a *conflict*: it is shown and
never dropped. A *cluster* joins everything that is alike in any way, and is what a split must not tear apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from curate.dedupe.components import Components
from curate.dedupe.text import Column, Field, column, exact_key
from curate.record import CurateError, Record
from curate.settings import DedupeSettings

if TYPE_CHECKING:
    from curate.dedupe.near import Near

Keep = Literal["first", "longest"]

LONG_COMPLETION = 20
"""Fewest shingles from which a completion alone is telling; short answers are alike by chance."""


@dataclass(frozen=True, slots=True)
class Method:
    """How near duplicates are measured: shingles of ``ngram`` words or characters, alike from ``threshold`` on."""

    unit: Literal["word", "character"]
    ngram: int
    threshold: float

    @property
    def edit_rate(self) -> float:
        """The largest share of evenly changed words (or characters) at which a copy is still seen.

        A shingle survives with probability p = (1 - e)**n, and J is about p / (2 - p).
        """
        survival = 2 * self.threshold / (1 + self.threshold)
        return 1 - float(survival ** (1 / self.ngram))


PRESETS = {
    "short": Method("word", 3, 0.7),
    "fineweb": Method("word", 5, 0.75),
    "nemo": Method("character", 24, 0.8),
}


@dataclass(frozen=True, slots=True)
class Duplicate:
    """``record`` repeats ``kept``, which stays; ``score`` is 1 for exact repeats, else the records' similarity."""

    record: str
    kept: str
    score: float
    kind: Literal["exact", "near"]
    field: Field = "record"


@dataclass(frozen=True, slots=True)
class Conflict:
    """``record`` asks what ``other`` asks (similarity ``score`` in ``field``) and is answered otherwise."""

    record: str
    other: str
    score: float
    field: Field


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found among ``num_records`` records, and how closely one looked."""

    pairs: list[Duplicate]
    conflicts: list[Conflict]
    clusters: dict[str, str]
    """Cluster of every record: the smallest id in it."""
    method: Method
    num_records: int
    num_boilerplate: int
    """Different passages left out of the comparison because more than 5 % of the records share them."""
    num_skipped: int
    """Texts of crowded buckets that were not compared to the end; 0 in all but extreme data."""

    @property
    def edit_rate(self) -> float:
        """The largest share of changed words (or characters) that the setting still sees."""
        return self.method.edit_rate

    @property
    def num_exact(self) -> int:
        """Number of records that repeat a kept one exactly."""
        return sum(pair.kind == "exact" for pair in self.pairs)

    @property
    def num_near(self) -> int:
        """Number of records that nearly repeat a kept one."""
        return len(self.pairs) - self.num_exact


def method_of(settings: DedupeSettings) -> Method:
    """Return the preset with the user's own n and threshold put in."""
    preset = PRESETS[settings.preset]
    return Method(preset.unit, settings.ngram or preset.ngram, settings.threshold or preset.threshold)


def preferred(records: Sequence[Record], keep: Keep, pinned: Collection[str] = ()) -> list[Record]:
    """Return ``records`` in the order in which they are to be kept: ``pinned`` ids, then the first or the longest."""
    is_longest = keep == "longest"
    return sorted(records, key=lambda record: (record.id not in pinned, -_size(record) if is_longest else 0))


def find_duplicates(
    records: Sequence[Record], settings: DedupeSettings, *, is_compiled: bool | None = None
) -> Duplicates:
    """Find exact and near duplicates, conflicts and clusters among ``records``.

    Of an exact group and of a near pair the first in order is kept; see `preferred`. A record is a near duplicate only
    of a record that is itself kept, so nothing goes because of something that is gone. ``is_compiled`` None uses the
    compiled loops where numba is installed and the data is large enough to repay loading.

    Raises:
        CurateError: E910 when two records have the same id, because the result could not say which is meant.
    """
    _refuse_repeated_ids(records)
    method = method_of(settings)
    first_of = _exact_groups(records)
    unique = [index for index, first in enumerate(first_of) if first == index]
    pairs = {
        index: Duplicate(records[index].id, records[first].id, 1.0, "exact")
        for index, first in enumerate(first_of)
        if first != index
    }
    near = _compare([records[index] for index in unique], method, is_compiled)
    gone: set[int] = set()
    for left, right, score in sorted(_droppable(near), key=lambda pair: (pair[1], -pair[2], pair[0])):
        if left not in gone and right not in gone:
            gone.add(right)
            record, kept = records[unique[right]], records[unique[left]]
            pairs[unique[right]] = Duplicate(record.id, kept.id, score, "near")
    joined = Components(len(records))
    for index, first in enumerate(first_of):
        joined.join(index, first)
    for one, two in _links(near):
        joined.join(unique[one], unique[two])
    return Duplicates(
        pairs=[pairs[index] for index in sorted(pairs)],
        conflicts=_conflicts([records[index] for index in unique], near, gone),
        clusters=_clusters(records, joined),
        method=method,
        num_records=len(records),
        num_boilerplate=sum(part.num_boilerplate for part in near.values()),
        num_skipped=sum(part.links.num_skipped for part in near.values()),
    )


def _refuse_repeated_ids(records: Sequence[Record]) -> None:
    seen: dict[str, Record] = {}
    for record in records:
        other = seen.setdefault(record.id, record)
        if other is not record:
            raise CurateError(
                "E910 repeated-id",
                f"{record.source.file}:{record.source.line}: the id {record.id!r} is also that of "
                f"{other.source.file}:{other.source.line}",
                "Give each record its own id, or leave ids out; see `curate rule S104`.",
            )


def _exact_groups(records: Sequence[Record]) -> list[int]:
    firsts: dict[bytes, int] = {}
    return [firsts.setdefault(exact_key(record), index) for index, record in enumerate(records)]


def _compare(records: Sequence[Record], method: Method, is_compiled: bool | None) -> dict[Field, Near]:
    # numpy is loaded only by commands that compare.
    from curate.dedupe.near import Near, kernels_for

    by_character = method.unit == "character"
    kernels = kernels_for(sum(map(_size, records)), is_compiled)
    fields: tuple[Field, ...] = ("record", "prompt", "completion")
    return {
        field: Near.of(
            column(records, field, by_character=by_character), method.ngram, method.threshold, by_character, kernels
        )
        for field in fields
    }


def _droppable(near: dict[Field, Near]) -> list[tuple[int, int, float]]:
    """Return (kept, dropped, score) of the pairs that are alike as a whole, in the prompt and in the completion."""
    whole = near["record"]
    pairs = [(left, right, score) for left, right, score in whole.record_pairs() if left < right]
    prompts = near["prompt"].alike([pair[:2] for pair in pairs])
    answers = near["completion"].alike([pair[:2] for pair in pairs])
    return [pair for pair, asks, answered in zip(pairs, prompts, answers, strict=True) if asks and answered]


def _links(near: dict[Field, Near]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of records that belong in one cluster."""
    for field, part in near.items():
        is_telling = part.lengths >= LONG_COMPLETION
        for text, members in enumerate(part.column.members):
            if field != "completion" or is_telling[text]:
                yield from ((members[0], other) for other in members[1:])
        for left, right in zip(part.links.left.tolist(), part.links.right.tolist(), strict=True):
            if field != "completion" or (is_telling[left] and is_telling[right]):
                yield part.column.members[left][0], part.column.members[right][0]


def _conflicts(records: Sequence[Record], near: dict[Field, Near], gone: set[int]) -> list[Conflict]:
    """Return each record once that asks like another and is answered otherwise, with the nearest such other."""
    candidates = [(*pair, "prompt") for pair in near["prompt"].record_pairs(is_with_equals=True)]
    candidates += [(*pair, "record") for pair in near["record"].record_pairs()]
    candidates = [pair for pair in candidates if pair[0] not in gone and pair[1] not in gone]
    answered_alike = near["completion"].alike([(left, right) for left, right, _, _ in candidates])
    best: dict[int, Conflict] = {}
    for (left, right, score, field), is_alike in zip(candidates, answered_alike, strict=True):
        first, second = min(left, right), max(left, right)
        if not is_alike and (second not in best or best[second].score < score):
            name: Field = "prompt" if field == "prompt" else "record"
            best[second] = Conflict(records[second].id, records[first].id, score, name)
    return [best[index] for index in sorted(best)]


def _clusters(records: Sequence[Record], joined: Components) -> dict[str, str]:
    names: dict[int, str] = {}
    for index, record in enumerate(records):
        root = joined.root(index)
        names[root] = min(names.get(root, record.id), record.id)
    return {record.id: names[joined.root(index)] for index, record in enumerate(records)}


def _size(record: Record) -> int:
    return len(record.prompt) + len(record.completion) + len(record.text)


__all__ = [
    "Column",
    "Conflict",
    "Duplicate",
    "Duplicates",
    "Keep",
    "Method",
    "PRESETS",
    "find_duplicates",
    "method_of",
    "preferred",
]
