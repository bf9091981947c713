"""Three versions of one value, as they are spelled, to one; to two where both sides gave one place a new value."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from curate.merge.members import Members, interleaved, is_object, members_of
from curate.record import canonical

Spelled = bytes | None
"""How a value is spelled; None where there is none."""


@dataclass(slots=True)
class Pair:
    """The two versions that are left, the same bytes where nothing is in conflict, and the paths of what is."""

    ours: Spelled
    theirs: Spelled
    conflicts: list[tuple[str, ...]] = field(default_factory=list)


def merge_value(base: Spelled, ours: Spelled, theirs: Spelled, path: tuple[str, ...] = ()) -> Pair:
    """Merge one place of a line: objects by key, all other values (lists too) as a whole.

    A side that says the same as the base has not changed it, in whatever way it is spelled. Versions in conflict differ
    in nothing but the conflict.
    """
    if is_same(ours, theirs) or is_same(base, theirs):
        return Pair(ours, ours)
    if is_same(base, ours):
        return Pair(theirs, theirs)
    if ours is not None and theirs is not None and is_object(ours) and is_object(theirs):
        return _merge_objects(members_of(base) if base and is_object(base) else Members(), ours, theirs, path)
    return Pair(ours, theirs, [path])


def is_same(one: Spelled, other: Spelled) -> bool:
    """Whether two spellings mean the same value; 1 and 1.0 do not."""
    if one == other:
        return True
    if one is None or other is None:
        return False
    return canonical(orjson.loads(one)) == canonical(orjson.loads(other))


def _merge_objects(base: Members, ours: bytes, theirs: bytes, path: tuple[str, ...]) -> Pair:
    own, other = members_of(ours), members_of(theirs)
    left: dict[str, bytes] = {}
    right: dict[str, bytes] = {}
    conflicts: list[tuple[str, ...]] = []
    for key in interleaved(list(own.values), list(other.values), base.values):
        pair = merge_value(base.values.get(key), own.values.get(key), other.values.get(key), (*path, key))
        conflicts += pair.conflicts
        if pair.ours is not None:
            left[key] = pair.ours
        if pair.theirs is not None:
            right[key] = pair.theirs
    if conflicts:
        return Pair(own.spelled(left, other.keys), own.spelled(right, other.keys), conflicts)
    if left == own.values:
        return Pair(ours, ours)
    merged = theirs if left == other.values else own.spelled(left, other.keys)
    return Pair(merged, merged)
