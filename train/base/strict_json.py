"""Strict JSON: no key twice, no infinite number, no lone half of a character, not nested too deeply."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from train.base.errors import TrainError

MOST_LEVELS = 64
"""Levels of objects and lists that any value of a dataset or an answer may have."""


def parse_object(raw: bytes, location: str) -> dict[str, Any]:
    """Return an object of strict JSON; raises TrainError "E912 bad-dataset" that names ``location``."""
    # JSON without duplicate keys, NaN or lone surrogates: other programs read the first two in another way, and the
    # last is other data after one save.

    def no_constants(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=unique_members, parse_constant=no_constants)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
        if depth(value) > MOST_LEVELS:
            raise ValueError(f"nested deeper than {MOST_LEVELS} levels")
    except (ValueError, RecursionError) as error:
        raise_bad_dataset(location, str(error) or "nested too deeply")
    if not isinstance(value, dict):
        raise_bad_dataset(location, "not an object")
    return dict(value)


def read_text_field(line: bytes, key: str) -> str | None:
    """Return the text that a line has under ``key``, such as the id of a request; None where it has none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    text = value.get(key) if isinstance(value, dict) else None
    return text if isinstance(text, str) and text else None


def unique_members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its members, as ``object_pairs_hook``; raises ValueError where a key stands twice."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return members


def levels(value: Any) -> Iterator[list[Any]]:
    """Yield a JSON value level by level, without recursion: the value itself, then its members, then theirs."""
    level = [value]
    while level:
        yield level
        holders = [node for node in level if isinstance(node, dict | list)]
        level = [inner for node in holders for inner in (node.values() if isinstance(node, dict) else node)]


def depth(value: Any) -> int:
    """Return how many levels of a value hold an object or a list; 0 for a text or a number."""
    return sum(any(isinstance(node, dict | list) for node in level) for level in levels(value))


def raise_bad_dataset(location: str, fault: str) -> NoReturn:
    """Raise TrainError "E912 bad-dataset" about the line ``location``."""
    hint = (
        "Fix this line; where `curate export` wrote it, fix its record and export again. "
        "Raw data first goes through `curate init`."
    )
    raise TrainError("E912 bad-dataset", f"{location}: {fault}", hint)
