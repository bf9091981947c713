"""What json.loads leaves open: keys that stand twice, and how deep a value may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

MOST_LEVELS = 64
"""Levels of objects and lists that any value of a dataset or an answer may have."""


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
