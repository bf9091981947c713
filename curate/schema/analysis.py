"""What a schema asks of a value: how much work, and what it tells apart in the texts and numbers of a line.

References make a small schema large: thirty definitions that each refer twice to the next are a thousand million paths.
The engine follows every one of them, so that they are counted before it is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from curate.base.record import Json, strings_of

_Node = dict[str, Json]
# Gives the subschemas that look at the same value, each as often as it is named.
_SameValue = Callable[[_Node], Iterator[_Node]]
# Gives the subschemas that look at a part of the value, with the key of that part ("*" where it can be any).
_Inner = Callable[[_Node], Iterator[tuple[str, _Node]]]

_MOST_PATHS = 20_000
# A schema that cannot look this deep within `_MOST_PATHS` is refused.
LEAST_DEPTH = 4
MAX_DEPTH = 64
# Keywords that may look at anything in a value.
_ANYTHING = frozenset({"pattern", "format", "contentEncoding", "contentMediaType", "contentSchema", "multipleOf"})
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_MOST_TEXTS = 200


def affordable_depth(root: Json, same_value: _SameValue, inner: _Inner) -> int:
    """Return how many levels of a value ``root`` can be asked about within `_MOST_PATHS`, at most `MAX_DEPTH`.

    No reference of the schema comes back to itself at the same value. The worst value is assumed: at each level the key
    that most of the schema looks at.
    """
    if not isinstance(root, dict):
        return MAX_DEPTH
    totals, steps = _levels(root, same_value, inner)
    paths = dict(totals)
    for depth in range(MAX_DEPTH + 1):
        if paths[id(root)] > _MOST_PATHS:
            return depth - 1
        paths = {
            node: total + max(sum(times * paths[below] for below, times in ways.items()) for ways in steps[node])
            for node, total in totals.items()
        }
    return MAX_DEPTH


def _levels(root: _Node, same_value: _SameValue, inner: _Inner) -> tuple[dict[int, int], dict[int, list[Counter[int]]]]:
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


def _times(start: _Node, same_value: _SameValue) -> list[tuple[_Node, int]]:
    """Return the schemas that look at the same value as ``start``, each with the number of ways that lead to it."""
    order: list[_Node] = []
    visited: set[int] = set()
    stack: list[tuple[_Node, bool]] = [(start, False)]
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


@dataclass(frozen=True, slots=True)
class Contents:
    """Texts of ``shortest`` to ``longest`` characters that are none of ``texts`` are alike to a schema.

    So are whole numbers beyond ``largest``, which is not negative. At the keys ``unique`` it compares whole values.
    """

    shortest: int
    longest: int
    texts: frozenset[str]
    largest: int
    unique: frozenset[str]


def contents_of(documents: Iterable[Json]) -> Contents | None:
    """Return what all ``documents`` of a schema look at, None where they may look at anything.

    Every object in them is taken for a schema, also where it is not: that errs on the safe side.
    """
    shortest, longest, largest, texts, unique = 0, 1 << 30, 0, set[str](), set[str]()
    # With each node the key of the value that it is about, where it hangs on one.
    waiting: list[tuple[Json, str]] = [(document, "") for document in documents]
    while waiting:
        node, key = waiting.pop()
        if isinstance(node, list):
            waiting += [(part, "") for part in node]
        if not isinstance(node, dict):
            continue
        # A reference to a property lets it hang on other keys as well.
        if not _ANYTHING.isdisjoint(node) or "/properties/" in str(node.get("$ref", "")):
            return None
        if node.get("uniqueItems"):
            if not key:
                return None
            unique.add(key)
        for name, part in node.items():
            if name == "properties" and isinstance(part, dict):
                waiting += [(inner, at) for at, inner in part.items()]
            else:
                waiting.append((part, ""))
        named = [node[keyword] for keyword in ("const", "enum") if keyword in node]
        texts.update(strings_of(named))
        least, most = node.get("minLength", 0), node.get("maxLength", longest)
        # A length of 1.0 is one too, and a property of that name has a schema.
        if type(least) is not int or type(most) is not int:
            return None
        shortest, longest = max(shortest, least), min(longest, most)
        bounds = [number for keyword in _BOUNDS & node.keys() for number in _numbers(node[keyword])]
        largest = max([largest, *bounds, *_numbers(named)])
    if len(texts) > _MOST_TEXTS:
        return None
    return Contents(shortest, longest, frozenset(texts), largest, frozenset(unique))


def _numbers(value: Json) -> list[int]:
    """Return the absolute values of all numbers in ``value``, rounded up."""
    numbers, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, int | float) and not isinstance(item, bool):
            numbers.append(int(abs(item)) + 1)
    return numbers
