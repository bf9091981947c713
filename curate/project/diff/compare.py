"""Two versions of a data set, compared by record id and field; records without an id are known again by their place."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from curate.base.record import Json, strings_of
from curate.jsonl import pointer_of

COUNTS = ("before", "after", "added", "removed", "changed", "moved")
_WORD = re.compile(r"\w+")
# Share of the words of both that both must have, where they have no text of their own in common.
_MIN_LIKENESS = 0.5
# Characters from which a text is one that a record can be known by.
_MIN_CHARS = 12
# How many deleted neighbours an addition is compared with.
_NUM_NEIGHBOURS = 20


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One record of a version: the fields that are compared, and what it is counted under.

    ``split`` is "" where it has none; ``location`` is its file and line. Without an id of its own it is named by its
    content.
    """

    id: str
    value: Mapping[str, Json]
    category: str = ""
    split: str = ""
    location: str = ""
    has_own_id: bool = True


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A place that has another value, a new one, or none any more; the texts of long values are compared by words."""

    pointer: str
    before: Json = None
    after: Json = None
    is_new: bool = False
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class RecordChange:
    """What happened to one record; ``before`` is None for a new one, ``after`` for one that is gone."""

    before: VersionRecord | None
    after: VersionRecord | None
    fields: tuple[FieldChange, ...] = ()

    @property
    def item(self) -> VersionRecord:
        """The record as it now is, or was last."""
        item = self.after or self.before
        assert item is not None, "a change is of some record"
        return item

    @property
    def is_moved(self) -> bool:
        """Whether it is in another split than before."""
        return self.before is not None and self.after is not None and self.before.split != self.after.split

    @property
    def what(self) -> str:
        """One of added, removed, changed and moved; what is changed may have moved as well."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        return "changed" if self.fields else "moved"


@dataclass(slots=True)
class VersionDiff:
    """All changes, in the order of the new version, what is gone last; and numbers of records by category."""

    changes: list[RecordChange] = field(default_factory=list)
    num_before: int = 0
    num_after: int = 0
    categories: dict[str, dict[str, int]] = field(default_factory=dict)
    """By category, the six `COUNTS`; a record that is changed and moved counts under both."""
    waiting: Sequence[str] = ()
    """The records of the new version that wait for approval, by id."""

    @property
    def num_same(self) -> int:
        """Records that are the same in both versions."""
        return self.num_before - sum(change.before is not None for change in self.changes)

    def totals(self) -> dict[str, int]:
        """Return the six counts over all categories.

        A record that changed its category is one of those that changed, under its new one.
        """
        return _summed(self.categories.values())

    def rows(self, limit: int) -> list[tuple[str, dict[str, int]]]:
        """Return ``limit`` categories, those in which the most differs first, the others as one, and all."""
        names = sorted(self.categories, key=lambda name: -sum(self.categories[name][key] for key in COUNTS[2:]))
        rows = [(name or "(none)", self.categories[name]) for name in names[:limit]]
        if others := [self.categories[name] for name in names[limit:]]:
            rows.append((f"others ({len(others):,})", _summed(others)))
        return [*rows, ("all", self.totals())] if len(rows) > 1 else rows


def compare(before: Sequence[VersionRecord], after: Sequence[VersionRecord]) -> VersionDiff:
    """Return how ``after`` differs from ``before``; the ids of each version differ from one another."""
    result = VersionDiff(num_before=len(before), num_after=len(after))
    old = {item.id: item for item in before}
    for item in after:
        _count(result, item, "after")
        was = old.pop(item.id, None)
        if was is None:
            result.changes.append(RecordChange(None, item))
        elif (change := _changed(was, item)) is not None:
            result.changes.append(change)
    result.changes += [RecordChange(item, None) for item in old.values()]
    for item in before:
        _count(result, item, "before")
    for change in result.changes:
        if change.is_moved:
            _count(result, change.item, "moved")
        if change.what != "moved":
            _count(result, change.item, change.what)
    result.categories = dict(sorted(result.categories.items()))
    return result


def field_changes(before: Json, after: Json, path: tuple[str | int, ...] = ()) -> Iterator[FieldChange]:
    """Yield the places at which two values differ: in objects by key, in lists of as many objects one by one."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            pointer = pointer_of((*path, key))
            if key not in before:
                yield FieldChange(pointer, after=after[key], is_new=True)
            elif key not in after:
                yield FieldChange(pointer, before=before[key], is_gone=True)
            else:
                yield from field_changes(before[key], after[key], (*path, key))
    elif _is_object_list(before) and _is_object_list(after) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from field_changes(old, new, (*path, number))
    elif _spelled(before) != _spelled(after):
        yield FieldChange(pointer_of(path), before, after)


def _changed(before: VersionRecord, after: VersionRecord) -> RecordChange | None:
    fields: Iterable[FieldChange] = ()
    if _spelled(before.value) != _spelled(after.value):
        fields = field_changes(before.value, after.value)
    change = RecordChange(before, after, tuple(fields))
    if not change.is_moved:
        return change if change.fields else None
    # The field that says the split has been told by then.
    split_change = (before.split or None, after.split or None)
    return RecordChange(
        before, after, tuple(field for field in change.fields if (field.before, field.after) != split_change)
    )


def _summed(parts: Collection[dict[str, int]]) -> dict[str, int]:
    return {name: sum(counts[name] for counts in parts) for name in COUNTS}


def _count(result: VersionDiff, item: VersionRecord, what: str) -> None:
    result.categories.setdefault(item.category, dict.fromkeys(COUNTS, 0))[what] += 1


def _is_object_list(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _spelled(value: Json) -> bytes:
    """Return bytes that are equal for equal values; 1, 1.0 and true are three values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def document(difference: VersionDiff, before: str, after: str, *, show_values: bool = True) -> dict[str, Json]:
    """Return everything that differs as one JSON object; ``before`` and ``after`` are the names of the versions."""
    return {
        "version": 1,
        "before": {"name": before, "records": difference.num_before},
        "after": {"name": after, "records": difference.num_after},
        "same": difference.num_same,
        "categories": difference.categories,
        "changes": [_change(change, show_values=show_values) for change in difference.changes],
    }


