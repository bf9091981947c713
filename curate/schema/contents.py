"""What a schema tells apart in the texts and numbers of a line: lines that differ in nothing else are alike to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from curate.base.record import Json, strings_of

# Keywords that may look at anything in a value.
_ANYTHING = frozenset({"pattern", "format", "contentEncoding", "contentMediaType", "contentSchema", "multipleOf"})
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_MOST_TEXTS = 200


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
