"""Values changed at one place: each change gives a new value, and what it did not touch is shared with the old one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from curate.record import Json


def at(value: Json, parts: Sequence[str]) -> tuple[Json, bool]:
    """Return what stands at a path, and whether anything does."""
    for part in parts:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None, False
    return value, True


def changed(value: Json, parts: Sequence[str], change: Callable[[Json], Json]) -> Json:
    """Return ``value`` with ``change`` applied to what stands at a path, which is made of objects where it is missing.

    ``change`` is given None where nothing stands there. A list takes one item more at its end.
    """
    if not parts:
        return change(value)
    part, rest = parts[0], parts[1:]
    if isinstance(value, list):
        place = int(part)
        item = value[place] if place < len(value) else None
        return [*value[:place], changed(item, rest, change), *value[place + 1 :]]
    known = value if isinstance(value, dict) else {}
    return {**known, part: changed(known.get(part), rest, change)}


def without(value: Json, parts: Sequence[str]) -> Json:
    """Return ``value`` without what stands at a path; the places after an item of a list move up."""
    *above, last = parts

    def taken_out(holder: Json) -> Json:
        if isinstance(holder, list):
            return [*holder[: int(last)], *holder[int(last) + 1 :]]
        return {key: part for key, part in holder.items() if key != last}

    return changed(value, above, taken_out)
