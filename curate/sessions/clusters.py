"""The clusters of a workspace as people review them, those that leak first, and how two of their records compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from curate.base.record import SPLITS, CurateError, Json, Record, Split, canonical
from curate.base.tables import counted
from curate.jsonl import pointer_of
from curate.project.data import ProjectData
from curate.project.diff import FieldChange, field_changes
from curate.project.diff.words import Side, sides_of
from curate.project.diff.words import text_of as value_text
from curate.project.repeats import WorkspaceRepeats, find_repeats
from curate.schema import Shape
from curate.schema.settings import DedupeSettings
from curate.schema.view import REASONING, spoken_turns, text_of
from curate.similarity.dedupe import Method
from curate.similarity.dedupe.results import Standing, TiedRecord

if TYPE_CHECKING:
    from curate.similarity.dedupe import Watch

Kind = Literal["exact", "near", "conflict", "alike"]
KINDS: tuple[Kind, ...] = ("exact", "near", "conflict", "alike")
_STANDINGS: tuple[Standing, ...] = ("first", *KINDS)
_MAX_CHARACTERS = 4_000  # Characters of a message that are shown whole; longer ones are cut to what differs.
_MAX_MESSAGES = 50
_MAX_FIELD = 400  # Characters of a field that are looked at for a line about it.


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A record of a cluster: where it is, and what ties it to the others.

    ``split`` is that of the last dataset, else its own; None before it has one. ``family`` is the record that it
    repeats, or itself: records that repeat the same one say the same. ``above`` is the record that it is most like,
    with likeness ``score``; the first one of a cluster has none.
    """

    record: Record
    split: Split | None
    state: Standing
    family: str
    above: str = ""
    score: float = 1.0
    is_wanted: bool = False

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id


@dataclass(frozen=True)
class ReviewCluster:
    """Two or more records that repeat one another in some way; the one to keep by preference is the first."""

    name: str
    members: tuple[ClusterMember, ...]

    @cached_property
    def kind(self) -> Kind:
        """The loosest of repeats if any repeats another, else conflict, else alike."""
        states = {member.state for member in self.members}
        return next((kind for kind in ("near", *KINDS) if kind in states), "alike")

    @cached_property
    def score(self) -> float:
        """The lowest likeness by which a member hangs on another."""
        return min(member.score for member in self.members[1:])

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """The splits that its records are in."""
        in_use = {member.split for member in self.members}
        return tuple(name for name in SPLITS if name in in_use)

    @property
    def is_leak(self) -> bool:
        """Whether its records are in more than one split."""
        return len(self.splits) > 1

    @property
    def is_left(self) -> bool:
        """Whether somebody wants all of its records as they are."""
        return all(member.is_wanted for member in self.members)

    def count(self, state: Standing) -> int:
        """Return how many of its records are so to the others."""
        return sum(member.state == state for member in self.members)

    def member(self, name: str) -> ClusterMember:
        """Return the record called ``name``.

        Raises:
            CurateError: E916 when it is not in the cluster.
        """
        for member in self.members:
            if member.id == name:
                return member
        raise CurateError("E916 unknown-record", f"{name!r} is not in the cluster of {self.name!r}")

    def relatives(self, name: str) -> list[str]:
        """Return the records that say the same as ``name``, itself included, in order."""
        family = self.member(name).family
        return [member.id for member in self.members if member.family == family]

    def nearest(self, name: str) -> str:
        """Return the record that ``name`` is most like; for the first of the cluster, the nearest of the others."""
        below = [member for member in self.members if member.above == name]
        return self.member(name).above or max(below, key=lambda other: other.score).id

    @cached_property
    def shape(self) -> tuple[object, ...]:
        """What clusters have in common for which one decision may hold: ties, likeness in tenths, splits."""
        parts = Counter((member.state, member.split or "") for member in self.members)
        return self._tenths, *sorted(parts.items())

    @property
    def shape_text(self) -> str:
        """The shape in words, such as "near 0.9, 1 train + 1 test"."""
        counts: Counter[str] = Counter(member.split or "no split" for member in self.members)
        parts = " + ".join(f"{counts[name]:,} {name}" for name in (*SPLITS, "no split") if counts[name])
        return f"{self.kind} {self._tenths / 10:.1f}, {parts}"

    @property
    def _tenths(self) -> int:
        # A likeness of 0.7 may be a hair below it as a float.
        return int(self.score * 10 + 1e-9)

    def roles(self) -> list[str]:
        """Return the records in an order in which those of clusters of one shape match: split, tie, preference."""
        splits = [*SPLITS, None]
        order = sorted(self.members, key=lambda member: (splits.index(member.split), _STANDINGS.index(member.state)))
        return [member.id for member in order]


@dataclass(frozen=True)
class Clusters:
    """The clusters of a workspace, those that leak first, then exact, near, conflicts, and what is alike otherwise.

    ``left`` are those that somebody has decided to leave as they are; they are not among ``open``.
    """

    open: list[ReviewCluster]
    left: list[ReviewCluster]
    method: Method
    settings: DedupeSettings
    num_records: int

    @cached_property
    def by_name(self) -> dict[str, ReviewCluster]:
        """All clusters, by name."""
        return {cluster.name: cluster for cluster in (*self.open, *self.left)}

    @cached_property
    def _by_record(self) -> dict[str, ReviewCluster]:
        return {member.id: cluster for cluster in self.by_name.values() for member in cluster.members}

    def of_record(self, name: str) -> ReviewCluster | None:
        """Return the cluster that a record is in, None where it repeats nothing."""
        return self._by_record.get(name)

    @property
    def num_leaks(self) -> int:
        """How many open clusters are in more than one split."""
        return sum(cluster.is_leak for cluster in self.open)


