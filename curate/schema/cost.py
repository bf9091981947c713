"""How much work a schema can ask for: the number of times that parts of it look at one value and what it holds.

References make a small schema large: thirty definitions that each refer twice to the next are a thousand million paths.
The engine follows every one of them, so that they are counted before it is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from curate.base.record import Json

Node = dict[str, Json]
SameValue = Callable[[Node], Iterator[Node]]
"""Gives the subschemas that look at the same value, each as often as it is named."""
Inner = Callable[[Node], Iterator[tuple[str, Node]]]
"""Gives the subschemas that look at a part of the value, with the key of that part ("*" where it can be any)."""

MOST_PATHS = 20_000
LEAST_DEPTH = 4
"""A schema that cannot look this deep within `MOST_PATHS` is refused."""
MAX_DEPTH = 64


def affordable_depth(root: Json, same_value: SameValue, inner: Inner) -> int:
    """Return how many levels of a value ``root`` can be asked about within `MOST_PATHS`, at most `MAX_DEPTH`.

    No reference of the schema comes back to itself at the same value. The worst value is assumed: at each level the key
    that most of the schema looks at.
    """
    if not isinstance(root, dict):
        return MAX_DEPTH
    totals, steps = _levels(root, same_value, inner)
    paths = dict(totals)
    for depth in range(MAX_DEPTH + 1):
        if paths[id(root)] > MOST_PATHS:
            return depth - 1
        paths = {
            node: total + max(sum(times * paths[below] for below, times in ways.items()) for ways in steps[node])
            for node, total in totals.items()
        }
    return MAX_DEPTH


def _levels(root: Node, same_value: SameValue, inner: Inner) -> tuple[dict[int, int], dict[int, list[Counter[int]]]]:
    """Return, for each schema that a value of its own reaches, its paths at that value and, by key, its ways down."""
    totals: dict[int, int] = {}
    steps: dict[int, list[Counter[int]]] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in totals:
            continue
        times = _times(node, same_value)
        totals[id(node)] = sum(number for _, number in times)
        by_key: dict[str, Counter[int]] = {"*": Counter()}
        for part, number in times:
            for key, below in inner(part):
                by_key.setdefault(key, Counter())[id(below)] += number
                waiting.append(below)
        anywhere = by_key.pop("*")
        steps[id(node)] = [anywhere, *(ways + anywhere for ways in by_key.values())]
    return totals, steps


def _times(start: Node, same_value: SameValue) -> list[tuple[Node, int]]:
    """Return the schemas that look at the same value as ``start``, each with the number of ways that lead to it."""
    order: list[Node] = []
    visited: set[int] = set()
    stack: list[tuple[Node, bool]] = [(start, False)]
    while stack:
        node, is_left = stack.pop()
        if is_left:
            order.append(node)
        elif id(node) not in visited:
            visited.add(id(node))
            stack.append((node, True))
            stack.extend((part, False) for part in same_value(node))
    times = Counter({id(start): 1})
    for node in reversed(order):
        for part in same_value(node):
            times[id(part)] += times[id(node)]
    return [(node, times[id(node)]) for node in order]


def depth_of(value: Json) -> int:
    """Return how many levels of objects and lists a value has; 0 for a text, a number, true, false and null."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [part for node in level for part in (node.values() if isinstance(node, dict) else node)]
    return depth
