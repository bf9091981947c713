"""Two versions of a data set, compared by record id and field."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from curate.base.record import Json
from curate.jsonl import pointer_of

COUNTS = ("before", "after", "added", "removed", "changed", "moved")


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