def find_clusters(data: ProjectData, watch: Watch | None = None) -> Clusters:
    """Compare the records of ``data`` and return its clusters; long for large ones, and ``watch`` hears how far.

    Raises:
        CurateError: E910 when two records have the same id; E911 when the last dataset was changed.
    """
    repeats = find_repeats(data, watch=watch)
    duplicates = repeats.duplicates
    grouped, families = duplicates.members(), {pair.record: pair.keeper for pair in duplicates.pairs}
    names = {member.name for members in grouped for member in members}
    records = {record.id: record for record in repeats.records.where(names.__contains__)}
    clusters = [
        ReviewCluster(duplicates.clusters[members[0].name], tuple(_members(members, records, families, repeats)))
        for members in grouped
    ]
    order = {name: number for number, name in enumerate(repeats.records.ids)}
    # A leak makes a score worthless, and an exact copy needs no thought: what costs most comes first.
    clusters.sort(key=lambda item: (not item.is_leak, KINDS.index(item.kind), -item.score, order[item.members[0].id]))
    opened = [cluster for cluster in clusters if not cluster.is_left]
    left = [cluster for cluster in clusters if cluster.is_left]
    return Clusters(opened, left, duplicates.method, data.settings.dedupe, duplicates.num_records)


def _members(
    members: Iterable[TiedRecord], records: Mapping[str, Record], families: Mapping[str, str], repeats: WorkspaceRepeats
) -> Iterator[ClusterMember]:
    for name, above, score, _, standing in members:
        record = records[name]
        split = repeats.pins.get(name) or record.split
        yield ClusterMember(record, split, standing, families.get(name, name), above, score, name in repeats.wanted)


# Two records beside one another.


@dataclass(frozen=True, slots=True)
class TextPair:
    """One text of both records, such as a user's message, each with the words that the other has not."""

    name: str
    left: Side
    right: Side

    @property
    def is_same(self) -> bool:
        """Whether neither side has a word of its own."""
        return not any(mark == "changed" for mark, _ in (*self.left, *self.right))


@dataclass(frozen=True, slots=True)
class Differing:
    """A field that differs: its pointer, and of each side the words that the other has not; None where it is missing.

    Values that are no texts are whole, as JSON.
    """

    pointer: str
    left: str | None
    right: str | None


@dataclass(frozen=True, slots=True)
class RecordComparison:
    """How two records compare.

    ``changes`` are the fields of their lines that differ, ids left out; ``num_fields`` counts the fields of both.
    ``num_omitted`` messages beyond the first fifty are not in ``parts``.
    """

    parts: Sequence[TextPair]
    changes: Sequence[Differing]
    num_fields: int
    num_omitted: int

    @property
    def num_differing(self) -> int:
        """How many fields differ."""
        return len(self.changes)


def compare_records(left: Record, right: Record, shape: Shape) -> RecordComparison:
    """Compare two records of one shape: their messages, or raw texts, in order, and the fields of their lines."""
    ours, theirs = list(_texts(left)), list(_texts(right))
    count = max(len(ours), len(theirs))
    nothing = ("", "")
    parts = []
    for number in range(min(count, _MAX_MESSAGES)):
        name, text = ours[number] if number < len(ours) else nothing
        other_name, other = theirs[number] if number < len(theirs) else nothing
        title = " / ".join(dict.fromkeys(filter(None, (name, other_name))))
        parts.append(TextPair(title, *sides_of(text, other, _MAX_CHARACTERS)))
    own_id = pointer_of(shape.view.paths["id"]) if shape.view and "id" in shape.view.paths else None
    lines = dict(left.data), dict(right.data)
    changes = [_differing(change) for change in field_changes(*lines) if change.pointer != own_id]
    return RecordComparison(parts, changes, len(changes) + _num_same(*lines), max(0, count - _MAX_MESSAGES))


def _differing(change: FieldChange) -> Differing:
    if isinstance(change.before, str) and isinstance(change.after, str):
        sides = sides_of(change.before, change.after, _MAX_FIELD)
        left, right = (" ... ".join(_visible_words(text) for mark, text in side if mark == "changed") for side in sides)
        return Differing(change.pointer, left, right)
    left, right = (value_text(value)[:_MAX_FIELD] for value in (change.before, change.after))
    return Differing(change.pointer, None if change.is_new else left, None if change.is_gone else right)


def _visible_words(words: str) -> str:
    """Return ``words``, and of blanks alone, which nobody sees, how many there are."""
    return words if words.strip(" ") or not words else counted(len(words), "blank")


def _texts(record: Record) -> Iterator[tuple[str, str]]:
    turns = list(spoken_turns(record))
    yield from (turn for turn in turns if turn[0] != REASONING)
    # Last, so that turns with and without reasoning stay beside one another.
    if traces := [text for who, text in turns if who == REASONING]:
        yield REASONING, "\n\n".join(traces)
    if record.tools:
        yield "tools", "\n".join(text_of(dict(tool)) for tool in record.tools)


def _num_same(left: Json, right: Json) -> int:
    """Return how many of the fields that `field_changes` compares are the same."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return sum(_num_same(left[key], right[key]) for key in left if key in right)
    is_compared_inside = isinstance(left, list) and isinstance(right, list) and 0 < len(left) == len(right)
    if is_compared_inside and all(isinstance(part, dict) for part in (*left, *right)):
        return sum(_num_same(*pair) for pair in zip(left, right, strict=True))
    return int(canonical(left) == canonical(right))
