"""Two versions of a data set, compared by record id and field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import orjson

from curate.base.record import Json
from curate.jsonl import pointer_of

COUNTS = ("before", "after", "added", "removed", "changed", "moved")


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One record of a version: the fields that are compared, and what it is counted under.

    ``split`` is "" where it has none; ``location`` is its file and line. Without an id of its own it is named by its
    content, and so is another one once it is edited.
    """

    id: str
    value: Mapping[str, Json]
    category: str = ""
    split: str = ""
    location: str = ""


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
        """Return the six counts over all categories; a record whose category changed counts under its new one."""
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
    old = {item.id: item for item in before}
    changes = [change for item in after if (change := _change_of(old.pop(item.id, None), item))]
    changes += [RecordChange(item, None) for item in old.values()]
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    counted = [("before", item) for item in before] + [("after", item) for item in after]
    counted += [(change.what, change.item) for change in changes]
    counted += [("moved", change.item) for change in changes if change.is_moved and change.fields]
    for what, item in counted:
        counts[item.category][what] += 1
    return VersionDiff(changes, len(before), len(after), dict(sorted(counts.items())))


def field_changes(before: Json, after: Json, path: tuple[str | int, ...] = ()) -> Iterator[FieldChange]:
    """Yield the places at which two values differ: in objects by key, in lists of objects item by item.

    What is gone has the place that it had before.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            pointer = pointer_of((*path, key))
            if key not in before:
                yield FieldChange(pointer, after=after[key], is_new=True)
            elif key not in after:
                yield FieldChange(pointer, before=before[key], is_gone=True)
            else:
                yield from field_changes(before[key], after[key], (*path, key))
    elif _is_object_list(before) and _is_object_list(after):
        old_items, new_items = ([_spelled(item) for item in items] for items in (before, after))
        for _, a, b, c, d in SequenceMatcher(None, old_items, new_items, autojunk=False).get_opcodes():
            for old, new in zip(range(a, b), range(c, d), strict=False):
                yield from field_changes(before[old], after[new], (*path, new))
            for number in range(a + d - c, b):
                yield FieldChange(pointer_of((*path, number)), before=before[number], is_gone=True)
            for number in range(c + b - a, d):
                yield FieldChange(pointer_of((*path, number)), after=after[number], is_new=True)
    elif _spelled(before) != _spelled(after):
        yield FieldChange(pointer_of(path), before, after)


def _change_of(before: VersionRecord | None, after: VersionRecord) -> RecordChange | None:
    if before is None:
        return RecordChange(None, after)
    # A move is told by itself: the field that says the split is none of the changes then.
    splits = (before.split or None, after.split or None)
    is_moved = before.split != after.split
    fields = () if _spelled(before.value) == _spelled(after.value) else field_changes(before.value, after.value)
    told = tuple(field for field in fields if not is_moved or (field.before, field.after) != splits)
    return RecordChange(before, after, told) if told or is_moved else None


def _summed(parts: Collection[dict[str, int]]) -> dict[str, int]:
    return {name: sum(counts[name] for counts in parts) for name in COUNTS}


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