def _change(change: RecordChange, *, show_values: bool) -> dict[str, Json]:
    document: dict[str, Json] = {
        "id": change.item.id,
        "what": change.what,
        "before": _item(change.before),
        "after": _item(change.after),
        "fields": [_field(field, show_values=show_values) for field in change.fields],
    }
    if show_values and (change.before is None or change.after is None):
        document["value"] = dict(change.item.value)
    return document


def _item(item: VersionRecord | None) -> Json:
    return None if item is None else {"category": item.category, "split": item.split or None, "place": item.location}


def _field(change: FieldChange, *, show_values: bool) -> dict[str, Json]:
    what = "added" if change.is_new else "removed" if change.is_gone else "changed"
    document: dict[str, Json] = {"pointer": change.pointer, "what": what}
    if show_values and not change.is_new:
        document["before"] = change.before
    if show_values and not change.is_gone:
        document["after"] = change.after
    return document


def recognise(base: Mapping[str, bytes], side: Mapping[str, bytes], named: Container[str]) -> dict[str, str]:
    """Return which records of ``side`` are edits of which in ``base``, both lines by name; those ``named`` are not."""
    # An edit is what stands in the place of a record that is gone, between the same neighbours, and resembles it.
    gaps = [(gone, come) for gone, come in _gaps(base, side, named) if gone]
    if not gaps:
        return {}
    known = Counter(text for raw in base.values() for text in _texts(raw) if len(text) >= _MIN_CHARS)
    return {new: old for gone, come in gaps for new, old in _pairs(gone, come, base, side, known)}


def _gaps(
    base: Mapping[str, bytes], side: Mapping[str, bytes], named: Container[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield what nameless records are gone and have come between each two neighbours that are still in order."""
    names = list(base)
    positions = {name: position for position, name in enumerate(names)}
    shared = [positions[name] for name in side if name in positions]
    # All but those that were moved.
    neighbours = {shared[index] for index in longest_rise(shared)}
    last = -1
    come: list[str] = []
    for name, position in [*((name, positions.get(name, -1)) for name in side), ("", len(names))]:
        if position < 0 and name not in named:
            come.append(name)
        if position in neighbours or position == len(names):
            if come:
                yield (
                    [skipped for skipped in names[last + 1 : position] if skipped not in side and skipped not in named],
                    come,
                )
                come = []
            last = position


def longest_rise(values: Sequence[int]) -> list[int]:
    """Return the indices of the longest rising run of ``values``, neighbours or not."""
    # By patience sorting (Fredman, On computing the length of longest increasing subsequences, 1975).
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for index, value in enumerate(values):
        pile = bisect_left(ends, value)
        before.append(last[pile - 1] if pile else -1)
        ends[pile : pile + 1] = [value]
        last[pile : pile + 1] = [index]
    run = []
    index = last[-1] if last else -1
    while index >= 0:
        run.append(index)
        index = before[index]
    return run[::-1]


def _pairs(
    gone: list[str], come: list[str], base: Mapping[str, bytes], side: Mapping[str, bytes], known: Counter[str]
) -> Iterator[tuple[str, str]]:
    texts = {name: _texts(base[name]) for name in gone}
    for new in come:
        own = _texts(side[new])
        scores = [_likeness(own, texts[old], known) for old in gone[:_NUM_NEIGHBOURS]]
        best = max(scores, default=0.0)
        if best >= _MIN_LIKENESS:
            index = scores.index(best)
            yield new, gone[index]
            # In order, as edits leave it: what was passed over was deleted.
            del gone[: index + 1]


def _likeness(own: set[str], theirs: set[str], known: Counter[str]) -> float:
    """Return the share of common words (Jaccard), and 1 more for a long text that no other record of the base has."""
    words, others = ({word for text in texts for word in _WORD.findall(text)} for texts in (own, theirs))
    shared = len(words & others) / max(1, len(words | others))
    return shared + any(len(text) >= _MIN_CHARS and known[text] == 1 for text in own & theirs)


def _texts(raw: bytes) -> set[str]:
    return set(strings_of(orjson.loads(raw)))
